//! What belongs to logins of type `ec2` alone: declared, so that whoever asks is told, and not served.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Operation, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::AwsAuth;

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

/// Which certificate.
#[derive(Deserialize, JsonSchema)]
struct Certificate {
    /// Name of the certificate. Example: `eu-west-1`.
    #[serde(rename = "name")]
    _name: String,
}

/// Which instance.
#[derive(Deserialize, JsonSchema)]
struct Instance {
    /// Id of the instance. Example: `i-0123456789abcdef0`.
    #[serde(rename = "instance_id")]
    _instance_id: String,
}

/// Which tag.
#[derive(Deserialize, JsonSchema)]
struct RoleTag {
    /// The tag's value, as it is or in base64. Example: `v1:09Vp0qGuyB8=`.
    #[serde(rename = "role_tag")]
    _role_tag: String,
}

/// Which role.
#[derive(Deserialize, JsonSchema)]
struct RoleName {
    /// Name of the role. Example: `ci`.
    #[serde(rename = "role")]
    _role: String,
}

pub(super) fn endpoints() -> Vec<Endpoint<AwsAuth>> {
    let all = vec![
        listed(Endpoint::at(["config/certificates/?"]).summary("List certificates of instance documents. Not served.")),
        changed::<Certificate>(Endpoint::at(["config/certificate/{name}"]).summary("A certificate of instance documents. Not served.")),
        changed::<NoParams>(
            Endpoint::at(["config/tidy/identity-accesslist", "config/tidy/identity-whitelist"])
                .summary("When the list of instances is tidied. Not served."),
        ),
        changed::<NoParams>(
            Endpoint::at(["config/tidy/roletag-denylist", "config/tidy/roletag-blacklist"])
                .summary("When the list of denied role tags is tidied. Not served."),
        ),
        Endpoint::at(["tidy/identity-accesslist", "tidy/identity-whitelist"])
            .summary("Tidy the list of instances. Not served.")
            .on(Operation::Update, refuse::<NoParams>),
        Endpoint::at(["tidy/roletag-denylist", "tidy/roletag-blacklist"])
            .summary("Tidy the list of denied role tags. Not served.")
            .on(Operation::Update, refuse::<NoParams>),
        listed(Endpoint::at(["identity-accesslist/?", "identity-whitelist/?"]).summary("List instances that logged in. Not served.")),
        Endpoint::at(["identity-accesslist/{instance_id}", "identity-whitelist/{instance_id}"])
            .summary("An instance that logged in. Not served.")
            .on(Operation::Read, refuse::<Instance>)
            .on(Operation::Delete, refuse::<Instance>),
        listed(Endpoint::at(["roletag-denylist/?", "roletag-blacklist/?"]).summary("List denied role tags. Not served.")),
        changed::<RoleTag>(
            Endpoint::at(["roletag-denylist/{role_tag..}", "roletag-blacklist/{role_tag..}"]).summary("A denied role tag. Not served."),
        ),
        Endpoint::at(["role/{role}/tag"]).summary("Make a role tag. Not served.").on(Operation::Update, refuse::<RoleName>),
    ];
    all.into_iter().map(|endpoint| endpoint.help(HELP)).collect()
}

fn listed(endpoint: Endpoint<AwsAuth>) -> Endpoint<AwsAuth> {
    endpoint.on(Operation::List, refuse::<NoParams>)
}

fn changed<P: DeserializeOwned + JsonSchema + Send + 'static>(endpoint: Endpoint<AwsAuth>) -> Endpoint<AwsAuth> {
    endpoint.on(Operation::Read, refuse::<P>).on(Operation::Update, refuse::<P>).on(Operation::Delete, refuse::<P>)
}

async fn refuse<P>(_: Arc<AwsAuth>, _: Cx, _: P) -> Result<()> {
    Err(no_ec2())
}

/// Fails every login of type `ec2`, and what belongs to it.
pub(super) fn no_ec2() -> Error {
    Error::bad_request(HELP)
}

const HELP: &str = "logins of type ec2 are not served: let the instance log in with its IAM role, by a role with auth_type=iam";
