//! `identity/entity`: entities, by id and by name, several at a time, and merged.

use std::sync::Arc;

use daypass_base::lenient::{CommaList, KvPairs};
use daypass_sdk::{Cx, Endpoint, Error, Keys, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::listing::Listing;
use super::{ById, ByName, IdentityRoom, Nothing, lookup, show};
use crate::identity::Target;
use crate::identity::entities::EntityWish;
use crate::identity::rows::EntityRow;

pub(super) fn endpoints() -> Vec<Endpoint<IdentityRoom>> {
    vec![
        Endpoint::at(["entity"]).summary("Create an entity, or update the one of that name or id.").help(HELP).on(Operation::Update, write),
        Endpoint::at(["entity/id/?"]).summary("List the stored entities by id.").on(Operation::List, list_ids),
        Endpoint::at(["entity/id/{id}"])
            .summary("Read, update or delete an entity.")
            .help(HELP)
            .on(Operation::Read, read)
            .on(Operation::Update, write_by_id)
            .on(Operation::Delete, delete),
        Endpoint::at(["entity/name/?"]).summary("List the stored entities by name.").on(Operation::List, list_names),
        Endpoint::at(["entity/name/{name..}"])
            .summary("Read, write or delete an entity by its name.")
            .help(HELP)
            .on(Operation::Read, read_by_name)
            .on(Operation::Update, write_by_name)
            .on(Operation::Delete, delete_by_name),
        Endpoint::at(["entity/batch-delete"]).summary("Delete several entities.").on(Operation::Update, delete_many),
        Endpoint::at(["entity/merge"])
            .summary("Merge entities into another one.")
            .help("The entity that is left gets the aliases, policies and groups of the others; tokens of all of them go on as its own.")
            .on(Operation::Update, merge),
    ]
}

const HELP: &str = "Every login has an entity: the one that its alias was given to, else one that follows from mount and alias and is \
                    stored only when something is said about it here. Its policies are added to those of each of its tokens; \
                    while it is disabled, its tokens are refused.";

/// An entity to write; what is absent stays as it is.
#[derive(Deserialize, JsonSchema)]
struct Written {
    /// The id of an entity that exists. Without it the name decides.
    #[serde(default)]
    id: String,
    /// Its name, at most 512 bytes; made up for a new one when left out.
    name: Option<String>,
    /// Facts about it that policies may ask for, at most 64 pairs.
    metadata: Option<KvPairs>,
    /// Names of policies that all its tokens get, at most 256.
    policies: Option<CommaList>,
    /// Refuse its tokens and logins.
    disabled: Option<bool>,
}

/// Entities to delete.
#[derive(Deserialize, JsonSchema)]
struct Several {
    /// Their ids, at most 500.
    #[serde(default)]
    entity_ids: CommaList,
}

/// Entities to merge.
#[derive(Deserialize, JsonSchema)]
struct Merged {
    /// Ids of those that go, at most 500.
    #[serde(default)]
    from_entity_ids: CommaList,
    /// Id of the one that is left.
    #[serde(default)]
    to_entity_id: String,
    /// Kept for Vault's clients: without second factors nothing has to be forced.
    #[serde(default)]
    #[expect(dead_code, reason = "known, so that no warning is given")]
    force: bool,
    /// Ids of aliases to keep where two entities have one of the same mount.
    #[serde(default)]
    conflicting_alias_ids_to_keep: CommaList,
}

impl Written {
    fn wish(self) -> EntityWish {
        EntityWish { name: self.name, metadata: self.metadata, policies: self.policies, disabled: self.disabled }
    }
}

async fn write(room: Arc<IdentityRoom>, _cx: Cx, params: Written) -> Result<Reply> {
    written(&room, &Target::of(&params.id, params.name.as_deref()), params.wish()).await
}

async fn write_by_id(room: Arc<IdentityRoom>, _cx: Cx, params: Written) -> Result<Reply> {
    written(&room, &Target::Id(params.id.clone()), params.wish()).await
}

async fn write_by_name(room: Arc<IdentityRoom>, _cx: Cx, params: Written) -> Result<Reply> {
    written(&room, &Target::Name(params.name.clone().unwrap_or_default()), params.wish()).await
}

async fn written(room: &IdentityRoom, target: &Target, wish: EntityWish) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let (row, is_new) = unsealed.identities.write_entity(target, wish).await?;
    // As recorded: an update has nothing to tell.
    if !is_new || matches!(target, Target::Id(_)) {
        return Ok(Reply::nothing());
    }
    Ok(Reply::json(json!({ "id": row.id, "name": row.name, "aliases": null })))
}

/// Errors: `NotFound`.
async fn read(room: Arc<IdentityRoom>, cx: Cx, params: ById) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let row = lookup::entity_for(&unsealed, &cx, &params.id).await?.ok_or_else(Error::not_found)?;
    Ok(Reply::data(show::entity(&unsealed, &row).await?))
}

/// Errors: `NotFound`.
async fn read_by_name(room: Arc<IdentityRoom>, cx: Cx, params: ByName) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let row = lookup::entity_named(&unsealed, &cx, &params.name).await?.ok_or_else(Error::not_found)?;
    Ok(Reply::data(show::entity(&unsealed, &row).await?))
}

async fn delete(room: Arc<IdentityRoom>, _cx: Cx, params: ById) -> Result<()> {
    let (_, unsealed) = room.way.open()?;
    unsealed.identities.delete_entities(&[params.id]).await
}

async fn delete_by_name(room: Arc<IdentityRoom>, _cx: Cx, params: ByName) -> Result<()> {
    let (_, unsealed) = room.way.open()?;
    let Some(id) = unsealed.identities.entity_id_by_name(&params.name).await? else { return Ok(()) };
    unsealed.identities.delete_entities(&[id]).await
}

async fn delete_many(room: Arc<IdentityRoom>, _cx: Cx, params: Several) -> Result<()> {
    if params.entity_ids.0.is_empty() {
        return Err(Error::bad_request("missing entity ids to delete"));
    }
    let (_, unsealed) = room.way.open()?;
    unsealed.identities.delete_entities(&params.entity_ids.0).await
}

async fn merge(room: Arc<IdentityRoom>, _cx: Cx, params: Merged) -> Result<()> {
    let (_, unsealed) = room.way.open()?;
    unsealed.identities.merge(&params.from_entity_ids.0, &params.to_entity_id, &params.conflicting_alias_ids_to_keep.0).await
}

async fn list_ids(room: Arc<IdentityRoom>, cx: Cx, _params: Nothing) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let table = unsealed.table.load_full();
    let mut listing = Listing::of(&room, &cx)?;
    let after = listing.after();
    let show = |row: EntityRow| {
        let alias = |alias| show::alias_in_list(alias, &row.id, &table);
        listing.add(&row.id, || json!({ "name": row.name, "aliases": row.aliases.iter().map(alias).collect::<Vec<Value>>() }));
        !listing.is_full()
    };
    unsealed.identities.each_entity(after.as_deref(), show).await?;
    listing.with_info()
}

async fn list_names(room: Arc<IdentityRoom>, cx: Cx, _params: Nothing) -> Result<Keys> {
    let (_, unsealed) = room.way.open()?;
    let mut listing = Listing::of(&room, &cx)?;
    let show = |row: EntityRow| {
        listing.add(&row.name, || ());
        true
    };
    unsealed.identities.each_entity(None, show).await?;
    listing.keys()
}
