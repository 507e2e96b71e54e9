//! Changes of the identity store: one at a time, each in one batch, each raising the configuration version.

use daypass_sdk::{CommitFailure, Result};
use daypass_storage::{BATCH_CHANGES_MAX, Batch, Key};
use serde::Serialize;

use super::{Identities, changed_meanwhile, rows};
use crate::rows::{Rows, unchanged};

/// A change under way. What is read while it is held cannot change before it is committed, or the commit fails.
pub(super) struct Change<'a> {
    rows: &'a Rows,
    batch: Batch,
    _alone: tokio::sync::MutexGuard<'a, ()>,
}

impl Identities {
    pub(super) async fn change(&self) -> Result<Change<'_>> {
        let alone = self.changing.lock().await;
        let version = self.rows.get(&rows::guard_key()).await?.0.map(|plain| plain.version);
        let mut batch = Batch::new().config_change();
        batch.conditions.push(unchanged(rows::guard_key(), version));
        let batch = self.rows.put(batch, rows::guard_key(), b"{}")?;
        Ok(Change { rows: &self.rows, batch, _alone: alone })
    }
}

impl Change<'_> {
    pub(super) fn put(&mut self, key: Key, value: &impl Serialize) -> Result<()> {
        self.batch = self.rows.put_json(std::mem::take(&mut self.batch), key, value)?;
        Ok(())
    }

    /// It takes rights from somebody: a store that is nearly full takes it.
    pub(super) fn take_back(&mut self) {
        self.batch = std::mem::take(&mut self.batch).taking_back();
    }

    pub(super) fn delete(&mut self, key: Key) {
        self.batch.deletes.push(key);
    }

    /// Whether it is as long as one batch should be: what one more entity adds has room.
    pub(super) fn is_long(&self) -> bool {
        self.batch.puts.len() + self.batch.deletes.len() > BATCH_CHANGES_MAX / 2
    }

    /// An edge between ids: it holds nothing that could be sealed.
    pub(super) fn edge(&mut self, key: Key) {
        self.batch.puts.push((key, Vec::new().into()));
    }

    /// Errors: `Failed` when another node changed the store meanwhile; `BadRequest` when the change is too large for one batch.
    pub(super) async fn commit(self) -> Result<()> {
        match self.rows.commit(self.batch).await {
            Ok(_config_version) => Ok(()),
            Err(CommitFailure::Conflict(_)) => Err(changed_meanwhile()),
            Err(failure) => Err(failure.into()),
        }
    }
}
