//! Rows as the core sees them: values sealed by the barrier, each bound to its own key.
//!
//! The one place where clear values become stored ones. A row that was moved to another key, or altered, does not open.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use daypass_barrier::Barrier;
use daypass_base::{Recent, Seconds, Timestamp};
use daypass_sdk::{CommitFailure, Error, Kind, Result, Shared};
use daypass_storage::{Backend, Batch, CommitError, Condition, Due, Key, ReadError, Row, Space};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::RwLock;
use zeroize::Zeroizing;

use crate::quotas::leases::LeaseCounts;

/// Sealed access to the store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rows {
    backend: Arc<dyn Backend>,
    barrier: Barrier,
    leases: Arc<LeaseCounts>,
    readable: Arc<Readable>,
    /// Whether these rows are those of a store that was replaced; every commit holds it for reading.
    ended: Arc<RwLock<bool>>,
}

/// A row in clear.
pub(crate) struct Plain {
    pub(crate) value: Zeroizing<Vec<u8>>,
    pub(crate) version: u64,
}

/// What a row says, and the version of the row.
pub(crate) struct Found<T> {
    pub(crate) value: Arc<T>,
    pub(crate) version: u64,
}

impl Rows {
    pub(crate) fn new(backend: Arc<dyn Backend>, barrier: Barrier) -> Self {
        Self { backend, barrier, leases: Arc::default(), readable: Arc::new(Readable::new()), ended: Arc::default() }
    }

    pub(crate) fn barrier(&self) -> &Barrier {
        &self.barrier
    }

    pub(crate) fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// The lease-count quotas: every commit passes by them.
    pub(crate) fn leases(&self) -> &Arc<LeaseCounts> {
        &self.leases
    }

    /// Reads one row, and the configuration version in force at that moment.
    pub(crate) async fn get(&self, key: &Key) -> Result<(Option<Plain>, u64)> {
        let read = self.backend.get(key).await.map_err(read_error)?;
        let plain = read.found.map(|row| self.open(key, &row.value, row.version)).transpose()?;
        Ok((plain, read.config_version))
    }

    /// Reads JSON that is asked for again and again: what it says is kept in memory for as long as the store has the very same bytes.
    pub(crate) async fn find<T>(&self, key: &Key) -> Result<(Option<Found<T>>, u64)>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let (found, config_version) = self.seek(key).await?;
        Ok((found.transpose()?, config_version))
    }

    /// As [`Rows::find`], for who goes on behind a row that is damaged. The outer error: the store cannot be read; the inner one: this row.
    pub(crate) async fn seek<T>(&self, key: &Key) -> Result<(Option<Result<Found<T>>>, u64)>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let read = self.backend.get(key).await.map_err(read_error)?;
        let found = read.found.map(|row| {
            let (value, version) = self.remembered(key, &row, |plain| Ok(Arc::new(parse::<T>(key, plain)?)))?;
            let value = value.downcast().map_err(|_other| Error::internal(format!("{} is read as two different things", shown(key))))?;
            Ok(Found { value, version })
        });
        Ok((found, read.config_version))
    }

    /// As [`Rows::find`], for a value of any kind.
    pub(crate) async fn parsed(&self, key: &Key, parse: impl FnOnce(&[u8]) -> Result<Shared>) -> Result<(Option<(Shared, u64)>, u64)> {
        let read = self.backend.get(key).await.map_err(read_error)?;
        let found = read.found.map(|row| self.remembered(key, &row, parse)).transpose()?;
        Ok((found, read.config_version))
    }

    /// What a row says, from memory where it was opened before.
    fn remembered(&self, key: &Key, row: &Row, parse: impl FnOnce(&[u8]) -> Result<Shared>) -> Result<(Shared, u64)> {
        let value = if let Some(value) = self.readable.get(key, &row.value) {
            value
        } else {
            let plain = self.open(key, &row.value, row.version)?;
            let value = parse(&plain.value)?;
            self.readable.keep(key, &row.value, Arc::clone(&value), plain.value.len());
            value
        };
        Ok((value, row.version))
    }

    /// Reads several rows from one state of the store.
    pub(crate) async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Plain>>> {
        self.get_each(keys).await?.into_iter().map(Option::transpose).collect()
    }

    /// As [`Rows::get_many`], for who goes on behind a row that is damaged: the error of each stands in its place.
    pub(crate) async fn get_each(&self, keys: &[Key]) -> Result<Vec<Option<Result<Plain>>>> {
        let read = self.backend.get_many(keys).await.map_err(read_error)?;
        Ok(keys.iter().zip(read.found).map(|(key, row)| row.map(|row| self.open(key, &row.value, row.version))).collect())
    }

    /// Reads JSON and its version.
    pub(crate) async fn get_json<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<(T, u64)>> {
        self.look(key).await?.transpose()
    }

    /// As [`Rows::get_json`], for who goes on behind a row that is damaged. The outer error: the store cannot be read; the inner one: this row.
    pub(crate) async fn look<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<Result<(T, u64)>>> {
        let read = self.backend.get(key).await.map_err(read_error)?;
        let parsed = |row: Row| {
            let plain = self.open(key, &row.value, row.version)?;
            Ok((parse(key, &plain.value)?, plain.version))
        };
        Ok(read.found.map(parsed))
    }

    /// Whether there is a row, readable or not.
    pub(crate) async fn has(&self, key: &Key) -> Result<bool> {
        Ok(self.backend.get(key).await.map_err(read_error)?.found.is_some())
    }

    /// Names below a prefix.
    pub(crate) async fn list(&self, prefix: &Key, after: Option<&[u8]>, limit: usize) -> Result<Vec<Bytes>> {
        self.backend.list(prefix, after, limit).await.map_err(read_error)
    }

    /// Full keys below a prefix, without their values.
    pub(crate) async fn keys(&self, prefix: &Key, after: Option<&[u8]>, limit: usize) -> Result<Vec<Bytes>> {
        self.backend.keys(prefix, after, limit).await.map_err(read_error)
    }

    /// Keys and clear values below a prefix, a page of them. Large values end a page before `limit`: only an empty one is behind the last row.
    pub(crate) async fn scan(&self, prefix: &Key, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Key, Plain)>> {
        let rows = self.backend.scan(prefix, after, limit).await.map_err(read_error)?.rows;
        let open = |(bytes, row): (Bytes, Row)| {
            let key = Key::new(prefix.space, bytes);
            let plain = self.open(&key, &row.value, row.version)?;
            Ok((key, plain))
        };
        let page = rows.into_iter().map(open).collect::<Result<Vec<_>>>()?;
        give_turn(page.len()).await;
        Ok(page)
    }

    /// JSON below a prefix, a page of it as [`Rows::scan`] reads it, without rows that are damaged: of them the log tells. Also where the page ends, which
    /// is nowhere behind the last row.
    pub(crate) async fn scan_json<T: DeserializeOwned>(
        &self,
        prefix: &Key,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<(Vec<(Key, T)>, Option<Bytes>)> {
        let (each, last) = self.scan_each(prefix, after, limit).await?;
        let (mut read, mut damaged) = (Vec::with_capacity(each.len()), Vec::new());
        for (key, value) in each {
            match value {
                Ok(value) => read.push((key, value)),
                Err(error) => damaged.push(error),
            }
        }
        if let Some(error) = damaged.first() {
            tracing::warn!(%error, rows = damaged.len(), "stored rows are damaged; they are passed over");
        }
        Ok((read, last))
    }

    /// As [`Rows::scan_json`], for who does something about a row that is damaged: its error stands in its place, and the log tells nothing.
    pub(crate) async fn scan_each<T: DeserializeOwned>(
        &self,
        prefix: &Key,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<(Vec<(Key, Result<T>)>, Option<Bytes>)> {
        let rows = self.backend.scan(prefix, after, limit).await.map_err(read_error)?.rows;
        let last = rows.last().map(|(key, _)| key.clone());
        let open = |(bytes, row): (Bytes, Row)| {
            let key = Key::new(prefix.space, bytes);
            let value = self.open(&key, &row.value, row.version).and_then(|plain| parse(&key, &plain.value));
            (key, value)
        };
        let each: Vec<_> = rows.into_iter().map(open).collect();
        give_turn(each.len()).await;
        Ok((each, last))
    }

    /// Entries that are due.
    pub(crate) async fn due(&self, shard: u8, until: Timestamp, limit: usize) -> Result<Vec<Due>> {
        self.backend.due(shard, until, limit).await.map_err(read_error)
    }

    /// The same behind this entry.
    pub(crate) async fn due_behind(&self, after: &Due, until: Timestamp, limit: usize) -> Result<Vec<Due>> {
        self.backend.due_behind(after, until, limit).await.map_err(read_error)
    }

    /// Adds a sealed value to a batch.
    pub(crate) fn put(&self, mut batch: Batch, key: Key, plain: &[u8]) -> Result<Batch> {
        let sealed = self
            .barrier
            .seal(&binding(&key), plain)
            .map_err(|error| Error::internal(format!("a value for {} could not be sealed", shown(&key))).because(error))?;
        batch.puts.push((key, Bytes::from(sealed)));
        Ok(batch)
    }

    /// Adds a sealed JSON value to a batch.
    pub(crate) fn put_json(&self, batch: Batch, key: Key, value: &impl Serialize) -> Result<Batch> {
        let plain = serde_json::to_vec(value)
            .map(Zeroizing::new)
            .map_err(|error| Error::internal("a value cannot be stored as JSON").because(error))?;
        self.put(batch, key, &plain)
    }

    /// Applies a batch. Returns the configuration version after it.
    pub(crate) async fn commit(&self, batch: Batch) -> Result<u64, CommitFailure> {
        let ended = self.ended.read().await;
        if *ended {
            return Err(CommitFailure::Error(crate::node::sealed()));
        }
        self.leases.commit(&*self.backend, batch).await
    }

    /// Reads JSON, has it decided what it becomes, and commits that with the batch; decides again when another request was faster. Gives what was
    /// stored; `None` when `decide` wants nothing changed. Errors: those of `decide`, after which nothing is changed; `Failed` when others were
    /// faster again and again.
    pub(crate) async fn change<T: Serialize + DeserializeOwned>(
        &self,
        key: &Key,
        batch: &Batch,
        decide: impl Fn(Option<T>) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        for _ in 0..ATTEMPTS_MAX {
            let (found, version) = self.get_json(key).await?.map_or((None, None), |(value, version)| (Some(value), Some(version)));
            let Some(value) = decide(found)? else { return Ok(None) };
            let (same, condition) = unchanged(key.clone(), version);
            let batch = self.put_json(batch.clone().require(same, condition), key.clone(), &value)?;
            match self.commit(batch).await {
                Ok(_config_version) => return Ok(Some(value)),
                Err(CommitFailure::Conflict(_)) => {}
                Err(CommitFailure::Error(error)) => return Err(error),
            }
        }
        Err(CommitFailure::Conflict(0).into())
    }

    /// When this returns, no commit is on its way, and none is taken any more: what comes next in the store is another's.
    pub(crate) async fn end(&self) {
        *self.ended.write().await = true;
    }

    /// Removes all rows below a prefix, a bounded batch at a time.
    pub(crate) async fn clear(&self, prefix: &Key) -> Result<()> {
        while self.clear_page(prefix, CLEAR_STEP).await? > 0 {}
        Ok(())
    }

    /// Removes the first rows below a prefix. Returns how many there were; fewer than `most`: these were the last.
    pub(crate) async fn clear_page(&self, prefix: &Key, most: usize) -> Result<usize> {
        let keys = self.keys(prefix, None, most).await?;
        let count = keys.len();
        if count > 0 {
            let batch = keys.into_iter().fold(Batch::new(), |batch, bytes| batch.delete(Key::new(prefix.space, bytes)));
            self.commit(batch).await?;
        }
        Ok(count)
    }

    fn open(&self, key: &Key, sealed: &[u8], version: u64) -> Result<Plain> {
        let value = self
            .barrier
            .open(&binding(key), sealed)
            .map_err(|error| Error::internal(format!("the stored row {} does not open", shown(key))).because(error))?;
        Ok(Plain { value, version })
    }
}

/// Rows that were opened and parsed lately. Whether an entry still holds is decided by the sealed bytes: two seals of the same value
/// differ, so the same bytes are the same commit. It goes when the server is sealed, with the [`Rows`] that own it.
struct Readable {
    shards: [Mutex<Recent<Key, Entry>>; SHARDS],
    hasher: RandomState,
}

#[derive(Clone)]
struct Entry {
    sealed: Bytes,
    value: Shared,
}

impl Readable {
    fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::new(Recent::new(READABLE_BYTES / SHARDS))), hasher: RandomState::new() }
    }

    fn get(&self, key: &Key, sealed: &Bytes) -> Option<Shared> {
        let entry = self.shard(key)?.lock().get(key)?;
        let same = std::ptr::eq(entry.sealed.as_ptr(), sealed.as_ptr()) && entry.sealed.len() == sealed.len() || entry.sealed == *sealed;
        same.then_some(entry.value)
    }

    fn keep(&self, key: &Key, sealed: &Bytes, value: Shared, bytes: usize) {
        let Some(shard) = self.shard(key) else { return };
        let weight = READABLE_FACTOR * (bytes + sealed.len() + key.bytes.len());
        shard.lock().insert(key.clone(), Entry { sealed: sealed.clone(), value }, weight);
    }

    fn shard(&self, key: &Key) -> Option<&Mutex<Recent<Key, Entry>>> {
        self.shards.get(usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or_default())
    }
}

const SHARDS: usize = 16;
/// What parsed rows may take, about.
const READABLE_BYTES: usize = 4 * 1024 * 1024;
/// How much larger a value is in memory than as JSON, about.
const READABLE_FACTOR: usize = 2;

/// Reads stored JSON.
pub(crate) fn parse<T: DeserializeOwned>(key: &Key, bytes: &[u8]) -> Result<T> {
    daypass_base::nested::read(bytes)
        .map_err(|error| Error::internal(format!("the stored row {} is not readable", shown(key))).because(error))
}

/// After a long page others on the thread have their turn: whoever walks through hundreds of thousands of rows takes one after the other, and reads never wait.
async fn give_turn(rows: usize) {
    if rows >= LONG_PAGE {
        tokio::task::yield_now().await;
    }
}

/// A key of the configuration space.
pub(crate) fn config_key(path: impl Into<String>) -> Key {
    Key::new(Space::Config, path.into().into_bytes())
}

/// That a row still is as it was read.
pub(crate) fn unchanged(key: Key, version: Option<u64>) -> (Key, Condition) {
    (key, version.map_or(Condition::Absent, Condition::Version))
}

/// The time up to which something is over that was over up to `before` already. A clock that was put back a little brings nothing back; one
/// that ran far ahead is not believed for ever.
pub(crate) fn not_before(before: Option<Timestamp>, now: Timestamp) -> Timestamp {
    before.filter(|before| *before <= now + CLOCK_STEP_MAX).map_or(now, |before| before.max(now))
}

/// A failed read as the client sees it: the log has the rest.
pub(crate) fn read_error(error: ReadError) -> Error {
    Error::internal("the store cannot be read").because(error)
}

/// A failed commit as engines see it.
pub(crate) fn commit_failure(error: CommitError) -> CommitFailure {
    match error {
        CommitError::Conflict(index) => CommitFailure::Conflict(index),
        CommitError::TooLarge(text) => CommitFailure::Error(Error::bad_request(text)),
        CommitError::Full(_) => {
            let text = "the store is full: nothing more was changed; free space on its disk, reads go on meanwhile";
            CommitFailure::Error(Error::new(Kind::StoreFull, text).because(error))
        }
        CommitError::Stopped(_) => CommitFailure::Error(Error::new(Kind::StoreFull, STOPPED).because(error)),
        other => CommitFailure::Error(Error::internal("the store did not take a write").because(other)),
    }
}

/// The log has the reason, which names files.
pub(crate) const STOPPED: &str =
    "the store takes no writes until the server is started again: its disk failed; look at the server's log and at the disk first";

/// What a value is bound to: its space and its key.
fn binding(key: &Key) -> Vec<u8> {
    let space = match key.space {
        Space::Config => b'c',
        Space::Token => b't',
        Space::Lease => b'l',
        Space::Index => b'i',
    };
    let mut out = Vec::with_capacity(key.bytes.len() + 1);
    out.push(space);
    out.extend_from_slice(&key.bytes);
    out
}

/// A key for the log: ids as hex, paths as text. Keys hold no secrets.
fn shown(key: &Key) -> String {
    match std::str::from_utf8(&key.bytes) {
        Ok(text) if text.chars().all(|c| !c.is_control()) => format!("{:?} {text:?}", key.space),
        _ => format!("{:?} {}", key.space, data_encoding::HEXLOWER.encode(&key.bytes)),
    }
}

const CLEAR_STEP: usize = 500;
/// Rows of one page that take about a millisecond to open and to parse.
const LONG_PAGE: usize = 200;
/// How often a change is decided again before it gives up. Of those who come together one gets through each time.
const ATTEMPTS_MAX: usize = 500;
/// By so much a clock is put back in ordinary life.
const CLOCK_STEP_MAX: Seconds = Seconds(3600);
