//! Why a token is revoked.
//!
//! Who finds tokens that should be gone reads many of them, and comes to one a while later: it may have been renewed meanwhile, or made an orphan. So
//! the cause is asked again of the row that is marked, under the condition that it is still that row.

use daypass_base::Timestamp;
use daypass_sdk::TokenId;

use super::{SPENT, TokenRow};

/// Why a token is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Somebody wants it, whatever the token is.
    Asked,
    /// Its parent goes or is gone.
    ChildOf(TokenId),
    /// Its time was over at this moment.
    EndedBy(Timestamp),
    /// Its last use was taken.
    Spent,
}

impl Cause {
    /// The parent that a child goes with.
    pub(crate) fn parent(self) -> Option<TokenId> {
        if let Self::ChildOf(parent) = self { Some(parent) } else { None }
    }

    /// Whether it holds for a token as it is.
    pub(super) fn holds(self, row: &TokenRow) -> bool {
        match self {
            Self::Asked => true,
            Self::ChildOf(parent) => row.parent == Some(parent.0),
            Self::EndedBy(moment) => row.ended(moment),
            Self::Spent => row.num_uses == SPENT,
        }
    }
}
