//! `role/`: which principals may log in, and what their tokens are.

use std::sync::Arc;

use daypass_sdk::{Changes, CommitFailure, Cx, Endpoint, Error, Keys, Operation, Reply, Result, Seconds, from_json};
use schemars::JsonSchema;
use serde::Deserialize;

use super::AwsAuth;
use super::role::{Newness, Role, RoleParams};
use crate::auth::token_fields::With;

/// Which role.
#[derive(Deserialize, JsonSchema)]
struct NameParams {
    /// Name of the role; case does not matter. Example: `ci`.
    role: String,
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

pub(super) fn list_endpoint() -> Endpoint<AwsAuth> {
    Endpoint::at(["role/?", "roles/?"]).summary("List roles.").on(Operation::List, list)
}

pub(super) fn endpoint() -> Endpoint<AwsAuth> {
    Endpoint::at(["role/{role}"])
        .summary("Make, change, read or remove a role.")
        .help(HELP)
        .exists(exists)
        .on(Operation::Read, read)
        .on(Operation::Update, write)
        .on(Operation::Delete, delete)
}

/// Reads a role by its name in lower case.
pub(super) async fn find(cx: &Cx, name: &str) -> Result<Option<Role>> {
    if name.len() > NAME_BYTES_MAX {
        return Ok(None);
    }
    cx.store.get_json(&row(name)).await
}

async fn list(_: Arc<AwsAuth>, cx: Cx, _: NoParams) -> Result<Keys> {
    Ok(Keys(cx.list(ROWS).await?))
}

async fn exists(_: Arc<AwsAuth>, cx: Cx, params: With<RoleParams>) -> Result<bool> {
    Ok(find(&cx, &params.own.role.to_lowercase()).await?.is_some())
}

async fn read(_: Arc<AwsAuth>, cx: Cx, params: NameParams) -> Result<Reply> {
    let role = find(&cx, &params.role.to_lowercase()).await?.ok_or_else(Error::not_found)?;
    Ok(Reply::data(role.shown()))
}

/// Fails with `BadRequest` for contradictions, and when a bound ARN cannot be resolved.
async fn write(engine: Arc<AwsAuth>, cx: Cx, params: With<RoleParams>) -> Result<Reply> {
    let name = params.own.role.to_lowercase();
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::bad_request(format!("the name of the role is longer than {NAME_BYTES_MAX} bytes")));
    }
    for _ in 0..ATTEMPTS_MAX {
        let entry = cx.store.get(&row(&name)).await?;
        let (mut role, is_new) = match &entry {
            Some(entry) => (from_json::<Role>(&name, &entry.value)?, Newness::Known),
            None => (Role::new(uuid(&cx)), Newness::New),
        };
        role.apply(&params.own, params.token.clone(), is_new, cx.mount.max_lease_ttl)?;
        resolve(&engine, &cx, &mut role).await?;
        match cx.store.commit(Changes::new().unchanged(row(&name), entry.as_ref()).put_json(row(&name), &role)?).await {
            Ok(()) => return Ok(written(&role, cx.mount.max_lease_ttl)),
            Err(CommitFailure::Conflict(_)) => {}
            Err(CommitFailure::Error(error)) => return Err(error),
        }
    }
    Err(Error::from(CommitFailure::Conflict(0)))
}

/// Learns the unique ids of ARNs that are new to the role; those that it had keep theirs.
async fn resolve(engine: &AwsAuth, cx: &Cx, role: &mut Role) -> Result<()> {
    let mut ids = Vec::new();
    for arn in role.to_resolve() {
        match role.principal_ids.iter().find(|known| known.arn == *arn) {
            Some(known) => ids.push(known.clone()),
            None => ids.push(engine.resolve(cx, arn).await?),
        }
    }
    role.principal_ids = ids;
    Ok(())
}

fn written(role: &Role, max: Seconds) -> Reply {
    let over = [("token_ttl", role.token.ttl), ("token_max_ttl", role.token.max_ttl)].into_iter().filter(|(_, ttl)| *ttl > max);
    over.fold(Reply::nothing(), |reply, (field, ttl)| {
        reply.warn(format!("{field} of {ttl} is over the mount's maximum of {max}; tokens will get no more than that"))
    })
}

async fn delete(_: Arc<AwsAuth>, cx: Cx, params: NameParams) -> Result<()> {
    cx.store.delete(&row(&params.role.to_lowercase())).await
}

fn row(name: &str) -> String {
    format!("{ROWS}{name}")
}

fn uuid(cx: &Cx) -> String {
    uuid::Builder::from_random_bytes(cx.entropy.bytes::<16>()).into_uuid().to_string()
}

const ROWS: &str = "role/";
const NAME_BYTES_MAX: usize = 512;
/// How often a change is decided again before it gives up.
const ATTEMPTS_MAX: usize = 20;
const HELP: &str =
    "bound_iam_principal_arn says who may log in: arn:aws:iam::111111111111:role/jenkins for whatever runs with that role. By default
the ARN is resolved to the role's unique id when it is written, which needs iam:GetRole; with resolve_aws_unique_ids=false the ARN itself is
compared, without its path, and nothing is asked of IAM.

A role of auth_type=ec2 is for instances, by the document that AWS signs for each: its bound_ fields say which of them. With auth_type=iam and
inferred_entity_type=ec2_instance they narrow a role for sessions that are named as the instance that they run on.";
