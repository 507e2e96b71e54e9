//! `identity/entity-alias`: which login is which entity.

use std::sync::Arc;

use daypass_base::lenient::KvPairs;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::listing::Listing;
use super::{ById, IdentityRoom, Nothing, check_alias, show};
use crate::identity::aliases::AliasWish;
use crate::identity::rows::EntityRow;

pub(super) fn endpoints() -> Vec<Endpoint<IdentityRoom>> {
    vec![
        Endpoint::at(["entity-alias"]).summary("Bind a login to an entity.").help(HELP).on(Operation::Update, write),
        Endpoint::at(["entity-alias/id/?"]).summary("List the stored aliases of entities.").on(Operation::List, list),
        Endpoint::at(["entity-alias/id/{id}"])
            .summary("Read, update or delete an alias of an entity.")
            .help(HELP)
            .on(Operation::Read, read)
            .on(Operation::Update, write)
            .on(Operation::Delete, delete),
    ]
}

const HELP: &str = "Logins at the mount under the name are the entity's from then on; tokens of earlier logins stay what they were. An \
                    entity has at most one alias of each mount. Without canonical_id the entity is the one that the login has anyway. \
                    Once an alias is deleted or has another name, logins under the old one have an entity of which nothing is known.";

/// An alias to write.
#[derive(Deserialize, JsonSchema)]
struct Written {
    /// The alias to change; without it mount and name decide.
    #[serde(default)]
    id: String,
    /// What the method reports of the login: user name, role id, subject.
    #[serde(default)]
    name: String,
    /// The accessor of the auth mount.
    #[serde(default)]
    mount_accessor: String,
    /// The id of the entity.
    #[serde(default)]
    canonical_id: String,
    /// The older name of `canonical_id`.
    #[serde(default)]
    entity_id: String,
    /// Facts about it that policies may ask for, at most 64 pairs.
    custom_metadata: Option<KvPairs>,
}

/// Errors: `BadRequest` with Vault's text when no auth mount has the accessor.
async fn write(room: Arc<IdentityRoom>, _cx: Cx, params: Written) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let id = Some(params.id).filter(|id| !id.is_empty());
    let old = unsealed.identities.alias_of_id(id.as_deref()).await?;
    check_alias(&unsealed.table.load(), old.as_ref(), &params.name, &params.mount_accessor)?;
    let entity = if params.canonical_id.is_empty() { params.entity_id } else { params.canonical_id };
    let (name, mount_accessor) = (params.name, params.mount_accessor);
    let wish = AliasWish { id, name, mount_accessor, entity, custom_metadata: params.custom_metadata };
    let (id, canonical_id) = unsealed.identities.write_alias(wish).await?;
    Ok(Reply::json(json!({ "id": id, "canonical_id": canonical_id })))
}

/// Errors: `NotFound`.
async fn read(room: Arc<IdentityRoom>, _cx: Cx, params: ById) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let row = unsealed.identities.entity_of_alias_id(&params.id).await?.ok_or_else(Error::not_found)?;
    let alias = row.aliases.iter().find(|alias| alias.id == params.id).ok_or_else(Error::not_found)?;
    let mut data = show::alias_of_entity(alias, &row.id, &unsealed.table.load());
    data.insert("namespace_id".to_owned(), json!("root"));
    Ok(Reply::data(data))
}

async fn delete(room: Arc<IdentityRoom>, _cx: Cx, params: ById) -> Result<()> {
    let (_, unsealed) = room.way.open()?;
    unsealed.identities.delete_alias(&params.id).await
}

async fn list(room: Arc<IdentityRoom>, cx: Cx, _params: Nothing) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let table = unsealed.table.load_full();
    let mut listing = Listing::of(&room, &cx)?;
    let show = |row: EntityRow| {
        for alias in &row.aliases {
            listing.add(&alias.id, || show::alias_in_list(alias, &row.id, &table));
        }
        true
    };
    unsealed.identities.each_entity(None, show).await?;
    listing.with_info()
}
