//! Reading and committing keys: the only file of the engine that knows where they are stored.

use std::sync::Arc;

use daypass_sdk::{Changes, CommitFailure, Cx, Error, Result, Secret, from_json};

use super::Transit;
use super::cache::{Cache, Loaded};
use super::key::Key;
use super::settings;

/// What was decided about a key.
pub(super) enum Step<T> {
    /// Nothing changes.
    Leave(T),
    /// The key becomes this.
    Store(Box<Key>, T),
    /// The key goes.
    Remove(T),
}

/// Reads a key to use it.
pub(super) async fn load(transit: &Transit, cx: &Cx, name: &str) -> Result<Option<Arc<Loaded>>> {
    let row = row(name);
    let Some(entry) = cx.store.get(&row).await? else {
        transit.cache.forget(name);
        return Ok(None);
    };
    let bytes = Secret::new(entry.value);
    if let Some(found) = transit.cache.fresh(name, &bytes) {
        return Ok(Some(found));
    }
    // Parsed into secrets.
    let key = from_json(&row, bytes.expose())?;
    let loaded = Arc::new(Loaded::new(key, bytes));
    transit.cache.keep(name, &loaded, settings::cache_size(cx).await?);
    Ok(Some(loaded))
}

/// Reads a key, decides, and commits; again when another request was faster, so that no version is lost.
pub(super) async fn change<T>(cache: &Cache, cx: &Cx, name: &str, decide: impl Fn(Option<Key>) -> Result<Step<T>>) -> Result<T> {
    let row = row(name);
    for _ in 0..ATTEMPTS_MAX {
        let mut entry = cx.store.get(&row).await?;
        let unchanged = Changes::new().unchanged(&row, entry.as_ref());
        let bytes = entry.take().map(|entry| Secret::new(entry.value));
        // Parsed into secrets.
        let key = bytes.as_ref().map(|bytes| from_json(&row, bytes.expose())).transpose()?;
        let (changes, answer) = match decide(key)? {
            Step::Leave(answer) => return Ok(answer),
            Step::Store(key, answer) => (checked(name, &key, unchanged.put_json(&row, &key)?)?, answer),
            Step::Remove(answer) => (unchanged.delete(&row), answer),
        };
        match cx.store.commit(changes).await {
            Ok(()) => {
                cache.forget(name);
                return Ok(answer);
            }
            Err(CommitFailure::Conflict(_)) => {}
            Err(CommitFailure::Error(error)) => return Err(error),
        }
    }
    Err(Error::from(CommitFailure::Conflict(0)))
}

/// Refuses a key that has grown too large: every use of a key reads its row.
fn checked(name: &str, key: &Key, changes: Changes) -> Result<Changes> {
    let bytes: usize = changes.puts.iter().map(|(_, value)| value.len()).sum();
    if bytes > KEY_BYTES_MAX {
        let versions = key.versions.len();
        return Err(Error::bad_request(format!(
            "key {name:?} would take {bytes} bytes with its {versions} versions, over the limit of {KEY_BYTES_MAX}: raise \
             min_decryption_version and min_encryption_version, then remove old versions with keys/{name}/trim"
        )));
    }
    Ok(changes)
}

/// The row of a key.
pub(super) fn row(name: &str) -> String {
    format!("{KEYS}{name}")
}

/// What the rows of all keys start with.
pub(super) const KEYS: &str = "key/";
/// Bytes of a key with all its versions: about 240 of RSA-4096, 4,000 of AES.
pub(super) const KEY_BYTES_MAX: usize = 1 << 20;
/// How often a request decides again before it gives up.
const ATTEMPTS_MAX: usize = 500;
