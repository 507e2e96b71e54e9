//! Reading and committing a key: the only file of the engine that knows where its rows are.

use std::sync::Arc;

use daypass_sdk::{Changes, CommitFailure, Cx, Entry, Error, Result, from_json};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::config::{self, Config};
use super::key::{DataRow, DataRows, Glance, Key, Version};
use crate::secrets::kv_path;

/// What was read before a decision: the mount's settings and the key.
pub(super) struct Seen {
    pub(super) config: Arc<Config>,
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
    /// Reads the settings and the key. The settings may be a moment older: they count as they were when the request came.
    pub(super) async fn read(cx: &Cx, path: &str) -> Result<Self> {
        let config = cx.store.find::<Config>(config::ROW).await?.map(|(config, _)| config).unwrap_or_default();
        let row = key_row(path);
        let entry = cx.store.get(&row).await?;
        let key = entry.as_ref().map(|entry| from_json(&row, &entry.value)).transpose()?;
        Ok(Self { config, key, row, entry })
    }

    /// Applies a decision. `None` when the key was changed since it was read.
    pub(super) async fn commit<T>(&self, cx: &Cx, path: &str, step: Step<T>) -> Result<Option<T>> {
        let unchanged = Changes::new().unchanged(&self.row, self.entry.as_ref());
        let (changes, answer) = match step {
            Step::Leave(answer) => return Ok(Some(answer)),
            Step::Store(key, rows, answer) => {
                let changes = unchanged.put_json(&self.row, &key)?;
                let changes = rows.put.iter().fold(changes, |changes, row| put_data(changes, path, row));
                let changes = rows.delete.iter().fold(changes, |changes, row| changes.delete(data_row(path, *row)));
                (changes, answer)
            }
            Step::Remove(key, answer) => {
                let data = key.versions().filter_map(|(number, version)| version.row(number)).map(|row| data_row(path, row));
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
    daypass_base::nested::read(stored)
        .map_err(|error| Error::internal(format!("the stored value of {row:?} is not readable")).because(error))
}

/// Reads the data of a version that has a row. `None` when it was removed, or its row given to another version, since the key was read.
pub(super) async fn read_data(cx: &Cx, path: &str, number: u64, version: &Version) -> Result<Option<Map<String, Value>>> {
    let Some(row) = version.row(number) else { return Ok(None) };
    let name = data_row(path, row);
    let Some(entry) = cx.store.get(&name).await? else { return Ok(None) };
    let (owner, json) = split_owner(&entry.value);
    if owner.unwrap_or(row) == number { from_json(&name, json).map(Some) } else { Ok(None) }
}

/// Writes the data of a version: its JSON, after the version's number where the row's name has another one. So a row tells by itself whose it is.
pub(super) fn put_data(changes: Changes, path: &str, row: &DataRow) -> Changes {
    let owner = if row.row == row.version { String::new() } else { row.version.to_string() };
    changes.put(data_row(path, row.row), [owner.as_bytes(), row.data.get().as_bytes()].concat())
}

/// The number before the JSON, if there is one.
fn split_owner(stored: &[u8]) -> (Option<u64>, &[u8]) {
    let digits = stored.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (owner, json) = stored.split_at(digits);
    (std::str::from_utf8(owner).ok().and_then(|owner| owner.parse().ok()), json)
}

/// The data of a version that `key` says is there. `None` when it was removed meanwhile.
pub(super) async fn data_of(cx: &Cx, path: &str, key: &Key, number: u64) -> Result<Option<Map<String, Value>>> {
    match (key.data.as_deref().filter(|_| number == key.current), key.version(number)) {
        (Some(data), _) => parse(path, data).map(Some),
        (None, Some(version)) => read_data(cx, path, number, version).await,
        (None, None) => Ok(None),
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

/// A row of the data of a version.
fn data_row(path: &str, number: u64) -> String {
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
