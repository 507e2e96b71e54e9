//! Policies: stored texts, compiled once, and the decisions of whole policy sets, cached under the configuration version.

mod sets;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use daypass_policy::{Acl, DependsOn, Identity, Policy, PolicyError, PolicySet};
use daypass_sdk::{Error, Result};
use daypass_storage::{Batch, Key};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use self::sets::{Asker, Sets};
use crate::identity::{Identities, Standing};
use crate::rows::{Rows, config_key};
use crate::tokens::TokenRow;

/// A policy as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PolicyRow {
    /// The text as it was written: clients compare it to the letter.
    pub(crate) text: String,
}

/// The policies of a server.
pub(crate) struct Policies {
    rows: Rows,
    sets: Arc<Sets>,
    /// Who asks for a set that is not there: the first reads its policies, the others wait for that.
    asking: Mutex<HashMap<Vec<String>, Arc<tokio::sync::Mutex<()>>>>,
    /// Whoever arranges something large has it: several who want the same wait for the first of them.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// A policy on its way to be parsed.
struct Source {
    name: String,
    /// `None` for the root policy.
    text: Option<Cow<'static, str>>,
}

impl Policies {
    pub(crate) fn new(rows: Rows, sets_most: usize, bytes_most: usize) -> Self {
        Self { rows, sets: Arc::new(Sets::new(sets_most, bytes_most)), asking: Mutex::default(), turn: Arc::default() }
    }

    /// The decision maker for a token and its owner, as of `config_version`: of the token's own policies and those of the owner.
    pub(crate) async fn acl(&self, row: &TokenRow, identities: &Identities, standing: &Standing, config_version: u64) -> Result<Arc<Acl>> {
        let names = all_policies(&row.policies, &standing.policies);
        if let Some(acl) = self.sets.acl(config_version, &names, row, standing) {
            return Ok(acl);
        }
        let set = self.set(&names, config_version).await?;
        let asker = Asker::new(row, standing, set.depends_on());
        let identity = if set.depends_on() == DependsOn::Nothing { Identity::default() } else { identities.identity(row, standing) };
        let (sets, key) = (Arc::clone(&self.sets), names.clone());
        let (is_large, find) = (set.fill_bytes() > FILL_BYTES_HERE_MAX, || self.sets.acl(config_version, &names, row, standing));
        self.made(is_large, find, move || {
            let acl = Arc::new(set.acl(&identity));
            sets.keep_acl(config_version, key, set, asker, Arc::clone(&acl));
            Ok(acl)
        })
        .await
    }

    async fn set(&self, names: &[String], config_version: u64) -> Result<Arc<PolicySet>> {
        let find = || self.sets.set(config_version, names);
        if let Some(set) = find() {
            return Ok(set);
        }
        let line = self.line(names);
        let _first = line.lock().await;
        if let Some(set) = find() {
            return Ok(set);
        }
        let mut sources = Vec::with_capacity(names.len());
        for name in names {
            sources.extend(self.source(name).await?);
        }
        let bytes: usize = sources.iter().filter_map(|source| source.text.as_ref()).map(|text| text.len()).sum();
        let (sets, key) = (Arc::clone(&self.sets), names.to_vec());
        self.made(bytes > TEXT_BYTES_HERE_MAX, find, move || {
            let policies = sources.into_iter().map(|source| source.parse().map(Arc::new)).collect::<Result<_>>()?;
            let set = Arc::new(PolicySet::new(policies));
            sets.keep_set(config_version, key, Arc::clone(&set));
            Ok(set)
        })
        .await
    }

    /// Where those stand who ask for this set.
    fn line(&self, names: &[String]) -> Arc<tokio::sync::Mutex<()>> {
        let mut asking = self.asking.lock();
        asking.retain(|_, line| Arc::strong_count(line) > 1);
        Arc::clone(asking.entry(names.to_vec()).or_default())
    }

    /// Makes something: what is large off the runtime, one after the other, unless somebody made it meanwhile. A caller who gives up does not
    /// end the work, so that it is there for the next. Errors: those of the work, or `Internal` when it ended early.
    async fn made<T: Send + 'static>(
        &self,
        is_large: bool,
        find: impl Fn() -> Option<T> + Send,
        make: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if !is_large {
            return make();
        }
        let turn = Arc::clone(&self.turn).lock_owned().await;
        if let Some(found) = find() {
            return Ok(found);
        }
        let work = tokio::task::spawn_blocking(move || {
            let made = make();
            drop(turn);
            made
        });
        work.await.map_err(|error| Error::internal("arranging policies ended early").because(error))?
    }

    async fn source(&self, name: &str) -> Result<Option<Source>> {
        let text = match name {
            "root" => None,
            "response-wrapping" => Some(daypass_policy::RESPONSE_WRAPPING_POLICY.into()),
            _ => match self.rows.get_json::<PolicyRow>(&key(name)).await? {
                Some((row, _)) => Some(row.text.into()),
                None => return Ok(None),
            },
        };
        Ok(Some(Source { name: name.to_owned(), text }))
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
        let given = Source { name: name.to_owned(), text: Some(text.to_owned().into()) };
        let parse = move || given.policy().map_err(|error| Error::bad_request(error.to_string()));
        let policy = self.made(text.len() > TEXT_BYTES_HERE_MAX, || None, parse).await?;
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

impl Source {
    fn policy(&self) -> std::result::Result<Policy, PolicyError> {
        self.text.as_ref().map_or_else(|| Ok(Policy::root()), |text| Policy::parse(&self.name, text))
    }

    fn parse(&self) -> Result<Policy> {
        self.policy().map_err(|error| Error::internal(format!("the stored policy {:?} does not parse any more", self.name)).because(error))
    }
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

/// Policies that the core itself defines.
const INTERNAL: [&str; 3] = ["root", "response-wrapping", "control-group"];
/// Policies with more text than this are parsed off the runtime: about a thousand stanzas.
const TEXT_BYTES_HERE_MAX: usize = 64 << 10;
/// So is what fills in more than this for one caller.
const FILL_BYTES_HERE_MAX: usize = 512 << 10;

#[cfg(test)]
mod tests;
