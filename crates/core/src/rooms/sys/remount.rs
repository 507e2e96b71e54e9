//! `sys/remount`: moves a mount to another path. Its data stays where it is, because data is stored by the mount's id; leases below the old
//! path are revoked.
//!
//! The move is done when the request is answered; the status that clients poll is kept for the last [`REMEMBERED`] moves.

use std::sync::Arc;

use daypass_base::Timestamp;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use daypass_storage::Batch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Sys;
use super::mounts::{check_free, protected};
use crate::mounts::{Class, MountRow, normal_path};
use crate::node::{Inner, Unsealed, core_key};
use crate::{ids, revoke};

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["remount"])
            .summary("Move a mount to another path.")
            .help("Leases and tokens below the old path are revoked; data, settings and accessor stay.")
            .sudo()
            .on(Operation::Update, remount),
        Endpoint::at(["remount/status/{migration_id:any}"]).summary("Show how a move went.").on(Operation::Read, status),
    ]
}

/// A move.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Move {
    /// The mount's path; with `auth/` in front for auth methods.
    from: String,
    /// Where it is to be; with `auth/` in front for auth methods.
    to: String,
}

/// A move to ask about.
#[derive(Debug, Deserialize, JsonSchema)]
struct Asked {
    /// The id that the move was answered with.
    migration_id: String,
}

/// A move as it is remembered.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Moved {
    id: String,
    source: String,
    target: String,
    status: String,
    started: Timestamp,
}

/// Errors: `BadRequest` with Vault's texts; whatever an engine says that cannot take its secrets back.
async fn remount(sys: Arc<Sys>, cx: Cx, params: Move) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    if params.from.is_empty() || params.to.is_empty() {
        return Err(Error::bad_request("both 'from' and 'to' path must be specified as a string"));
    }
    let (from, to) = (normal_path(&params.from)?, normal_path(&params.to)?);
    check_paths(&from, &to)?;
    {
        let table = unsealed.table.load();
        if table.exact(&from).is_none() {
            return Err(Error::bad_request(format!("no matching mount at {from:?}")));
        }
        if let Some(taken) = table.conflict(&to) {
            return Err(Error::bad_request(format!("path already in use at {taken:?}")));
        }
    }
    let id = ids::uuid(&*cx.entropy);
    let moved = Moved { id: id.clone(), source: from, target: to, status: RUNNING.to_owned(), started: cx.clock.now() };
    remember(&unsealed, moved.clone()).await?;
    let result = relocate(&inner, &unsealed, &moved.source, &moved.target).await;
    let status = if result.is_ok() { "success" } else { "failure" };
    // What is done is done: only the note of it is lost.
    if let Err(error) = remember(&unsealed, Moved { status: status.to_owned(), ..moved.clone() }).await {
        tracing::warn!(%error, from = %moved.source, to = %moved.target, status, "how a move of a mount went could not be noted");
    }
    result?;
    let queued = "Mount move has been queued. Progress will be reported in Vault's server log, tagged with the returned migration_id";
    Ok(Reply::json(json!({ "migration_id": id })).at_top_level().warn(queued))
}

/// Errors: `NotFound` for a move that is not remembered.
async fn status(sys: Arc<Sys>, cx: Cx, params: Asked) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    let known = unsealed.rows.get_json::<Vec<Moved>>(&core_key("moves")).await?.map(|(moves, _)| moves).unwrap_or_default();
    let moved = known.into_iter().find(|moved| moved.id == params.migration_id).ok_or_else(Error::not_found)?;
    // A move that outlived its request was interrupted by a crash or by the request's deadline.
    let dead = moved.status == RUNNING && cx.clock.now() > moved.started + inner.settings.limits.request_seconds;
    let status = if dead { "failure" } else { &moved.status };
    Ok(Reply::json(json!({
        "migration_id": moved.id,
        "migration_info": { "source_mount": moved.source, "target_mount": moved.target, "status": status },
    })))
}

fn check_paths(from: &str, to: &str) -> Result<()> {
    // No request could reach it there: such paths are cleaned before they are routed.
    if to.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(Error::bad_request(format!("invalid destination mount: path {to:?} holds . or .. segments")));
    }
    if from.starts_with("auth/") {
        if !to.starts_with("auth/") {
            return Err(Error::bad_request(format!("cannot remount auth mount to non-auth mount {to:?}")));
        }
        if from.starts_with("auth/token/") {
            return Err(Error::bad_request(format!("cannot remount {from:?}")));
        }
        if to.starts_with("auth/token/") || to == "auth/" {
            return Err(Error::bad_request(format!("cannot remount to destination {to}")));
        }
        return Ok(());
    }
    if protected(from) {
        return Err(Error::bad_request(format!("cannot remount {from:?}")));
    }
    if protected(to) {
        return Err(Error::bad_request(format!("cannot remount to destination {to}")));
    }
    Ok(())
}

async fn relocate(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, from: &str, to: &str) -> Result<()> {
    revoke::prefix(inner, unsealed, from, false).await?;
    let _one_at_a_time = unsealed.mounting.lock().await;
    let change = |rows: &mut Vec<MountRow>| {
        let missing = || Error::bad_request(format!("no matching mount at {from:?}"));
        let at = rows.iter().position(|row| row.path == from && !row.tainted).ok_or_else(missing)?;
        let mut row = rows.swap_remove(at);
        check_free(rows, to)?;
        to.clone_into(&mut row.path);
        row.class = if to.starts_with("auth/") { Class::Auth } else { Class::Secret };
        rows.push(row);
        Ok(())
    };
    inner.change_mounts(unsealed, change).await?;
    unsealed.quotas.mount_moved(&unsealed.rows, from, Some(to)).await
}

/// Adds a move or changes its status. Only the last moves are kept.
async fn remember(unsealed: &Unsealed, moved: Moved) -> Result<()> {
    let decide = |stored: Option<Vec<Moved>>| {
        let mut moves = stored.unwrap_or_default();
        moves.retain(|other| other.id != moved.id);
        moves.push(moved.clone());
        let over = moves.len().saturating_sub(REMEMBERED);
        moves.drain(..over);
        Ok(Some(moves))
    };
    unsealed.rows.change(&core_key("moves"), &Batch::new(), decide).await.map(drop)
}

const REMEMBERED: usize = 64;
const RUNNING: &str = "in-progress";
