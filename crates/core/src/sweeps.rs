//! Sweeps: revocation of all below a prefix, where that is more than a request can wait for.
//!
//! What is asked for is on disk before it is answered, and tokens below the prefix are refused from then on. The expiry worker does the rest, a
//! page at a time, and again from the start after a crash: what is gone is not met twice. What is issued below the prefix after the sweep was
//! asked for stays.
//!
//! What is refused is what a sweep finds: a token that it could not come to would be refused for as long as the sweep waits, which is for ever where revocation
//! is paused. Only what descends from a token whose row is damaged is refused by every sweep: any of them may come to it. One such row keeps a sweep from its
//! end, and keeps nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use daypass_base::Timestamp;
use daypass_sdk::{Error, Result, TokenId};
use daypass_storage::{Batch, Key};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::ids::Id;
use crate::node::{Inner, Unsealed, core_key};
use crate::revoke::{self, Doomed, OfDamaged, Turn};
use crate::rows::Rows;
use crate::together::at_most;
use crate::tokens::{Cause, TokenRow, is_of_choice};

/// A sweep as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sweep {
    /// UUIDv4.
    pub(crate) id: String,
    /// Of lease ids, with a slash at the end.
    pub(crate) prefix: String,
    pub(crate) asked: Timestamp,
    /// Asked for during the pause of revocation that began then: it is done all the same. A pause holds up only what was asked for before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    during: Option<Timestamp>,
}

/// A sweep and how far it is on this node.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) sweep: Sweep,
    /// Entries that were dealt with since this node began.
    pub(crate) done: AtomicU64,
    place: Mutex<Place>,
}

/// Where a sweep goes on.
#[derive(Debug, Clone, Default)]
struct Place {
    after: Option<String>,
    /// Something could not be revoked on the way: it is met again from the start.
    failed: bool,
    /// How often it came to the end like that.
    rounds: u32,
    /// Not before this, on the clock's monotonic time.
    rests_until: Duration,
}

/// All sweeps that are not done.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    running: ArcSwap<Vec<Arc<Running>>>,
    /// Version of the row that is in force, so that of two who change it the later one's stays.
    version: Mutex<u64>,
}

impl Sweeps {
    /// Reads what is stored: at start, and when another node may have changed it.
    pub(crate) async fn reload(&self, rows: &Rows) -> Result<()> {
        let Some((stored, version)) = rows.get_json::<Vec<Sweep>>(&key()).await? else { return Ok(()) };
        self.take(stored, version);
        Ok(())
    }

    fn take(&self, stored: Vec<Sweep>, version: u64) {
        let mut in_force = self.version.lock();
        if version <= *in_force {
            return;
        }
        *in_force = version;
        let old = self.running.load();
        let known = |sweep: &Sweep| old.iter().find(|running| running.sweep == *sweep).cloned();
        let new = |sweep| Arc::new(Running { sweep, done: AtomicU64::new(0), place: Mutex::default() });
        let running: Vec<_> = stored.into_iter().map(|sweep| known(&sweep).unwrap_or_else(|| new(sweep))).collect();
        self.running.store(Arc::new(running));
    }

    pub(crate) fn running(&self) -> Arc<Vec<Arc<Running>>> {
        self.running.load_full()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.running.load().is_empty()
    }

    /// Whether a sweep will find a token. One without an end has no lease id, so none does: it is not refused either.
    pub(crate) fn cover(&self, token: &TokenRow) -> bool {
        let running = self.running.load();
        let finds = |sweep: &Sweep| token.created <= sweep.asked && is_below(&token.path, &sweep.prefix);
        token.expires.is_some() && running.iter().any(|one| finds(&one.sweep))
    }

    async fn change(&self, rows: &Rows, change: impl Fn(&mut Vec<Sweep>)) -> Result<()> {
        let decide = |stored: Option<Vec<Sweep>>| {
            let mut sweeps = stored.unwrap_or_default();
            change(&mut sweeps);
            if sweeps.len() > SWEEPS_MAX {
                return Err(Error::failed(format!("{SWEEPS_MAX} revocations by prefix are under way already; wait for one to end")));
            }
            Ok(Some(sweeps))
        };
        rows.change(&key(), &Batch::new().taking_back().config_change(), decide).await?;
        self.reload(rows).await
    }
}

/// Begins a sweep. When this returns, it will be done. One of the same prefix that is not done goes on as this one: what it is stuck at would stop both.
pub(crate) async fn begin(inner: &Arc<Inner>, unsealed: &Unsealed, prefix: &str) -> Result<()> {
    let during = unsealed.revocation.paused().map(|paused| paused.since);
    let sweep = Sweep { id: crate::ids::uuid(&*inner.entropy), prefix: prefix.to_owned(), asked: inner.clock.now(), during };
    let take_in = |sweeps: &mut Vec<Sweep>| {
        let older = sweeps.extract_if(.., |one| one.prefix == sweep.prefix).map(|one| one.asked).max();
        // The clock may have been put back since.
        sweeps.push(Sweep { asked: older.map_or(sweep.asked, |older| older.max(sweep.asked)), ..sweep.clone() });
    };
    unsealed.tokens.sweeps.change(&unsealed.rows, take_in).await
}

/// Whether a sweep is not held up by a pause of revocation.
fn may_go_on(unsealed: &Unsealed, sweep: &Sweep) -> bool {
    unsealed.revocation.paused().is_none_or(|paused| sweep.during == Some(paused.since))
}

/// Waits for the end of the sweep of a prefix. False: revocation was paused meanwhile, and the sweep goes on when revocation does.
/// Errors: `Sealed` when the server was sealed meanwhile; the sweep goes on after the next unsealing. `Failed` when it met what it cannot revoke.
pub(crate) async fn wait_for(inner: &Inner, unsealed: &Unsealed, prefix: &str) -> Result<bool> {
    let mut stopped = unsealed.stop.subscribe();
    loop {
        let running = unsealed.tokens.sweeps.running();
        let Some(running) = running.iter().find(|running| running.sweep.prefix == prefix) else { return Ok(true) };
        if !may_go_on(unsealed, &running.sweep) {
            return Ok(false);
        }
        if running.place.lock().rounds > 0 {
            return Err(Error::failed(format!(
                "something below {prefix:?} could not be revoked; the log says what. It is tried again now and then (sys/leases/revoking), and all else is \
                 revoked. What is damaged goes with: daypass lease revoke -force -prefix {prefix}"
            )));
        }
        tokio::select! {
            () = inner.clock.sleep(LOOK) => {}
            _stopped = stopped.wait_for(|stop| *stop) => return Err(crate::node::sealed()),
        }
    }
}

/// Does one page of the oldest sweep that may go on. Returns whether there is more to do.
pub(crate) async fn step(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>) -> Result<bool> {
    let sweeps = &unsealed.tokens.sweeps;
    let elapsed = inner.clock.elapsed();
    let running = sweeps.running();
    let next = running.iter().find(|one| may_go_on(unsealed, &one.sweep) && one.place.lock().rests_until <= elapsed).cloned();
    let Some(running) = next else { return Ok(false) };
    let place = running.place.lock().clone();
    match page(inner, unsealed, &running, place.clone()).await {
        Ok(Some(place)) => {
            *running.place.lock() = place;
            Ok(true)
        }
        Ok(None) => Ok(!sweeps.running().is_empty()),
        Err(error) => {
            // What is wrong with this one must not keep those behind it.
            *running.place.lock() = Place { rests_until: elapsed + REST_AFTER_ERROR, ..place };
            Err(error)
        }
    }
}

/// One page, from this place on. Returns where it goes on; `None` when it is done.
async fn page(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, running: &Running, place: Place) -> Result<Option<Place>> {
    let sweep = &running.sweep;
    let Some(page) = revoke::Entries::read(unsealed, &sweep.prefix, place.after.as_deref(), STEP).await? else {
        if place.failed {
            let rest = REST * (1 << place.rounds.min(ROUNDS_COUNTED));
            return Ok(Some(Place { rests_until: inner.clock.elapsed() + rest, rounds: place.rounds + 1, ..Place::default() }));
        }
        unsealed.tokens.sweeps.change(&unsealed.rows, |stored| stored.retain(|one| one.id != sweep.id)).await?;
        tracing::info!(prefix = %sweep.prefix, entries = running.done.load(Ordering::Relaxed), "a revocation by prefix is done");
        return Ok(None);
    };
    let stored: Vec<_> = page.tokens.into_iter().filter(|stored| stored.row.created <= sweep.asked).collect();
    let damaged: Vec<_> = page.damaged.into_iter().map(|(_, id)| id).filter(|id| was_there(*id, sweep.asked)).collect();
    let count = stored.len() + damaged.len();
    let left = revoke::tokens(inner, unsealed, Doomed { stored, damaged }, Cause::Asked, OfDamaged::Keep, &Turn::short()).await?;
    unsealed.leases.drop_indexes(page.stale.iter().map(String::as_str)).await?;
    let before = page.others.into_iter().filter(|(_, id)| issued_by(id, sweep.asked));
    let ends = at_most(TOGETHER, before.map(|(_, id)| unsealed.leases.end_now(id, inner.clock.now()))).await;
    let unfinished = left.unfinished();
    let failures = left.failed.into_iter().map(|(_, error)| error).chain(left.held.into_iter().map(|(_, damaged)| damaged.error));
    let failures: Vec<Error> = failures.chain(ends.into_iter().filter_map(|end| end.unwrap_or_else(Some))).collect();
    let failed = failures.len();
    let failure = revoke::first_failure(failures)?;
    let done = if unfinished > 0 { count.saturating_sub(unfinished + failed) } else { page.count };
    running.done.fetch_add(u64::try_from(done).unwrap_or_default(), Ordering::Relaxed);
    if unfinished > 0 {
        // Others have their turn; what is left of the page is read again then.
        return Ok(Some(place));
    }
    if let Some(error) = &failure {
        tracing::warn!(%error, failed, prefix = %sweep.prefix, "something could not be revoked; its token stays refused, and it is tried again later");
    }
    Ok(Some(Place { after: Some(page.last), failed: place.failed || failure.is_some(), ..place }))
}

/// Whether what was made at `path` has a lease id below `prefix`.
fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some() || prefix.strip_suffix('/') == Some(path)
}

/// Whether a token whose row does not open was there at `moment`. Ids of texts of somebody's own choice do not tell, so it was.
fn was_there(id: TokenId, moment: Timestamp) -> bool {
    is_of_choice(id) || issued_by(&id.0, moment)
}

/// Whether an internal id was made at `moment` or before, to the millisecond.
pub(crate) fn issued_by(id: &Id, moment: Timestamp) -> bool {
    let millis = id.get(1..7).unwrap_or_default().iter().fold(0_i64, |sum, byte| (sum << 8) | i64::from(*byte));
    millis <= moment.millis()
}

fn key() -> Key {
    core_key("sweeps")
}

/// More than a page is a sweep's work.
pub(crate) const PAGE: usize = 500;
/// Entries that are dealt with in one step, whose commit others have to wait for: some 20 ms.
const STEP: usize = 1000;
/// How often somebody who waits for a sweep looks for its end.
const LOOK: Duration = Duration::from_millis(100);
/// Between two goes at what could not be revoked; doubled each time, for it may be for good.
const REST: Duration = Duration::from_mins(1);
/// About an hour at most.
const ROUNDS_COUNTED: u32 = 6;
const REST_AFTER_ERROR: Duration = Duration::from_secs(5);
const TOGETHER: usize = 64;
const SWEEPS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_a_slash() {
        assert!(is_below("auth/token/create", "auth/token/create/") && is_below("auth/token/create/role", "auth/token/"));
        assert!(!is_below("auth/token/create-orphan", "auth/token/create/") && !is_below("auth", "auth/token/"));
    }

    #[test]
    fn an_id_tells_when_it_was_made() {
        let id = [0, 0, 0, 0, 0, 1, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9];
        assert!(issued_by(&id, Timestamp::from_nanos(256_000_000)) && !issued_by(&id, Timestamp::from_nanos(255_999_999)));
    }
}
