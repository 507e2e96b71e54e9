//! What is due behind the first batch: there leases are looked for, so that no number of tokens that end together keeps a secret alive. Each look is bounded;
//! the next one goes on where it ended, until one comes to the end of all that is due. Also how late the worker is, for the metrics and the log.

use std::time::Duration;

use daypass_base::Timestamp;
use daypass_sdk::Result;
use daypass_storage::Due;
use parking_lot::Mutex;

use super::{BATCH, TICK, lease_id};
use crate::node::Unsealed;

/// Since when the oldest are late that are not settled, as far as the worker has looked. Nothing while revocation is paused.
#[derive(Debug, Default)]
pub(crate) struct Overdue(Mutex<Oldest>);

/// Since when the oldest of each kind is late.
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
    /// Nothing is warned of before this, on the clock's monotonic time.
    quiet_until: Option<Duration>,
}

/// What one look found.
pub(super) struct Look {
    pub(super) leases: Vec<Due>,
    /// Where the next one goes on; `None` behind the last entry that is due.
    pub(super) place: Option<Due>,
    /// Leases that were due before this were met on the way here, or are in the first batch.
    pub(super) met: Timestamp,
}

impl Further {
    /// Leases behind a first batch that is full. Errors: the store cannot be read.
    pub(super) async fn look(&self, unsealed: &Unsealed, first: &[Due], now: Timestamp) -> Result<Look> {
        let mut look = Look { leases: Vec::new(), place: None, met: now };
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
        look.met = place.at;
        look.place = Some(place);
        Ok(look)
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

/// Batches of one look: some milliseconds.
const BATCHES: usize = 4;
