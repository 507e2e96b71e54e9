//! How many credentials a role gives: so many a minute, so many that are good at one time; all together, or for each value of a claim.
//!
//! Counted in memory on each node, from its start, on the monotonic clock: whoever sets the other one changes no limit. Only what is asked of AWS
//! counts: a credential that is handed out again does not. What `revoke-sessions` ended counts no more; a lease that is revoked ends nothing at AWS,
//! and its session keeps its place.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::SHA256_OUTPUT_LEN;
use daypass_sdk::{Cx, Error, Kind, Result, Seconds, Timestamp};
use parking_lot::Mutex;

use super::creds::Grant;
use super::ours::Ours;
use super::text::quoted;
use crate::hash::sha256;
use crate::secrets::revoked::{Revoked, Session};

/// Pairs of role and claim value that a mount counts for.
const COUNTED_MAX: usize = 10_000;
const MINUTE: Duration = Duration::from_mins(1);

/// The counts of a mount, by role and the hash of a claim's value: a login may bring values of many kilobytes.
#[derive(Default)]
pub(super) struct Limits {
    counts: Mutex<Counts>,
}

type Counts = BTreeMap<(String, [u8; SHA256_OUTPUT_LEN]), Arc<Mutex<Count>>>;

/// Times are those of the monotonic clock, where nothing else is said.
#[derive(Default)]
struct Count {
    /// When credentials of the last minute were made, oldest first; as long as the limit at most.
    made: VecDeque<Duration>,
    /// Live credentials, those that end soonest first; as many as the limit at most.
    live: BTreeMap<Spot, Live>,
    /// How many places among those were taken ever.
    taken: u64,
    /// Of what [`Revoked::count`] counts, what was looked at.
    looked_at: u64,
}

/// A place among the live ones: when it is free again, and a number.
type Spot = (Duration, u64);

struct Live {
    /// What may be ended before its time. Those who are asked for alike share one.
    session: Option<Arc<Session>>,
    /// When it began, by AWS's clock; `None` until AWS has made it.
    began: Option<Timestamp>,
}

/// A place that was taken before AWS was asked. Dropped without [`Taken::minted`], it is given back.
pub(super) struct Taken(Option<Place>);

struct Place {
    count: Arc<Mutex<Count>>,
    made: Duration,
    spot: Option<Spot>,
    lifetime: Seconds,
}

impl Limits {
    /// Takes a place for a credential. Errors: `TooMany`, which says when to try again; `BadRequest` when the claim that limits are counted by is
    /// missing.
    pub(super) fn take(&self, cx: &Cx, (role_name, ours): (&str, &Ours), grant: &Grant, revoked: &Revoked) -> Result<Taken> {
        if ours.limit_mints == 0 && ours.limit_live == 0 {
            return Ok(Taken(None));
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
        let now = cx.clock.elapsed();
        let count = self.count(role_name, value, now)?;
        let spot = {
            let mut count = count.lock();
            count.sweep(now);
            count.judge(role_name, ours, now, revoked)?;
            count.take(ours, grant, now)
        };
        Ok(Taken(Some(Place { count, made: now, spot, lifetime: grant.lifetime() })))
    }

    fn count(&self, role_name: &str, value: &str, now: Duration) -> Result<Arc<Mutex<Count>>> {
        let mut counts = self.counts.lock();
        let key = (role_name.to_owned(), sha256(value.as_bytes()));
        if !counts.contains_key(&key) && counts.len() >= COUNTED_MAX {
            counts.retain(|_, count| !count.lock().is_idle(now));
            if counts.len() >= COUNTED_MAX {
                // A flood of claim values: refused rather than let through uncounted.
                let text = format!("the limits of this mount are counted for {COUNTED_MAX} claim values already; try again in a minute");
                return Err(Error::new(Kind::TooMany, text).retry_after(MINUTE.into()));
            }
        }
        Ok(Arc::clone(counts.entry(key).or_default()))
    }

    /// Forgets counts that say nothing any more.
    pub(super) fn tidy(&self, now: Duration) {
        self.counts.lock().retain(|_, count| Arc::strong_count(count) > 1 || !count.lock().is_idle(now));
    }
}

impl Count {
    /// Whether there is a place. Errors: `TooMany`.
    fn judge(&mut self, role_name: &str, ours: &Ours, now: Duration, revoked: &Revoked) -> Result<()> {
        let refused = |limit: &str, most: u64, what: &str, free_at: Option<Duration>| {
            let wait = free_at.map_or(MINUTE, |at| at.saturating_sub(now));
            // Who comes back then is not to be early by the rest of a second.
            let wait = Seconds(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(Seconds(1));
            let text = format!(
                "role {} gives no more credentials now: {limit} allows {most} {what}; try again in {} s",
                quoted(role_name),
                wait.0
            );
            Err(Error::new(Kind::TooMany, text).retry_after(wait))
        };
        if self.is_full(ours) {
            self.drop_ended(revoked);
        }
        if self.is_full(ours) {
            let free_at = self.live.first_key_value().map(|((end, _), _)| *end);
            return refused("limit_live", ours.limit_live, "live at one time", free_at);
        }
        if ours.limit_mints != 0 && number(self.made.len()) >= ours.limit_mints {
            let free_at = self.made.front().map(|first| *first + MINUTE);
            return refused("limit_mints", ours.limit_mints, "a minute", free_at);
        }
        Ok(())
    }

    fn is_full(&self, ours: &Ours) -> bool {
        ours.limit_live != 0 && number(self.live.len()) >= ours.limit_live
    }

    fn take(&mut self, ours: &Ours, grant: &Grant, now: Duration) -> Option<Spot> {
        if ours.limit_mints != 0 {
            self.made.push_back(now);
        }
        if ours.limit_live == 0 {
            return None;
        }
        let last = self.live.last_key_value().and_then(|(_, last)| last.session.clone());
        let session = grant.session().map(|session| last.filter(|last| **last == session).unwrap_or_else(|| Arc::new(session)));
        let spot = (now.saturating_add(grant.lifetime().duration()), self.taken);
        self.taken += 1;
        self.live.insert(spot, Live { session, began: None });
        Some(spot)
    }

    fn sweep(&mut self, now: Duration) {
        while self.made.front().is_some_and(|first| is_past(*first, now)) {
            self.made.pop_front();
        }
        while let Some(first) = self.live.first_entry().filter(|first| first.key().0 <= now) {
            first.remove();
        }
    }

    /// Drops those that were ended since the last look. Nothing is looked at twice: who is refused may ask at any rate.
    fn drop_ended(&mut self, revoked: &Revoked) {
        let count = revoked.count();
        if self.looked_at != count {
            self.looked_at = count;
            self.live.retain(|_, live| !live.is_ended(revoked));
        }
    }

    fn is_idle(&self, now: Duration) -> bool {
        let made = self.made.back().is_none_or(|last| is_past(*last, now));
        made && self.live.last_key_value().is_none_or(|((end, _), _)| *end <= now)
    }
}

impl Live {
    fn is_ended(&self, revoked: &Revoked) -> bool {
        self.session.as_ref().zip(self.began).is_some_and(|(session, began)| revoked.has_ended(session, began))
    }
}

/// Whether what was made then is of the last minute no more.
fn is_past(made: Duration, now: Duration) -> bool {
    now.saturating_sub(made) >= MINUTE
}

fn number(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

impl Taken {
    /// The credential exists: its place stays taken until it ends, which `end` says by the monotonic clock, unless it was ended while AWS made it.
    pub(super) fn minted(mut self, expiration: Timestamp, end: impl FnOnce() -> Duration, revoked: &Revoked) {
        let Some(Place { count, spot: Some(spot), lifetime, .. }) = self.0.take() else { return };
        let end = end();
        let mut count = count.lock();
        let Some(mut live) = count.live.remove(&spot) else { return };
        live.began = Some(expiration - lifetime.duration());
        if !live.is_ended(revoked) {
            // AWS began after it was asked, whatever its clock and ours say.
            count.live.insert((end.max(spot.0), spot.1), live);
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let Some(Place { count, made, spot, .. }) = self.0.take() else { return };
        let mut count = count.lock();
        if let Some(at) = count.made.iter().rposition(|at| *at == made) {
            count.made.remove(at);
        }
        spot.and_then(|spot| count.live.remove(&spot));
    }
}
