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
    /// Name of the role; case does not matter. Example: `ci`.
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
    Ok(find_named(cx, name).await?.map(|(_, role)| role))
}

/// Reads the role of this very name, as a login was told it: where it is gone, another one that folds to the same name does not stand in for it.
pub(super) async fn find_stored(cx: &Cx, name: &str) -> Result<Option<Arc<Role>>> {
    Ok(cx.store.find(&row(name)).await?.map(|(role, _)| role))
}

/// Reads a role, and the name that it has.
pub(super) async fn find_named(cx: &Cx, name: &str) -> Result<Option<(String, Arc<Role>)>> {
    if name.len() > NAME_BYTES_MAX {
        return Ok(None);
    }
    let stored = stored_name(cx, name).await?;
    Ok(cx.store.find(&row(&stored)).await?.map(|(role, _)| (stored, role)))
}

/// The name of a role as it is stored: in lower case. One from before names were folded keeps its own, and is found by that alone: there may
/// be another role by the same name in lower case, and each keeps those that it lets in.
async fn stored_name(cx: &Cx, name: &str) -> Result<String> {
    let folded = name.to_lowercase();
    let older = folded != name && cx.store.get(&row(name)).await?.is_some();
    Ok(if older { name.to_owned() } else { folded })
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
    Ok(written(&cx.store.change(&row(&stored_name(&cx, name).await?), decide).await?, &cx))
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
    cx.store.delete(&row(&stored_name(&cx, &params.name).await?)).await
}

fn row(name: &str) -> String {
    format!("{ROWS}{name}")
}

const ROWS: &str = "role/";
/// Longest name of a role, in bytes.
const NAME_BYTES_MAX: usize = 512;
