//! Policies: stored texts, compiled once, and the decisions of whole policy sets, cached under the configuration version.

use std::collections::HashMap;
use std::sync::Arc;

use daypass_policy::{Acl, DependsOn, Identity, Policy};
use daypass_sdk::{Error, Result};
use daypass_storage::{Batch, Key};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::identity::{Identities, Standing};
use crate::rows::{Rows, config_key};
use crate::tokens::{AliasRef, TokenRow};

/// A policy as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PolicyRow {
    /// The text as it was written: clients compare it to the letter.
    pub(crate) text: String,
}

/// The policies of a server.
pub(crate) struct Policies {
    rows: Rows,
    cache: RwLock<Cache>,
    sets_most: usize,
}

#[derive(Default)]
struct Cache {
    config_version: u64,
    sets: HashMap<Vec<String>, Set>,
    filled: HashMap<(Vec<String>, Asker), Arc<Acl>>,
}

/// A policy set, read and parsed once.
#[derive(Clone)]
enum Set {
    /// The same for everybody who has it.
    Compiled(Arc<Acl>),
    /// With templates: to be filled in for each asker.
    Templated(DependsOn, Arc<[Arc<Policy>]>),
}

/// What of a caller decides how templates are filled, beside what is stored under the same configuration version.
#[derive(PartialEq, Eq, Hash)]
struct Asker {
    entity_id: String,
    /// Where the login matters: all that it proved; else no more than the groups that it reported.
    alias: Option<AliasRef>,
}

impl Policies {
    pub(crate) fn new(rows: Rows, sets_most: usize) -> Self {
        Self { rows, cache: RwLock::default(), sets_most }
    }

    /// The decision maker for a token and its owner, as of `config_version`: of the token's own policies and those of the owner.
    pub(crate) async fn acl(&self, row: &TokenRow, identities: &Identities, standing: &Standing, config_version: u64) -> Result<Arc<Acl>> {
        let names = all_policies(&row.policies, &standing.policies);
        let (depends_on, policies) = match self.set(&names, config_version).await? {
            Set::Compiled(acl) => return Ok(acl),
            Set::Templated(depends_on, policies) => (depends_on, policies),
        };
        let key = (names, asker(row, depends_on));
        {
            let cache = self.cache.read();
            if cache.config_version == config_version
                && let Some(acl) = cache.filled.get(&key)
            {
                return Ok(Arc::clone(acl));
            }
        }
        let acl = Arc::new(Acl::compile(&policies, &identities.identity(row, standing)));
        self.keep(config_version, |cache, most| {
            if cache.filled.len() >= most {
                cache.filled.clear();
            }
            cache.filled.insert(key, Arc::clone(&acl));
        });
        Ok(acl)
    }

    async fn set(&self, names: &[String], config_version: u64) -> Result<Set> {
        {
            let cache = self.cache.read();
            if cache.config_version == config_version
                && let Some(set) = cache.sets.get(names)
            {
                return Ok(set.clone());
            }
        }
        let mut policies = Vec::with_capacity(names.len());
        for name in names {
            if let Some(policy) = self.compiled(name).await? {
                policies.push(Arc::new(policy));
            }
        }
        let depends_on = policies.iter().map(|policy| policy.depends_on()).max().unwrap_or(DependsOn::Nothing);
        let set = match depends_on {
            DependsOn::Nothing => Set::Compiled(Arc::new(Acl::compile(&policies, &Identity::default()))),
            DependsOn::Entity | DependsOn::Login => Set::Templated(depends_on, policies.into()),
        };
        self.keep(config_version, |cache, most| {
            if cache.sets.len() >= most {
                cache.sets.clear();
            }
            cache.sets.insert(names.to_vec(), set.clone());
        });
        Ok(set)
    }

    /// Caches something under its version; what is of an older one is gone then.
    fn keep(&self, config_version: u64, insert: impl FnOnce(&mut Cache, usize)) {
        let mut cache = self.cache.write();
        if cache.config_version < config_version {
            *cache = Cache { config_version, ..Cache::default() };
        }
        if cache.config_version == config_version {
            insert(&mut cache, self.sets_most);
        }
    }

    async fn compiled(&self, name: &str) -> Result<Option<Policy>> {
        match name {
            "root" => return Ok(Some(Policy::root())),
            "response-wrapping" => return parse(name, daypass_policy::RESPONSE_WRAPPING_POLICY).map(Some),
            _ => {}
        }
        let Some((row, _)) = self.rows.get_json::<PolicyRow>(&key(name)).await? else { return Ok(None) };
        parse(name, &row.text).map(Some)
    }

    /// The text of a policy.
    pub(crate) async fn read(&self, name: &str) -> Result<Option<String>> {
        if name == "root" {
            return Ok(Some(String::new()));
        }
        Ok(self.rows.get_json::<PolicyRow>(&key(name)).await?.map(|(row, _)| row.text))
    }

    pub(crate) async fn exists(&self, name: &str) -> Result<bool> {
        Ok(INTERNAL.contains(&name) || self.read(name).await?.is_some())
    }

    /// Stores a policy that parses. Returns remarks.
    pub(crate) async fn write(&self, name: &str, text: &str) -> Result<Vec<String>> {
        let policy = Policy::parse(name, text).map_err(|error| Error::bad_request(error.to_string()))?;
        let row = PolicyRow { text: text.to_owned() };
        self.rows.commit(self.rows.put_json(Batch::new().config_change(), key(name), &row)?).await?;
        Ok(policy.warnings().to_vec())
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        self.rows.commit(Batch::new().delete(key(name)).config_change()).await?;
        Ok(())
    }

    /// Names of all policies, `root` among them.
    pub(crate) async fn list(&self, limit: usize) -> Result<Vec<String>> {
        let (mut names, mut after): (Vec<String>, Option<Vec<u8>>) = (vec!["root".to_owned()], None);
        let prefix = key("");
        loop {
            let page = self.rows.keys(&prefix, after.as_deref(), 1_000).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.to_vec());
            names.extend(
                page.iter().filter_map(|bytes| bytes.get(prefix.bytes.len()..)).map(|name| String::from_utf8_lossy(name).into_owned()),
            );
            if names.len() > limit {
                break;
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// The first text of the `default` policy, stored at init.
pub(crate) fn default_row() -> PolicyRow {
    PolicyRow { text: daypass_policy::DEFAULT_POLICY.to_owned() }
}

pub(crate) fn key(name: &str) -> Key {
    config_key(format!("sys/policy/{name}"))
}

fn parse(name: &str, text: &str) -> Result<Policy> {
    Policy::parse(name, text).map_err(|error| Error::internal(format!("the stored policy {name:?} does not parse any more")).because(error))
}

/// A token's own policies and those of its owner: in order, each once.
pub(crate) fn all_policies(own: &[String], of_identity: &[String]) -> Vec<String> {
    let mut all = own.to_vec();
    if !of_identity.is_empty() {
        all.extend_from_slice(of_identity);
        all.sort_unstable();
        all.dedup();
    }
    all
}

fn asker(row: &TokenRow, depends_on: DependsOn) -> Asker {
    let alias = row.alias.as_ref().and_then(|alias| match depends_on {
        DependsOn::Login => row.inherited_alias(),
        _ if alias.groups.is_empty() => None,
        _ => {
            let mount_accessor = row.alias_mount(alias).to_owned();
            Some(AliasRef { name: String::new(), mount_accessor, metadata: None, groups: alias.groups.clone() })
        }
    });
    Asker { entity_id: row.entity_id.clone(), alias }
}

/// Policies that the core itself defines.
const INTERNAL: [&str; 3] = ["root", "response-wrapping", "control-group"];
