//! Lines of the log that strangers cause: one in a while, with the number of those that were left out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// From one line to the next.
const PAUSE: Duration = Duration::from_secs(10);

/// When the last line was written, and what was left out since.
#[derive(Debug, Default)]
pub(crate) struct Rare(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    /// On the monotonic clock.
    at: Option<Duration>,
    left_out: u64,
}

impl Rare {
    /// Whether a line may be written now; then, how many were left out before it.
    pub(crate) fn may_tell(&self, now: Duration) -> Option<u64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.at.is_some_and(|at| now.saturating_sub(at) < PAUSE) {
            last.left_out = last.left_out.saturating_add(1);
            return None;
        }
        last.at = Some(now);
        Some(std::mem::take(&mut last.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_a_while_says_how_many_were_left_out() {
        let (rare, at) = (Rare::default(), Duration::from_secs);
        assert_eq!(
            [at(5), at(6), at(14), at(15), at(16), at(25)].map(|now| rare.may_tell(now)),
            [Some(0), None, None, Some(2), None, Some(1)]
        );
    }
}
