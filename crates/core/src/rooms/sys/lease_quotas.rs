//! `sys/quotas/lease-count`: how many leases may live at one time.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Keys, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::Sys;
use super::mounts::Nothing;
use super::quotas::{NAME_BYTES_MAX, Named, place};
use crate::mounts::with_slash;
use crate::node::Unsealed;
use crate::quotas::Stored;
use crate::quotas::leases::LeaseQuotaRow;

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["quotas/lease-count/?"]).summary("List the lease-count quotas.").on(Operation::List, list),
        Endpoint::at(["quotas/lease-count/{name}"])
            .summary("Show, set or delete a lease-count quota.")
            .help(
                "Counts what `LIST sys/leases/lookup` shows below its path: service tokens that end, and secrets that their engines take back. \
                 Batch tokens and the leases of STS credentials are stored nowhere and not counted. Of several quotas that fit a new lease the one \
                 with the longest path decides. A request that would make one lease too many is answered 429; a secret that was made for it is \
                 taken back at once. A new quota counts what is there in the background; until that is done, what it has seen is its number.",
            )
            .on(Operation::Read, read)
            .on(Operation::Update, write)
            .on(Operation::Delete, delete),
    ]
}

/// A quota as it is to be.
#[derive(Debug, Deserialize, JsonSchema)]
struct LeaseQuotaParams {
    /// The quota's name.
    name: String,
    /// A mount, or a path below one, with `*` at the end for all that begin so.
    #[serde(default)]
    path: String,
    /// Leases that may live at one time, above 0.
    #[serde(default)]
    max_leases: i64,
    /// Not offered: leases do not say by which role they were made. A path below the mount mostly does: `aws/creds/deploy`.
    #[serde(default)]
    role: String,
    /// Kept for Vault's clients: there are no namespaces below that could inherit.
    #[serde(default)]
    #[expect(dead_code, reason = "known, so that no warning is given")]
    inheritable: Option<bool>,
    /// Kept for Vault's clients; always `lease-count`.
    #[serde(default, rename = "type")]
    #[expect(dead_code, reason = "known, so that no warning is given")]
    kind: String,
}

async fn list(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Keys> {
    let (_, unsealed) = sys.way.open()?;
    let mut names: Vec<String> = unsealed.quotas.stored().leases.into_iter().map(|row| row.name).collect();
    names.sort_unstable();
    Ok(Keys(names))
}

/// Errors: `NotFound`.
async fn read(sys: Arc<Sys>, _cx: Cx, params: Named) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let all = unsealed.rows.leases().all();
    let quota = all.iter().find(|quota| quota.row.name == params.name).ok_or_else(Error::not_found)?;
    let LeaseQuotaRow { name, mount, suffix, max } = &quota.row;
    Ok(Reply::json(json!({
        "type": "lease-count",
        "name": name,
        "path": format!("{mount}{suffix}"),
        "role": "",
        "max_leases": max,
        "counter": quota.live(),
        "inheritable": false,
    })))
}

/// Errors: `BadRequest`, with Vault's texts where the rate-limit quotas have them.
async fn write(sys: Arc<Sys>, _cx: Cx, params: LeaseQuotaParams) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    let row = checked(&unsealed, params)?;
    let change = |stored: &mut Stored| {
        if let Some(other) = stored.leases.iter().find(|other| other.name != row.name && other.is_like(&row)) {
            return Err(Error::bad_request(format!("quota rule with similar properties exists under the name {:?}", other.name)));
        }
        match stored.leases.iter_mut().find(|other| other.name == row.name) {
            Some(old) => *old = row.clone(),
            None => stored.leases.push(row.clone()),
        }
        Ok(true)
    };
    unsealed.quotas.change(&unsealed.rows, change).await
}

async fn delete(sys: Arc<Sys>, _cx: Cx, params: Named) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    let change = |stored: &mut Stored| {
        let before = stored.leases.len();
        stored.leases.retain(|row| row.name != params.name);
        Ok(stored.leases.len() != before)
    };
    unsealed.quotas.change(&unsealed.rows, change).await
}

fn checked(unsealed: &Unsealed, params: LeaseQuotaParams) -> Result<LeaseQuotaRow> {
    let bad = |text: String| Err(Error::bad_request(text));
    let Some(max) = u32::try_from(params.max_leases).ok().filter(|max| *max > 0) else {
        return bad("'max_leases' is invalid".to_owned());
    };
    if params.name.len() > NAME_BYTES_MAX {
        return bad(format!("the name of a quota cannot be longer than {NAME_BYTES_MAX} bytes, this one has {}", params.name.len()));
    }
    if !params.role.is_empty() {
        return bad("a lease-count quota cannot be for a role; give a path below the mount, such as aws/creds/deploy".to_owned());
    }
    let path = params.path.trim_start_matches('/');
    if path.is_empty() {
        let text =
            "a lease-count quota needs the path of a mount: one of the whole server could lock out the operators who would have to lift it";
        return bad(text.to_owned());
    }
    let (mount, suffix) = place(unsealed, &with_slash(path), "")?;
    Ok(LeaseQuotaRow { name: params.name, mount, suffix, max })
}
