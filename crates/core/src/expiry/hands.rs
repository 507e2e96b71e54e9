//! Secrets that are being taken back: a few at a time, and of one mount only so many, so that an AWS that does not answer holds up nobody else's.
//!
//! The worker does not wait for them: what is under way goes on in tasks of its own while it does other things. It must: a commit that is under way may
//! hold a lock that the worker's own next commit waits for. In memory are those few alone. What finds no place stays due.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use daypass_base::Timestamp;
use daypass_sdk::Result;
use daypass_storage::{Batch, Due};
use tokio::task::{JoinError, JoinSet};

use super::put_off::PutOff;
use super::tasks::Tasks;
use super::{PATIENCE, TICK, lease, lease_id, put_off};
use crate::leases::LeaseRow;
use crate::node::{Inner, Unsealed};

/// Whether a mount's engine answered within the worker's patience, whatever it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    InTime,
    TooLate,
}

/// What is under way, by mount.
pub(super) struct Hands {
    /// Each says how long it took.
    held: Tasks<DueLease, Took>,
    /// How long the mounts take for one secret, of late.
    paces: HashMap<String, Duration>,
    /// Mounts that did not answer when they were last asked. They are asked about one lease at a time.
    slow: HashSet<String>,
    put_off: PutOff,
}

/// Whether a mount answered in time about one secret, and how long it took.
type Took = (Answered, Duration);

/// A lease that came due.
pub(super) struct DueLease {
    entry: Due,
    /// The accessor of the mount that has to take its secret back. Empty when there is no lease any more or it cannot be read: that is nobody's, and found
    /// out again.
    mount: String,
    /// Since when it is late.
    since: Timestamp,
}

impl DueLease {
    async fn read(unsealed: &Unsealed, entry: Due) -> Self {
        let held = match lease_id(&entry) {
            Some(id) => unsealed.leases.by_internal_id(id).await.ok().flatten(),
            None => None,
        };
        let since = held.as_ref().map_or(entry.at, |held| since(&held.row, entry.at));
        Self { mount: held.map(|held| held.row.mount_accessor).unwrap_or_default(), entry, since }
    }
}

/// Since when a lease is late whose entry came due at `at`. Its row says it, since the entry may be there because it was put off, which leaves the row as it is.
/// What has failed is to be left alone until it is tried again; a parked one, too. Rows of before say of a failure, but not until when: until the next one.
fn since(row: &LeaseRow, at: Timestamp) -> Timestamp {
    match row.again {
        Some(again) => again.min(at),
        None if row.attempts > 0 => at,
        None => row.expires.min(at),
    }
}

impl Hands {
    pub(super) fn new() -> Self {
        Self { held: Tasks::new(), paces: HashMap::new(), slow: HashSet::new(), put_off: PutOff::default() }
    }

    /// Reads leases that came due, but those that are in hand.
    pub(super) async fn read(&self, unsealed: &Unsealed, due: Vec<Due>) -> Vec<DueLease> {
        let mut leases = Vec::with_capacity(due.len());
        for entry in due {
            // Not by the whole entry: a lease may have two, and its secret is taken back once at a time.
            if !self.held.iter().any(|held| held.entry.id == entry.id) {
                leases.push(DueLease::read(unsealed, entry).await);
            }
        }
        leases
    }

    /// Since when the oldest is late: of these, of those in hand, and of those that are put off. `met`: all that were due before are among them.
    pub(super) fn oldest(&mut self, leases: &[DueLease], met: Timestamp) -> Option<Timestamp> {
        self.put_off.met(met);
        leases.iter().chain(self.held.iter()).map(|lease| lease.since).chain(self.put_off.oldest()).min()
    }

    /// Begins with these leases, as there is room, until none is left or its turn is over. Returns whether none is left; others stay due.
    /// `full`: more may have come due than these. Then those whose mount will not come to them within a turn are put off until it may, since others may be
    /// behind them: a batch is always taken from the front.
    pub(super) async fn take(
        &mut self,
        inner: &Arc<Inner>,
        unsealed: &Arc<Unsealed>,
        mut waiting: Vec<DueLease>,
        full: bool,
        now: Timestamp,
    ) -> Result<bool> {
        let mut turn = inner.clock.sleep(TURN);
        loop {
            self.free_the_ended();
            let (mut left, mut later, mut queues) = (Vec::new(), Batch::new(), HashMap::<String, u32>::new());
            for lease in waiting {
                let of_mount = self.held.iter().filter(|held| held.mount == lease.mount).count();
                let places = if self.slow.contains(&lease.mount) { 1 } else { usize::from(PLACES_OF_MOUNT) };
                let wait = if of_mount < places { Duration::ZERO } else { self.wait_in(&mut queues, &lease.mount) };
                if full && wait > TURN {
                    self.put_off.note(now + wait, lease.since);
                    later = later.not_due(lease.entry.clone()).due(Due { at: now + wait, ..lease.entry });
                } else if self.held.count() < PLACES && of_mount < places {
                    self.begin(inner, unsealed, lease, now);
                } else {
                    left.push(lease);
                }
            }
            if !later.due_add.is_empty() {
                unsealed.rows.commit(later).await?;
            }
            if left.is_empty() {
                return Ok(true);
            }
            waiting = left;
            tokio::select! {
                biased;
                () = self.one_free() => {}
                () = &mut turn => return Ok(false),
            }
        }
    }

    /// Puts one more lease into the queue of those that wait for their mount. Returns how long it may wait.
    fn wait_in(&self, queues: &mut HashMap<String, u32>, mount: &str) -> Duration {
        if self.slow.contains(mount) {
            return TICK;
        }
        let queue = queues.entry(mount.to_owned()).or_default();
        *queue += 1;
        let pace = self.paces.get(mount).copied().unwrap_or(PACE);
        (pace.saturating_mul(*queue) / u32::from(PLACES_OF_MOUNT)).min(TICK)
    }

    /// Waits until a place becomes free; for ever while all are.
    pub(super) async fn one_free(&mut self) {
        let (held, ended) = self.held.next().await;
        self.free(held, ended);
    }

    /// The tasks, to be waited for at the end. Nothing more is begun.
    pub(super) fn into_running(self) -> JoinSet<Took> {
        self.held.into_running()
    }

    /// Counts as in hand no longer what has ended.
    pub(super) fn free_the_ended(&mut self) {
        while let Some((held, ended)) = self.held.ended() {
            self.free(held, ended);
        }
    }

    fn free(&mut self, held: DueLease, ended: Result<Took, JoinError>) {
        // An error: it panicked. Its lease is still due.
        let (answered, took) = ended.unwrap_or((Answered::InTime, PACE));
        let DueLease { mount, .. } = held;
        self.note_pace(&mount, took);
        match answered {
            Answered::InTime => drop(self.slow.remove(&mount)),
            Answered::TooLate => {
                if self.slow.len() >= MOUNTS_MAX {
                    self.slow.clear();
                }
                tracing::warn!(accessor = %mount, "a mount takes no secrets back within {} s; it is asked about one lease at a time", PATIENCE.as_secs());
                self.slow.insert(mount);
            }
        }
    }

    fn note_pace(&mut self, mount: &str, took: Duration) {
        if self.paces.len() >= MOUNTS_MAX {
            self.paces.clear();
        }
        let pace = self.paces.entry(mount.to_owned()).or_insert(took);
        *pace = (*pace * 3 + took) / 4;
    }

    fn begin(&mut self, inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, lease: DueLease, now: Timestamp) {
        let (inner, unsealed, due) = (Arc::clone(inner), Arc::clone(unsealed), lease.entry.clone());
        let task = async move {
            let began = inner.clock.elapsed();
            let settled = settle(&inner, &unsealed, &due, now).await;
            let answered = match settled {
                Ok(answered) => answered,
                Err(error) => {
                    tracing::warn!(%error, "a lease that came due could not even be put off; it is tried again");
                    // It is still due: the next look would find it at once.
                    inner.clock.sleep(TURN).await;
                    Answered::InTime
                }
            };
            (answered, inner.clock.elapsed().saturating_sub(began))
        };
        self.held.begin(lease, task);
    }
}

async fn settle(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, entry: &Due, now: Timestamp) -> Result<Answered> {
    let Some(id) = lease_id(entry) else { return Ok(Answered::InTime) };
    match lease(inner, unsealed, entry, id, now).await {
        Ok(answered) => Ok(answered),
        Err(error) => put_off(unsealed, entry, now, &error).await.map(|()| Answered::InTime),
    }
}

/// Secrets that are taken back at the same moment: most of their time they wait for AWS.
const PLACES: usize = 16;
/// Of one mount.
const PLACES_OF_MOUNT: u8 = 8;
/// How long a mount takes for one secret, before it is known.
const PACE: Duration = Duration::from_millis(100);
/// Mounts that are remembered as slow, or with their pace; beyond that they are found out again.
const MOUNTS_MAX: usize = 1_000;
/// After so long other work has its turn, sweeps and what came due meanwhile.
const TURN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Story: the count went by the entry, which moves on each time that a hung mount does not come to a lease: a parked one was never late by more than a minute.
    #[test]
    fn a_lease_that_is_put_off_is_late_since_its_row_says_so() {
        let at = Timestamp::from_seconds;
        let row = |attempts: u32, again: Option<i64>| -> LeaseRow {
            let row = json!({ "id": "numbers/lend/x", "mount_accessor": "lender_1", "token": null, "internal": {}, "issued": at(0), "expires": at(100), "ttl": 0,
                              "max_ttl": 0, "renewable": false, "attempts": attempts, "again": again.map(at) });
            serde_json::from_value(row).unwrap()
        };
        for (attempts, again, since_then) in
            [(0, None, 100), (5, Some(400), 400), (6, Some(800), 800), (6, Some(2_000), 900), (0, Some(50), 50), (3, None, 900)]
        {
            assert_eq!(since(&row(attempts, again), at(900)), at(since_then), "{attempts} {again:?}");
        }
    }
}
