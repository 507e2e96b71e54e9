//! The access key that a mount itself works with, as its configuration stores it.

use daypass_aws::{AccessKey, StaticKeys};
use daypass_base::{Secret, Timestamp};
use daypass_sdk::{Result, into_the_sealed_store};
use serde::{Deserialize, Serialize};

use super::schedule::Schedule;

/// A key, or none where both texts are empty, and when it replaces itself. Its fields stand among those of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OwnKey {
    pub(crate) access_key: String,
    #[serde(serialize_with = "into_the_sealed_store")]
    pub(crate) secret_key: Secret<String>,
    #[serde(flatten)]
    pub(crate) rotation: Schedule,
    pub(crate) disable_automated_rotation: bool,
    /// When the key was made, or its schedule written: the next rotation counts from here.
    rotated: Option<Timestamp>,
}

impl OwnKey {
    /// Whether both halves are there.
    pub(crate) fn is_whole(&self) -> bool {
        !self.access_key.is_empty() && !self.secret_key.is_empty()
    }

    /// As requests are signed with it.
    pub(crate) fn signing(&self) -> StaticKeys {
        StaticKeys { access_key_id: self.access_key.clone(), secret_access_key: self.secret_key.clone() }
    }

    /// Refuses a schedule that cannot work. Errors: `BadRequest`.
    pub(crate) fn check(&self) -> Result<()> {
        self.rotation.check(self.is_whole())
    }

    /// When it is to be replaced. `None`: never by itself.
    pub(crate) fn due(&self, now: Timestamp) -> Option<Timestamp> {
        if self.disable_automated_rotation || !self.is_whole() {
            return None;
        }
        self.rotation.due(self.rotated?, now)
    }

    /// Where the key or its schedule is another than before, the next rotation counts from now. Says whether it is.
    pub(crate) fn starts_anew_after(&mut self, before: &Self, now: Timestamp) -> bool {
        let differs = self.access_key != before.access_key || self.rotation != before.rotation;
        if differs {
            self.rotated = Some(now);
        }
        differs
    }

    /// Puts another key in force, made now. Gives the id of the one before.
    pub(crate) fn replace(&mut self, key: &AccessKey, now: Timestamp) -> String {
        self.secret_key = key.secret.clone();
        self.rotated = Some(now);
        std::mem::replace(&mut self.access_key, key.id.clone())
    }
}
