//! Logins: from what an auth method proved to a token.

use std::net::IpAddr;
use std::sync::Arc;

use daypass_base::wire::Auth;
use daypass_base::{Seconds, Timestamp};
use daypass_sdk::{Error, Login, Result};

use crate::mounts::Live;
use crate::node::{Inner, Unsealed};
use crate::tokens::{self, Made, TokenRow, in_networks};
use crate::ttl::{self, Wish};

/// Makes the token of a login. Errors: `Denied` from outside the bound networks, `Failed` for a root policy.
pub(crate) async fn make_token(
    inner: &Arc<Inner>,
    unsealed: &Unsealed,
    live: &Live,
    path: &str,
    remote: Option<IpAddr>,
    login: Login,
) -> Result<(Auth, Vec<String>)> {
    if !in_networks(&login.bound_cidrs, remote) {
        return Err(crate::stages::identify::denied());
    }
    let now = inner.clock.now();
    let mut policies = normal_policies(&login.policies);
    if policies.iter().any(|policy| policy == "root") {
        return Err(Error::failed("auth methods cannot create root tokens").bare());
    }
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
    let mut row = tokens::row(policies, path, &display_name(live, &login.display_name), now);
    row.creation_ttl = granted.ttl;
    row.expires = Some(now + granted.ttl);
    if !login.alias.is_empty() {
        row.entity_id = entity_id(unsealed, &live.row.accessor, &login.alias);
    }
    row.meta = (!login.metadata.is_empty()).then_some(login.metadata);
    row.bound_cidrs = login.bound_cidrs;
    row.mount_accessor.clone_from(&live.row.accessor);
    if batch {
        let made = unsealed.tokens.create_batch(row)?;
        return Ok((auth_of(&made, now), granted.warning.into_iter().collect()));
    }
    row.num_uses = login.num_uses;
    row.explicit_max_ttl = login.explicit_max_ttl;
    row.period = login.period;
    row.renewable = login.renewable;
    row.internal = login.internal;
    let made = unsealed.tokens.create(row, None, &[]).await?;
    Ok((auth_of(&made, now), granted.warning.into_iter().collect()))
}

/// The entity of an alias: always the same, and stored nowhere. Machines log in by the thousand; a row for each would be the
/// only thing that grows with them.
fn entity_id(unsealed: &Unsealed, accessor: &str, alias: &str) -> String {
    let message = format!("entity {accessor} {alias}");
    let mac = unsealed.rows.barrier().mac(daypass_barrier::Purpose::Accessor, message.as_bytes());
    let bytes: [u8; 16] = mac.first_chunk().copied().unwrap_or_default();
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
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
