//! A store in memory, for `-dev` and tests: the same meaning as the embedded store, gone with the process.
//!
//! It must not become a cache in front of another store, and it shares nothing with another process.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::ops::Bound;

use bytes::Bytes;
use daypass_base::{BoxFuture, Timestamp};
use parking_lot::Mutex;

use crate::rules::{self, Holder, Name};
use crate::snapshot::export::Recorder;
use crate::snapshot::{Content, Export, Record, RecordRef, Staged, Staging};
use crate::{Backend, Batch, Claim, CommitError, Condition, Due, Key, Page, Read, ReadError, Row, SCAN_BYTES_MAX};

/// Everything in ordered maps under one lock.
pub struct MemoryBackend {
    state: Mutex<State>,
}

impl MemoryBackend {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Mutex::new(State::default()) }
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> Result<T, ReadError> {
        let state = self.state.lock();
        if state.closed { Err(ReadError::Failed(CLOSED.to_owned())) } else { Ok(look(&state)) }
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for MemoryBackend {
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<u64, CommitError>> {
        Box::pin(async move {
            rules::check_batch(&batch)?;
            self.state.lock().apply(batch)
        })
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Read<Option<Row>>, ReadError>> {
        Box::pin(async move { self.read(|state| Read { found: state.rows.get(key).cloned(), config_version: state.config_version }) })
    }

    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Read<Vec<Option<Row>>>, ReadError>> {
        Box::pin(async move {
            self.read(|state| Read {
                found: keys.iter().map(|key| state.rows.get(key).cloned()).collect(),
                config_version: state.config_version,
            })
        })
    }

    fn list<'a>(&'a self, prefix: &'a Key, after: Option<&'a [u8]>, limit: usize) -> BoxFuture<'a, Result<Vec<Bytes>, ReadError>> {
        Box::pin(async move { self.read(|state| state.list(prefix, after, limit)) })
    }

    fn keys<'a>(&'a self, prefix: &'a Key, after: Option<&'a [u8]>, limit: usize) -> BoxFuture<'a, Result<Vec<Bytes>, ReadError>> {
        Box::pin(async move { self.read(|state| state.below(prefix, after).take(limit).map(|(key, _)| key.bytes.clone()).collect()) })
    }

    fn scan<'a>(&'a self, prefix: &'a Key, after: Option<&'a [u8]>, limit: usize) -> BoxFuture<'a, Result<Page, ReadError>> {
        Box::pin(async move { self.read(|state| state.scan(prefix, after, limit)) })
    }

    fn due(&self, shard: u8, until: Timestamp, limit: usize) -> BoxFuture<'_, Result<Vec<Due>, ReadError>> {
        Box::pin(async move {
            let first = Due { shard, at: Timestamp::from_nanos(i64::MIN), id: Bytes::new() };
            self.read(|state| state.due_from(Bound::Included(&first), shard, until, limit))
        })
    }

    fn due_behind<'a>(&'a self, after: &'a Due, until: Timestamp, limit: usize) -> BoxFuture<'a, Result<Vec<Due>, ReadError>> {
        Box::pin(async move { self.read(|state| state.due_from(Bound::Excluded(after), after.shard, until, limit)) })
    }

    fn claim<'a>(
        &'a self,
        shard: u8,
        owner: &'a str,
        now: Timestamp,
        until: Timestamp,
    ) -> BoxFuture<'a, Result<Option<Claim>, CommitError>> {
        Box::pin(async move {
            rules::check_owner(owner)?;
            let mut state = self.state.lock();
            state.check_open()?;
            let holder = rules::next_holder(state.claims.get(&shard).cloned(), owner, now, until);
            Ok(holder.map(|holder| {
                let claim = Claim { shard, epoch: holder.epoch };
                state.claims.insert(shard, holder);
                claim
            }))
        })
    }

    fn export(&self) -> BoxFuture<'_, Result<Export, CommitError>> {
        Box::pin(async move { self.state.lock().export() })
    }

    fn stage(&self) -> BoxFuture<'_, Result<Box<dyn Staging>, CommitError>> {
        Box::pin(async move {
            self.state.lock().check_open()?;
            Ok(Box::new(MemoryStaging(State::default())) as Box<dyn Staging>)
        })
    }

    fn replace(&self, staged: Staged) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            let Content::Memory(mut new) = staged.0 else { return Err(CommitError::Failed("another kind of store was staged".to_owned())) };
            let mut state = self.state.lock();
            state.check_open()?;
            new.config_version = new.config_version.max(state.config_version) + 1;
            new.newest = new.newest.max(state.newest);
            *state = *new;
            Ok(())
        })
    }

    fn kind(&self) -> &'static str {
        "inmem"
    }

    fn stopped(&self) -> Option<String> {
        None
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.state.lock().closed = true })
    }
}

/// A store that is being filled.
struct MemoryStaging(State);

impl Staging for MemoryStaging {
    fn add(&mut self, record: &Record) -> Result<(), CommitError> {
        let state = &mut self.0;
        match record.clone() {
            Record::Row(key, row) => {
                state.newest = state.newest.max(row.version);
                state.rows.insert(key, row);
            }
            Record::Due(due) => drop(state.due.insert(due)),
            Record::Claim { shard, until, epoch, owner } => drop(state.claims.insert(shard, Holder { owner, epoch, until })),
        }
        Ok(())
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<(), CommitError> {
        self.0.apply(Batch::new().put(key.clone(), Bytes::copy_from_slice(value))).map(|_version| ())
    }

    fn finish(mut self: Box<Self>, config_version: u64) -> Result<Staged, CommitError> {
        self.0.config_version = config_version;
        Ok(Staged(Content::Memory(Box::new(self.0))))
    }
}

#[derive(Default)]
pub(crate) struct State {
    rows: BTreeMap<Key, Row>,
    due: BTreeSet<Due>,
    claims: BTreeMap<u8, Holder>,
    config_version: u64,
    /// The puts, or more: no row has a higher version.
    newest: u64,
    closed: bool,
}

impl State {
    fn due_from(&self, first: Bound<&Due>, shard: u8, until: Timestamp, limit: usize) -> Vec<Due> {
        let entries = self.due.range::<Due, _>((first, Bound::Unbounded)).take_while(|due| due.shard == shard && due.at <= until);
        entries.take(limit).cloned().collect()
    }

    fn check_open(&self) -> Result<(), CommitError> {
        if self.closed { Err(CommitError::Failed(CLOSED.to_owned())) } else { Ok(()) }
    }

    /// Checks everything first, so that nothing needs to be taken back.
    fn apply(&mut self, batch: Batch) -> Result<u64, CommitError> {
        self.check_open()?;
        if let Some(claim) = batch.claim
            && self.claims.get(&claim.shard).is_none_or(|holder| holder.epoch != claim.epoch)
        {
            return Err(CommitError::Fenced(claim));
        }
        if let Some(failed) = batch.conditions.iter().position(|(key, condition)| !self.holds(key, *condition)) {
            return Err(CommitError::Conflict(failed));
        }
        for key in &batch.deletes {
            self.rows.remove(key);
        }
        for due in &batch.due_remove {
            self.due.remove(due);
        }
        for (key, value) in batch.puts {
            self.newest += 1;
            let version = self.rows.get(&key).map_or(self.newest, |row| row.version + 1);
            self.rows.insert(key, Row { value, version });
        }
        self.due.extend(batch.due_add);
        self.config_version += u64::from(batch.config_changed);
        Ok(self.config_version)
    }

    /// All in memory, as the rows themselves are.
    fn export(&self) -> Result<Export, CommitError> {
        self.check_open()?;
        let mut recorder = Recorder::new(Vec::new());
        let rows = self.rows.iter().map(|(key, row)| RecordRef::Row {
            space: key.space,
            key: &key.bytes,
            version: row.version,
            value: &row.value,
        });
        let due = self.due.iter().map(|due| RecordRef::Due { shard: due.shard, at: due.at, id: &due.id });
        let claims = self.claims.iter().map(|(shard, holder)| RecordRef::Claim {
            shard: *shard,
            until: holder.until,
            epoch: holder.epoch,
            owner: &holder.owner,
        });
        let failed = |error: std::io::Error| CommitError::Failed(error.to_string());
        rows.chain(due).chain(claims).try_for_each(|record| recorder.add(&record)).map_err(failed)?;
        let (bytes, totals) = recorder.finish().map_err(failed)?;
        Ok(Export { state: Box::new(Cursor::new(bytes)), totals, config_version: self.config_version })
    }

    fn holds(&self, key: &Key, condition: Condition) -> bool {
        let version = self.rows.get(key).map(|row| row.version);
        match condition {
            Condition::Absent => version.is_none(),
            Condition::Exists => version.is_some(),
            Condition::Version(wanted) => version == Some(wanted),
            Condition::NothingBelow => {
                let next = self.rows.range(key..).next();
                next.is_none_or(|(next, _)| next.space != key.space || !next.bytes.starts_with(&key.bytes))
            }
        }
    }

    /// Rows below a prefix, beginning after a full key.
    fn below<'a>(&'a self, prefix: &'a Key, after: Option<&[u8]>) -> impl Iterator<Item = (&'a Key, &'a Row)> {
        let start = Key::new(prefix.space, rules::scan_start(&prefix.bytes, after));
        self.rows.range(start..).take_while(|(key, _)| key.space == prefix.space && key.bytes.starts_with(&prefix.bytes))
    }

    fn scan(&self, prefix: &Key, after: Option<&[u8]>, limit: usize) -> Page {
        let (mut page, mut bytes) = (Page::default(), 0);
        let mut below = self.below(prefix, after);
        while page.rows.len() < limit && bytes < SCAN_BYTES_MAX {
            let Some((key, row)) = below.next() else { return page };
            bytes += key.bytes.len() + row.value.len();
            page.rows.push((key.bytes.clone(), row.clone()));
        }
        Page { more: true, ..page }
    }

    fn list(&self, prefix: &Key, after: Option<&[u8]>, limit: usize) -> Vec<Bytes> {
        let mut names: Vec<Bytes> = Vec::new();
        let mut start = rules::list_start(&prefix.bytes, after);
        while names.len() < limit {
            let from = Key::new(prefix.space, start);
            let next = self.rows.range((Bound::Included(from), Bound::Unbounded)).next();
            let Some((key, _)) = next.filter(|(key, _)| key.space == prefix.space) else { break };
            let Some(Name::Folder(name) | Name::Leaf(name)) = rules::list_name(&prefix.bytes, &key.bytes) else { break };
            start = rules::list_start(&prefix.bytes, Some(name));
            names.push(Bytes::copy_from_slice(name));
        }
        names
    }
}

const CLOSED: &str = "it is closed";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn memory_keeps_the_contract() {
        crate::contract::suite(|| async { Arc::new(MemoryBackend::new()) as Arc<dyn Backend> }).await;
    }
}
