//! Regular work: the engines' own, and mounts whose removal was interrupted.
//!
//! Each piece is a task of its own, a few at a time, and none is begun while it still runs: an AWS that does not answer holds up neither the other
//! mounts' work nor what comes due.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use daypass_sdk::Request;
use tokio::task::{JoinError, JoinSet};

use super::tasks::Tasks;
use super::{PATIENCE, TICK};
use crate::node::{Inner, Unsealed};
use crate::stages::intent::context;

/// A piece of work that comes again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Chore {
    /// A mount's own, by its accessor.
    Mount(String),
    /// Has parked leases tried again that have no entry for that.
    Parked,
    /// Goes on with mounts whose removal was interrupted, and opens those whose move was, also while revocation is paused.
    Removals,
}

/// What is under way, and what waits for a place.
pub(super) struct Chores {
    running: Tasks<Chore, ()>,
    waiting: VecDeque<Chore>,
    /// When parked leases are looked at next, on the clock's monotonic time.
    parked_next: Option<Duration>,
}

impl Chores {
    pub(super) fn new() -> Self {
        Self { running: Tasks::new(), waiting: VecDeque::new(), parked_next: None }
    }

    /// Everything that the mounts want done.
    pub(super) fn want_mounts(&mut self, unsealed: &Unsealed) {
        for live in unsealed.table.load().all().filter(|live| !live.row.builtin) {
            self.want(Chore::Mount(live.row.accessor.clone()));
        }
    }

    /// Once an hour, and not at once after the start.
    pub(super) fn want_parked(&mut self, elapsed: Duration) {
        if elapsed >= *self.parked_next.get_or_insert(elapsed + HOUR) {
            self.parked_next = Some(elapsed + HOUR);
            self.want(Chore::Parked);
        }
    }

    pub(super) fn want_removals(&mut self) {
        self.want(Chore::Removals);
    }

    fn want(&mut self, chore: Chore) {
        self.free_the_ended();
        if !self.waiting.contains(&chore) && !self.running.iter().any(|begun| *begun == chore) {
            self.waiting.push_back(chore);
        }
    }

    /// Begins with what waits, as there is room.
    pub(super) fn go_on(&mut self, inner: &Arc<Inner>, unsealed: &Arc<Unsealed>) {
        self.free_the_ended();
        while self.running.count() < PLACES {
            let Some(chore) = self.waiting.pop_front() else { return };
            let work = run(Arc::clone(inner), Arc::clone(unsealed), chore.clone());
            self.running.begin(chore, work);
        }
    }

    /// Waits until there is a place for something that waits; for ever where nothing does.
    pub(super) async fn one_free(&mut self) {
        if self.waiting.is_empty() {
            return std::future::pending().await;
        }
        let (_, ended) = self.running.next().await;
        tell(ended);
    }

    /// The tasks, to be waited for at the end. Nothing more is begun.
    pub(super) fn into_running(self) -> JoinSet<()> {
        self.running.into_running()
    }

    fn free_the_ended(&mut self) {
        while let Some((_, ended)) = self.running.ended() {
            tell(ended);
        }
    }
}

fn tell(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "regular work ended badly; it is tried again");
    }
}

async fn run(inner: Arc<Inner>, unsealed: Arc<Unsealed>, chore: Chore) {
    match chore {
        // It may have been paused while this waited for a place. It is wanted again.
        Chore::Mount(_) | Chore::Parked if unsealed.revocation.is_paused() => {}
        Chore::Mount(accessor) => tick(&inner, &unsealed, &accessor).await,
        Chore::Parked => wake_parked(&unsealed).await,
        Chore::Removals => finish_removals(&inner, &unsealed).await,
    }
}

async fn tick(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, accessor: &str) {
    let table = unsealed.table.load_full();
    // It may have been removed while this waited.
    let Some(live) = table.by_accessor(accessor) else { return };
    let request = Request { id: crate::ids::uuid(&*inner.entropy), path: live.row.path.clone(), deadline: TICK, ..Request::default() };
    if let Err(error) = live.engine.tick(context(inner, live, request)).await {
        tracing::warn!(mount = %live.row.path, %error, "a mount's regular work failed; it is tried again in a minute");
    }
}

async fn wake_parked(unsealed: &Unsealed) {
    match unsealed.leases.wake(|| !unsealed.is_stopping()).await {
        Ok(0) => {}
        Ok(leases) => {
            tracing::info!(leases, "leases whose secrets could not be taken back are tried again within an hour, and then once a day");
        }
        Err(error) => {
            tracing::warn!(%error, "leases whose secrets could not be taken back could not be looked at; it is tried again in an hour");
        }
    }
}

/// Each goes on for a while: the rest of one that hangs waits for the next time, so that whoever removes the mount meanwhile has a turn.
async fn finish_removals(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>) {
    if let Err(error) = crate::rooms::sys::finish_removals(inner, unsealed, PATIENCE).await {
        tracing::warn!(%error, "mounts whose removal was interrupted could not be looked at; it is tried again");
    }
}

const HOUR: Duration = Duration::from_hours(1);
/// Pieces of regular work at the same moment.
const PLACES: usize = 8;
