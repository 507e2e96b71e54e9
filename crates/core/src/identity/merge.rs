//! Merging: several entities become one. Their tokens and logins go on as the one that is left.

use std::collections::BTreeSet;

use daypass_sdk::{Error, Result};

use super::change::Change;
use super::groups::Lists;
use super::rows::{self, EntityRow, Kind, Member, Pointer};
use super::{Identities, bounds};

impl Identities {
    /// Merges entities into another: it gets their aliases, policies and groups; its own metadata stays. `keep` names aliases that win
    /// where two entities have one of the same mount. An entity that is not stored has an alias too, which nobody can tell from its id: it stays the
    /// name of its own logins ([`Identities::identity`]), beside a stored one of the same mount. Errors: `BadRequest`.
    pub(crate) async fn merge(&self, from: &[String], to: &str, keep: &[String]) -> Result<()> {
        let from: BTreeSet<&String> = from.iter().collect();
        if from.is_empty() || from.len() > bounds::BATCH_MAX {
            return Err(Error::bad_request(format!("from_entity_ids must have 1 to {} ids, {} were given", bounds::BATCH_MAX, from.len())));
        }
        let mut change = self.change().await?;
        let mut into = self.entity_or_derived(to).await?.ok_or_else(|| Error::bad_request("entity ID to merge to is invalid"))?;
        let is_new = self.entity(&into.id).await?.is_none();
        if is_new {
            into.created = self.clock.now();
        }
        self.name_entity(&mut change, &mut into, None, is_new).await?;
        let mut groups = self.groups_of(Member::Entity(&into.id)).await?;
        let mut lists = Lists::default();
        let mut merged = Vec::new();
        for id in from {
            let row = self.entity_or_derived(id).await?.ok_or_else(|| Error::bad_request("entity ID to merge from is invalid"))?;
            if row.id == into.id {
                return Err(Error::bad_request("to_entity_id should not be present in from_entity_ids"));
            }
            // Named twice, also by one that was merged into it before.
            if merged.contains(&row.id) {
                continue;
            }
            for group in self.groups_of(Member::Entity(&row.id)).await? {
                let list = lists.of(self, &group).await?;
                list.entities.retain(|member| *member != row.id);
                if let Err(place) = list.entities.binary_search(&into.id) {
                    list.entities.insert(place, into.id.clone());
                }
                change.delete(rows::edge_key(Member::Entity(&row.id), &group));
                change.edge(rows::edge_key(Member::Entity(&into.id), &group));
                groups.insert(group);
            }
            if self.entity(&row.id).await?.is_some() {
                change.delete(rows::name_key(Kind::Entity, &row.name, self.barrier()));
                change.delete(rows::entity_key(&row.id));
            }
            merged.push(row.id.clone());
            self.take_in(&mut change, &mut into, row, keep).await?;
        }
        if groups.len() > bounds::DIRECT_GROUPS_MAX || into.aliases.len() > bounds::ALIASES_MAX {
            let (groups, aliases) = (bounds::DIRECT_GROUPS_MAX, bounds::ALIASES_MAX);
            return Err(Error::bad_request(format!("the merged entity would have more than {groups} groups or {aliases} aliases")));
        }
        self.merge_seeds(&mut change, &merged, &into.id).await?;
        // Only now it is certain which aliases are left: what a batch puts stays, whatever it also deletes.
        for alias in &into.aliases {
            self.point_alias(&mut change, alias, &into.id)?;
        }
        lists.put(&mut change)?;
        into.policies = bounds::policies(&into.policies)?;
        into.updated = self.clock.now();
        change.put(rows::entity_key(&into.id), &into)?;
        change.commit().await
    }

    /// Moves what one entity has to another, and leaves a pointer where it was.
    async fn take_in(&self, change: &mut Change<'_>, into: &mut EntityRow, row: EntityRow, keep: &[String]) -> Result<()> {
        for alias in row.aliases {
            let rival = into.aliases.iter().position(|other| other.mount_accessor == alias.mount_accessor);
            let rival = rival.and_then(|place| into.aliases.get(place).map(|other| (place, other.id.clone())));
            match rival {
                Some((_, other)) if keep.contains(&other) && !keep.contains(&alias.id) => {
                    // Its own entity may be one that is merged here.
                    self.part_alias(change, &alias).await?;
                    continue;
                }
                Some((place, other)) if keep.contains(&alias.id) && !keep.contains(&other) => {
                    let dropped = into.aliases.remove(place);
                    self.part_alias(change, &dropped).await?;
                }
                Some((_, other)) => {
                    return Err(Error::bad_request(format!(
                        "two of the entities have aliases of the mount {:?}: name one of {:?} and {other:?} in conflicting_alias_ids_to_keep",
                        alias.mount_accessor, alias.id
                    )));
                }
                None => {}
            }
            into.aliases.push(alias);
        }
        into.policies.extend(row.policies);
        for id in row.merged.into_iter().chain([row.id.clone()]) {
            change.put(rows::merged_key(&id), &Pointer { to: into.id.clone() })?;
            into.merged.push(id);
        }
        Ok(())
    }
}
