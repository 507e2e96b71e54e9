//! Whether a token may be used: by its own row, and by those that it descends from, where what hangs on those may not have been revoked yet.
//!
//! The expiry worker revokes a token that has ended together with what descends from it, within a second, so that nobody asks while it is up to date. It does not
//! come to that while revocation is paused, nor where the store takes nothing, and is late where very much comes due at once: then each look goes up the line.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use daypass_sdk::{Result, TokenId};
use parking_lot::Mutex;

use super::{TokenRow, Tokens, token_key};

impl Tokens {
    pub(super) async fn is_alive(&self, row: &TokenRow) -> Result<bool> {
        Ok(!row.ended(self.clock.now()) && !self.is_doomed(row).await?)
    }

    /// Whether it goes with one that it descends from, or a sweep will come to it or to one of those. Nothing is read while there is no sweep and no arrears.
    async fn is_doomed(&self, row: &TokenRow) -> Result<bool> {
        let arrears = self.arrears.may_be(self.clock.elapsed());
        if !arrears && self.sweeps.is_empty() {
            return Ok(false);
        }
        if self.sweeps.cover(row) {
            return Ok(true);
        }
        let (mut next, now) = (row.parent, self.clock.now());
        for _ in 0..FOREBEARS_MAX {
            let Some(parent) = next else { return Ok(false) };
            let parent = match self.rows.seek::<TokenRow>(&token_key(TokenId(parent))).await?.0 {
                None => return Ok(false),
                // Nobody can tell whether that one has ended or a sweep comes to it, or to one above it.
                Some(Err(_)) => return Ok(true),
                Some(Ok(parent)) => parent.value,
            };
            if arrears && parent.ended(now) || self.sweeps.cover(&parent) {
                return Ok(true);
            }
            next = parent.parent;
        }
        Ok(arrears)
    }
}

/// Whether tokens that have ended may not have been revoked: from the start until the expiry worker has come to the end of all that was due, and again while it
/// does not get on, or is behind for longer than [`BEHIND_MAX`].
#[derive(Default)]
pub(crate) struct Arrears {
    /// When it last was through, in milliseconds of the clock's monotonic time and one more; nothing while it does not get on.
    through: AtomicU64,
    /// When it last did not get on, on the clock's monotonic time.
    stuck: Mutex<Option<Duration>>,
}

/// How far the expiry worker came in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// Through all that was due.
    Through,
    /// So far; it goes on.
    SoFar,
    /// Nowhere, since revocation is paused, or not past something that could not be revoked.
    Nowhere,
}

impl Arrears {
    fn may_be(&self, now: Duration) -> bool {
        let through = self.through.load(Ordering::Relaxed);
        through == 0 || mark(now) > through.saturating_add(mark(BEHIND_MAX))
    }

    /// Notes how far the worker came at this moment; what could not be revoked is tried again after `again`.
    pub(crate) fn note(&self, came: Came, now: Duration, again: Duration) {
        let mut stuck = self.stuck.lock();
        match came {
            Came::Nowhere => {
                *stuck = Some(now);
                self.through.store(0, Ordering::Relaxed);
            }
            Came::Through if stuck.is_none_or(|since| now.saturating_sub(since) > again) => {
                self.through.store(mark(now), Ordering::Relaxed);
            }
            Came::Through | Came::SoFar => {}
        }
    }
}

/// Never nothing.
fn mark(now: Duration) -> u64 {
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

/// A worker that has nothing to do is through twice a second.
const BEHIND_MAX: Duration = Duration::from_secs(5);
/// So far up it is looked. One further down is refused when a sweep has come to it, and for as long as there may be arrears.
const FOREBEARS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrears_are_over_when_what_could_not_be_revoked_was_tried_again() {
        let (arrears, again) = (Arrears::default(), Duration::from_secs(10));
        let note = |came, seconds| {
            arrears.note(came, Duration::from_secs(seconds), again);
            arrears.may_be(Duration::from_secs(seconds))
        };
        assert!(note(Came::SoFar, 1), "what ended before the start");
        assert!(!note(Came::Through, 2));
        assert!(!note(Came::SoFar, 3), "it is at it");
        assert!(note(Came::Nowhere, 4));
        assert!(note(Came::Through, 5), "that is put off, and nothing else is due");
        assert!(note(Came::Nowhere, 15));
        assert!(!note(Came::Through, 26));
        // Story: while one large family was revoked, its members at the end of the line went on for minutes.
        assert!(!note(Came::SoFar, 31));
        assert!(note(Came::SoFar, 32), "it is at it for too long");
        assert!(!note(Came::Through, 33));
    }
}
