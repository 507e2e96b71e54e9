//! Revocation of many tokens at once: one commit for all of them. What the single way promises holds here too: nothing is ever added to a token
//! that is gone, because the commit demands that nothing hangs on it, and whoever adds to it meanwhile demands that it is there.

use daypass_sdk::{CommitFailure, Error, Result, TokenId};
use daypass_storage::{Batch, Condition, Due, Key, SCAN_BYTES_MAX, Space};

use super::{TokenRow, Tokens, child_key, lease_index_key, token_key, token_lease_id};
use crate::leases::of_token_prefix;
use crate::revoke::cubbyhole_prefix;
use crate::rows::{config_key, parse};
use crate::wrapping;

/// A token as it was read.
pub(crate) struct Stored {
    pub(crate) id: TokenId,
    pub(crate) row: TokenRow,
    version: u64,
}

impl Stored {
    /// Where it stands in the expiry index.
    pub(crate) fn due(&self) -> Option<Due> {
        self.row.due(self.id)
    }
}

/// Tokens as they were read.
pub(crate) struct Many {
    pub(crate) stored: Vec<Stored>,
    /// Rows that do not open: they are no reason to leave the others alone.
    pub(crate) damaged: Vec<(TokenId, Error)>,
    /// How many of those that were asked for it came to, one at least.
    pub(crate) seen: usize,
}

impl Tokens {
    /// Reads tokens; those that are gone are left out. Large ones end it early.
    pub(crate) async fn read_many(&self, ids: &[TokenId]) -> Result<Many> {
        let (mut stored, mut damaged, mut bytes, mut seen) = (Vec::with_capacity(ids.len()), Vec::new(), 0, 0);
        for ids in ids.chunks(AT_A_TIME) {
            if bytes >= SCAN_BYTES_MAX {
                break;
            }
            let keys: Vec<Key> = ids.iter().map(|id| token_key(*id)).collect();
            for ((id, key), plain) in ids.iter().zip(&keys).zip(self.rows.get_each(&keys).await?) {
                let Some(plain) = plain else { continue };
                let parsed = plain.and_then(|plain| {
                    bytes += plain.value.len();
                    Ok(Stored { id: *id, row: parse(key, &plain.value)?, version: plain.version })
                });
                match parsed {
                    Ok(one) => stored.push(one),
                    Err(error) => damaged.push((*id, error)),
                }
            }
            seen += ids.len();
        }
        Ok(Many { stored, damaged, seen })
    }

    /// Removes tokens that have neither children nor leases, and no cubbyhole but that of a wrapping token which nobody used: all of them together. False:
    /// something hangs on one of them, or one was changed at the same moment, and nothing was done.
    pub(crate) async fn remove_bare(&self, tokens: &[Stored]) -> Result<bool> {
        if tokens.is_empty() {
            return Ok(true);
        }
        let mut batch = Batch::new();
        for stored in tokens {
            let Stored { id, row, version } = stored;
            batch = batch.require(token_key(*id), Condition::Version(*version));
            for below in [children_prefix(*id), of_token_prefix(*id)] {
                batch = batch.require(below, Condition::NothingBelow);
            }
            if wrapping::is_unused(row) {
                batch = wrapping::contents(*id).into_iter().fold(batch, Batch::delete);
            } else {
                batch = batch.require(config_key(cubbyhole_prefix(*id)), Condition::NothingBelow);
            }
            batch = batch.delete(token_key(*id)).delete(lease_index_key(&token_lease_id(&row.path, *id, &self.rows)));
            if let Some(parent) = row.parent {
                batch = batch.delete(child_key(TokenId(parent), *id));
            }
            batch = stored.due().into_iter().fold(batch, Batch::not_due);
        }
        match self.rows.commit(batch).await {
            Ok(_) => Ok(true),
            Err(CommitFailure::Conflict(_)) => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// What keys of edges to children of a token begin with.
pub(super) fn children_prefix(id: TokenId) -> Key {
    Key::new(Space::Index, [b"c", id.0.as_slice()].concat())
}

/// Tokens that are read in one piece.
const AT_A_TIME: usize = 32;
