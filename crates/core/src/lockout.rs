//! Locking out after failed logins: counts by mount and alias, in memory, with a bound.
//!
//! A count is lost with the process and is not shared between nodes, which is what Vault does with its own counters; what matters is
//! that guessing stays slow. It must never learn a password, and it never tells whether an alias exists.
//!
//! Anybody may make entries: with the longest names all of them take some 30 megabytes, with role ids 20. What is over goes within a minute. Where there are too
//! many, the mount that has most makes room, so that made-up names of one mount make nobody's count in another start anew; and there those who failed least.
//! Anybody may let logins wait for each other, too: beyond [`WAITING_MAX`] they are told to come again.
//!
//! Source: Vault, "User lockout"; recorded fixture `userpass-lockout`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Bound;
use std::time::Duration;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use daypass_base::{Clock, Places, Seconds, Tally};
use daypass_sdk::{Error, Kind, Result};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::mounts::UserLockout;

/// Failed logins by mount accessor and alias.
pub(crate) struct Lockouts {
    state: Mutex<Table>,
    entries_max: usize,
    /// Logins that are being looked at, by mount accessor and alias: there are no more than there are requests.
    pending: Mutex<BTreeMap<Key, u64>>,
    /// One of them has ended.
    ended: Notify,
    /// Of those who wait for that.
    waiting: Places,
}

/// All that failed.
#[derive(Default)]
struct Table {
    by_alias: BTreeMap<Key, Failures>,
    /// How many aliases of each mount these are.
    by_mount: Tally<String>,
}

/// The accessor of a mount, and an alias of it.
type Key = (String, Alias);

/// Whom a login claims to be, in few bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Alias {
    /// SHA-256 of a name that is longer than [`NAME_BYTES_MAX`].
    Digest(Box<[u8]>),
    Name(Box<str>),
}

impl Alias {
    /// Nobody's, before all others.
    fn first() -> Self {
        Self::Digest(Box::default())
    }

    fn of(name: &str) -> Self {
        if name.len() > NAME_BYTES_MAX {
            return Self::Digest(digest::digest(&digest::SHA256, name.as_bytes()).as_ref().into());
        }
        Self::Name(name.into())
    }

    /// What an alias is shown as, back to it; names are shown as they are.
    fn shown_as(text: &str) -> Option<Self> {
        let digest = HEXLOWER.decode(text.strip_prefix(DIGEST)?.as_bytes()).ok()?;
        (digest.len() == digest::SHA256_OUTPUT_LEN).then(|| Self::Digest(digest.into()))
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => write!(f, "{DIGEST}{}", HEXLOWER.encode(digest)),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A login that is being looked at. Dropped without a verdict (it took too long) it counts neither way.
pub(crate) struct Attempt<'a> {
    lockouts: &'a Lockouts,
    key: Key,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut pending = self.lockouts.pending.lock();
        match pending.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(pending.remove(&self.key)),
        }
        drop(pending);
        self.lockouts.ended.notify_waiters();
    }
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u64,
    /// On the monotonic clock, as every time here: one that is put back locks nobody out for longer, and one that is put on lets nobody in.
    last: Duration,
    /// There were too many, by the settings that were in force at the last one.
    too_many: bool,
    /// From here on they count no longer, by the same.
    until: Duration,
}

/// What holds for a mount that was not tuned: five failures, a quarter of an hour.
const DEFAULT: UserLockout = UserLockout { threshold: 5, duration: Seconds(900), counter_reset: Seconds(900), disable: false };

/// What holds for a mount that was tuned so. A zero stands for what was not said, as in Vault: taken at its word, no duration would lock nobody out,
/// and no threshold whoever mistypes once.
pub(crate) fn in_force(tuned: Option<UserLockout>) -> UserLockout {
    let UserLockout { threshold, duration, counter_reset, disable } = tuned.unwrap_or(DEFAULT);
    UserLockout {
        threshold: if threshold == 0 { DEFAULT.threshold } else { threshold },
        duration: duration.set().unwrap_or(DEFAULT.duration),
        counter_reset: counter_reset.set().unwrap_or(DEFAULT.counter_reset),
        disable,
    }
}

impl Lockouts {
    /// Nobody has failed yet. At most `entries_max` aliases are remembered.
    pub(crate) fn new(entries_max: usize) -> Self {
        let waiting = Places::new(WAITING_MAX, WAITING_OF_ONE_MAX);
        Self { state: Mutex::default(), entries_max, pending: Mutex::default(), ended: Notify::new(), waiting }
    }

    /// Before a login. Errors: `Denied` while the alias is locked out, whatever it presents.
    pub(crate) fn check(&self, accessor: &str, alias: &str, settings: UserLockout, now: Duration) -> Result<()> {
        if settings.disable {
            return Ok(());
        }
        let state = self.state.lock();
        let failures = state.by_alias.get(&key(accessor, alias)).copied();
        match failures {
            Some(failures) if failures.locked(now) => Err(Error::denied()),
            _ => Ok(()),
        }
    }

    /// Begins a login of whoever comes from there. No more are looked at at one time than may still fail before the alias is locked out: guesses that come
    /// together get no further than guesses one after the other. Further ones wait until an earlier one has ended, so that many good logins all get
    /// through. Errors: `Denied` while the alias is locked out, `TooMany` where too many wait already.
    pub(crate) async fn begin(
        &self,
        accessor: &str,
        alias: &str,
        settings: UserLockout,
        from: Option<IpAddr>,
        clock: &dyn Clock,
    ) -> Result<Option<Attempt<'_>>> {
        if settings.disable || alias.len() > ALIAS_BYTES_MAX {
            return Ok(None);
        }
        let mut place = None;
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // From here on an end is noticed, also one that comes before the wait.
            ended.as_mut().enable();
            let now = clock.elapsed();
            self.check(accessor, alias, settings, now)?;
            if let Some(attempt) = self.take_turn(key(accessor, alias), settings, now) {
                return Ok(Some(attempt));
            }
            if place.is_none() {
                place = Some(self.waiting.take(from).ok_or_else(crowded)?);
            }
            ended.await;
        }
    }

    fn take_turn(&self, key: Key, settings: UserLockout, now: Duration) -> Option<Attempt<'_>> {
        let mut pending = self.pending.lock();
        let failed = self.state.lock().by_alias.get(&key).filter(|failures| !failures.over(now)).map_or(0, |failures| failures.count);
        let running = pending.get(&key).copied().unwrap_or(0);
        // One is always looked at, whatever the settings: who waits must have somebody to wait for.
        if running > 0 && failed + running >= settings.threshold {
            return None;
        }
        pending.insert(key.clone(), running + 1);
        Some(Attempt { lockouts: self, key })
    }

    /// After a login that presented something wrong.
    pub(crate) fn failed(&self, accessor: &str, alias: &str, settings: UserLockout, now: Duration) {
        if settings.disable || alias.len() > ALIAS_BYTES_MAX {
            // No user and no role has so long a name: nothing is behind it that could be guessed.
            return;
        }
        let mut state = self.state.lock();
        let key = key(accessor, alias);
        let count = state.by_alias.get(&key).filter(|failures| !failures.over(now)).map_or(0, |failures| failures.count);
        if count == 0 && state.by_alias.len() >= self.entries_max {
            state.make_room(now);
        }
        let count = count + 1;
        let too_many = count >= settings.threshold;
        let until = now.saturating_add(if too_many { settings.duration } else { settings.counter_reset }.duration());
        state.insert(key, Failures { count, last: now, too_many, until });
    }

    /// After a login that succeeded.
    pub(crate) fn succeeded(&self, accessor: &str, alias: &str) {
        let mut state = self.state.lock();
        // Most of the time nobody has failed, and no key is needed.
        if !state.by_alias.is_empty() {
            state.remove(&key(accessor, alias));
        }
    }

    /// Forgets the failures of an alias, which may be named as [`Self::locked`] shows it. One that has none is no error.
    pub(crate) fn unlock(&self, accessor: &str, alias: &str) {
        let mut state = self.state.lock();
        state.remove(&key(accessor, alias));
        if let Some(digest) = Alias::shown_as(alias) {
            state.remove(&(accessor.to_owned(), digest));
        }
    }

    /// Drops what counts no longer: a part of the table at a time, so that logins do not wait for all of it.
    pub(crate) fn tidy(&self, now: Duration) {
        let mut after: Option<Key> = None;
        loop {
            let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut state = self.state.lock();
            let part: Vec<(Key, bool)> = state
                .by_alias
                .range((from, Bound::Unbounded))
                .take(TIDIED_AT_ONCE)
                .map(|(key, failures)| (key.clone(), failures.over(now)))
                .collect();
            for (key, _) in part.iter().filter(|(_, over)| *over) {
                state.remove(key);
            }
            drop(state);
            let Some((last, _)) = part.into_iter().last() else { return };
            after = Some(last);
        }
    }

    /// Aliases that are locked out now, by mount accessor; of one mount when it is named.
    pub(crate) fn locked(&self, accessor: Option<&str>, now: Duration) -> BTreeMap<String, Vec<String>> {
        let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for ((mount, alias), failures) in &self.state.lock().by_alias {
            if failures.locked(now) && accessor.is_none_or(|accessor| accessor == mount) {
                out.entry(mount.clone()).or_default().push(alias.to_string());
            }
        }
        out
    }
}

impl Table {
    fn insert(&mut self, key: Key, failures: Failures) {
        let mount = key.0.clone();
        if self.by_alias.insert(key, failures).is_none() {
            self.by_mount.add(mount);
        }
    }

    fn remove(&mut self, key: &Key) {
        if self.by_alias.remove(key).is_some() {
            self.by_mount.remove(&key.0);
        }
    }

    /// Drops a part of the mount that has most: what counts no longer, then who failed least, the oldest of those first, and at last who is locked out. A whole
    /// part at once, so that a flood of names does not look through the table for each of them.
    fn make_room(&mut self, now: Duration) {
        let Some((mount, count)) = self.by_mount.most() else { return };
        let (from, part) = ((mount.clone(), Alias::first()), (count / 16).max(1));
        let of_mount = self.by_alias.range::<Key, _>(&from..).take_while(|((other, _), _)| *other == from.0);
        let rank = |failures: &Failures| (!failures.over(now), failures.locked(now), failures.count, failures.last);
        let mut order: Vec<_> = of_mount.map(|(key, failures)| (rank(failures), key)).collect();
        if part < order.len() {
            order.select_nth_unstable(part);
        }
        let part: Vec<Key> = order.into_iter().take(part).map(|(_, key)| key.clone()).collect();
        for key in &part {
            self.remove(key);
        }
    }
}

impl Failures {
    fn locked(&self, now: Duration) -> bool {
        self.too_many && now < self.until
    }

    /// Whether it counts no longer.
    fn over(&self, now: Duration) -> bool {
        now >= self.until
    }
}

fn crowded() -> Error {
    let text = format!(
        "{WAITING_MAX} logins wait for others of the same name to be looked at, or {WAITING_OF_ONE_MAX} from this address, which is the limit: try again in a \
         moment"
    );
    Error::new(Kind::TooMany, text).retry_after(Seconds(1))
}

fn key(accessor: &str, alias: &str) -> Key {
    (accessor.to_owned(), Alias::of(alias))
}

/// Longer aliases belong to nobody: names of users and role ids are limited to this.
const ALIAS_BYTES_MAX: usize = 4096;
/// Names of people and ids of roles that are remembered as they are.
const NAME_BYTES_MAX: usize = 128;
/// What the digest of a longer one is shown with.
const DIGEST: &str = "sha256:";
const TIDIED_AT_ONCE: usize = 1_000;
/// Logins that wait for others: an eighth of the requests that a listener answers at one time, so that a flood of them leaves the rest to others.
const WAITING_MAX: usize = 512;
/// Those of them from one address: build servers begin hundreds of jobs at once.
const WAITING_OF_ONE_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use daypass_base::sim::{SimClock, waits};

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn five_failures_lock_out_for_a_quarter_of_an_hour() {
        let lockouts = Lockouts::new(100);
        for n in 0..5 {
            assert!(lockouts.check("m", "u", DEFAULT, at(n)).is_ok());
            lockouts.failed("m", "u", DEFAULT, at(n));
        }
        assert!(lockouts.check("m", "u", DEFAULT, at(5)).is_err() && lockouts.check("m", "v", DEFAULT, at(5)).is_ok());
        assert_eq!(lockouts.locked(None, at(5)), BTreeMap::from([("m".to_owned(), vec!["u".to_owned()])]));
        assert!(lockouts.locked(Some("n"), at(5)).is_empty());
        assert!(lockouts.check("m", "u", DEFAULT, at(4 + 899)).is_err() && lockouts.check("m", "u", DEFAULT, at(4 + 900)).is_ok());
        // After it the count starts anew.
        lockouts.failed("m", "u", DEFAULT, at(905));
        assert!(lockouts.check("m", "u", DEFAULT, at(906)).is_ok());
    }

    #[test]
    fn success_time_and_unlocking_forget_failures() {
        let lockouts = Lockouts::new(100);
        let fail = |times: u64, from: u64| (0..times).for_each(|n| lockouts.failed("m", "u", DEFAULT, at(from + n)));
        fail(4, 0);
        lockouts.succeeded("m", "u");
        fail(4, 10);
        fail(1, 1000);
        assert!(lockouts.check("m", "u", DEFAULT, at(1001)).is_ok());
        fail(4, 1002);
        assert!(lockouts.check("m", "u", DEFAULT, at(1006)).is_err());
        lockouts.unlock("m", "u");
        assert!(lockouts.check("m", "u", DEFAULT, at(1006)).is_ok());
    }

    #[test]
    fn what_a_mount_does_not_say_is_what_holds_for_all() {
        let tuned = |threshold, duration, counter_reset| {
            let (duration, counter_reset) = (Seconds(duration), Seconds(counter_reset));
            let UserLockout { threshold, duration, counter_reset, disable } =
                in_force(Some(UserLockout { threshold, duration, counter_reset, disable: true }));
            (threshold, duration.0, counter_reset.0, disable)
        };
        assert_eq!([tuned(0, 0, 0), tuned(3, 0, 0), tuned(0, 60, 0)], [(5, 900, 900, true), (3, 900, 900, true), (5, 60, 900, true)]);
        assert_eq!([tuned(0, 0, 60), tuned(1, 2, 3)], [(5, 900, 60, true), (1, 2, 3, true)]);
        assert_eq!((in_force(None).threshold, in_force(None).duration.0), (5, 900));
    }

    #[test]
    fn a_mount_may_switch_it_off_or_set_its_own_numbers() {
        let lockouts = Lockouts::new(100);
        let off = UserLockout { disable: true, ..DEFAULT };
        (0..9).for_each(|n| lockouts.failed("m", "u", off, at(n)));
        assert!(lockouts.check("m", "u", DEFAULT, at(9)).is_ok());
        let strict = UserLockout { threshold: 1, duration: Seconds(5), ..DEFAULT };
        lockouts.failed("m", "u", strict, at(10));
        assert!(lockouts.check("m", "u", strict, at(14)).is_err() && lockouts.check("m", "u", strict, at(15)).is_ok());
    }

    #[test]
    fn a_flood_of_names_takes_no_more_than_its_room_and_frees_nobody_who_is_locked_out() {
        let lockouts = Lockouts::new(64);
        (0..5).for_each(|n| lockouts.failed("m", "victim", DEFAULT, at(n)));
        for n in 0..1000 {
            lockouts.failed("m", &format!("name-{n}"), DEFAULT, at(5 + n / 10));
        }
        lockouts.failed("m", &"x".repeat(5000), DEFAULT, at(200));
        assert!(lockouts.state.lock().by_alias.len() <= 64);
        assert!(lockouts.check("m", "victim", DEFAULT, at(200)).is_err());
    }

    /// Story: a hundred thousand made-up names of 4 KiB each stayed in memory as they were, for as long as the server ran.
    #[test]
    fn a_long_name_takes_few_bytes_and_nothing_stays_when_it_counts_no_longer() {
        let lockouts = Lockouts::new(10_000);
        let (long, other) = ("r".repeat(4000), "r".repeat(4001));
        (0..5).for_each(|n| lockouts.failed("m", &long, DEFAULT, at(n)));
        let held: usize = lockouts.state.lock().by_alias.keys().map(|(mount, alias)| mount.len() + alias.to_string().len()).sum();
        assert!(held < NAME_BYTES_MAX, "{held} bytes");
        assert!(lockouts.check("m", &long, DEFAULT, at(5)).is_err() && lockouts.check("m", &other, DEFAULT, at(5)).is_ok());
        let shown = lockouts.locked(None, at(5)).remove("m").unwrap().remove(0);
        assert!(shown.starts_with(DIGEST) && shown.len() == DIGEST.len() + 64, "{shown}");
        // Whoever is called as a digest is shown is somebody else, whose success forgives nobody's failures.
        lockouts.succeeded("m", &shown);
        assert!(lockouts.check("m", &long, DEFAULT, at(5)).is_err());
        lockouts.unlock("m", &shown);
        assert!(lockouts.check("m", &long, DEFAULT, at(5)).is_ok());
        (0..3000).for_each(|n| lockouts.failed("m", &n.to_string(), DEFAULT, at(n % 1000)));
        (0..5).for_each(|_| lockouts.failed("m", "locked", DEFAULT, at(999)));
        lockouts.tidy(at(899 + 500));
        assert_eq!(lockouts.state.lock().by_alias.len(), 3 * 500 + 1);
        assert!(lockouts.check("m", "locked", DEFAULT, at(1400)).is_err());
        lockouts.tidy(at(3000));
        let state = lockouts.state.lock();
        assert!(state.by_alias.is_empty() && state.by_mount.is_empty());
    }

    /// Story: all mounts had one table, whose oldest entries made room. Made-up role ids cost nothing to fail with, so a stranger had four guesses at a password
    /// of another mount, filled the table, and had four more.
    #[test]
    fn made_up_names_of_one_mount_make_nobodys_count_in_another_start_anew() {
        let lockouts = Lockouts::new(64);
        let flood = |from: u64| (0..1000).for_each(|n| lockouts.failed("approle", &format!("role-{n}"), DEFAULT, at(from)));
        for n in 0..4 {
            lockouts.failed("userpass", "admin", DEFAULT, at(n));
            flood(n);
        }
        assert!(lockouts.check("userpass", "admin", DEFAULT, at(4)).is_ok());
        lockouts.failed("userpass", "admin", DEFAULT, at(4));
        assert!(lockouts.check("userpass", "admin", DEFAULT, at(4)).is_err(), "the fifth guess");
        flood(5);
        assert!(lockouts.check("userpass", "admin", DEFAULT, at(5)).is_err());
        let state = lockouts.state.lock();
        assert_eq!((state.by_alias.len(), state.by_mount.of("userpass")), (state.by_mount.of("approle") + 1, 1));
    }

    /// Story: as above, with made-up names of the same mount.
    #[test]
    fn who_failed_once_makes_room_before_who_failed_often() {
        let lockouts = Lockouts::new(64);
        lockouts.failed("m", "admin", DEFAULT, at(0));
        for n in 1..5 {
            lockouts.failed("m", "admin", DEFAULT, at(n));
            (0..1000).for_each(|name| lockouts.failed("m", &format!("name-{n}-{name}"), DEFAULT, at(n)));
        }
        assert_eq!(lockouts.locked(None, at(5)), BTreeMap::from([("m".to_owned(), vec!["admin".to_owned()])]));
        assert!((60..=64).contains(&lockouts.state.lock().by_alias.len()));
    }

    /// Story: whoever knew a name let thousands of logins wait for the few that were looked at, and each kept one of the turns that a listener has for all its
    /// requests.
    #[tokio::test]
    async fn no_more_wait_for_others_than_leave_the_server_to_the_rest() {
        let (lockouts, clock) = (Lockouts::new(100), SimClock::default());
        let begin =
            |alias: &'static str, last: u8| Box::pin(lockouts.begin("m", alias, DEFAULT, Some(IpAddr::from([192, 0, 2, last])), &clock));
        let mut looked_at = Vec::new();
        for _ in 0..5 {
            looked_at.push(begin("bob", 1).await.unwrap().unwrap());
        }
        let mut waiting = Vec::new();
        for last in [1, 2] {
            for _ in 0..WAITING_OF_ONE_MAX {
                let mut one = begin("bob", last);
                assert!(waits(&mut one));
                waiting.push(one);
            }
            assert_eq!(begin("bob", last).await.err().unwrap().kind, Kind::TooMany);
        }
        let refused = begin("bob", 3).await.err().unwrap();
        assert_eq!((refused.kind, refused.retry_after, refused.wrong_credentials), (Kind::TooMany, Seconds(1), false));
        assert!(begin("ann", 3).await.is_ok(), "who need not wait needs no place");
        waiting.pop();
        assert!(waits(&mut begin("bob", 3)), "who gives up leaves a place");
        looked_at.pop();
        let next = waiting.swap_remove(0).await.unwrap();
        assert!(waits(&mut begin("bob", 3)) && next.is_some(), "and so does whose turn it is");
    }
}
