//! How many credentials a role gives: so many a minute, so many that are good at one time; all together, or for each value of a claim.
//!
//! Counted in memory on each node, from its start. Only what is asked of AWS counts: a credential that is handed out again does not.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use aws_lc_rs::digest;
use daypass_sdk::{Cx, Error, Kind, Result, Seconds, Timestamp};
use parking_lot::Mutex;

use super::ours::Ours;
use super::text::quoted;

/// Pairs of role and claim value that a mount counts for.
const COUNTED_MAX: usize = 10_000;
const MINUTE: Seconds = Seconds(60);

/// The counts of a mount, by role and the hash of a claim's value: a login may bring values of many kilobytes.
#[derive(Default)]
pub(super) struct Limits {
    counts: Mutex<Counts>,
}

type Counts = BTreeMap<(String, [u8; digest::SHA256_OUTPUT_LEN]), Arc<Mutex<Count>>>;

#[derive(Default)]
struct Count {
    /// When credentials of the last minute were made, oldest first; as long as the limit at most.
    made: VecDeque<Timestamp>,
    /// When live credentials end, soonest first, and how many do then.
    ends: BTreeMap<Timestamp, u64>,
    live: u64,
}

/// A place that was taken before AWS was asked. Dropped without [`Taken::minted`], it is given back.
pub(super) struct Taken {
    count: Option<(Arc<Mutex<Count>>, Timestamp, Timestamp)>,
}

impl Limits {
    /// Takes a place for a credential that lives for `lifetime`. Errors: `TooMany`, which says when to try again; `BadRequest` when the
    /// claim that limits are counted by is missing.
    pub(super) fn take(&self, cx: &Cx, role_name: &str, ours: &Ours, lifetime: Seconds) -> Result<Taken> {
        if ours.limit_mints == 0 && ours.limit_live == 0 {
            return Ok(Taken { count: None });
        }
        let value = match ours.limit_by.as_str() {
            "" => "",
            claim => cx.request.caller.claims.get(claim).map(String::as_str).ok_or_else(|| {
                Error::bad_request(format!(
                    "role {} counts by the claim {}, which the caller's login did not prove",
                    quoted(role_name),
                    quoted(claim)
                ))
            })?,
        };
        let now = cx.clock.now();
        let count = self.count(role_name, value, now)?;
        let (made, end) = (now, now + lifetime);
        count.lock().take(role_name, ours, made, end)?;
        Ok(Taken { count: Some((count, made, end)) })
    }

    fn count(&self, role_name: &str, value: &str, now: Timestamp) -> Result<Arc<Mutex<Count>>> {
        let mut hash = [0; digest::SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest::digest(&digest::SHA256, value.as_bytes()).as_ref());
        let mut counts = self.counts.lock();
        let key = (role_name.to_owned(), hash);
        if !counts.contains_key(&key) && counts.len() >= COUNTED_MAX {
            counts.retain(|_, count| !count.lock().is_idle(now));
            if counts.len() >= COUNTED_MAX {
                // A flood of claim values: refused rather than let through uncounted.
                let text = format!("the limits of this mount are counted for {COUNTED_MAX} claim values already; try again in a minute");
                return Err(Error::new(Kind::TooMany, text).retry_after(MINUTE));
            }
        }
        Ok(Arc::clone(counts.entry(key).or_default()))
    }

    /// Forgets counts that say nothing any more.
    pub(super) fn tidy(&self, now: Timestamp) {
        self.counts.lock().retain(|_, count| Arc::strong_count(count) > 1 || !count.lock().is_idle(now));
    }
}

impl Count {
    fn take(&mut self, role_name: &str, ours: &Ours, now: Timestamp, end: Timestamp) -> Result<()> {
        self.sweep(now);
        let refused = |limit: &str, most: u64, what: &str, free_at: Option<Timestamp>| {
            let wait = free_at.map_or(MINUTE, |at| Seconds::from(at.since(now)).max(Seconds(1)));
            let text = format!(
                "role {} gives no more credentials now: {limit} allows {most} {what}; try again in {} s",
                quoted(role_name),
                wait.0
            );
            Err(Error::new(Kind::TooMany, text).retry_after(wait))
        };
        if ours.limit_live != 0 && self.live >= ours.limit_live {
            let free_at = self.ends.keys().next().copied();
            return refused("limit_live", ours.limit_live, "live at one time", free_at);
        }
        let made = u64::try_from(self.made.len()).unwrap_or(u64::MAX);
        if ours.limit_mints != 0 && made >= ours.limit_mints {
            let free_at = self.made.front().map(|first| *first + MINUTE);
            return refused("limit_mints", ours.limit_mints, "a minute", free_at);
        }
        if ours.limit_mints != 0 {
            self.made.push_back(now);
        }
        if ours.limit_live != 0 {
            *self.ends.entry(end).or_default() += 1;
            self.live += 1;
        }
        Ok(())
    }

    fn sweep(&mut self, now: Timestamp) {
        while self.made.front().is_some_and(|first| *first + MINUTE <= now) {
            self.made.pop_front();
        }
        while let Some(first) = self.ends.first_entry().filter(|first| *first.key() <= now) {
            self.live = self.live.saturating_sub(*first.get());
            first.remove();
        }
    }

    fn give_back(&mut self, made: Timestamp, end: Timestamp) {
        if let Some(at) = self.made.iter().rposition(|at| *at == made) {
            self.made.remove(at);
        }
        if let Some(number) = self.ends.get_mut(&end) {
            *number -= 1;
            self.live = self.live.saturating_sub(1);
            if *number == 0 {
                self.ends.remove(&end);
            }
        }
    }

    fn is_idle(&self, now: Timestamp) -> bool {
        let made = self.made.back().is_none_or(|last| *last + MINUTE <= now);
        made && self.ends.last_key_value().is_none_or(|(last, _)| *last <= now)
    }
}

impl Taken {
    /// The credential exists: its place stays taken.
    pub(super) fn minted(mut self) {
        self.count = None;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some((count, made, end)) = self.count.take() {
            count.lock().give_back(made, end);
        }
    }
}
