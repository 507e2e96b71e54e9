//! The trait and its words.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use daypass_base::{BoxFuture, Seconds, Secret, Timestamp};

use crate::{AwsError, Skew};

/// What an AWS call gives.
pub type Result<T> = std::result::Result<T, AwsError>;

/// The AWS calls that daypass makes. [`crate::LiveAws`] makes them, [`crate::FakeAws`] plays them.
///
/// Every method checks its input first as AWS's SDK v1 did, so that what cannot succeed never leaves the machine
/// (`InvalidParameter`, recorded from Vault), and fails with [`crate::ErrorKind::Unreachable`] once [`Call::deadline`] is over, or as
/// [`crate::AwsError::is_crowded`] says, where it had no place until then.
pub trait Aws: crate::Callers + crate::Ec2 + crate::Ecr + crate::Iam + crate::IamRoles + crate::SignIn {
    /// `sts:AssumeRole`: credentials of an IAM role.
    fn assume_role<'a>(&'a self, call: Call<'a>, input: AssumeRole) -> BoxFuture<'a, Result<Credential>>;
    /// `sts:GetFederationToken`: credentials of a federated user; works with an IAM user's own keys only.
    fn get_federation_token<'a>(&'a self, call: Call<'a>, input: FederationToken) -> BoxFuture<'a, Result<Credential>>;
    /// `sts:GetSessionToken`: temporary credentials of the caller itself; works with an IAM user's own keys only.
    fn get_session_token<'a>(&'a self, call: Call<'a>, input: SessionToken) -> BoxFuture<'a, Result<Credential>>;
    /// `sts:GetCallerIdentity`: who the server itself is at AWS. No policy can forbid it.
    fn get_caller_identity<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<Identity>>;
    /// `iam:ListAttachedGroupPolicies`: ARNs of the managed policies of a group.
    fn list_attached_group_policies<'a>(&'a self, call: Call<'a>, group: &'a str) -> BoxFuture<'a, Result<Vec<String>>>;
    /// `iam:ListGroupPolicies`: names of the inline policies of a group.
    fn list_group_policies<'a>(&'a self, call: Call<'a>, group: &'a str) -> BoxFuture<'a, Result<Vec<String>>>;
    /// `iam:GetGroupPolicy`: the JSON text of an inline policy.
    fn get_group_policy<'a>(&'a self, call: Call<'a>, group: &'a str, policy: &'a str) -> BoxFuture<'a, Result<String>>;
    /// By how much AWS's clock differed when STS answered last from where this target's calls go. `None`: it has not been asked yet, or the
    /// surroundings forbid to correct clocks by it.
    fn skew(&self, target: &Target) -> Option<Skew>;
    /// Drops what is kept for a target: its configuration was replaced.
    fn forget(&self, target: &Target);
}

/// Where a call goes, how long it may take, and what it is for.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Where it goes and whose keys sign it.
    pub target: &'a Target,
    /// Time for everything: finding the identity, all attempts, the waits between them.
    pub deadline: Duration,
    /// What it is for.
    pub purpose: Purpose,
}

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To take something back, or to see before that whether it may be: it waits for no mint (`live/places.rs`).
    TakeBack,
    /// Anything else.
    Usual,
}

impl<'a> Call<'a> {
    /// A call that takes nothing back.
    pub fn usual(target: &'a Target, deadline: Duration) -> Self {
        Self { target, deadline, purpose: Purpose::Usual }
    }

    /// One of those that take something back.
    pub fn taking_back(target: &'a Target, deadline: Duration) -> Self {
        Self { target, deadline, purpose: Purpose::TakeBack }
    }
}

/// An AWS endpoint configuration: what `config/root` of an aws mount says. Empty (`default()`) when there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Region of IAM and STS; `None`: environment, profile, instance metadata, then `us-east-1`.
    pub region: Option<String>,
    /// STS endpoints in the order to try; empty for AWS's own regional one.
    pub sts_endpoints: Vec<StsEndpoint>,
    /// Where IAM is; `None` for AWS's own.
    pub iam_endpoint: Option<String>,
    /// Keys of an IAM user; `None`: `web_identity`, or the SDK's default chain.
    pub keys: Option<StaticKeys>,
    /// What goes with `keys` when they are temporary.
    pub session_token: Option<Secret<String>>,
    /// Where there are no keys: a role whose sessions are the server's own identity.
    pub web_identity: Option<WebIdentity>,
    /// Attempts after the first one. `None`: STS is asked for 15 seconds, at a bounded rate; IAM as often as the SDK does.
    pub max_retries: Option<u32>,
}

impl Hash for Target {
    /// By what tells most targets apart; the rest, and all secrets, are left to the comparison.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.region.hash(state);
        self.keys.as_ref().map(|keys| &keys.access_key_id).hash(state);
        self.web_identity.as_ref().map(|identity| (&identity.role_arn, &identity.name)).hash(state);
        self.sts_endpoints.first().map(|endpoint| &endpoint.url).hash(state);
    }
}

impl Target {
    /// The same place, with calls signed by a session.
    #[must_use]
    pub fn signed_by(&self, session: &Credential) -> Self {
        let keys = StaticKeys { access_key_id: session.access_key_id.clone(), secret_access_key: session.secret_access_key.clone() };
        Self { keys: Some(keys), session_token: Some(session.session_token.clone()), web_identity: None, ..self.clone() }
    }

    /// Whether calls are signed by the identity that the server finds in its surroundings.
    pub(crate) fn is_own(&self) -> bool {
        self.keys.is_none() && self.web_identity.is_none()
    }
}

/// An identity by web identity federation: the server signs tokens itself, and AWS knows its keys.
#[derive(Clone)]
pub struct WebIdentity {
    /// ARN of the IAM role whose sessions the server works with.
    pub role_arn: String,
    /// Name of these sessions.
    pub session_name: String,
    /// Stands for `tokens` where targets are compared: tokens of the same name say the same.
    pub name: String,
    /// Makes the tokens.
    pub tokens: Arc<dyn WebTokens>,
}

impl std::fmt::Debug for WebIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebIdentity").field("role_arn", &self.role_arn).field("name", &self.name).finish_non_exhaustive()
    }
}

impl PartialEq for WebIdentity {
    fn eq(&self, other: &Self) -> bool {
        (&self.role_arn, &self.session_name, &self.name) == (&other.role_arn, &other.session_name, &other.name)
    }
}

impl Eq for WebIdentity {}

/// Makes identity tokens of one kind.
pub trait WebTokens: Send + Sync + 'static {
    /// A new token. Errors: why there is none, in words that clients may read.
    fn token(&self) -> BoxFuture<'_, std::result::Result<Secret<String>, String>>;
}

/// An STS endpoint that is not AWS's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StsEndpoint {
    /// Its URL.
    pub url: String,
    /// The region to sign for; `None`: the target's.
    pub region: Option<String>,
}

/// Long-lived keys of an IAM user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticKeys {
    /// `AKIA…`, not a secret.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Secret<String>,
}

/// Input of `sts:AssumeRole`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct AssumeRole {
    /// ARN of the IAM role.
    pub role_arn: String,
    /// Name of the session, 2 to 64 characters of `[\w+=,.@-]`.
    pub session_name: String,
    /// Lifetime: 900 s up to the role's `MaxSessionDuration`, 3600 s at most when chained.
    pub duration: Seconds,
    /// Session policy as JSON.
    pub policy: Option<String>,
    /// Managed session policies, at most 10.
    pub policy_arns: Vec<String>,
    /// External id that the trust policy asks for.
    pub external_id: Option<String>,
    /// Session tags, at most 50.
    pub tags: BTreeMap<String, String>,
    /// Keys of the tags that stay with the session through role chaining.
    pub transitive_tag_keys: Vec<String>,
    /// Source identity, which stays with the session through role chaining.
    pub source_identity: Option<String>,
}

/// Input of `sts:GetFederationToken`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FederationToken {
    /// Name of the federated user, 2 to 32 characters.
    pub name: String,
    /// Lifetime: 900 s to 36 h.
    pub duration: Seconds,
    /// Session policy as JSON.
    pub policy: Option<String>,
    /// Managed session policies, at most 10.
    pub policy_arns: Vec<String>,
}

/// Input of `sts:GetSessionToken`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionToken {
    /// Lifetime: 900 s to 36 h.
    pub duration: Seconds,
    /// Serial number or ARN of the MFA device.
    pub serial_number: Option<String>,
    /// The six digits that the device shows.
    pub token_code: Option<String>,
}

/// A temporary AWS credential.
#[derive(Debug, Clone)]
pub struct Credential {
    /// `ASIA…`, not a secret.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Secret<String>,
    /// The session token that goes with it.
    pub session_token: Secret<String>,
    /// When AWS stops accepting it.
    pub expiration: Timestamp,
    /// ARN of the assumed-role session or of the federated user; `None` for session tokens.
    pub arn: Option<String>,
}

/// Who somebody is at AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Account number.
    pub account: String,
    /// ARN of the user or of the role session.
    pub arn: String,
    /// Unique id of the user or role.
    pub user_id: String,
}
