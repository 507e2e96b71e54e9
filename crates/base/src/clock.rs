//! Time, as everything in daypass sees it. Nothing else may read the system's clocks (`clippy.toml` bans it).
//!
//! Wall time ([`Clock::now`]) is for records and for what is stored; monotonic time ([`Clock::elapsed`]) is for measuring. What is kept in memory and ends
//! has a [`Moment`] of both: somebody may set the wall clock, and the monotonic one stands still while a machine sleeps.

use std::time::{Duration, Instant, SystemTime};

use crate::{BoxFuture, Timestamp};

/// The source of time. Production has [`SystemClock`]; tests have [`crate::sim::SimClock`].
pub trait Clock: Send + Sync + 'static {
    /// Wall time now, in UTC.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary fixed start; it never goes back.
    fn elapsed(&self) -> Duration;
    /// Resolves after `duration` has passed on this clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
    /// Both times now.
    fn moment(&self) -> Moment {
        Moment { wall: self.now(), elapsed: self.elapsed() }
    }
}

/// A moment on both clocks of one process.
///
/// ```
/// use std::time::Duration;
/// use daypass_base::{Clock, Seconds, Timestamp, sim::SimClock};
///
/// let clock = SimClock::default();
/// let then = clock.moment();
/// clock.advance(Duration::from_secs(60));
/// clock.jump_to(Timestamp::from_seconds(0));
/// assert_eq!(clock.moment().since(then), Duration::from_secs(60), "a clock that is put back makes nothing younger");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// As [`Clock::now`] has it.
    pub wall: Timestamp,
    /// As [`Clock::elapsed`] has it.
    pub elapsed: Duration,
}

impl Moment {
    /// How much time has passed: the more of what the two clocks say, so that nothing is taken for younger than it is.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.elapsed.saturating_sub(earlier.elapsed).max(self.wall.since(earlier.wall))
    }
}

/// The machine's own clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system's clocks")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system's clocks")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that waits on the system's clocks")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
