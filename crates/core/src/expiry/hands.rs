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

use super::tasks::Tasks;
use super::{PATIENCE, TICK, lease, lease_id, put_off};
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
    held: Tasks<InHand, Took>,
    /// How long the mounts take for one secret, of late.
    paces: HashMap<String, Duration>,
    /// Mounts that did not answer when they were last asked. They are asked about one lease at a time.
    slow: HashSet<String>,
}

/// Whether a mount answered in time about one secret, and how long it took.
type Took = (Answered, Duration);

/// A lease whose secret is being taken back.
struct InHand {
    entry: Due,
    /// The accessor of its mount.
    mount: String,
}

impl Hands {
    pub(super) fn new() -> Self {
        Self { held: Tasks::new(), paces: HashMap::new(), slow: HashSet::new() }
    }

    pub(super) fn hold(&self, entry: &Due) -> bool {
        self.held.iter().any(|held| held.entry == *entry)
    }

    /// Begins with leases that came due, as there is room, until none is left or its turn is over. Returns whether none is left; others stay due.
    /// `full`: more may have come due than these. Then those whose mount will not come to them within a turn are put off until it may, since others may be
    /// behind them: a batch is always taken from the front.
    pub(super) async fn take(
        &mut self,
        inner: &Arc<Inner>,
        unsealed: &Arc<Unsealed>,
        due: Vec<Due>,
        full: bool,
        now: Timestamp,
    ) -> Result<bool> {
        let mut waiting = Vec::with_capacity(due.len());
        for entry in due {
            let mount = mount_of(unsealed, &entry).await;
            waiting.push((entry, mount));
        }
        let mut turn = inner.clock.sleep(TURN);
        loop {
            self.free_the_ended();
            let (mut left, mut later, mut queues) = (Vec::new(), Batch::new(), HashMap::<String, u32>::new());
            for (entry, mount) in waiting {
                let of_mount = self.held.iter().filter(|held| held.mount == mount).count();
                let places = if self.slow.contains(&mount) { 1 } else { usize::from(PLACES_OF_MOUNT) };
                let wait = if of_mount < places { Duration::ZERO } else { self.wait_in(&mut queues, &mount) };
                if full && wait > TURN {
                    later = later.not_due(entry.clone()).due(Due { at: now + wait, ..entry });
                } else if self.held.count() < PLACES && of_mount < places {
                    self.begin(inner, unsealed, entry, mount, now);
                } else {
                    left.push((entry, mount));
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

    fn free_the_ended(&mut self) {
        while let Some((held, ended)) = self.held.ended() {
            self.free(held, ended);
        }
    }

    fn free(&mut self, held: InHand, ended: Result<Took, JoinError>) {
        // An error: it panicked. Its lease is still due.
        let (answered, took) = ended.unwrap_or((Answered::InTime, PACE));
        let InHand { mount, .. } = held;
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

    fn begin(&mut self, inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, entry: Due, mount: String, now: Timestamp) {
        let (inner, unsealed, due) = (Arc::clone(inner), Arc::clone(unsealed), entry.clone());
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
        self.held.begin(InHand { entry, mount }, task);
    }
}

async fn settle(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, entry: &Due, now: Timestamp) -> Result<Answered> {
    let Some(id) = lease_id(entry) else { return Ok(Answered::InTime) };
    match lease(inner, unsealed, entry, id, now).await {
        Ok(answered) => Ok(answered),
        Err(error) => put_off(unsealed, entry, now, &error).await.map(|()| Answered::InTime),
    }
}

/// The mount that has to take a lease's secret back. Empty when there is no lease any more or it cannot be read: that is nobody's, and found out again.
async fn mount_of(unsealed: &Unsealed, entry: &Due) -> String {
    let Some(id) = lease_id(entry) else { return String::new() };
    let held = unsealed.leases.by_internal_id(id).await;
    held.ok().flatten().map(|held| held.row.mount_accessor).unwrap_or_default()
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
