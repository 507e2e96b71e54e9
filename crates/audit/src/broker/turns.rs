//! What the log is told when no device takes a record: each turn, and not each request.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use daypass_base::Clock;

use super::AuditFailed;
use crate::record::Share;
use crate::sink::SinkError;

/// How it went so far.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Whether the devices take nothing at all.
    refusing: AtomicBool,
    /// The minute when a record was last told of that is refused where others are taken, counted from 1; 0 is never.
    told: AtomicU64,
}

impl Turns {
    /// A record of this share came to this end.
    pub(super) fn tell(&self, outcome: &Result<(), AuditFailed>, share: Share, clock: &dyn Clock) {
        let refused = match outcome {
            Err(error) if is_of_the_record(error, share) => return self.tell_of_one(error, clock),
            other => other.is_err(),
        };
        if self.refusing.load(Ordering::Relaxed) == refused || self.refusing.swap(refused, Ordering::Relaxed) == refused {
            return;
        }
        match outcome {
            Ok(()) => tracing::info!("an audit device takes records again: requests are served"),
            Err(error) => tracing::error!(%error, "requests are refused until an audit device takes their records"),
        }
    }

    /// Once a minute: they do not take turns, and strangers may make many.
    fn tell_of_one(&self, error: &AuditFailed, clock: &dyn Clock) {
        let minute = clock.elapsed().as_secs() / 60 + 1;
        if self.told.swap(minute, Ordering::Relaxed) != minute {
            tracing::error!(%error, "a request is refused, for its own record or for those of callers without a token; others are served");
        }
    }
}

/// Whether other records may be taken where this one was not: it is too long, or strangers fill their share of the queue.
fn is_of_the_record(error: &AuditFailed, share: Share) -> bool {
    error.failures.iter().all(|(_, error)| error.is_of_the_line() || share == Share::Half && matches!(error, SinkError::QueueFull { .. }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use daypass_base::sim::SimClock;

    use super::*;

    fn failed(error: SinkError) -> AuditFailed {
        AuditFailed { failures: vec![("file/".to_owned(), error)] }
    }

    /// Story: a line of 40 MB found no room beside another, and the log said that requests are refused until a device takes records; the next was served.
    #[test]
    fn a_record_that_is_refused_alone_is_no_turn_and_is_told_once_a_minute() {
        let full = |line: usize| failed(SinkError::QueueFull { line, lines: 8192, bytes: 64 << 20 });
        let too_long = failed(SinkError::Line("Message too long".to_owned()));
        assert!(is_of_the_record(&full(40 << 20), Share::All) && is_of_the_record(&too_long, Share::All));
        assert!(!is_of_the_record(&full(1000), Share::All) && is_of_the_record(&full(1000), Share::Half));
        assert!(!is_of_the_record(&failed(SinkError::Closed), Share::Half));
        let mut mixed = full(40 << 20);
        mixed.failures.push(("socket/".to_owned(), SinkError::Closed));
        assert!(!is_of_the_record(&mixed, Share::All), "another device takes nothing");

        let (turns, clock) = (Turns::default(), SimClock::default());
        let minute = || turns.told.load(Ordering::Relaxed);
        turns.tell(&Err(full(40 << 20)), Share::All, &clock);
        let first = minute();
        assert!(first > 0 && !turns.refusing.load(Ordering::Relaxed));
        turns.tell(&Err(full(1000)), Share::All, &clock);
        assert!(turns.refusing.load(Ordering::Relaxed));
        turns.tell(&Err(too_long), Share::All, &clock);
        assert!(turns.refusing.load(Ordering::Relaxed), "it says nothing about others");
        assert_eq!(minute(), first);
        clock.advance(Duration::from_mins(1));
        turns.tell(&Err(full(1000)), Share::Half, &clock);
        assert_eq!(minute(), first + 1);
        turns.tell(&Ok(()), Share::Half, &clock);
        assert!(!turns.refusing.load(Ordering::Relaxed));
    }
}
