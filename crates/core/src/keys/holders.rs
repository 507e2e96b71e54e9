//! Who shares and root tokens are for: with OpenPGP keys, each holder gets a message that nobody else can read.
//!
//! The keys come from strangers (`sys/init` and `sys/rekey/init` ask for no token), so they are read one at a time, off the runtime, in turn
//! for a few requests ([`KeyReaders`]). What is encrypted is the text that people type: a share in hex, a token as it is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use daypass_barrier::pgp::KeyReader;
use daypass_barrier::{PgpError, Recipient, Share, shamir};
use daypass_base::{Place, Places, Seconds, Secret};
use daypass_sdk::{Error, Kind, Result};
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
    /// Who asks.
    pub(crate) from: Option<IpAddr>,
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
    /// Reads public keys for whoever asks from there. Errors: `BadRequest` with Vault's text for the first that is none or must not be used, after
    /// `what`; `TooMany` where others have theirs read.
    pub(crate) async fn recipients(&self, texts: Vec<String>, from: Option<IpAddr>, what: &'static str) -> Result<Vec<Recipient>> {
        let mut read = Vec::with_capacity(texts.len());
        if texts.is_empty() {
            return Ok(read);
        }
        let _place = self.key_readers.place(from)?;
        let mut reader = KeyReader::new(self.clock.now());
        for text in texts {
            // One key at a time: a request with many lets others go in between.
            let turn = Arc::clone(&self.key_readers.turn).lock_owned().await;
            let work = move || {
                let one = reader.read(&text);
                // The turn ends with the work, even when the caller has given up meanwhile.
                drop(turn);
                (reader, one)
            };
            let (back, one) =
                tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal("reading PGP keys ended early").because(error))?;
            reader = back;
            read.push(one.map_err(|error| refused(what, error))?);
        }
        Ok(read)
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

/// What the client is told of a key, without the words of the library: these are for the log.
fn refused(what: &str, error: PgpError) -> Error {
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    tracing::debug!(%error, cause, "a PGP key was refused");
    Error::bad_request(format!("{what}{error}")).because(error)
}

/// Requests that have keys read: a few, and one from each address, so that a stranger who asks again and again takes nobody else's place.
pub(crate) struct KeyReaders {
    places: Places,
    /// Held while a key is read.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Default for KeyReaders {
    fn default() -> Self {
        Self { places: Places::new(READERS_MAX, 1), turn: Arc::default() }
    }
}

impl KeyReaders {
    /// Never waits. Errors: `TooMany`.
    fn place(&self, from: Option<IpAddr>) -> Result<Place> {
        let text = "PGP keys of another request are being read: try again in a moment";
        self.places.take(from).ok_or_else(|| Error::new(Kind::TooMany, text).retry_after(Seconds(1)))
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
/// Requests whose keys are read in turn: each of them may take a few seconds by itself.
const READERS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_have_their_keys_read_and_each_address_once() {
        let readers = KeyReaders::default();
        let place = |address: &str| readers.place(address.parse().ok());
        let first = place("192.0.2.1").unwrap();
        assert_eq!(place("192.0.2.1").err().unwrap().kind, Kind::TooMany);
        drop(first);
        let all: Vec<Place> = (0..8).map(|last| place(&format!("192.0.2.{last}")).unwrap()).collect();
        assert!(place("192.0.2.8").is_err());
        assert!(readers.place(None).is_err());
        drop(all);
        assert!(readers.place(None).is_ok(), "a unix socket has a place like an address");
    }
}
