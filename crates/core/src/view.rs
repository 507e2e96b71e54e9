//! A mount's own storage: every key below `mount/<uuid>/`.

use daypass_base::BoxFuture;
use daypass_sdk::{Changes, CommitFailure, Entry, Error, Expect, Parse, Result, Shared, Storage, Store};
use daypass_storage::{Batch, Condition, Key, Space};
use std::sync::Arc;

use crate::rows::Rows;

/// The storage of what lies under `prefix`.
pub(crate) fn store(rows: &Rows, prefix: String) -> Store {
    Store::new(Arc::new(View { rows: rows.clone(), prefix }))
}

/// Where a mount's data lies.
pub(crate) fn mount_prefix(uuid: &str) -> String {
    format!("mount/{uuid}/")
}

/// Changes of a mount's storage as a part of a larger batch.
pub(crate) fn batch(rows: &Rows, mount_uuid: &str, changes: Changes) -> Result<Batch> {
    batch_below(rows, mount_prefix(mount_uuid), changes)
}

/// Changes of what lies under `prefix` as a part of a larger batch.
pub(crate) fn batch_below(rows: &Rows, prefix: String, changes: Changes) -> Result<Batch> {
    View { rows: rows.clone(), prefix }.batch(changes)
}

struct View {
    rows: Rows,
    prefix: String,
}

impl View {
    fn key(&self, key: &str) -> Result<Key> {
        // The last line of defence: engines are to refuse such paths with their own texts.
        if key.split('/').any(|part| part == "..") {
            return Err(Error::bad_request("relative paths not supported"));
        }
        Ok(self.raw(key))
    }

    fn raw(&self, key: &str) -> Key {
        let mut bytes = Vec::with_capacity(self.prefix.len() + key.len());
        bytes.extend_from_slice(self.prefix.as_bytes());
        bytes.extend_from_slice(key.as_bytes());
        Key::new(Space::Config, bytes)
    }

    fn batch(&self, changes: Changes) -> Result<Batch> {
        let mut batch = Batch { takes_back: changes.takes_back, ..Batch::new() };
        for (key, expect) in changes.expectations {
            let condition = match expect {
                Expect::Absent => Condition::Absent,
                Expect::Exists => Condition::Exists,
                Expect::Version(version) => Condition::Version(version),
            };
            batch.conditions.push((self.key(&key)?, condition));
        }
        for (key, value) in changes.puts {
            batch = self.rows.put(batch, self.key(&key)?, &value)?;
        }
        for key in changes.deletes {
            batch.deletes.push(self.key(&key)?);
        }
        Ok(batch)
    }
}

impl Storage for View {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>>> {
        Box::pin(async move {
            let (plain, _) = self.rows.get(&self.key(key)?).await?;
            Ok(plain.map(|mut plain| Entry { value: std::mem::take(&mut *plain.value), version: plain.version }))
        })
    }

    fn get_each<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<Vec<Option<Result<Entry>>>>> {
        Box::pin(async move {
            let keys = keys.iter().map(|key| self.key(key)).collect::<Result<Vec<_>>>()?;
            let found = self.rows.get_each(&keys).await?;
            let entry = |mut plain: crate::rows::Plain| Entry { value: std::mem::take(&mut *plain.value), version: plain.version };
            Ok(found.into_iter().map(|plain| plain.map(|plain| plain.map(entry))).collect())
        })
    }

    fn parsed<'a>(&'a self, key: &'a str, parse: Parse) -> BoxFuture<'a, Result<Option<(Shared, u64)>>> {
        Box::pin(async move { Ok(self.rows.parsed(&self.key(key)?, |plain| parse(key, plain)).await?.0) })
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            let names = self.rows.list(&self.key(prefix)?, after.map(str::as_bytes), limit).await?;
            Ok(names.into_iter().map(|name| String::from_utf8_lossy(&name).into_owned()).collect())
        })
    }

    fn commit(&self, changes: Changes) -> BoxFuture<'_, Result<(), CommitFailure>> {
        Box::pin(async move {
            let batch = self.batch(changes).map_err(CommitFailure::Error)?;
            self.rows.commit(batch).await.map(|_config_version| ())
        })
    }

    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.rows.clear(&self.key(prefix)?).await })
    }
}
