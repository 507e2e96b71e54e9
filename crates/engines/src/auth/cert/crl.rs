//! A revocation list: pure.

use daypass_sdk::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::pem;
use super::trusted::Origin;

/// A list as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Stored {
    /// In base64.
    der: String,
    /// Where it is fetched from; empty for one that was brought.
    pub(super) url: String,
    /// When it was fetched.
    pub(super) fetched: Timestamp,
}

/// A list that has been read.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Stored")]
pub(super) struct Crl {
    pub(super) stored: Stored,
    pub(super) list: CertRevocationList<'static>,
    this_update: Timestamp,
    next_update: Timestamp,
}

impl Stored {
    pub(super) fn of(der: &[u8], url: &str, fetched: Timestamp) -> Self {
        Self { der: data_encoding::BASE64.encode(der), url: url.to_owned(), fetched }
    }
}

impl TryFrom<Stored> for Crl {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let der = pem::list(&stored.der)?;
        Self::read(&der, stored)
    }
}

impl Crl {
    /// Reads a list in DER. Errors: what is wrong with it.
    pub(super) fn read(der: &[u8], stored: Stored) -> Result<Self, String> {
        if der.len() > LIST_BYTES_MAX {
            return Err(format!("it has {} bytes; at most {LIST_BYTES_MAX} are allowed", der.len()));
        }
        let list = OwnedCertRevocationList::from_der(der).map_err(|error| error.to_string())?;
        let (_, times) = CertificateRevocationList::from_der(der).map_err(|_its_text_says_no_more| "it cannot be read".to_owned())?;
        let next_update = times.next_update().ok_or("it does not say when it is out of date")?;
        Ok(Self {
            stored,
            list: list.into(),
            this_update: Timestamp::from_seconds(times.last_update().timestamp()),
            next_update: Timestamp::from_seconds(next_update.timestamp()),
        })
    }

    /// Whether it names a certificate: by its issuer and number, whoever signed the list.
    pub(super) fn names(&self, origin: &Origin) -> bool {
        // A list that cannot be searched names everything of its issuer.
        self.list.issuer() == origin.issuer && !matches!(self.list.find_serial(&origin.serial), Ok(None))
    }

    /// Whether it may replace `old`: the same issuer's, and not older. Errors: why not.
    pub(super) fn may_replace(&self, old: &Self) -> Result<(), &'static str> {
        if self.list.issuer() != old.list.issuer() {
            return Err("the list that was fetched is another issuer's than the one before");
        }
        if self.this_update < old.this_update {
            return Err("the list that was fetched is older than the one before");
        }
        Ok(())
    }

    /// Whether it is time to fetch it again.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let age = now.since(self.stored.fetched).as_secs();
        !self.stored.url.is_empty() && (age >= REFRESH_SECONDS || now.seconds() + EARLY_SECONDS >= self.next_update.seconds())
    }

    /// As a read shows it.
    pub(super) fn shown(&self) -> Map<String, Value> {
        let der = pem::list(&self.stored.der).unwrap_or_default();
        let mut serials = Map::new();
        if let Ok((_, list)) = CertificateRevocationList::from_der(&der) {
            serials.extend(list.iter_revoked_certificates().map(|one| (one.user_certificate.to_string(), json!({}))));
        }
        let from = (!self.stored.url.is_empty()).then(|| json!({ "url": self.stored.url, "valid_until": self.next_update }));
        Map::from_iter([("cdp".to_owned(), json!(from)), ("serials".to_owned(), Value::Object(serials))])
    }
}

/// Longest list, in bytes of DER: what a fetched answer may have; some ten thousand entries.
pub(super) const LIST_BYTES_MAX: usize = daypass_idp::ANSWER_MAX;
/// A list is fetched again after so long, whatever it says of itself: the sooner a revocation counts.
const REFRESH_SECONDS: u64 = 3_600;
/// A list is fetched again so long before it is out of date.
const EARLY_SECONDS: i64 = 600;
