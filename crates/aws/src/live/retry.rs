//! When a failed call is made again: after a wait that grows and is drawn by lot, within the deadline of the request, and under a rate
//! that all callers of one target and account share, so that many callers together do not keep AWS from recovering.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daypass_base::{Clock, Entropy};

use crate::{AwsError, ErrorKind};

/// The first wait is drawn from zero to this, the next from zero to twice as much, and so on.
const WAIT_FIRST: Duration = Duration::from_millis(100);
/// No wait is drawn from more than this.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Where no connection can be opened, a call is made again for so long: over a restart of a proxy, but not over a wrong host name.
const UNCONNECTED_MAX: Duration = Duration::from_secs(5);
/// Between two retries, in the long run: 50 a second.
const INTERVAL: Duration = Duration::from_millis(20);
/// Retries that may come at once after a quiet time.
const BURST: u32 = 100;
/// Targets and accounts whose rates are kept apart; what comes on top shares one.
const BUCKETS_MAX: usize = 1024;

/// A call that failed, and what may help.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: AwsError,
    pub(super) remedy: Remedy,
}

/// Whether asking again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// No: AWS said no, or the settings are wrong.
    None,
    /// After a wait; AWS may have said how long it takes at least.
    Wait(Option<Duration>),
    /// After a wait, but not for long: nothing was there.
    WaitALittle,
}

impl Failed {
    /// Sorts AWS's own answers.
    pub(super) fn answered(error: AwsError, retry_after: Option<Duration>) -> Self {
        let remedy = match error.kind {
            ErrorKind::Throttled | ErrorKind::Unreachable => Remedy::Wait(retry_after),
            _ => Remedy::None,
        };
        Self { error, remedy }
    }
}

impl Progress {
    /// A call for which `bucket` stands, with its limits on the monotonic clock.
    pub(super) fn of(bucket: String, began: Duration, end: Duration) -> Self {
        Self { bucket, most: None, began, end, made: 0 }
    }
}

/// The rates of all targets.
pub(super) struct Retries {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// The moment, on the monotonic clock, at which each bucket is full again.
    buckets: Mutex<HashMap<String, Duration>>,
}

/// How far one call has come.
pub(super) struct Progress {
    /// Whose rate it uses.
    bucket: String,
    /// Retries that the configuration allows.
    pub(super) most: Option<u32>,
    began: Duration,
    end: Duration,
    made: u32,
}

impl Retries {
    pub(super) fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { clock, entropy, buckets: Mutex::default() }
    }

    /// How long to wait before the call is made again; `None` when it is to fail now.
    pub(super) fn wait(&self, progress: &mut Progress, remedy: Remedy) -> Option<Duration> {
        let now = self.clock.elapsed();
        let least = match remedy {
            Remedy::None => return None,
            Remedy::Wait(least) => least.unwrap_or_default(),
            Remedy::WaitALittle if now.saturating_sub(progress.began) > UNCONNECTED_MAX => return None,
            Remedy::WaitALittle => Duration::ZERO,
        };
        if progress.most.is_some_and(|most| progress.made >= most) {
            return None;
        }
        let wait = self.lot(progress.made).max(least);
        let at = self.reserve(&progress.bucket, now, now + wait, progress.end)?;
        progress.made = progress.made.saturating_add(1);
        Some(at.saturating_sub(now))
    }

    /// From zero to a span that doubles with each retry.
    fn lot(&self, made: u32) -> Duration {
        let span = WAIT_FIRST.saturating_mul(2_u32.saturating_pow(made.min(16))).min(WAIT_MAX);
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.entropy.below(nanos))
    }

    /// The first moment from `at` on at which the bucket has a token, which is taken; `None` and nothing taken when that is too late.
    fn reserve(&self, bucket: &str, now: Duration, at: Duration, end: Duration) -> Option<Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX {
            buckets.retain(|_, full| *full > now);
        }
        let bucket = if buckets.len() < BUCKETS_MAX || buckets.contains_key(bucket) { bucket } else { "" };
        let full = buckets.get(bucket).copied().unwrap_or_default().max(now) + INTERVAL;
        let at = at.max(full.saturating_sub(INTERVAL * BURST));
        if at >= end {
            return None;
        }
        buckets.insert(bucket.to_owned(), full);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daypass_base::sim::{SeededEntropy, SimClock};

    fn retries(clock: &SimClock) -> Retries {
        Retries::new(Arc::new(clock.clone()), Arc::new(SeededEntropy::new(3)))
    }

    fn begin(retries: &Retries, bucket: &str, deadline: Duration) -> Progress {
        let began = retries.clock.elapsed();
        Progress::of(bucket.to_owned(), began, began + deadline)
    }

    #[test]
    fn waits_grow_and_differ_but_stay_within_bounds() {
        let retries = retries(&SimClock::default());
        let mut progress = begin(&retries, "a", Duration::from_hours(1));
        let waits: Vec<_> = (0..40).map(|_| retries.wait(&mut progress, Remedy::Wait(None)).unwrap()).collect();
        assert!(waits[0] < WAIT_FIRST && waits.iter().all(|wait| *wait < WAIT_MAX));
        assert!(waits[20..].iter().max() > Some(&Duration::from_secs(3)), "{waits:?}");
    }

    #[test]
    fn many_callers_together_keep_to_the_rate() {
        let clock = SimClock::default();
        let retries = retries(&clock);
        let mut last: Vec<_> = (0..1_000)
            .map(|_| {
                let mut progress = begin(&retries, "a", Duration::from_mins(1));
                retries.wait(&mut progress, Remedy::Wait(None)).unwrap()
            })
            .collect();
        last.sort();
        let at = |second: u64| last.iter().filter(|wait| **wait <= Duration::from_secs(second)).count();
        assert!(at(1) <= 151 && at(2) <= 201 && at(10) <= 601, "{} {} {}", at(1), at(2), at(10));
        assert_eq!(at(19), 1_000, "and all of them come to pass");
        let mut other = begin(&retries, "b", Duration::from_mins(1));
        assert!(retries.wait(&mut other, Remedy::Wait(None)).unwrap() < WAIT_FIRST, "others have a rate of their own");
    }

    #[test]
    fn who_would_wait_beyond_the_deadline_fails_now_and_takes_nothing() {
        let clock = SimClock::default();
        let retries = retries(&clock);
        for _ in 0..BURST {
            let mut progress = begin(&retries, "a", Duration::from_mins(1));
            retries.wait(&mut progress, Remedy::Wait(None)).unwrap();
        }
        for _ in 0..500 {
            let mut hurried = begin(&retries, "a", Duration::from_micros(10));
            assert_eq!(retries.wait(&mut hurried, Remedy::Wait(None)), None);
        }
        let mut patient = begin(&retries, "a", Duration::from_mins(1));
        assert!(retries.wait(&mut patient, Remedy::Wait(None)).unwrap() < Duration::from_millis(200));
        let mut told = begin(&retries, "b", Duration::from_mins(1));
        let wait = retries.wait(&mut told, Remedy::Wait(Some(Duration::from_secs(7))));
        assert_eq!(wait, Some(Duration::from_secs(7)), "AWS's own word is kept to");
        assert_eq!(retries.wait(&mut told, Remedy::Wait(Some(Duration::from_mins(2)))), None);
    }

    #[test]
    fn refusals_and_what_the_configuration_forbids_are_not_retried() {
        let clock = SimClock::default();
        let retries = retries(&clock);
        let mut progress = begin(&retries, "a", Duration::from_mins(1));
        assert_eq!(retries.wait(&mut progress, Remedy::None), None);
        progress.most = Some(1);
        assert!(retries.wait(&mut progress, Remedy::Wait(None)).is_some());
        assert_eq!(retries.wait(&mut progress, Remedy::Wait(None)), None);
        let mut progress = begin(&retries, "a", Duration::from_mins(1));
        assert!(retries.wait(&mut progress, Remedy::WaitALittle).is_some());
        clock.advance(Duration::from_secs(6));
        assert_eq!(retries.wait(&mut progress, Remedy::WaitALittle), None, "a wrong host name is told soon");
    }

    #[test]
    fn buckets_are_bounded() {
        let retries = retries(&SimClock::default());
        for number in 0..(2 * BUCKETS_MAX) {
            let mut progress = begin(&retries, &number.to_string(), Duration::from_mins(1));
            retries.wait(&mut progress, Remedy::Wait(None)).unwrap_or_default();
        }
        assert!(retries.buckets.lock().unwrap().len() <= BUCKETS_MAX + 1);
    }
}
