//! A new root token for those who hold enough shares: `sys/generate-root`.

use std::net::IpAddr;
use std::sync::Arc;

use data_encoding::BASE64_NOPAD;
use daypass_barrier::{Share, Step};
use daypass_base::Secret;
use daypass_sdk::{Error, Result};
use daypass_storage::Batch;
use zeroize::Zeroizing;

use super::NOT_IN_FORCE;
use super::ceremony::{Cover, RootAttempt, means};
use super::rekey::Proof;
use crate::ids;
use crate::node::{Inner, Unsealed};

/// How far an attempt at a root token is.
#[derive(Debug, Default)]
pub(crate) struct RootProgress {
    pub(crate) nonce: String,
    pub(crate) started: bool,
    pub(crate) progress: usize,
    pub(crate) required: u8,
    /// Whose key the token is encrypted to; empty with a one-time password.
    pub(crate) fingerprint: String,
    /// The token, hidden with the one-time password or encrypted; when it is done.
    pub(crate) encoded: Option<Secret<String>>,
}

/// How a new root token is asked to be hidden.
pub(crate) enum Wanted {
    /// With a one-time password that is made up here.
    Any,
    Otp(Secret<String>),
    /// With a public key in base64, as it was sent.
    Pgp(String),
}

impl RootProgress {
    fn of(attempt: &RootAttempt) -> Self {
        let progress = attempt.proof.progress();
        let fingerprint = match &attempt.cover {
            Cover::Otp(_) => String::new(),
            Cover::Pgp(holder) => holder.fingerprint().to_owned(),
        };
        let (started, encoded) = (true, None);
        Self { nonce: attempt.nonce.clone(), started, progress: progress.progress, required: progress.threshold, fingerprint, encoded }
    }
}

impl Inner {
    /// How far it is. Errors: `BadRequest` before initialisation, `Sealed`.
    pub(crate) async fn root_progress(&self) -> Result<RootProgress> {
        let config = self.seal_config().await?.ok_or_else(|| Error::bad_request("server is not yet initialized"))?;
        let unsealed = self.unsealed()?;
        let ceremonies = unsealed.ceremonies.lock().await;
        let idle = || RootProgress { required: config.threshold(), ..RootProgress::default() };
        Ok(ceremonies.root.as_ref().map_or_else(idle, RootProgress::of))
    }

    /// Starts an attempt, for whoever asks from there. Returns the one-time password if it was made here.
    /// Errors: `BadRequest` with Vault's texts, `Sealed`, `TooMany`.
    pub(crate) async fn start_root(&self, wanted: Wanted, from: Option<IpAddr>) -> Result<(RootProgress, Option<Secret<String>>)> {
        let config = self.shamir_config().await?;
        // Exposed to be measured.
        if matches!(&wanted, Wanted::Otp(otp) if otp.expose().len() != OTP_LENGTH) {
            return Err(Error::bad_request("OTP string is wrong length"));
        }
        let unsealed = self.unsealed()?;
        // Looked at before a key is read as well: whoever disturbs a running attempt costs nothing.
        unsealed.ceremonies.lock().await.no_root()?;
        let (cover, made) = match wanted {
            Wanted::Otp(otp) => (Cover::Otp(otp), None),
            Wanted::Any => {
                let otp = Secret::new(self.entropy.base62(OTP_LENGTH));
                (Cover::Otp(otp.clone()), Some(otp))
            }
            Wanted::Pgp(key) => {
                let mut read = self.recipients(vec![key], from, "error parsing PGP key: ").await?;
                let holder = read.pop().ok_or_else(|| Error::bad_request("could not acquire PGP key entity"))?;
                (Cover::Pgp(Box::new(holder)), None)
            }
        };
        let mut ceremonies = unsealed.ceremonies.lock().await;
        ceremonies.no_root()?;
        let proof = self.proof(&unsealed, &config, Proof::InForce).await?;
        let attempt = ceremonies.root.insert(RootAttempt { nonce: ids::uuid(&*self.entropy), cover, proof });
        Ok((RootProgress::of(attempt), made))
    }

    /// Gives an attempt up, if there is one.
    pub(crate) async fn cancel_root(&self) -> Result<()> {
        self.unsealed()?.ceremonies.lock().await.root = None;
        Ok(())
    }

    /// Takes a share; the last one brings the token. Errors: `BadRequest` with Vault's texts, `Sealed`.
    pub(crate) async fn update_root(&self, share: Share, nonce: &str) -> Result<RootProgress> {
        check(&share)?;
        let unsealed = self.unsealed()?;
        let mut ceremonies = unsealed.ceremonies.lock().await;
        let attempt = ceremonies.root.as_mut().ok_or_else(|| Error::bad_request("no root generation in progress"))?;
        means(nonce, &attempt.nonce, "root generation")?;
        let opened = match attempt.proof.submit(share, &*self.entropy) {
            Ok(Step::Progress(_)) => return Ok(RootProgress::of(attempt)),
            Ok(Step::Repeated(_)) => {
                return Err(Error::bad_request("given key has already been provided during this generation operation"));
            }
            Ok(Step::Ready(opened)) if unsealed.rows.barrier().has_root(&opened.root) => opened,
            Ok(Step::Ready(_)) => return Err(Error::bad_request(format!("root generation aborted: {NOT_IN_FORCE}"))),
            Err(error) => return Err(Error::bad_request(format!("root generation aborted: {error}"))),
        };
        drop(opened);
        self.new_shares_are_used().await;
        let encoded = self.new_root_token(&unsealed, &attempt.cover).await?;
        let mut done = RootProgress::of(attempt);
        done.progress = usize::from(done.required);
        done.encoded = Some(encoded);
        ceremonies.root = None;
        ceremonies.end_those_of_before();
        tracing::warn!("a root token was generated with the shares of the root key");
        Ok(done)
    }

    async fn new_root_token(&self, unsealed: &Arc<Unsealed>, cover: &Cover) -> Result<Secret<String>> {
        self.serves(unsealed)?;
        let (made, batch) = unsealed.tokens.in_batch(Batch::new(), self.root_row())?;
        let hidden = match cover {
            // Exposed to be hidden: without the one-time password the result says nothing.
            Cover::Otp(otp) => hide(made.text.expose(), otp.expose())
                .ok_or_else(|| Error::internal("the root token is not of the one-time password's length"))?,
            Cover::Pgp(holder) => self.for_holder(&made.text, holder)?,
        };
        unsealed.rows.commit(batch).await?;
        Ok(hidden)
    }
}

/// That a share is of a length that shares have. Errors: `BadRequest` with Vault's text.
pub(super) fn check(share: &Share) -> Result<()> {
    daypass_barrier::seal::check_length(share).map_err(|error| Error::bad_request(error.to_string()))
}

/// Token xor one-time password, in base64.
fn hide(token: &str, otp: &str) -> Option<Secret<String>> {
    let mixed: Zeroizing<Vec<u8>> = Zeroizing::new(token.bytes().zip(otp.bytes()).map(|(token, otp)| token ^ otp).collect());
    (token.len() == otp.len()).then(|| Secret::new(BASE64_NOPAD.encode(&mixed)))
}

/// A root token's length: `hvs.` and 24 characters.
pub(crate) const OTP_LENGTH: usize = 28;
