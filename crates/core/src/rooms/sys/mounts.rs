//! `sys/mounts`: secrets engines, where they are mounted and how they are tuned. `sys/auth` shares what is here, see [`super::auth`].
//!
//! A removal can be interrupted at any moment and is finished later: the mount is first marked so that no request reaches it, then its
//! leases and tokens are revoked and its data goes, then its row.

use std::sync::Arc;
use std::time::Duration;

use daypass_sdk::{CommitFailure, Cx, Endpoint, Error, Operation, Reply, Result};
use daypass_storage::Batch;
use serde_json::{Map, Value};
use tokio::sync::OwnedMutexGuard;

use super::Sys;
use super::mount_fields::{MountPath, Tuning, Wanted, check_plugin_version};
use super::remount::undo_interrupted_moves;
use crate::mounts::{Class, LOOK, MountRow, normal_path, with_slash};
use crate::node::{Inner, Unsealed};
use crate::quotas::Quotas;
use crate::rows::config_key;
use crate::together::at_most;
use crate::{ids, revoke, view};

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["mounts"]).summary("List the mounted secrets engines.").on(Operation::Read, list),
        Endpoint::at(["mounts/{path..}"])
            .summary("Mount, show or remove a secrets engine.")
            .help("Paths may have several segments. Removing a mount revokes every lease below it and erases its data.")
            .on(Operation::Read, show)
            .on(Operation::Update, enable_engine)
            .on(Operation::Delete, disable_engine),
        Endpoint::at(["mounts/{path..}/tune"])
            .summary("Show or change the settings of a mount.")
            .help("Fields that are not given keep their value. Auth methods are reached as auth/<path>.")
            .on(Operation::Read, show_tuning)
            .on(Operation::Update, tune_engine),
    ]
}

/// No fields.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
pub(super) struct Nothing {}

async fn list(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    Ok(Reply::data(listed(&inner, &unsealed, Class::Secret)).at_top_level())
}

/// Errors: `BadRequest` when nothing is mounted there.
async fn show(sys: Arc<Sys>, _cx: Cx, params: MountPath) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    let path = given_path(&params.path);
    let table = unsealed.table.load();
    let live = table.named(&path).ok_or_else(|| Error::bad_request(format!("No secret engine mount at {path}")))?;
    Ok(Reply::json(live.row.listed(&inner.engine_version())).at_top_level())
}

/// Errors: `BadRequest` when the path is taken or protected, the type unknown or a setting makes no sense.
async fn enable_engine(sys: Arc<Sys>, _cx: Cx, wanted: Wanted) -> Result<()> {
    let (inner, unsealed) = sys.way.open()?;
    let path = normal_path(&wanted.path)?;
    enable(&inner, &unsealed, Class::Secret, path, wanted).await
}

/// Errors: `BadRequest` for built-in mounts.
async fn disable_engine(sys: Arc<Sys>, _cx: Cx, params: MountPath) -> Result<()> {
    let (inner, unsealed) = sys.way.open()?;
    let path = normal_path(&params.path)?;
    if protected(&path) {
        return Err(Error::bad_request(format!("cannot unmount {path:?}")));
    }
    disable(&inner, &unsealed, &path).await
}

async fn show_tuning(sys: Arc<Sys>, _cx: Cx, params: MountPath) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    tuning_of(&inner, &unsealed, &given_path(&params.path))
}

async fn tune_engine(sys: Arc<Sys>, _cx: Cx, tuning: Tuning) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    let path = given_path(&tuning.path);
    tune(&inner, &unsealed, &path, tuning).await
}

/// All mounts of a class as they are listed, by the path that the class's endpoints use.
pub(super) fn listed(inner: &Inner, unsealed: &Unsealed, class: Class) -> Map<String, Value> {
    let version = inner.engine_version();
    let table = unsealed.table.load();
    let mounts = table.all().filter(|live| live.row.class == class);
    mounts.map(|live| (live.row.short_path().to_owned(), live.row.listed(&version))).collect()
}

/// Settings of the mount at `path`. Errors: `BadRequest` when there is none.
pub(super) fn tuning_of(inner: &Inner, unsealed: &Unsealed, path: &str) -> Result<Reply> {
    let table = unsealed.table.load();
    let live = table.named(path).ok_or_else(|| Error::bad_request(format!("cannot fetch sysview for path {path:?}")))?;
    Ok(Reply::data(live.row.tuned(inner.settings.ttls)).at_top_level())
}

/// Changes settings of the mount at `path`. Errors: `BadRequest` with Vault's texts.
pub(super) async fn tune(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, path: &str, tuning: Tuning) -> Result<Reply> {
    if UNTUNABLE.iter().any(|prefix| path.starts_with(prefix)) {
        return Err(Error::bad_request(format!("cannot tune {path:?}")));
    }
    let missing = || Error::bad_request(format!("tune of path {path:?} failed: no mount entry found"));
    let _one_at_a_time = unsealed.mounting.lock().await;
    let uuid = unsealed.table.load().named(path).ok_or_else(missing)?.row.uuid.clone();
    let version = inner.engine_version();
    let mut remarks = Vec::new();
    let change = |rows: &mut Vec<MountRow>| {
        let row = rows.iter_mut().find(|row| row.uuid == uuid && !row.is_closed()).ok_or_else(missing)?;
        remarks = tuning.apply(row, &version)?;
        // An engine that cannot be built with the new options would stop the next unseal.
        inner.build(row).map(drop)
    };
    inner.change_mounts(unsealed, change).await?;
    Ok(remarks.into_iter().fold(Reply::nothing(), Reply::warn))
}

/// Mounts an engine or a method at `path` (normal form, with `auth/` for methods). Errors: `BadRequest` with Vault's texts.
pub(super) async fn enable(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, class: Class, path: String, mut wanted: Wanted) -> Result<()> {
    let config = std::mem::take(&mut wanted.config).read(class, inner.settings.ttls)?;
    wanted.resolve_kind()?;
    if class == Class::Secret && protected(&path) {
        return Err(Error::bad_request(format!("cannot mount {path:?}")));
    }
    if class == Class::Secret && SINGLETONS.contains(&wanted.kind.as_str()) {
        return Err(Error::bad_request(format!("mount type of {:?} is not mountable", wanted.kind)));
    }
    if class == Class::Auth && wanted.kind == "token" {
        return Err(Error::bad_request("token credential backend cannot be instantiated"));
    }
    let version = inner.engine_version();
    let asked = config.plugin_version.as_deref().unwrap_or(&wanted.plugin_version);
    check_plugin_version(&wanted.kind, asked, &version)?;
    let row = MountRow {
        path,
        class,
        accessor: inner.new_accessor(class, &wanted.kind),
        kind: wanted.kind,
        description: wanted.description,
        uuid: ids::uuid(&*inner.entropy),
        local: wanted.local,
        seal_wrap: wanted.seal_wrap,
        external_entropy_access: wanted.external_entropy_access,
        options: Some(wanted.options.0),
        config,
        builtin: false,
        tainted: false,
        moving: None,
    };
    inner.build(&row)?;
    let most = inner.settings.limits.mounts;
    let _one_at_a_time = unsealed.mounting.lock().await;
    let change = |rows: &mut Vec<MountRow>| {
        check_free(rows, &row.path)?;
        if rows.len() >= most {
            return Err(Error::bad_request(format!("{} mounts exist, the limit is {most}", rows.len())));
        }
        rows.push(row);
        Ok(())
    };
    inner.change_mounts(unsealed, change).await
}

/// Errors: `BadRequest` when a mount is at the path, below or above, or is on its way there.
pub(super) fn check_free(rows: &[MountRow], path: &str) -> Result<()> {
    let conflict = rows.iter().find(|row| row.places().any(|taken| taken.starts_with(path) || path.starts_with(taken)));
    conflict.map_or(Ok(()), |row| Err(Error::bad_request(format!("path is already in use at {}", row.short_path()))))
}

/// Removes the mount at `path`, with everything that it issued and stored. One that does not exist is no error.
/// Errors: `BadRequest` when the path lies below a mount, and while the mount is being moved; whatever an engine says that cannot take its secrets back, and what
/// is damaged: the mount then stays closed, and removing it again goes on where this stopped.
pub(super) async fn disable(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, path: &str) -> Result<()> {
    let mut found = None;
    {
        let _one_at_a_time = unsealed.mounting.lock().await;
        let close = |rows: &mut Vec<MountRow>| {
            let Some(row) = rows.iter_mut().find(|row| row.path == path) else {
                let covered = rows.iter().any(|row| path.starts_with(&row.path));
                return if covered { Err(Error::bad_request("no matching mount")) } else { Ok(()) };
            };
            if let Some(moving) = &row.moving {
                return Err(Error::bad_request(format!("the mount is just being moved to {:?}: remove it when that is over", moving.to)));
            }
            row.tainted = true;
            found = Some(row.clone());
            Ok(())
        };
        let (exact, covered) = {
            let table = unsealed.table.load();
            (table.exact(path).is_some(), table.covering(path).is_some())
        };
        // Nothing to do is found out without a write; a removal that was interrupted is only in the stored rows.
        if exact || covered || stored_rows(unsealed).await?.iter().any(|row| row.path == path) {
            inner.change_mounts(unsealed, close).await?;
        }
    }
    match found {
        Some(row) => {
            drain_or_warn(inner, unsealed, &row).await;
            let alone = unsealed.removing.alone(&row.uuid).await;
            finish_removal(inner, unsealed, &row, alone).await
        }
        None => Ok(()),
    }
}

/// Finishes removals that a crash or a failure interrupted, and undoes such moves. Called after unsealing and now and then; what fails, or takes longer than
/// `patience`, is left for the next time. Each has its own time, and a few go on at once: one that hangs keeps no other from its turn.
pub(crate) async fn finish_removals(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, patience: Duration) -> Result<()> {
    let rows = stored_rows(unsealed).await?;
    undo_interrupted_moves(inner, unsealed, rows.clone()).await;
    let closed = rows.into_iter().filter(|row| row.tainted);
    let work = closed.map(|row| Box::pin(async move { go_on(inner, unsealed, &row, patience).await }));
    at_most(REMOVALS_AT_ONCE, work).await;
    Ok(())
}

/// Goes on with a removal for a while.
async fn go_on(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, row: &MountRow, patience: Duration) {
    // One that is still in use is left to who closed it, or to the next time.
    if unsealed.revocation.is_paused() || is_in_use(unsealed, row) {
        return;
    }
    // Whoever asked for it is at work, and may be for long.
    let Some(alone) = unsealed.removing.at_once(&row.uuid) else { return };
    tokio::select! {
        biased;
        done = finish_removal(inner, unsealed, row, alone) => {
            if let Err(error) = done {
                tracing::warn!(mount = %row.path, %error, "a mount could not be removed completely; it stays closed");
            }
        }
        () = inner.clock.sleep(patience) => tracing::warn!(
            mount = %row.path,
            "the removal of a mount was cut off after {} s; the mount stays closed, and its removal goes on in a few minutes",
            patience.as_secs()
        ),
    }
}

async fn drain_or_warn(inner: &Arc<Inner>, unsealed: &Unsealed, row: &MountRow) {
    if !drain(inner, unsealed, row).await {
        tracing::warn!(mount = %row.path, "a request to a mount that is being removed does not end; what it makes may be left beyond the server");
    }
}

/// Removes what is left of a mount that no request reaches any more. Every step may be repeated. `_alone`: nobody else is at it, see [`crate::mounts::Removing`].
async fn finish_removal(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, row: &MountRow, _alone: OwnedMutexGuard<()>) -> Result<()> {
    if !stored_rows(unsealed).await?.iter().any(|stored| stored.uuid == row.uuid) {
        return Ok(());
    }
    revoke::prefix(inner, unsealed, &row.path, false).await?;
    if let Some(live) = unsealed.table.load_full().by_accessor(&row.accessor) {
        let request = daypass_sdk::Request {
            id: crate::ids::uuid(&*inner.entropy),
            path: row.path.clone(),
            deadline: inner.settings.limits.request_seconds.duration(),
            ..daypass_sdk::Request::default()
        };
        live.engine.leave(crate::stages::intent::context(inner, live, request)).await;
    }
    unsealed.rows.clear(&config_key(view::mount_prefix(&row.uuid))).await?;
    let change = |rows: &mut Vec<MountRow>| {
        rows.retain(|other| other.uuid != row.uuid);
        Ok(())
    };
    let along = || Quotas::with_mount_moved(&unsealed.rows, Batch::new(), &row.path, None);
    change_mounts_along(inner, unsealed, along, change).await
}

/// Changes the mount table in one commit with what `along` makes of other rows; both are decided again when another request was faster.
pub(super) async fn change_mounts_along<F>(
    inner: &Arc<Inner>,
    unsealed: &Unsealed,
    along: impl Fn() -> F + Send + Sync,
    change: impl Fn(&mut Vec<MountRow>) -> Result<()> + Send + Sync,
) -> Result<()>
where
    F: Future<Output = Result<Batch>> + Send,
{
    let _one_at_a_time = unsealed.mounting.lock().await;
    for _ in 0..ATTEMPTS_MAX {
        match inner.change_mounts_and(unsealed, along().await?, &change).await {
            Err(CommitFailure::Conflict(_)) => {}
            done => return Ok(done?),
        }
    }
    Err(CommitFailure::Conflict(0).into())
}

/// Waits for the requests that came to a mount before it was closed: what they make would be nobody's. Whether they have all ended.
pub(super) async fn drain(inner: &Arc<Inner>, unsealed: &Unsealed, row: &MountRow) -> bool {
    let limit = inner.settings.limits.request_seconds.duration() + DRAIN_SLACK;
    let began = inner.clock.elapsed();
    while is_in_use(unsealed, row) {
        if inner.clock.elapsed().saturating_sub(began) > limit {
            return false;
        }
        inner.clock.sleep(LOOK).await;
    }
    true
}

fn is_in_use(unsealed: &Unsealed, row: &MountRow) -> bool {
    unsealed.table.load_full().by_accessor(&row.accessor).is_some_and(|live| live.requests.count() > 0)
}

pub(super) async fn stored_rows(unsealed: &Unsealed) -> Result<Vec<MountRow>> {
    let key = crate::node::core_key("mounts");
    Ok(unsealed.rows.get_json::<Vec<MountRow>>(&key).await?.map(|(rows, _)| rows).unwrap_or_default())
}

/// A path as callers give it, for look-ups that answer with it.
pub(super) fn given_path(path: &str) -> String {
    with_slash(path.trim_start_matches('/'))
}

/// Whether a path belongs to the core, so that nothing can be mounted there, moved or removed.
pub(super) fn protected(path: &str) -> bool {
    PROTECTED.iter().any(|prefix| path.starts_with(prefix))
}

/// How much longer than a request may run is waited for the last one of a mount.
const DRAIN_SLACK: Duration = Duration::from_secs(5);
/// Interrupted removals that go on at the same moment.
const REMOVALS_AT_ONCE: usize = 8;
/// How often a change of the mount table is decided again before it gives up.
const ATTEMPTS_MAX: usize = 500;
const PROTECTED: [&str; 5] = ["audit/", "auth/", "cubbyhole/", "identity/", "sys/"];
const UNTUNABLE: [&str; 4] = ["audit/", "cubbyhole/", "identity/", "sys/"];
/// Types of which there is one mount, made at init.
const SINGLETONS: [&str; 7] = ["cubbyhole", "identity", "ns_cubbyhole", "ns_identity", "ns_system", "system", "token"];
