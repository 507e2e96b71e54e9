//! The seal: how the root key is kept while nobody is looking.
//!
//! The root key is stored encrypted under a *seal key*, which is stored nowhere: it is split into shares that people hold
//! ([`Seal::Shamir`]) or sits in a file ([`Seal::KeyFile`]). [`initialise`] makes everything at once as one value to commit;
//! [`Unsealing`] collects shares; [`crate::rekey()`] exchanges seal key and root key.
//!
//! The sealed root key is `version (1) | nonce (12) | cipher text (32) | tag (16)`.

use std::sync::Arc;

use daypass_base::{Entropy, Secret, Timestamp};
use serde::{Deserialize, Serialize};

use crate::barrier::Barrier;
use crate::keyfile::{KeyFile, KeyFileError};
use crate::keyring::{Keyring, KeyringError, RootKey};
use crate::primitive::{AEAD_OVERHEAD, Aead, KEY_BYTES};
use crate::rekey::NewSeal;
use crate::shamir::{self, SHARE_OVERHEAD, ShamirError, Share};

/// The shortest share that is taken, in bytes (Vault's limit).
pub const SHARE_BYTES_MIN: usize = 16;
/// The longest share that is taken, in bytes.
pub const SHARE_BYTES_MAX: usize = KEY_BYTES + SHARE_OVERHEAD;

const FORMAT: u8 = 1;
const ROOT_AAD: &[u8] = b"daypass root key";

/// The key that the root key is stored under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealKey(Secret<[u8; KEY_BYTES]>);

impl SealKey {
    /// Takes charge of a key.
    #[must_use]
    pub fn new(key: Secret<[u8; KEY_BYTES]>) -> Self {
        Self(key)
    }

    fn aead(&self) -> Result<Aead, KeyringError> {
        // Exposed to the AEAD.
        Aead::new(self.0.expose()).map_err(|_failed| KeyringError::NotSealed)
    }
}

/// Which seal a store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SealType {
    /// The seal key is in a file; the server opens itself.
    KeyFile,
    /// The seal key is split into shares that people hand in.
    Shamir,
}

impl SealType {
    /// As `sys/seal-status` and the configuration file write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KeyFile => "keyfile",
            Self::Shamir => "shamir",
        }
    }
}

/// Why a seal configuration is refused. The texts are Vault's; where Vault puts `invalid seal configuration: ` before them, the caller does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealConfigError {
    /// What was stored is no seal configuration.
    #[error("the stored seal configuration is not valid: {0}")]
    NotJson(String),
    /// No shares.
    #[error("shares must be at least one")]
    NoShares,
    /// A threshold of zero or less.
    #[error("threshold must be at least one")]
    NoThreshold,
    /// Each share would be the key.
    #[error("threshold must be greater than one for multiple shares")]
    ThresholdOfOne,
    /// More shares needed than there are.
    #[error("threshold cannot be larger than shares")]
    ThresholdOverShares,
    /// The field has 255 places.
    #[error("shares must be less than 256")]
    TooManyShares,
}

/// What must be known to unseal, stored in clear. Made only by checking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SealConfig {
    #[serde(rename = "type")]
    seal_type: SealType,
    secret_shares: u8,
    secret_threshold: u8,
    /// Always 1, as in Vault: the root key itself is stored, sealed.
    stored_shares: u8,
}

/// The stored form, before it is checked.
#[derive(Deserialize)]
struct StoredConfig {
    #[serde(rename = "type")]
    seal_type: SealType,
    secret_shares: i64,
    secret_threshold: i64,
}

impl SealConfig {
    /// Shares for people: `shares` in all, `threshold` of them to unseal.
    pub fn shamir(shares: i64, threshold: i64) -> Result<Self, SealConfigError> {
        // In Vault's order: a client sees the first complaint alone.
        if shares < 1 {
            return Err(SealConfigError::NoShares);
        }
        if threshold < 1 {
            return Err(SealConfigError::NoThreshold);
        }
        if shares > 1 && threshold == 1 {
            return Err(SealConfigError::ThresholdOfOne);
        }
        let secret_shares = u8::try_from(shares).map_err(|_over_255| SealConfigError::TooManyShares)?;
        let secret_threshold = u8::try_from(threshold).map_err(|_over_255| SealConfigError::ThresholdOverShares)?;
        if threshold > shares {
            return Err(SealConfigError::ThresholdOverShares);
        }
        Ok(Self { seal_type: SealType::Shamir, secret_shares, secret_threshold, stored_shares: 1 })
    }

    /// The key is in a file.
    #[must_use]
    pub fn key_file() -> Self {
        Self { seal_type: SealType::KeyFile, secret_shares: 1, secret_threshold: 1, stored_shares: 1 }
    }

    /// Reads what [`SealConfig::to_json`] wrote.
    pub fn from_json(json: &[u8]) -> Result<Self, SealConfigError> {
        let stored: StoredConfig = serde_json::from_slice(json).map_err(|error| SealConfigError::NotJson(error.to_string()))?;
        match stored.seal_type {
            SealType::KeyFile => Ok(Self::key_file()),
            SealType::Shamir => Self::shamir(stored.secret_shares, stored.secret_threshold),
        }
    }

    /// The form to store. It holds no secret.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // A struct of numbers and a name always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Which seal it is.
    #[must_use]
    pub fn seal_type(&self) -> SealType {
        self.seal_type
    }

    /// Number of shares that exist, 1 to 255.
    #[must_use]
    pub fn shares(&self) -> u8 {
        self.secret_shares
    }

    /// Number of shares that unseal, 1 to 255.
    #[must_use]
    pub fn threshold(&self) -> u8 {
        self.secret_threshold
    }
}

/// A seal to put the root key under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seal {
    /// The key in this file.
    KeyFile(KeyFile),
    /// A new key, split as the configuration says.
    Shamir(SealConfig),
}

/// Why sealing something under a new key failed.
#[derive(Debug, thiserror::Error)]
pub enum SealingError {
    /// The key file cannot serve.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The keyring could not be sealed.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The key could not be split.
    #[error("the seal key could not be split: {0}")]
    Shamir(#[from] ShamirError),
}

/// A new installation, to be committed in one batch: after a crash there is all of it or nothing.
#[derive(Debug)]
#[must_use = "nothing is initialised until it is committed"]
pub struct Initialised {
    /// Stored in clear ([`SealConfig::to_json`]).
    pub config: SealConfig,
    /// The root key under the seal key.
    pub sealed_root: Vec<u8>,
    /// The keyring under the root key.
    pub sealed_keyring: Vec<u8>,
    /// For the people; empty with a key file. They exist nowhere else.
    pub shares: Vec<Share>,
    /// The barrier of the new keyring, to seal the first values of the same batch.
    pub barrier: Barrier,
}

/// Makes root key, keyring and seal key. Reads the key file where the seal is one; writes nothing.
pub fn initialise(seal: &Seal, entropy: Arc<dyn Entropy>, now: Timestamp) -> Result<Initialised, SealingError> {
    let NewSeal { config, key, shares } = NewSeal::make(seal, &*entropy)?;
    let root = RootKey::generate(&*entropy);
    let keyring = Keyring::generate(&*entropy, now);
    let sealed_root = wrap_root(&root, &key, &*entropy)?;
    let sealed_keyring = keyring.seal(&root, &*entropy)?;
    let barrier = Barrier::new(keyring, root, entropy)?;
    Ok(Initialised { config, sealed_root, sealed_keyring, shares, barrier })
}

/// The root key that is in use, sealed under another seal key, to be stored in the old one's place: for a change of seal that leaves
/// the keyring alone. Who kept the old seal key and the old stored root key can still open it; [`crate::rekey::rekey`] rules that out.
pub fn rewrap(barrier: &Barrier, key: &SealKey) -> Result<Vec<u8>, KeyringError> {
    wrap_root(&barrier.root(), key, barrier.entropy())
}

/// The root key sealed under `key`, to be stored.
pub(crate) fn wrap_root(root: &RootKey, key: &SealKey, entropy: &dyn Entropy) -> Result<Vec<u8>, KeyringError> {
    let mut out = Vec::with_capacity(1 + KEY_BYTES + AEAD_OVERHEAD);
    out.push(FORMAT);
    key.aead()?.append(ROOT_AAD, root.bytes(), entropy, &mut out).map_err(|_failed| KeyringError::NotSealed)?;
    Ok(out)
}

/// Opens the root key with the seal key. `InvalidKey` when it is the wrong one.
pub fn open_root(sealed_root: &[u8], key: &SealKey) -> Result<RootKey, UnsealError> {
    let Some((format, rest)) = sealed_root.split_first() else { return Err(UnsealError::NoRootKey("nothing is stored")) };
    if *format != FORMAT {
        return Err(UnsealError::NoRootKey("it is of a format that this version of daypass does not know"));
    }
    let plain = key.aead().ok().and_then(|aead| aead.open(ROOT_AAD, rest)).ok_or(UnsealError::InvalidKey)?;
    let bytes = <[u8; KEY_BYTES]>::try_from(plain.as_slice()).map_err(|_length| UnsealError::NoRootKey("it has another length"))?;
    Ok(RootKey::new(Secret::new(bytes)))
}

/// Why a share, or the key that shares made, was refused. The texts are Vault's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// The shares cannot be of one secret.
    #[error("invalid key: failed to compute combined key: {0}")]
    Combine(#[from] ShamirError),
    /// The key does not open the root key: at least one share is wrong, or of another seal.
    #[error("Unseal failed, invalid key")]
    InvalidKey,
    /// The single share, or what the shares made, is not of a key's length.
    #[error("invalid key: failed to setup unseal key: crypto/aes: invalid key size {0}")]
    KeySize(usize),
    /// The stored root key is not one.
    #[error("the stored root key cannot be read: {0}")]
    NoRootKey(&'static str),
    /// Over [`SHARE_BYTES_MAX`].
    #[error("invalid key: key is longer than maximum {SHARE_BYTES_MAX} bytes")]
    TooLong,
    /// Under [`SHARE_BYTES_MIN`].
    #[error("invalid key: key is shorter than minimum {SHARE_BYTES_MIN} bytes")]
    TooShort,
}

/// How far an unsealing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Shares handed in.
    pub progress: usize,
    /// Shares needed.
    pub threshold: u8,
    /// Names this attempt, as a UUID; empty while no share is in.
    pub nonce: String,
}

/// What a share brought about.
#[derive(Debug)]
pub enum Step {
    /// One more; others are still needed.
    Progress(Progress),
    /// It was handed in before: nothing changed.
    Repeated(Progress),
    /// The last one needed: here is the root key, and the shares are forgotten.
    Ready(Opened),
}

/// What shares have opened.
#[derive(Debug)]
pub struct Opened {
    /// The root key.
    pub root: RootKey,
    /// The key that the shares made.
    pub(crate) key: SealKey,
    /// Which of the two seals it was.
    pub under: Under,
}

/// Which seal shares belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Under {
    /// The one in force.
    Current,
    /// The one before, kept while it is not known whether anybody has the new shares.
    Previous,
}

/// Collects shares until they open the root key. Serves `sys/unseal`, and `sys/generate-root` and `sys/rekey` as proof of the old shares.
pub struct Unsealing {
    /// One, or two after a rekey whose answer may have been lost; the one in force first.
    doors: Vec<Sealed>,
    shares: Vec<Share>,
    nonce: String,
}

/// A sealed root key and how many shares open it.
struct Sealed {
    threshold: u8,
    root: Vec<u8>,
    under: Under,
}

impl Unsealing {
    /// Starts with no share.
    #[must_use]
    pub fn new(config: &SealConfig, sealed_root: Vec<u8>) -> Self {
        let door = Sealed { threshold: config.threshold(), root: sealed_root, under: Under::Current };
        Self { doors: vec![door], shares: Vec::new(), nonce: String::new() }
    }

    /// The shares of the seal before are taken as well.
    #[must_use]
    pub fn or_previous(mut self, config: &SealConfig, sealed_root: Vec<u8>) -> Self {
        self.doors.push(Sealed { threshold: config.threshold(), root: sealed_root, under: Under::Previous });
        self
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let threshold = self.doors.first().map_or(0, |door| door.threshold);
        Progress { progress: self.shares.len(), threshold, nonce: self.nonce.clone() }
    }

    /// Forgets all shares.
    pub fn reset(&mut self) {
        self.shares.clear();
        self.nonce.clear();
    }

    /// Takes a share. A share of a wrong length is refused and changes nothing; when the last share needed is in and they
    /// do not open the root key, all are forgotten: nobody can tell which one was wrong.
    pub fn submit(&mut self, share: Share, entropy: &dyn Entropy) -> Result<Step, UnsealError> {
        check_length(&share)?;
        if self.shares.contains(&share) {
            return Ok(Step::Repeated(self.progress()));
        }
        if self.shares.is_empty() {
            self.nonce = random_uuid(entropy);
        }
        self.shares.push(share);
        let mut refusal = None;
        for door in &self.doors {
            // The newest: with two doors, a wrong share may have come before, of which the door that wants more says nothing yet.
            let Some(newest) = self.shares.len().checked_sub(usize::from(door.threshold)).and_then(|first| self.shares.get(first..)) else {
                continue;
            };
            match door.open(newest) {
                Ok(opened) => {
                    self.reset();
                    return Ok(Step::Ready(opened));
                }
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        match refusal {
            Some(error) if self.doors.iter().all(|door| self.shares.len() >= usize::from(door.threshold)) => {
                self.reset();
                Err(error)
            }
            _ => Ok(Step::Progress(self.progress())),
        }
    }
}

impl Sealed {
    fn open(&self, shares: &[Share]) -> Result<Opened, UnsealError> {
        let key = join(shares)?;
        Ok(Opened { root: open_root(&self.root, &key)?, key, under: self.under })
    }
}

/// The key that shares make. Wrong ones make a wrong key, and no error.
pub(crate) fn join(shares: &[Share]) -> Result<SealKey, UnsealError> {
    let combined = match shares {
        [only] => only.clone(),
        shares => shamir::combine(shares)?,
    };
    // Exposed to become a key, a secret again.
    let bytes = combined.expose().as_slice();
    let key = <[u8; KEY_BYTES]>::try_from(bytes).map_err(|_length| UnsealError::KeySize(bytes.len()))?;
    Ok(SealKey(Secret::new(key)))
}

/// Whether a share's length is one that shares have.
pub fn check_length(share: &Share) -> Result<(), UnsealError> {
    // Exposed to be measured; a length is no secret.
    match share.expose().len() {
        0..SHARE_BYTES_MIN => Err(UnsealError::TooShort),
        SHARE_BYTES_MIN..=SHARE_BYTES_MAX => Ok(()),
        _ => Err(UnsealError::TooLong),
    }
}

impl std::fmt::Debug for Unsealing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unsealing").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

/// A random UUID (version 4).
fn random_uuid(entropy: &dyn Entropy) -> String {
    let random = u128::from_be_bytes(entropy.bytes());
    let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}

#[cfg(test)]
mod tests;
