//! What a login of a user who does not exist costs: as much as that of one who does.
//!
//! Passwords are hashed with argon2id, those that an operator brought along with bcrypt of their own cost, and the time that one takes tells
//! them apart. So a mount remembers which costs were brought to it, and a name that nobody has is always given the same one of them.

use std::collections::BTreeSet;

use aws_lc_rs::hmac;
use daypass_sdk::{Changes, CommitFailure, Cx, Error, Result, from_json};
use serde::{Deserialize, Serialize};

use super::password::Cost;

/// The costs that were brought to a mount; none until the first.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Brought {
    /// Decides which name gets which, so that nobody can tell beforehand.
    key: Vec<u8>,
    costs: BTreeSet<u32>,
}

impl Brought {
    /// Reads them. To be read for every login, so that it tells nobody either.
    pub(super) async fn read(cx: &Cx) -> Result<Self> {
        Ok(cx.store.get_json(ROW).await?.unwrap_or_default())
    }

    /// Notes that a hash of this cost is about to be stored.
    pub(super) async fn note(cx: &Cx, cost: u32) -> Result<()> {
        for _ in 0..ATTEMPTS_MAX {
            let entry = cx.store.get(ROW).await?;
            let mut brought: Self = entry.as_ref().map(|entry| from_json(ROW, &entry.value)).transpose()?.unwrap_or_default();
            if !brought.costs.insert(cost) {
                return Ok(());
            }
            if brought.key.is_empty() {
                brought.key = cx.entropy.bytes::<32>().to_vec();
            }
            match cx.store.commit(Changes::new().unchanged(ROW, entry.as_ref()).put_json(ROW, &brought)?).await {
                Ok(()) => return Ok(()),
                Err(CommitFailure::Conflict(_)) => {}
                Err(CommitFailure::Error(error)) => return Err(error),
            }
        }
        Err(Error::from(CommitFailure::Conflict(0)))
    }

    /// What a login of this name costs when nobody has it.
    pub(super) fn cost_for(&self, name: &str) -> Cost {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.key), name.as_bytes());
        let number = tag.as_ref().iter().take(4).fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
        let place = number % (self.costs.len() + 1);
        place.checked_sub(1).and_then(|place| self.costs.iter().nth(place)).map_or(Cost::Argon2, |cost| Cost::Bcrypt(*cost))
    }
}

const ROW: &str = "brought-costs";
/// How often a change is decided again before it gives up.
const ATTEMPTS_MAX: usize = 100;
