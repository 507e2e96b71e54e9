//! Signatures that were used, so that a captured login is of no use to others. Vault remembers none.
//!
//! A signature changes with the second in which it was made, not with the request: what a machine signs twice within one second is the same.
//! So the address that used a signature first may use it again for a moment; everybody else, and everybody later, is refused.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use daypass_sdk::{Moment, Timestamp};
use parking_lot::Mutex;

use super::login::SIGNATURE_LIFE;

/// The signatures of the last quarter of an hour, at whichever mount they were used. Each node has its own.
#[derive(Default)]
pub(super) struct Seen(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_signature: HashMap<[u8; 32], Use>,
    /// In the order of their first use.
    order: VecDeque<[u8; 32]>,
}

/// A first use.
#[derive(Clone, Copy)]
struct Use {
    at: Moment,
    /// From here on the signature is too old for anybody.
    until: Timestamp,
    from: Option<IpAddr>,
}

impl Seen {
    /// Whether a signature may be used from this address now.
    pub(super) fn allows(&self, signature: &[u8; 32], from: Option<IpAddr>, now: Moment) -> bool {
        self.0.lock().by_signature.get(signature).is_none_or(|first| first.allows(from, now))
    }

    /// Notes a use. Says no when somebody else was faster.
    pub(super) fn take(&self, signature: [u8; 32], until: Timestamp, from: Option<IpAddr>, now: Moment) -> bool {
        let mut known = self.0.lock();
        if let Some(first) = known.by_signature.get(&signature) {
            return first.allows(from, now);
        }
        known.make_room(now);
        known.by_signature.insert(signature, Use { at: now, until, from });
        known.order.push_back(signature);
        true
    }
}

impl Use {
    fn allows(self, from: Option<IpAddr>, now: Moment) -> bool {
        now.wall >= self.until || (from.is_some() && from == self.from && now.since(self.at) <= AGAIN_MAX)
    }

    /// Whether nobody can use the signature any more, also where the clock that says so is ahead and is put back.
    fn is_over(self, now: Moment) -> bool {
        now.wall >= self.until && now.elapsed.saturating_sub(self.at.elapsed) > SIGNATURE_LIFE
    }
}

impl Known {
    /// Forgets what is over; and, only at the limit, what was used longest ago.
    fn make_room(&mut self, now: Moment) {
        while let Some(oldest) = self.order.front() {
            let over = self.by_signature.get(oldest).is_none_or(|first| first.is_over(now));
            if !over && self.order.len() < SIGNATURES_MAX {
                return;
            }
            if let Some(oldest) = self.order.pop_front() {
                self.by_signature.remove(&oldest);
            }
        }
    }
}

/// How long the first address may use a signature again: jobs that start together, a client that asks again after a lost answer.
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// Signatures remembered for all mounts together: 70 logins a second for a quarter of an hour, in six megabytes.
const SIGNATURES_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn until(second: u64) -> Timestamp {
        Timestamp::from_seconds(second.try_into().unwrap())
    }

    fn at(second: u64) -> Moment {
        Moment { wall: until(second), elapsed: Duration::from_secs(second) }
    }

    #[test]
    fn a_signature_serves_its_first_address_for_a_moment_and_nobody_else() {
        let seen = Seen::default();
        let (home, away) = (Some(IpAddr::from([10, 0, 0, 1])), Some(IpAddr::from([10, 0, 0, 2])));
        assert!(seen.allows(&[1; 32], home, at(0)) && seen.take([1; 32], until(900), home, at(0)));
        assert!(seen.take([1; 32], until(900), home, at(30)) && !seen.take([1; 32], until(900), home, at(31)));
        assert!(!seen.take([1; 32], until(900), away, at(1)) && !seen.allows(&[1; 32], away, at(899)));
        assert!(!seen.take([1; 32], until(900), None, at(1)));
        assert!(seen.take([2; 32], until(900), None, at(1)) && !seen.take([2; 32], until(900), None, at(1)));
    }

    /// Story: the clock was ahead for a moment. Signatures that seemed too old were forgotten, and when it was put right they could be used again.
    #[test]
    fn a_clock_that_was_ahead_for_a_moment_lets_nobody_use_a_signature_again() {
        let seen = Seen::default();
        let (home, away) = (Some(IpAddr::from([10, 0, 0, 1])), Some(IpAddr::from([10, 0, 0, 2])));
        assert!(seen.take([1; 32], until(900), away, at(0)));
        assert!(seen.take([2; 32], until(5000), None, Moment { wall: until(4000), ..at(60) }));
        assert!(!seen.take([1; 32], until(900), home, at(120)));
        // Nor does one that is put back make the first address's moment longer.
        assert!(!seen.allows(&[1; 32], away, Moment { wall: Timestamp::default(), ..at(31) }));
        assert!(seen.take([3; 32], until(2000), None, at(1000)));
        assert_eq!(seen.0.lock().order.len(), 2, "what is over by both clocks is forgotten");
    }

    #[test]
    fn memory_is_bounded() {
        let seen = Seen::default();
        for number in 0..u32::try_from(SIGNATURES_MAX).unwrap() + 100 {
            let mut signature = [0; 32];
            signature[..4].copy_from_slice(&number.to_be_bytes());
            assert!(seen.take(signature, until(900), None, at(0)));
        }
        let known = seen.0.lock();
        assert_eq!((known.order.len(), known.by_signature.len()), (SIGNATURES_MAX, SIGNATURES_MAX));
        drop(known);
        assert!(seen.take([9; 32], until(2000), None, at(1000)));
        assert_eq!(seen.0.lock().order.len(), 1);
    }
}
