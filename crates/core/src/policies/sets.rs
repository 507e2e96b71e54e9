//! Policy sets in memory: each arranged once, with what it makes for those who ask.

use std::collections::HashMap;
use std::sync::Arc;

use daypass_policy::{Acl, DependsOn, PolicySet};
use parking_lot::RwLock;

use crate::identity::Standing;
use crate::tokens::{AliasRef, TokenRow};
use crate::weight;

/// The sets of one configuration version.
pub(super) struct Sets {
    cache: RwLock<Cache>,
    /// Most sets, and most decision makers of all of them.
    most: usize,
    /// About how much memory both may take.
    bytes_most: usize,
}

#[derive(Default)]
struct Cache {
    config_version: u64,
    sets: HashMap<Vec<String>, Kept>,
    set_bytes: usize,
    /// How many there are in all sets.
    acls: usize,
    acl_bytes: usize,
}

struct Kept {
    set: Arc<PolicySet>,
    acls: HashMap<Asker, Arc<Acl>>,
}

/// What of a caller decides how templates are filled, beside what is stored under the same configuration version.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Asker {
    entity_id: String,
    /// Where the login matters: all that it proved; else no more than the groups that it has.
    alias: Option<AliasRef>,
}

impl Asker {
    pub(super) fn new(row: &TokenRow, standing: &Standing, depends_on: DependsOn) -> Self {
        if depends_on == DependsOn::Nothing {
            return Self { entity_id: String::new(), alias: None };
        }
        let groups = &standing.reported;
        let alias = row.alias.as_ref().and_then(|alias| match depends_on {
            DependsOn::Login => Some(row.whole_alias(alias, groups.clone())),
            _ if groups.is_empty() => None,
            _ => {
                let mount_accessor = row.alias_mount(alias).to_owned();
                Some(AliasRef { name: String::new(), mount_accessor, metadata: None, groups: groups.clone(), login: None })
            }
        });
        Self { entity_id: row.entity_id.clone(), alias }
    }

    /// About how much memory it takes.
    fn bytes(&self) -> usize {
        let alias = self.alias.as_ref().map_or(0, |alias| {
            let metadata = alias.metadata.as_ref().map_or(0, weight::pairs);
            weight::texts([&alias.name, &alias.mount_accessor].into_iter().chain(&alias.groups)) + metadata
        });
        KEY_BYTES + alias
    }
}

impl Sets {
    pub(super) fn new(most: usize, bytes_most: usize) -> Self {
        Self { cache: RwLock::default(), most, bytes_most }
    }

    /// The set of these policies.
    pub(super) fn set(&self, config_version: u64, names: &[String]) -> Option<Arc<PolicySet>> {
        let cache = self.cache.read();
        cache.kept(config_version, names).map(|kept| Arc::clone(&kept.set))
    }

    /// The decision maker for a token that has these policies.
    pub(super) fn acl(&self, config_version: u64, names: &[String], row: &TokenRow, standing: &Standing) -> Option<Arc<Acl>> {
        let cache = self.cache.read();
        let kept = cache.kept(config_version, names)?;
        kept.acls.get(&Asker::new(row, standing, kept.set.depends_on())).map(Arc::clone)
    }

    pub(super) fn keep_set(&self, config_version: u64, names: Vec<String>, set: Arc<PolicySet>) {
        self.keep(config_version, set.bytes() + names_bytes(&names), |cache| {
            cache.place(names, set);
        });
    }

    pub(super) fn keep_acl(&self, config_version: u64, names: Vec<String>, set: Arc<PolicySet>, asker: Asker, acl: Arc<Acl>) {
        let bytes = acl.bytes() + asker.bytes();
        self.keep(config_version, bytes, |cache| {
            if cache.place(names, set).acls.insert(asker, acl).is_none() {
                cache.acls += 1;
                cache.acl_bytes += bytes;
            }
        });
    }

    /// Keeps something under its version; what is of an older one is gone then.
    fn keep(&self, config_version: u64, bytes: usize, insert: impl FnOnce(&mut Cache)) {
        let mut cache = self.cache.write();
        if cache.config_version < config_version {
            *cache = Cache { config_version, ..Cache::default() };
        }
        if cache.config_version == config_version {
            cache.make_room(bytes, self.most, self.bytes_most);
            insert(&mut cache);
        }
    }
}

impl Cache {
    fn kept(&self, config_version: u64, names: &[String]) -> Option<&Kept> {
        if self.config_version == config_version { self.sets.get(names) } else { None }
    }

    /// Forgets what was made for callers, and the sets as well where that is not enough.
    fn make_room(&mut self, bytes: usize, most: usize, bytes_most: usize) {
        if self.acls >= most || self.set_bytes + self.acl_bytes + bytes > bytes_most {
            for kept in self.sets.values_mut() {
                kept.acls = HashMap::new();
            }
            (self.acls, self.acl_bytes) = (0, 0);
        }
        if self.sets.len() >= most || self.set_bytes + bytes > bytes_most {
            *self = Self { config_version: self.config_version, ..Self::default() };
        }
    }

    /// Where a set is kept; two who made the same at once share one of them.
    fn place(&mut self, names: Vec<String>, set: Arc<PolicySet>) -> &mut Kept {
        let bytes = names_bytes(&names);
        self.sets.entry(names).or_insert_with(|| {
            self.set_bytes += set.bytes() + bytes;
            Kept { set, acls: HashMap::new() }
        })
    }
}

/// About how much memory the names of a set take: a token may have policies with names of 256 KiB together.
fn names_bytes(names: &[String]) -> usize {
    KEY_BYTES + weight::texts(names)
}

/// About how much memory a set or a caller takes besides its texts.
const KEY_BYTES: usize = 512;

#[cfg(test)]
impl Sets {
    /// How many sets and decision makers there are, and about how much memory they take.
    pub(super) fn weighed(&self) -> (usize, usize, usize) {
        let cache = self.cache.read();
        (cache.sets.len(), cache.acls, cache.set_bytes + cache.acl_bytes)
    }
}
