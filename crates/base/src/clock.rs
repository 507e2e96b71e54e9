//! Time, as everything in daypass sees it. Nothing else may read the system's clocks (`clippy.toml` bans it).
//!
//! Wall time ([`Clock::now`]) is for expiry and for records; monotonic time ([`Clock::elapsed`]) is for measuring. They are never mixed.

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
