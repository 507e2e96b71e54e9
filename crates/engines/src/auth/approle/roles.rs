//! `role/`: making, changing, reading and removing roles, and their role ids.

use std::sync::Arc;

use daypass_sdk::{Changes, CommitFailure, Cx, Endpoint, Entry, Error, Expect, Json, Keys, Operation, Reply, Result, Seconds, from_json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::role::{Role, RoleParams, checked_id, name_of};
use super::{ATTEMPTS_MAX, AppRole, trimmed};
use crate::auth::token_fields::With;

/// Where a role id leads.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RoleIdRow {
    pub(super) role_name: String,
}

/// Which role.
#[derive(Deserialize, JsonSchema)]
pub(super) struct NameParams {
    /// Name of the role; case does not matter.
    pub(super) role_name: String,
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

/// A new role id.
#[derive(Deserialize, JsonSchema)]
struct RoleIdParams {
    /// Name of the role; case does not matter.
    role_name: String,
    /// The new role id, at most 4096 bytes.
    #[serde(default)]
    role_id: String,
}

/// A role as it was read, with what is needed to change it.
pub(super) struct FoundRole {
    pub(super) name: String,
    pub(super) role: Role,
    entry: Entry,
}

pub(super) fn list_endpoint() -> Endpoint<AppRole> {
    Endpoint::at(["role/?"]).summary("List roles.").on(Operation::List, list)
}

pub(super) fn endpoint() -> Endpoint<AppRole> {
    Endpoint::at(["role/{role_name}"])
        .summary("Make, change, read or remove a role.")
        .help("A role says what a login must present, and what its token gets. Removing it ends all its secret ids at once.")
        .exists(exists)
        .on(Operation::Read, read)
        .on(Operation::Update, write)
        .on(Operation::Delete, delete)
}

pub(super) fn role_id_endpoint() -> Endpoint<AppRole> {
    Endpoint::at(["role/{role_name}/role-id"])
        .summary("Read or set the role id.")
        .on(Operation::Read, read_role_id)
        .on(Operation::Update, write_role_id)
}

/// Reads a role.
pub(super) async fn find(cx: &Cx, name: &str) -> Result<Option<FoundRole>> {
    let name = name_of(name)?;
    let row = row(&name);
    let Some(entry) = cx.store.get(&row).await? else { return Ok(None) };
    let role = from_json(&row, &entry.value)?;
    Ok(Some(FoundRole { name, role, entry }))
}

/// Reads a role, changes it, and stores it together with its way from the role id; again when another request was faster.
/// Errors: `missing` when there is no such role.
pub(super) async fn change(
    approle: &AppRole,
    cx: &Cx,
    name: &str,
    missing: impl Fn() -> Error,
    decide: impl Fn(&mut Role) -> Result<()>,
) -> Result<()> {
    for _ in 0..ATTEMPTS_MAX {
        let found = find(cx, name).await?.ok_or_else(&missing)?;
        let mut role = found.role.clone();
        decide(&mut role)?;
        if store(approle, cx, &found.name, Some(&found), &role).await? {
            return Ok(());
        }
    }
    Err(Error::from(CommitFailure::Conflict(0)))
}

/// The row of a role whose name is in lower case already.
pub(super) fn row(name: &str) -> String {
    format!("{ROWS}{name}")
}

/// The row that leads from a role id to its role.
pub(super) async fn role_id_row(approle: &AppRole, cx: &Cx, role_id: &str) -> Result<String> {
    Ok(format!("role_id/{}", approle.ids.id(cx, role_id).await?))
}

/// Stores a role. Says no when it was changed since it was read. Errors: `Failed` when another role has the role id.
async fn store(approle: &AppRole, cx: &Cx, name: &str, former: Option<&FoundRole>, role: &Role) -> Result<bool> {
    let changes = Changes::new().unchanged(row(name), former.map(|found| &found.entry)).put_json(row(name), role)?;
    let taken = changes.expectations.len();
    let changes = match former {
        Some(found) if found.role.role_id == role.role_id => changes,
        _ => {
            let id_row = role_id_row(approle, cx, &role.role_id).await?;
            let changes = changes.expect(&id_row, Expect::Absent).put_json(&id_row, &RoleIdRow { role_name: name.to_owned() })?;
            match former {
                Some(found) => changes.delete(role_id_row(approle, cx, &found.role.role_id).await?),
                None => changes,
            }
        }
    };
    match cx.store.commit(changes).await {
        Ok(()) => Ok(true),
        Err(CommitFailure::Conflict(index)) if index == taken => Err(Error::failed("role_id already in use")),
        Err(CommitFailure::Conflict(_)) => Ok(false),
        Err(CommitFailure::Error(error)) => Err(error),
    }
}

async fn list(_: Arc<AppRole>, cx: Cx, _: NoParams) -> Result<Keys> {
    Ok(Keys(cx.list(ROWS).await?))
}

async fn exists(_: Arc<AppRole>, cx: Cx, params: With<RoleParams>) -> Result<bool> {
    Ok(find(&cx, &params.own.role_name).await?.is_some())
}

async fn read(_: Arc<AppRole>, cx: Cx, params: NameParams) -> Result<Reply> {
    let found = find(&cx, &params.role_name).await?.ok_or_else(Error::not_found)?;
    Ok(Reply::data(found.role.shown()))
}

/// Fails with `BadRequest` for contradictions, with `Failed` for networks that are none, a taken role id and a role without a constraint.
async fn write(approle: Arc<AppRole>, cx: Cx, params: With<RoleParams>) -> Result<Reply> {
    let name = name_of(&params.own.role_name)?;
    for _ in 0..ATTEMPTS_MAX {
        let former = find(&cx, &name).await?;
        let mut role = former.as_ref().map_or_else(|| Role::new(&cx), |found| found.role.clone());
        match (params.own.local_secret_ids, &former) {
            (Some(local), Some(_)) if local != role.local_secret_ids => {
                return Err(Error::bad_request("local_secret_ids can only be modified during role creation"));
            }
            (Some(local), _) => role.local_secret_ids = local,
            (None, _) => {}
        }
        role.apply(&params)?;
        let remark = role.token.settle_kind();
        if store(&approle, &cx, &name, former.as_ref(), &role).await? {
            return Ok(remark.into_iter().fold(written(&role, cx.mount.max_lease_ttl), Reply::warn));
        }
    }
    Err(Error::from(CommitFailure::Conflict(0)))
}

/// A lifetime over the mount's maximum is stored as asked for, and said to be cut.
fn written(role: &Role, max: Seconds) -> Reply {
    let over = [("token_ttl", role.token.ttl), ("token_max_ttl", role.token.max_ttl)].into_iter().filter(|(_, ttl)| *ttl > max);
    over.fold(Reply::nothing(), |reply, (field, ttl)| {
        reply.warn(format!("{field} of {ttl} is over the mount's maximum of {max}; tokens will get no more than that"))
    })
}

async fn delete(approle: Arc<AppRole>, cx: Cx, params: NameParams) -> Result<()> {
    for _ in 0..ATTEMPTS_MAX {
        let Some(found) = find(&cx, &params.role_name).await? else { return Ok(()) };
        let row = row(&found.name);
        // The secret ids are dead with this commit: nothing leads to their generation any more. Their rows follow in the background.
        let changes = Changes::new()
            .unchanged(&row, Some(&found.entry))
            .delete(&row)
            .delete(role_id_row(&approle, &cx, &found.role.role_id).await?)
            .put(super::tidy::doomed_row(&found.role.generation), Vec::new());
        match cx.store.commit(changes).await {
            Ok(()) => return Ok(()),
            Err(CommitFailure::Conflict(_)) => {}
            Err(CommitFailure::Error(error)) => return Err(error),
        }
    }
    Err(Error::from(CommitFailure::Conflict(0)))
}

async fn read_role_id(_: Arc<AppRole>, cx: Cx, params: NameParams) -> Result<Json<Value>> {
    let found = find(&cx, &params.role_name).await?.ok_or_else(Error::not_found)?;
    Ok(Json(json!({ "role_id": found.role.role_id })))
}

async fn write_role_id(approle: Arc<AppRole>, cx: Cx, params: RoleIdParams) -> Result<()> {
    if trimmed(&params.role_id).is_empty() {
        return Err(Error::bad_request("missing role_id"));
    }
    let id = checked_id("role_id", &params.role_id)?;
    change(&approle, &cx, &params.role_name, Error::no_such_path, |role| {
        role.role_id.clone_from(&id);
        Ok(())
    })
    .await
}

pub(super) const ROWS: &str = "role/";
