//! Access keys of IAM users, for every room that has some: the one that a mount itself works with is replaced by one piece
//! ([`rotation`] of an [`own`] key, when [`schedule`] says so), keys are made and deleted by one ([`keys`]), and what a crash would leave is noted and undone
//! by one ([`notes`]).
//!
//! Knows no room: what a mount is asked stands in [`KeyMount`], what its configuration is asked in [`RootKey`]. Owns the rows `wal/` of the mount
//! that it works for. Never shows a secret.

use daypass_aws::{Aws, Target};
use daypass_sdk::{Changes, Cx, Error, Result};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) mod account;
pub(crate) mod keys;
pub(crate) mod notes;
pub(crate) mod own;
pub(crate) mod rotation;
pub(crate) mod schedule;

use notes::Note;
use own::OwnKey;
use rotation::Trouble;

/// A mount that works with access keys.
pub(crate) trait KeyMount: Send + Sync {
    /// The configuration that has the key of the mount itself.
    type Root: RootKey;

    /// How AWS is reached.
    fn aws(&self) -> &dyn Aws;

    /// What this node remembers between two rounds of the regular work.
    fn upkeep(&self) -> &Upkeep;

    /// Whether a key is in use otherwise than as that of the mount itself.
    fn uses(&self, _cx: &Cx, _username: &str, _id: &str) -> impl Future<Output = Result<bool>> + Send {
        std::future::ready(Ok(false))
    }

    /// Undoes a note of a user, which lies at this place. What else goes with the note. Errors: when AWS does not let us; always for a mount
    /// that makes no users.
    fn undo_user(&self, _cx: &Cx, _place: &str, _note: &Note) -> impl Future<Output = Result<Changes>> + Send {
        std::future::ready(Err(Error::internal("this mount makes no IAM users, and yet there is a note of one")))
    }
}

/// What is stored of how a mount reaches AWS, with a key of its own or without.
pub(crate) trait RootKey: Default + DeserializeOwned + Serialize + Send + Sync {
    /// Where it is stored.
    const ROW: &'static str;

    /// What is stored, if it has a key. Errors: what says that there is none to replace.
    fn with_key(stored: Option<Self>) -> Result<Self>;

    /// Where calls go, with the key in force. Errors: `BadRequest` when the configuration cannot work.
    fn reach(&self, cx: &Cx) -> Result<Target>;

    /// The key in force.
    fn key(&self) -> &OwnKey;

    /// The same, to be replaced.
    fn key_mut(&mut self) -> &mut OwnKey;
}

/// What a node remembers of the regular work on the keys of a mount.
#[derive(Default)]
pub(crate) struct Upkeep {
    /// The note that was looked at last.
    looked_at: Mutex<Option<String>>,
    /// When an automatic rotation failed, and how often in a row.
    trouble: Mutex<Option<Trouble>>,
}

impl Upkeep {
    /// The key or its schedule is another: what failed before says nothing any more.
    pub(crate) fn forget_trouble(&self) {
        *self.trouble.lock() = None;
    }
}
