//! `sys/remount`: moves a mount to another path. Its data stays where it is, because data is stored by the mount's id; leases below the old
//! path are revoked.
//!
//! The mount is closed first, and its requests are waited for: what they make below the old path would be found by nobody later. Then what is
//! below the old path goes, and one commit gives the mount its new path, with its quotas. A move that fails or is cut short is undone: the mount
//! is open again where it was.
//!
//! The move goes on whatever becomes of its request, which is answered when it is done, or before it would be given up. The status that clients
//! poll is kept for the last [`REMEMBERED`] moves.

use std::sync::Arc;

use daypass_base::Timestamp;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use daypass_storage::Batch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::oneshot;

use super::Sys;
use super::mounts::{change_mounts_along, check_free, drain, protected, stored_rows};
use crate::mounts::{MountRow, Moving, normal_path};
use crate::node::{Inner, Unsealed, core_key, sealed};
use crate::quotas::Quotas;
use crate::rows::unchanged;
use crate::{ids, revoke};

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["remount"])
            .summary("Move a mount to another path.")
            .help("Leases and tokens below the old path are revoked; data, settings and accessor stay. Until it is moved, the mount answers nothing.")
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

impl Moved {
    /// The move that the row of a mount tells of.
    fn of(path: &str, moving: &Moving) -> Self {
        let Moving { id, to, since } = moving.clone();
        Self { id, source: path.to_owned(), target: to, status: RUNNING.to_owned(), started: since }
    }

    fn with_status(&self, status: &str) -> Self {
        Self { status: status.to_owned(), ..self.clone() }
    }

    fn is_of(&self, row: &MountRow) -> bool {
        row.moving.as_ref().is_some_and(|moving| moving.id == self.id)
    }
}

/// Errors: `BadRequest` with Vault's texts; whatever an engine says that cannot take its secrets back.
async fn remount(sys: Arc<Sys>, cx: Cx, params: Move) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    if params.from.is_empty() || params.to.is_empty() {
        return Err(Error::bad_request("both 'from' and 'to' path must be specified as a string"));
    }
    let (from, to) = (normal_path(&params.from)?, normal_path(&params.to)?);
    check_paths(&from, &to)?;
    let row = {
        let table = unsealed.table.load();
        let live = table.exact(&from).ok_or_else(|| no_mount(&from))?;
        if let Some(taken) = table.conflict(&to) {
            return Err(Error::bad_request(format!("path already in use at {taken:?}")));
        }
        live.row.clone()
    };
    let id = ids::uuid(&*cx.entropy);
    let told = begin(&inner, &unsealed, row, Moving { id: id.clone(), to, since: cx.clock.now() });
    let limit = inner.settings.limits.request_seconds.duration();
    tokio::select! {
        biased;
        done = told => done.unwrap_or_else(|_ended| Err(sealed()))?,
        // Before this request is given up: whoever has the id can ask how it goes on.
        () = inner.clock.sleep(limit.saturating_sub(limit / 10)) => {}
    }
    let queued = "Mount move has been queued. Progress will be reported in Vault's server log, tagged with the returned migration_id";
    Ok(Reply::json(json!({ "migration_id": id })).at_top_level().warn(queued))
}

/// Errors: `NotFound` for a move that is not remembered.
async fn status(sys: Arc<Sys>, cx: Cx, params: Asked) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    let known = unsealed.rows.get_json::<Vec<Moved>>(&core_key("moves")).await?.map(|(moves, _)| moves).unwrap_or_default();
    let moved = known.into_iter().find(|moved| moved.id == params.migration_id).ok_or_else(Error::not_found)?;
    // One that nobody is at was cut short, and is or will be undone. Another node that is at it is believed for a while.
    let nobodys = moved.status == RUNNING && !unsealed.moves.has(&moved.id);
    let dead = nobodys && cx.clock.now() > moved.started + inner.settings.limits.request_seconds;
    let status = if dead { FAILURE } else { &moved.status };
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

/// Moves a mount in a task of its own: a client that goes away, or a request that is given up, leaves no mount closed. Returns where it is told
/// how it went; nothing is told of one that is cut short by a seal.
fn begin(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, row: MountRow, moving: Moving) -> oneshot::Receiver<Result<()>> {
    let (tell, told) = oneshot::channel();
    let mover = unsealed.moves.begin(&moving.id);
    let (node, state) = (Arc::clone(inner), Arc::clone(unsealed));
    let work = async move {
        let _until_it_is_over = mover;
        let mut stop = state.stop.subscribe();
        tokio::select! {
            biased;
            _sealed = stop.wait_for(|stop| *stop) => {}
            done = migrate(&node, &state, &row, moving) => {
                let _nobody_waits = tell.send(done);
            }
        }
    };
    let mut background = unsealed.background.lock();
    background.retain(|task| !task.is_finished());
    background.push(inner.apart(work));
    told
}

/// Errors: why the mount was not moved. It is open again where it was, or will be.
async fn migrate(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, row: &MountRow, moving: Moving) -> Result<()> {
    let moved = Moved::of(&row.path, &moving);
    let Moved { id: migration_id, source: from, target: to, .. } = &moved;
    tracing::info!(%migration_id, %from, %to, "a mount is being moved");
    let done = carry_out(inner, unsealed, row, moving, &moved).await;
    match &done {
        Ok(()) => tracing::info!(%migration_id, %from, %to, "the mount is moved"),
        Err(error) => {
            tracing::warn!(%migration_id, %from, %to, %error, "the mount is not moved");
            if let Err(error) = undo(inner, unsealed, &moved).await {
                tracing::warn!(%migration_id, %from, %error, "the mount could not be opened again; it is tried again in a few minutes");
            }
        }
    }
    done
}

async fn carry_out(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, row: &MountRow, moving: Moving, moved: &Moved) -> Result<()> {
    let close = |rows: &mut Vec<MountRow>| {
        check_free(rows, &moving.to)?;
        let found = rows.iter_mut().find(|found| found.uuid == row.uuid && found.path == row.path && !found.is_closed());
        found.ok_or_else(|| no_mount(&row.path))?.moving = Some(moving.clone());
        Ok(())
    };
    change_mounts_along(inner, unsealed, || noted(unsealed, moved), close).await?;
    if !drain(inner, unsealed, row).await {
        return Err(Error::failed(format!("requests to {:?} do not end; the mount stays where it is", row.path)));
    }
    // What a request that was given up had handed to the store is in it when this is answered.
    unsealed.rows.commit(Batch::new()).await?;
    take_back(inner, unsealed, &row.path).await?;
    let done = moved.with_status("success");
    let along = || async { Quotas::with_mount_moved(&unsealed.rows, noted(unsealed, &done).await?, &row.path, Some(&done.target)).await };
    let rename = |row: &mut MountRow| done.target.clone_into(&mut row.path);
    change_mounts_along(inner, unsealed, along, |rows| reopen(rows, &done, rename)).await
}

/// Revokes what is below the old path, for as long as a request may take: the mount answers nobody meanwhile.
async fn take_back(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, path: &str) -> Result<()> {
    let limit = inner.settings.limits.request_seconds;
    tokio::select! {
        biased;
        done = revoke::prefix(inner, unsealed, path, false) => done,
        () = inner.clock.sleep(limit.duration()) => Err(Error::failed(format!(
            "to take back what was issued at {path:?} takes longer than {} seconds; the mount stays where it is: revoke its leases first \
             (sys/leases/revoke-prefix/{path}), then move it", limit.0
        ))),
    }
}

/// Opens a mount again that is closed for this move; there is nothing to do for one that is not, any more or yet.
async fn undo(inner: &Arc<Inner>, unsealed: &Unsealed, moved: &Moved) -> Result<()> {
    if !stored_rows(unsealed).await?.iter().any(|row| moved.is_of(row)) {
        return Ok(());
    }
    let failed = moved.with_status(FAILURE);
    change_mounts_along(inner, unsealed, || noted(unsealed, &failed), |rows| reopen(rows, &failed, |_| ())).await
}

fn reopen(rows: &mut [MountRow], moved: &Moved, change: impl FnOnce(&mut MountRow)) -> Result<()> {
    let given_up = || Error::failed("the move was given up meanwhile; the mount is where it was");
    let row = rows.iter_mut().find(|row| moved.is_of(row)).ok_or_else(given_up)?;
    row.moving = None;
    change(row);
    Ok(())
}

/// Undoes the moves among these mounts that nobody is at: the process ended, or the server was sealed, or the store failed. What fails is left for the
/// next time.
pub(crate) async fn undo_interrupted_moves(inner: &Arc<Inner>, unsealed: &Unsealed, rows: Vec<MountRow>) {
    let moves = rows.iter().filter_map(|row| Some(Moved::of(&row.path, row.moving.as_ref()?)));
    for moved in moves.filter(|moved| !unsealed.moves.has(&moved.id)) {
        let Moved { id: migration_id, source: from, target: to, .. } = &moved;
        match undo(inner, unsealed, &moved).await {
            Ok(()) => {
                tracing::warn!(%migration_id, %from, %to, "the move of a mount was interrupted; the mount is open again where it was: move it anew");
            }
            Err(error) => {
                tracing::warn!(%migration_id, %from, %error, "a mount whose move was interrupted could not be opened again; it is tried again in a few minutes");
            }
        }
    }
}

/// Begins the commit of a step of a move: what is remembered of it. Only the last moves are kept. The room that is kept for revocations may be
/// taken: a mount must not stay closed for want of it.
async fn noted(unsealed: &Unsealed, moved: &Moved) -> Result<Batch> {
    let key = core_key("moves");
    let stored = unsealed.rows.get_json::<Vec<Moved>>(&key).await?;
    let (mut moves, version) = stored.map_or((Vec::new(), None), |(moves, version)| (moves, Some(version)));
    moves.retain(|other| other.id != moved.id);
    moves.push(moved.clone());
    let over = moves.len().saturating_sub(REMEMBERED);
    moves.drain(..over);
    let (same, condition) = unchanged(key.clone(), version);
    let batch = Batch::new().require(same, condition);
    let batch = if moved.status == RUNNING { batch } else { batch.taking_back() };
    unsealed.rows.put_json(batch, key, &moves)
}

fn no_mount(from: &str) -> Error {
    Error::bad_request(format!("no matching mount at {from:?}"))
}

const REMEMBERED: usize = 64;
const RUNNING: &str = "in-progress";
const FAILURE: &str = "failure";
