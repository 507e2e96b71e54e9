//! Revocation of many tokens at once: two commits for all of them instead of two for each. What the single way promises holds here too: a token
//! is marked before anything of it goes, and whoever adds to it meanwhile meets the mark.

use daypass_sdk::{CommitFailure, Result, TokenId};
use daypass_storage::{Batch, Condition};

use super::{TokenRow, Tokens, child_key, lease_index_key, token_due, token_key, token_lease_id};
use crate::rows::Found;

/// A token whose revocation has begun.
pub(crate) struct Marked {
    pub(crate) id: TokenId,
    row: TokenRow,
    version: u64,
}

impl Tokens {
    /// Marks tokens as being revoked, as [`Tokens::begin_revocation`] does. `None`: one of them was changed at the same moment, and nothing
    /// is marked. Tokens that are gone are left out.
    pub(crate) async fn begin_revocations(&self, ids: &[TokenId]) -> Result<Option<Vec<Marked>>> {
        let now = self.clock.now();
        let (mut marked, mut batch) = (Vec::with_capacity(ids.len()), Batch::new());
        for id in ids.iter().copied() {
            let (Some(Found { value, version }), _) = self.rows.find::<TokenRow>(&token_key(id)).await? else { continue };
            let mut row = TokenRow::clone(&value);
            if row.revoking {
                marked.push(Marked { id, row, version });
                continue;
            }
            row.revoking = true;
            batch = batch.require(token_key(id), Condition::Version(version));
            if row.expires.is_none_or(|end| end > now) {
                if let Some(end) = row.expires {
                    batch = batch.not_due(token_due(id, end));
                }
                batch = batch.due(token_due(id, now));
                row.expires = Some(now);
            }
            batch = self.rows.put_json(batch, token_key(id), &row)?;
            marked.push(Marked { id, row, version: version + 1 });
        }
        if batch.puts.is_empty() {
            return Ok(Some(marked));
        }
        match self.rows.commit(batch).await {
            Ok(_) => Ok(Some(marked)),
            Err(CommitFailure::Conflict(_)) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Removes what is left of marked tokens that have neither children nor leases nor a cubbyhole. False: one of them was removed by
    /// somebody else at the same moment, and nothing was done.
    pub(crate) async fn finish_revocations(&self, marked: &[Marked]) -> Result<bool> {
        let mut batch = Batch::new();
        for Marked { id, row, version } in marked {
            batch = batch.require(token_key(*id), Condition::Version(*version)).delete(token_key(*id));
            batch = batch.delete(lease_index_key(&token_lease_id(&row.path, *id, &self.rows)));
            if let Some(parent) = row.parent {
                batch = batch.delete(child_key(TokenId(parent), *id));
            }
            if let Some(end) = row.expires {
                batch = batch.not_due(token_due(*id, end));
            }
        }
        match self.rows.commit(batch).await {
            Ok(_) => Ok(true),
            Err(CommitFailure::Conflict(_)) => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }
}
