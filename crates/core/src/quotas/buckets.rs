//! Counting requests by client address, in bounded memory: what one rate-limit quota holds.
//!
//! Every address has a window of its own that begins with its first request; of IPv6 a /64 is one, since a client has all of that for itself. When no room is left for more addresses, newcomers share
//! one bucket: a flood of addresses then limits the flood, and evicts nobody's count.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use daypass_base::places::network;
use parking_lot::Mutex;

/// How many requests are allowed, how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Requests per interval, at least one.
    pub(super) rate: u64,
    /// Length of a window, above zero.
    pub(super) interval: Duration,
    /// How long a client that went over is refused everything; zero is until its window ends.
    pub(super) block: Duration,
}

/// The counts of one quota.
pub(super) struct Buckets {
    pace: Pace,
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    /// Addresses that all quotas together remember.
    held: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Shard {
    by_address: HashMap<IpAddr, Bucket>,
    /// Shared by those for whom there is no room.
    overflow: Option<Bucket>,
    /// When idle addresses are looked for next: not at every request, which would make a flood dear.
    purge_at: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    began: Duration,
    window: u128,
    left: u64,
    blocked_until: Option<Duration>,
}

/// What a request got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) allowed: bool,
    pub(super) limit: u64,
    pub(super) remaining: u64,
    /// Until more are allowed.
    pub(super) reset: Duration,
}

impl Buckets {
    pub(super) fn new(pace: Pace, held: Arc<AtomicUsize>) -> Self {
        Self { pace, shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new(), held }
    }

    /// Counts a request. `None` is everybody together.
    pub(super) fn take(&self, address: Option<IpAddr>, now: Duration) -> Taken {
        let address = address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), network);
        let number = usize::try_from(self.hasher.hash_one(address)).unwrap_or(0) % SHARDS;
        let Some(shard) = self.shards.get(number) else {
            return Taken { allowed: true, limit: self.pace.rate, remaining: self.pace.rate, reset: Duration::ZERO };
        };
        let mut shard = shard.lock();
        if let Some(bucket) = shard.by_address.get_mut(&address) {
            return bucket.take(self.pace, now);
        }
        if now >= shard.purge_at {
            self.purge(&mut shard, now);
        }
        if self.held.load(Ordering::Relaxed) >= ADDRESSES_MAX {
            return shard.overflow.get_or_insert_with(|| Bucket::new(self.pace, now)).take(self.pace, now);
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        shard.by_address.entry(address).or_insert_with(|| Bucket::new(self.pace, now)).take(self.pace, now)
    }

    /// Forgets whose window is over: of a quota that nobody new asks for, too, since all quotas share the room for addresses.
    pub(super) fn tidy(&self, now: Duration) {
        for shard in &self.shards {
            self.purge(&mut shard.lock(), now);
        }
    }

    fn purge(&self, shard: &mut Shard, now: Duration) {
        let before = shard.by_address.len();
        shard.by_address.retain(|_, bucket| !bucket.is_idle(self.pace, now));
        self.held.fetch_sub(before - shard.by_address.len(), Ordering::Relaxed);
        shard.purge_at = now + self.pace.interval.clamp(PURGE_EVERY_MIN, PURGE_EVERY_MAX);
    }
}

impl Drop for Buckets {
    fn drop(&mut self) {
        let held: usize = self.shards.iter_mut().map(|shard| shard.get_mut().by_address.len()).sum();
        self.held.fetch_sub(held, Ordering::Relaxed);
    }
}

impl Bucket {
    fn new(pace: Pace, now: Duration) -> Self {
        Self { began: now, window: 0, left: pace.rate, blocked_until: None }
    }

    fn window(&self, pace: Pace, now: Duration) -> u128 {
        now.saturating_sub(self.began).as_nanos() / pace.interval.as_nanos().max(1)
    }

    fn is_idle(&self, pace: Pace, now: Duration) -> bool {
        self.window(pace, now) > self.window && self.blocked_until.is_none_or(|until| now >= until)
    }

    fn take(&mut self, pace: Pace, now: Duration) -> Taken {
        if let Some(until) = self.blocked_until {
            if now < until {
                return Taken { allowed: false, limit: pace.rate, remaining: 0, reset: until.saturating_sub(now) };
            }
            *self = Self::new(pace, now);
        }
        let window = self.window(pace, now);
        if window > self.window {
            self.window = window;
            self.left = pace.rate;
        }
        let into = now.saturating_sub(self.began).as_nanos() % pace.interval.as_nanos().max(1);
        let reset = pace.interval.saturating_sub(Duration::from_nanos(u64::try_from(into).unwrap_or(0)));
        if self.left > 0 {
            self.left -= 1;
            return Taken { allowed: true, limit: pace.rate, remaining: self.left, reset };
        }
        if pace.block.is_zero() {
            return Taken { allowed: false, limit: pace.rate, remaining: 0, reset };
        }
        self.blocked_until = Some(now.saturating_add(pace.block));
        Taken { allowed: false, limit: pace.rate, remaining: 0, reset: pace.block }
    }
}

const SHARDS: usize = 16;
/// Addresses that all quotas together remember: some 20 megabytes.
const ADDRESSES_MAX: usize = 200_000;
const PURGE_EVERY_MIN: Duration = Duration::from_secs(1);
const PURGE_EVERY_MAX: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { rate: 2, interval: Duration::from_secs(10), block: Duration::ZERO };

    fn at(buckets: &Buckets, address: u32, second: u64) -> bool {
        buckets.take(Some(IpAddr::V4(address.into())), Duration::from_secs(second)).allowed
    }

    /// Story: with the longest block each request over the quota was a panic and a 500, where 429 was due.
    #[test]
    fn a_block_may_be_as_long_as_a_duration() {
        let buckets = Buckets::new(Pace { block: Duration::MAX, ..PACE }, Arc::default());
        assert_eq!([at(&buckets, 1, 5), at(&buckets, 1, 5), at(&buckets, 1, 5), at(&buckets, 1, 6)], [true, true, false, false]);
    }

    #[test]
    fn each_address_has_its_own_window() {
        let buckets = Buckets::new(PACE, Arc::default());
        assert_eq!([at(&buckets, 1, 0), at(&buckets, 1, 1), at(&buckets, 1, 2)], [true, true, false]);
        assert!(at(&buckets, 2, 2));
        assert!(at(&buckets, 1, 10), "a new window");
    }

    #[test]
    fn who_goes_over_is_blocked_for_as_long_as_it_says() {
        let buckets = Buckets::new(Pace { block: Duration::from_mins(1), ..PACE }, Arc::default());
        assert_eq!([at(&buckets, 1, 0), at(&buckets, 1, 0), at(&buckets, 1, 0)], [true, true, false]);
        assert_eq!([at(&buckets, 1, 30), at(&buckets, 1, 59), at(&buckets, 1, 60)], [false, false, true]);
    }

    #[test]
    fn a_flood_of_addresses_shares_what_room_is_left_and_evicts_nobody() {
        let held = Arc::new(AtomicUsize::new(ADDRESSES_MAX - 1));
        let buckets = Buckets::new(PACE, Arc::clone(&held));
        assert_eq!([at(&buckets, 1, 0), at(&buckets, 1, 0)], [true, true]);
        let let_in = (2..10_000).filter(|address| at(&buckets, *address, 1)).count();
        assert!(let_in <= 2 * SHARDS, "{let_in} of the flood were let in");
        assert_eq!(held.load(Ordering::Relaxed), ADDRESSES_MAX);
        assert!(!at(&buckets, 1, 2), "the first one's count is still known");
        drop(buckets);
        assert_eq!(held.load(Ordering::Relaxed), ADDRESSES_MAX - 1, "what it held is given back");
    }

    /// Story: a client of IPv6 has 2^64 addresses, and each of them had the whole quota.
    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let buckets = Buckets::new(PACE, Arc::default());
        let from = |address: &str| buckets.take(Some(address.parse().unwrap()), Duration::ZERO).allowed;
        assert_eq!(["2001:db8::1", "2001:db8::2", "2001:db8::3:0:0:4"].map(from), [true, true, false]);
        assert_eq!(["2001:db8:0:1::1", "192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"].map(from), [true, true, true, false]);
    }

    /// Story: addresses that a quota had counted were forgotten when a new one came to it. Those of a quota that nobody asked for any more took the room of all.
    #[test]
    fn what_no_longer_counts_is_forgotten_though_nobody_new_comes() {
        let held = Arc::default();
        let buckets = Buckets::new(PACE, Arc::clone(&held));
        for address in 0..1_000 {
            at(&buckets, address, 0);
        }
        at(&buckets, 1_000, 9);
        buckets.tidy(Duration::from_secs(9));
        assert_eq!(held.load(Ordering::Relaxed), 1_001);
        buckets.tidy(Duration::from_secs(10));
        assert_eq!(held.load(Ordering::Relaxed), 1, "the window of the last one goes on");
    }

    #[test]
    fn idle_addresses_are_forgotten() {
        let held = Arc::default();
        let buckets = Buckets::new(PACE, Arc::clone(&held));
        for address in 0..1_000 {
            at(&buckets, address, 0);
        }
        for address in 5_000..5_200 {
            at(&buckets, address, 1_000);
        }
        assert_eq!(held.load(Ordering::Relaxed), 200);
    }
}
