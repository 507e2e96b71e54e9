//! Aliases of external groups: which of the groups that logins report mean which group here.

use std::collections::BTreeMap;

use daypass_sdk::{Error, Result};

use super::change::Change;
use super::rows::{self, AliasRow, GroupRow, Kind, Pointer};
use super::{Identities, bounds};

/// What is to become of a group's alias.
pub(crate) struct GroupAliasWish {
    /// The alias to change; `None` makes one.
    pub(crate) id: Option<String>,
    /// Empty leaves that of an alias with an id as it is, as does the next.
    pub(crate) name: String,
    pub(crate) mount_accessor: String,
    /// The external group; empty leaves it where it is.
    pub(crate) group: String,
}

impl Identities {
    /// Binds an external group to a name that logins of a mount report. Returns the ids of alias and group. Errors: `BadRequest`.
    pub(crate) async fn write_group_alias(&self, mut wish: GroupAliasWish) -> Result<(String, String)> {
        let mut change = self.change().await?;
        let held = match &wish.id {
            Some(id) => Some(self.group_of_alias(id).await?.ok_or_else(|| Error::bad_request("invalid alias ID: no group alias has it"))?),
            None => None,
        };
        if let Some(old) = held.as_ref().and_then(|row| row.alias.as_ref()) {
            old.fill(&mut wish.name, &mut wish.mount_accessor);
        }
        let name = bounds::name("the name of a group alias", &wish.name)?;
        let target = if wish.group.is_empty() { held.as_ref().map(|row| row.id.clone()) } else { Some(wish.group.clone()) };
        let target = target.ok_or_else(|| Error::bad_request("missing canonical_id: the id of an external group"))?;
        let mut row = self.group(&target).await?.ok_or_else(|| Error::bad_request("invalid group ID given in 'canonical_id'"))?;
        if !row.external {
            return Err(Error::bad_request("alias can't be set on an internal group"));
        }
        if self.group_id_by_alias(&wish.mount_accessor, &name).await?.is_some_and(|taken| taken != row.id) {
            return Err(Error::bad_request("the alias belongs to another group; delete it there first"));
        }
        let now = self.clock.now();
        let id = crate::ids::uuid(&*self.entropy);
        let mut alias =
            AliasRow { id, name, mount_accessor: wish.mount_accessor, custom_metadata: BTreeMap::new(), created: now, updated: now };
        if let Some(mut held) = held
            && let Some(old) = held.alias.take()
        {
            self.drop_group_alias(&mut change, &old);
            (alias.id, alias.created) = (old.id, old.created);
            if held.id != row.id {
                change.put(rows::group_key(&held.id), &held)?;
            }
        }
        if let Some(old) = row.alias.take() {
            self.drop_group_alias(&mut change, &old);
        }
        let to = Pointer { to: row.id.clone() };
        change.put(rows::alias_key(Kind::Group, &alias.mount_accessor, &alias.name, self.barrier()), &to)?;
        change.put(rows::alias_id_key(Kind::Group, &alias.id), &to)?;
        let ids = (alias.id.clone(), row.id.clone());
        row.alias = Some(alias);
        self.put_group(&mut change, &mut row)?;
        change.commit().await?;
        Ok(ids)
    }

    fn put_group(&self, change: &mut Change<'_>, row: &mut GroupRow) -> Result<()> {
        row.modify_index += 1;
        row.updated = self.clock.now();
        change.put(rows::group_key(&row.id), row)
    }

    /// The group that an alias of this id belongs to.
    pub(crate) async fn group_of_alias(&self, alias_id: &str) -> Result<Option<GroupRow>> {
        if !bounds::is_id(alias_id) {
            return Ok(None);
        }
        let Some(pointer) = self.read::<Pointer>(&rows::alias_id_key(Kind::Group, alias_id)).await? else { return Ok(None) };
        Ok(self.group(&pointer.to).await?.filter(|row| row.alias.as_ref().is_some_and(|alias| alias.id == alias_id)))
    }

    /// The group of what logins of a mount report.
    pub(crate) async fn group_id_by_alias(&self, mount_accessor: &str, name: &str) -> Result<Option<String>> {
        let key = rows::alias_key(Kind::Group, mount_accessor, name, self.barrier());
        Ok(self.read::<Pointer>(&key).await?.map(|pointer| pointer.to))
    }

    pub(crate) async fn delete_group_alias(&self, alias_id: &str) -> Result<()> {
        let mut change = self.change().await?;
        let Some(mut row) = self.group_of_alias(alias_id).await? else { return Ok(()) };
        if let Some(alias) = row.alias.take() {
            self.drop_group_alias(&mut change, &alias);
        }
        self.put_group(&mut change, &mut row)?;
        change.commit().await
    }

    pub(super) fn drop_group_alias(&self, change: &mut Change<'_>, alias: &AliasRow) {
        change.delete(rows::alias_key(Kind::Group, &alias.mount_accessor, &alias.name, self.barrier()));
        change.delete(rows::alias_id_key(Kind::Group, &alias.id));
    }
}
