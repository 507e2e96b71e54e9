//! Groups: who is in which, and the changes of groups. Groups can be in groups; a group is never in itself, however far around.

use std::collections::{BTreeMap, BTreeSet};

use daypass_base::Brief;
use daypass_base::lenient::{CommaList, KvPairs};
use daypass_sdk::{Error, Result};

use super::change::Change;
use super::rows::{self, GroupRow, Kind, Member, MembersRow, Pointer};
use super::{Identities, Target, bounds, merged_into};

/// The groups of somebody, found by going up from those that it is in itself.
#[derive(Debug, Default)]
pub(super) struct Inheritance {
    pub(super) groups: BTreeMap<String, GroupRow>,
    pub(super) direct: Vec<String>,
    pub(super) inherited: Vec<String>,
}

/// What is to become of a group; `None` leaves it as it is.
#[derive(Default)]
pub(crate) struct GroupWish {
    pub(crate) name: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) metadata: Option<KvPairs>,
    pub(crate) policies: Option<CommaList>,
    pub(crate) entities: Option<CommaList>,
    pub(crate) groups: Option<CommaList>,
}

/// The members of groups as a change leaves them: it may take several out of one.
#[derive(Default)]
pub(super) struct Lists(BTreeMap<String, MembersRow>);

impl Lists {
    /// Those of a group, to be changed.
    pub(super) async fn of(&mut self, identities: &Identities, group: &str) -> Result<&mut MembersRow> {
        if !self.0.contains_key(group) {
            self.0.insert(group.to_owned(), identities.members(group).await?);
        }
        Ok(self.0.entry(group.to_owned()).or_default())
    }

    /// Whether they are as many as one batch should hold.
    pub(super) fn are_long(&self) -> bool {
        self.0.values().map(|list| 1 + list.entities.len() + list.groups.len()).sum::<usize>() > LISTED_MAX
    }

    pub(super) fn put(&self, change: &mut Change<'_>) -> Result<()> {
        self.0.iter().try_for_each(|(group, list)| change.put(rows::members_key(group), list))
    }
}

/// A group with its members and the groups that it is in.
pub(crate) struct WholeGroup {
    pub(crate) row: GroupRow,
    pub(crate) members: MembersRow,
    pub(crate) parents: BTreeSet<String>,
}

impl Identities {
    pub(crate) async fn group(&self, id: &str) -> Result<Option<GroupRow>> {
        if bounds::is_id(id) { self.read(&rows::group_key(id)).await } else { Ok(None) }
    }

    pub(crate) async fn group_id_by_name(&self, name: &str) -> Result<Option<String>> {
        let pointer: Option<Pointer> = self.read(&rows::name_key(Kind::Group, name.trim(), self.barrier())).await?;
        Ok(pointer.map(|pointer| pointer.to))
    }

    pub(crate) async fn whole_group(&self, id: &str) -> Result<Option<WholeGroup>> {
        let Some(row) = self.group(id).await? else { return Ok(None) };
        let members = self.members(id).await?;
        Ok(Some(WholeGroup { row, members, parents: self.groups_of(Member::Group(id)).await? }))
    }

    /// Shows the groups behind this one, in the order of ids, until `show` says that it has seen enough.
    pub(crate) async fn each_group(&self, after: Option<&str>, show: impl FnMut(GroupRow) -> bool + Send) -> Result<()> {
        self.scan_each(&rows::group_key(""), after.map(rows::group_key), show).await
    }

    pub(crate) async fn members(&self, id: &str) -> Result<MembersRow> {
        Ok(self.read(&rows::members_key(id)).await?.unwrap_or_default())
    }

    /// The groups that somebody is directly in.
    pub(crate) async fn groups_of(&self, member: Member<'_>) -> Result<BTreeSet<String>> {
        let prefix = rows::edges_prefix(member);
        let edges = self.rows.keys(&prefix, None, bounds::DIRECT_GROUPS_MAX).await?;
        let group = |key: &[u8]| key.get(prefix.bytes.len()..).map(|id| String::from_utf8_lossy(id).into_owned());
        Ok(edges.iter().filter_map(|key| group(key)).collect())
    }

    /// All groups above some, themselves included. Errors: `Failed` when they are too many: leaving some out could leave out a `deny`.
    pub(super) async fn inheritance(&self, direct: BTreeSet<String>) -> Result<Inheritance> {
        let mut groups: BTreeMap<String, GroupRow> = BTreeMap::new();
        let mut level: Vec<String> = direct.iter().cloned().collect();
        while !level.is_empty() {
            let mut next = BTreeSet::new();
            // A level has no limit, and each group has up to a limit: what is too much is not read first.
            for ids in level.chunks(AT_A_TIME) {
                let keys: Vec<_> = ids.iter().map(|id| rows::group_key(id)).collect();
                for (key, plain) in keys.iter().zip(self.rows.get_many(&keys).await?) {
                    let Some(plain) = plain else { continue };
                    let group: GroupRow = crate::rows::parse(key, &plain.value)?;
                    next.extend(self.groups_of(Member::Group(&group.id)).await?);
                    groups.insert(group.id.clone(), group);
                }
                if groups.len() > bounds::GROUPS_MAX {
                    return Err(Error::failed(format!(
                        "the caller's entity is in more than {} groups; take it out of some",
                        bounds::GROUPS_MAX
                    )));
                }
            }
            level = next.into_iter().filter(|id| !groups.contains_key(id)).collect();
        }
        let (direct, inherited) = groups.keys().cloned().partition(|id| direct.contains(id));
        Ok(Inheritance { groups, direct, inherited })
    }

    /// Makes or changes a group. Returns it and whether it is new. Errors: `BadRequest`.
    pub(crate) async fn write_group(&self, target: &Target, wish: GroupWish) -> Result<(GroupRow, bool)> {
        let mut change = self.change().await?;
        let id = match target {
            Target::Id(id) => Some(id.clone()),
            Target::Name(name) => self.group_id_by_name(name).await?,
            Target::New => None,
        };
        let old = match id {
            Some(id) => {
                Some(self.group(&id).await?.ok_or_else(|| Error::bad_request("no group has this id; leave id out to make a group"))?)
            }
            None => None,
        };
        let is_new = old.is_none();
        let mut row = old.unwrap_or_else(|| self.new_group());
        let kind = wish.kind.as_deref().filter(|kind| !kind.is_empty());
        if let Some(kind) = kind {
            let external = match kind {
                "internal" => false,
                "external" => true,
                _ => return Err(Error::bad_request(format!("invalid group type {:?}", Brief(kind)))),
            };
            if !is_new && external != row.external {
                return Err(Error::bad_request("group type cannot be changed"));
            }
            row.external = external;
        }
        self.name_group(&mut change, &mut row, wish.name, is_new).await?;
        if let Some(metadata) = wish.metadata {
            row.metadata = bounds::metadata("metadata", metadata)?;
        }
        if let Some(policies) = wish.policies {
            row.policies = bounds::policies(&policies.0)?;
        }
        self.set_members(&mut change, &row, wish.entities, wish.groups).await?;
        row.updated = self.clock.now();
        row.modify_index += 1;
        change.put(rows::group_key(&row.id), &row)?;
        change.commit().await?;
        Ok((row, is_new))
    }

    fn new_group(&self) -> GroupRow {
        let now = self.clock.now();
        GroupRow {
            id: crate::ids::uuid(&*self.entropy),
            name: String::new(),
            external: false,
            metadata: BTreeMap::new(),
            policies: Vec::new(),
            created: now,
            updated: now,
            modify_index: 0,
            alias: None,
        }
    }

    async fn name_group(&self, change: &mut Change<'_>, row: &mut GroupRow, wanted: Option<String>, is_new: bool) -> Result<()> {
        let wanted = match wanted.filter(|name| !name.is_empty()) {
            Some(name) => bounds::name("the name of a group", &name)?,
            None if is_new => format!("group_{}", row.id.get(..8).unwrap_or_default()),
            None => return Ok(()),
        };
        if let Some(other) = self.group_id_by_name(&wanted).await?
            && other != row.id
        {
            return Err(Error::bad_request("group name is already in use"));
        }
        if !is_new {
            change.delete(rows::name_key(Kind::Group, &row.name, self.barrier()));
        }
        change.put(rows::name_key(Kind::Group, &wanted, self.barrier()), &Pointer { to: row.id.clone() })?;
        row.name = wanted;
        Ok(())
    }

    async fn set_members(
        &self,
        change: &mut Change<'_>,
        row: &GroupRow,
        entities: Option<CommaList>,
        groups: Option<CommaList>,
    ) -> Result<()> {
        if entities.is_none() && groups.is_none() {
            return Ok(());
        }
        if row.external {
            let names = entities.as_ref().or(groups.as_ref()).is_some_and(|list| !list.0.is_empty());
            let text = "the members of an external group come from the logins that report its alias; they cannot be set";
            return if names { Err(Error::bad_request(text)) } else { Ok(()) };
        }
        let old = self.members(&row.id).await?;
        let mut new = old.clone();
        if let Some(list) = entities {
            new.entities = bounds::members("member_entity_ids", &list.0)?;
        }
        if let Some(list) = groups {
            new.groups = bounds::members("member_group_ids", &list.0)?;
        }
        if new.entities.len() + new.groups.len() > bounds::MEMBERS_MAX {
            return Err(Error::bad_request(format!("a group can have {} members", bounds::MEMBERS_MAX)));
        }
        let joined =
            |old: &[String], new: &[String]| -> Vec<String> { new.iter().filter(|id| old.binary_search(id).is_err()).cloned().collect() };
        let (entities, groups) = (joined(&old.entities, &new.entities), joined(&old.groups, &new.groups));
        self.check_new_entities(&entities).await?;
        self.check_new_groups(&row.id, &groups).await?;
        for id in &entities {
            change.edge(rows::edge_key(Member::Entity(id), &row.id));
        }
        for id in &groups {
            change.edge(rows::edge_key(Member::Group(id), &row.id));
        }
        for id in joined(&new.entities, &old.entities) {
            change.delete(rows::edge_key(Member::Entity(&id), &row.id));
        }
        for id in joined(&new.groups, &old.groups) {
            change.delete(rows::edge_key(Member::Group(&id), &row.id));
        }
        change.put(rows::members_key(&row.id), &new)
    }

    async fn check_new_entities(&self, ids: &[String]) -> Result<()> {
        for id in ids {
            let unknown = || Error::bad_request(format!("invalid entity ID {id:?}: no entity has it"));
            let entity = self.entity_or_derived(id).await?.ok_or_else(unknown)?;
            if entity.id != *id {
                return Err(merged_into(id, &entity.id));
            }
            self.check_room(Member::Entity(id), id).await?;
        }
        Ok(())
    }

    async fn check_room(&self, member: Member<'_>, id: &str) -> Result<()> {
        if self.groups_of(member).await?.len() >= bounds::DIRECT_GROUPS_MAX {
            return Err(Error::bad_request(format!("{id:?} is in {} groups already, which is the limit", bounds::DIRECT_GROUPS_MAX)));
        }
        Ok(())
    }

    /// Groups may join when none of them holds the group itself, and the chain does not become too long.
    async fn check_new_groups(&self, group: &str, joining: &[String]) -> Result<()> {
        if joining.is_empty() {
            return Ok(());
        }
        for id in joining {
            if id == group {
                return Err(cyclic(id));
            }
            if self.group(id).await?.is_none() {
                return Err(Error::bad_request(format!("invalid group ID {id:?}: no group has it")));
            }
            self.check_room(Member::Group(id), id).await?;
        }
        let joining: BTreeSet<String> = joining.iter().cloned().collect();
        let mut above = 0;
        let mut level = BTreeSet::from([group.to_owned()]);
        // Going level by level, the last one that is not empty tells the longest way: what exists has no cycle.
        loop {
            let mut next = BTreeSet::new();
            for id in &level {
                next.extend(self.groups_of(Member::Group(id)).await?);
            }
            if let Some(id) = next.intersection(&joining).next() {
                return Err(cyclic(id));
            }
            if next.is_empty() || above > bounds::DEPTH_MAX {
                break;
            }
            above += 1;
            level = next;
        }
        let mut below = 0;
        let mut level = joining;
        while !level.is_empty() && below <= bounds::DEPTH_MAX {
            let mut next = BTreeSet::new();
            for id in &level {
                next.extend(self.members(id).await?.groups);
            }
            below += 1;
            level = next;
        }
        if above + 1 + below > bounds::DEPTH_MAX {
            return Err(Error::bad_request(format!("groups can be nested {} deep; this would be deeper", bounds::DEPTH_MAX)));
        }
        Ok(())
    }

    /// Deletes a group; one that does not exist is no error. Its members stay, and it leaves the groups that it was in.
    pub(crate) async fn delete_group(&self, id: &str) -> Result<()> {
        let mut change = self.change().await?;
        let Some(whole) = self.whole_group(id).await? else { return Ok(()) };
        for member in &whole.members.entities {
            change.delete(rows::edge_key(Member::Entity(member), id));
        }
        for member in &whole.members.groups {
            change.delete(rows::edge_key(Member::Group(member), id));
        }
        let mut lists = Lists::default();
        self.leave_all(&mut change, &mut lists, Member::Group(id), &whole.parents).await?;
        lists.put(&mut change)?;
        if let Some(alias) = &whole.row.alias {
            self.drop_group_alias(&mut change, alias);
        }
        change.delete(rows::name_key(Kind::Group, &whole.row.name, self.barrier()));
        change.delete(rows::members_key(id));
        change.delete(rows::group_key(id));
        change.commit().await
    }

    /// Takes a member out of groups.
    pub(super) async fn leave_all(
        &self,
        change: &mut Change<'_>,
        lists: &mut Lists,
        member: Member<'_>,
        groups: &BTreeSet<String>,
    ) -> Result<()> {
        for group in groups {
            let list = lists.of(self, group).await?;
            let (members, id) = match member {
                Member::Entity(id) => (&mut list.entities, id),
                Member::Group(id) => (&mut list.groups, id),
            };
            if let Ok(place) = members.binary_search_by(|other| other.as_str().cmp(id)) {
                members.remove(place);
            }
            change.delete(rows::edge_key(member, group));
        }
        Ok(())
    }
}

/// Groups that are read together. A row with all that it may hold has about 200 KiB.
const AT_A_TIME: usize = 16;
/// Ids in lists of members that one change writes anew: 20 MB. The lists of one entity's groups go together, however long they are.
const LISTED_MAX: usize = 500_000;

fn cyclic(id: &str) -> Error {
    Error::bad_request(format!("cyclic relationship detected for member group ID {id:?}"))
}
