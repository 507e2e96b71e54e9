//! The expiry worker: revokes what has come due, in order, a bounded batch at a time; and the engines' regular work.
//!
//! Nothing is held in memory per lease. An entry that fails is put off and never holds up those behind it; nor does a mount that hangs hold up the
//! others, see [`hands`]; nor do tokens hold up leases, see [`further`]. Regular work has tasks of its own, see [`chores`].

mod chores;
mod further;
mod hands;
mod put_off;
mod tasks;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use daypass_base::{BoxFuture, Timestamp};
use daypass_sdk::{Result, TokenId};
use daypass_storage::{Batch, Due, Key, Space};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::chores::Chores;
use self::further::{Further, Look};
pub(crate) use self::further::{Oldest, Overdue};
use self::hands::{Answered, Hands};
use crate::ids::Id;
use crate::leases::{ATTEMPTS_MAX, Held};
use crate::node::{Inner, Unsealed};
use crate::revoke::{Damaged, Doomed, Left, OfDamaged, Turn};
use crate::together::at_most;
use crate::tokens::{Came, Cause, Many, Stored};

/// Works until the node is sealed or gone.
pub(crate) async fn run(inner: Weak<Inner>, mut stopped: watch::Receiver<bool>) {
    let mut last_tick: Option<Duration> = None;
    let mut last_removal: Option<Duration> = None;
    let (mut hands, mut further, mut chores) = (Hands::new(), Further::default(), Chores::new());
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let pause = strong.clock.sleep(PAUSE);
        let Ok(unsealed) = strong.unsealed() else { break };
        let elapsed = strong.clock.elapsed();
        if last_tick.is_none_or(|last| elapsed.saturating_sub(last) >= TICK) {
            last_tick = Some(elapsed);
            // The engines' regular work changes things at AWS.
            if !unsealed.revocation.is_paused() {
                chores.want_mounts(&unsealed);
                chores.want_parked(elapsed);
            }
            unsealed.lockouts.tidy(strong.clock.elapsed());
            unsealed.quotas.tidy(elapsed);
            unsealed.identities.mfa.waiting.tidy(elapsed);
            if let Err(error) = unsealed.oidc.rotate_due().await {
                tracing::warn!(%error, "keys of identity tokens could not be rotated; it is tried again in a minute");
            }
            if let Err(error) = strong.keep_keyring(&unsealed).await {
                tracing::warn!(%error, "the keyring could not be kept up; it is tried again in a minute");
            }
        }
        if last_removal.is_none_or(|last| elapsed.saturating_sub(last) >= REMOVALS) {
            last_removal = Some(elapsed);
            chores.want_removals();
        }
        chores.go_on(&strong, &unsealed);
        let more = take_back(&strong, &unsealed, &mut hands, &mut further).await;
        drop((strong, unsealed));
        if more && !*stopped.borrow() {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = pause => {}
            () = hands.one_free() => {}
            () = chores.one_free() => {}
            changed = stopped.changed() => {
                if changed.is_err() || *stopped.borrow() {
                    break;
                }
            }
        }
    }
    // Nobody is left to wait for where the node is gone.
    let Some(strong) = inner.upgrade() else { return };
    let (last_wait, last_wait_of_chores) = (strong.clock.sleep(LAST_WAIT), strong.clock.sleep(LAST_WAIT));
    drop(strong);
    tokio::join!(end(hands.into_running(), last_wait), end(chores.into_running(), last_wait_of_chores));
}

/// Waits for what is under way, but not long: a server that is sealed or stopped waits for no AWS. What is cut off is found again, as after a crash.
async fn end<T: 'static>(mut running: JoinSet<T>, last_wait: BoxFuture<'static, ()>) {
    let all = async { while running.join_next().await.is_some() {} };
    tokio::select! {
        biased;
        () = all => return,
        () = last_wait => {}
    }
    tracing::warn!(
        tasks = running.len(),
        "what is under way with mounts does not end; it is cut off and taken up again after the next unsealing"
    );
    running.shutdown().await;
}

/// One batch of what has ended, and one of what is swept. Returns whether there may be more.
async fn take_back(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, hands: &mut Hands, further: &mut Further) -> bool {
    // A pause is for what goes by itself; sweeps were asked for.
    let Step { came, more } = if unsealed.revocation.is_paused() {
        unsealed.overdue.note(Oldest::default());
        Step::nowhere()
    } else {
        step(inner, unsealed, hands, further).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "expiry could not go on; it tries again");
            Step::nowhere()
        })
    };
    unsealed.tokens.arrears.note(came, inner.clock.elapsed(), AGAIN);
    let sweeping = crate::sweeps::step(inner, unsealed).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "a revocation by prefix could not go on; it tries again");
        false
    });
    more || sweeping
}

/// How far one batch brought the worker.
struct Step {
    came: Came,
    /// There may be more that can be begun now.
    more: bool,
}

impl Step {
    fn nowhere() -> Self {
        Self { came: Came::Nowhere, more: false }
    }
}

/// One batch, and leases that are due behind it.
async fn step(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, hands: &mut Hands, further: &mut Further) -> Result<Step> {
    hands.free_the_ended();
    let now = inner.clock.now();
    let due = unsealed.rows.due(0, now, BATCH).await?;
    let full = due.len() == BATCH;
    let Look { leases: behind, place, met } = further.look(unsealed, &due, now).await?;
    let (mut of_leases, due): (Vec<Due>, Vec<Due>) = due.into_iter().partition(|entry| lease_id(entry).is_some());
    of_leases.extend(behind);
    let leases = hands.read(unsealed, of_leases).await;
    let token = due.iter().find(|entry| token_id(entry).is_some()).map(|entry| entry.at);
    let oldest = Oldest { lease: hands.oldest(&leases, met), token };
    unsealed.overdue.note(oldest);
    further.warn(&oldest, now, inner.clock.elapsed());
    let (others, Step { came, more: left }) = settle_tokens(inner, unsealed, due, now).await?;
    let work = others.into_iter().map(|entry| settle_or_put_off(unsealed, entry, now));
    at_most(AT_ONCE, work).await.into_iter().collect::<Result<()>>()?;
    let all_begun = hands.take(inner, unsealed, leases, full, now).await?;
    if all_begun {
        further.go_on(place);
    }
    let came = if full && came == Came::Through { Came::SoFar } else { came };
    Ok(Step { came, more: all_begun && full || left })
}

/// Revokes the tokens among what is due, together where nothing hangs on them, and for a while only: others have their turn. Returns what is no token's;
/// and how far it came with tokens, and whether some are left that are still due.
async fn settle_tokens(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, due: Vec<Due>, now: Timestamp) -> Result<(Vec<Due>, Step)> {
    let (of_tokens, rest): (Vec<Due>, Vec<Due>) = due.into_iter().partition(|entry| token_id(entry).is_some());
    let ids: Vec<TokenId> = of_tokens.iter().filter_map(token_id).collect();
    let Many { mut stored, damaged, seen } = unsealed.tokens.read_many(&ids).await?;
    stored.retain(|stored| stored.row.ended(now));
    let gone: HashSet<Due> = stored.iter().filter_map(Stored::due).collect();
    // Those that do not open are over, too: a renewal would have moved their entries.
    let over = Doomed { stored, damaged: damaged.into_iter().map(|(id, _)| id).collect() };
    let left = crate::revoke::tokens(inner, unsealed, over, Cause::EndedBy(now), OfDamaged::Keep, &Turn::short()).await?;
    let more = seen < ids.len() || left.unfinished() > 0;
    let came = match (left.failed.is_empty(), more) {
        (false, _) => Came::Nowhere,
        (true, true) => Came::SoFar,
        (true, false) => Came::Through,
    };
    tell(&left);
    let again = put_behind(left, now);
    let mut batch = Batch::new();
    for entry in of_tokens.into_iter().take(seen) {
        match token_id(&entry).and_then(|id| again.get(&id)) {
            Some(at) if *at > entry.at => batch = batch.not_due(entry.clone()).due(Due { at: *at, ..entry }),
            Some(_) => {}
            None if gone.contains(&entry) => {}
            // Those that are not over were renewed or are gone: their entries stand further on, or nowhere.
            None => batch = batch.not_due(entry),
        }
    }
    if !batch.due_remove.is_empty() {
        unsealed.rows.commit(batch).await?;
    }
    Ok((rest, Step { came, more }))
}

/// When the worker comes to tokens again that it could not see to. One that was begun stands behind what is due by now, so that a few large ones do not keep
/// the others; one that was not begun keeps its place.
fn put_behind(left: Left, now: Timestamp) -> HashMap<TokenId, Timestamp> {
    let held = left.held.into_iter().map(|(id, _)| (id, now + TICK));
    let failed = left.failed.into_iter().map(|(id, _)| (id, now + AGAIN));
    let begun = left.more.into_iter().map(|id| (id, now));
    let waiting = left.waiting.into_iter().map(|id| (id, Timestamp::default()));
    held.chain(failed).chain(begun).chain(waiting).collect()
}

fn tell(left: &Left) {
    if let Some((_, Damaged { error, .. })) = left.held.first() {
        let tokens = left.held.len();
        tracing::warn!(%error, tokens, "ended tokens stay, unusable, because they or what descends from them are damaged; they are looked at again in a minute");
    }
    if let Some((_, error)) = left.failed.first() {
        tracing::warn!(%error, tokens = left.failed.len(), "ended tokens could not be revoked; they stay unusable and are tried again");
    }
}

fn token_id(entry: &Due) -> Option<TokenId> {
    id_of(b'T', entry).map(TokenId)
}

fn lease_id(entry: &Due) -> Option<Id> {
    id_of(b'L', entry)
}

fn id_of(kind: u8, entry: &Due) -> Option<Id> {
    let (found, id) = entry.id.split_first()?;
    id.try_into().ok().filter(|_| *found == kind)
}

async fn settle_or_put_off(unsealed: &Unsealed, entry: Due, now: Timestamp) -> Result<()> {
    match settle(unsealed, &entry, now).await {
        Ok(()) => Ok(()),
        Err(error) => put_off(unsealed, &entry, now, &error).await,
    }
}

/// A row that does not open, or a store that stumbles: this entry waits, the next ones do not.
async fn put_off(unsealed: &Unsealed, entry: &Due, now: Timestamp, error: &daypass_sdk::Error) -> Result<()> {
    tracing::warn!(%error, "something that came due could not be settled; it is tried again in a minute");
    later(unsealed, entry, now + TICK).await
}

/// What is neither a token nor a lease.
async fn settle(unsealed: &Unsealed, entry: &Due, now: Timestamp) -> Result<()> {
    match entry.id.split_first() {
        Some((b'M', key)) => {
            let marker = Key::new(Space::Lease, key.to_vec());
            crate::leases::signed::end_marker(marker, entry, now, &unsealed.rows).await
        }
        _ => drop_entry(unsealed, entry).await,
    }
}

async fn lease(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, entry: &Due, id: Id, now: Timestamp) -> Result<Answered> {
    let dropped = async || drop_entry(unsealed, entry).await.map(|()| Answered::InTime);
    let Some(held) = unsealed.leases.by_internal_id(id).await? else { return dropped().await };
    // Marked long ago: a revocation that was begun and never ended.
    let interrupted = held.row.revoking;
    if held.row.expires > now && held.row.attempts == 0 && !interrupted {
        // Renewed since: its new entry stands further on.
        return dropped().await;
    }
    if held.row.irrevocable() && held.row.again.is_some_and(|again| again > now) {
        // An entry of before: once a day is enough.
        return dropped().await;
    }
    let Some(mut held) = unsealed.leases.begin_revocation(id).await? else { return dropped().await };
    if held.row.expires > now && held.row.attempts == 0 && !interrupted {
        // Renewed between the two looks.
        unsealed.leases.give_up_revocation(held).await?;
        return dropped().await;
    }
    let (revoked, answered) = tokio::select! {
        biased;
        revoked = crate::revoke::engine_revoke(inner, unsealed, &held.row) => (revoked, Answered::InTime),
        () = inner.clock.sleep(PATIENCE) => {
            let text = format!("taking it back took longer than {} s", PATIENCE.as_secs());
            (Err(daypass_sdk::Error::failed(text)), Answered::TooLate)
        }
    };
    match revoked {
        Ok(()) => {
            unsealed.leases.remove(&held).await?;
            drop_entry(unsealed, entry).await?;
        }
        Err(error) => {
            let was_parked = held.row.irrevocable();
            note_failure(&mut held, &error);
            let what = match (was_parked, held.row.irrevocable()) {
                (true, _) => "a secret could not be taken back again; it is tried in a day",
                (false, true) => {
                    "a secret could not be taken back: these were the quick tries, from now on it is tried once a day (sys/leases?type=irrevocable)"
                }
                (false, false) => "a secret could not be taken back",
            };
            tracing::warn!(lease = %held.row.id, attempt = held.row.attempts, %error, "{what}");
            let again = now + if held.row.irrevocable() { a_day(inner) } else { backoff(held.row.attempts, inner.entropy.below(1000)) };
            unsealed.leases.postpone(held, entry, again).await?;
        }
    }
    Ok(answered)
}

/// Counts a failed revocation; its text is cut as Vault does.
fn note_failure(held: &mut Held, error: &daypass_sdk::Error) {
    held.row.attempts = (held.row.attempts + 1).min(ATTEMPTS_MAX);
    held.row.error = error.to_string().chars().take(240).collect();
}

/// A day and up to an hour more: what an outage parked together does not come together each day.
fn a_day(inner: &Inner) -> Duration {
    DAY + Duration::from_secs(inner.entropy.below(3600))
}

/// 10 s, doubled each time, half more or less by chance.
fn backoff(attempts: u32, chance_per_mille: u64) -> Duration {
    let whole = 10_000_u64.saturating_mul(1 << attempts.saturating_sub(1).min(10));
    Duration::from_millis(whole / 2 + whole * chance_per_mille / 1000)
}

async fn drop_entry(unsealed: &Unsealed, entry: &Due) -> Result<()> {
    unsealed.rows.commit(Batch::new().not_due(entry.clone())).await?;
    Ok(())
}

async fn later(unsealed: &Unsealed, entry: &Due, at: Timestamp) -> Result<()> {
    let again = Due { at, ..entry.clone() };
    unsealed.rows.commit(Batch::new().not_due(entry.clone()).due(again)).await?;
    Ok(())
}

/// Entries that are settled at the same moment and need nothing but the store.
const AT_ONCE: usize = 8;
const PAUSE: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
/// When a token that could not be revoked is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// Between two looks at mounts whose removal was interrupted.
const REMOVALS: Duration = Duration::from_mins(5);
const BATCH: usize = 512;
/// How long a server that is sealed or stopped waits for what is under way with mounts.
const LAST_WAIT: Duration = Duration::from_secs(10);
/// How long one secret may take to be taken back, so that an AWS that hangs does not hold up all others for long.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_wait_longer_each_time() {
        assert_eq!(backoff(1, 0), Duration::from_secs(5));
        assert_eq!(backoff(1, 999), Duration::from_millis(14_990));
        assert_eq!(backoff(6, 500), Duration::from_secs(320));
    }
}
