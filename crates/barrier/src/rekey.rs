//! New keys in place of the old ones: a seal key with its shares ([`NewSeal`]), and a root key under it ([`rekey`]).
//!
//! Values stay as they are: only the keyring is sealed anew. The three things that change (seal configuration, sealed root key, sealed
//! keyring) open one another, so the caller commits them in one batch.

use daypass_base::{Entropy, Secret};

use crate::barrier::Barrier;
use crate::keyring::{KeyringError, RootKey};
use crate::primitive::KEY_BYTES;
use crate::seal::{Opened, Seal, SealConfig, SealKey, SealingError, join, wrap_root};
use crate::shamir::{self, Share};

/// A seal key that was just made or read, and the shares of it.
#[derive(Debug)]
pub struct NewSeal {
    pub(crate) config: SealConfig,
    pub(crate) key: SealKey,
    pub(crate) shares: Vec<Share>,
}

impl NewSeal {
    /// Makes a key and splits it, or reads the key file.
    pub fn make(seal: &Seal, entropy: &dyn Entropy) -> Result<Self, SealingError> {
        let config = match seal {
            Seal::KeyFile(file) => return Ok(Self { config: SealConfig::key_file(), key: file.read()?, shares: Vec::new() }),
            Seal::Shamir(config) => config.clone(),
        };
        let key = Secret::new(entropy.bytes::<KEY_BYTES>());
        // Exposed to be split: the shares are secrets again.
        let shares = match config.shares() {
            // Vault hands out the key itself then, without an x.
            1 => vec![Secret::new(key.expose().to_vec())],
            shares => shamir::split(key.expose(), usize::from(shares), usize::from(config.threshold()), entropy)?,
        };
        Ok(Self { config, key: SealKey::new(key), shares })
    }

    /// How it is split.
    #[must_use]
    pub fn config(&self) -> &SealConfig {
        &self.config
    }

    /// For the people; empty with a key file. They exist nowhere else.
    #[must_use]
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// Whether these shares, as many as the threshold says, make this seal's key. In constant time for keys of one length.
    #[must_use]
    pub fn opens_with(&self, shares: &[Share]) -> bool {
        shares.len() == usize::from(self.config.threshold()) && join(shares).is_ok_and(|key| key == self.key)
    }

    /// A new root key under this seal, and the keyring under it, to be committed.
    pub fn rekey(&self, barrier: &Barrier) -> Result<Rekeyed, SealingError> {
        let entropy = barrier.entropy();
        let root = RootKey::generate(entropy);
        let sealed_root = wrap_root(&root, &self.key, entropy)?;
        let sealed_keyring = barrier.keyring().seal(&root, entropy)?;
        let root_for_peers = barrier.seal_root(&root)?;
        Ok(Rekeyed { config: self.config.clone(), sealed_root, sealed_keyring, root_for_peers, shares: self.shares.clone(), root })
    }
}

/// A new seal with a new root key, to be committed in one batch and then adopted.
#[derive(Debug)]
#[must_use = "a rekey takes effect when it is committed and adopted"]
pub struct Rekeyed {
    /// Stored in clear.
    pub config: SealConfig,
    /// The new root key under the new seal key.
    pub sealed_root: Vec<u8>,
    /// The keyring under the new root key.
    pub sealed_keyring: Vec<u8>,
    /// The new root key under the keyring's newest term, stored for other nodes that are unsealed ([`Barrier::reload`]).
    pub root_for_peers: Vec<u8>,
    /// For the people; empty with a key file. The old shares are worthless afterwards.
    pub shares: Vec<Share>,
    root: RootKey,
}

impl Rekeyed {
    /// The new root key under the seal that was opened for this rekey: kept until somebody surely has the new shares.
    pub fn under_the_old_seal(&self, old: &Opened, barrier: &Barrier) -> Result<Vec<u8>, KeyringError> {
        wrap_root(&self.root, &old.key, barrier.entropy())
    }

    /// Takes the new root key into use, once everything is committed.
    pub fn adopt(self, barrier: &Barrier) {
        barrier.adopt_root(self.root);
    }
}

/// Exchanges seal key and root key; values stay as they are. The old shares and the old root key open nothing that is stored from
/// then on. Not to be mixed with a rotation between here and [`Rekeyed::adopt`]: the caller commits both under one condition.
pub fn rekey(barrier: &Barrier, seal: &Seal) -> Result<Rekeyed, SealingError> {
    NewSeal::make(seal, barrier.entropy())?.rekey(barrier)
}
