//! `role/`: making, changing, reading and removing roles.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Keys, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Kubernetes;
use super::role::{Role, RoleParams};
use crate::auth::token_fields::With;

/// Which role.
#[derive(Deserialize, JsonSchema)]
struct NameParams {
    /// Name of the role; case does not matter. Example: `ci`.
    name: String,
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

pub(super) fn list_endpoint() -> Endpoint<Kubernetes> {
    Endpoint::at(["role/?"]).summary("List roles.").on(Operation::List, list)
}

pub(super) fn endpoint() -> Endpoint<Kubernetes> {
    Endpoint::at(["role/{name}"])
        .summary("Make, change, read or remove a role.")
        .help("A role says which service accounts of which namespaces log in, and what they get.")
        .exists(exists)
        .on(Operation::Read, read)
        .on(Operation::Update, write)
        .on(Operation::Delete, delete)
}

/// Reads a role.
pub(super) async fn find(cx: &Cx, name: &str) -> Result<Option<Arc<Role>>> {
    if name.len() > NAME_BYTES_MAX {
        return Ok(None);
    }
    Ok(cx.store.find(&row(name)).await?.map(|(role, _)| role))
}

async fn list(_: Arc<Kubernetes>, cx: Cx, _: NoParams) -> Result<Keys> {
    Ok(Keys(cx.list(ROWS).await?))
}

async fn exists(_: Arc<Kubernetes>, cx: Cx, params: With<RoleParams>) -> Result<bool> {
    Ok(find(&cx, &params.own.name).await?.is_some())
}

async fn read(_: Arc<Kubernetes>, cx: Cx, params: NameParams) -> Result<Reply> {
    Ok(Reply::data(find(&cx, &params.name).await?.ok_or_else(Error::not_found)?.shown()))
}

/// Fails with `BadRequest` for a role that lets nobody or everybody in by mistake.
async fn write(_: Arc<Kubernetes>, cx: Cx, params: With<RoleParams>) -> Result<Reply> {
    let name = &params.own.name;
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::bad_request(format!("the role's name has {} bytes; at most {NAME_BYTES_MAX} are allowed", name.len())));
    }
    let decide = |role: Option<Role>| {
        let mut role = role.unwrap_or_default();
        role.apply(With { own: params.own.clone(), token: params.token.clone() }, cx.mount.max_lease_ttl)?;
        Ok(role)
    };
    Ok(written(&cx.store.change(&row(name), decide).await?, &cx))
}

fn written(role: &Role, cx: &Cx) -> Reply {
    let max = cx.mount.max_lease_ttl;
    let mut reply = Reply::nothing();
    if role.token.max_ttl > max {
        let text =
            "max_ttl is greater than the system or backend mount's maximum TTL value; issued tokens' max TTL value will be truncated";
        reply = reply.warn(text);
    }
    if role.audience.trim().is_empty() {
        let text = "This role does not specify an audience. In a future version of Vault, specifying an audience will be required.";
        reply = reply.warn(text);
    }
    reply
}

async fn delete(_: Arc<Kubernetes>, cx: Cx, params: NameParams) -> Result<()> {
    if params.name.len() > NAME_BYTES_MAX {
        return Ok(());
    }
    cx.store.delete(&row(&params.name)).await
}

/// The name of a role as it is stored.
pub(super) fn folded(name: &str) -> String {
    name.to_lowercase()
}

fn row(name: &str) -> String {
    format!("{ROWS}{}", folded(name))
}

const ROWS: &str = "role/";
/// Longest name of a role, in bytes.
const NAME_BYTES_MAX: usize = 512;
