//! `identity/group-alias`: which group of an auth method's is which external group.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::listing::Listing;
use super::{ById, IdentityRoom, Nothing, check_alias, show};
use crate::identity::group_aliases::GroupAliasWish;
use crate::identity::rows::GroupRow;

pub(super) fn endpoints() -> Vec<Endpoint<IdentityRoom>> {
    vec![
        Endpoint::at(["group-alias"])
            .summary("Bind a group that logins report to an external group.")
            .help(HELP)
            .on(Operation::Update, write),
        Endpoint::at(["group-alias/id/?"]).summary("List the aliases of groups.").on(Operation::List, list),
        Endpoint::at(["group-alias/id/{id}"])
            .summary("Read, update or delete an alias of a group.")
            .help(HELP)
            .on(Operation::Read, read)
            .on(Operation::Update, write)
            .on(Operation::Delete, delete),
    ]
}

const HELP: &str = "Tokens whose login at the mount reports the name are members of the external group. Logins from before the alias was \
                    made are not.";

/// An alias to write.
#[derive(Deserialize, JsonSchema)]
struct Written {
    /// The alias to change; without it one is made.
    #[serde(default)]
    id: String,
    /// The name of the group as logins report it.
    #[serde(default)]
    name: String,
    /// The accessor of the auth mount.
    #[serde(default)]
    mount_accessor: String,
    /// The id of the external group.
    #[serde(default)]
    canonical_id: String,
}

/// Errors: `BadRequest` with Vault's text when no auth mount has the accessor.
async fn write(room: Arc<IdentityRoom>, _cx: Cx, params: Written) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let id = Some(params.id).filter(|id| !id.is_empty());
    let old = match &id {
        Some(id) => unsealed.identities.group_of_alias(id).await?.and_then(|row| row.alias),
        None => None,
    };
    check_alias(&unsealed.table.load(), old.as_ref(), &params.name, &params.mount_accessor)?;
    let wish = GroupAliasWish { id, name: params.name, mount_accessor: params.mount_accessor, group: params.canonical_id };
    let (id, canonical_id) = unsealed.identities.write_group_alias(wish).await?;
    Ok(Reply::json(json!({ "id": id, "canonical_id": canonical_id })))
}

/// Errors: `NotFound`.
async fn read(room: Arc<IdentityRoom>, _cx: Cx, params: ById) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let row = unsealed.identities.group_of_alias(&params.id).await?.ok_or_else(Error::not_found)?;
    let alias = row.alias.as_ref().ok_or_else(Error::not_found)?;
    let mut data = show::alias_of_group(alias, &row.id, &unsealed.table.load());
    data.insert("namespace_id".to_owned(), json!("root"));
    Ok(Reply::data(data))
}

async fn delete(room: Arc<IdentityRoom>, _cx: Cx, params: ById) -> Result<()> {
    let (_, unsealed) = room.way.open()?;
    unsealed.identities.delete_group_alias(&params.id).await
}

async fn list(room: Arc<IdentityRoom>, cx: Cx, _params: Nothing) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let table = unsealed.table.load_full();
    let mut listing = Listing::of(&room, &cx)?;
    let show = |row: GroupRow| {
        if let Some(alias) = &row.alias {
            listing.add(&alias.id, || show::alias_in_list(alias, &row.id, &table));
        }
        true
    };
    unsealed.identities.each_group(None, show).await?;
    listing.with_info()
}
