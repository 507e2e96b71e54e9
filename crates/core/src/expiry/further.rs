//! What is due behind the first batch: there leases are looked for, so that no number of tokens that end together keeps a secret alive. Each look is bounded;
//! the next one goes on where it ended, until one comes to the end of all that is due. Also how late the worker is, for the metrics and the log.

use std::time::Duration;

use daypass_base::Timestamp;
use daypass_sdk::Result;
use daypass_storage::Due;
use parking_lot::Mutex;

use super::{BATCH, TICK, lease_id, token_id};
use crate::node::Unsealed;

/// When the oldest entries were due that are not settled, as far as the worker has looked. Nothing while revocation is paused.
#[derive(Debug, Default)]
pub(crate) struct Overdue(Mutex<Oldest>);

/// When the oldest of each kind was due.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Oldest {
    pub(crate) lease: Option<Timestamp>,
    pub(crate) token: Option<Timestamp>,
}

impl Overdue {
    pub(crate) fn read(&self) -> Oldest {
        *self.0.lock()
    }

    pub(super) fn note(&self, oldest: Oldest) {
        *self.0.lock() = oldest;
    }
}

/// How far the worker has looked for leases.
#[derive(Default)]
pub(super) struct Further {
    /// Behind this the next look begins; behind the first batch where there is none.
    place: Option<Due>,
    /// When the oldest lease was due that was met since the last look which came to the end, and on the way to that.
    met: Option<Timestamp>,
    met_before: Option<Timestamp>,
    /// Nothing is warned of before this, on the clock's monotonic time.
    quiet_until: Option<Duration>,
}

/// What one look found.
pub(super) struct Look {
    pub(super) leases: Vec<Due>,
    /// Where the next one goes on; `None` behind the last entry that is due.
    pub(super) place: Option<Due>,
}

impl Further {
    /// Leases behind a first batch that is full. Errors: the store cannot be read.
    pub(super) async fn look(&self, unsealed: &Unsealed, first: &[Due], now: Timestamp) -> Result<Look> {
        let mut look = Look { leases: Vec::new(), place: None };
        let Some(last) = first.last().filter(|_| first.len() >= BATCH) else { return Ok(look) };
        let mut place = self.place.as_ref().filter(|place| *place > last).unwrap_or(last).clone();
        for _ in 0..BATCHES {
            let batch = unsealed.rows.due_behind(&place, now, BATCH).await?;
            let ended = batch.len() < BATCH;
            if let Some(last) = batch.last() {
                place.clone_from(last);
            }
            look.leases.extend(batch.into_iter().filter(|entry| lease_id(entry).is_some()));
            if ended {
                return Ok(look);
            }
            if look.leases.len() >= BATCH {
                break;
            }
        }
        look.place = Some(place);
        Ok(look)
    }

    /// The oldest that is due by a first batch and a look.
    pub(super) fn oldest(&mut self, first: &[Due], look: &Look) -> Oldest {
        let at = |entry: &Due| entry.at;
        let token = first.iter().find(|entry| token_id(entry).is_some()).map(at);
        let lease = first.iter().find(|entry| lease_id(entry).is_some()).or(look.leases.first()).map(at);
        if first.len() < BATCH {
            (self.met, self.met_before) = (None, None);
            return Oldest { lease, token };
        }
        self.met = earliest(self.met, lease);
        let oldest = Oldest { lease: earliest(self.met, self.met_before), token };
        if look.place.is_none() {
            self.met_before = self.met.take();
        }
        oldest
    }

    /// The next look goes on behind this one: all that it found was begun.
    pub(super) fn go_on(&mut self, place: Option<Due>) {
        self.place = place;
    }

    /// Says in the log that secrets are kept alive for too long; once a minute, and not at once after the start.
    pub(super) fn warn(&mut self, oldest: &Oldest, now: Timestamp, elapsed: Duration) {
        let quiet_until = *self.quiet_until.get_or_insert(elapsed + TICK);
        let Some(late) = oldest.lease.map(|at| now.since(at)).filter(|late| *late > TICK && elapsed >= quiet_until) else { return };
        self.quiet_until = Some(elapsed + TICK);
        tracing::warn!(
            seconds = late.as_secs(),
            "a secret whose time is over is not taken back yet: more comes due than the server gets done"
        );
    }
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// Batches of one look: some milliseconds.
const BATCHES: usize = 4;
