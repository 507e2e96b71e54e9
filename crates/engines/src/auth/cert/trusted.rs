//! Which certificates an entry trusts: authorities, whose chains are verified and whose own certificates are let in to the letter, or one certificate, which
//! must be shown to the letter.

use daypass_sdk::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::leaf::Leaf;
use super::ocsp::Signer;
use super::pem;

/// What an entry trusts.
#[derive(Debug, Clone)]
pub(super) enum Trusted {
    /// Whatever these vouch for, and themselves.
    Authorities(Vec<Authority>),
    /// This certificate alone.
    Leaf(Box<Pinned>),
}

/// One certificate that is trusted by itself.
#[derive(Debug, Clone)]
pub(super) struct Pinned {
    pub(super) leaf: Leaf,
    pub(super) origin: Origin,
    /// The certificate of its issuer, if that stands behind it. It is never taken from what a client sends along: for a signature that is there, a key can
    /// be made that verifies it.
    pub(super) issuer: Option<Vec<u8>>,
}

/// A trusted authority.
#[derive(Debug, Clone)]
pub(super) struct Authority {
    pub(super) der: Vec<u8>,
    pub(super) anchor: TrustAnchor<'static>,
    pub(super) origin: Origin,
    /// Authorities that may stand between it and a client's certificate.
    pub(super) path_length: Option<u32>,
    /// Whether its key may sign revocation lists.
    pub(super) signs_lists: bool,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Who issued a certificate, and under which number: what revocation lists name. Both as they are encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) issuer: Vec<u8>,
    pub(super) serial: Vec<u8>,
}

impl Origin {
    pub(super) fn of(certificate: &webpki::Cert<'_>) -> Self {
        Self { issuer: certificate.issuer().to_vec(), serial: certificate.serial().to_vec() }
    }
}

impl Trusted {
    /// Reads an entry's PEM text. The first certificate decides: of one that is no authority's, the others are its chain: its issuer among them is who
    /// is asked about it by OCSP, and they mean nothing else.
    /// Errors: what is wrong with it, in Vault's words where there are such.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let certificates = pem::certificates(text).map_err(|why| format!("failed to parse certificate: {why}"))?;
        let first = certificates.first().ok_or("failed to parse certificate")?;
        let leaf = Leaf::read(first).map_err(|why| format!("failed to parse certificate: {why}"))?;
        if leaf.authority {
            return certificates.iter().map(|der| Authority::read(der)).collect::<Result<_, _>>().map(Self::Authorities);
        }
        if !leaf.for_clients {
            return Err("nonCA certificates should have TLS client authentication set as an extended key usage".to_owned());
        }
        let der = CertificateDer::from(first.as_slice());
        let parsed = EndEntityCert::try_from(&der).map_err(|error| format!("failed to parse certificate: {error}"))?;
        let issuer = Signer::who_issued(first, certificates.get(1..).unwrap_or_default());
        Ok(Self::Leaf(Box::new(Pinned { origin: Origin::of(&parsed), issuer: issuer.map(Signer::into_der), leaf })))
    }
}

impl Authority {
    fn read(der: &[u8]) -> Result<Self, String> {
        let damaged = || "failed to parse certificate: it is no X.509 certificate".to_owned();
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_its_text_says_no_more| damaged())?;
        if !rest.is_empty() || parsed.extensions_map().is_err() {
            return Err(damaged());
        }
        let constraints = parsed.basic_constraints().ok().flatten().map(|found| found.value);
        let constraints = constraints.filter(|found| found.ca).ok_or(
            "certificate holds an authority first and then one that is none: make an entry of its own for the certificate of a client",
        )?;
        let usage = parsed.key_usage().map_err(|_twice| damaged())?.map(|found| found.value);
        if usage.is_some_and(|usage| !usage.key_cert_sign()) {
            return Err("the key usage of a certificate does not let it sign certificates, so nobody could log in by it".to_owned());
        }
        let bytes = der.to_vec();
        let der = CertificateDer::from(der);
        let failed = |error: webpki::Error| format!("failed to parse certificate: {error}");
        let origin = EndEntityCert::try_from(&der).map(|parsed| Origin::of(&parsed)).map_err(failed)?;
        Ok(Self {
            der: bytes,
            anchor: webpki::anchor_from_trusted_cert(&der).map_err(failed)?.to_owned(),
            origin,
            path_length: constraints.path_len_constraint,
            signs_lists: usage.is_none_or(x509_parser::extensions::KeyUsage::crl_sign),
            not_before: Timestamp::from_seconds(parsed.validity().not_before.timestamp()),
            not_after: Timestamp::from_seconds(parsed.validity().not_after.timestamp()),
        })
    }

    pub(super) fn is_valid_at(&self, now: Timestamp) -> bool {
        // Certificates end with the last second that they name.
        self.not_before.seconds() <= now.seconds() && now.seconds() <= self.not_after.seconds()
    }
}
