//! `sys/locked-users`: who is locked out after failed logins, and the end of it.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Sys;

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["locked-users"]).summary("Report the locked user count metrics.").on(Operation::Read, list),
        Endpoint::at(["locked-users/{mount_accessor:any}/unlock/{alias_identifier..}"])
            .summary("Unlock a user.")
            .on(Operation::Update, unlock),
    ]
}

/// Which mounts to look at.
#[derive(Deserialize, JsonSchema)]
struct ListParams {
    /// Accessor of an auth mount; all of them when left out.
    #[serde(default)]
    mount_accessor: String,
}

/// Whom to unlock.
#[derive(Deserialize, JsonSchema)]
struct UnlockParams {
    /// Accessor of the auth mount.
    mount_accessor: String,
    /// The user name or role id. Those longer than 128 bytes are shown as `sha256:` and the hash of the name; either will do here.
    alias_identifier: String,
}

async fn list(sys: Arc<Sys>, cx: Cx, params: ListParams) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let wanted = Some(params.mount_accessor.as_str()).filter(|accessor| !accessor.is_empty());
    let locked = unsealed.lockouts.locked(wanted, cx.clock.elapsed());
    let total: usize = locked.values().map(Vec::len).sum();
    let mounts: Vec<Value> = locked
        .into_iter()
        .map(|(accessor, aliases)| json!({ "mount_accessor": accessor, "counts": aliases.len(), "alias_identifiers": aliases }))
        .collect();
    let root = json!({ "namespace_id": "root", "namespace_path": "", "counts": total, "mount_accessors": mounts });
    let by_namespace = if total == 0 { Vec::new() } else { vec![root] };
    Ok(Reply::json(json!({ "by_namespace": by_namespace, "total": total })))
}

async fn unlock(sys: Arc<Sys>, _: Cx, params: UnlockParams) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    unsealed.lockouts.unlock(&params.mount_accessor, &params.alias_identifier);
    Ok(())
}
