//! New shares, a new seal key and a new root key, authorised by the old shares: `sys/rekey`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use daypass_barrier::{Barrier, NewSeal, Opened, Rekeyed, Seal, SealConfig, SealingError, Share, Step, Under, Unsealing};
use daypass_base::{Delivery, Fate, Receipt};
use daypass_sdk::{Error, Result};
use subtle::ConstantTimeEq;

use super::ceremony::{Ceremonies, RekeyAttempt, Verification, means};
use super::holders::{BACKUP, Backup, Handout};
use super::root::check;
use super::{Before, Keys, NOT_IN_FORCE, PREVIOUS, PreviousSeal};
use crate::ids;
use crate::node::{Inner, SEAL_CONFIG, SEALED_KEYRING, SEALED_ROOT, Unsealed, core_key};
use crate::rows::config_key;

/// How far a rekey is.
#[derive(Debug, Default)]
pub(crate) struct RekeyProgress {
    pub(crate) nonce: String,
    pub(crate) started: bool,
    pub(crate) shares: u8,
    pub(crate) threshold: u8,
    pub(crate) progress: usize,
    pub(crate) required: u8,
    pub(crate) verify: bool,
    /// Whose keys the new shares are encrypted to; empty where they are handed out in clear.
    pub(crate) fingerprints: Vec<String>,
    pub(crate) backup: bool,
    /// Empty until the new shares are out.
    pub(crate) verification_nonce: String,
}

/// What the last old share brought.
pub(crate) struct NewShares {
    pub(crate) nonce: String,
    pub(crate) shares: Handout,
    /// The encrypted shares are kept.
    pub(crate) backup: bool,
    /// Where they must be handed in before they are in force.
    pub(crate) verification_nonce: Option<String>,
    /// To be told that somebody has the new shares; until then the old ones stay. None where nothing is in force yet.
    pub(crate) receipt: Option<Receipt>,
}

/// How new shares are asked for.
pub(crate) struct RekeyStart {
    pub(crate) config: SealConfig,
    /// Whether the new shares must be handed in before they are in force.
    pub(crate) verify: bool,
    /// Public keys in base64, as they were sent: one for each share, or none.
    pub(crate) pgp_keys: Vec<String>,
    /// Who asks.
    pub(crate) from: Option<IpAddr>,
    /// Keep the encrypted shares.
    pub(crate) backup: bool,
}

/// New shares that were verified, and are in force.
pub(crate) struct Verified {
    pub(crate) nonce: String,
    pub(crate) before: SealBefore,
}

/// What became of the seal before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SealBefore {
    Removed,
    /// Whoever has its shares opens a server that is started again with them, until it is removed.
    Stored,
}

/// What an old share brought.
pub(crate) enum RekeyStep {
    Done(NewShares),
    More(RekeyProgress),
}

/// How far a verification is.
pub(crate) struct VerifyProgress {
    pub(crate) nonce: String,
    pub(crate) started: bool,
    pub(crate) shares: u8,
    pub(crate) threshold: u8,
    pub(crate) progress: usize,
}

impl RekeyProgress {
    fn of(attempt: &RekeyAttempt) -> Self {
        let proof = attempt.proof.progress();
        Self {
            nonce: attempt.nonce.clone(),
            started: true,
            shares: attempt.config.shares(),
            threshold: attempt.config.threshold(),
            progress: proof.progress,
            required: proof.threshold,
            verify: attempt.verify,
            fingerprints: attempt.holders.iter().map(|holder| holder.fingerprint().to_owned()).collect(),
            backup: attempt.backup,
            verification_nonce: attempt.verification.as_ref().map(|verification| verification.nonce.clone()).unwrap_or_default(),
        }
    }
}

impl Inner {
    /// How far it is. Errors: `BadRequest` before initialisation, `Sealed`.
    pub(crate) async fn rekey_progress(&self) -> Result<RekeyProgress> {
        let config = self.seal_config().await?.ok_or_else(|| Error::bad_request("server is not yet initialized"))?;
        let unsealed = self.unsealed()?;
        let ceremonies = unsealed.ceremonies.lock().await;
        let idle = || RekeyProgress { required: config.threshold(), ..RekeyProgress::default() };
        Ok(ceremonies.rekey.as_ref().map_or_else(idle, RekeyProgress::of))
    }

    /// Starts an attempt at shares. Errors: `BadRequest` with Vault's texts, `Sealed`, `TooMany`.
    pub(crate) async fn start_rekey(&self, start: RekeyStart) -> Result<RekeyProgress> {
        let RekeyStart { config: next, verify, pgp_keys, from, backup } = start;
        let config = self.shamir_config().await?;
        let unsealed = self.unsealed()?;
        // Looked at before the keys are read as well: whoever disturbs a running attempt costs nothing.
        unsealed.ceremonies.lock().await.no_rekey()?;
        let holders = self.recipients(pgp_keys, from, "invalid rekey seal configuration: ").await?;
        let mut ceremonies = unsealed.ceremonies.lock().await;
        ceremonies.no_rekey()?;
        let proof = self.proof(&unsealed, &config, Proof::OrBefore).await?;
        let (nonce, started) = (ids::uuid(&*self.entropy), self.clock.elapsed());
        let attempt = RekeyAttempt { nonce, started, config: next, verify, holders, backup, proof, verification: None };
        Ok(RekeyProgress::of(ceremonies.rekey.insert(attempt)))
    }

    /// Gives an attempt up. A young one is given up only by those who know its nonce: a stranger must not disturb it.
    /// Errors: `BadRequest`, `Sealed`.
    pub(crate) async fn cancel_rekey(&self, nonce: &str) -> Result<()> {
        let unsealed = self.unsealed()?;
        let mut ceremonies = unsealed.ceremonies.lock().await;
        let now = self.clock.elapsed();
        if ceremonies.rekey.as_ref().is_some_and(|attempt| attempt.nonce != nonce && now.saturating_sub(attempt.started) < YOUNG) {
            return Err(Error::bad_request("invalid request"));
        }
        ceremonies.rekey = None;
        Ok(())
    }

    /// What old shares have to open.
    pub(super) async fn proof(&self, unsealed: &Arc<Unsealed>, config: &SealConfig, proof: Proof) -> Result<Unsealing> {
        let mut keys = self.keys.lock().await;
        self.serves(unsealed)?;
        self.retire_previous(&mut keys).await;
        let current = Unsealing::new(config, keys.sealed_root.clone());
        Ok(match (proof, &keys.before) {
            (Proof::InForce, _) | (_, Before::Gone) => current,
            (Proof::OrBefore, _) => self.or_previous(current).await?,
        })
    }

    /// Takes an old share; the last one brings the new ones. Errors: `BadRequest` with Vault's texts, `Sealed`.
    pub(crate) async fn update_rekey(self: &Arc<Self>, share: Share, nonce: &str) -> Result<RekeyStep> {
        check(&share)?;
        let unsealed = self.unsealed()?;
        let mut ceremonies = unsealed.ceremonies.lock().await;
        let attempt = under_way(&mut ceremonies, nonce)?;
        let opened = match attempt.proof.submit(share, &*self.entropy) {
            Ok(Step::Progress(_)) => return Ok(RekeyStep::More(RekeyProgress::of(attempt))),
            Ok(Step::Repeated(_)) => return Err(Error::bad_request("given key has already been provided during this rekey operation")),
            Ok(Step::Ready(opened)) => opened,
            Err(error) => return Err(Error::bad_request(format!("rekey aborted: {error}"))),
        };
        if opened.under == Under::Previous {
            drop(ceremonies);
            self.wait_for_delivery().await;
            ceremonies = unsealed.ceremonies.lock().await;
        }
        let attempt = under_way(&mut ceremonies, nonce)?;
        if !self.still_counts(opened.under).await? || !unsealed.rows.barrier().has_root(&opened.root) {
            return Err(Error::bad_request(format!("rekey aborted: {NOT_IN_FORCE}")));
        }
        if opened.under == Under::Current {
            self.new_shares_are_used().await;
        }
        let next = NewSeal::make(&Seal::Shamir(attempt.config.clone()), &*self.entropy)
            .map_err(|error| Error::internal("no new shares could be made").because(error))?;
        let (nonce, backup) = (attempt.nonce.clone(), attempt.backup);
        // Before anything is stored: new shares that nobody can read would lock everybody out.
        let shares = self.hand_out(next.shares(), &attempt.holders).await?;
        let kept = backup.then(|| shares.backup(&nonce)).flatten();
        if attempt.verify {
            if let Some(kept) = &kept {
                let batch = unsealed.rows.put_json(daypass_storage::Batch::new(), core_key(BACKUP), kept)?;
                unsealed.rows.commit(batch).await?;
            }
            let verification = Verification { nonce: ids::uuid(&*self.entropy), by: opened, next, shares: Vec::new() };
            let verification_nonce = Some(verification.nonce.clone());
            attempt.verification = Some(verification);
            return Ok(RekeyStep::Done(NewShares { nonce, shares, backup, verification_nonce, receipt: None }));
        }
        let (receipt, delivery) = Receipt::pair();
        self.put_in_force(&unsealed, &next, &opened, Some(delivery.clone()), kept.as_ref()).await?;
        self.retire_when_delivered(delivery);
        // What the old shares had begun ends with them.
        *ceremonies = Ceremonies::default();
        Ok(RekeyStep::Done(NewShares { nonce, shares, backup, verification_nonce: None, receipt: Some(receipt) }))
    }

    /// How far the verification is. Errors: `BadRequest` when nothing is to be verified, `Sealed`.
    pub(crate) async fn verify_progress(&self) -> Result<VerifyProgress> {
        let unsealed = self.unsealed()?;
        let ceremonies = unsealed.ceremonies.lock().await;
        let attempt = ceremonies.rekey.as_ref().ok_or_else(|| Error::bad_request("no rekey configuration found"))?;
        Ok(VerifyProgress {
            nonce: attempt.verification.as_ref().map(|verification| verification.nonce.clone()).unwrap_or_default(),
            started: attempt.verification.is_some(),
            shares: attempt.config.shares(),
            threshold: attempt.config.threshold(),
            progress: attempt.verification.as_ref().map_or(0, |verification| verification.shares.len()),
        })
    }

    /// Forgets the new shares handed in so far. Errors: `BadRequest` when nothing is to be verified, `Sealed`.
    pub(crate) async fn restart_verification(&self) -> Result<()> {
        let unsealed = self.unsealed()?;
        let mut ceremonies = unsealed.ceremonies.lock().await;
        let verification = ceremonies.rekey.as_mut().and_then(|attempt| attempt.verification.as_mut());
        let verification = verification.ok_or_else(|| Error::bad_request("no rekey verification in progress"))?;
        verification.shares.clear();
        verification.nonce = ids::uuid(&*self.entropy);
        Ok(())
    }

    /// Takes a new share; with the last one needed the new keys are in force.
    /// Errors: `BadRequest` with Vault's texts, `Sealed`.
    pub(crate) async fn verify_rekey(self: &Arc<Self>, share: Share, nonce: &str) -> Result<Option<Verified>> {
        check(&share)?;
        let unsealed = self.unsealed()?;
        let mut ceremonies = unsealed.ceremonies.lock().await;
        let verification = ceremonies.rekey.as_mut().and_then(|attempt| attempt.verification.as_mut());
        let verification = verification.ok_or_else(|| Error::bad_request("no rekey verification in progress"))?;
        means(nonce, &verification.nonce, "verify")?;
        if verification.shares.contains(&share) {
            return Err(Error::bad_request("given key has already been provided during this verify operation"));
        }
        verification.shares.push(share);
        if verification.shares.len() < usize::from(verification.next.config().threshold()) {
            return Ok(None);
        }
        let shares = std::mem::take(&mut verification.shares);
        if !verification.next.opens_with(&shares) {
            return Err(Error::bad_request("rekey verification failed; incorrect key shares supplied"));
        }
        // Somebody may have got the shares of the last rekey since: those from before it do not exchange them any more.
        if !self.still_counts(verification.by.under).await? {
            ceremonies.end_those_of_before();
            return Err(Error::bad_request(format!("rekey aborted: {NOT_IN_FORCE}")));
        }
        let nonce = verification.nonce.clone();
        // Whoever handed the new shares in has them.
        let before = self.put_in_force(&unsealed, &verification.next, &verification.by, None, None).await?;
        if before == SealBefore::Removed {
            tracing::warn!("the shares of the root key were exchanged and verified; the old ones open nothing any more");
        }
        *ceremonies = Ceremonies::default();
        Ok(Some(Verified { nonce, before }))
    }

    /// Stores a new seal, root key and keyring in one step and takes them into use. `old` is what the shares opened that authorised it; `delivery` tells when
    /// somebody has the new ones, where nobody is known to have them yet; `kept` are encrypted copies of the new ones. Says what became of the old seal.
    /// Errors: `BadRequest` where these shares count no more, `Sealed`, what the store says.
    ///
    /// The old seal is kept beside the new one even where somebody has the new shares, and removed by a second commit: whoever is told that the first failed may throw
    /// the new ones away, and a commit whose answer was lost may be found by the next start though no read shows it now.
    async fn put_in_force(
        self: &Arc<Self>,
        unsealed: &Arc<Unsealed>,
        next: &NewSeal,
        old: &Opened,
        delivery: Option<Delivery>,
        kept: Option<&Backup>,
    ) -> Result<SealBefore> {
        let mut keys = self.keys.lock().await;
        self.serves(unsealed)?;
        if !self.counts(&mut keys, old.under).await? {
            return Err(Error::bad_request(format!("rekey aborted: {NOT_IN_FORCE}")));
        }
        let barrier = unsealed.rows.barrier();
        let failed = |error: daypass_barrier::SealingError| Error::internal("the new root key could not be sealed").because(error);
        let mut batch = self.change_of_keys(&keys).await?;
        let made = next.rekey(barrier).map_err(failed)?;
        batch = batch
            .put(config_key(SEAL_CONFIG), made.config.to_json())
            .put(config_key(SEALED_ROOT), made.sealed_root.clone())
            .put(config_key(SEALED_KEYRING), made.sealed_keyring.clone());
        batch = batch.put(core_key(PREVIOUS), self.previous_seal(&made, old, barrier).await?);
        if let Some(kept) = kept {
            batch = unsealed.rows.put_json(batch, core_key(BACKUP), kept)?;
        }
        if let Err(failure) = unsealed.rows.commit(batch).await
            && !self.is_stored(&made).await
        {
            return Err(failure.into());
        }
        let before = delivery.map_or(Before::Retired, Before::UntilDelivered);
        *keys = Keys { sealed_root: made.sealed_root.clone(), before };
        made.adopt(barrier);
        self.retire_previous(&mut keys).await;
        Ok(if matches!(keys.before, Before::Gone) { SealBefore::Removed } else { SealBefore::Stored })
    }

    /// The seal that `old` is of, over the new root key, as it is stored.
    async fn previous_seal(&self, made: &Rekeyed, old: &Opened, barrier: &Barrier) -> Result<Vec<u8>> {
        let sealed_root = made
            .under_the_old_seal(old, barrier)
            .map_err(|error| Error::internal("the new root key could not be sealed").because(SealingError::from(error)))?;
        let config = self.config_of(old.under).await?;
        let config = serde_json::from_slice(&config.to_json()).map_err(|error| Error::internal("a seal is no JSON").because(error))?;
        serde_json::to_vec(&PreviousSeal { config, sealed_root })
            .map_err(|error| Error::internal("the previous seal cannot be stored").because(error))
    }

    /// The configuration of the seal in force, or of the one before.
    async fn config_of(&self, under: Under) -> Result<SealConfig> {
        let found = match under {
            Under::Current => self.seal_config().await?,
            Under::Previous => self.previous().await?.map(|(config, _)| config),
        };
        found.ok_or_else(|| Error::internal("the seal's configuration is missing from the store"))
    }

    async fn still_counts(&self, under: Under) -> Result<bool> {
        self.counts(&mut *self.keys.lock().await, under).await
    }

    /// Whether shares of this seal authorise something now: those of before do not once the new ones reached somebody.
    async fn counts(&self, keys: &mut Keys, under: Under) -> Result<bool> {
        if under == Under::Current {
            return Ok(true);
        }
        self.retire_previous(keys).await;
        Ok(matches!(keys.before, Before::UntilDelivered(_)) && self.previous().await?.is_some())
    }

    /// After a commit whose answer was lost: whether it took effect.
    async fn is_stored(&self, made: &Rekeyed) -> bool {
        matches!(self.stored(SEALED_ROOT).await, Ok(Some(stored)) if bool::from(stored.ct_eq(&made.sealed_root)))
    }

    /// Removes the seal from before once the answer with the new shares has reached its client, also when the server was sealed meanwhile: that needs
    /// no key. Where the answer is lost, the old shares stay good: else nobody could open this server again.
    fn retire_when_delivered(self: &Arc<Self>, delivery: Delivery) {
        // Weakly: a core that is dropped does not wait for an answer.
        let inner = Arc::downgrade(self);
        self.await_delivery(async move {
            let fate = delivery.known().await;
            let Some(inner) = inner.upgrade() else { return };
            match fate {
                Fate::Delivered => inner.retire_previous(&mut *inner.keys.lock().await).await,
                // Not where new shares were used meanwhile.
                Fate::Lost | Fate::OnItsWay if inner.old_shares_serve().await.unwrap_or(true) => tracing::error!(
                    "the shares of the root key were exchanged, but the new ones did not reach whoever asked for them: the OLD SHARES STILL OPEN \
                     this server, until new ones are used; exchange them again with the old ones (sys/rekey)"
                ),
                Fate::Lost | Fate::OnItsWay => {}
            }
        });
    }
}

/// The attempt that a share is for. Errors: `BadRequest` with Vault's texts.
fn under_way<'a>(ceremonies: &'a mut Ceremonies, nonce: &str) -> Result<&'a mut RekeyAttempt> {
    let attempt = ceremonies.rekey.as_mut().ok_or_else(|| Error::bad_request("no barrier rekey in progress"))?;
    means(nonce, &attempt.nonce, "rekey")?;
    if let Some(verification) = &attempt.verification {
        return Err(Error::bad_request(format!(
            "rekey operation already finished; verification must be performed; nonce for the verification operation is {:?}",
            verification.nonce
        )));
    }
    Ok(attempt)
}

/// Whose shares count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// Those of the seal in force.
    InForce,
    /// Also those of the seal before, for as long as nobody is known to have the new ones.
    OrBefore,
}

/// How long a rekey is safe from those who do not know its nonce.
const YOUNG: Duration = Duration::from_mins(10);
