//! Whether this node takes anything back by itself. After a restore it does not: what the restored state calls overdue may long have been taken back, or
//! belong to a server that still runs. Then the expiry worker revokes nothing and removes nothing, and the engines' regular work stands still, until an
//! operator says so. What has ended is refused all the same, since that is judged by time, with what descends from it; and what somebody asks for is taken back.
//!
//! The mark lies in the store, in clear, since a restore sets it in a store whose keys this node may not have. It holds no secret, and whoever could
//! remove it from the disk could start a server on the disk as well.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use daypass_base::Timestamp;
use daypass_sdk::{Error, Result};
use daypass_storage::{Backend, Batch, Key};
use serde::{Deserialize, Serialize};

use crate::node::{Unsealed, core_key};
use crate::rows::read_error;

/// Why nothing is taken back, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Paused {
    pub(crate) since: Timestamp,
    /// `restore` or `operator`.
    pub(crate) reason: String,
    /// The state that was restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot_time: Option<Timestamp>,
}

/// As the store has it.
#[derive(Debug, Default)]
pub(crate) struct Revocation {
    paused: ArcSwapOption<Paused>,
}

impl Revocation {
    pub(crate) async fn load(backend: &dyn Backend) -> Result<Self> {
        let this = Self::default();
        this.reload(backend).await?;
        if let Some(paused) = this.paused() {
            let (since, reason) = (&paused.since, &paused.reason);
            tracing::warn!(%since, reason, "revocation is paused: nothing that has ended is taken back until `daypass operator revocation resume`");
        }
        Ok(this)
    }

    /// At start, and when another node may have changed it. Errors: a mark that cannot be read pauses too, since somebody set it.
    pub(crate) async fn reload(&self, backend: &dyn Backend) -> Result<()> {
        let read = backend.get(&core_key(NAME)).await.map_err(read_error)?;
        let parse = |value: &[u8]| {
            serde_json::from_slice(value).unwrap_or_else(|_unknown| Paused {
                since: Timestamp::default(),
                reason: "unknown".to_owned(),
                snapshot_time: None,
            })
        };
        self.paused.store(read.found.map(|row| Arc::new(parse(&row.value))));
        Ok(())
    }

    pub(crate) fn paused(&self) -> Option<Arc<Paused>> {
        self.paused.load_full()
    }

    /// For what is still under way in this memory: the store is about to be another.
    pub(crate) fn stand_still(&self, now: Timestamp) {
        self.paused.store(Some(Arc::new(Paused { since: now, reason: "restore".to_owned(), snapshot_time: None })));
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load().is_some()
    }
}

/// Stops taking back, by an operator's word. What is paused already stays as it is.
pub(crate) async fn pause(unsealed: &Unsealed, now: Timestamp) -> Result<()> {
    if unsealed.revocation.is_paused() {
        return Ok(());
    }
    let (key, value) = mark(&Paused { since: now, reason: "operator".to_owned(), snapshot_time: None })?;
    // Said when something is wrong: a full disk is no reason to go on.
    unsealed.rows.commit(Batch::new().taking_back().put(key, value).config_change()).await?;
    tracing::warn!("revocation is paused on request");
    unsealed.revocation.reload(&**unsealed.rows.backend()).await
}

/// Goes on.
pub(crate) async fn resume(unsealed: &Unsealed) -> Result<()> {
    unsealed.rows.commit(Batch::new().delete(core_key(NAME)).config_change()).await?;
    tracing::info!("revocation goes on, on request");
    unsealed.revocation.reload(&**unsealed.rows.backend()).await
}

/// The row that pauses a store which was restored from a state of `snapshot_time`.
pub(crate) fn restored(now: Timestamp, snapshot_time: Timestamp) -> Result<(Key, Vec<u8>)> {
    mark(&Paused { since: now, reason: "restore".to_owned(), snapshot_time: Some(snapshot_time) })
}

fn mark(paused: &Paused) -> Result<(Key, Vec<u8>)> {
    let json = serde_json::to_vec(paused).map_err(|error| Error::internal("a mark cannot be stored as JSON").because(error))?;
    Ok((core_key(NAME), json))
}

const NAME: &str = "revocation-paused";
