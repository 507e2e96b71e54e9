//! What is stored of entities and groups, and where. Names and aliases are keyed by hashes of them: they may be addresses of people, and
//! keys lie in the store in clear.

use std::collections::BTreeMap;

use daypass_barrier::{Barrier, Purpose};
use daypass_base::Timestamp;
use daypass_storage::{Key, Space};
use serde::{Deserialize, Serialize};

use crate::rows::config_key;

/// An entity that an operator said something about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EntityRow {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) policies: Vec<String>,
    #[serde(default)]
    pub(crate) disabled: bool,
    pub(crate) created: Timestamp,
    pub(crate) updated: Timestamp,
    #[serde(default)]
    pub(crate) aliases: Vec<AliasRow>,
    /// Entities that were merged into this one.
    #[serde(default)]
    pub(crate) merged: Vec<String>,
}

/// How one auth mount knows an entity or an external group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AliasRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) mount_accessor: String,
    #[serde(default)]
    pub(crate) custom_metadata: BTreeMap<String, String>,
    pub(crate) created: Timestamp,
    pub(crate) updated: Timestamp,
}

impl AliasRow {
    /// What is left out stays as it is.
    pub(crate) fn fill(&self, name: &mut String, mount_accessor: &mut String) {
        if name.is_empty() {
            name.clone_from(&self.name);
        }
        if mount_accessor.is_empty() {
            mount_accessor.clone_from(&self.mount_accessor);
        }
    }
}

/// What a group is; its members are a row of their own, because they may be many and requests do not need them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GroupRow {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Its members are those whose login reported the alias.
    #[serde(default)]
    pub(crate) external: bool,
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) policies: Vec<String>,
    pub(crate) created: Timestamp,
    pub(crate) updated: Timestamp,
    /// How often it was changed.
    pub(crate) modify_index: u64,
    #[serde(default)]
    pub(crate) alias: Option<AliasRow>,
}

/// The members of an internal group, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MembersRow {
    #[serde(default)]
    pub(crate) entities: Vec<String>,
    #[serde(default)]
    pub(crate) groups: Vec<String>,
}

/// What an index row leads to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pointer {
    /// The entity or group.
    pub(crate) to: String,
}

/// What is left of a derived entity that was deleted: its id comes back with the next login of its alias, its tokens do not. It stays, since
/// a token may be renewed for ever, and is small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndedRow {
    pub(crate) at: Timestamp,
}

/// The row that every change of the identity store replaces: two changes that do not know of each other cannot both succeed. It is there
/// as soon as anything was ever stored.
pub(crate) fn guard_key() -> Key {
    config_key("identity/guard")
}

pub(crate) fn entity_key(id: &str) -> Key {
    config_key(format!("identity/entity/{id}"))
}

pub(crate) fn group_key(id: &str) -> Key {
    config_key(format!("identity/group/{id}"))
}

pub(crate) fn members_key(id: &str) -> Key {
    config_key(format!("identity/members/{id}"))
}

/// Leads from an entity that was merged away to the one it became.
pub(crate) fn merged_key(id: &str) -> Key {
    config_key(format!("identity/merged/{id}"))
}

/// When a derived entity was deleted last.
pub(crate) fn ended_key(id: &str) -> Key {
    config_key(format!("identity/ended/{id}"))
}

/// A method of second factors.
pub(crate) fn method_key(id: &str) -> Key {
    config_key(format!("identity/mfa/method/{id}"))
}

/// Which logins need second factors.
pub(crate) fn enforcement_key(name: &str) -> Key {
    config_key(format!("identity/mfa/enforcement/{name}"))
}

/// What an entity's authenticator app and this server share for a method.
pub(crate) fn seed_key(entity: &str, method: &str) -> Key {
    config_key(format!("identity/mfa/seed/{entity}/{method}"))
}

/// Which passcode of a seed was taken last.
pub(crate) fn seed_use_key(seed: &str) -> Key {
    config_key(format!("identity/mfa/seed-use/{seed}"))
}

/// All seeds of an entity.
pub(crate) fn seeds_prefix(entity: &str) -> Key {
    config_key(format!("identity/mfa/seed/{entity}/"))
}

/// The seeds of all entities.
pub(crate) fn all_seeds_prefix() -> Key {
    config_key("identity/mfa/seed/")
}

/// Leads from an alias's id to its entity or group.
pub(crate) fn alias_id_key(kind: Kind, id: &str) -> Key {
    config_key(format!("identity/{}-alias-id/{id}", kind.text()))
}

/// Leads from a name to the entity or group. Names differ by more than case.
pub(crate) fn name_key(kind: Kind, name: &str, barrier: &Barrier) -> Key {
    let hash = hashed(barrier, &format!("name {}", name.to_lowercase()));
    config_key(format!("identity/{}-name/{hash}", kind.text()))
}

/// Leads from what a login reports to the entity or group.
pub(crate) fn alias_key(kind: Kind, mount_accessor: &str, name: &str, barrier: &Barrier) -> Key {
    let hash = hashed(barrier, &format!("alias {mount_accessor} {}", name.to_lowercase()));
    config_key(format!("identity/{}-alias/{hash}", kind.text()))
}

/// The edge from a member to a group that it is directly in: between ids, so it holds no value.
pub(crate) fn edge_key(member: Member<'_>, group: &str) -> Key {
    let mut bytes = edges_prefix(member).bytes.to_vec();
    bytes.extend_from_slice(group.as_bytes());
    Key::new(Space::Index, bytes)
}

/// All edges of a member.
pub(crate) fn edges_prefix(member: Member<'_>) -> Key {
    let (kind, id) = match member {
        Member::Entity(id) => ("e", id),
        Member::Group(id) => ("g", id),
    };
    Key::new(Space::Index, format!("i{kind}{id}/").into_bytes())
}

/// Entities and groups have the same indexes, apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Entity,
    Group,
}

impl Kind {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Entity => "entity",
            Self::Group => "group",
        }
    }
}

/// What can be in a group.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Member<'a> {
    Entity(&'a str),
    Group(&'a str),
}

fn hashed(barrier: &Barrier, text: &str) -> String {
    data_encoding::HEXLOWER.encode(&barrier.mac(Purpose::Accessor, text.as_bytes()))
}
