//! Reading and committing a key: the only file of the engine that knows where its rows are.

use daypass_sdk::{Changes, CommitFailure, Cx, Entry, Error, Result, from_json};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::config::{self, Config};
use super::key::{DataRows, Glance, Key};
use crate::secrets::kv_path;

/// What was read before a decision: the mount's settings and the key, from one state of the store.
pub(super) struct Seen {
    pub(super) config: Config,
    pub(super) key: Option<Key>,
    row: String,
    entry: Option<Entry>,
}

/// What was decided.
pub(super) enum Step<T> {
    /// Nothing changes.
    Leave(T),
    /// The key becomes this, with these rows of data.
    Store(Box<Key>, DataRows, T),
    /// The key and all its data go.
    Remove(Box<Key>, T),
}

/// Reads a key, decides, and commits; again when another request was faster.
///
/// There is no lock: whoever loses a race has seen another write succeed, so the writers of one key always get on.
pub(super) async fn change<T>(cx: &Cx, path: &str, decide: impl Fn(&Config, Option<Key>) -> Result<Step<T>>) -> Result<T> {
    kv_path::check(path)?;
    for _ in 0..ATTEMPTS_MAX {
        let mut seen = Seen::read(cx, path).await?;
        let step = decide(&seen.config, seen.key.take())?;
        if let Some(answer) = seen.commit(cx, path, step).await? {
            return Ok(answer);
        }
    }
    Err(busy())
}

impl Seen {
    /// Reads the settings and the key.
    pub(super) async fn read(cx: &Cx, path: &str) -> Result<Self> {
        let keys = [config::ROW.to_owned(), key_row(path)];
        let mut found = cx.store.get_many(&keys).await?.into_iter();
        let (config, entry) = (found.next().flatten(), found.next().flatten());
        let config = config.map(|entry| from_json(config::ROW, &entry.value)).transpose()?.unwrap_or_default();
        let [_, row] = keys;
        let key = entry.as_ref().map(|entry| from_json(&row, &entry.value)).transpose()?;
        Ok(Self { config, key, row, entry })
    }

    /// Applies a decision. `None` when the key was changed since it was read.
    pub(super) async fn commit<T>(&self, cx: &Cx, path: &str, step: Step<T>) -> Result<Option<T>> {
        let unchanged = Changes::new().unchanged(&self.row, self.entry.as_ref());
        let (changes, answer) = match step {
            Step::Leave(answer) => return Ok(Some(answer)),
            Step::Store(key, rows, answer) => {
                let mut changes = unchanged.put_json(&self.row, &key)?;
                for (number, data) in rows.put {
                    changes = changes.put(data_row(path, number), data.get().as_bytes().to_vec());
                }
                let changes = rows.delete.iter().fold(changes, |changes, number| changes.delete(data_row(path, *number)));
                (changes, answer)
            }
            Step::Remove(key, answer) => {
                let data = key.versions().filter(|(_, version)| !version.destroyed).map(|(number, _)| data_row(path, number));
                (data.fold(unchanged.delete(&self.row), Changes::delete), answer)
            }
        };
        match cx.store.commit(changes).await {
            Ok(()) => Ok(Some(answer)),
            Err(CommitFailure::Conflict(_)) => Ok(None),
            Err(CommitFailure::Error(error)) => Err(error),
        }
    }
}

/// Reads a key alone.
pub(super) async fn read_key(cx: &Cx, path: &str) -> Result<Option<Key>> {
    cx.store.get_json(&key_row(path)).await
}

/// The part of a stored key that a read of its current version needs.
pub(super) fn glance<'a>(row: &str, stored: &'a [u8]) -> Result<Glance<'a>> {
    serde_json::from_slice(stored).map_err(|error| Error::internal(format!("the stored value of {row:?} is not readable")).because(error))
}

/// Reads the data of a version that has its own row. `None` when it was removed meanwhile.
pub(super) async fn read_data(cx: &Cx, path: &str, number: u64) -> Result<Option<Map<String, Value>>> {
    cx.store.get_json(&data_row(path, number)).await
}

/// The data of a version that `key` says is there. `None` when it was removed meanwhile.
pub(super) async fn data_of(cx: &Cx, path: &str, key: &Key, number: u64) -> Result<Option<Map<String, Value>>> {
    match key.data.as_deref().filter(|_| number == key.current) {
        Some(data) => parse(path, data).map(Some),
        None => read_data(cx, path, number).await,
    }
}

/// Reads stored data.
pub(super) fn parse(path: &str, data: &RawValue) -> Result<Map<String, Value>> {
    from_json(&key_row(path), data.get().as_bytes())
}

/// The row of a key.
pub(super) fn key_row(path: &str) -> String {
    format!("{KEY_ROWS}{path}")
}

/// The row of the data of a version.
pub(super) fn data_row(path: &str, number: u64) -> String {
    format!("d/{path}/{number}")
}

/// The key is changed faster than this request can decide.
pub(super) fn busy() -> Error {
    Error::from(CommitFailure::Conflict(0))
}

/// What the rows of all keys start with.
pub(super) const KEY_ROWS: &str = "m/";
/// How often a request decides again before it gives up.
pub(super) const ATTEMPTS_MAX: usize = 500;
