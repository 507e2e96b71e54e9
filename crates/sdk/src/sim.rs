//! A mount's storage in memory, for tests of engines: the meaning of [`Storage`] without a barrier or a disk.
//!
//! It must not be used outside tests: nothing is sealed and nothing survives.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use daypass_base::BoxFuture;

use crate::store::{Changes, CommitFailure, Entry, Expect, Storage};
use crate::{Error, Result};

/// Values at keys in one ordered map.
#[derive(Default)]
pub struct MemoryStorage {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<String, Entry>,
    commits: u64,
    /// The puts: no row has a higher version.
    newest: u64,
    failing: bool,
}

impl MemoryStorage {
    /// An empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All keys, in order.
    pub fn keys(&self) -> Vec<String> {
        self.state().rows.keys().cloned().collect()
    }

    /// How many commits were applied so far.
    pub fn commits(&self) -> u64 {
        self.state().commits
    }

    /// From now on every call fails (`true`) or works again (`false`), as when a disk is gone.
    pub fn set_failing(&self, failing: bool) {
        self.state().failing = failing;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn working(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.failing { Err(Error::internal("the storage was told to fail")) } else { Ok(state) }
    }
}

impl State {
    fn holds(&self, key: &str, expect: Expect) -> bool {
        let version = self.rows.get(key).map(|entry| entry.version);
        match expect {
            Expect::Absent => version.is_none(),
            Expect::Exists => version.is_some(),
            Expect::Version(wanted) => version == Some(wanted),
        }
    }

    fn apply(&mut self, changes: Changes) -> Result<(), CommitFailure> {
        if let Some(failed) = changes.expectations.iter().position(|(key, expect)| !self.holds(key, *expect)) {
            return Err(CommitFailure::Conflict(failed));
        }
        for key in &changes.deletes {
            self.rows.remove(key);
        }
        for (key, value) in changes.puts {
            self.newest += 1;
            let version = self.rows.get(&key).map_or(self.newest, |entry| entry.version + 1);
            self.rows.insert(key, Entry { value, version });
        }
        self.commits += 1;
        Ok(())
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let rows = self.rows.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        for (key, _) in rows {
            let Some(below) = key.strip_prefix(prefix) else { break };
            let name = below.find('/').and_then(|slash| below.get(..=slash)).unwrap_or(below);
            if name.is_empty() || after.is_some_and(|after| name <= after) || names.last().is_some_and(|last| last == name) {
                continue;
            }
            if names.len() == limit {
                break;
            }
            names.push(name.to_owned());
        }
        names
    }
}

impl Storage for MemoryStorage {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>>> {
        Box::pin(async move { Ok(self.working()?.rows.get(key).cloned()) })
    }

    fn get_each<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<Vec<Option<Result<Entry>>>>> {
        Box::pin(async move {
            let state = self.working()?;
            Ok(keys.iter().map(|key| state.rows.get(key).cloned().map(Ok)).collect())
        })
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move { Ok(self.working()?.list(prefix, after, limit)) })
    }

    fn commit(&self, changes: Changes) -> BoxFuture<'_, Result<(), CommitFailure>> {
        Box::pin(async move { self.working().map_err(CommitFailure::Error)?.apply(changes) })
    }

    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.working()?.rows.retain(|key, _| !key.starts_with(prefix));
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[tokio::test]
    async fn conditions_hold_for_the_whole_change_or_nothing_happens() {
        let store = Store::new(std::sync::Arc::new(MemoryStorage::new()));
        store.commit(Changes::new().expect("a", Expect::Absent).put("a", vec![1])).await.unwrap();
        let read = store.get("a").await.unwrap();
        let stale = Changes::new().expect("b", Expect::Absent).unchanged("a", None).put("b", vec![2]);
        assert!(matches!(store.commit(stale).await, Err(CommitFailure::Conflict(1))));
        assert_eq!(store.get("b").await.unwrap(), None);
        store.commit(Changes::new().unchanged("a", read.as_ref()).put("a", vec![3])).await.unwrap();
        assert_eq!(store.get("a").await.unwrap(), Some(Entry { value: vec![3], version: 2 }));
    }

    #[tokio::test]
    async fn lists_fold_at_slashes() {
        let store = Store::new(std::sync::Arc::new(MemoryStorage::new()));
        for key in ["p/a", "p/a/x", "p/a/y", "p/b", "q"] {
            store.commit(Changes::new().put(key, vec![])).await.unwrap();
        }
        assert_eq!(store.list("p/").await.unwrap(), ["a", "a/", "b"]);
        assert_eq!(store.list_page("p/", Some("a"), 1).await.unwrap(), ["a/"]);
    }
}
