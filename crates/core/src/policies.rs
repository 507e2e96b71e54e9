//! Policies: stored texts, compiled once, and the decisions of whole policy sets, cached under the configuration version.

use std::collections::HashMap;
use std::sync::Arc;

use daypass_policy::{Acl, Entity, Identity, Policy};
use daypass_sdk::{Error, Result};
use daypass_storage::{Batch, Key};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::rows::{Rows, config_key};

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
    sets: HashMap<SetKey, Arc<Acl>>,
}

/// A policy set for one identity.
#[derive(PartialEq, Eq, Hash)]
struct SetKey {
    names: Vec<String>,
    entity_id: String,
}

impl Policies {
    pub(crate) fn new(rows: Rows, sets_most: usize) -> Self {
        Self { rows, cache: RwLock::default(), sets_most }
    }

    /// The decision maker of a policy set, as of `config_version`.
    pub(crate) async fn acl(&self, names: &[String], entity_id: &str, config_version: u64) -> Result<Arc<Acl>> {
        let key = SetKey { names: names.to_vec(), entity_id: entity_id.to_owned() };
        {
            let cache = self.cache.read();
            if cache.config_version == config_version
                && let Some(acl) = cache.sets.get(&key)
            {
                return Ok(Arc::clone(acl));
            }
        }
        let mut policies = Vec::with_capacity(names.len());
        for name in names {
            if let Some(policy) = self.compiled(name).await? {
                policies.push(Arc::new(policy));
            }
        }
        let acl = Arc::new(Acl::compile(&policies, &identity(entity_id)));
        let mut cache = self.cache.write();
        if cache.config_version < config_version {
            cache.sets.clear();
            cache.config_version = config_version;
        }
        if cache.config_version == config_version {
            if cache.sets.len() >= self.sets_most {
                cache.sets.clear();
            }
            cache.sets.insert(key, Arc::clone(&acl));
        }
        Ok(acl)
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
            let page = self.rows.backend().scan(&prefix, after.as_deref(), 1_000).await.map_err(crate::rows::read_error)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.to_vec());
            names.extend(
                page.iter().filter_map(|(bytes, _)| bytes.get(prefix.bytes.len()..)).map(|name| String::from_utf8_lossy(name).into_owned()),
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

fn identity(entity_id: &str) -> Identity {
    let entity = Entity { id: entity_id.to_owned(), ..Entity::default() };
    Identity { entity: (!entity_id.is_empty()).then_some(entity), groups: Vec::new() }
}

/// Policies that the core itself defines.
const INTERNAL: [&str; 3] = ["root", "response-wrapping", "control-group"];
