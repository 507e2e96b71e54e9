//! Tidying when asked to: what a crash, a fault of the store or a mistake of ours may have left behind of tokens and leases.
//!
//! Nothing depends on it. It goes through everything once, a page at a time, in the background; one run of each kind at a time. What it finds it
//! hands to the ordinary revocation, so that it can do no more than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use daypass_sdk::{Kind, Outcome, Reply, Result, TokenId};

use crate::node::{Inner, Unsealed};
use crate::revoke;
use crate::tokens::{Cause, SPENT, TokenRow};

/// Which runs are under way.
#[derive(Default)]
pub(crate) struct Tidying {
    tokens: AtomicBool,
    leases: AtomicBool,
}

/// What is tidied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    Leases,
    Tokens,
}

impl Tidying {
    fn flag(&self, what: What) -> &AtomicBool {
        match what {
            What::Leases => &self.leases,
            What::Tokens => &self.tokens,
        }
    }
}

/// What a run has seen and done so far.
#[derive(Default, Debug)]
struct Count {
    seen: u64,
    mended: u64,
    /// Could not be looked at or mended: it stays as it is.
    failed: u64,
}

impl Count {
    /// One thing that was found is no reason to leave all others alone. Errors: those that the others would meet as well.
    fn note(&mut self, unsealed: &Unsealed, mended: Result<bool>) -> Result<()> {
        match mended {
            Ok(mended) => self.mended += u64::from(mended),
            Err(error) if error.kind == Kind::StoreFull || unsealed.is_stopping() => return Err(error),
            Err(error) => {
                if self.failed == 0 {
                    tracing::warn!(%error, "something could not be tidied; others are only counted");
                }
                self.failed += 1;
            }
        }
        Ok(())
    }
}

/// Starts a run and answers at once; a run that is under way goes on alone.
pub(crate) fn start(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, what: What) -> Reply {
    if unsealed.tidying.flag(what).swap(true, Ordering::AcqRel) {
        return Reply::nothing().warn("Tidy operation already in progress.");
    }
    let (node, state) = (Arc::clone(inner), Arc::clone(unsealed));
    let work = async move {
        let run = async {
            match what {
                What::Leases => leases(&node, &state).await,
                What::Tokens => tokens(&node, &state).await,
            }
        };
        match run.await {
            _ if state.is_stopping() => tracing::info!(?what, "tidying ends with the seal; what it did stands"),
            Ok(Count { seen, mended, failed }) => tracing::info!(?what, seen, mended, failed, "tidying is done"),
            Err(error) => tracing::warn!(?what, %error, "tidying did not finish; what it did stands"),
        }
        state.tidying.flag(what).store(false, Ordering::Release);
    };
    let mut background = unsealed.background.lock();
    background.retain(|task| !task.is_finished());
    background.push(inner.apart(work));
    drop(background);
    let text = "Tidy operation successfully started. Any information from the operation will be printed to Vault's server logs.";
    Reply { outcome: Outcome::Accepted, warnings: vec![text.to_owned()], ..Reply::default() }
}

fn progress(what: What, count: &mut Count, seen: usize) {
    let before = count.seen / PROGRESS_EVERY;
    count.seen += u64::try_from(seen).unwrap_or(u64::MAX);
    if count.seen / PROGRESS_EVERY > before {
        tracing::info!(?what, seen = count.seen, mended = count.mended, "tidying goes on");
    }
}

/// Tokens that are over, whose parent is gone, or whose last use is long done; and edges to children that are gone.
async fn tokens(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>) -> Result<Count> {
    let mut count = Count::default();
    let (mut spent, mut after): (Vec<TokenId>, Option<Bytes>) = (Vec::new(), None);
    while !unsealed.is_stopping() {
        let (page, last) = unsealed.tokens.page(after.as_deref(), PAGE).await?;
        let Some(last) = last else { break };
        after = Some(last);
        progress(What::Tokens, &mut count, page.len());
        for (id, row) in page {
            if unsealed.is_stopping() {
                return Ok(count);
            }
            if let Some(cause) = over(inner, unsealed, &row).await? {
                count.note(unsealed, revoke::token(inner, unsealed, id, cause).await.map(|()| true))?;
            } else if row.num_uses == SPENT {
                spent.push(id);
            }
        }
        tokio::task::yield_now().await;
    }
    let mut after: Option<Vec<u8>> = None;
    while !unsealed.is_stopping() {
        let page = unsealed.tokens.edges(after.as_deref(), PAGE).await?;
        let Some((last, _, _)) = page.last() else { break };
        after = Some(last.clone());
        progress(What::Tokens, &mut count, page.len());
        for (_, parent, child) in page {
            if unsealed.is_stopping() {
                return Ok(count);
            }
            if !unsealed.tokens.is_stored(child).await? {
                unsealed.tokens.drop_edge(parent, child).await?;
                count.mended += 1;
            }
        }
        tokio::task::yield_now().await;
    }
    spent_tokens(inner, unsealed, spent, &mut count).await?;
    Ok(count)
}

/// Why a token should be gone. The row may be of a while ago: whoever revokes the token for this cause asks again.
async fn over(inner: &Inner, unsealed: &Unsealed, row: &TokenRow) -> Result<Option<Cause>> {
    let now = inner.clock.now();
    if row.ended(now) {
        return Ok(Some(Cause::EndedBy(now)));
    }
    let Some(parent) = row.parent.map(TokenId) else { return Ok(None) };
    Ok((!unsealed.tokens.is_stored(parent).await?).then_some(Cause::ChildOf(parent)))
}

/// Revokes tokens that were used up. The last request of such a token may be under way; it tidies up itself, at the latest when its time is
/// over.
async fn spent_tokens(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, spent: Vec<TokenId>, count: &mut Count) -> Result<()> {
    if spent.is_empty() {
        return Ok(());
    }
    let mut stop = unsealed.stop.subscribe();
    tokio::select! {
        () = inner.clock.sleep(inner.settings.limits.request_seconds.duration()) => {}
        _stopped = stop.wait_for(|stop| *stop) => return Ok(()),
    }
    for id in spent {
        if unsealed.is_stopping() {
            return Ok(());
        }
        if unsealed.tokens.is_stored(id).await? {
            count.note(unsealed, revoke::token(inner, unsealed, id, Cause::Spent).await.map(|()| true))?;
        }
    }
    Ok(())
}

/// Leases whose token is gone or that nobody took back in time; and index entries whose lease is gone.
async fn leases(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>) -> Result<Count> {
    let mut count = Count::default();
    let mut after: Option<String> = None;
    while !unsealed.is_stopping() {
        let page = unsealed.leases.below("", after.as_deref(), PAGE).await?;
        let Some((last, _, _)) = page.last() else { break };
        after = Some(last.clone());
        progress(What::Leases, &mut count, page.len());
        for (lease_id, kind, id) in page {
            if unsealed.is_stopping() {
                return Ok(count);
            }
            let mended =
                if kind == b'T' { token_entry(unsealed, &lease_id, id).await } else { lease_entry(inner, unsealed, &lease_id, id).await };
            count.note(unsealed, mended)?;
        }
        tokio::task::yield_now().await;
    }
    Ok(count)
}

async fn token_entry(unsealed: &Unsealed, lease_id: &str, id: crate::ids::Id) -> Result<bool> {
    if unsealed.tokens.is_stored(TokenId(id)).await? {
        return Ok(false);
    }
    unsealed.leases.drop_index(lease_id).await?;
    Ok(true)
}

async fn lease_entry(inner: &Inner, unsealed: &Unsealed, lease_id: &str, id: crate::ids::Id) -> Result<bool> {
    let now = inner.clock.now();
    let Some(held) = unsealed.leases.by_internal_id(id).await? else {
        unsealed.leases.drop_index(lease_id).await?;
        return Ok(true);
    };
    if let Some(token) = held.row.token.map(TokenId)
        && !unsealed.tokens.is_stored(token).await?
    {
        unsealed.leases.loosen(token, id, now).await?;
        return Ok(true);
    }
    if held.row.expires + OVERDUE <= now && held.row.attempts == 0 {
        unsealed.leases.due_now(&held, now).await?;
        return Ok(true);
    }
    Ok(false)
}

const PAGE: usize = 500;
/// A line in the log for each so many things seen.
const PROGRESS_EVERY: u64 = 10_000;
/// The expiry worker is never so late unless an entry was lost.
const OVERDUE: std::time::Duration = std::time::Duration::from_mins(10);
