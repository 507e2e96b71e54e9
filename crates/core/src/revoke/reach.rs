//! What a revocation by prefix reaches.
//!
//! One lease may be named by its own id, as with Vault: `-force` is taken with `-prefix` alone, and lists of what could not be taken back have ids.

use daypass_sdk::Result;

use super::{Entries, PAGE, end_signed};
use crate::leases::signed;
use crate::mounts::with_slash;
use crate::node::{Inner, Unsealed};

/// What a text stands for that was given as a prefix of lease ids.
pub(super) enum Reach {
    /// All below this; a slash is at its end.
    Below(String),
    /// The one lease whose very id this is.
    Lease(String),
}

impl Reach {
    /// What ends in a slash is a prefix. A lease that is damaged is known by its entry in the lease index.
    pub(super) async fn of(unsealed: &Unsealed, text: &str) -> Result<Self> {
        let is_signed = || signed::read(text, unsealed.rows.barrier()).is_some();
        let is_lease = !text.ends_with('/') && (is_signed() || unsealed.leases.entry(text).await?.is_some());
        Ok(if is_lease { Self::Lease(text.to_owned()) } else { Self::Below(with_slash(text)) })
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Below(prefix) => prefix,
            Self::Lease(lease_id) => lease_id,
        }
    }

    /// Ends what it reaches of leases that are stored nowhere.
    pub(super) async fn end_signed(&self, inner: &Inner, unsealed: &Unsealed) -> Result<()> {
        match self {
            Self::Below(prefix) => {
                unsealed.ledger.remove_below(prefix);
                signed::revoke_prefix(prefix, inner.clock.now(), &unsealed.rows).await
            }
            Self::Lease(lease_id) => match signed::read(lease_id, unsealed.rows.barrier()) {
                Some(signed) => end_signed(inner, unsealed, lease_id, &signed).await,
                None => Ok(()),
            },
        }
    }

    /// The entries of the lease index that it reaches behind `after`, a page at a time. `None`: there are none.
    pub(super) async fn page(&self, unsealed: &Unsealed, after: Option<&str>) -> Result<Option<Entries>> {
        match self {
            Self::Below(prefix) => Entries::read(unsealed, prefix, after, PAGE).await,
            Self::Lease(_) if after.is_some() => Ok(None),
            Self::Lease(lease_id) => {
                let entry = unsealed.leases.entry(lease_id).await?;
                Entries::of(unsealed, entry.into_iter().map(|(kind, id)| (lease_id.clone(), kind, id)).collect()).await
            }
        }
    }
}
