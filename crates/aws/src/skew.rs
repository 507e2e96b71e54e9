//! By how much AWS's clock and this machine's differ.

use std::time::Duration;

use daypass_base::Timestamp;

/// By how many milliseconds AWS's clock is ahead of this machine's; negative where it is behind.
///
/// ```
/// use daypass_aws::Skew;
/// use daypass_base::{Seconds, Timestamp};
///
/// let (ours, ahead) = (Timestamp::from_seconds(1_000), Skew::seen(90_000));
/// assert_eq!(ahead.theirs(ours), ours + Seconds(90));
/// assert_eq!(ahead.ours(ahead.theirs(ours)), ours);
/// assert_eq!(Skew::seen(900), Skew::default(), "dates have whole seconds, and answers take their time");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skew(i64);

/// Less is taken for none: the dates of answers have whole seconds.
const SEEN_MIN_MS: u64 = 3_000;

impl Skew {
    /// What is never seen is less than this.
    pub const UNSEEN: Duration = Duration::from_millis(SEEN_MIN_MS);

    /// As the date of an answer shows it, in milliseconds.
    #[must_use]
    pub fn seen(milliseconds: i64) -> Self {
        if milliseconds.unsigned_abs() < SEEN_MIN_MS { Self(0) } else { Self(milliseconds) }
    }

    /// As it is stored.
    #[must_use]
    pub fn milliseconds(self) -> i64 {
        self.0
    }

    /// A moment of this machine's clock, by AWS's.
    #[must_use]
    pub fn theirs(self, ours: Timestamp) -> Timestamp {
        Timestamp::from_nanos(ours.nanos().saturating_add(self.0.saturating_mul(1_000_000)))
    }

    /// A moment of AWS's clock, by this machine's.
    #[must_use]
    pub fn ours(self, theirs: Timestamp) -> Timestamp {
        Timestamp::from_nanos(theirs.nanos().saturating_sub(self.0.saturating_mul(1_000_000)))
    }
}
