//! `identity/lookup`: entities and groups by whatever is known of them. What is not found is answered with 204, as Vault does.

use std::sync::Arc;

use daypass_base::Timestamp;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{IdentityRoom, check_mount, group, show};
use crate::identity::derived;
use crate::identity::rows::{AliasRow, EntityRow};
use crate::node::Unsealed;

pub(super) fn endpoints() -> Vec<Endpoint<IdentityRoom>> {
    vec![
        Endpoint::at(["lookup/entity"])
            .summary("Look up an entity by id, name, alias id, or alias name and mount.")
            .help("The entity of a login can be looked up before anything of it is stored. 204 when there is none.")
            .on(Operation::Update, entity),
        Endpoint::at(["lookup/group"])
            .summary("Look up a group by id, name, alias id, or alias name and mount.")
            .help("204 when there is none.")
            .on(Operation::Update, find_group),
    ]
}

/// What is known; one thing of these.
#[derive(Deserialize, JsonSchema)]
#[serde(default)]
#[derive(Default)]
struct Known {
    /// The id.
    id: String,
    /// The name.
    name: String,
    /// The id of an alias.
    alias_id: String,
    /// The name of an alias; with `alias_mount_accessor`.
    alias_name: String,
    /// The accessor of the alias's mount; with `alias_name`.
    alias_mount_accessor: String,
}

/// One thing that is known.
enum Clue {
    Alias { mount_accessor: String, name: String },
    AliasId(String),
    Id(String),
    Name(String),
}

impl Known {
    /// Errors: `BadRequest` unless exactly one thing is known.
    fn clue(self) -> Result<Clue> {
        let mut clues = Vec::new();
        if !self.id.is_empty() {
            clues.push(Clue::Id(self.id));
        }
        if !self.name.is_empty() {
            clues.push(Clue::Name(self.name));
        }
        if !self.alias_id.is_empty() {
            clues.push(Clue::AliasId(self.alias_id));
        }
        match (self.alias_name.is_empty(), self.alias_mount_accessor.is_empty()) {
            (true, true) => {}
            (false, false) => clues.push(Clue::Alias { mount_accessor: self.alias_mount_accessor, name: self.alias_name }),
            _ => return Err(Error::bad_request("both 'alias_name' and 'alias_mount_accessor' needs to be set")),
        }
        let clue = clues.pop().ok_or_else(|| Error::bad_request("query parameters not supplied"))?;
        if clues.is_empty() {
            Ok(clue)
        } else {
            Err(Error::bad_request("query parameters conflict; please supply distinct set of query parameters"))
        }
    }
}

async fn entity(room: Arc<IdentityRoom>, cx: Cx, params: Known) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let found = match params.clue()? {
        Clue::Alias { mount_accessor, name } => entity_of_alias(&unsealed, &mount_accessor, &name).await?,
        Clue::AliasId(id) => unsealed.identities.entity_of_alias_id(&id).await?,
        Clue::Id(id) => entity_for(&unsealed, &cx, &id).await?,
        Clue::Name(name) => entity_named(&unsealed, &cx, &name).await?,
    };
    match found {
        Some(row) => Ok(Reply::data(show::entity(&unsealed, &row).await?)),
        None => Ok(Reply::nothing()),
    }
}

async fn find_group(room: Arc<IdentityRoom>, _cx: Cx, params: Known) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let id = match params.clue()? {
        Clue::Alias { mount_accessor, name } => unsealed.identities.group_id_by_alias(&mount_accessor, &name).await?,
        Clue::AliasId(id) => unsealed.identities.group_of_alias(&id).await?.map(|row| row.id),
        Clue::Id(id) => Some(id),
        Clue::Name(name) => unsealed.identities.group_id_by_name(&name).await?,
    };
    Ok(group::shown(&unsealed, id).await?.unwrap_or_default())
}

/// The entity of an id, stored or of a login. The caller's own is shown with the alias that its token knows.
pub(super) async fn entity_for(unsealed: &Unsealed, cx: &Cx, id: &str) -> Result<Option<EntityRow>> {
    let Some(mut row) = unsealed.identities.entity_or_derived(id).await? else { return Ok(None) };
    if row.aliases.is_empty()
        && row.id == cx.request.caller.entity_id
        && let Some(alias) = own_alias(unsealed, cx).await?
    {
        row.aliases.push(alias);
    }
    Ok(Some(row))
}

/// The entity of a name, stored or of a login.
pub(super) async fn entity_named(unsealed: &Unsealed, cx: &Cx, name: &str) -> Result<Option<EntityRow>> {
    let Some(id) = unsealed.identities.entity_id_by_name(name).await? else { return Ok(None) };
    entity_for(unsealed, cx, &id).await
}

async fn entity_of_alias(unsealed: &Unsealed, mount_accessor: &str, name: &str) -> Result<Option<EntityRow>> {
    if check_mount(&unsealed.table.load(), mount_accessor).is_err() {
        return Ok(None);
    }
    let (id, _) = unsealed.identities.entity_of_alias(mount_accessor, name).await?;
    let Some(mut row) = unsealed.identities.entity_or_derived(&id).await? else { return Ok(None) };
    if row.aliases.is_empty() {
        row.aliases.push(unstored_alias(unsealed, mount_accessor, name));
    }
    Ok(Some(row))
}

/// How the login behind the caller's token was known.
async fn own_alias(unsealed: &Unsealed, cx: &Cx) -> Result<Option<AliasRow>> {
    let known = match (cx.request.caller.token, &cx.request.presented) {
        (Some(id), _) => unsealed.tokens.by_id(id).await?,
        (None, Some(token)) => unsealed.tokens.find(token).await?.0,
        (None, None) => None,
    };
    let Some((row, alias)) = known.as_ref().and_then(|known| Some((&known.row, known.row.alias.as_ref()?))) else { return Ok(None) };
    let mount_accessor = row.alias_mount(alias);
    let (entity_id, _) = unsealed.identities.entity_of_alias(mount_accessor, &alias.name).await?;
    let entity = unsealed.identities.entity_or_derived(&entity_id).await?;
    let is_own = entity.is_some_and(|entity| entity.id == cx.request.caller.entity_id);
    Ok(is_own.then(|| unstored_alias(unsealed, mount_accessor, &alias.name)))
}

fn unstored_alias(unsealed: &Unsealed, mount_accessor: &str, name: &str) -> AliasRow {
    AliasRow {
        id: derived::alias_id(unsealed.identities.barrier(), mount_accessor, name),
        name: name.to_owned(),
        mount_accessor: mount_accessor.to_owned(),
        custom_metadata: std::collections::BTreeMap::new(),
        created: Timestamp::from_nanos(0),
        updated: Timestamp::from_nanos(0),
    }
}
