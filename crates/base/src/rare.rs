//! Lines of the log that strangers cause: one in a while, with the number of those that were left out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// When the last line was written, and what was left out since.
///
/// ```
/// use std::time::Duration;
/// let (rare, at) = (daypass_base::Rare::default(), Duration::from_secs);
/// let told = [5, 6, 15].map(|now| rare.may_tell(at(now), at(10)));
/// assert_eq!(told, [Some(0), None, Some(1)]);
/// ```
#[derive(Debug, Default)]
pub struct Rare(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    /// On the monotonic clock.
    at: Option<Duration>,
    left_out: u64,
}

impl Rare {
    /// Whether a line may be written now, on the monotonic clock, with `pause` from one to the next; then, how many were left out before it.
    pub fn may_tell(&self, now: Duration, pause: Duration) -> Option<u64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.at.is_some_and(|at| now.saturating_sub(at) < pause) {
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
            [at(5), at(6), at(14), at(15), at(16), at(25)].map(|now| rare.may_tell(now, at(10))),
            [Some(0), None, None, Some(2), None, Some(1)]
        );
    }
}
