//! Who shares and root tokens are for: with OpenPGP keys, each holder gets a message that nobody else can read.
//!
//! The keys come from strangers (`sys/init` and `sys/rekey/init` ask for no token), so one request at a time reads them, off the
//! runtime. What is encrypted is the text that people type: a share in hex, a token as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use daypass_barrier::{PgpError, Recipient, Share, shamir};
use daypass_base::Secret;
use daypass_sdk::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::node::{Inner, Unsealed, core_key};

/// Shares on their way to those who will hold them.
pub(crate) enum Handout {
    Clear(Vec<Share>),
    /// In the order of the keys: whose it is, and an OpenPGP message with the share in hex.
    Encrypted(Vec<(String, Vec<u8>)>),
}

/// For whom `sys/init` is asked to encrypt: public keys in base64, as they were sent.
#[derive(Default)]
pub(crate) struct Holders {
    pub(crate) shares: Vec<String>,
    pub(crate) root: Option<String>,
}

/// What `sys/init` hands out.
pub(crate) struct Prepared {
    pub(crate) shares: Handout,
    /// In clear, or base64 of an OpenPGP message.
    pub(crate) root_token: Secret<String>,
}

/// Encrypted shares that are kept for holders who lose theirs: `sys/rekey/backup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backup {
    /// Of the rekey that made them.
    pub(crate) nonce: String,
    /// By fingerprint, in hex: a holder may have several shares.
    pub(crate) keys: BTreeMap<String, Vec<String>>,
}

impl Handout {
    pub(crate) fn hex(&self) -> Vec<String> {
        match self {
            // Exposed to be handed to the people, once: this answer is the only place where the shares ever stand.
            Self::Clear(shares) => shares.iter().map(|share| shamir::encode_hex(share).expose().clone()).collect(),
            Self::Encrypted(messages) => messages.iter().map(|(_, message)| HEXLOWER.encode(message)).collect(),
        }
    }

    pub(crate) fn base64(&self) -> Vec<String> {
        match self {
            // The same shares in the other form.
            Self::Clear(shares) => shares.iter().map(|share| shamir::encode_base64(share).expose().clone()).collect(),
            Self::Encrypted(messages) => messages.iter().map(|(_, message)| BASE64.encode(message)).collect(),
        }
    }

    /// Whose they are; `None` where they are in clear.
    pub(crate) fn fingerprints(&self) -> Option<Vec<&str>> {
        match self {
            Self::Clear(_) => None,
            Self::Encrypted(messages) => Some(messages.iter().map(|(fingerprint, _)| fingerprint.as_str()).collect()),
        }
    }

    /// What is kept of them, if they are encrypted.
    pub(super) fn backup(&self, nonce: &str) -> Option<Backup> {
        let Self::Encrypted(messages) = self else { return None };
        let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (fingerprint, message) in messages {
            keys.entry(fingerprint.clone()).or_default().push(HEXLOWER.encode(message));
        }
        Some(Backup { nonce: nonce.to_owned(), keys })
    }
}

impl Inner {
    /// Reads public keys. Errors: `BadRequest` with Vault's text for the first that is none or must not be used, after `what`.
    pub(crate) async fn recipients(&self, texts: Vec<String>, what: &'static str) -> Result<Vec<Recipient>> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let turn = Arc::clone(&self.reading_keys).lock_owned().await;
        let now = self.clock.now();
        let work = move || {
            let read = texts.iter().map(|text| Recipient::parse(text, now)).collect::<Result<Vec<_>, PgpError>>();
            // The turn ends with the work, even when the caller has given up meanwhile.
            drop(turn);
            read
        };
        let read =
            tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal("reading PGP keys ended early").because(error))?;
        read.map_err(|error| Error::bad_request(format!("{what}{error}")).because(error))
    }

    /// Shares for these holders, in their order; in clear where there are none.
    pub(crate) async fn hand_out(&self, shares: &[Share], holders: &[Recipient]) -> Result<Handout> {
        if holders.is_empty() {
            return Ok(Handout::Clear(shares.to_vec()));
        }
        if holders.len() != shares.len() {
            return Err(Error::internal("mismatch between number items to encrypt and number of PGP keys"));
        }
        let pairs: Vec<(Recipient, Secret<String>)> = holders.iter().cloned().zip(shares.iter().map(shamir::encode_hex)).collect();
        let (entropy, now) = (Arc::clone(&self.entropy), self.clock.now());
        let work = move || {
            let encrypt = |(holder, text): (Recipient, Secret<String>)| {
                holder.encrypt(&text, &*entropy, now).map(|message| (holder.fingerprint().to_owned(), message))
            };
            pairs.into_iter().map(encrypt).collect::<Result<Vec<_>, PgpError>>()
        };
        let made =
            tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal("encrypting shares ended early").because(error))?;
        made.map(Handout::Encrypted).map_err(|error| Error::internal("shares could not be encrypted").because(error))
    }

    /// A token for this holder, as base64 of an OpenPGP message.
    pub(crate) fn for_holder(&self, token: &Secret<String>, holder: &Recipient) -> Result<Secret<String>> {
        let message = holder.encrypt(token, &*self.entropy, self.clock.now());
        let message = message.map_err(|error| Error::internal("the root token could not be encrypted").because(error))?;
        Ok(Secret::new(BASE64.encode(&message)))
    }
}

/// The encrypted shares that a rekey kept.
pub(crate) async fn backup(unsealed: &Unsealed) -> Result<Option<Backup>> {
    Ok(unsealed.rows.get_json(&core_key(BACKUP)).await?.map(|(backup, _)| backup))
}

/// Removes them, if there are any.
pub(crate) async fn delete_backup(unsealed: &Unsealed) -> Result<()> {
    unsealed.rows.commit(daypass_storage::Batch::new().delete(core_key(BACKUP))).await?;
    Ok(())
}

/// Where they are kept, under the barrier.
pub(super) const BACKUP: &str = "shares-backup";
