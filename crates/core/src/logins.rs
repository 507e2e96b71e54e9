//! Logins: from what an auth method proved to a token.

use std::net::IpAddr;

use daypass_base::wire::Auth;
use daypass_base::{Seconds, Timestamp};
use daypass_sdk::{Error, Result, check_metadata};

use crate::identity::Standing;
use crate::mounts::Live;
use crate::node::{Inner, Unsealed};
use crate::policies::all_policies;
use crate::stages::factor::{self, Proven};
use crate::tokens::{self, AliasRef, Made, TokenRow};
use crate::ttl::{self, Wish};

/// Makes the token of a login whose factors are all proven. Errors: `Denied` from outside the bound networks, `Failed` for a root
/// policy, `BadRequest` for one that the core keeps for its own, and for metadata that is too long.
pub(crate) async fn make_token(inner: &Inner, unsealed: &Unsealed, remote: Option<IpAddr>, proven: Proven) -> Result<(Auth, Vec<String>)> {
    let Proven { login, owner, live, path, mut warnings, .. } = proven;
    // Whoever brings the second factor must be where the token is good, too.
    factor::check_networks(&login, remote)?;
    let now = inner.clock.now();
    let mut policies = normal_policies(&login.policies);
    if policies.iter().any(|policy| policy == "root") {
        return Err(Error::failed("auth methods cannot create root tokens").bare());
    }
    check_assignable(&policies)?;
    if !login.no_default_policy && !policies.iter().any(|policy| policy == "default") {
        policies.push("default".to_owned());
        policies.sort_unstable();
    }
    let batch = is_batch(&login.token_type, &live.mount.token_type);
    let wish = Wish {
        issued: now,
        now,
        mount_default: live.mount.default_lease_ttl,
        mount_max: live.mount.max_lease_ttl,
        ttl: login.ttl,
        max_ttl: login.max_ttl,
        explicit_max: login.explicit_max_ttl,
        period: if batch { Seconds::ZERO } else { login.period },
        increment: Seconds::ZERO,
    };
    let granted = ttl::grant(&wish).map_err(|_past| Error::bad_request("past the max TTL, cannot renew"))?;
    let mut row = tokens::row(policies, &path, &display_name(&live, &login.display_name), now);
    row.creation_ttl = granted.ttl;
    row.expires = Some(now + granted.ttl);
    check_metadata(&login.metadata)?;
    row.meta = (!login.metadata.is_empty()).then_some(login.metadata);
    row.bound_cidrs = login.bound_cidrs;
    row.mount_accessor.clone_from(&live.row.accessor);
    if !login.alias.is_empty() {
        row.entity_id = owner.entity_id;
        row.alias = Some(AliasRef { name: login.alias, mount_accessor: String::new(), metadata: None, groups: owner.groups, login: None });
    }
    warnings.extend(granted.warning);
    let answer = |made: &Made| (with_identity(auth_of(made, now), &owner.standing), warnings);
    if batch {
        return Ok(answer(&unsealed.tokens.create_batch(row)?));
    }
    row.num_uses = login.num_uses;
    row.explicit_max_ttl = login.explicit_max_ttl;
    row.period = login.period;
    row.renewable = login.renewable;
    row.internal = login.internal;
    Ok(answer(&unsealed.tokens.create(row, None, &[]).await?))
}

/// Adds what the owner's entity and groups give. The entity is the one of now, as for all who ask for it: the row's may have been merged into it.
pub(crate) fn with_identity(mut auth: Auth, standing: &Standing) -> Auth {
    auth.policies = all_policies(&auth.token_policies, &standing.policies);
    auth.identity_policies.clone_from(&standing.policies);
    auth.entity_id = standing.current_id(&auth.entity_id).to_owned();
    auth
}

/// What the client gets to see of a token.
pub(crate) fn auth_of(made: &Made, now: Timestamp) -> Auth {
    let mut auth = auth_of_row(&made.row, now, made.row.mac.is_empty());
    // Just made: what was granted, not what is left of it a moment later.
    auth.lease_duration = made.row.creation_ttl.0;
    auth.client_token = made.text.clone();
    auth
}

/// The same without the token itself.
pub(crate) fn auth_of_row(row: &TokenRow, now: Timestamp, batch: bool) -> Auth {
    Auth {
        accessor: if batch { String::new() } else { row.accessor.clone() },
        policies: row.policies.clone(),
        token_policies: row.policies.clone(),
        metadata: row.meta.clone(),
        lease_duration: row.ttl(now).0,
        renewable: row.renewable && !batch,
        entity_id: row.entity_id.clone(),
        token_type: if batch { "batch" } else { "service" }.to_owned(),
        orphan: row.parent.is_none(),
        num_uses: row.num_uses.max(0),
        ..Auth::default()
    }
}

/// Lower case, trimmed, sorted, each once; `root` swallows all others.
pub(crate) fn normal_policies(policies: &[String]) -> Vec<String> {
    let mut out: Vec<String> = policies.iter().map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()).collect();
    out.sort_unstable();
    out.dedup();
    if out.iter().any(|name| name == "root") { vec!["root".to_owned()] } else { out }
}

/// No token is given what the core keeps for its own. Errors: `BadRequest` with Vault's text.
pub(crate) fn check_assignable(policies: &[String]) -> Result<()> {
    match policies.iter().find(|policy| matches!(policy.as_str(), "control-group" | "response-wrapping")) {
        Some(kept) => Err(Error::bad_request(format!("cannot assign policy {kept:?}"))),
        None => Ok(()),
    }
}

/// The role's wish and the mount's word: a mount that says `service` or `batch` has the last one.
fn is_batch(role: &str, mount: &str) -> bool {
    match mount {
        "batch" => true,
        "service" => false,
        _ => match role {
            "batch" | "default-batch" => true,
            "service" | "default-service" => false,
            _ => mount == "default-batch",
        },
    }
}

/// The mount's path with dashes, and the method's own part.
fn display_name(live: &Live, own: &str) -> String {
    let mount = live.row.short_path().trim_end_matches('/').replace('/', "-");
    if own.is_empty() { mount } else { format!("{mount}-{own}") }
}
