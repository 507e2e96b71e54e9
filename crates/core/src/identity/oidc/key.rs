//! A named key: how it is set, what signs now, what signs next, and what signed before. Pure.

use daypass_base::{Seconds, Timestamp};
use daypass_sdk::{Error, Result};
use serde::{Deserialize, Serialize};

use super::material::{Algorithm, Jwk, SigningKey};

/// The key that mounts use which name none. It is there from the start; what signs is made when the first token is asked for.
pub(crate) const DEFAULT: &str = "default";

/// How a key is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeySettings {
    pub(crate) algorithm: Algorithm,
    /// How long a key signs.
    pub(crate) rotation_period: Seconds,
    /// How long it is published after that, and how long tokens may be good for.
    pub(crate) verification_ttl: Seconds,
    /// For OIDC roles, which there are none of here: stored and shown.
    pub(crate) allowed_client_ids: Vec<String>,
}

impl Default for KeySettings {
    fn default() -> Self {
        Self { algorithm: Algorithm::Rs256, rotation_period: DAY, verification_ttl: DAY, allowed_client_ids: Vec::new() }
    }
}

impl KeySettings {
    /// Those of [`DEFAULT`] until somebody sets it.
    pub(crate) fn of_default() -> Self {
        Self { allowed_client_ids: vec!["*".to_owned()], ..Self::default() }
    }

    /// Errors: `BadRequest`, in Vault's words.
    pub(crate) fn check(&self) -> Result<()> {
        if self.rotation_period < ROTATION_MIN {
            return Err(Error::bad_request("rotation_period must be at least one minute"));
        }
        check_verification(self.verification_ttl, self.rotation_period)?;
        if self.allowed_client_ids.len() > CLIENT_IDS_MAX {
            let count = self.allowed_client_ids.len();
            return Err(Error::bad_request(format!("allowed_client_ids has {count} entries, over the limit of {CLIENT_IDS_MAX}")));
        }
        Ok(())
    }
}

/// Errors: `BadRequest`, in Vault's words.
pub(super) fn check_verification(ttl: Seconds, rotation_period: Seconds) -> Result<()> {
    if ttl.0 > rotation_period.0.saturating_mul(10) {
        return Err(Error::bad_request("verification_ttl cannot be longer than 10x rotation_period"));
    }
    Ok(())
}

/// A key as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeyRow {
    pub(crate) settings: KeySettings,
    /// What signs.
    pub(crate) current: SigningKey,
    /// What signs after it. It is published already, so that whoever keeps a copy of the document knows it when it begins.
    pub(crate) next: SigningKey,
    /// What signed before, newest first.
    #[serde(default)]
    pub(crate) retired: Vec<Retired>,
    /// When `current` began.
    pub(crate) rotated: Timestamp,
}

/// The public half of a key that signs no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retired {
    pub(crate) public: Jwk,
    pub(crate) until: Timestamp,
}

impl KeyRow {
    pub(crate) fn new(settings: KeySettings, current: SigningKey, next: SigningKey, now: Timestamp) -> Self {
        Self { settings, current, next, retired: Vec::new(), rotated: now }
    }

    /// Whether the next key's turn has come: also when the clock was set back by more than a period, or the present key would sign until
    /// the clock is where it was.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.rotated + self.settings.rotation_period || self.rotated > now + self.settings.rotation_period
    }

    /// The next key signs from now on, `fresh` after it. What signed is published for `verification_ttl` more.
    pub(crate) fn rotate(&mut self, fresh: SigningKey, verification_ttl: Seconds, now: Timestamp) {
        let next = std::mem::replace(&mut self.next, fresh);
        self.begin(next, verification_ttl, now);
    }

    /// Other keys sign from now on: the algorithm was changed.
    pub(crate) fn replace(&mut self, current: SigningKey, next: SigningKey, now: Timestamp) {
        self.next = next;
        self.begin(current, self.settings.verification_ttl, now);
    }

    fn begin(&mut self, key: SigningKey, verification_ttl: Seconds, now: Timestamp) {
        let before = std::mem::replace(&mut self.current, key);
        self.retired.insert(0, Retired { public: before.public, until: now + verification_ttl });
        self.retired.retain(|retired| retired.until > now);
        self.retired.truncate(RETIRED_MAX);
        self.rotated = now;
    }

    /// What the document shows.
    pub(crate) fn published(&self, now: Timestamp) -> impl Iterator<Item = &Jwk> {
        let retired = self.retired.iter().filter(move |retired| retired.until > now).map(|retired| &retired.public);
        [&self.current.public, &self.next.public].into_iter().chain(retired)
    }

    /// How long a token may be good for: not longer than its key is published.
    pub(crate) fn capped(&self, ttl: Seconds) -> Seconds {
        ttl.min(self.settings.verification_ttl).max(Seconds(1))
    }
}

const DAY: Seconds = Seconds(24 * 3600);
const ROTATION_MIN: Seconds = Seconds(60);
/// Keys of one name that are published after they signed: whoever rotates more often than this gives the oldest up.
const RETIRED_MAX: usize = 12;
const CLIENT_IDS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn signing(id: &str) -> SigningKey {
        SigningKey::generate(Algorithm::EdDsa, id.to_owned()).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000 + seconds)
    }

    fn row() -> KeyRow {
        let settings = KeySettings { rotation_period: Seconds(100), verification_ttl: Seconds(250), ..KeySettings::default() };
        KeyRow::new(settings, signing("1"), signing("2"), at(0))
    }

    fn published(row: &KeyRow, now: i64) -> Vec<&str> {
        row.published(at(now)).map(|key| key.kid.as_str()).collect()
    }

    #[test]
    fn the_next_key_is_known_before_it_signs_and_the_last_one_for_a_while_after() {
        let mut row = row();
        assert_eq!(published(&row, 0), ["1", "2"]);
        assert!(!row.is_due(at(99)) && row.is_due(at(100)));
        row.rotate(signing("3"), Seconds(250), at(100));
        assert_eq!((row.current.public.kid.as_str(), published(&row, 349)), ("2", vec!["2", "3", "1"]));
        assert_eq!(published(&row, 350), ["2", "3"]);
        row.rotate(signing("4"), Seconds::ZERO, at(110));
        assert_eq!(published(&row, 110), ["3", "4", "1"], "a key that must not be trusted is gone at once");
    }

    #[test]
    fn a_clock_that_was_far_ahead_does_not_keep_a_key_in_force() {
        let mut row = row();
        row.rotate(signing("3"), Seconds(250), at(1_000_000));
        assert!(row.is_due(at(50)) && !row.is_due(at(999_950)), "small steps back change nothing");
        row.rotate(signing("4"), Seconds(250), at(50));
        assert!(!row.is_due(at(149)) && row.is_due(at(150)));
    }

    #[test]
    fn however_often_it_is_rotated_the_document_stays_small() {
        let mut row = row();
        for number in 0..100 {
            row.rotate(signing(&format!("n{number}")), Seconds(1_000_000), at(number));
        }
        assert_eq!(published(&row, 100).len(), 2 + RETIRED_MAX);
        assert!(published(&row, 100).contains(&"n97"), "the newest are kept");
    }

    #[test]
    fn tokens_end_before_their_key_does() {
        let row = row();
        assert_eq!([3600, 100, 0].map(|ttl| row.capped(Seconds(ttl)).0), [250, 100, 1]);
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let with = |rotation, verification| KeySettings {
            rotation_period: Seconds(rotation),
            verification_ttl: Seconds(verification),
            ..KeySettings::default()
        };
        assert!(with(60, 600).check().is_ok());
        assert!(with(59, 60).check().unwrap_err().message.contains("at least one minute"));
        assert!(with(60, 601).check().unwrap_err().message.contains("10x"));
    }
}
