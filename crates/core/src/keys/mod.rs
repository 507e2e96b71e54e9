//! The keys at work: one place where the stored root key, the keyring and the seal's configuration change.
//!
//! A keyring that was sealed under an old root key and stored beside a new one could not be opened again. So every change holds one lock
//! ([`Inner::keys`]) from reading to taking into use, is one batch, and demands that the stored root key still is the one in memory.
//! [`handed_in`] keeps the shares of an unsealing, [`ceremony`] the attempts that people's shares authorise; [`rekey`] and [`root`] carry them out; [`mod@file`] is the seal without shares; [`holders`] encrypts for people.

pub(crate) mod ceremony;
mod file;
mod handed_in;
pub(crate) mod holders;
mod rekey;
mod root;

pub(crate) use file::SealWatch;
pub use file::{FileRekey, opens_by_file, rekey_by_file};
pub(crate) use handed_in::HandedIn;
pub(crate) use holders::{Handout, Holders, KeyReaders, Prepared};
pub(crate) use rekey::{NewShares, RekeyProgress, RekeyStart, RekeyStep, SealBefore, Verified};
pub(crate) use root::{OTP_LENGTH, RootProgress, Wanted};

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use daypass_barrier::{KeyringError, SealConfig, Under, Unsealing};
use daypass_base::{Delivery, Fate, Receipt, Seconds};
use daypass_sdk::{Error, Result};
use daypass_storage::Batch;
use serde::{Deserialize, Serialize};

use crate::node::{Inner, SEAL_CONFIG, SEALED_KEYRING, SEALED_ROOT, Unsealed, core_key};
use crate::rows::{config_key, read_error, unchanged};

/// What is known of the stored keys; its lock is the right to change them. Dropped and made anew at each unsealing.
#[derive(Default)]
pub(crate) struct Keys {
    /// The sealed root key as it was stored when the one in memory was taken into use.
    sealed_root: Vec<u8>,
    /// What is known of the seal before the last rekey.
    before: Before,
}

/// The seal before the last rekey, while the server is unsealed.
#[derive(Default)]
enum Before {
    /// It is not stored any more.
    #[default]
    Gone,
    /// It is stored until the answer with the new shares has reached its client. Where that is lost, until new shares are used.
    UntilDelivered(Delivery),
    /// Its shares count no more; it is still to be removed from the store.
    Retired,
}

/// The seal before the last rekey, as it is stored: its shares open the new root key for as long as it is not known whether anybody has the
/// new ones. Without it, a crash between the commit and the answer, or a client that hangs up, would lock everybody out.
#[derive(Serialize, Deserialize)]
struct PreviousSeal {
    config: serde_json::Value,
    sealed_root: Vec<u8>,
}

impl Before {
    /// Of the answer that it waits for.
    fn delivery(&self) -> Option<Delivery> {
        match self {
            Self::UntilDelivered(delivery) => Some(delivery.clone()),
            Self::Gone | Self::Retired => None,
        }
    }
}

/// When a new key is started by itself, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Rotation {
    pub(crate) enabled: bool,
    pub(crate) max_operations: i64,
    pub(crate) interval: Seconds,
}

/// How a new term came about.
enum Upkeep {
    Count,
    Rotate,
}

impl Rotation {
    /// Vault's own, where nothing was set.
    pub(crate) fn usual() -> Self {
        Self { enabled: true, max_operations: OPERATIONS_MAX, interval: Seconds::ZERO }
    }

    /// As it was set, or the usual one.
    pub(crate) async fn stored(unsealed: &Unsealed) -> Result<Self> {
        Ok(unsealed.rows.get_json(&core_key("rotation")).await?.map_or_else(Self::usual, |(rotation, _)| rotation))
    }
}

impl Inner {
    /// Whether this still is what serves: after a seal, a request in flight must not change keys any more.
    pub(crate) fn serves(&self, unsealed: &Arc<Unsealed>) -> Result<()> {
        match self.unsealed.load().as_ref() {
            Some(current) if Arc::ptr_eq(current, unsealed) => Ok(()),
            _ => Err(crate::node::sealed()),
        }
    }

    /// A batch that changes keys, with the conditions that make it safe.
    async fn change_of_keys(&self, keys: &Keys) -> Result<Batch> {
        let names = [SEALED_ROOT, SEALED_KEYRING, SEAL_CONFIG].map(config_key);
        let found = self.backend.get_many(&names).await.map_err(read_error)?.found;
        if found.first().and_then(Option::as_ref).is_none_or(|root| root.value != keys.sealed_root) {
            return Err(Error::internal(
                "the stored root key is not the one in use: it was changed by another process; seal and unseal this server to go on",
            ));
        }
        let mut batch = Batch::new();
        for (name, row) in names.into_iter().zip(found) {
            batch.conditions.push(unchanged(name, row.map(|row| row.version)));
        }
        Ok(batch)
    }

    /// Starts a new term: `sys/rotate`. Errors: `Sealed`; what the store says.
    pub(crate) async fn rotate(&self, unsealed: &Arc<Unsealed>) -> Result<u32> {
        let keys = self.keys.lock().await;
        self.serves(unsealed)?;
        self.add_term(unsealed, &keys).await
    }

    async fn add_term(&self, unsealed: &Unsealed, keys: &Keys) -> Result<u32> {
        let barrier = unsealed.rows.barrier();
        let batch = self.change_of_keys(keys).await?;
        let rotation = barrier.rotate(self.clock.now()).map_err(|error| Error::internal("no new key could be made").because(error))?;
        let term = rotation.term();
        // The keyring is under the root key already: it is stored as it is, not sealed once more.
        let put = batch.put(config_key(SEALED_KEYRING), rotation.sealed().to_vec());
        if let Err(failure) = unsealed.rows.commit(put).await {
            // The answer may be lost and the term stored: then it is taken from there.
            self.reload_keyring(unsealed).await;
            if barrier.status().term != term {
                return Err(failure.into());
            }
            return Ok(term);
        }
        barrier.install(rotation).map_err(|error| Error::internal("the new key is stored but not in use").because(error))?;
        Ok(term)
    }

    /// Takes the stored keyring into use where it is newer.
    async fn reload_keyring(&self, unsealed: &Unsealed) {
        if let Ok(Some(sealed)) = self.stored(SEALED_KEYRING).await
            && let Err(error) = unsealed.rows.barrier().reload(&sealed, None)
        {
            tracing::warn!(%error, "the stored keyring could not be taken into use");
        }
    }

    /// Stores how often the newest data key was used, and exchanges it when its time has come: as `sys/rotate/config` says, and in any
    /// case long before its random nonces could meet.
    pub(crate) async fn keep_keyring(&self, unsealed: &Arc<Unsealed>) -> Result<()> {
        let mut keys = self.keys.lock().await;
        if self.serves(unsealed).is_err() {
            return Ok(());
        }
        self.retire_previous(&mut keys).await;
        let barrier = unsealed.rows.barrier();
        let used = barrier.encryptions();
        match self.upkeep(unsealed).await? {
            Upkeep::Rotate => {
                let term = self.add_term(unsealed, &keys).await?;
                tracing::info!(term, "new values are encrypted with a new data key");
            }
            // Idle: nothing is written.
            Upkeep::Count if unsealed.encryptions_kept.load(Ordering::Relaxed) == used => {}
            Upkeep::Count => {
                let failed = |error: KeyringError| Error::internal("the keyring cannot be sealed").because(error);
                let batch = self.change_of_keys(&keys).await?;
                unsealed.rows.commit(batch.put(config_key(SEALED_KEYRING), barrier.sealed_keyring().map_err(failed)?)).await?;
                unsealed.encryptions_kept.store(used, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    async fn upkeep(&self, unsealed: &Unsealed) -> Result<Upkeep> {
        let status = unsealed.rows.barrier().status();
        let rotation = Rotation::stored(unsealed).await?;
        let count = |limit: i64| status.encryptions >= u64::try_from(limit).unwrap_or(u64::MAX);
        let aged = rotation.interval.set().is_some_and(|interval| self.clock.now() >= status.installed + interval);
        let due = rotation.enabled && (aged || count(rotation.max_operations));
        // Even where it is switched off: a key that is used up would stop every write.
        Ok(if due || count(OPERATIONS_MAX) { Upkeep::Rotate } else { Upkeep::Count })
    }

    /// Forgets the seal before the last rekey, once somebody has the new shares.
    pub(crate) async fn retire_previous(&self, keys: &mut Keys) {
        match &keys.before {
            Before::UntilDelivered(delivery) if delivery.fate() == Fate::Delivered => keys.before = Before::Retired,
            Before::Retired => {}
            Before::Gone | Before::UntilDelivered(_) => return,
        }
        match self.backend.commit(Batch::new().delete(core_key(PREVIOUS))).await {
            Ok(_) => {
                keys.before = Before::Gone;
                tracing::warn!("the shares of the root key from before the last exchange open nothing any more");
            }
            Err(error) => tracing::warn!(%error, "the seal before the last rekey is still stored; removing it is tried again in a minute"),
        }
    }

    /// New shares have proved themselves: somebody has them, so those of before are good for nothing from here on.
    async fn new_shares_are_used(&self) {
        let mut keys = self.keys.lock().await;
        if matches!(keys.before, Before::UntilDelivered(_)) {
            keys.before = Before::Retired;
            tracing::warn!("new shares of the root key were used: those from before the exchange are retired");
            self.retire_previous(&mut keys).await;
        }
    }

    /// Waits a moment for the answer with the new shares, where it is on its way: old shares come in right behind it. To be called without a
    /// lock that anybody else wants: it may take seconds.
    pub(crate) async fn wait_for_delivery(&self) {
        let Some(delivery) = self.keys.lock().await.before.delivery() else { return };
        tokio::select! {
            _fate = delivery.known() => {}
            () = self.clock.sleep(DELIVERY_MAX) => {}
        }
    }

    /// Whether the shares from before the last rekey open this server, because nobody is known to have the new ones.
    pub(crate) async fn old_shares_serve(&self) -> Result<bool> {
        let keys = self.keys.lock().await;
        match &keys.before {
            Before::UntilDelivered(delivery) => Ok(delivery.fate() == Fate::Lost),
            Before::Retired => Ok(false),
            // After a crash nothing is known but what is stored.
            Before::Gone => Ok(self.unsealed.load().is_none() && self.previous().await?.is_some()),
        }
    }

    /// What shares have to open now. The caller holds the keys, so that no change is in flight, and right after a rekey has waited for the fate of
    /// its answer: the seal before may want more shares, and until it is gone nobody would be told that too few, or wrong ones, came.
    pub(crate) async fn unsealing(&self, keys: &mut Keys, config: &SealConfig) -> Result<Unsealing> {
        self.retire_previous(keys).await;
        let root = self.stored(SEALED_ROOT).await?.ok_or_else(|| Error::internal("the sealed root key is missing from the store"))?;
        let unsealing = Unsealing::new(config, root);
        if matches!(keys.before, Before::Retired) { Ok(unsealing) } else { self.or_previous(unsealing).await }
    }

    /// With the shares of the seal before, if it is stored.
    async fn or_previous(&self, unsealing: Unsealing) -> Result<Unsealing> {
        Ok(match self.previous().await? {
            Some((config, root)) => unsealing.or_previous(&config, root),
            None => unsealing,
        })
    }

    async fn previous(&self) -> Result<Option<(SealConfig, Vec<u8>)>> {
        let Some(json) = self.stored(&format!("core/{PREVIOUS}")).await? else { return Ok(None) };
        let read = serde_json::from_slice::<PreviousSeal>(&json).map_err(|error| error.to_string()).and_then(|seal| {
            Ok((SealConfig::from_json(seal.config.to_string().as_bytes()).map_err(|error| error.to_string())?, seal.sealed_root))
        });
        read.map(Some).map_err(|error| Error::internal("the stored previous seal is not readable").because(error))
    }

    /// Notes which stored root key is in use from here on, where no shares came: after the store was replaced. What is stored of a seal before
    /// stays, unless it is known that somebody has the new shares.
    pub(crate) async fn take_up_seal(&self, keys: &mut Keys) -> Result<()> {
        let sealed_root = self.stored(SEALED_ROOT).await?.unwrap_or_default();
        let unchanged = keys.sealed_root == sealed_root;
        if unchanged && matches!(keys.before, Before::UntilDelivered(_)) {
            return Ok(());
        }
        if unchanged || self.previous().await?.is_none() {
            return self.settle_seal(keys, Under::Current).await;
        }
        // Of an exchange that nothing is known of here: as if its answer had been lost.
        let (_lost, delivery) = Receipt::pair();
        *keys = Keys { sealed_root, before: Before::UntilDelivered(delivery) };
        Ok(())
    }

    /// Notes which stored root key is in use from here on, and leaves one seal where a rekey left two: the one whose shares just came.
    pub(crate) async fn settle_seal(&self, keys: &mut Keys, under: Under) -> Result<()> {
        if under == Under::Previous {
            // What became of the answer was waited for before the first share was taken.
            self.retire_previous(keys).await;
        }
        let previous = self.previous().await?;
        // They were handed in while they still counted, and in the meantime somebody got the new ones.
        if under == Under::Previous && (previous.is_none() || matches!(keys.before, Before::Retired)) {
            return Err(Error::bad_request(daypass_barrier::UnsealError::InvalidKey.to_string()));
        }
        *keys = Keys { sealed_root: self.stored(SEALED_ROOT).await?.unwrap_or_default(), before: Before::Gone };
        let Some((config, root)) = previous else { return Ok(()) };
        let mut batch = self.change_of_keys(keys).await?.delete(core_key(PREVIOUS));
        if under == Under::Previous {
            tracing::warn!("the last rekey is taken back: it was cut short, and the shares from before it were handed in");
            batch = batch.put(config_key(SEAL_CONFIG), config.to_json()).put(config_key(SEALED_ROOT), root.clone());
        }
        self.backend.commit(batch).await.map_err(crate::rows::commit_failure)?;
        if under == Under::Previous {
            keys.sealed_root = root;
        }
        Ok(())
    }

    /// That the seal is made of shares which people hold.
    async fn shamir_config(&self) -> Result<SealConfig> {
        let config = self.seal_config().await?.ok_or_else(|| Error::bad_request("server is not yet initialized"))?;
        match config.seal_type() {
            daypass_barrier::SealType::Shamir => Ok(config),
            daypass_barrier::SealType::KeyFile => Err(Error::bad_request(
                "this server's seal is a key file, not shares: nobody holds recovery keys that could authorise this; use a root token, or \
                 another with the rights that are needed",
            )),
        }
    }
}

/// Encryptions under one data key, far from the 2^32 at which random nonces begin to be a risk. Vault's number.
pub(crate) const OPERATIONS_MAX: i64 = 3_865_470_566;
const PREVIOUS: &str = "seal-previous";
const NOT_IN_FORCE: &str = "the shares are not of the seal in force";
/// How long old shares wait for the answer with the new ones: longer than a listener takes to tell what became of it.
pub(crate) const DELIVERY_MAX: Duration = Duration::from_secs(10);
