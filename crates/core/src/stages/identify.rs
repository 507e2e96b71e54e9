//! Identify caller: from a presented token to what it may do. Everything that makes a token unusable is found here: unknown, ended, used
//! up, or used from elsewhere.

use std::sync::Arc;

use daypass_barrier::Purpose;
use daypass_base::{Seconds, Secret, Timestamp};
use daypass_policy::Acl;
use daypass_sdk::{Caller, Error, Operation, Result};

use crate::identity::{Authority, Standing};
use crate::node::{Inner, Unsealed};
use crate::policies::all_policies;
use crate::stages::admit::Admitted;
use crate::stages::door::Routed;
use crate::stages::parse::Parsed;
use crate::tokens::{Known, SPENT, TokenRow, in_networks};
use crate::wrapping;

/// Who sent a request.
pub(crate) struct Identified {
    /// The token; `None` on public endpoints without a valid one.
    pub(crate) known: Option<Known>,
    /// What it may do; `None` on public endpoints.
    pub(crate) acl: Option<Arc<Acl>>,
    /// Policies that the caller's entity and its groups add.
    pub(crate) identity_policies: Vec<String>,
    /// The caller as engines see it.
    pub(crate) caller: Arc<Caller>,
    /// For how long the answer is to be wrapped: as long as is asked for, but for whoever has no more than a wrapping token, no longer than that has left. Any
    /// number of them can be had of one, as a look spends nothing, and each would be kept for as long as the server keeps anything. Zero is refused.
    pub(crate) wrap_ttl: Option<Seconds>,
    _proof: (),
}

impl Identified {
    /// Nobody: for the audit record of a request that failed before anybody was known.
    pub(crate) fn nobody() -> Self {
        Self { known: None, acl: None, identity_policies: Vec::new(), caller: Arc::default(), wrap_ttl: None, _proof: () }
    }

    /// Whether this request is the last that the token is good for.
    pub(crate) fn last_use(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.row.num_uses == SPENT)
    }
}

/// Who asks, and which way the request goes: in the mounts of the newest configuration, which the first read tells. No decision is made on
/// an older one, not even which paths need no token. Errors: `Denied` with the text that fits.
pub(crate) async fn identify(
    inner: &Arc<Inner>,
    unsealed: &Arc<Unsealed>,
    parsed: &Parsed,
    routed: Routed,
    _admitted: &Admitted,
) -> (Routed, Result<Identified>) {
    let found = look_up(inner, unsealed, parsed).await;
    let routed = routed.among(parsed, unsealed.table.load_full());
    let identified = match found {
        Ok((known, config_version)) => {
            let (now, request_max) = (inner.clock.now(), inner.settings.limits.request_seconds);
            let known = Found { known, config_version, now, request_max };
            decide(unsealed, parsed, &routed, known).await
        }
        Err(error) => Err(error),
    };
    (routed, identified)
}

/// The presented token, if there is one that is of use, and the configuration version of that moment, which is in force from here on.
async fn look_up(inner: &Arc<Inner>, unsealed: &Unsealed, parsed: &Parsed) -> Result<(Option<Known>, u64)> {
    let (known, config_version) = match &parsed.token {
        Some(token) => unsealed.tokens.find(token).await?,
        None => (None, unsealed.tokens.config_version().await?),
    };
    inner.refresh(unsealed, config_version).await?;
    Ok((known, config_version))
}

/// What was found of the caller.
struct Found {
    known: Option<Known>,
    config_version: u64,
    now: Timestamp,
    /// What a request takes at most.
    request_max: Seconds,
}

async fn decide(unsealed: &Unsealed, parsed: &Parsed, routed: &Routed, found: Found) -> Result<Identified> {
    let Found { known, config_version, now, request_max } = found;
    // Help on a public endpoint is help, not a login: it needs a token like any other.
    let public = routed.support.public && parsed.operation != Operation::Help;
    let remote = parsed.peer.map(|peer| peer.ip());
    if public {
        // A token on a public endpoint is neither needed nor spent; one that is of no use is as good as none. A spent one is the affair of
        // the request that spent it: only that may tidy up after it.
        let known = known.filter(|known| in_networks(&known.row.bound_cidrs, remote) && known.row.num_uses != SPENT);
        let caller = known.as_ref().map(|known| Arc::new(caller(unsealed, parsed, known, &Standing::default()))).unwrap_or_default();
        let wrap_ttl = match &known {
            Some(known) if routed.support.own_token => wrap_ttl(parsed, known, now),
            _ => parsed.wrap_ttl,
        };
        return Ok(Identified { known, acl: None, identity_policies: Vec::new(), caller, wrap_ttl, _proof: () });
    }
    if parsed.token.is_none() {
        return Err(denied());
    }
    let known = known.ok_or_else(invalid_token)?;
    if !in_networks(&known.row.bound_cidrs, remote) {
        return Err(denied());
    }
    let Authority { acl, standing } = unsealed.authority(&known.row, config_version).await?;
    // Nothing may fail behind this: a last use that was spent for a refusal would leave a token that nobody revokes.
    let known = if known.row.num_uses == 0 { Some(known) } else { unsealed.tokens.spend(known, request_max).await? };
    let known = known.ok_or_else(invalid_token)?;
    let identity_policies = standing.policies.clone();
    let caller = Arc::new(caller(unsealed, parsed, &known, &standing));
    let wrap_ttl = wrap_ttl(parsed, &known, now);
    Ok(Identified { known: Some(known), acl: Some(acl), identity_policies, caller, wrap_ttl, _proof: () })
}

/// For how long an answer is wrapped that this token alone is the right to.
fn wrap_ttl(parsed: &Parsed, known: &Known, now: Timestamp) -> Option<Seconds> {
    parsed.wrap_ttl.map(|asked| if wrapping::is_wrapping(known) { wrapping::within(&known.row, asked, now) } else { asked })
}

fn caller(unsealed: &Unsealed, parsed: &Parsed, known: &Known, standing: &Standing) -> Caller {
    let row = &known.row;
    let entity_id = standing.current_id(&row.entity_id);
    Caller {
        display_name: row.display_name.clone(),
        entity_id: entity_id.to_owned(),
        policies: all_policies(&row.policies, &standing.policies),
        metadata: row.meta.clone().unwrap_or_default(),
        claims: row.alias.as_ref().and_then(|alias| row.alias_metadata(alias)).cloned().unwrap_or_default(),
        key: key(unsealed, parsed, known),
        token_type: if known.batch { "batch" } else { "service" },
        accessor: row.accessor.clone(),
        token: (!known.batch).then_some(known.id),
        expires: row.expires,
        client_id: client_id(row, entity_id),
    }
}

/// What stands for a token: the id of a service token; a batch token has none, so it is a keyed hash of the token.
fn key(unsealed: &Unsealed, parsed: &Parsed, known: &Known) -> [u8; 16] {
    let (true, Some(token)) = (known.batch, &parsed.token) else { return known.id.0 };
    // Hashed with a key: nobody can go from it to the token.
    let mac = unsealed.rows.barrier().mac(Purpose::Token, &[b"key of ", token.expose().as_bytes()].concat());
    let mut key = [0; 16];
    for (to, from) in key.iter_mut().zip(mac) {
        *to = from;
    }
    key
}

/// The entity, or a hash over the policies that stands for callers without one: the same as Vault's, so that client counts of both add up
/// (recorded fixture `terraform-apply`).
fn client_id(row: &TokenRow, entity_id: &str) -> String {
    if !entity_id.is_empty() {
        return entity_id.to_owned();
    }
    let message = format!("{}\0root", row.policies.join("\u{7f}"));
    data_encoding::BASE64.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, message.as_bytes()).as_ref())
}

/// No token, or not from here.
pub(crate) fn denied() -> Error {
    Error::new(daypass_sdk::Kind::Denied, "permission denied")
}

/// A token that is of no use.
pub(crate) fn invalid_token() -> Error {
    Error::new(daypass_sdk::Kind::Denied, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
}

/// The presented token for a core room: the only way it travels further.
pub(crate) fn presented(parsed: &Parsed) -> Option<Secret<String>> {
    parsed.token.clone()
}
