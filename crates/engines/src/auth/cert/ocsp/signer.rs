//! Whose signatures count: authorities and responders, as their certificates tell.

use std::time::Duration;

use daypass_sdk::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::super::chain::ForClients;

/// A certificate by which answers are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Signer {
    pub(super) der: Vec<u8>,
    /// Its subject in DER.
    pub(super) name: Vec<u8>,
    /// The bits of its public key.
    pub(super) key: Vec<u8>,
    /// Whether it may issue certificates.
    authority: bool,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Signer {
    /// Reads a certificate in DER. Errors: what is wrong with it.
    pub(in super::super) fn read(der: &[u8]) -> Result<Self, String> {
        let damaged = || "it is no X.509 certificate".to_owned();
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_its_text_says_no_more| damaged())?;
        if !rest.is_empty() || parsed.extensions_map().is_err() {
            return Err(damaged());
        }
        EndEntityCert::try_from(&CertificateDer::from(der)).map_err(|error| error.to_string())?;
        let usage = parsed.key_usage().map_err(|_twice| damaged())?.map(|found| found.value);
        Ok(Self {
            der: der.to_vec(),
            name: parsed.subject().as_raw().to_vec(),
            key: parsed.public_key().subject_public_key.data.to_vec(),
            authority: parsed.is_ca() && usage.is_none_or(x509_parser::extensions::KeyUsage::key_cert_sign),
            not_before: Timestamp::from_seconds(parsed.validity().not_before.timestamp()),
            not_after: Timestamp::from_seconds(parsed.validity().not_after.timestamp()),
        })
    }

    /// The one of these certificates that issued a client's. `None` when nobody of them did.
    pub(in super::super) fn who_issued(own: &[u8], others: &[Vec<u8>]) -> Option<Self> {
        others.iter().filter_map(|der| Self::read(der).ok()).find(|signer| signer.issued(own))
    }

    /// Its certificate.
    pub(in super::super) fn into_der(self) -> Vec<u8> {
        self.der
    }

    fn issued(&self, own: &[u8]) -> bool {
        let own = CertificateDer::from(own);
        let (Ok(own), Ok(anchor), true) = (EndEntityCert::try_from(&own), self.anchor(), self.authority) else { return false };
        // Any time at which both are valid: this asks for the signature.
        let at = moment(self.not_before.max(Self::read(&own.der()).map_or(self.not_before, |own| own.not_before)));
        own.verify_for_usage(ALL_VERIFICATION_ALGS, &[anchor], &[], at, ForClients, None, None).is_ok()
    }

    pub(super) fn is_valid_at(&self, now: Timestamp) -> bool {
        // Certificates end with the last second that they name.
        self.not_before.seconds() <= now.seconds() && now.seconds() <= self.not_after.seconds()
    }

    pub(super) fn may_issue(&self) -> bool {
        self.authority
    }

    /// Itself as what vouches for others.
    pub(super) fn anchor(&self) -> Result<TrustAnchor<'static>, webpki::Error> {
        webpki::anchor_from_trusted_cert(&CertificateDer::from(self.der.as_slice())).map(|anchor| anchor.to_owned())
    }

    /// Whether its key made a signature. SHA-1 is not among the algorithms.
    pub(super) fn signed(&self, covered: &[u8], algorithm: &[u8], signature: &[u8]) -> bool {
        let der = CertificateDer::from(self.der.as_slice());
        let Ok(certificate) = EndEntityCert::try_from(&der) else { return false };
        let mut fitting = ALL_VERIFICATION_ALGS.iter().filter(|one| one.signature_alg_id().as_ref() == algorithm);
        fitting.any(|one| certificate.verify_signature(*one, covered, signature).is_ok())
    }
}

pub(super) fn moment(now: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.seconds()).unwrap_or(0)))
}
