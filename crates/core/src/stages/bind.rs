//! Bind: a secret gets its lease, a login its token; every other answer its envelope.

use std::sync::Arc;

use daypass_base::wire::{Auth, Envelope};
use daypass_base::{Seconds, duration};
use daypass_sdk::{Changes, Error, Leased, Login, Operation, Outcome, Reply, Result, TokenId};
use serde_json::{Map, Value};

use crate::leases::{ENDED_MEANWHILE, LeaseRow, signed};
use crate::logins;
use crate::mints::Mint;
use crate::node::{Inner, Unsealed};
use crate::respond::{Answer, Content, auth_envelope, data_envelope, wrap_envelope};
use crate::stages::door::Routed;
use crate::stages::factor::{self, Asked};
use crate::stages::identify::Identified;
use crate::stages::parse::Parsed;
use crate::stages::run::Ran;
use crate::stages::wrap;
use crate::tokens::Known;

/// An answer with its lease or token.
pub(crate) struct Bound {
    answer: Answer,
    wrap_for: Option<Seconds>,
    _proof: (),
}

impl Bound {
    /// The answer, and for how long it is to be wrapped, if at all.
    pub(crate) fn into_parts(self) -> (Answer, Option<Seconds>) {
        (self.answer, self.wrap_for)
    }
}

pub(crate) async fn bind(
    inner: &Arc<Inner>,
    unsealed: &Arc<Unsealed>,
    parsed: &Parsed,
    routed: &Routed,
    identified: &Identified,
    ran: Ran,
) -> Result<Bound> {
    let Reply { outcome, warnings, headers, top_level, keep_for, wrap_for, receipt: _ } = ran.reply;
    // As recorded: answers of public endpoints do not name their mount.
    let kind = if routed.support.public { "" } else { routed.mount_type() };
    let mut wrap_for = identified.wrap_ttl.or(wrap_for);
    if wrap::is_never(routed, ran.operation) {
        wrap_for = None;
    }
    let (mut answer, more) = match outcome {
        Outcome::Leased(leased) => lease(inner, unsealed, parsed, routed, identified, *leased).await?,
        Outcome::Login(login) => {
            let (auth, warnings) = log_in(inner, unsealed, parsed, routed, *login).await?;
            if auth.mfa_requirement.is_some() {
                // What is to be wrapped is the token, and that is yet to come.
                wrap_for = None;
            }
            (Answer::envelope(200, auth_envelope(&parsed.id, kind, auth)), warnings)
        }
        other => (plain(other, parsed, kind, ran.operation, !warnings.is_empty())?, Vec::new()),
    };
    if let Content::Envelope(envelope) = &mut answer.content {
        let all: Vec<String> = more.into_iter().chain(warnings).collect();
        envelope.warnings = (!all.is_empty()).then_some(all);
        if let Some(keep_for) = keep_for.set() {
            envelope.lease_duration = keep_for.0;
        }
        if answer.status != 200 {
            envelope.mount_type.clear();
        }
    }
    answer.top_level = top_level;
    answer.headers.extend(headers.into_iter().filter(|(name, _)| allowed(routed, name)));
    Ok(Bound { answer, wrap_for, _proof: () })
}

/// Whether an engine may set this header: the core's own rooms may, others where the mount's `allowed_response_headers` names it.
fn allowed(routed: &Routed, name: &str) -> bool {
    routed.live.as_ref().is_some_and(|live| {
        let named = live.row.config.allowed_response_headers.as_ref();
        live.row.builtin || named.is_some_and(|names| names.iter().any(|allowed| allowed.eq_ignore_ascii_case(name)))
    })
}

fn plain(outcome: Outcome, parsed: &Parsed, kind: &str, operation: Operation, warned: bool) -> Result<Answer> {
    let envelope = |data: Option<Map<String, Value>>| data_envelope(&parsed.id, kind, data);
    Ok(match outcome {
        Outcome::Accepted if warned => Answer::envelope(202, envelope(None)),
        Outcome::Accepted => Answer::empty(202),
        Outcome::Bare(status, value) => Answer { status, content: Content::Bare(value), ..Answer::default() },
        Outcome::Data(data) if operation == Operation::List && !data.contains_key("keys") && !warned && data.is_empty() => {
            if parsed.wrap_ttl.is_some() {
                return Err(Error::new(daypass_sdk::Kind::NoSuchPath, "unsupported path").bare());
            }
            return Err(Error::not_found());
        }
        Outcome::Data(data) => Answer::envelope(200, envelope(Some(data))),
        Outcome::Missing(data) => Answer::envelope(404, envelope(Some(data))),
        Outcome::Nothing => Answer::empty(204),
        Outcome::NullData => Answer::envelope(200, envelope(None)),
        Outcome::Raw(status, kind, body) => Answer { status, content: Content::Raw(kind, body), ..Answer::default() },
        Outcome::Stream(kind, pieces) => Answer { status: 200, content: Content::Stream(kind, pieces), ..Answer::default() },
        Outcome::RenewedLease { id, renewable, ttl } => {
            let lease = Envelope { lease_id: id, renewable, lease_duration: ttl.0, ..envelope(None) };
            Answer::envelope(200, lease)
        }
        Outcome::Wrapped(info) => Answer::envelope(200, wrap_envelope(*info)),
        Outcome::Token(auth) => Answer::envelope(200, auth_envelope(&parsed.id, kind, *auth)),
        Outcome::Leased(_) | Outcome::Login(_) => return Err(Error::internal("a lease or login was not bound")),
    })
}

/// Gives a secret its lease: signed and stored nowhere, or stored when the engine has to take the secret back.
async fn lease(
    inner: &Arc<Inner>,
    unsealed: &Arc<Unsealed>,
    parsed: &Parsed,
    routed: &Routed,
    identified: &Identified,
    leased: Leased,
) -> Result<(Answer, Vec<String>)> {
    let (Some(live), Some(known)) = (&routed.live, &identified.known) else {
        return Err(Error::internal("a public endpoint handed out a leased secret"));
    };
    if identified.last_use() {
        if let Some(internal) = leased.internal {
            let row = lease_row(live, Hold::default(), internal, &leased.terms, inner.clock.now(), leased.terms.ttl);
            crate::revoke::take_back(inner, live, &row).await?;
            forget(unsealed, live, leased.also, leased.row).await;
        }
        return Err(Error::bad_request(
            "Secret cannot be returned; token had one use left, so leased credentials were immediately revoked.",
        ));
    }
    let now = inner.clock.now();
    let (ttl, warnings) = effective_ttl(&leased, live, known, now);
    let expires = leased.ends.unwrap_or(now + ttl);
    let mut last_end = None;
    let (id, renewable) = match leased.internal {
        None => {
            lives_on(inner, unsealed, known).await?;
            let token = holder(known).unwrap_or(TokenId([0; 16]));
            let id = signed::issue(&parsed.path, token, now, ttl, unsealed.rows.barrier(), &*inner.entropy);
            unsealed.ledger.add(&id, now + ttl, now);
            (id, false)
        }
        Some(internal) => {
            let token = holder(known);
            let hold = Hold { token: token.map(|token| token.0), cap: known.row.expires.filter(|_| known.batch) };
            last_end = leased.terms.renewable.then(|| now + longest(&leased.terms, live));
            let mut row = lease_row(live, hold, internal, &leased.terms, now, ttl);
            row.row = leased.row.as_ref().map(|row| format!("{}{row}", crate::view::mount_prefix(&live.row.uuid)));
            let also = crate::view::batch(&unsealed.rows, &live.row.uuid, leased.also.clone())?;
            let stored = async {
                lives_on(inner, unsealed, known).await?;
                unsealed.leases.create(&parsed.path, row.clone(), token, &also).await
            };
            match stored.await {
                Ok(stored) => (stored.id, leased.terms.renewable),
                Err(error) => {
                    // The secret exists beyond daypass, its lease does not: take it back at once.
                    crate::revoke::take_back(inner, live, &row).await?;
                    forget(unsealed, live, leased.also, leased.row).await;
                    return Err(error);
                }
            }
        }
    };
    inner.metrics.lease(routed.mount_type());
    let mut facts = leased.facts;
    if let Some(mint) = mint(parsed, identified, &facts, &id, (now, expires, last_end)) {
        // The audit record names them too: a child token's own metadata may say nothing, or something else.
        facts.extend(mint.claims.iter().map(|(name, value)| (format!("claim/{name}"), value.clone())));
        unsealed.mints.add(mint);
    }
    if leased.without_envelope {
        let content = Content::Bare(Value::Object(leased.data));
        return Ok((Answer { status: 200, content, facts, ..Answer::default() }, warnings));
    }
    let envelope =
        Envelope { lease_id: id, renewable, lease_duration: ttl.0, ..data_envelope(&parsed.id, routed.mount_type(), Some(leased.data)) };
    Ok((Answer { facts, ..Answer::envelope(200, envelope) }, warnings))
}

/// The token that a lease hangs on. Nothing is stored of a batch token: what it is lent hangs on the token that made it, and goes with that; on none where it
/// has no parent.
fn holder(known: &Known) -> Option<TokenId> {
    if known.batch { known.row.parent.map(TokenId) } else { Some(known.id) }
}

/// Fails where the caller's right has ended since the request began, with its token or with its owner: the making may have taken long, and nothing is stored yet
/// that a revocation would have found.
async fn lives_on(inner: &Inner, unsealed: &Unsealed, known: &Known) -> Result<()> {
    let (lives, config_version) = match holder(known) {
        Some(token) => unsealed.tokens.lives_at(token).await?,
        None => (true, unsealed.tokens.config_version().await?),
    };
    // The row of a service token may have been renewed since it was read.
    let is_over = !lives || known.batch && known.row.ended(inner.clock.now());
    if is_over || unsealed.identities.refuses(&known.row, config_version).await? {
        return Err(Error::bad_request(ENDED_MEANWHILE));
    }
    Ok(())
}

/// The ledger's entry for an AWS credential; nothing for other secrets.
fn mint(
    parsed: &Parsed,
    identified: &Identified,
    facts: &std::collections::BTreeMap<String, String>,
    lease_id: &str,
    (issued, expires, last_end): (daypass_base::Timestamp, daypass_base::Timestamp, Option<daypass_base::Timestamp>),
) -> Option<Mint> {
    let caller = &identified.caller;
    Some(Mint {
        access_key_id: facts.get("access_key_id")?.clone(),
        path: parsed.path.clone(),
        lease_id: lease_id.to_owned(),
        request_id: parsed.id.clone(),
        issued,
        expires,
        last_end,
        display_name: caller.display_name.clone(),
        entity_id: caller.entity_id.clone(),
        accessor: caller.accessor.clone(),
        metadata: caller.metadata.clone(),
        claims: caller.claims.clone(),
        remote_address: parsed.peer.map(|peer| peer.ip().to_string()).unwrap_or_default(),
        facts: facts.clone(),
    })
}

/// How long a lease can last, renewals included.
fn longest(terms: &daypass_sdk::LeaseTerms, live: &crate::mounts::Live) -> Seconds {
    terms.max_ttl.set().unwrap_or(live.mount.max_lease_ttl).min(live.mount.max_lease_ttl)
}

/// How long the lease lasts, and what the caller should know of a time that is shorter than it could be.
fn effective_ttl(leased: &Leased, live: &crate::mounts::Live, known: &Known, now: daypass_base::Timestamp) -> (Seconds, Vec<String>) {
    let asked = leased.terms.ttl.set().unwrap_or(live.mount.default_lease_ttl);
    let max = longest(&leased.terms, live);
    let short = |seconds: Seconds| duration::short_string(seconds.duration());
    let capped =
        || format!("TTL of \"{}\" exceeded the effective max_ttl of \"{}\"; TTL value is capped accordingly", short(asked), short(max));
    let warnings = (asked > max).then(capped).into_iter().collect();
    let ttl = asked.min(max);
    // Nobody could take it back with the batch token's end: its lease must end by itself before.
    let of_token = known.row.expires.filter(|_| known.batch).map(|end| Seconds::from(end.since(now)));
    (of_token.map_or(ttl, |most| most.min(ttl)), warnings)
}

/// Removes the note that an engine made before it acted, once its secret was taken back: of what was to go with the lease, the part that deletes, and its row.
/// That this fails is no reason to fail: the engine finds nothing to undo later.
async fn forget(unsealed: &Unsealed, live: &crate::mounts::Live, also: Changes, row: Option<String>) {
    let mut undone = Changes { puts: Vec::new(), ..also };
    undone.deletes.extend(row);
    let removed = async {
        let batch = crate::view::batch(&unsealed.rows, &live.row.uuid, undone)?;
        unsealed.rows.commit(batch).await.map_err(Error::from)
    };
    if let Err(error) = removed.await {
        tracing::debug!(mount = %live.row.path, %error, "a note of a secret that was taken back stays until the regular work comes to it");
    }
}

/// What a lease hangs on.
#[derive(Default)]
struct Hold {
    token: Option<crate::ids::Id>,
    cap: Option<daypass_base::Timestamp>,
}

fn lease_row(
    live: &crate::mounts::Live,
    hold: Hold,
    internal: Value,
    terms: &daypass_sdk::LeaseTerms,
    now: daypass_base::Timestamp,
    ttl: Seconds,
) -> LeaseRow {
    LeaseRow {
        id: String::new(),
        mount_accessor: live.row.accessor.clone(),
        token: hold.token,
        cap: hold.cap,
        row: None,
        internal,
        issued: now,
        expires: now + ttl,
        last_renewal: None,
        ttl,
        max_ttl: terms.max_ttl,
        renewable: terms.renewable,
        attempts: 0,
        again: None,
        error: String::new(),
        revoking: false,
    }
}

/// The token of a login, or what its client has to bring before there is one.
async fn log_in(inner: &Arc<Inner>, unsealed: &Unsealed, parsed: &Parsed, routed: &Routed, login: Login) -> Result<(Auth, Vec<String>)> {
    let Some(live) = &routed.live else { return Err(Error::internal("a login without a mount")) };
    match factor::ask(inner, unsealed, parsed, live, login).await? {
        Asked::Proven(proven) => logins::make_token(inner, unsealed, parsed.peer.map(|peer| peer.ip()), *proven).await,
        Asked::Waits(requirement) => {
            let warning = "A login request was issued that is subject to MFA validation. Please make sure to validate the login by sending \
                           another request to mfa/validate endpoint.";
            Ok((Auth { mfa_requirement: Some(requirement), ..Auth::default() }, vec![warning.to_owned()]))
        }
    }
}
