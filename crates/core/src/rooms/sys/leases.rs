//! `sys/leases/*` and its older names: look up, list, renew and revoke leases, of tokens as well as of secrets.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use daypass_base::{Brief, Seconds, Timestamp};
use daypass_sdk::{CommitFailure, Cx, Endpoint, Error, Keys, Kind, Operation, Outcome, Page, Reply, Result, whole};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::Sys;
use crate::leases::{Held, LeaseRow, check_renews, not_renewed, signed};
use crate::node::{Inner, Unsealed};
use crate::revoke::{self, Rest};
use crate::stages::intent::context;
use crate::ttl::{self, Wish};

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["leases/lookup"]).summary("View or list lease metadata.").on(Operation::Update, lookup),
        Endpoint::at(["leases/lookup/{prefix..?}"]).summary("List leases below a prefix.").sudo().on(Operation::List, list),
        Endpoint::at(["leases/renew", "renew", "leases/renew/{url_lease_id..}", "renew/{url_lease_id..}"])
            .summary("Renew a lease on a secret.")
            .on(Operation::Update, renew),
        Endpoint::at(["leases/revoke", "revoke", "leases/revoke/{url_lease_id..}", "revoke/{url_lease_id..}"])
            .summary("Revoke a leased secret immediately.")
            .on(Operation::Update, revoke_one),
        Endpoint::at(["leases/revoke-prefix/{prefix..}", "revoke-prefix/{prefix..}"])
            .summary("Revoke all secrets generated in a given prefix.")
            .sudo()
            .on(Operation::Update, revoke_prefix),
        Endpoint::at(["leases/revoke-force/{prefix..}", "revoke-force/{prefix..}"])
            .summary("Revoke all secrets generated in a given prefix, ignoring errors of the engines.")
            .sudo()
            .on(Operation::Update, revoke_force),
        Endpoint::at(["leases/revoking"])
            .summary("Show revocations by prefix that are under way.")
            .help("A revocation by prefix of more than 500 leases goes on in the background; its tokens are refused from the moment it is answered.")
            .sudo()
            .on(Operation::Read, revoking),
        Endpoint::at(["leases/tidy"]).summary("Clean up what is left of leases.").on(Operation::Update, tidy),
        Endpoint::at(["leases/count"]).summary("Count leases of a kind.").on(Operation::Read, count),
        Endpoint::at(["leases"]).summary("List irrevocable leases.").sudo().on(Operation::Read, irrevocable),
    ]
}

/// A lease.
#[derive(Deserialize, JsonSchema)]
struct LeaseParams {
    /// The lease id.
    #[serde(default)]
    lease_id: String,
    /// The lease id in the path, as older clients send it; it is read there alone, and no other may be in the body.
    #[serde(default)]
    url_lease_id: String,
    /// Lifetime wanted from now on, in seconds or as a duration; zero asks for the usual one again.
    #[serde(default)]
    increment: Seconds,
    /// Wait until it is done.
    sync: Option<bool>,
}

/// A prefix of lease ids.
#[derive(Deserialize, JsonSchema)]
struct PrefixParams {
    /// The prefix: a mount, a role's path, or the id of one lease.
    #[serde(default)]
    prefix: String,
    /// Wait until it is done.
    sync: Option<bool>,
}

/// A kind of lease.
#[derive(Deserialize, JsonSchema)]
struct KindParams {
    /// Only `irrevocable` is counted and listed.
    #[serde(default)]
    r#type: String,
    /// The most leases to list: a number, 10000 unless given, or `none` for all.
    #[serde(default)]
    limit: String,
    /// Kept for Vault's clients: there are no namespaces.
    #[serde(default)]
    #[expect(dead_code, reason = "there are no namespaces to leave out")]
    include_child_namespaces: bool,
}

/// A prefix of lease ids.
#[derive(Deserialize, JsonSchema)]
struct ForceParams {
    /// The prefix: a mount, a role's path, or the id of one lease.
    #[serde(default)]
    prefix: String,
}

impl KindParams {
    /// How many leases to list at most. Errors: `BadRequest` with Vault's texts.
    fn most(&self) -> Result<usize> {
        match self.limit.as_str() {
            "" => Ok(PARKED_LISTED),
            none if none.eq_ignore_ascii_case("none") => Ok(usize::MAX),
            text => {
                let limit: i64 = text.parse().map_err(|error| {
                    Error::bad_request(format!("invalid 'limit' provided: {:?} is no whole number", Brief(text))).because(error)
                })?;
                let positive = usize::try_from(limit).ok().filter(|limit| *limit > 0);
                positive.ok_or_else(|| Error::bad_request("limit must be 'none' or a positive integer"))
            }
        }
    }
}

impl LeaseParams {
    /// The lease that is meant. Policies judge by the path, so an id there is the one that counts, and only there is `url_lease_id` one.
    /// Errors: `BadRequest` without an id, and with another one in the body than in the path.
    fn id(&self, cx: &Cx) -> Result<&str> {
        let before = cx.request.below.strip_suffix(&self.url_lease_id).filter(|_| !self.url_lease_id.is_empty());
        match (before.is_some_and(|before| before.ends_with('/')), self.lease_id.as_str()) {
            (false, "") => Err(Error::bad_request("lease_id must be specified")),
            (false, id) => Ok(id),
            (true, id) if id.is_empty() || id == self.url_lease_id => Ok(&self.url_lease_id),
            (true, id) => Err(Error::bad_request(format!(
                "lease_id {:?} is another lease than that of the path, {:?}: the path decides, so leave lease_id out",
                Brief(id),
                self.url_lease_id
            ))),
        }
    }
}

async fn lookup(sys: Arc<Sys>, cx: Cx, params: LeaseParams) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let (id, now) = (params.id(&cx)?.to_owned(), cx.clock.now());
    let invalid = || Error::bad_request("invalid lease");
    if let Some(signed) = signed::read(&id, unsealed.rows.barrier()) {
        if !signed_lives(&unsealed, &signed, now).await? {
            return Err(invalid());
        }
        return Ok(shown(&id, signed.issued, None, Some(signed.expires()), false, now));
    }
    if let Some(known) = unsealed.tokens.by_lease(&id).await? {
        let row = &known.row;
        return Ok(shown(&id, row.created, row.last_renewal, row.expires, row.renewable, now));
    }
    let held = unsealed.leases.find(&id).await?.ok_or_else(invalid)?;
    Ok(shown(&id, held.row.issued, held.row.last_renewal, Some(held.row.expires), held.row.renewable, now))
}

/// Whether a signed lease still stands: not ended, not revoked, and its parent alive.
async fn signed_lives(unsealed: &Unsealed, signed: &signed::Signed, now: Timestamp) -> Result<bool> {
    Ok(signed_stands(unsealed, signed, now).await? && parent_lives(unsealed, signed).await?)
}

async fn signed_stands(unsealed: &Unsealed, signed: &signed::Signed, now: Timestamp) -> Result<bool> {
    Ok(signed.expires() > now && !signed::revoked(signed, &unsealed.rows).await?)
}

async fn parent_lives(unsealed: &Unsealed, signed: &signed::Signed) -> Result<bool> {
    Ok(signed.token.0 == [0; 16] || unsealed.tokens.lives(signed.token).await?)
}

/// The first names below a prefix without the signed leases that a look-up does not find: their ids are in memory until they end, also when
/// their token was revoked.
async fn living(unsealed: &Unsealed, prefix: &str, names: Vec<String>, most: usize, now: Timestamp) -> Result<Vec<String>> {
    let mut parents: HashMap<[u8; 16], bool> = HashMap::new();
    let mut living = Vec::new();
    for (number, name) in names.into_iter().enumerate() {
        if living.len() >= most {
            break;
        }
        if number % BREATH == BREATH - 1 {
            tokio::task::yield_now().await;
        }
        let Some(signed) = signed::read(&format!("{prefix}{name}"), unsealed.rows.barrier()) else {
            living.push(name);
            continue;
        };
        // Many leases hang on one token.
        let parent = match parents.get(&signed.token.0) {
            Some(lives) => *lives,
            None => parent_lives(unsealed, &signed).await?,
        };
        parents.insert(signed.token.0, parent);
        if parent && signed_stands(unsealed, &signed, now).await? {
            living.push(name);
        }
    }
    Ok(living)
}

fn shown(id: &str, issued: Timestamp, renewed: Option<Timestamp>, expires: Option<Timestamp>, renewable: bool, now: Timestamp) -> Reply {
    let ttl = expires.map_or(Seconds::ZERO, |end| Seconds::from(end.since(now)));
    Reply::json(json!({
        "id": id,
        "issue_time": issued,
        "expire_time": expires,
        "last_renewal": renewed,
        "renewable": renewable,
        "ttl": ttl,
    }))
}

async fn list(sys: Arc<Sys>, cx: Cx, params: PrefixParams) -> Result<Keys> {
    let (inner, unsealed) = sys.way.open()?;
    let prefix = if params.prefix.is_empty() { String::new() } else { crate::mounts::with_slash(&params.prefix) };
    let (most, page) = (inner.settings.limits.list_names, &cx.request.page);
    let wanted = page.limit.unwrap_or(usize::MAX).min(most + 1);
    let mut names = unsealed.leases.list(&prefix, page.after.as_deref(), wanted).await?;
    names.extend(unsealed.ledger.list(&prefix, cx.clock.now()));
    names.sort_unstable();
    names.dedup();
    let behind = Page { after: page.after.clone(), limit: None }.of(names);
    Ok(Keys(whole(living(&unsealed, &prefix, behind, wanted, cx.clock.now()).await?, most)?))
}

async fn renew(sys: Arc<Sys>, cx: Cx, params: LeaseParams) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    let id = params.id(&cx)?.to_owned();
    if let Some(signed) = signed::read(&id, unsealed.rows.barrier()) {
        let lives = signed_lives(&unsealed, &signed, cx.clock.now()).await?;
        return Err(Error::bad_request(if lives { "lease is not renewable" } else { "lease not found" }));
    }
    if unsealed.tokens.stored_by_lease(&id).await?.is_some() {
        return Err(Error::bad_request("tokens cannot be renewed through this endpoint"));
    }
    for _ in 0..CONFLICTS_MAX {
        let now = cx.clock.now();
        let mut held = renewable(&unsealed, &id, now).await?;
        let granted = ask_engine(&inner, &unsealed, &mut held, params.increment, now).await?;
        let before = held.row.expires;
        held.row.expires = now + granted.ttl;
        held.row.last_renewal = Some(now);
        match unsealed.leases.update(&held, before).await {
            Ok(()) => {
                let reply = Reply::from(Outcome::RenewedLease { id, renewable: held.row.renewable, ttl: granted.ttl });
                return Ok(granted.warning.into_iter().fold(reply, Reply::warn));
            }
            // Somebody else renewed it, or its revocation has begun: it is looked at anew.
            Err(CommitFailure::Conflict(_)) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    Err(Error::failed("the lease is changed by too many requests at once; try again"))
}

/// A stored lease that may be renewed. Errors: `BadRequest` with Vault's texts.
async fn renewable(unsealed: &Unsealed, id: &str, now: Timestamp) -> Result<Held> {
    let held = unsealed.leases.find(id).await?.ok_or_else(|| Error::bad_request("lease not found"))?;
    if held.row.expires <= now || held.row.revoking {
        return Err(Error::bad_request("lease expired"));
    }
    if held.row.irrevocable() {
        return Err(Error::bad_request("lease is expired and has failed previous revocation attempts"));
    }
    // One that hangs on nothing and has no cap is of old: its batch token may be over.
    if !held.row.renewable || held.row.token.is_none() && held.row.cap.is_none() {
        return Err(Error::bad_request("lease is not renewable"));
    }
    Ok(held)
}

async fn ask_engine(
    inner: &Arc<Inner>,
    unsealed: &Arc<Unsealed>,
    held: &mut Held,
    increment: Seconds,
    now: Timestamp,
) -> Result<ttl::Grant> {
    let table = unsealed.table.load_full();
    let live = table.by_accessor(&held.row.mount_accessor).ok_or_else(|| Error::bad_request("lease not found"))?;
    // The path that it was lent at, without the tail that makes it a lease id.
    check_renews(&live.row, held.row.id.rsplit_once('/').map_or(&held.row.id, |(path, _)| path))?;
    let request = daypass_sdk::Request {
        id: crate::ids::uuid(&*inner.entropy),
        path: held.row.id.clone(),
        deadline: inner.settings.limits.request_seconds.duration(),
        ..daypass_sdk::Request::default()
    };
    let renewal = live.engine.renew(context(inner, live, request), held.row.info(increment)).await.map_err(not_renewed)?;
    held.row.renewable = renewal.terms.renewable;
    held.row.max_ttl = renewal.terms.max_ttl;
    held.row.ttl = renewal.terms.ttl;
    if let Some(internal) = renewal.internal {
        held.row.internal = internal;
    }
    let wish = Wish {
        issued: held.row.issued,
        now,
        mount_default: live.mount.default_lease_ttl,
        mount_max: live.mount.max_lease_ttl,
        ttl: renewal.terms.ttl,
        max_ttl: renewal.terms.max_ttl,
        explicit_max: held.row.cap.map_or(Seconds::ZERO, |cap| Seconds::from(cap.since(held.row.issued))),
        period: renewal.period,
        increment,
    };
    ttl::grant(&wish).map_err(|_past| Error::bad_request("past the max TTL, cannot renew"))
}

async fn revoke_one(sys: Arc<Sys>, cx: Cx, params: LeaseParams) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    let id = params.id(&cx)?;
    if params.sync == Some(false) {
        revoke::lease_later(&inner, &unsealed, id).await?;
        return Ok(queued(&inner, &unsealed, revoke::lease(&inner, &unsealed, id)).await);
    }
    revoke::lease(&inner, &unsealed, id).await.map_err(|error| match error.kind {
        // Nothing was tried: the request may be sent again when there is room.
        Kind::StoreFull => error,
        _ => Error::bad_request(format!("failed to revoke entry: resp: (*logical.Response)(nil) err: {error}")).because(error),
    })?;
    Ok(Reply::nothing())
}

async fn revoke_prefix(sys: Arc<Sys>, _: Cx, params: PrefixParams) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    let prefix = some_prefix(&params.prefix)?;
    if params.sync == Some(false) {
        return Ok(match revoke::prefix_later(&inner, &unsealed, prefix).await? {
            Rest::Due => queued(&inner, &unsealed, Box::pin(revoke::prefix(&inner, &unsealed, prefix, false))).await,
            Rest::Swept if unsealed.revocation.is_paused() => Reply::from(Outcome::Accepted).warn(SWEPT_IN_PAUSE),
            Rest::Swept => Outcome::Accepted.into(),
        });
    }
    if revoke::prefix_now(&inner, &unsealed, prefix).await? {
        return Ok(Reply::nothing());
    }
    let text = "Revocation was paused meanwhile: the tokens are refused already, and the rest is done when it goes on.";
    Ok(Reply::from(Outcome::Accepted).warn(text))
}

/// The answer to who does not wait: what is asked for is on disk, and the expiry worker does the rest. While revocation is paused it does not, so that the rest is
/// done here: who wants a secret gone does not mean at the end of a pause. That takes no longer than clients wait.
async fn queued(inner: &Inner, unsealed: &Unsealed, rest: impl Future<Output = Result<()>>) -> Reply {
    let accepted = Reply::from(Outcome::Accepted);
    if !unsealed.revocation.is_paused() {
        return accepted;
    }
    let patience = WAITED_IN_PAUSE.min(inner.settings.limits.request_seconds.duration() / 2);
    let done = tokio::select! {
        biased;
        done = rest => done,
        () = inner.clock.sleep(patience) => Err(Error::failed(format!("it takes longer than {} s", patience.as_secs()))),
    };
    let Err(error) = done else { return accepted };
    tracing::warn!(%error, "what was to be revoked during a pause of revocation could not be taken back at once");
    let why = if error.kind == Kind::Internal { "the server's log says why" } else { error.message.as_str() };
    accepted.warn(format!(
        "Revocation is paused, and not all could be taken back at once ({why}): the rest has ended here, and is taken back when revocation goes on."
    ))
}

async fn revoking(sys: Arc<Sys>, _: Cx, _: Nothing) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let running = unsealed.tokens.sweeps.running();
    let shown = running.iter().map(|one| {
        let done = one.done.load(std::sync::atomic::Ordering::Relaxed);
        json!({ "id": one.sweep.id, "prefix": one.sweep.prefix, "asked": one.sweep.asked, "done": done })
    });
    Ok(Reply::json(json!({ "revoking": shown.collect::<Vec<_>>() })))
}

async fn revoke_force(sys: Arc<Sys>, _: Cx, params: ForceParams) -> Result<()> {
    let (inner, unsealed) = sys.way.open()?;
    revoke::prefix(&inner, &unsealed, some_prefix(&params.prefix)?, true).await
}

/// Errors: `NoSuchPath` for everything at once, which nobody means.
fn some_prefix(prefix: &str) -> Result<&str> {
    if prefix.trim_matches('/').is_empty() { Err(Error::no_such_path()) } else { Ok(prefix) }
}

/// Nothing to say.
#[derive(Deserialize, JsonSchema)]
struct Nothing {}

async fn tidy(sys: Arc<Sys>, _: Cx, _: Nothing) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    Ok(crate::tidy::start(&inner, &unsealed, crate::tidy::What::Leases))
}

async fn count(sys: Arc<Sys>, _: Cx, params: KindParams) -> Result<Reply> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    parked(&sys, &params, |lease| {
        *counts.entry(lease.mount_accessor).or_default() += 1;
        true
    })
    .await?;
    Ok(Reply::json(json!({ "lease_count": counts.values().sum::<u64>(), "counts": counts })))
}

async fn irrevocable(sys: Arc<Sys>, _: Cx, params: KindParams) -> Result<Reply> {
    let most = params.most()?;
    let (mut leases, mut more) = (Vec::new(), false);
    parked(&sys, &params, |lease| {
        more = leases.len() >= most;
        if !more {
            leases.push(json!({ "lease_id": lease.id, "mount_id": lease.mount_accessor, "error": lease.error }));
        }
        !more
    })
    .await?;
    let reply = Reply::json(json!({ "lease_count": leases.len(), "leases": leases }));
    Ok(if more {
        reply.warn(format!("There are more than {most} irrevocable leases: give a larger limit, or limit=none for all."))
    } else {
        reply
    })
}

/// Shows leases whose secrets could not be taken back. Errors: `NotFound` for any other kind.
async fn parked(sys: &Sys, params: &KindParams, show: impl FnMut(LeaseRow) -> bool + Send) -> Result<()> {
    if params.r#type != "irrevocable" {
        return Err(Error::not_found());
    }
    let (_, unsealed) = sys.way.open()?;
    unsealed.leases.parked(show).await
}

/// Names of a list that are looked at before others get their turn.
const BREATH: usize = 256;
/// How often a renewal is tried again while others change the same lease.
const CONFLICTS_MAX: usize = 100;
/// How long somebody who does not wait for a revocation waits for it while revocation is paused: some of Vault's clients give up after 30 seconds.
const WAITED_IN_PAUSE: Duration = Duration::from_secs(20);
const SWEPT_IN_PAUSE: &str = "Revocation is paused: so many are revoked in the background all the same, and what engines have to take back of it is taken back when \
                              revocation goes on. With sync=true leases below this prefix themselves are taken back at once, what revoked tokens were lent is not.";
/// The most parked leases that are listed unless the caller says otherwise.
const PARKED_LISTED: usize = 10_000;
