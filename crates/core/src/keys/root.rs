//! A new root token for those who hold enough shares: `sys/generate-root`.

use std::sync::Arc;

use data_encoding::BASE64_NOPAD;
use daypass_barrier::{Share, Step};
use daypass_base::Secret;
use daypass_sdk::{Error, Result};
use daypass_storage::Batch;
use zeroize::Zeroizing;

use super::ceremony::{RootAttempt, means};
use crate::ids;
use crate::node::{Inner, Unsealed};

/// How far an attempt at a root token is.
#[derive(Debug, Default)]
pub(crate) struct RootProgress {
    pub(crate) nonce: String,
    pub(crate) started: bool,
    pub(crate) progress: usize,
    pub(crate) required: u8,
    /// The token, hidden with the one-time password; when it is done.
    pub(crate) encoded: Option<Secret<String>>,
}

impl RootProgress {
    fn of(attempt: &RootAttempt) -> Self {
        let progress = attempt.proof.progress();
        Self { nonce: attempt.nonce.clone(), started: true, progress: progress.progress, required: progress.threshold, encoded: None }
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

    /// Starts an attempt. Returns the one-time password if it was made here. Errors: `BadRequest` with Vault's texts, `Sealed`.
    pub(crate) async fn start_root(&self, otp: Option<Secret<String>>) -> Result<(RootProgress, Option<Secret<String>>)> {
        let config = self.shamir_config().await?;
        // Exposed to be measured.
        if otp.as_ref().is_some_and(|otp| otp.expose().len() != OTP_LENGTH) {
            return Err(Error::bad_request("OTP string is wrong length"));
        }
        let unsealed = self.unsealed()?;
        let mut ceremonies = unsealed.ceremonies.lock().await;
        if ceremonies.root.is_some() {
            return Err(Error::bad_request("root generation already in progress"));
        }
        let proof = self.proof(&unsealed, &config).await?;
        let made = otp.is_none().then(|| Secret::new(self.entropy.base62(OTP_LENGTH)));
        let Some(otp) = otp.or_else(|| made.clone()) else { return Err(Error::internal("there is no one-time password")) };
        let attempt = ceremonies.root.insert(RootAttempt { nonce: ids::uuid(&*self.entropy), otp, proof });
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
            Ok(Step::Ready(_)) => return Err(Error::bad_request("root generation aborted: the shares are not of the seal in force")),
            Err(error) => return Err(Error::bad_request(format!("root generation aborted: {error}"))),
        };
        drop(opened);
        let encoded = self.new_root_token(&unsealed, &attempt.otp).await?;
        let mut done = RootProgress::of(attempt);
        done.progress = usize::from(done.required);
        done.encoded = Some(encoded);
        ceremonies.root = None;
        tracing::warn!("a root token was generated with the shares of the root key");
        Ok(done)
    }

    async fn new_root_token(&self, unsealed: &Arc<Unsealed>, otp: &Secret<String>) -> Result<Secret<String>> {
        self.serves(unsealed)?;
        let (made, batch) = unsealed.tokens.in_batch(Batch::new(), self.root_row())?;
        unsealed.rows.commit(batch).await?;
        // Exposed to be hidden: without the one-time password the result says nothing.
        hide(made.text.expose(), otp.expose()).ok_or_else(|| Error::internal("the root token is not of the one-time password's length"))
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
