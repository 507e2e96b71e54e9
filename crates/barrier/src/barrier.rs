//! [`Barrier`]: seals and opens stored values and batch tokens, and makes keyed hashes, for as long as the server is unsealed.
//!
//! A sealed value is `version (1) | term (4, big-endian) | nonce (12) | cipher text | tag (16)`. The storage key is its associated
//! data, so a value that was moved to another row does not open. Tokens are sealed under keys of their own (derived from the
//! term's), so a token can never be taken for a stored value, nor the other way round.
//!
//! Dropping the last clone of a barrier wipes all its keys; that is what sealing the server comes down to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use daypass_base::{Entropy, Secret, Timestamp};
use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::keyring::{Keyring, KeyringError, RootKey};
use crate::primitive::{AEAD_OVERHEAD, Aead, AeadFailed, KEY_BYTES, derive, mac};

/// The longest value that is sealed, in bytes: twice the largest request, for what encoding adds.
pub const VALUE_BYTES_MAX: usize = 64 << 20;
/// Bytes that sealing adds to a value.
pub const VALUE_OVERHEAD: usize = 1 + 4 + AEAD_OVERHEAD;
/// Encryptions under one term after which nothing more is sealed: with 2^32 random nonces the chance that two are equal is 2^-33
/// (NIST SP 800-38D, section 8.3). Rotation comes long before; see [`Barrier::wants_rotation`].
pub const ENCRYPTIONS_MAX: u64 = 1 << 32;

const FORMAT: u8 = 1;
const TOKEN_KEY_LABEL: &[u8] = b"daypass batch token";
const TOKEN_AAD: &[u8] = b"daypass batch token";
const ROOT_AAD: &[u8] = b"daypass root key for peers";
const ROOT_KEY_LABEL: &[u8] = b"daypass root key for peers";

/// Why a value could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// [`ENCRYPTIONS_MAX`] is reached: nothing can be written until the key is rotated.
    #[error("term {0} has sealed 2^32 values, the limit of a key; rotate the encryption key (sys/rotate) to write again")]
    Exhausted(u32),
    /// The library failed, which no input can bring about.
    #[error("the value could not be encrypted")]
    Failed,
    /// Over [`VALUE_BYTES_MAX`].
    #[error("a value of {0} bytes is over the limit of {VALUE_BYTES_MAX} bytes")]
    TooLong(usize),
}

/// Why a sealed value did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The value was changed, or belongs to another storage key.
    #[error("the value is not authentic: it was changed, or moved from another key")]
    NotAuthentic,
    /// Too short to have been sealed.
    #[error("the value is truncated: {0} bytes are fewer than a sealed value has")]
    Truncated(usize),
    /// Written by a newer daypass, or not sealed at all.
    #[error("sealed format {0} is not known to this version of daypass, which reads format {FORMAT}")]
    UnknownFormat(u8),
    /// The keyring lacks the term: it is older than the value (reload it), or the value is of another installation.
    #[error("the keyring has no term {0}")]
    UnknownTerm(u32),
}

/// Why a changed keyring or root key was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// It could not be read.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The new keyring lacks a key that is in use: it is older, or another node rotated in the meantime.
    #[error("the keyring to install lacks keys that are in use; reload the stored one and rotate again")]
    Stale,
}

/// What a keyed hash is for. Each has a key of its own, so a hash made for one use says nothing in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Finding a token by its accessor.
    Accessor,
    /// The salt of an audit device, from its stored id.
    AuditSalt,
    /// The name of a token's cubbyhole.
    Cubbyhole,
    /// Signed positions in a paged listing.
    Cursor,
    /// Suffixes of the ids of stored leases.
    LeaseMac,
    /// Secrets of auth methods that are kept as hashes, such as AppRole's secret ids.
    LoginSecret,
    /// The signature in the id of an STS lease.
    StsLease,
    /// The hash of a token's secret, which its row holds.
    Token,
    /// The hash of a wrapping token's secret.
    Wrapping,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Accessor,
        Self::AuditSalt,
        Self::Cubbyhole,
        Self::Cursor,
        Self::LeaseMac,
        Self::LoginSecret,
        Self::StsLease,
        Self::Token,
        Self::Wrapping,
    ];

    /// What the key is derived with. A label may never change: stored hashes would no longer match.
    fn label(self) -> &'static [u8] {
        match self {
            Self::Accessor => b"daypass mac accessor",
            Self::AuditSalt => b"daypass mac audit salt",
            Self::Cubbyhole => b"daypass mac cubbyhole",
            Self::Cursor => b"daypass mac cursor",
            Self::LeaseMac => b"daypass mac lease",
            Self::LoginSecret => b"daypass mac login secret",
            Self::StsLease => b"daypass mac sts lease",
            Self::Token => b"daypass mac token",
            Self::Wrapping => b"daypass mac wrapping",
        }
    }
}

/// The term that seals, as `sys/key-status` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TermStatus {
    /// Its number, from 1.
    pub term: u32,
    /// When it was installed.
    pub installed: Timestamp,
    /// Values sealed under it: those counted when the keyring was last stored, and those of this process since.
    pub encryptions: u64,
}

/// A keyring with a new term, not yet in use. Commit [`Rotation::sealed`], then hand it to [`Barrier::install`]. Dropped
/// instead, it leaves no trace.
#[derive(Debug)]
#[must_use = "a rotation takes effect when its bytes are committed and it is installed"]
pub struct Rotation {
    keyring: Keyring,
    sealed: Vec<u8>,
}

impl Rotation {
    /// The keyring to commit, sealed under the root key.
    #[must_use]
    pub fn sealed(&self) -> &[u8] {
        &self.sealed
    }

    /// The number of the new term.
    #[must_use]
    pub fn term(&self) -> u32 {
        self.keyring.newest()
    }
}

/// Everything that needs a key. A clone is another handle to the same keys; any thread may use it.
#[derive(Clone)]
pub struct Barrier(Arc<Inner>);

struct Inner {
    entropy: Arc<dyn Entropy>,
    keys: ArcSwap<Keys>,
    macs: Macs,
    /// Held while keys change, so that two changes cannot lose one another. Sealing and opening never wait for it.
    root: Mutex<RootKey>,
}

/// A keyring and its expanded keys, oldest first and never empty.
struct Keys {
    keyring: Keyring,
    older: Vec<Arc<LiveTerm>>,
    newest: Arc<LiveTerm>,
}

/// A term with its keys expanded.
struct LiveTerm {
    number: u32,
    installed: Timestamp,
    values: Aead,
    tokens: Aead,
    /// Of values and tokens together; each key alone is used less.
    encryptions: AtomicU64,
}

impl Barrier {
    /// Takes a keyring into use.
    pub fn new(keyring: Keyring, root: RootKey, entropy: Arc<dyn Entropy>) -> Result<Self, KeyringError> {
        let macs = Macs::derive(keyring.mac_root())?;
        let keys = Keys::expand(keyring, None)?;
        Ok(Self(Arc::new(Inner { entropy, keys: ArcSwap::from_pointee(keys), macs, root: Mutex::new(root) })))
    }

    /// Opens a stored keyring and takes it into use.
    pub fn open_keyring(sealed: &[u8], root: RootKey, entropy: Arc<dyn Entropy>) -> Result<Self, KeyringError> {
        Self::new(Keyring::open(sealed, &root)?, root, entropy)
    }

    /// `plain` sealed under the newest term and bound to `aad`, the storage key it will be stored at.
    pub fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let keys = self.0.keys.load();
        keys.newest.seal(&keys.newest.values, aad, plain, &*self.0.entropy)
    }

    /// The plain value of what was sealed for `aad`.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (term, rest) = split(sealed)?;
        let keys = self.0.keys.load();
        keys.term(term)?.values.open(aad, rest).ok_or(OpenError::NotAuthentic)
    }

    /// The content of a batch token, sealed so that nobody else can read or make one.
    pub fn seal_token(&self, content: &[u8]) -> Result<Vec<u8>, SealError> {
        let keys = self.0.keys.load();
        keys.newest.seal(&keys.newest.tokens, TOKEN_AAD, content, &*self.0.entropy)
    }

    /// The content of a batch token that [`Barrier::seal_token`] made.
    pub fn open_token(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (term, rest) = split(sealed)?;
        let keys = self.0.keys.load();
        keys.term(term)?.tokens.open(TOKEN_AAD, rest).ok_or(OpenError::NotAuthentic)
    }

    /// HMAC-SHA256 of `message` under the key of `purpose`. It stays the same over rotations and rekeys.
    #[must_use]
    pub fn mac(&self, purpose: Purpose, message: &[u8]) -> [u8; 32] {
        mac(self.0.macs.key(purpose), message)
    }

    /// Whether `tag` is [`Barrier::mac`] of `message`; in constant time for the 32 bytes that a tag has.
    #[must_use]
    pub fn verify_mac(&self, purpose: Purpose, message: &[u8], tag: &[u8]) -> bool {
        self.mac(purpose, message).ct_eq(tag).into()
    }

    /// The term that seals now.
    #[must_use]
    pub fn status(&self) -> TermStatus {
        let newest = &self.0.keys.load().newest;
        TermStatus { term: newest.number, installed: newest.installed, encryptions: newest.encryptions.load(Ordering::Relaxed) }
    }

    /// Values sealed under the term that seals now.
    #[must_use]
    pub fn encryptions(&self) -> u64 {
        self.status().encryptions
    }

    /// Whether the newest term has sealed `max_operations` values. This process counts its own since the keyring was stored, so
    /// where several nodes share a store, each should rotate at its part of the limit.
    #[must_use]
    pub fn wants_rotation(&self, max_operations: u64) -> bool {
        self.encryptions() >= max_operations.min(ENCRYPTIONS_MAX)
    }

    /// A keyring with one more term, to be committed and then installed.
    pub fn rotate(&self, now: Timestamp) -> Result<Rotation, KeyringError> {
        let mut keyring = self.keyring();
        keyring.add_term(&*self.0.entropy, now)?;
        let sealed = keyring.seal(&self.0.root.lock(), &*self.0.entropy)?;
        Ok(Rotation { keyring, sealed })
    }

    /// Takes a committed rotation into use. `Stale` when the keys have changed since it was made; the stored keyring decides then.
    pub fn install(&self, rotation: Rotation) -> Result<(), InstallError> {
        self.replace(rotation.keyring, &self.0.root.lock())
    }

    /// The keyring with today's counts, sealed, so that a restart does not forget them.
    pub fn sealed_keyring(&self) -> Result<Vec<u8>, KeyringError> {
        self.keyring().seal(&self.0.root.lock(), &*self.0.entropy)
    }

    /// The keys of this moment: a rotation adds nothing to them. What is sealed with them is not counted where encryptions are, so they are for a
    /// few values.
    pub fn frozen(&self) -> Result<Self, KeyringError> {
        Self::new(self.keyring(), self.root(), Arc::clone(&self.0.entropy))
    }

    /// Another keyring with this barrier's root key. Errors: `NotAuthentic` when it is under another one.
    pub fn reopen(&self, sealed_keyring: &[u8]) -> Result<Self, KeyringError> {
        Self::open_keyring(sealed_keyring, self.root(), Arc::clone(&self.0.entropy))
    }

    /// Takes the stored keyring into use after another node rotated. `root_for_peers` is what that node stored
    /// if it rekeyed as well ([`crate::Rekeyed::root_for_peers`]); it is opened with keys that this node has.
    pub fn reload(&self, sealed_keyring: &[u8], root_for_peers: Option<&[u8]>) -> Result<(), InstallError> {
        let mut root = self.0.root.lock();
        match (Keyring::open(sealed_keyring, &root), root_for_peers) {
            (Ok(keyring), _) => self.replace(keyring, &root),
            (Err(KeyringError::NotAuthentic), Some(sealed_root)) => {
                let newer = self.open_root(sealed_root)?;
                self.replace(Keyring::open(sealed_keyring, &newer)?, &newer)?;
                *root = newer;
                Ok(())
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Whether this root key is the one in use: the proof that shares belong to this server. In constant time.
    #[must_use]
    pub fn has_root(&self, root: &RootKey) -> bool {
        self.0.root.lock().bytes().ct_eq(root.bytes()).into()
    }

    /// The root key in use, for those that put it under a seal.
    pub(crate) fn root(&self) -> RootKey {
        self.0.root.lock().clone()
    }

    /// Where this barrier gets its randomness.
    pub(crate) fn entropy(&self) -> &dyn Entropy {
        &*self.0.entropy
    }

    /// A copy of the keyring with the counts of now.
    pub(crate) fn keyring(&self) -> Keyring {
        self.0.keys.load().counted()
    }

    /// From now on the keyring is stored under `root`.
    pub(crate) fn adopt_root(&self, root: RootKey) {
        *self.0.root.lock() = root;
    }

    /// `root` sealed under the newest term, for nodes that have the keyring but not yet this root key.
    pub(crate) fn seal_root(&self, root: &RootKey) -> Result<Vec<u8>, KeyringError> {
        let keys = self.0.keys.load();
        let aead = keys.root_aead(keys.newest.number)?;
        keys.newest.seal(&aead, ROOT_AAD, root.bytes(), &*self.0.entropy).map_err(|_failed| KeyringError::NotSealed)
    }

    fn open_root(&self, sealed: &[u8]) -> Result<RootKey, KeyringError> {
        let (term, rest) = split(sealed).map_err(|_malformed| KeyringError::NotAuthentic)?;
        let plain = self.0.keys.load().root_aead(term)?.open(ROOT_AAD, rest).ok_or(KeyringError::NotAuthentic)?;
        let key =
            <[u8; KEY_BYTES]>::try_from(plain.as_slice()).map_err(|_length| KeyringError::Malformed("the root key has another length"))?;
        Ok(RootKey::new(Secret::new(key)))
    }

    /// Swaps the keys; `_root` shows that the caller holds the lock.
    fn replace(&self, keyring: Keyring, _root: &RootKey) -> Result<(), InstallError> {
        let current = self.0.keys.load_full();
        if !keyring.extends(&current.keyring) {
            return Err(InstallError::Stale);
        }
        self.0.keys.store(Arc::new(Keys::expand(keyring, Some(&current))?));
        Ok(())
    }
}

impl std::fmt::Debug for Barrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Barrier").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Keys {
    /// Expands each key of `keyring`; terms that `current` has keep their counters, so nothing sealed meanwhile goes uncounted.
    fn expand(keyring: Keyring, current: Option<&Self>) -> Result<Self, KeyringError> {
        let mut older = Vec::with_capacity(keyring.terms().len());
        for term in keyring.terms() {
            let live = match current.and_then(|keys| keys.term(term.number).ok()) {
                Some(live) => {
                    live.encryptions.fetch_max(term.encryptions, Ordering::Relaxed);
                    Arc::clone(live)
                }
                None => Arc::new(LiveTerm::expand(term)?),
            };
            older.push(live);
        }
        let newest = older.pop().ok_or(KeyringError::Malformed("it has no term"))?;
        Ok(Self { keyring, older, newest })
    }

    fn term(&self, number: u32) -> Result<&Arc<LiveTerm>, OpenError> {
        if number == self.newest.number {
            return Ok(&self.newest);
        }
        let found = self.older.binary_search_by_key(&number, |term| term.number).ok();
        found.and_then(|at| self.older.get(at)).ok_or(OpenError::UnknownTerm(number))
    }

    fn counted(&self) -> Keyring {
        let mut keyring = self.keyring.clone();
        for (term, live) in keyring.terms_mut().zip(self.older.iter().chain(std::iter::once(&self.newest))) {
            term.encryptions = live.encryptions.load(Ordering::Relaxed);
        }
        keyring
    }

    /// The key that root keys for peers are sealed under; derived on demand, since rekeying is rare.
    fn root_aead(&self, number: u32) -> Result<Aead, KeyringError> {
        let term = self.keyring.terms().iter().find(|term| term.number == number).ok_or(KeyringError::NotAuthentic)?;
        // Exposed to the derivation.
        derive(term.key.expose(), ROOT_KEY_LABEL).and_then(|key| Aead::new(&key)).map_err(|_failed| KeyringError::NotSealed)
    }
}

impl LiveTerm {
    fn expand(term: &crate::keyring::Term) -> Result<Self, KeyringError> {
        // Exposed to the AEAD and to the derivation.
        let key = term.key.expose();
        let build = || -> Result<(Aead, Aead), AeadFailed> {
            let token_key = derive(key, TOKEN_KEY_LABEL)?;
            Ok((Aead::new(key)?, Aead::new(&token_key)?))
        };
        let (values, tokens) = build().map_err(|_failed| KeyringError::NotSealed)?;
        Ok(Self { number: term.number, installed: term.installed, values, tokens, encryptions: AtomicU64::new(term.encryptions) })
    }

    fn seal(&self, key: &Aead, aad: &[u8], plain: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>, SealError> {
        if plain.len() > VALUE_BYTES_MAX {
            return Err(SealError::TooLong(plain.len()));
        }
        // Counted before, so that no more than the limit can slip through between threads.
        if self.encryptions.fetch_add(1, Ordering::Relaxed) >= ENCRYPTIONS_MAX {
            return Err(SealError::Exhausted(self.number));
        }
        let mut out = Vec::with_capacity(VALUE_OVERHEAD + plain.len());
        out.push(FORMAT);
        out.extend_from_slice(&self.number.to_be_bytes());
        key.append(aad, plain, entropy, &mut out).map_err(|_failed| SealError::Failed)?;
        Ok(out)
    }
}

/// Term number and the AEAD's part of a sealed value.
fn split(sealed: &[u8]) -> Result<(u32, &[u8]), OpenError> {
    let Some((format, rest)) = sealed.split_first() else { return Err(OpenError::Truncated(0)) };
    if *format != FORMAT {
        return Err(OpenError::UnknownFormat(*format));
    }
    match rest.split_first_chunk::<4>() {
        Some((term, rest)) if rest.len() >= AEAD_OVERHEAD => Ok((u32::from_be_bytes(*term), rest)),
        _ => Err(OpenError::Truncated(sealed.len())),
    }
}

/// A key for each purpose.
struct Macs {
    accessor: hmac::Key,
    audit_salt: hmac::Key,
    cubbyhole: hmac::Key,
    cursor: hmac::Key,
    lease_mac: hmac::Key,
    login_secret: hmac::Key,
    sts_lease: hmac::Key,
    token: hmac::Key,
    wrapping: hmac::Key,
}

impl Macs {
    fn derive(root: &Secret<[u8; KEY_BYTES]>) -> Result<Self, KeyringError> {
        // Exposed to the derivation.
        let key = |purpose: Purpose| match derive(root.expose(), purpose.label()) {
            Ok(key) => Ok(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice())),
            Err(AeadFailed) => Err(KeyringError::NotSealed),
        };
        Ok(Self {
            accessor: key(Purpose::Accessor)?,
            audit_salt: key(Purpose::AuditSalt)?,
            cubbyhole: key(Purpose::Cubbyhole)?,
            cursor: key(Purpose::Cursor)?,
            lease_mac: key(Purpose::LeaseMac)?,
            login_secret: key(Purpose::LoginSecret)?,
            sts_lease: key(Purpose::StsLease)?,
            token: key(Purpose::Token)?,
            wrapping: key(Purpose::Wrapping)?,
        })
    }

    fn key(&self, purpose: Purpose) -> &hmac::Key {
        match purpose {
            Purpose::Accessor => &self.accessor,
            Purpose::AuditSalt => &self.audit_salt,
            Purpose::Cubbyhole => &self.cubbyhole,
            Purpose::Cursor => &self.cursor,
            Purpose::LeaseMac => &self.lease_mac,
            Purpose::LoginSecret => &self.login_secret,
            Purpose::StsLease => &self.sts_lease,
            Purpose::Token => &self.token,
            Purpose::Wrapping => &self.wrapping,
        }
    }
}

#[cfg(test)]
mod tests;
