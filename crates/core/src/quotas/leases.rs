//! Lease-count quotas: how many leases may live below a path at one time (`sys/quotas/lease-count`).
//!
//! A quota holds one number, whatever it counts. It is counted once from the index of leases, in the background and a page at a time, and kept
//! in step by every commit that adds an entry to that index or takes one away: what is counted is what `LIST sys/leases/lookup` shows. It is
//! counted anew now and then, because another process may have written to the same store, and after a commit whose outcome is not known.
//! While the first count runs, what it has seen so far is the least that there is.
//!
//! Leases of STS credentials are signed and stored nowhere, so no quota counts them; nor are batch tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use daypass_sdk::{CommitFailure, Error, Kind, Result};
use daypass_storage::{Backend, Batch, CommitError, Key, Space};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{MutexGuard, Notify, RwLock, watch};

use crate::metrics::Counter;
use crate::rows::{commit_failure, read_error};
use crate::tokens::{LEASE_INDEX, lease_index_key};

/// A quota as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseQuotaRow {
    pub(crate) name: String,
    /// The mount with its slash.
    pub(crate) mount: String,
    /// Below the mount; with `*` at the end a beginning.
    pub(crate) suffix: String,
    pub(crate) max: u32,
}

impl LeaseQuotaRow {
    /// What the ids of all its leases begin with.
    fn beginning(&self) -> String {
        match self.suffix.strip_suffix('*') {
            Some(beginning) => format!("{}{beginning}", self.mount),
            None if self.suffix.is_empty() => self.mount.clone(),
            None => format!("{}{}/", self.mount, self.suffix),
        }
    }

    /// Whether another quota would count the same leases.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.beginning() == other.beginning()
    }
}

/// A quota and its number.
pub(crate) struct LeaseQuota {
    pub(crate) row: LeaseQuotaRow,
    beginning: String,
    live: AtomicI64,
    /// Where a count is that runs, and what it has seen.
    walk: Mutex<Option<Walk>>,
    counted: AtomicBool,
}

struct Walk {
    after: Option<String>,
    seen: i64,
}

impl LeaseQuota {
    fn new(row: LeaseQuotaRow) -> Self {
        let beginning = row.beginning();
        Self { row, beginning, live: AtomicI64::new(0), walk: Mutex::new(None), counted: AtomicBool::new(false) }
    }

    /// The same leases under another limit or name. A count that runs begins again.
    fn with_number_of(other: &Self, row: LeaseQuotaRow) -> Self {
        let quota = Self::new(row);
        quota.live.store(other.live.load(Ordering::Acquire), Ordering::Release);
        quota.counted.store(other.counted.load(Ordering::Acquire), Ordering::Release);
        quota
    }

    /// How many leases there are, as far as they are counted.
    pub(crate) fn live(&self) -> u64 {
        let seen = self.walk.lock().as_ref().map_or(0, |walk| walk.seen);
        let live = self.live.load(Ordering::Acquire);
        let known = if self.counted.load(Ordering::Acquire) { live } else { live.max(seen) };
        u64::try_from(known).unwrap_or(0)
    }

    /// Takes a place for one more, if there is one.
    fn reserve(&self) -> bool {
        if !self.counted.load(Ordering::Acquire) && self.live() >= u64::from(self.row.max) {
            return false;
        }
        let max = i64::from(self.row.max);
        self.live.fetch_update(Ordering::AcqRel, Ordering::Acquire, |live| (live < max).then_some(live + 1)).is_ok()
    }

    /// Adds a page to the count that runs. Whether that was the last one: what was counted is then in force.
    fn walked(&self, page: &[Bytes]) -> bool {
        let mut walk = self.walk.lock();
        let Some(at) = walk.as_mut() else { return true };
        at.seen += i64::try_from(page.len()).unwrap_or(i64::MAX);
        if page.len() < PAGE {
            self.live.store(at.seen, Ordering::Release);
            self.counted.store(true, Ordering::Release);
            *walk = None;
            return true;
        }
        at.after = page.last().and_then(|key| lease_id(&Key::new(Space::Index, key.to_vec())));
        false
    }

    /// Tells a count that runs of a lease in the part that it has seen.
    fn tell_walk(&self, lease: &str, by: i64) {
        if let Some(walk) = self.walk.lock().as_mut()
            && walk.after.as_deref().is_some_and(|after| lease <= after)
        {
            walk.seen += by;
        }
    }
}

/// All lease-count quotas, and the numbers they go by.
pub(crate) struct LeaseCounts {
    in_force: ArcSwap<Vec<Arc<LeaseQuota>>>,
    /// Version of the row that is in force.
    version: AtomicU64,
    /// Read by whoever commits leases, written by whoever counts a page or changes what is in force: neither sees half of the other.
    gate: RwLock<()>,
    /// One removal of the same lease at a time, so that none is counted twice.
    turns: [tokio::sync::Mutex<()>; TURNS],
    /// There is something to count.
    wanted: Notify,
    pub(crate) violations: Counter,
}

impl Default for LeaseCounts {
    fn default() -> Self {
        Self {
            in_force: ArcSwap::default(),
            version: AtomicU64::new(0),
            gate: RwLock::default(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            wanted: Notify::new(),
            violations: Counter::default(),
        }
    }
}

/// The leases that a batch adds and takes away.
struct Moved {
    added: Vec<String>,
    taken: Vec<Key>,
}

impl Moved {
    fn of(batch: &Batch) -> Self {
        let added = batch.puts.iter().filter_map(|(key, _)| lease_id(key)).collect();
        Self { added, taken: batch.deletes.iter().filter(|key| lease_id(key).is_some()).cloned().collect() }
    }
}

/// The lease that an entry of the index is for.
fn lease_id(key: &Key) -> Option<String> {
    let id = (key.space == Space::Index).then(|| key.bytes.strip_prefix(&[LEASE_INDEX]))??;
    String::from_utf8(id.to_vec()).ok()
}

impl LeaseCounts {
    /// The quotas as they are in force.
    pub(crate) fn all(&self) -> Arc<Vec<Arc<LeaseQuota>>> {
        self.in_force.load_full()
    }

    /// Takes these into force. Those that did not change keep their numbers; others are counted.
    pub(crate) async fn set(&self, rows: &[LeaseQuotaRow], version: u64) {
        if self.version.load(Ordering::Acquire) >= version {
            return;
        }
        let _alone = self.gate.write().await;
        if self.version.fetch_max(version, Ordering::AcqRel) >= version {
            return;
        }
        let old = self.in_force.load_full();
        let quotas = rows.iter().map(|row| match old.iter().find(|quota| quota.row.is_like(row)) {
            Some(same) if same.row == *row => Arc::clone(same),
            Some(other) => Arc::new(LeaseQuota::with_number_of(other, row.clone())),
            None => Arc::new(LeaseQuota::new(row.clone())),
        });
        self.in_force.store(Arc::new(quotas.collect()));
        self.wanted.notify_one();
    }

    /// Applies a batch, and keeps the numbers in step. Errors: `TooMany` when it would add a lease for which its closest quota has no place.
    pub(crate) async fn commit(&self, backend: &dyn Backend, batch: Batch) -> Result<u64, CommitFailure> {
        let moved = Moved::of(&batch);
        if moved.added.is_empty() && moved.taken.is_empty() {
            return backend.commit(batch).await.map_err(commit_failure);
        }
        let _nobody_counts = self.gate.read().await;
        let quotas = self.in_force.load_full();
        if quotas.is_empty() {
            return backend.commit(batch).await.map_err(commit_failure);
        }
        let _turns = self.turns_of(&moved.taken).await;
        let taken = existing(backend, moved.taken).await.map_err(CommitFailure::Error)?;
        let pending = Pending::reserve(self, &quotas, moved.added).map_err(CommitFailure::Error)?;
        let done = backend.commit(batch).await;
        pending.settle(&done, &taken);
        done.map_err(commit_failure)
    }

    /// In order, so that nobody waits for somebody who waits for him.
    async fn turns_of(&self, taken: &[Key]) -> Vec<MutexGuard<'_, ()>> {
        let place = |key: &Key| key.bytes.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte))) % TURNS;
        let mut places: Vec<usize> = taken.iter().map(place).collect();
        places.sort_unstable();
        places.dedup();
        let mut turns = Vec::with_capacity(places.len());
        for turn in places.into_iter().filter_map(|place| self.turns.get(place)) {
            turns.push(turn.lock().await);
        }
        turns
    }

    /// Counts whenever there is something to count, until the node is sealed.
    pub(crate) async fn keep(&self, backend: Arc<dyn Backend>, clock: Arc<dyn daypass_base::Clock>, mut stopped: watch::Receiver<bool>) {
        let mut again = clock.sleep(RECOUNT);
        loop {
            tokio::select! {
                () = self.wanted.notified() => {}
                () = &mut again => {
                    again = clock.sleep(RECOUNT);
                    self.all().iter().for_each(|quota| quota.counted.store(false, Ordering::Release));
                }
                changed = stopped.changed() => if changed.is_err() || *stopped.borrow() { return },
            }
            for quota in self.all().iter().filter(|quota| !quota.counted.load(Ordering::Acquire)) {
                if let Err(error) = self.count(&*backend, quota, &stopped).await {
                    tracing::warn!(quota = %quota.row.name, %error, "leases could not be counted; what was counted before stays");
                }
            }
        }
    }

    /// Counts the leases of a quota, a page at a time; in between, commits go on.
    async fn count(&self, backend: &dyn Backend, quota: &LeaseQuota, stopped: &watch::Receiver<bool>) -> Result<()> {
        *quota.walk.lock() = Some(Walk { after: None, seen: 0 });
        while !*stopped.borrow() {
            let alone = self.gate.write().await;
            let after = quota.walk.lock().as_ref().and_then(|walk| walk.after.clone());
            let from = after.map(|id| lease_index_key(&id).bytes);
            let page = backend.keys(&lease_index_key(&quota.beginning), from.as_deref(), PAGE).await.map_err(read_error)?;
            if quota.walked(&page) {
                return Ok(());
            }
            drop(alone);
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

async fn existing(backend: &dyn Backend, keys: Vec<Key>) -> Result<Vec<String>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let read = backend.get_many(&keys).await.map_err(read_error)?;
    Ok(keys.iter().zip(read.found).filter(|(_, found)| found.is_some()).filter_map(|(key, _)| lease_id(key)).collect())
}

/// Places taken for a commit that is under way.
struct Pending<'a> {
    counts: &'a LeaseCounts,
    /// Each with the lease it was taken for.
    places: Vec<(Arc<LeaseQuota>, String)>,
    quotas: &'a [Arc<LeaseQuota>],
    settled: bool,
}

impl<'a> Pending<'a> {
    fn reserve(counts: &'a LeaseCounts, quotas: &'a [Arc<LeaseQuota>], added: Vec<String>) -> Result<Self> {
        let mut pending = Self { counts, places: Vec::new(), quotas, settled: false };
        for lease in added {
            let mut fitting: Vec<&Arc<LeaseQuota>> = quotas.iter().filter(|quota| lease.starts_with(&quota.beginning)).collect();
            fitting.sort_by_key(|quota| std::cmp::Reverse(quota.beginning.len()));
            let Some((closest, others)) = fitting.split_first() else { continue };
            if !closest.reserve() {
                counts.violations.add();
                pending.give_back();
                let path = lease.rsplit_once('/').map_or("", |(path, _)| path);
                let text = format!("1 error occurred:\n\t* request path {path:?}: lease count quota exceeded\n\n");
                return Err(Error::new(Kind::TooMany, text));
            }
            pending.places.push((Arc::clone(closest), lease.clone()));
            for quota in others {
                quota.live.fetch_add(1, Ordering::AcqRel);
                pending.places.push((Arc::clone(quota), lease.clone()));
            }
        }
        Ok(pending)
    }

    fn give_back(&mut self) {
        self.settled = true;
        for (quota, _) in self.places.drain(..) {
            quota.live.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn settle(mut self, done: &Result<u64, CommitError>, taken: &[String]) {
        match done {
            Ok(_) => {
                self.settled = true;
                self.places.iter().for_each(|(quota, lease)| quota.tell_walk(lease, 1));
                for lease in taken {
                    for quota in self.quotas.iter().filter(|quota| lease.starts_with(&quota.beginning)) {
                        quota.live.fetch_sub(1, Ordering::AcqRel);
                        quota.tell_walk(lease, -1);
                    }
                }
            }
            Err(
                CommitError::Conflict(_)
                | CommitError::Fenced(_)
                | CommitError::Full(_)
                | CommitError::TooLarge(_)
                | CommitError::Failed(_)
                | CommitError::Held(_)
                | CommitError::Stopped(_),
            ) => self.give_back(),
            // Dropped in doubt.
            Err(_) => {}
        }
    }
}

impl Drop for Pending<'_> {
    /// Given up, or failed in a way that does not say what became of it: only a count tells.
    fn drop(&mut self) {
        if !self.settled {
            self.give_back();
            self.quotas.iter().for_each(|quota| quota.counted.store(false, Ordering::Release));
            self.counts.wanted.notify_one();
        }
    }
}

/// Removals at one time, more or less.
const TURNS: usize = 64;
/// Entries that are counted at a time.
const PAGE: usize = 1_000;
/// How often everything is counted anew.
const RECOUNT: Duration = Duration::from_hours(1);
/// Quotas of this kind: each is looked at for each lease.
pub(crate) const LEASE_QUOTAS_MAX: usize = 100;
