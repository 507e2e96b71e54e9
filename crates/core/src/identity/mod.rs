//! Who callers are: entities, their aliases and groups, and what policies these add to a token.
//!
//! A login's entity is derived from its alias and stored nowhere ([`derived`]). A row is made when an operator first says something about
//! it: creates an alias for it, gives it policies, disables it. Rows of this store are configuration: every change raises the
//! configuration version, and what is cached here holds for one version alone, so nothing stale is ever judged by.

pub(crate) mod aliases;
pub(crate) mod bounds;
mod change;
pub(crate) mod derived;
pub(crate) mod entities;
pub(crate) mod group_aliases;
pub(crate) mod groups;
mod merge;
pub(crate) mod mfa;
pub(crate) mod oidc;
pub(crate) mod rows;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use daypass_base::{Brief, Clock, Entropy, Timestamp};
use daypass_policy::{Acl, Alias, Entity, Group, Identity};
use daypass_sdk::{Error, Result, TokenId};
use daypass_storage::Key;
use parking_lot::RwLock;

use crate::node::Unsealed;
use crate::rows::Rows;
use crate::tokens::{AliasRef, TokenRow, token_key};
use crate::weight;
use rows::{EndedRow, EntityRow, GroupRow, Kind, Member, Pointer};

/// The identity store.
pub(crate) struct Identities {
    rows: Rows,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    cache: RwLock<Cache>,
    cached_most: usize,
    /// Second factors of logins.
    pub(crate) mfa: mfa::Mfa,
    /// One change at a time; other nodes are kept apart by the guard row.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Cache {
    config_version: u64,
    /// Nothing was ever stored here: no look-up is needed.
    unused: bool,
    standings: HashMap<Who, Arc<Standing>>,
    /// About how much memory they take.
    bytes: usize,
}

/// Which entity or group is written. Whose a name is is found out while nobody else changes anything: of several who write the same name at once
/// one makes it, and the others change that.
pub(crate) enum Target {
    /// The one of this id.
    Id(String),
    /// The one of this name, or a new one.
    Name(String),
    New,
}

impl Target {
    /// As clients say it: the id decides, else the name.
    pub(crate) fn of(id: &str, name: Option<&str>) -> Self {
        match (id, name.unwrap_or_default()) {
            ("", "") => Self::New,
            ("", name) => Self::Name(name.to_owned()),
            (id, _) => Self::Id(id.to_owned()),
        }
    }
}

/// What decides somebody's standing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Who {
    entity_id: String,
    /// Of the mount that reported the groups; empty without groups.
    mount_accessor: String,
    groups: Vec<String>,
}

/// Which tokens of an entity a deletion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Ended {
    /// All: the entity was stored once, is deleted, and no login brings it back.
    All,
    #[default]
    None,
    /// Those of logins until then: a login of now has the same entity, anew.
    Until(Timestamp),
}

/// What the identity store says of the owner of a token. Empty for most.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Whose tokens are refused because the entity was deleted.
    ended: Ended,
    /// The stored entity, or the one that it was merged into.
    pub(crate) entity: Option<EntityRow>,
    /// Policies of the entity and all its groups, in order.
    pub(crate) policies: Vec<String>,
    /// All its groups, as templates see them.
    groups: Vec<Group>,
    /// Aliases of external groups that the login has.
    pub(crate) reported: Vec<String>,
}

impl Standing {
    /// The id of the stored entity, which is another than that of a login whose entity was merged into it.
    pub(crate) fn current_id<'a>(&'a self, entity_id: &'a str) -> &'a str {
        self.entity.as_ref().map_or(entity_id, |entity| entity.id.as_str())
    }

    /// Whether tokens of a login of that time are to be refused: disabled, or deleted since. Who deletes an entity with a `deny` does not
    /// mean to lift that.
    pub(crate) fn refuses(&self, since: Timestamp) -> bool {
        let is_ended = match self.ended {
            Ended::All => true,
            Ended::None => false,
            Ended::Until(at) => since <= at,
        };
        is_ended || self.entity.as_ref().is_some_and(|entity| entity.disabled)
    }

    /// About how much memory it takes.
    fn bytes(&self) -> usize {
        let lists = weight::texts(self.policies.iter().chain(&self.reported));
        let groups = self.groups.iter().map(|group| weight::texts([&group.id, &group.name]) + weight::pairs(&group.metadata));
        let entity = self.entity.iter().map(|entity| {
            let aliases = entity.aliases.iter().map(|alias| size_of_val(alias) + alias.name.len() + weight::pairs(&alias.custom_metadata));
            weight::texts(entity.policies.iter().chain(&entity.merged)) + weight::pairs(&entity.metadata) + aliases.sum::<usize>()
        });
        size_of::<Self>() + lists + groups.chain(entity).sum::<usize>()
    }
}

/// What standings in memory may take; beyond, all are forgotten and read again, as with too many of them.
const STANDINGS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a token may do, and what of that comes from who owns it.
pub(crate) struct Authority {
    pub(crate) acl: Arc<Acl>,
    pub(crate) standing: Arc<Standing>,
}

impl Unsealed {
    /// What a token may do at a configuration version: its own policies and those of its owner. Every judgement asks here.
    /// Errors: `Denied` while the owner is disabled, and when it was deleted.
    pub(crate) async fn authority(&self, row: &TokenRow, config_version: u64) -> Result<Authority> {
        let standing = self.identities.standing(row, config_version).await?;
        if standing.refuses(row.entity_since()) {
            return Err(crate::stages::identify::denied());
        }
        let acl = self.policies.acl(row, &self.identities, &standing, config_version).await?;
        Ok(Authority { acl, standing })
    }
}

impl Identities {
    pub(crate) fn new(rows: Rows, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, cached_most: usize) -> Self {
        Self {
            rows,
            clock,
            entropy,
            cache: RwLock::default(),
            cached_most,
            mfa: mfa::Mfa::default(),
            changing: tokio::sync::Mutex::new(()),
        }
    }

    /// The entity of a login: the one that an operator bound to the alias, else the alias's own. Also the configuration version at that
    /// moment. Costs one read.
    pub(crate) async fn entity_of_alias(&self, mount_accessor: &str, alias: &str) -> Result<(String, u64)> {
        let key = rows::alias_key(Kind::Entity, mount_accessor, alias, self.rows.barrier());
        let (plain, config_version) = self.rows.get(&key).await?;
        let id = match plain {
            Some(plain) => crate::rows::parse::<Pointer>(&key, &plain.value)?.to,
            None => derived::entity_id(self.rows.barrier(), mount_accessor, alias),
        };
        Ok((id, config_version))
    }

    /// Whose a login of this entity is from now on: its own, or that of the entity which it was merged into. Also what is known of that one, with
    /// the groups that a mount reported.
    pub(crate) async fn owner_of_login(
        &self,
        entity_id: String,
        reported: (&str, &[String]),
        config_version: u64,
    ) -> Result<(String, Arc<Standing>)> {
        let standing = self.standing_of(&entity_id, reported, config_version).await?;
        let current = standing.current_id(&entity_id);
        if current == entity_id {
            return Ok((entity_id, standing));
        }
        let current = current.to_owned();
        let standing = self.standing_of(&current, reported, config_version).await?;
        Ok((current, standing))
    }

    /// The names among `reported` that are aliases of external groups: what a token has to remember of its login. All are looked up: one that was
    /// left out could be that of a group that denies, or of which a second factor is wanted. Errors: `BadRequest` when they are too many.
    pub(crate) async fn known_groups(&self, mount_accessor: &str, reported: &[String]) -> Result<Vec<String>> {
        let names: BTreeSet<String> = reported.iter().map(|name| name.to_lowercase()).collect();
        if names.len() > bounds::REPORTED_GROUPS_MAX {
            return Err(Error::bad_request(format!(
                "the auth method reported {} names of groups of this login, over the limit of {}: leave some of the groups there",
                names.len(),
                bounds::REPORTED_GROUPS_MAX
            )));
        }
        let names: Vec<String> = names.into_iter().collect();
        let found = self.groups_of_aliases(mount_accessor, &names).await?;
        Ok(names.into_iter().zip(found).filter(|(_, found)| found.is_some()).map(|(name, _)| name).collect())
    }

    /// The external groups that these names are aliases of, each in its place.
    async fn groups_of_aliases(&self, mount_accessor: &str, names: &[String]) -> Result<Vec<Option<String>>> {
        let mut out = Vec::with_capacity(names.len());
        for names in names.chunks(PAGE) {
            let keys: Vec<_> = names.iter().map(|name| rows::alias_key(Kind::Group, mount_accessor, name, self.rows.barrier())).collect();
            for (key, plain) in keys.iter().zip(self.rows.get_many(&keys).await?) {
                let pointer = plain.map(|plain| crate::rows::parse::<Pointer>(key, &plain.value)).transpose()?;
                out.push(pointer.map(|pointer| pointer.to));
            }
        }
        Ok(out)
    }

    /// Whether a token's owner is disabled or was deleted, at a configuration version.
    pub(crate) async fn refuses(&self, row: &TokenRow, config_version: u64) -> Result<bool> {
        Ok(self.standing(row, config_version).await?.refuses(row.entity_since()))
    }

    /// What is known of a token's owner, as of `config_version`. Nobody is looked up twice under one version. External groups are those that
    /// the login's own token has at this moment: of a child whose login is gone, none.
    pub(crate) async fn standing(&self, row: &TokenRow, config_version: u64) -> Result<Arc<Standing>> {
        let Some(alias) = &row.alias else {
            return self.standing_of(&row.entity_id, ("", &[]), config_version).await;
        };
        let mount_accessor = row.alias_mount(alias);
        let Some(login) = alias.login.filter(|_| !self.is_unused(config_version)) else {
            return self.standing_of(&row.entity_id, (mount_accessor, &alias.groups), config_version).await;
        };
        let login = self.rows.find::<TokenRow>(&token_key(TokenId(login))).await?.0;
        let groups = login.as_ref().map_or(&[][..], |login| login.value.groups_for(row));
        self.standing_of(&row.entity_id, (mount_accessor, groups), config_version).await
    }

    /// Whether it is known that nothing is stored here, so that nobody is in a group.
    fn is_unused(&self, config_version: u64) -> bool {
        let cache = self.cache.read();
        cache.config_version == config_version && cache.unused
    }

    /// The same of an entity, with the groups that a mount reported of it.
    pub(crate) async fn standing_of(&self, entity_id: &str, reported: (&str, &[String]), config_version: u64) -> Result<Arc<Standing>> {
        if entity_id.is_empty() {
            return Ok(Arc::default());
        }
        let mut who = Who { entity_id: entity_id.to_owned(), mount_accessor: String::new(), groups: Vec::new() };
        if let (mount_accessor, groups @ [_, ..]) = reported {
            mount_accessor.clone_into(&mut who.mount_accessor);
            who.groups = groups.to_vec();
        }
        let known = {
            let cache = self.cache.read();
            (cache.config_version == config_version).then(|| (cache.unused, cache.standings.get(&who).cloned()))
        };
        match known {
            Some((true, _)) => return Ok(Arc::default()),
            Some((false, Some(standing))) => return Ok(standing),
            Some((false, None)) => {}
            None => {
                let unused = self.rows.get(&rows::guard_key()).await?.0.is_none();
                self.note_version(config_version, unused);
                if unused {
                    return Ok(Arc::default());
                }
            }
        }
        let standing = Arc::new(self.find_standing(&who).await?);
        let mut cache = self.cache.write();
        if cache.config_version == config_version {
            let bytes = weight::texts(&who.groups) + standing.bytes();
            if cache.standings.len() >= self.cached_most || cache.bytes + bytes > STANDINGS_BYTES_MAX {
                cache.standings.clear();
                cache.bytes = 0;
            }
            if cache.standings.insert(who, Arc::clone(&standing)).is_none() {
                cache.bytes += bytes;
            }
        }
        Ok(standing)
    }

    fn note_version(&self, config_version: u64, unused: bool) {
        let mut cache = self.cache.write();
        if cache.config_version < config_version {
            *cache = Cache { config_version, unused, ..Cache::default() };
        }
    }

    async fn find_standing(&self, who: &Who) -> Result<Standing> {
        let (entity, ended) = self.owner(&who.entity_id).await?;
        let mut direct = match &entity {
            Some(entity) => self.direct_groups(entity).await?,
            None => self.groups_of(Member::Entity(&who.entity_id)).await?,
        };
        direct.extend(self.groups_of_aliases(&who.mount_accessor, &who.groups).await?.into_iter().flatten());
        let found = self.inheritance(direct).await?;
        let mut policies: BTreeSet<String> = entity.iter().flat_map(|entity| entity.policies.iter().cloned()).collect();
        policies.extend(found.groups.values().flat_map(|group| group.policies.iter().cloned()));
        let shown = |group: &GroupRow| Group { id: group.id.clone(), name: group.name.clone(), metadata: group.metadata.clone() };
        Ok(Standing {
            ended: match ended {
                Some(ended) => Ended::Until(ended.at),
                None if entity.is_none() && !derived::is_entity_id(self.rows.barrier(), &who.entity_id) => Ended::All,
                None => Ended::None,
            },
            entity,
            groups: found.groups.values().map(shown).collect(),
            policies: policies.into_iter().collect(),
            reported: who.groups.clone(),
        })
    }

    /// The stored entity of an id, or the one that it was merged into.
    pub(crate) async fn current_entity(&self, id: &str) -> Result<Option<EntityRow>> {
        Ok(self.owner(id).await?.0)
    }

    /// The same, and what is left of an earlier one of this id.
    async fn owner(&self, id: &str) -> Result<(Option<EntityRow>, Option<EndedRow>)> {
        let (own, merged, ended) = (rows::entity_key(id), rows::merged_key(id), rows::ended_key(id));
        let mut found = self.rows.get_many(&[own.clone(), merged.clone(), ended.clone()]).await?.into_iter();
        let mut next = || found.next().flatten();
        let (stored, pointer, left) = (next(), next(), next());
        let left = left.map(|plain| crate::rows::parse(&ended, &plain.value)).transpose()?;
        let entity = match (stored, pointer) {
            (Some(plain), _) => Some(crate::rows::parse(&own, &plain.value)?),
            // A merge leads to the last one at once: merging again rewrites what led to the one before.
            (None, Some(plain)) => self.entity(&crate::rows::parse::<Pointer>(&merged, &plain.value)?.to).await?,
            (None, None) => None,
        };
        Ok((entity, left))
    }

    /// The groups that an entity is in itself. Older versions took the id of a merged entity for a member: that means this one.
    async fn direct_groups(&self, entity: &EntityRow) -> Result<BTreeSet<String>> {
        let mut groups = self.groups_of(Member::Entity(&entity.id)).await?;
        for merged in &entity.merged {
            groups.extend(self.groups_of(Member::Entity(merged)).await?);
        }
        Ok(groups)
    }

    /// The caller as policy templates see it.
    pub(crate) fn identity(&self, row: &TokenRow, standing: &Standing) -> Identity {
        if row.entity_id.is_empty() {
            return Identity::default();
        }
        let alias = row.alias.as_ref().map(|alias| self.alias_of_token(row, alias));
        let entity = match &standing.entity {
            None => Entity {
                id: row.entity_id.clone(),
                name: derived::entity_name(&row.entity_id),
                aliases: alias.into_iter().collect(),
                ..Entity::default()
            },
            Some(stored) => {
                let mut aliases: Vec<Alias> = stored.aliases.iter().map(|stored| stored_alias(stored, alias.as_ref())).collect();
                // A derived entity that is stored has its own alias by derivation, as has one that such an entity was merged into; an operator's
                // entity only those that it was given. Who logs in by its own is called so, also where another of the same mount is stored: nobody
                // could know, when that was given or merged, that there would be two.
                let own = alias.filter(|alias| {
                    let mut ids = stored.merged.iter().chain([&row.entity_id]);
                    !stored.aliases.iter().any(|stored| is_stored(alias, stored))
                        && ids.any(|id| derived::is_of_alias(self.rows.barrier(), id, &alias.mount_accessor, &alias.name))
                });
                if let Some(own) = own {
                    aliases.retain(|alias| alias.mount_accessor != own.mount_accessor);
                    aliases.push(own);
                }
                Entity { id: stored.id.clone(), name: stored.name.clone(), metadata: stored.metadata.clone(), aliases }
            }
        };
        Identity { entity: Some(entity), groups: standing.groups.clone() }
    }

    /// How the method that made the token, or the one it descends from, knew its owner.
    fn alias_of_token(&self, row: &TokenRow, alias: &AliasRef) -> Alias {
        let mount_accessor = row.alias_mount(alias).to_owned();
        Alias {
            id: derived::alias_id(self.rows.barrier(), &mount_accessor, &alias.name),
            name: alias.name.clone(),
            metadata: row.alias_metadata(alias).cloned().unwrap_or_default(),
            mount_accessor,
            ..Alias::default()
        }
    }

    /// The groups that an entity is in itself, and those that it is in through them; both in order.
    pub(crate) async fn memberships(&self, entity: &EntityRow) -> Result<(Vec<String>, Vec<String>)> {
        let found = self.inheritance(self.direct_groups(entity).await?).await?;
        Ok((found.direct, found.inherited))
    }

    pub(crate) fn barrier(&self) -> &daypass_barrier::Barrier {
        self.rows.barrier()
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, key: &Key) -> Result<Option<T>> {
        Ok(self.rows.get_json(key).await?.map(|(row, _version)| row))
    }

    /// Reads the rows of a kind of which no more than so many are ever stored, in the order of ids.
    async fn scan_all<T: serde::de::DeserializeOwned + Send>(&self, prefix: &Key, limit: usize) -> Result<Vec<T>> {
        let mut out = Vec::new();
        let show = |row| {
            out.push(row);
            out.len() < limit
        };
        self.scan_each(prefix, None, show).await?;
        Ok(out)
    }

    /// Shows the rows of a kind behind a key, a page at a time, in the order of ids, until `show` says that it has seen enough.
    async fn scan_each<T: serde::de::DeserializeOwned + Send>(
        &self,
        prefix: &Key,
        after: Option<Key>,
        mut show: impl FnMut(T) -> bool + Send,
    ) -> Result<()> {
        let mut after = after.map(|key| key.bytes.to_vec());
        loop {
            let page = self.rows.scan(prefix, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.bytes.to_vec());
            for (key, plain) in page {
                if !show(crate::rows::parse(&key, &plain.value)?) {
                    return Ok(());
                }
            }
        }
    }
}

/// A stored alias; what the method noted at login is known when the token comes from that very alias.
fn stored_alias(stored: &rows::AliasRow, of_token: Option<&Alias>) -> Alias {
    Alias {
        id: stored.id.clone(),
        mount_accessor: stored.mount_accessor.clone(),
        name: stored.name.clone(),
        metadata: of_token.filter(|alias| is_stored(alias, stored)).map(|alias| alias.metadata.clone()).unwrap_or_default(),
        custom_metadata: stored.custom_metadata.clone(),
    }
}

fn is_stored(alias: &Alias, stored: &rows::AliasRow) -> bool {
    alias.mount_accessor == stored.mount_accessor && alias.name.to_lowercase() == stored.name.to_lowercase()
}

/// A refusal that blames somebody who changed the same thing.
fn changed_meanwhile() -> Error {
    Error::failed("the identity store was changed by somebody else at the same moment: nothing was written; try again")
}

/// A refusal of an id that is an entity's no more, with the one that is meant by it.
fn merged_into(id: &str, into: &str) -> Error {
    Error::bad_request(format!("invalid entity ID {:?}: it was merged into {into:?}, which its logins have now; name that one", Brief(id)))
}

const PAGE: usize = 500;
