//! Revocation: of tokens with all that hangs on them, of leases, and of everything below a prefix.
//!
//! Every step can be done twice. A revocation that was begun is finished by the expiry worker, should the process stop half-way.

mod leftover;
mod reach;
mod tree;

use std::collections::HashSet;
use std::sync::Arc;

use daypass_base::Timestamp;
use daypass_sdk::{Error, Kind, Request, Result, Seconds, TokenId};

use crate::ids::Id;
use crate::leases::signed::{self, Signed};
use crate::leases::{Held, LeaseRow};
use crate::mounts::Live;
use crate::node::{Inner, Unsealed};
use crate::rows::config_key;
use crate::stages::intent::context;
use crate::sweeps;
use crate::together::at_most;
use crate::tokens::{Cause, Many, Stored};
use crate::wrapping;

use self::leftover::Leftover;
use self::reach::Reach;
use self::tree::Far;
pub(crate) use self::tree::{Damaged, OfDamaged, Turn};

/// Revokes a token, its children first, and sets its leases to end now. One that is gone already, or whose `cause` holds no more, is no error.
/// Errors: `Sealed` when the server was sealed meanwhile; also when a row is damaged: all the rest was done then. What was begun is finished by the expiry
/// worker.
pub(crate) async fn token(inner: &Arc<Inner>, unsealed: &Unsealed, id: TokenId, cause: Cause) -> Result<()> {
    match tree::token(inner, unsealed, id, cause, OfDamaged::Keep, &Turn::endless()).await? {
        Far::Done => Ok(()),
        Far::Held(damaged) => Err(damaged.error),
        Far::More | Far::NotBegun => Err(crate::node::sealed()),
    }
}

/// What is left of tokens that were to be revoked.
#[derive(Default)]
pub(crate) struct Left {
    /// Begun, and not done when the turn was over.
    pub(crate) more: Vec<TokenId>,
    /// Not begun for that.
    pub(crate) waiting: Vec<TokenId>,
    pub(crate) failed: Vec<(TokenId, Error)>,
    /// Done but for what is damaged: itself, or something below it.
    pub(crate) held: Vec<(TokenId, Damaged)>,
}

impl Left {
    /// How many are left for others to have their turn.
    pub(crate) fn unfinished(&self) -> usize {
        self.more.len() + self.waiting.len()
    }
}

/// The first of several failures that are no reason to leave the rest alone. Errors: one that is.
pub(crate) fn first_failure(failures: impl IntoIterator<Item = Error>) -> Result<Option<Error>> {
    let mut first = None;
    for error in failures {
        if matches!(error.kind, Kind::StoreFull | Kind::Sealed) {
            return Err(error);
        }
        first.get_or_insert(error);
    }
    Ok(first)
}

/// Tokens to be revoked.
pub(crate) struct Doomed {
    /// As they were read.
    pub(crate) stored: Vec<Stored>,
    /// Those whose rows do not open.
    pub(crate) damaged: Vec<TokenId>,
}

/// Revokes tokens as [`token()`] does, those that nothing hangs on all at once, until the turn is over. `cause` holds for the rows as they were read.
/// Errors: the store cannot be read.
pub(crate) async fn tokens(
    inner: &Arc<Inner>,
    unsealed: &Arc<Unsealed>,
    doomed: Doomed,
    cause: Cause,
    rule: OfDamaged,
    turn: &Turn,
) -> Result<Left> {
    let mut left = Left::default();
    let Doomed { stored, damaged: mut alone } = doomed;
    if !remove_bare(unsealed, &stored).await {
        let mut bare = Vec::with_capacity(stored.len());
        for stored in stored {
            if is_bare(unsealed, &stored).await? {
                bare.push(stored);
            } else {
                alone.push(stored.id);
            }
        }
        if !remove_bare(unsealed, &bare).await {
            alone.extend(bare.iter().map(|stored| stored.id));
        }
    }
    let work = alone.into_iter().map(async |id| (id, tree::token(inner, unsealed, id, cause, rule, turn).await));
    for (id, far) in at_most(AT_ONCE, work).await {
        match far {
            Ok(Far::Done) => {}
            Ok(Far::Held(damaged)) => left.held.push((id, damaged)),
            Ok(Far::More) => left.more.push(id),
            Ok(Far::NotBegun) => left.waiting.push(id),
            Err(error) => left.failed.push((id, error)),
        }
    }
    Ok(left)
}

/// Removes tokens that nothing hangs on, all together. False: nothing was done, and each has to be tried alone.
async fn remove_bare(unsealed: &Unsealed, stored: &[Stored]) -> bool {
    unsealed.tokens.remove_bare(stored).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "tokens could not be revoked together; each is tried alone");
        false
    })
}

/// Whether nothing hangs on a token at this moment, but the answer that an unused wrapping token is for.
async fn is_bare(unsealed: &Unsealed, stored: &Stored) -> Result<bool> {
    let id = stored.id;
    Ok(unsealed.tokens.children(id, None, 1).await?.is_empty()
        && unsealed.leases.of_token(id, 1).await?.is_empty()
        && (wrapping::is_unused(&stored.row) || unsealed.rows.list(&config_key(cubbyhole_prefix(id)), None, 1).await?.is_empty()))
}

/// Revokes a token but spares its children: they become orphans.
pub(crate) async fn token_only(inner: &Arc<Inner>, unsealed: &Unsealed, id: TokenId) -> Result<()> {
    unsealed.tokens.orphan_children(id).await?;
    token(inner, unsealed, id, Cause::Asked).await
}

/// Revokes one lease by its id, of whichever kind. One that does not exist is no error.
pub(crate) async fn lease(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, lease_id: &str) -> Result<()> {
    if let Some(signed) = signed::read(lease_id, unsealed.rows.barrier()) {
        return end_signed(inner, unsealed, lease_id, &signed).await;
    }
    if let Some(known) = unsealed.tokens.stored_by_lease(lease_id).await? {
        return token(inner, unsealed, known.id, Cause::Asked).await;
    }
    match unsealed.leases.find(lease_id).await? {
        Some(held) => stored(inner, unsealed, &held).await,
        None => Ok(()),
    }
}

/// Ends a lease that is stored nowhere.
async fn end_signed(inner: &Inner, unsealed: &Unsealed, lease_id: &str, signed: &Signed) -> Result<()> {
    unsealed.ledger.remove(lease_id);
    if signed.expires() > inner.clock.now() {
        signed::revoke(signed, &unsealed.rows).await?;
    }
    Ok(())
}

/// Like [`lease()`], but does not wait for the engine of a stored lease: the lease ends now, and the expiry worker has the secret taken back,
/// with retries. What was asked for is on disk when this returns.
pub(crate) async fn lease_later(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, lease_id: &str) -> Result<()> {
    match unsealed.leases.find(lease_id).await? {
        Some(held) => unsealed.leases.end_now(held.id, inner.clock.now()).await?.map_or(Ok(()), Err),
        None => lease(inner, unsealed, lease_id).await,
    }
}

/// Who does the rest of a revocation that nobody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// The expiry worker, as with all that is due: not while revocation is paused.
    Due,
    /// A sweep: also during a pause, but for secrets that engines have to take back.
    Swept,
}

/// Like [`prefix()`], but waits for no engine, as [`lease_later`], and not for the end of what is more than a page. Errors: as those.
pub(crate) async fn prefix_later(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, prefix: &str) -> Result<Rest> {
    let (reach, now) = (Reach::of(unsealed, prefix).await?, inner.clock.now());
    reach.end_signed(inner, unsealed).await?;
    if let Reach::Below(prefix) = &reach
        && unsealed.leases.below(prefix, None, sweeps::PAGE + 1).await?.len() > sweeps::PAGE
    {
        return sweeps::begin(inner, unsealed, prefix).await.map(|()| Rest::Swept);
    }
    let (mut after, mut leftover) = (None, Leftover::below(reach.text()));
    loop {
        let Some(mut page) = reach.page(unsealed, after.as_deref()).await? else { return leftover.told().map(|()| Rest::Due) };
        let left = tokens(inner, unsealed, page.doomed(), Cause::Asked, OfDamaged::Keep, &Turn::endless()).await?;
        leftover.tokens(left, &page.damaged)?;
        let work = page.others.into_iter().map(async |(lease_id, id)| (lease_id, unsealed.leases.end_now(id, now).await));
        for (lease_id, damaged) in at_most(TOGETHER, work).await {
            leftover.lease(&lease_id, damaged?);
        }
        after = Some(page.last);
    }
}

/// Like [`prefix()`] for a caller who waits: many tokens are swept in the background, which goes on should the caller give up, and what is lent beside them is
/// taken back then. Returns whether it is done: false when an operator paused revocation meanwhile.
pub(crate) async fn prefix_now(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, prefix: &str) -> Result<bool> {
    let Reach::Below(below) = Reach::of(unsealed, prefix).await? else {
        return self::prefix(inner, unsealed, prefix, false).await.map(|()| true);
    };
    let page = unsealed.leases.below(&below, None, sweeps::PAGE + 1).await?;
    if page.len() <= sweeps::PAGE || page.iter().any(|(_, kind, _)| *kind != b'T') {
        return self::prefix(inner, unsealed, prefix, false).await.map(|()| true);
    }
    unsealed.ledger.remove_below(&below);
    signed::revoke_prefix(&below, inner.clock.now(), &unsealed.rows).await?;
    let asked = inner.clock.now();
    sweeps::begin(inner, unsealed, &below).await?;
    let failed = match sweeps::wait_for(inner, unsealed, &below).await {
        Ok(true) => None,
        Ok(false) => return Ok(false),
        Err(error) if error.kind == Kind::Sealed => return Err(error),
        // What the sweep could not revoke keeps nothing else.
        Err(error) => Some(error),
    };
    secrets(inner, unsealed, Leftover::of_sweep(&below, failed), asked).await.map(|()| true)
}

/// Takes back what was lent below a prefix until a moment. A sweep lets it end and waits for no engine, and while revocation is paused nobody else does.
/// Errors: as those of [`prefix()`]; at the end also what the sweep left behind.
async fn secrets(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, mut leftover: Leftover<'_>, asked: Timestamp) -> Result<()> {
    let mut after: Option<String> = None;
    loop {
        let page = unsealed.leases.below(leftover.prefix(), after.as_deref(), PAGE).await?;
        let Some((last, _, _)) = page.last() else { return leftover.told() };
        after = Some(last.clone());
        let lent = page.into_iter().filter(|(_, kind, id)| *kind != b'T' && sweeps::issued_by(id, asked));
        let work = lent.map(async |(lease_id, _, id)| {
            let damaged = entry(inner, unsealed, &lease_id, id, OfDamaged::Keep).await;
            (lease_id, damaged)
        });
        for (lease_id, damaged) in at_most(AT_ONCE, work).await {
            leftover.lease(&lease_id, damaged?);
        }
    }
}

/// Revokes a stored lease: first it is marked, so that no renewal comes in between; then the engine takes the secret back; then it goes.
pub(crate) async fn stored(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, held: &Held) -> Result<()> {
    let Some(held) = unsealed.leases.begin_revocation(held.id).await? else { return Ok(()) };
    match engine_revoke(inner, unsealed, &held.row).await {
        Ok(()) => unsealed.leases.remove(&held).await,
        Err(error) => {
            unsealed.leases.give_up_revocation(held).await?;
            Err(error)
        }
    }
}

/// Has the engine take a secret back. A mount that is gone has nothing left to take back.
pub(crate) async fn engine_revoke(inner: &Arc<Inner>, unsealed: &Unsealed, row: &LeaseRow) -> Result<()> {
    let table = unsealed.table.load_full();
    let Some(live) = table.by_accessor(&row.mount_accessor) else { return Ok(()) };
    take_back(inner, live, row).await
}

/// As [`engine_revoke`], with the mount at hand: it may have left the table while the secret was made.
pub(crate) async fn take_back(inner: &Arc<Inner>, live: &Live, row: &LeaseRow) -> Result<()> {
    let request = Request {
        id: crate::ids::uuid(&*inner.entropy),
        path: row.id.clone(),
        deadline: inner.settings.limits.request_seconds.duration(),
        ..Request::default()
    };
    live.engine.revoke(context(inner, live, request), row.info(Seconds::ZERO)).await
}

/// Revokes every lease and token below a prefix of lease ids, or the one lease whose id is given in its place. With `force`, what the engine cannot take back
/// is forgotten, and what is damaged. Errors: an engine's that fails, where it stops; at the end also that something is damaged, `Failed` with its name.
pub(crate) async fn prefix(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, prefix: &str, force: bool) -> Result<()> {
    let reach = Reach::of(unsealed, prefix).await?;
    reach.end_signed(inner, unsealed).await?;
    let rule = if force { OfDamaged::Forget } else { OfDamaged::Keep };
    let (mut after, mut leftover) = (None, Leftover::below(reach.text()));
    loop {
        let Some(mut page) = reach.page(unsealed, after.as_deref()).await? else { return leftover.told() };
        let left = tokens(inner, unsealed, page.doomed(), Cause::Asked, rule, &Turn::endless()).await?;
        leftover.tokens(left, &page.damaged)?;
        for (lease_id, id) in page.damaged {
            if force && !unsealed.tokens.is_stored(id).await? {
                page.stale.push(lease_id);
            }
        }
        unsealed.leases.drop_indexes(page.stale.iter().map(String::as_str)).await?;
        let rest = page.others.into_iter().map(async |(lease_id, id)| {
            let damaged = entry(inner, unsealed, &lease_id, id, rule).await;
            (lease_id, damaged)
        });
        for (lease_id, damaged) in at_most(AT_ONCE, rest).await {
            leftover.lease(&lease_id, damaged?);
        }
        after = Some(page.last);
    }
}

/// A page of the lease index, and the tokens that it names.
pub(crate) struct Entries {
    pub(crate) tokens: Vec<Stored>,
    /// Tokens whose rows do not open, with their lease ids.
    pub(crate) damaged: Vec<(String, TokenId)>,
    /// Lease ids of tokens that were gone: such an entry is left by a crash, a token takes its own with it.
    pub(crate) stale: Vec<String>,
    /// Leases of secrets.
    pub(crate) others: Vec<(String, Id)>,
    /// The lease id behind which it goes on.
    pub(crate) last: String,
    /// How many entries there are.
    pub(crate) count: usize,
}

impl Entries {
    /// Reads up to `limit` entries behind `after`, fewer when their tokens are large. `None`: there are none.
    pub(crate) async fn read(unsealed: &Unsealed, prefix: &str, after: Option<&str>, limit: usize) -> Result<Option<Self>> {
        Self::of(unsealed, unsealed.leases.below(prefix, after, limit).await?).await
    }

    /// The same of entries at hand, as the index has them: lease id, kind and internal id.
    async fn of(unsealed: &Unsealed, mut page: Vec<(String, u8, Id)>) -> Result<Option<Self>> {
        let ids: Vec<TokenId> = page.iter().filter(|(_, kind, _)| *kind == b'T').map(|(_, _, id)| TokenId(*id)).collect();
        let Many { stored: tokens, damaged, seen } = unsealed.tokens.read_many(&ids).await?;
        if let Some(next) = ids.get(seen) {
            let cut = page.iter().position(|(_, kind, id)| *kind == b'T' && *id == next.0);
            page.truncate(cut.unwrap_or(page.len()));
        }
        let Some(last) = page.last().map(|(lease_id, _, _)| lease_id.clone()) else { return Ok(None) };
        let count = page.len();
        let known: HashSet<TokenId> = tokens.iter().map(|stored| stored.id).collect();
        let unreadable: HashSet<TokenId> = damaged.iter().map(|(id, _)| *id).collect();
        let (mut damaged, mut stale, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (lease_id, kind, id) in page {
            match kind {
                b'T' if known.contains(&TokenId(id)) => {}
                b'T' if unreadable.contains(&TokenId(id)) => damaged.push((lease_id, TokenId(id))),
                b'T' => stale.push(lease_id),
                _ => others.push((lease_id, id)),
            }
        }
        Ok(Some(Self { tokens, damaged, stale, others, last, count }))
    }

    /// Takes all its tokens.
    fn doomed(&mut self) -> Doomed {
        Doomed { stored: std::mem::take(&mut self.tokens), damaged: self.damaged.iter().map(|(_, id)| *id).collect() }
    }
}

/// Revokes the lease that one entry of the lease index names. Gives why its row does not open where it stays for that.
async fn entry(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, lease_id: &str, id: Id, rule: OfDamaged) -> Result<Option<Error>> {
    let held = match (unsealed.leases.look(id).await?, rule) {
        (None, _) => return unsealed.leases.drop_index(lease_id).await.map(|()| None),
        (Some(Err(error)), OfDamaged::Keep) => return Ok(Some(error)),
        (Some(Err(error)), OfDamaged::Forget) => {
            tracing::warn!(lease = %lease_id, %error, "a damaged lease is removed by force; its secret was not taken back");
            return unsealed.leases.forget(lease_id, id).await.map(|()| None);
        }
        (Some(Ok(held)), _) => held,
    };
    if rule == OfDamaged::Forget {
        // Force is for engines that fail and rows that are damaged: a store that fails is no reason to forget a secret.
        let Some(held) = unsealed.leases.begin_revocation(id).await? else { return Ok(None) };
        if let Err(error) = engine_revoke(inner, unsealed, &held.row).await {
            tracing::warn!(lease = %lease_id, %error, "a secret could not be taken back; its lease is removed by force");
        }
        return unsealed.leases.remove(&held).await.map(|()| None);
    }
    match stored(inner, unsealed, &held).await {
        Err(error) if error.kind == Kind::StoreFull => Err(error),
        Err(error) => Err(Error::bad_request(format!("failed to revoke {lease_id:?}: {error}")).because(error)),
        Ok(()) => Ok(None),
    }
}

/// Where a token's cubbyhole lies.
pub(crate) fn cubbyhole_prefix(id: TokenId) -> String {
    format!("cubbyhole/{}/", data_encoding::HEXLOWER.encode(&id.0))
}

const PAGE: usize = 500;
/// Revocations that run at the same moment: most of their time they wait for the store or for AWS, which has limits of its own.
const AT_ONCE: usize = 8;
/// Of changes that wait for the store alone: as many as may share a commit.
const TOGETHER: usize = 64;
