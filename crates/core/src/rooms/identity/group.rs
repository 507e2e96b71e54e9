//! `identity/group`: groups of entities and of groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_base::lenient::{CommaList, KvPairs};
use daypass_sdk::{Cx, Endpoint, Error, Keys, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::listing::Listing;
use super::{ById, ByName, IdentityRoom, Nothing, show};
use crate::identity::Target;
use crate::identity::groups::GroupWish;
use crate::identity::rows::{GroupRow, Member};
use crate::node::Unsealed;

pub(super) fn endpoints() -> Vec<Endpoint<IdentityRoom>> {
    vec![
        Endpoint::at(["group"]).summary("Create a group, or update the one of that name or id.").help(HELP).on(Operation::Update, write),
        Endpoint::at(["group/id/?"]).summary("List the groups by id.").on(Operation::List, list_ids),
        Endpoint::at(["group/id/{id}"])
            .summary("Read, update or delete a group.")
            .help(HELP)
            .on(Operation::Read, read)
            .on(Operation::Update, write_by_id)
            .on(Operation::Delete, delete),
        Endpoint::at(["group/name/?"]).summary("List the groups by name.").on(Operation::List, list_names),
        Endpoint::at(["group/name/{name..}"])
            .summary("Read, write or delete a group by its name.")
            .help(HELP)
            .on(Operation::Read, read_by_name)
            .on(Operation::Update, write_by_name)
            .on(Operation::Delete, delete_by_name),
    ]
}

const HELP: &str = "A group's policies are added to the tokens of its members, and of the members of groups in it, up to 16 deep. Members \
                    of an internal group are set here; those of an external group are the tokens whose login reported its alias.";

/// A group to write; what is absent stays as it is.
#[derive(Deserialize, JsonSchema)]
struct Written {
    /// The id of a group that exists. Without it the name decides.
    #[serde(default)]
    id: String,
    /// Its name, at most 512 bytes; made up for a new one when left out.
    name: Option<String>,
    /// `internal` or `external`; a new one is internal unless said otherwise, and it stays what it is.
    r#type: Option<String>,
    /// Facts about it that policies may ask for, at most 64 pairs.
    metadata: Option<KvPairs>,
    /// Names of policies that its members get, at most 256.
    policies: Option<CommaList>,
    /// Ids of the entities in it, at most 4,000 together with the groups.
    member_entity_ids: Option<CommaList>,
    /// Ids of the groups in it.
    member_group_ids: Option<CommaList>,
}

impl Written {
    fn wish(self) -> GroupWish {
        GroupWish {
            name: self.name,
            kind: self.r#type,
            metadata: self.metadata,
            policies: self.policies,
            entities: self.member_entity_ids,
            groups: self.member_group_ids,
        }
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

async fn written(room: &IdentityRoom, target: &Target, wish: GroupWish) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let (row, is_new) = unsealed.identities.write_group(target, wish).await?;
    Ok(if is_new { Reply::json(json!({ "id": row.id, "name": row.name })) } else { Reply::nothing() })
}

/// Errors: `NotFound`.
async fn read(room: Arc<IdentityRoom>, _cx: Cx, params: ById) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    shown(&unsealed, Some(params.id)).await?.ok_or_else(Error::not_found)
}

/// Errors: `NotFound`.
async fn read_by_name(room: Arc<IdentityRoom>, _cx: Cx, params: ByName) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let id = unsealed.identities.group_id_by_name(&params.name).await?;
    shown(&unsealed, id).await?.ok_or_else(Error::not_found)
}

/// The group of an id, if there is one.
pub(super) async fn shown(unsealed: &Unsealed, id: Option<String>) -> Result<Option<Reply>> {
    let Some(id) = id else { return Ok(None) };
    let whole = unsealed.identities.whole_group(&id).await?;
    Ok(whole.map(|whole| Reply::data(show::group(&whole, &unsealed.table.load()))))
}

async fn delete(room: Arc<IdentityRoom>, _cx: Cx, params: ById) -> Result<()> {
    let (_, unsealed) = room.way.open()?;
    unsealed.identities.delete_group(&params.id).await
}

async fn delete_by_name(room: Arc<IdentityRoom>, _cx: Cx, params: ByName) -> Result<()> {
    let (_, unsealed) = room.way.open()?;
    let Some(id) = unsealed.identities.group_id_by_name(&params.name).await? else { return Ok(()) };
    unsealed.identities.delete_group(&id).await
}

async fn list_ids(room: Arc<IdentityRoom>, cx: Cx, _params: Nothing) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let mut listing = Listing::of(&room, &cx)?;
    let after = listing.after();
    let show = |row: GroupRow| {
        listing.add(&row.id, || row.name.clone());
        !listing.is_full()
    };
    unsealed.identities.each_group(after.as_deref(), show).await?;
    let mut info = BTreeMap::new();
    for (id, name) in listing.whole()? {
        let members = unsealed.identities.members(&id).await?.entities.len();
        let parents = unsealed.identities.groups_of(Member::Group(&id)).await?.len();
        info.insert(id, json!({ "name": name, "num_member_entities": members, "num_parent_groups": parents }));
    }
    Ok(Reply::data(show::keys_with_info(info)))
}

async fn list_names(room: Arc<IdentityRoom>, cx: Cx, _params: Nothing) -> Result<Keys> {
    let (_, unsealed) = room.way.open()?;
    let mut listing = Listing::of(&room, &cx)?;
    let show = |row: GroupRow| {
        listing.add(&row.name, || ());
        true
    };
    unsealed.identities.each_group(None, show).await?;
    listing.keys()
}
