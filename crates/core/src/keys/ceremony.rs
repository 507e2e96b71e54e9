//! Attempts at a new root token or at new shares: what people's shares authorise, in memory only and for one unsealing only.
//!
//! Bounded: one attempt of each kind, each with fewer shares than the threshold. Dropped when the server is sealed; every part that is a
//! secret is wiped then.

use std::time::Duration;

use daypass_barrier::{NewSeal, Opened, Recipient, SealConfig, Share, Under, Unsealing};
use daypass_base::Secret;
use daypass_sdk::{Error, Result};

/// The attempts under way.
#[derive(Default)]
pub(crate) struct Ceremonies {
    pub(crate) root: Option<RootAttempt>,
    pub(crate) rekey: Option<RekeyAttempt>,
}

/// An attempt at a new root token.
pub(crate) struct RootAttempt {
    pub(crate) nonce: String,
    pub(crate) cover: Cover,
    pub(crate) proof: Unsealing,
}

/// What a new root token will be hidden with.
pub(crate) enum Cover {
    /// A one-time password, as long as the token.
    Otp(Secret<String>),
    Pgp(Box<Recipient>),
}

/// An attempt at new shares.
pub(crate) struct RekeyAttempt {
    pub(crate) nonce: String,
    /// On the clock that only runs forward.
    pub(crate) started: Duration,
    pub(crate) config: SealConfig,
    /// Whether the new shares must be handed in before they are in force.
    pub(crate) verify: bool,
    /// For whom the new shares are encrypted, one key for each share; empty where they are handed out in clear.
    pub(crate) holders: Vec<Recipient>,
    /// Keep the encrypted shares.
    pub(crate) backup: bool,
    pub(crate) proof: Unsealing,
    pub(crate) verification: Option<Verification>,
}

/// New shares that were handed out and are not in force yet.
pub(crate) struct Verification {
    pub(crate) nonce: String,
    /// What the shares opened that authorised it: those from before the last rekey may end before it does.
    pub(crate) by: Opened,
    pub(crate) next: NewSeal,
    pub(crate) shares: Vec<Share>,
}

impl Ceremonies {
    /// That no root token is on its way. Errors: `BadRequest` with Vault's text.
    pub(crate) fn no_root(&self) -> Result<()> {
        match self.root {
            Some(_) => Err(Error::bad_request("root generation already in progress")),
            None => Ok(()),
        }
    }

    /// That no shares are being exchanged. Errors: `BadRequest` with Vault's text.
    pub(crate) fn no_rekey(&self) -> Result<()> {
        match self.rekey {
            Some(_) => Err(Error::bad_request("rekey already in progress")),
            None => Ok(()),
        }
    }

    /// Gives up new shares that those from before the last rekey authorised: these are good for nothing any more.
    pub(crate) fn end_those_of_before(&mut self) {
        self.rekey.take_if(|attempt| attempt.verification.as_ref().is_some_and(|verification| verification.by.under == Under::Previous));
    }
}

/// That a request means this attempt. Errors: `BadRequest` with Vault's text.
pub(crate) fn means(given: &str, nonce: &str, operation: &str) -> Result<()> {
    // A nonce is no secret: whoever asks for the status is told.
    if given == nonce {
        return Ok(());
    }
    Err(Error::bad_request(format!("incorrect nonce supplied; nonce for this {operation} operation is {nonce:?}")))
}
