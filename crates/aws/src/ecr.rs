//! ECR: logins to registries.

use daypass_base::{BoxFuture, Secret, Timestamp};

use crate::api::{Call, Credential, Result};

/// The ECR call. Part of [`crate::Aws`]; the same rules hold.
pub trait Ecr: Send + Sync + 'static {
    /// `ecr:GetAuthorizationToken`, or `ecr-public:GetAuthorizationToken`: logins, one for each registry that was asked for.
    fn get_authorization_token<'a>(&'a self, call: Call<'a>, input: AuthorizationToken) -> BoxFuture<'a, Result<Logins>>;
}

/// Input of `GetAuthorizationToken`.
#[derive(Debug, Clone, Default)]
pub struct AuthorizationToken {
    /// Who asks; `None`: the target's keys, or the server itself.
    pub session: Option<Credential>,
    /// Region of the registries; `None`: the target's.
    pub region: Option<String>,
    /// Where ECR is; `None` for AWS's own.
    pub endpoint: Option<String>,
    /// Account numbers of the registries; empty for the asking account's own. Not for ECR Public.
    pub registry_ids: Vec<String>,
    /// ECR Public, which has one registry for all, and its API in `us-east-1` alone.
    pub public: bool,
}

/// What ECR gave.
#[derive(Debug, Clone)]
pub struct Logins {
    /// Access key id of who asked. Not a secret.
    pub access_key_id: String,
    /// One for each registry, in ECR's order; at least one.
    pub logins: Vec<Login>,
}

/// A login to a registry. The user name is always `AWS`.
#[derive(Debug, Clone)]
pub struct Login {
    /// The password.
    pub password: Secret<String>,
    /// The registry's URL, `https://` with it.
    pub proxy_endpoint: String,
    /// When the password ends.
    pub expires: Timestamp,
}

/// The URL of the one registry of ECR Public.
pub const PUBLIC_REGISTRY: &str = "https://public.ecr.aws";
/// Where the API of ECR Public is.
pub(crate) const PUBLIC_REGION: &str = "us-east-1";
