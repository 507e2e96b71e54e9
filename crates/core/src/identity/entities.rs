//! Stored entities: the look-ups and the changes that operators make.

use std::collections::{BTreeMap, BTreeSet};

use daypass_base::Timestamp;
use daypass_base::lenient::{CommaList, KvPairs};
use daypass_sdk::{Error, Result};

use super::change::Change;
use super::groups::Lists;
use super::rows::{self, EndedRow, EntityRow, Kind, Member, Pointer};
use super::{Identities, PAGE, Target, bounds, derived, merged_into};
use crate::rows::not_before;

/// What is to become of an entity; `None` leaves it as it is.
#[derive(Default)]
pub(crate) struct EntityWish {
    pub(crate) name: Option<String>,
    pub(crate) metadata: Option<KvPairs>,
    pub(crate) policies: Option<CommaList>,
    pub(crate) disabled: Option<bool>,
}

impl Identities {
    /// The stored entity of this very id.
    pub(crate) async fn entity(&self, id: &str) -> Result<Option<EntityRow>> {
        if bounds::is_id(id) { self.read(&rows::entity_key(id)).await } else { Ok(None) }
    }

    /// The stored entity, or what a derived one would be if it were stored.
    pub(crate) async fn entity_or_derived(&self, id: &str) -> Result<Option<EntityRow>> {
        if !bounds::is_id(id) {
            return Ok(None);
        }
        let found = self.current_entity(id).await?;
        // Made at no known time: an answer that changed with each look would look like a change to clients that compare.
        let derived = || derived::is_entity_id(self.barrier(), id).then(|| blank(id.to_owned(), Timestamp::from_nanos(0)));
        Ok(found.or_else(derived))
    }

    /// The id of the entity that is called so: a stored one, or one of a login of which nothing is stored.
    pub(crate) async fn entity_id_by_name(&self, name: &str) -> Result<Option<String>> {
        let name = name.trim();
        if let Some(pointer) = self.read::<Pointer>(&rows::name_key(Kind::Entity, name, self.barrier())).await? {
            return Ok(Some(pointer.to));
        }
        let Some(id) = derived::entity_of_name(self.barrier(), name) else { return Ok(None) };
        Ok(self.current_entity(&id).await?.is_none().then_some(id))
    }

    /// Shows the stored entities behind this one, in the order of ids, until `show` says that it has seen enough.
    pub(crate) async fn each_entity(&self, after: Option<&str>, show: impl FnMut(EntityRow) -> bool + Send) -> Result<()> {
        self.scan_each(&rows::entity_key(""), after.map(rows::entity_key), show).await
    }

    /// How many entities are stored.
    pub(crate) async fn count_entities(&self) -> Result<usize> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.rows.list(&rows::entity_key(""), after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(count) };
            count += page.len();
            after = Some(last.to_vec());
            tokio::task::yield_now().await;
        }
    }

    /// Makes or changes an entity; a derived one is stored by that. Returns it and whether it is new to the store. Errors: `BadRequest`.
    pub(crate) async fn write_entity(&self, target: &Target, wish: EntityWish) -> Result<(EntityRow, bool)> {
        let mut change = self.change().await?;
        let id = match target {
            Target::Id(id) => Some(id.clone()),
            Target::Name(name) => self.entity_id_by_name(name).await?,
            Target::New => None,
        };
        let mut row = match id {
            Some(id) => {
                let unknown = || Error::bad_request("no entity has this id; leave id out to make an entity");
                self.entity_or_derived(&id).await?.ok_or_else(unknown)?
            }
            None => blank(crate::ids::uuid(&*self.entropy), self.clock.now()),
        };
        let is_new = self.entity(&row.id).await?.is_none();
        if is_new {
            row.created = self.clock.now();
        }
        self.name_entity(&mut change, &mut row, wish.name, is_new).await?;
        if let Some(metadata) = wish.metadata {
            row.metadata = bounds::metadata("metadata", metadata)?;
        }
        if let Some(policies) = wish.policies {
            row.policies = bounds::policies(&policies.0)?;
        }
        if let Some(disabled) = wish.disabled {
            row.disabled = disabled;
        }
        row.updated = self.clock.now();
        change.put(rows::entity_key(&row.id), &row)?;
        change.commit().await?;
        Ok((row, is_new))
    }

    pub(super) async fn name_entity(
        &self,
        change: &mut Change<'_>,
        row: &mut EntityRow,
        wanted: Option<String>,
        is_new: bool,
    ) -> Result<()> {
        let wanted = match wanted.filter(|name| !name.is_empty()) {
            Some(name) => bounds::name("the name of an entity", &name)?,
            None if is_new => row.name.clone(),
            None => return Ok(()),
        };
        // The name that a login's own entity has while it is not stored, or will have again when it is deleted, is not given to another either.
        let holders = [self.entity_id_by_name(&wanted).await?, derived::entity_of_name(self.barrier(), &wanted)];
        if holders.iter().flatten().any(|holder| *holder != row.id) {
            return Err(Error::bad_request("entity name is already in use"));
        }
        if !is_new {
            change.delete(rows::name_key(Kind::Entity, &row.name, self.barrier()));
        }
        change.put(rows::name_key(Kind::Entity, &wanted, self.barrier()), &Pointer { to: row.id.clone() })?;
        row.name = wanted;
        Ok(())
    }

    /// Deletes entities with their aliases and memberships, and ends their tokens; those that do not exist are no error. It is one change;
    /// where that would be too long for one, it is several, and what was done before a failure stays done. Errors: `BadRequest` for one that was
    /// merged into another which is not to go: its logins and tokens are that one's, and would go on.
    pub(crate) async fn delete_entities(&self, ids: &[String]) -> Result<()> {
        if ids.len() > bounds::BATCH_MAX {
            return Err(Error::bad_request(format!("{} entities can be deleted at once, {} were given", bounds::BATCH_MAX, ids.len())));
        }
        let ids: BTreeSet<String> = ids.iter().filter(|id| bounds::is_id(id)).cloned().collect();
        let mut rest = ids.iter().peekable();
        while rest.peek().is_some() {
            let mut change = self.change().await?;
            change.take_back();
            let (mut lists, mut is_needed) = (Lists::default(), false);
            while !change.is_long() && !lists.are_long() {
                let Some(id) = rest.next() else { break };
                is_needed |= self.delete_entity(&mut change, &mut lists, id, &ids).await?;
            }
            if is_needed {
                lists.put(&mut change)?;
                change.commit().await?;
            }
        }
        Ok(())
    }

    /// Deletes one of `ids`. Returns whether there was anything to delete.
    async fn delete_entity(&self, change: &mut Change<'_>, lists: &mut Lists, id: &str, ids: &BTreeSet<String>) -> Result<bool> {
        let stored = self.current_entity(id).await?;
        if let Some(other) = stored.as_ref().filter(|row| row.id != id) {
            return if ids.contains(&other.id) { Ok(false) } else { Err(merged_into(id, &other.id)) };
        }
        let groups = self.groups_of(Member::Entity(id)).await?;
        let had_seeds = self.drop_seeds(change, id).await?;
        let has_ended = self.end(change, id).await?;
        let is_needed = stored.is_some() || !groups.is_empty() || had_seeds || has_ended;
        self.leave_all(change, lists, Member::Entity(id), &groups).await?;
        let Some(row) = stored else { return Ok(is_needed) };
        for alias in &row.aliases {
            let own = derived::entity_id(self.barrier(), &alias.mount_accessor, &alias.name);
            // Of one that ends here nothing is left to have.
            if own == id || row.merged.contains(&own) {
                self.drop_alias(change, alias);
            } else {
                self.take_alias(change, alias).await?;
            }
        }
        for merged in &row.merged {
            let groups = self.groups_of(Member::Entity(merged)).await?;
            self.leave_all(change, lists, Member::Entity(merged), &groups).await?;
            change.delete(rows::merged_key(merged));
            self.end(change, merged).await?;
        }
        change.delete(rows::name_key(Kind::Entity, &row.name, self.barrier()));
        change.delete(rows::entity_key(id));
        Ok(is_needed)
    }

    /// Notes that a derived entity ends now, also when it was stored nowhere: who deletes it means its tokens. Others need no note: no
    /// login brings them back. Returns whether it is a derived one.
    async fn end(&self, change: &mut Change<'_>, id: &str) -> Result<bool> {
        if !derived::is_entity_id(self.barrier(), id) {
            return Ok(false);
        }
        let before = self.read::<EndedRow>(&rows::ended_key(id)).await?.map(|ended| ended.at);
        // A token of a login until now is refused whenever it was made: requests that go on meanwhile make more of them.
        change.put(rows::ended_key(id), &EndedRow { at: not_before(before, self.clock.now()) })?;
        Ok(true)
    }
}

/// An entity of which nothing is known.
pub(super) fn blank(id: String, at: Timestamp) -> EntityRow {
    EntityRow {
        name: derived::entity_name(&id),
        id,
        metadata: BTreeMap::new(),
        policies: Vec::new(),
        disabled: false,
        created: at,
        updated: at,
        aliases: Vec::new(),
        merged: Vec::new(),
    }
}
