//! `sys/quotas`: how many requests clients may send.

use std::sync::Arc;

use daypass_base::lenient::CommaList;
use daypass_base::{Brief, Seconds};
use daypass_sdk::{Cx, Endpoint, Error, Keys, LoginRole, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Sys;
use super::mounts::Nothing;
use crate::mounts::{Class, Live, with_slash};
use crate::node::Unsealed;
use crate::quotas::{GroupBy, QuotaRow};

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["quotas/config"])
            .summary("Show or set what holds for all quotas.")
            .on(Operation::Read, read_config)
            .on(Operation::Update, write_config),
        Endpoint::at(["quotas/rate-limit/?"]).summary("List the rate-limit quotas.").on(Operation::List, list_quotas),
        Endpoint::at(["quotas/rate-limit/{name}"])
            .summary("Show, set or delete a rate-limit quota.")
            .help(
                "Of several quotas that fit a request the most specific one alone counts: role, path, beginning of a path, mount, server. \
                 A client over its rate is answered 429. Setting a quota starts counting anew. However a request spells a path, in upper or lower \
                 case, it is the quota's; of two quotas that differ in that alone the one that says it as the request does.",
            )
            .on(Operation::Read, read_quota)
            .on(Operation::Update, write_quota)
            .on(Operation::Delete, delete_quota),
    ]
}

/// A quota by its name.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Named {
    /// The quota's name.
    pub(super) name: String,
}

/// A quota as it is to be.
#[derive(Debug, Deserialize, JsonSchema)]
struct QuotaParams {
    /// The quota's name.
    name: String,
    /// A mount, or a path below one, with `*` at the end for all that begin so; empty is the whole server.
    #[serde(default)]
    path: String,
    /// Requests per interval, above 0.
    #[serde(default)]
    rate: f64,
    /// Seconds in which the rate is allowed; 1 unless given.
    #[serde(default)]
    interval: Option<Seconds>,
    /// Seconds for which a client that went over is refused everything; 0 is until the interval ends.
    #[serde(default)]
    block_interval: Seconds,
    /// Logins for this role, on an auth mount whose logins have a `role` field. One that leaves the role out, where only the login itself finds it out,
    /// counts by the strictest quota of a role of the mount.
    #[serde(default)]
    role: String,
    /// Kept for Vault's clients: there are no namespaces below that could inherit. Quotas of the whole server always are.
    #[serde(default)]
    inheritable: Option<bool>,
    /// Whose requests are counted together: `ip` (those of one address) or `none` (all).
    #[serde(default)]
    group_by: String,
    /// Only with groups of Vault Enterprise; 0.
    #[serde(default)]
    secondary_rate: f64,
    /// Kept for Vault's clients; always `rate-limit`.
    #[serde(default, rename = "type")]
    #[expect(dead_code, reason = "known, so that no warning is given")]
    kind: String,
}

/// What holds for all quotas; what is absent stays as it is.
#[derive(Debug, Deserialize, JsonSchema)]
struct ConfigParams {
    /// Paths that no quota counts, with `*` at the end for all that begin so. They replace the usual ones.
    rate_limit_exempt_paths: Option<CommaList>,
    /// The same, from the root namespace.
    absolute_rate_limit_exempt_paths: Option<CommaList>,
    /// Whether refused requests are put on the audit record.
    enable_rate_limit_audit_logging: Option<bool>,
    /// Whether answers tell how much of the quota is left.
    enable_rate_limit_response_headers: Option<bool>,
}

async fn list_quotas(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Keys> {
    let (_, unsealed) = sys.way.open()?;
    let mut names: Vec<String> = unsealed.quotas.stored().quotas.into_iter().map(|row| row.name).collect();
    names.sort_unstable();
    Ok(Keys(names))
}

/// Errors: `NotFound`.
async fn read_quota(sys: Arc<Sys>, _cx: Cx, params: Named) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let found = unsealed.quotas.stored().quotas.into_iter().find(|row| row.name == params.name).ok_or_else(Error::not_found)?;
    Ok(Reply::json(json!({
        "type": "rate-limit",
        "name": found.name,
        "path": format!("{}{}", found.mount, found.suffix),
        "role": found.role,
        "rate": number(found.rate),
        "interval": found.interval,
        "block_interval": found.block_interval,
        "inheritable": found.inheritable,
        "group_by": found.group_by,
        "secondary_rate": 0,
    })))
}

/// Errors: `BadRequest` with Vault's texts.
async fn write_quota(sys: Arc<Sys>, _cx: Cx, params: QuotaParams) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    let row = checked(&unsealed, params)?;
    let change = |stored: &mut crate::quotas::Stored| {
        let mut row = row.clone();
        if let Some(other) = stored.quotas.iter().find(|other| other.name != row.name && other.is_like(&row)) {
            return Err(Error::bad_request(format!("quota rule with similar properties exists under the name {:?}", other.name)));
        }
        match stored.quotas.iter_mut().find(|other| other.name == row.name) {
            Some(old) => {
                row.revision = old.revision.wrapping_add(1);
                *old = row;
            }
            None => stored.quotas.push(row),
        }
        Ok(true)
    };
    unsealed.quotas.change(&unsealed.rows, change).await
}

async fn delete_quota(sys: Arc<Sys>, _cx: Cx, params: Named) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    let change = |stored: &mut crate::quotas::Stored| {
        let before = stored.quotas.len();
        stored.quotas.retain(|row| row.name != params.name);
        Ok(stored.quotas.len() != before)
    };
    unsealed.quotas.change(&unsealed.rows, change).await
}

async fn read_config(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let config = unsealed.quotas.stored().config;
    Ok(Reply::json(json!({
        "rate_limit_exempt_paths": config.exempt,
        "absolute_rate_limit_exempt_paths": config.absolute_exempt,
        "enable_rate_limit_audit_logging": config.audit,
        "enable_rate_limit_response_headers": config.headers,
    })))
}

/// Errors: `BadRequest` for more paths than the limit.
async fn write_config(sys: Arc<Sys>, _cx: Cx, params: ConfigParams) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    let given = [&params.rate_limit_exempt_paths, &params.absolute_rate_limit_exempt_paths];
    if let Some(paths) = given.into_iter().flatten().find(|paths| paths.0.len() > EXEMPT_PATHS_MAX) {
        return Err(Error::bad_request(format!("{} exempt paths are over the limit of {EXEMPT_PATHS_MAX}", paths.0.len())));
    }
    let change = |stored: &mut crate::quotas::Stored| {
        let config = &mut stored.config;
        if let Some(paths) = &params.rate_limit_exempt_paths {
            config.exempt.clone_from(&paths.0);
        }
        if let Some(paths) = &params.absolute_rate_limit_exempt_paths {
            config.absolute_exempt = Some(paths.0.clone());
        }
        config.audit = params.enable_rate_limit_audit_logging.unwrap_or(config.audit);
        config.headers = params.enable_rate_limit_response_headers.unwrap_or(config.headers);
        Ok(true)
    };
    unsealed.quotas.change(&unsealed.rows, change).await
}

/// A quota from what was sent. Errors: `BadRequest` with Vault's texts.
fn checked(unsealed: &Unsealed, params: QuotaParams) -> Result<QuotaRow> {
    let bad = |text: String| Err(Error::bad_request(text));
    if !(params.rate > 0.0 && params.rate < RATE_LIMIT) {
        return bad("'rate' is invalid".to_owned());
    }
    let interval = params.interval.unwrap_or(Seconds(1));
    if interval.is_zero() {
        return bad("'interval' is invalid".to_owned());
    }
    if params.name.len() > NAME_BYTES_MAX {
        return bad(format!("the name of a quota cannot be longer than {NAME_BYTES_MAX} bytes, this one has {}", params.name.len()));
    }
    let group_by = match params.group_by.as_str() {
        "" | "ip" => GroupBy::Ip,
        "none" => GroupBy::None,
        other => return bad(format!("group_by {:?} is not offered; use \"ip\" or \"none\"", Brief(other))),
    };
    if params.secondary_rate != 0.0 {
        return bad("secondary_rate goes with groupings of Vault Enterprise; leave it out".to_owned());
    }
    let (mount, suffix) = match params.path.trim_start_matches('/') {
        "" => (String::new(), String::new()),
        path => place(unsealed, &with_slash(path), &params.role)?,
    };
    if mount.is_empty() && !params.role.is_empty() {
        return bad("a role needs the path of the auth mount that has it".to_owned());
    }
    if mount.is_empty() && params.inheritable == Some(false) {
        return bad("all global quotas must be inheritable".to_owned());
    }
    let inheritable = params.inheritable.unwrap_or(mount.is_empty());
    let QuotaParams { name, rate, block_interval, role, .. } = params;
    Ok(QuotaRow { name, mount, suffix, role, rate, interval, block_interval, inheritable, group_by, revision: 0 })
}

/// Mount and the rest of a path. Errors: `BadRequest` when nothing is mounted there, or the mount has no such roles.
pub(super) fn place(unsealed: &Unsealed, path: &str, role: &str) -> Result<(String, String)> {
    let live = unsealed.table.load().covering(path).ok_or_else(|| Error::bad_request(format!("invalid mount path {:?}", Brief(path))))?;
    let mount = live.row.path.clone();
    let suffix = path.strip_prefix(&mount).unwrap_or_default().trim_end_matches('/').to_owned();
    if !role.is_empty() && !has_roles(&live) {
        let text = format!("logins at {mount:?} do not name a role, so a quota cannot be for one; leave role out");
        return Err(Error::bad_request(text));
    }
    if !role.is_empty() && !suffix.is_empty() {
        return Err(Error::bad_request("a quota is for a role of a mount or for a path below it, not for both"));
    }
    Ok((mount, suffix))
}

fn has_roles(live: &Live) -> bool {
    // approle knows its role only from the role id, after a look-up; cert, GitHub and userpass have none.
    live.row.class == Class::Auth && live.engine.login_role("login", &Map::new()) != LoginRole::None
}

/// As recorded: a whole rate has no decimal point.
#[expect(clippy::cast_possible_truncation, reason = "only whole numbers below a billion are made integers")]
fn number(rate: f64) -> Value {
    if rate.fract() == 0.0 { json!(rate as i64) } else { json!(rate) }
}

/// Rates from here on are refused.
const RATE_LIMIT: f64 = 1e9;
pub(super) const NAME_BYTES_MAX: usize = 256;
const EXEMPT_PATHS_MAX: usize = 1_000;

#[cfg(test)]
mod tests;
