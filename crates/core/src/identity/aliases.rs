//! Aliases of entities: which logins an operator bound to which entity.

use std::collections::BTreeMap;

use daypass_base::lenient::KvPairs;
use daypass_sdk::{Error, Result};

use super::change::Change;
use super::rows::{self, AliasRow, EntityRow, Kind, Member, Pointer};
use super::{Identities, bounds, derived};

/// What is to become of an alias.
pub(crate) struct AliasWish {
    /// The alias to change; `None` finds it by mount and name, or makes it.
    pub(crate) id: Option<String>,
    /// Empty leaves that of an alias with an id as it is, as does the next.
    pub(crate) name: String,
    pub(crate) mount_accessor: String,
    /// Whose it shall be; empty leaves it where it is, or makes it the alias of the login's own entity.
    pub(crate) entity: String,
    pub(crate) custom_metadata: Option<KvPairs>,
}

impl Identities {
    /// The entity that holds the alias of this id.
    pub(crate) async fn entity_of_alias_id(&self, alias_id: &str) -> Result<Option<EntityRow>> {
        if !bounds::is_id(alias_id) {
            return Ok(None);
        }
        let Some(pointer) = self.read::<Pointer>(&rows::alias_id_key(Kind::Entity, alias_id)).await? else { return Ok(None) };
        Ok(self.entity(&pointer.to).await?.filter(|row| row.aliases.iter().any(|alias| alias.id == alias_id)))
    }

    /// The alias of this id.
    pub(crate) async fn alias_of_id(&self, alias_id: Option<&str>) -> Result<Option<AliasRow>> {
        let Some(id) = alias_id else { return Ok(None) };
        let row = self.entity_of_alias_id(id).await?;
        Ok(row.and_then(|row| row.aliases.into_iter().find(|alias| alias.id == id)))
    }

    /// Makes or changes an alias. Returns its id and that of its entity. Errors: `BadRequest`.
    pub(crate) async fn write_alias(&self, mut wish: AliasWish) -> Result<(String, String)> {
        let custom_metadata = wish.custom_metadata.clone().map(|pairs| bounds::metadata("custom_metadata", pairs)).transpose()?;
        let mut change = self.change().await?;
        if let Some(old) = self.alias_of_id(wish.id.as_deref()).await? {
            old.fill(&mut wish.name, &mut wish.mount_accessor);
        }
        let name = bounds::name("the name of an alias", &wish.name)?;
        let holder = self.holder(&wish, &name).await?;
        let target = match (&holder, wish.entity.as_str()) {
            (Some((holder, _)), "") => holder.id.clone(),
            (None, "") => self.entity_of_alias(&wish.mount_accessor, &name).await?.0,
            (_, id) => id.to_owned(),
        };
        // By an entity that was merged the one is meant that it went into, which may have the alias already.
        let unknown = || Error::bad_request("invalid entity ID given in 'canonical_id': no entity has it");
        let target = self.entity_or_derived(&target).await?.ok_or_else(unknown)?;
        let now = self.clock.now();
        let fresh = || AliasRow {
            id: crate::ids::uuid(&*self.entropy),
            name: String::new(),
            mount_accessor: String::new(),
            custom_metadata: BTreeMap::new(),
            created: now,
            updated: now,
        };
        let (mut alias, holder) = match holder {
            None => (fresh(), None),
            Some((mut holder, place)) => {
                let old = holder.aliases.remove(place);
                if old.mount_accessor != wish.mount_accessor || old.name.to_lowercase() != name.to_lowercase() {
                    self.take_alias(&mut change, &old).await?;
                }
                if holder.id != target.id {
                    holder.updated = now;
                    change.put(rows::entity_key(&holder.id), &holder)?;
                }
                (old, Some(holder))
            }
        };
        alias.name = name;
        alias.mount_accessor = wish.mount_accessor;
        alias.updated = now;
        if let Some(custom_metadata) = custom_metadata {
            alias.custom_metadata = custom_metadata;
        }
        let row = holder.filter(|holder| holder.id == target.id).unwrap_or(target);
        let ids = (alias.id.clone(), row.id.clone());
        self.add_alias(&mut change, row, alias).await?;
        change.commit().await?;
        Ok(ids)
    }

    /// The entity that has the alias now, and the alias's place there. Errors: `BadRequest` when the wish names two aliases.
    async fn holder(&self, wish: &AliasWish, name: &str) -> Result<Option<(EntityRow, usize)>> {
        let by_factors = self.alias_by_factors(&wish.mount_accessor, name).await?;
        let Some(id) = &wish.id else { return Ok(by_factors) };
        let row = self.entity_of_alias_id(id).await?.ok_or_else(|| Error::bad_request("invalid alias ID: no alias has it"))?;
        let place = row.aliases.iter().position(|alias| alias.id == *id);
        let other = by_factors.as_ref().and_then(|(row, place)| row.aliases.get(*place));
        if other.is_some_and(|other| other.id != *id) {
            return Err(Error::bad_request("alias with combination of mount accessor and name already exists"));
        }
        Ok(place.map(|place| (row, place)))
    }

    async fn alias_by_factors(&self, mount_accessor: &str, name: &str) -> Result<Option<(EntityRow, usize)>> {
        let key = rows::alias_key(Kind::Entity, mount_accessor, name, self.barrier());
        let Some(pointer) = self.read::<Pointer>(&key).await? else { return Ok(None) };
        let Some(row) = self.entity(&pointer.to).await? else { return Ok(None) };
        let is_it = |alias: &AliasRow| alias.mount_accessor == mount_accessor && alias.name.to_lowercase() == name.to_lowercase();
        let place = row.aliases.iter().position(is_it);
        Ok(place.map(|place| (row, place)))
    }

    async fn add_alias(&self, change: &mut Change<'_>, mut row: EntityRow, alias: AliasRow) -> Result<()> {
        if row.aliases.iter().any(|other| other.mount_accessor == alias.mount_accessor) {
            return Err(Error::bad_request("the entity has an alias of this mount already; an entity can have one of each"));
        }
        if row.aliases.len() >= bounds::ALIASES_MAX {
            return Err(Error::bad_request(format!("an entity can have {} aliases", bounds::ALIASES_MAX)));
        }
        if self.entity(&row.id).await?.is_none() {
            row.created = alias.updated;
            self.name_entity(change, &mut row, None, true).await?;
        }
        self.point_alias(change, &alias, &row.id)?;
        row.updated = alias.updated;
        row.aliases.push(alias);
        change.put(rows::entity_key(&row.id), &row)
    }

    pub(super) fn point_alias(&self, change: &mut Change<'_>, alias: &AliasRow, entity: &str) -> Result<()> {
        let to = Pointer { to: entity.to_owned() };
        change.put(rows::alias_key(Kind::Entity, &alias.mount_accessor, &alias.name, self.barrier()), &to)?;
        change.put(rows::alias_id_key(Kind::Entity, &alias.id), &to)
    }

    pub(crate) async fn delete_alias(&self, alias_id: &str) -> Result<()> {
        let mut change = self.change().await?;
        let Some(mut row) = self.entity_of_alias_id(alias_id).await? else { return Ok(()) };
        if let Some(place) = row.aliases.iter().position(|alias| alias.id == alias_id) {
            let old = row.aliases.remove(place);
            self.take_alias(&mut change, &old).await?;
        }
        row.updated = self.clock.now();
        change.put(rows::entity_key(&row.id), &row)?;
        change.commit().await
    }

    /// Takes an alias from its entity. Where the entity that its logins would have by derivation is stored, or anything else is known of it, they
    /// have another from now on: who takes an alias away means what that entity may do.
    pub(super) async fn take_alias(&self, change: &mut Change<'_>, alias: &AliasRow) -> Result<()> {
        if self.is_known(&derived::entity_id(self.barrier(), &alias.mount_accessor, &alias.name)).await? {
            return self.part_alias(change, alias).await;
        }
        self.drop_alias(change, alias);
        Ok(())
    }

    /// The same whatever is known. What it leaves is one small row for each name, however often it is taken.
    pub(super) async fn part_alias(&self, change: &mut Change<'_>, alias: &AliasRow) -> Result<()> {
        let (mount_accessor, name) = (&alias.mount_accessor, &alias.name);
        let mut to = derived::another_entity_id(self.barrier(), &*self.entropy, mount_accessor, name);
        for _ in 0..DRAWS_MAX {
            if !self.is_known(&to).await? {
                break;
            }
            to = derived::another_entity_id(self.barrier(), &*self.entropy, mount_accessor, name);
        }
        change.delete(rows::alias_id_key(Kind::Entity, &alias.id));
        change.put(rows::alias_key(Kind::Entity, mount_accessor, name, self.barrier()), &Pointer { to })
    }

    /// Forgets an alias: its logins have the entity that follows from it.
    pub(super) fn drop_alias(&self, change: &mut Change<'_>, alias: &AliasRow) {
        change.delete(rows::alias_key(Kind::Entity, &alias.mount_accessor, &alias.name, self.barrier()));
        change.delete(rows::alias_id_key(Kind::Entity, &alias.id));
    }

    /// Whether a login of this entity would find anything of it: a row, one that it was merged into, groups, second factors, or that it was
    /// deleted.
    async fn is_known(&self, id: &str) -> Result<bool> {
        let (entity, ended) = self.owner(id).await?;
        Ok(entity.is_some()
            || ended.is_some()
            || !self.groups_of(Member::Entity(id)).await?.is_empty()
            || !self.seeds_of(id).await?.is_empty())
    }
}

/// Of 16 million ids of an alias; one that is known already is drawn about never.
const DRAWS_MAX: usize = 8;
