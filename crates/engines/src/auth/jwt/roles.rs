//! `role/`: making, changing, reading and removing roles.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Keys, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Jwt;
use super::role::{Role, RoleParams};
use crate::auth::token_fields::With;

/// Which role.
#[derive(Deserialize, JsonSchema)]
struct NameParams {
    /// Name of the role; case matters: `ci`.
    name: String,
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

pub(super) fn list_endpoint() -> Endpoint<Jwt> {
    Endpoint::at(["role/?"]).summary("List roles.").on(Operation::List, list)
}

pub(super) fn endpoint() -> Endpoint<Jwt> {
    Endpoint::at(["role/{name}"])
        .summary("Make, change, read or remove a role.")
        .help("A role says which tokens of the configured issuer are taken (the bound_ fields), who they stand for, and what a login gets.")
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

async fn list(_: Arc<Jwt>, cx: Cx, _: NoParams) -> Result<Keys> {
    Ok(Keys(cx.list(ROWS).await?))
}

async fn exists(_: Arc<Jwt>, cx: Cx, params: With<RoleParams>) -> Result<bool> {
    Ok(find(&cx, &params.own.name).await?.is_some())
}

async fn read(_: Arc<Jwt>, cx: Cx, params: NameParams) -> Result<Reply> {
    Ok(Reply::data(find(&cx, &params.name).await?.ok_or_else(Error::not_found)?.shown()))
}

/// Fails with `BadRequest` for contradictions and for a role of machines that would let everybody in.
async fn write(_: Arc<Jwt>, cx: Cx, params: With<RoleParams>) -> Result<Reply> {
    let name = &params.own.name;
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::bad_request(format!("the role's name has {} bytes; at most {NAME_BYTES_MAX} are allowed", name.len())));
    }
    let decide = |role: Option<Role>| {
        let mut role = role.unwrap_or_else(Role::initial);
        role.apply(With { own: params.own.clone(), token: params.token.clone() }, cx.mount.max_lease_ttl)?;
        Ok(role)
    };
    Ok(written(&cx.store.change(&row(name), decide).await?, &cx))
}

/// A lifetime over the mount's maximum is stored as asked for, and said to be cut.
fn written(role: &Role, cx: &Cx) -> Reply {
    let max = cx.mount.max_lease_ttl;
    let over = [("token_ttl", role.token.ttl), ("token_max_ttl", role.token.max_ttl)].into_iter().filter(|(_, ttl)| *ttl > max);
    over.fold(Reply::nothing(), |reply, (field, ttl)| {
        reply.warn(format!("{field} of {ttl} is over the mount's maximum of {max}; tokens will get no more than that"))
    })
}

async fn delete(_: Arc<Jwt>, cx: Cx, params: NameParams) -> Result<()> {
    if params.name.len() > NAME_BYTES_MAX {
        return Ok(());
    }
    cx.store.delete(&row(&params.name)).await
}

fn row(name: &str) -> String {
    format!("{ROWS}{name}")
}

const ROWS: &str = "role/";
/// Longest name of a role, in bytes.
const NAME_BYTES_MAX: usize = 512;
