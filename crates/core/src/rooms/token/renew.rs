//! `renew`, `renew-self`, `renew-accessor`.

use std::net::IpAddr;
use std::sync::Arc;

use daypass_base::{ClientChain, Seconds, Secret};
use daypass_sdk::{CommitFailure, Cx, Error, Outcome, Renewal, Reply, Request, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{TokenRoom, caller, of_accessor, open};
use crate::leases::{check_renews, not_renewed};
use crate::logins::{auth_of_row, with_identity};
use crate::node::{Inner, Unsealed};
use crate::stages::intent::context;
use crate::tokens::{Known, SPENT, TokenRow};
use crate::ttl::{self, Wish};

/// A token to renew.
#[derive(Deserialize, JsonSchema)]
pub(super) struct RenewParams {
    /// The token.
    token: Option<Secret<String>>,
    /// Lifetime wanted from now on, in seconds or as a duration; zero asks for the last one again.
    #[serde(default)]
    increment: Seconds,
}

/// The asking token itself.
#[derive(Deserialize, JsonSchema)]
pub(super) struct RenewSelfParams {
    /// Ignored: the token is the one that asks.
    #[expect(dead_code, reason = "older clients send it; it has no meaning")]
    token: Option<Secret<String>>,
    /// Lifetime wanted from now on, in seconds or as a duration; zero asks for the last one again.
    #[serde(default)]
    increment: Seconds,
}

/// A token by its accessor.
#[derive(Deserialize, JsonSchema)]
pub(super) struct RenewAccessorParams {
    /// The accessor.
    #[serde(default)]
    accessor: String,
    /// Lifetime wanted from now on, in seconds or as a duration; zero asks for the last one again.
    #[serde(default)]
    increment: Seconds,
}

pub(super) async fn renew(room: Arc<TokenRoom>, cx: Cx, params: RenewParams) -> Result<Reply> {
    let (inner, unsealed) = open(&room).await?;
    let token = params.token.filter(|token| !token.is_empty()).ok_or_else(|| Error::bad_request("missing token ID"))?;
    let known = unsealed.tokens.find(&token).await?.0.filter(has_uses).ok_or_else(|| Error::bad_request("token not found"))?;
    renewed(&inner, &unsealed, known, asked(&cx, params.increment), Some(token)).await
}

pub(super) async fn renew_self(room: Arc<TokenRoom>, cx: Cx, params: RenewSelfParams) -> Result<Reply> {
    let (inner, unsealed) = open(&room).await?;
    let (token, known) = caller(&cx, &unsealed).await?;
    renewed(&inner, &unsealed, known, asked(&cx, params.increment), Some(token)).await
}

pub(super) async fn renew_accessor(room: Arc<TokenRoom>, cx: Cx, params: RenewAccessorParams) -> Result<Reply> {
    let (inner, unsealed) = open(&room).await?;
    let known = of_accessor(&params.accessor, &unsealed).await?;
    if !has_uses(&known) {
        return Err(Error::bad_request("token not found"));
    }
    renewed(&inner, &unsealed, known, asked(&cx, params.increment), None).await
}

/// Whether a token is not used up: one that is waits for its revocation, which nobody puts off.
fn has_uses(known: &Known) -> bool {
    known.row.num_uses != SPENT
}

/// What whoever renews asks for and shows, and from where.
struct Asked {
    increment: Seconds,
    client_chain: Option<Arc<ClientChain>>,
    /// Methods count those who wait by it.
    remote: Option<IpAddr>,
}

fn asked(cx: &Cx, increment: Seconds) -> Asked {
    Asked { increment, client_chain: cx.request.client_chain.clone(), remote: cx.request.remote }
}

async fn renewed(
    inner: &Arc<Inner>,
    unsealed: &Arc<Unsealed>,
    mut known: Known,
    asked: Asked,
    token: Option<Secret<String>>,
) -> Result<Reply> {
    if known.batch {
        return Err(Error::bad_request("batch tokens cannot be renewed"));
    }
    for _ in 0..CONFLICTS_MAX {
        let now = inner.clock.now();
        if !known.row.renewable || known.row.expires.is_none() {
            return Err(Error::bad_request("lease is not renewable"));
        }
        let before = Arc::clone(&known.row);
        let row = Arc::make_mut(&mut known.row);
        let granted = match grant(inner, unsealed, row, &asked).await {
            // As recorded: a login whose user or role is gone is not renewed, and that is no error.
            Err(error) if error.kind == daypass_sdk::Kind::NotFound => return Ok(Reply::nothing()),
            other => other?,
        };
        row.expires = Some(now + granted.ttl);
        row.renewed_ttl = granted.ttl;
        row.last_renewal = Some(now);
        match unsealed.tokens.update(&known, &before).await {
            Ok(()) => {
                let config_version = unsealed.table.load().config_version;
                let standing = unsealed.identities.standing(&known.row, config_version).await?;
                let mut auth = with_identity(auth_of_row(&known.row, now, false), &standing);
                if let Some(token) = token {
                    auth.client_token = token;
                }
                let reply = Reply::from(Outcome::Token(Box::new(auth)));
                return Ok(granted.warning.into_iter().fold(reply, Reply::warn));
            }
            Err(CommitFailure::Conflict(_)) => {
                known = unsealed.tokens.by_id(known.id).await?.ok_or_else(|| Error::bad_request("lease expired"))?;
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    Err(Error::failed("the token is used by too many requests at once; try again"))
}

/// How long it may live on. A login's method is asked first: its role may have changed or gone.
async fn grant(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, row: &mut TokenRow, asked: &Asked) -> Result<ttl::Grant> {
    let table = unsealed.table.load_full();
    let live = match row.mount_accessor.as_str() {
        "" => table.exact("auth/token/").cloned(),
        accessor => table.by_accessor(accessor).cloned(),
    };
    let live = live.ok_or_else(|| Error::bad_request("lease not found"))?;
    check_renews(&live.row, &row.path)?;
    let last = row.renewed_ttl.set().unwrap_or(row.creation_ttl);
    let mut wish = Wish {
        issued: row.created,
        now: inner.clock.now(),
        mount_default: live.mount.default_lease_ttl,
        mount_max: live.mount.max_lease_ttl,
        ttl: last,
        max_ttl: row.role_max_ttl,
        // A role's explicit maximum holds for periodic tokens, too, which know no other.
        explicit_max: ttl::least([row.explicit_max_ttl, row.role_max_ttl]),
        period: row.period,
        increment: asked.increment,
    };
    if let Some(name) = &row.role {
        // As Vault: what the role says now, not what it said when the token was made.
        let request = Request { id: crate::ids::uuid(&*inner.entropy), path: row.path.clone(), ..Request::default() };
        let role = super::roles::find(&context(inner, &live, request), name).await?;
        let gone = || not_renewed(Error::failed(format!("original token role {name:?} could not be found, not renewing")));
        let role = role.ok_or_else(gone)?;
        row.period = role.token_period;
        row.role_max_ttl = role.token_explicit_max_ttl;
        wish.period = row.period;
        wish.max_ttl = row.role_max_ttl;
        wish.explicit_max = ttl::least([row.explicit_max_ttl, row.role_max_ttl]);
    }
    if let Some(internal) = row.internal.clone() {
        let (client_chain, remote) = (asked.client_chain.clone(), asked.remote);
        let request = Request { id: crate::ids::uuid(&*inner.entropy), path: row.path.clone(), remote, client_chain, ..Request::default() };
        let Renewal { terms, period, internal, groups } =
            live.engine.renew_login(context(inner, &live, request), internal).await.map_err(not_renewed)?;
        wish.ttl = terms.ttl.set().unwrap_or(last);
        wish.max_ttl = terms.max_ttl;
        wish.period = period;
        row.period = period;
        if internal.is_some() {
            row.internal = internal;
        }
        if let (Some(alias), Some(groups)) = (&mut row.alias, groups) {
            // Who left a group since the login loses what it gave, and who joined one gains it.
            alias.groups = unsealed.identities.known_groups(&live.row.accessor, &groups).await.map_err(not_renewed)?;
        }
    }
    ttl::grant(&wish).map_err(|_past| Error::bad_request("past the max TTL, cannot renew"))
}

const CONFLICTS_MAX: usize = 100;
