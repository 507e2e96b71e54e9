//! `role/<name>/tag`: makes the value of a role tag; and the key that proves such values.

use std::sync::Arc;

use data_encoding::BASE64;
use daypass_base::lenient::CommaList;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result, Seconds};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::tag::Tag;
use crate::auth::aws::{AwsAuth, roles};
use crate::auth::mount_key::mount_key;

/// What a tag shall say.
#[derive(Deserialize, JsonSchema)]
struct TagParams {
    /// Name of the role. Example: `ci`.
    role: String,
    /// Policies of tokens, a part of the role's; by default all of them. Example: `deploy`.
    policies: Option<CommaList>,
    /// Longest lifetime of tokens, in seconds or as a duration. Example: `1h`.
    #[serde(default)]
    max_ttl: Seconds,
    /// The one instance that may use the tag. Example: `i-0123456789abcdef0`.
    #[serde(default)]
    instance_id: String,
    /// Whether the instance may be moved, where the role allows it too. Example: `false`.
    #[serde(default)]
    allow_instance_migration: bool,
    /// Let each instance log in once. Example: `false`.
    #[serde(default)]
    disallow_reauthentication: bool,
}

pub(super) fn endpoint() -> Endpoint<AwsAuth> {
    Endpoint::at(["role/{role}/tag"]).summary("Make a role tag for instances.").help(HELP).on(Operation::Update, make)
}

/// Fails with `BadRequest` for what cannot be, and where the role has no `role_tag`.
async fn make(_: Arc<AwsAuth>, cx: Cx, params: TagParams) -> Result<Reply> {
    let name = params.role.to_lowercase();
    let role = roles::find(&cx, &name).await?.ok_or_else(|| Error::bad_request(format!("entry not found for role {name}")))?;
    if role.role_tag.is_empty() {
        return Err(Error::bad_request("tag creation is not enabled for this role"));
    }
    if params.allow_instance_migration && params.disallow_reauthentication {
        return Err(Error::bad_request("cannot set both disallow_reauthentication and allow_instance_migration"));
    }
    let mut policies: Vec<String> = params.policies.as_ref().map(|given| given.0.clone()).unwrap_or_default();
    policies.retain(|policy| !policy.is_empty());
    if params.policies.is_some() && policies.is_empty() {
        policies.push("default".to_owned());
    }
    let mut warnings = Vec::new();
    if !are_of(&role.token.policies, &policies) {
        warnings.push(
            "Policies on the tag are not a subset of the policies set on the role. Login will not be allowed with this tag unless the role policies are updated."
                .to_owned(),
        );
    }
    if params.allow_instance_migration && !role.allow_instance_migration {
        warnings.push(
            "Role does not allow instance migration. Login will not be allowed with this tag unless the role value is updated.".to_owned(),
        );
    }
    for (whose, most) in [("mount", cx.mount.max_lease_ttl), ("role", role.token.max_ttl)] {
        if !most.is_zero() && params.max_ttl > most {
            let given = params.max_ttl;
            warnings.push(format!(
                "Given max TTL of {given} is greater than the {whose} maximum of {most} seconds, and will be capped at login time."
            ));
        }
    }
    let tag = Tag {
        nonce: BASE64.encode(&cx.entropy.bytes::<8>()),
        role: name,
        policies,
        max_ttl: params.max_ttl,
        instance: Some(params.instance_id.to_lowercase()).filter(|instance| !instance.is_empty()),
        allow_migration: params.allow_instance_migration,
        once: params.disallow_reauthentication,
    };
    let value = tag.signed(&mount_key(&cx, KEY).await?, &role.role_id).map_err(Error::bad_request)?;
    let reply = Reply::json(json!({ "tag_key": role.role_tag, "tag_value": value }));
    Ok(warnings.into_iter().fold(reply, Reply::warn))
}

/// Whether these policies are a part of the role's. `default` is everybody's.
pub(super) fn are_of(all: &[String], some: &[String]) -> bool {
    some.iter().all(|policy| policy == "default" || all.contains(policy))
}

/// Reads a tag that this mount wrote for a role that is there. Errors: `BadRequest` for any other.
pub(super) async fn read(cx: &Cx, value: &str) -> Result<Tag> {
    let none = || Error::bad_request("role tag signature verification failed");
    let name = Tag::role_of(value).ok_or_else(none)?;
    let role = roles::find(cx, name).await?.ok_or_else(|| Error::bad_request("entry not found for the role of the tag"))?;
    Tag::verified(value, &mount_key(cx, KEY).await?, &role.role_id).map_err(Error::bad_request)
}

/// Of the key that proves the tags of this mount.
const KEY: &str = "role-tag-key";
const HELP: &str =
    "A role tag narrows a role for the instances that carry it: its value goes to the instance under the key that role_tag of
the role names. Only this server can write such values. A value that got about is denied by roletag-denylist/<value>.";
