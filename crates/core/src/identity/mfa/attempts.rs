//! Guesses at passcodes: counted by entity and method before anything is verified, in memory, with a bound.
//!
//! What is counted is that somebody tried, never what was tried: no way of writing a passcode makes it another's count. A passcode has six
//! digits and three of them are good at any time, so a window that lets a handful of guesses in is not enough against somebody who has the
//! first factor and time: after each window that was used up without success the next one is twice as long.

use std::collections::HashMap;
use std::time::Duration;

use daypass_base::Seconds;
use parking_lot::Mutex;

/// Who guesses at what: the entity and the method.
type Whom = (String, String);

#[derive(Default)]
pub(crate) struct Attempts {
    state: Mutex<HashMap<Whom, Tries>>,
}

#[derive(Debug, Clone, Copy)]
struct Tries {
    /// In this window.
    count: u32,
    /// Since the last success.
    all: u32,
    /// When the window ends, on the monotonic clock.
    until: Duration,
}

/// Why a passcode is not even looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// All attempts of this window were made; the next one begins after so long.
    Exhausted(Seconds),
    /// Too many people are being guessed at.
    Full,
}

impl Attempts {
    /// Counts an attempt. `most` attempts are let through in a window that begins with the first of them and lasts `period` or longer.
    pub(crate) fn count(&self, entity: &str, method: &str, most: u32, period: Seconds, now: Duration) -> Result<(), Refused> {
        let most = most.max(1);
        let mut state = self.state.lock();
        let whom = (entity.to_owned(), method.to_owned());
        if !state.contains_key(&whom) && state.len() >= ENTRIES_MAX {
            state.retain(|_, tries| now < tries.until + FORGIVEN_AFTER);
            if state.len() >= ENTRIES_MAX {
                return Err(Refused::Full);
            }
        }
        let tries = state.entry(whom).or_insert(Tries { count: 0, all: 0, until: Duration::ZERO });
        if now >= tries.until {
            if now >= tries.until + FORGIVEN_AFTER {
                tries.all = 0;
            }
            let doublings = (tries.all / most).min(DOUBLINGS_MAX);
            tries.count = 0;
            tries.until = now + period.duration() * (1 << doublings);
        }
        if tries.count >= most {
            let left = tries.until.saturating_sub(now);
            return Err(Refused::Exhausted(Seconds(left.as_secs() + u64::from(left.subsec_nanos() > 0))));
        }
        tries.count += 1;
        tries.all = tries.all.saturating_add(1);
        Ok(())
    }

    /// After a passcode that was good.
    pub(crate) fn succeeded(&self, entity: &str, method: &str) {
        self.state.lock().remove(&(entity.to_owned(), method.to_owned()));
    }
}

const ENTRIES_MAX: usize = 100_000;
/// Of half a minute: an hour.
const DOUBLINGS_MAX: u32 = 7;
/// After so long without an attempt they are forgotten.
const FORGIVEN_AFTER: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000 + seconds)
    }

    const PERIOD: Seconds = Seconds(30);

    #[test]
    fn after_five_attempts_the_window_has_to_pass() {
        let attempts = Attempts::default();
        for second in 0..5 {
            assert_eq!(attempts.count("e", "m", 5, PERIOD, at(second)), Ok(()));
        }
        assert_eq!(attempts.count("e", "m", 5, PERIOD, at(5)), Err(Refused::Exhausted(Seconds(25))));
        assert_eq!(attempts.count("other", "m", 5, PERIOD, at(5)), Ok(()));
        assert_eq!(attempts.count("e", "other", 5, PERIOD, at(5)), Ok(()));
        assert_eq!(attempts.count("e", "m", 5, PERIOD, at(29)), Err(Refused::Exhausted(Seconds(1))));
        assert_eq!(attempts.count("e", "m", 5, PERIOD, at(30)), Ok(()));
    }

    #[test]
    fn whoever_goes_on_guessing_waits_twice_as_long_each_time_up_to_about_an_hour() {
        let attempts = Attempts::default();
        let (mut now, mut waits) = (0, Vec::new());
        for _ in 0..10 {
            while attempts.count("e", "m", 5, PERIOD, at(now)).is_ok() {}
            let Err(Refused::Exhausted(wait)) = attempts.count("e", "m", 5, PERIOD, at(now)) else { panic!("not exhausted") };
            waits.push(wait.0);
            now += wait.0;
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 3840, 3840, 3840]);
        attempts.succeeded("e", "m");
        assert_eq!(attempts.count("e", "m", 1, PERIOD, at(now)), Ok(()));
        assert_eq!(attempts.count("e", "m", 1, PERIOD, at(now)), Err(Refused::Exhausted(PERIOD)), "a success forgives");
    }

    #[test]
    fn few_guesses_in_every_window_are_guesses_all_the_same() {
        let attempts = Attempts::default();
        let mut let_through = 0;
        for second in 0..86_400_u64 {
            if second % 8 == 0 && attempts.count("e", "m", 5, PERIOD, at(second)).is_ok() {
                let_through += 1;
            }
        }
        assert!(let_through < 250, "{let_through} guesses in a day");
    }

    #[test]
    fn a_flood_of_people_is_refused_rather_than_making_room_for_guesses() {
        let attempts = Attempts::default();
        assert_eq!(attempts.count("victim", "m", 1, PERIOD, at(0)), Ok(()));
        for n in 1..ENTRIES_MAX {
            assert_eq!(attempts.count(&n.to_string(), "m", 1, PERIOD, at(0)), Ok(()));
        }
        assert_eq!(attempts.count("one more", "m", 1, PERIOD, at(1)), Err(Refused::Full));
        assert!(matches!(attempts.count("victim", "m", 1, PERIOD, at(1)), Err(Refused::Exhausted(_))));
        assert_eq!(attempts.count("one more", "m", 1, PERIOD, at(31 + 86_400)), Ok(()));
    }
}
