//! Factor: whether what an auth method proved is enough for a token. Login enforcements decide, and the second factor that they want.
//!
//! A token of a login is made of a [`Proven`] and of nothing else, and only this module makes one: after no enforcement fitted the login, or
//! after all that fitted it were satisfied, judged by the configuration of that very moment. A look-up that fails is no answer, and no token.

use std::net::IpAddr;
use std::sync::Arc;

use daypass_base::Seconds;
use daypass_sdk::{Error, Login, Result};
use serde_json::{Value, json};

use crate::identity::Standing;
use crate::identity::mfa::factors::Factors;
use crate::identity::mfa::waiting::Waiting;
use crate::mounts::{Live, Visit};
use crate::node::{Inner, Unsealed};
use crate::stages::identify::denied;
use crate::stages::parse::Parsed;
use crate::tokens::in_networks;

/// A login that may have its token.
pub(crate) struct Proven {
    pub(crate) login: Login,
    pub(crate) owner: Owner,
    /// The mount that proved it.
    pub(crate) live: Arc<Live>,
    /// Where it was proved; the front of the token's lease id.
    pub(crate) path: String,
    pub(crate) warnings: Vec<String>,
    /// Until there is a token: the mount is neither removed nor moved meanwhile, or nothing would take that token back.
    _visit: Visit,
    _proof: (),
}

/// Whose login it is. Empty for logins of nobody in particular.
#[derive(Debug, Default)]
pub(crate) struct Owner {
    pub(crate) entity_id: String,
    /// Aliases of external groups among those that the login reported.
    pub(crate) groups: Vec<String>,
    pub(crate) standing: Arc<Standing>,
}

/// What became of a login.
pub(crate) enum Asked {
    Proven(Box<Proven>),
    /// It waits for these factors; what the client is told of them.
    Waits(Value),
}

/// Asks whether a login needs second factors, and checks those that came with it. Errors: `Denied` from outside the bound networks, while the
/// owner is disabled, when a factor is wanted of nobody in particular, and when one that was presented is wrong; `TooMany` when too many wait.
pub(crate) async fn ask(inner: &Inner, unsealed: &Unsealed, parsed: &Parsed, live: &Arc<Live>, login: Login) -> Result<Asked> {
    check_networks(&login, parsed.peer.map(|peer| peer.ip()))?;
    let (owner, config_version) = owner(inner, unsealed, live, &login).await?;
    let rules = unsealed.identities.mfa_rules(config_version).await?;
    let wanted = rules.wanted(&live.row, &owner.entity_id, &owner.standing);
    let proven = |login, owner, warnings| {
        Asked::Proven(Box::new(Proven {
            login,
            owner,
            live: Arc::clone(live),
            path: parsed.path.clone(),
            warnings,
            _visit: live.visit(),
            _proof: (),
        }))
    };
    if wanted.is_empty() {
        let idle = (!parsed.factors.is_empty()).then(|| "Found MFA header but failed to find MFA Enforcement Config".to_owned());
        return Ok(proven(login, owner, idle.into_iter().collect()));
    }
    if owner.entity_id.is_empty() {
        // Nobody has a second factor of nobody.
        return Err(denied());
    }
    let entity = owner.entity_id.clone();
    if !parsed.factors.is_empty() {
        unsealed.identities.verify_factors(&rules, &wanted, &entity, &parsed.factors).await?;
        return Ok(proven(login, owner, Vec::new()));
    }
    let id = crate::ids::uuid(&*inner.entropy);
    let requirement = json!({ "mfa_request_id": id, "mfa_constraints": rules.constraints(&wanted) });
    let waiting = Waiting {
        login,
        mount_accessor: live.row.accessor.clone(),
        below: parsed.path.strip_prefix(&live.row.path).unwrap_or(&parsed.path).to_owned(),
        wrap_ttl: parsed.wrap_ttl,
        entity_id: entity,
    };
    unsealed.identities.mfa.waiting.add(&id, waiting, inner.clock.elapsed())?;
    Ok(Asked::Waits(requirement))
}

/// Finishes a login that waits. It is judged anew, as if it came now: by the enforcements, groups and mounts of this moment. Also returns for
/// how long the answer is to be wrapped, if the login asked for that. Errors: `BadRequest` when none waits under this id; `Denied` when the
/// factors do not satisfy what is wanted, after which it goes on waiting.
pub(crate) async fn validate(inner: &Arc<Inner>, unsealed: &Unsealed, id: &str, factors: &Factors) -> Result<(Proven, Option<Seconds>)> {
    let gone = || Error::bad_request("invalid request ID");
    let taken = unsealed.identities.mfa.waiting.take(id, inner.clock.elapsed()).ok_or_else(gone)?;
    let waiting = taken.waiting().ok_or_else(gone)?;
    let (live, visit) = door(inner, unsealed, &waiting.mount_accessor).await?.ok_or_else(gone)?;
    let (owner, config_version) = owner(inner, unsealed, &live, &waiting.login).await?;
    if owner.entity_id.is_empty() {
        return Err(denied());
    }
    let rules = unsealed.identities.mfa_rules(config_version).await?;
    let wanted = rules.wanted(&live.row, &owner.entity_id, &owner.standing);
    if wanted.is_empty() {
        // Nothing is left to satisfy, so nothing was proved here either: a login of now gets its token at once.
        return Err(Error::bad_request("no login enforcement applies to this login any more: log in again"));
    }
    unsealed.identities.verify_factors(&rules, &wanted, &owner.entity_id, factors).await?;
    let Waiting { login, below, wrap_ttl, .. } = taken.finish().ok_or_else(gone)?;
    let path = format!("{}{below}", live.row.path);
    Ok((Proven { login, owner, live, path, warnings: Vec::new(), _visit: visit, _proof: () }, wrap_ttl))
}

/// The mount of a login that waits, and the visit to it that its end is. Counted as requests to the mount are: before it is read which
/// configuration is in force, so that a mount that was closed without waiting for this one is found closed. Of one that is being removed nobody
/// gets a token any more. Errors: `BadRequest` while it is being moved, after which the login goes on waiting.
async fn door(inner: &Arc<Inner>, unsealed: &Unsealed, accessor: &str) -> Result<Option<(Arc<Live>, Visit)>> {
    let Some(visit) = unsealed.table.load().by_accessor(accessor).map(|live| live.visit()) else { return Ok(None) };
    inner.refresh(unsealed, unsealed.tokens.config_version().await?).await?;
    let table = unsealed.table.load_full();
    let Some(live) = table.by_accessor(accessor).filter(|live| !live.row.tainted) else { return Ok(None) };
    if live.row.moving.is_some() {
        return Err(Error::bad_request("the auth method of this login is just being moved: send this again in a moment"));
    }
    Ok(Some((Arc::clone(live), visit)))
}

/// Errors: `Denied` from elsewhere.
pub(crate) fn check_networks(login: &Login, remote: Option<IpAddr>) -> Result<()> {
    if in_networks(&login.bound_cidrs, remote) { Ok(()) } else { Err(denied()) }
}

/// Whose login it is, and the configuration version at that moment. Errors: `Denied` while the owner is disabled; `BadRequest` of too many groups.
async fn owner(inner: &Inner, unsealed: &Unsealed, live: &Live, login: &Login) -> Result<(Owner, u64)> {
    if login.alias.is_empty() {
        return Ok((Owner::default(), unsealed.tokens.config_version().await?));
    }
    let accessor = &live.row.accessor;
    let (entity_id, config_version) = unsealed.identities.entity_of_alias(accessor, &login.alias).await?;
    let groups = unsealed.identities.known_groups(accessor, &login.groups).await?;
    let (entity_id, standing) = unsealed.identities.owner_of_login(entity_id, (accessor, &groups), config_version).await?;
    if standing.refuses(inner.clock.now()) {
        return Err(denied());
    }
    Ok((Owner { entity_id, groups, standing }, config_version))
}
