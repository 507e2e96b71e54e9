//! Traces of requests as plain values: what is told of a request that has ended ([`Trace`]), who takes it ([`Traces`]), which requests are
//! traced ([`Ratio`]), and where an engine notes what it asked of others ([`Outside`]).
//!
//! Nothing here may hold what a client sent: names are declared in the source or chosen by operators.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::Timestamp;

/// Spans of one trace at most: the request itself, its stages, and what it asked of others.
pub const SPANS_MAX: usize = 4 + CALLS_MAX;
/// Calls to others that are noted of one request; what comes on top is not.
const CALLS_MAX: usize = 16;

/// A request that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Names the trace; never all zeros. All systems that took part in it have the same one.
    pub id: [u8; 16],
    /// At most [`SPANS_MAX`], the request itself first.
    pub spans: Vec<Span>,
}

/// A part of a trace that has a beginning and an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Names the span within its trace; never all zeros.
    pub id: [u8; 8],
    /// What it is a part of.
    pub parent: Parent,
    /// What was done, for people: few names, however many requests.
    pub name: Cow<'static, str>,
    /// Which end of a call it was.
    pub kind: SpanKind,
    /// When it began.
    pub began: Timestamp,
    /// How long it took, on the monotonic clock.
    pub took: Duration,
    /// Whether it failed.
    pub failed: bool,
    /// What else is known of it.
    pub facts: Vec<(&'static str, Fact)>,
}

/// What a span is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// Nothing: the trace begins here.
    None,
    /// A span of this process.
    Own([u8; 8]),
    /// A span of whoever sent the request.
    Remote([u8; 8]),
}

/// Which end of a call a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// It asked somebody else.
    Client,
    /// None: work of the process itself.
    Internal,
    /// It was asked.
    Server,
}

/// The value of something that is known of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

/// Takes traces of requests that have ended.
pub trait Traces: Send + Sync + 'static {
    /// Takes a trace, or drops and counts it. Never waits.
    fn ended(&self, trace: Trace);
    /// What became of them so far.
    fn counts(&self) -> TraceCounts;
}

/// What became of spans since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TraceCounts {
    /// They were taken by whom they are for.
    pub sent: u64,
    /// They are lost: nobody took them in time.
    pub dropped: u64,
}

/// The share of requests that are traced, from none to all. Whether one is follows from the trace's id alone, so that other systems with the
/// same share choose the same traces (OpenTelemetry, "Probability sampling": the last seven bytes against a threshold).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio {
    /// Ids from here on are traced.
    threshold: u64,
}

/// Ids as they are compared: seven bytes.
const IDS: u64 = 1 << 56;

impl Ratio {
    /// Every request.
    pub const ALL: Self = Self { threshold: 0 };

    /// `None` unless it is from 0 to 1.
    ///
    /// ```
    /// use daypass_base::trace::Ratio;
    /// assert_eq!(Ratio::of(1.0), Some(Ratio::ALL));
    /// assert!(Ratio::of(1.5).is_none() && Ratio::of(f64::NAN).is_none());
    /// assert!(!Ratio::of(0.0).unwrap().covers(&[255; 16]));
    /// ```
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "from 0 to 2^56 after the check; a threshold is as good as its neighbour"
    )]
    pub fn of(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self { threshold: ((1.0 - share) * IDS as f64) as u64 })
    }

    /// Whether the trace of this id is among them.
    #[must_use]
    pub fn covers(self, id: &[u8; 16]) -> bool {
        let [_, _, _, _, _, _, _, _, last @ ..] = *id;
        u64::from_be_bytes(last) % IDS >= self.threshold
    }
}

/// What a traced request asked of others, as it goes on.
#[derive(Debug, Default)]
pub struct Outside {
    calls: Mutex<Vec<Called>>,
}

/// Somebody else was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Called {
    /// Who: `STS`.
    pub service: &'static str,
    /// For what: `AssumeRole`.
    pub action: &'static str,
    /// Since when, on the monotonic clock.
    pub began: Duration,
    /// Until when, on the monotonic clock.
    pub ended: Duration,
    /// Whether the answer was no.
    pub failed: bool,
}

impl Outside {
    /// Notes a call that is over; one beyond the limit is forgotten.
    pub fn note(&self, call: Called) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() < CALLS_MAX {
            calls.push(call);
        }
    }

    /// Hands out what was noted, once.
    #[must_use]
    pub fn take(&self) -> Vec<Called> {
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entropy;
    use crate::sim::SeededEntropy;

    #[test]
    fn a_ratio_covers_that_share_of_random_ids() {
        let entropy: &dyn Entropy = &SeededEntropy::new(5);
        for (share, least, most) in [(0.0, 0, 0), (0.001, 1, 30), (0.25, 2_300, 2_700), (0.5, 4_800, 5_200), (1.0, 10_000, 10_000)] {
            let ratio = Ratio::of(share).unwrap();
            let covered = (0..10_000).filter(|_| ratio.covers(&entropy.bytes())).count();
            assert!((least..=most).contains(&covered), "{share}: {covered}");
        }
        for wrong in [-0.1, 1.000_001, f64::NAN, f64::INFINITY] {
            assert_eq!(Ratio::of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_a_larger_ratio_leaves_out_a_smaller_one_leaves_out_too() {
        let entropy: &dyn Entropy = &SeededEntropy::new(6);
        let (small, large) = (Ratio::of(0.1).unwrap(), Ratio::of(0.6).unwrap());
        assert!((0..1_000).map(|_| entropy.bytes()).all(|id| !small.covers(&id) || large.covers(&id)));
    }

    #[test]
    fn calls_beyond_the_limit_are_forgotten() {
        let outside = Outside::default();
        let call = Called { service: "STS", action: "AssumeRole", began: Duration::ZERO, ended: Duration::ZERO, failed: false };
        for _ in 0..100 {
            outside.note(call);
        }
        assert_eq!((outside.take().len(), outside.take().len()), (CALLS_MAX, 0));
    }
}
