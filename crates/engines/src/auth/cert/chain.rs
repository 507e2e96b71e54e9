//! From a client's certificate to a trusted authority: pure. webpki builds and verifies; here is what it leaves to its callers.

use std::sync::Arc;
use std::time::Duration;

use daypass_base::ClientChain;
use daypass_sdk::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    ALL_VERIFICATION_ALGS, EndEntityCert, Error, ExpirationPolicy, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, KeyUsage,
    RequiredEkuNotFoundContext, RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::crl::Crl;
use super::leaf::Leaf;
use super::trusted::{Authority, Origin, Pinned};
use super::unread;

/// Why a certificate is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No trusted authority vouches for it.
    Unknown,
    /// One might, but something about it is wrong; in Vault's words where there are such.
    Unsound(String),
    /// An authority or the certificate was revoked, or nobody can tell.
    Revoked(&'static str),
}

/// A chain that was verified: the client's certificate, those between, and the trusted one. In DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(Arc<[Vec<u8>]>);

impl Path {
    pub(super) fn of(certificates: Vec<Vec<u8>>) -> Self {
        Self(certificates.into())
    }

    /// Each certificate but the trusted one, with that of its issuer.
    pub(super) fn links(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().zip(self.0.iter().skip(1)).map(|(own, issuer)| (own.as_slice(), issuer.as_slice()))
    }
}

/// What certificates are judged by.
pub(super) struct Judge<'a> {
    pub(super) now: Timestamp,
    pub(super) lists: &'a [Arc<Crl>],
}

impl Judge<'_> {
    /// Whether a client's certificate may be used at all now, whoever vouches for it.
    pub(super) fn usable(&self, leaf: &Leaf) -> Result<(), Refusal> {
        let unsound = |why: &str, limit: Timestamp| {
            let text = format!("x509: certificate has expired or is not yet valid: current time {} is {why} {limit}", self.now);
            Err(Refusal::Unsound(text))
        };
        if self.now.seconds() < leaf.not_before.seconds() {
            return unsound("before", leaf.not_before);
        }
        if self.now.seconds() > leaf.not_after.seconds() {
            return unsound("after", leaf.not_after);
        }
        if !leaf.for_clients {
            return Err(Refusal::Unsound("x509: certificate specifies an incompatible key usage".to_owned()));
        }
        Ok(())
    }

    /// Whether a certificate that is trusted by itself still is.
    pub(super) fn pinned(&self, pinned: &Pinned) -> Result<(), Refusal> {
        self.not_named(&pinned.origin)
    }

    /// Whether a trusted authority that is the client itself still is.
    pub(super) fn authority(&self, authority: &Authority) -> Result<(), Refusal> {
        self.not_named(&authority.origin)
    }

    /// The path by which one of these authorities vouches for the client's certificate.
    pub(super) fn vouched(&self, chain: &ClientChain, authorities: &[Authority]) -> Result<Path, Refusal> {
        let own = CertificateDer::from(chain.own().ok_or(Refusal::Unknown)?);
        let own = EndEntityCert::try_from(&own).map_err(|error| explained(error, chain, &[]))?;
        let authorities: Vec<&Authority> = authorities.iter().filter(|authority| authority.is_valid_at(self.now)).collect();
        let anchors: Vec<TrustAnchor<'_>> = authorities.iter().map(|authority| authority.anchor.clone()).collect();
        let between: Vec<CertificateDer<'_>> = chain.sent_along().map(CertificateDer::from).collect();
        few_of_one_name(&between)?;
        let why = std::cell::RefCell::new(None);
        let trusted_by = |path: &VerifiedPath<'_>| {
            let found = anchors.iter().zip(&authorities).find(|(anchor, _)| std::ptr::eq(*anchor, path.anchor()));
            found.map(|(_, authority)| *authority).ok_or(Error::UnknownIssuer)
        };
        let check = |path: &VerifiedPath<'_>| {
            let authority = trusted_by(path)?;
            self.path(&own, path, authority).map_err(|(error, refusal)| {
                *why.borrow_mut() = Some(refusal);
                error
            })
        };
        match own.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &between, self.moment(), ForClients, None, Some(&check)) {
            Ok(path) => {
                let between = path.intermediate_certificates().map(|certificate| certificate.der().to_vec());
                let authority = trusted_by(&path).map_err(refusal)?;
                Ok(Path::of(std::iter::once(own.der().to_vec()).chain(between).chain([authority.der.clone()]).collect()))
            }
            // webpki tells of one error of all the paths that it tried; one that was found and refused here says more.
            Err(error) => Err(why.take().unwrap_or_else(|| explained(error, chain, &authorities))),
        }
    }

    /// Whether a path that is sound for webpki is so in all other respects.
    fn path(&self, own: &EndEntityCert<'_>, path: &VerifiedPath<'_>, authority: &Authority) -> Result<(), (Error, Refusal)> {
        let revoked = |refusal| (Error::CertRevoked, refusal);
        let between = || path.intermediate_certificates();
        let unsound = |error: Error| (error.clone(), refusal(error));
        if authority.path_length.is_some_and(|length| u32::try_from(between().count()).unwrap_or(u32::MAX) > length) {
            return Err(unsound(Error::PathLenConstraintViolated));
        }
        for certificate in between() {
            if !signs_certificates(&certificate.der()) {
                return Err(unsound(Error::EndEntityUsedAsCa));
            }
            self.not_named(&Origin::of(certificate)).map_err(revoked)?;
        }
        self.not_named(&Origin::of(own)).map_err(revoked)?;
        self.not_named(&authority.origin).map_err(revoked)?;
        let issued_by = |issuer: &[u8]| own.issuer() == issuer || between().any(|certificate| certificate.issuer() == issuer);
        for list in self.lists.iter().filter(|crl| issued_by(crl.list.issuer())) {
            self.sound(list, own, path, authority).map_err(revoked)?;
        }
        Ok(())
    }

    /// Whether a list of an issuer on the path was signed by it, is in date and names nobody on the path. One by one: of several lists of
    /// one issuer webpki looks at the first alone.
    fn sound(&self, crl: &Crl, own: &EndEntityCert<'_>, path: &VerifiedPath<'_>, authority: &Authority) -> Result<(), Refusal> {
        if crl.list.issuer() == path.anchor().subject.as_ref() && !authority.signs_lists {
            return Err(Refusal::Revoked("the key usage of a trusted authority does not let it sign its revocation list"));
        }
        let lists = [&crl.list];
        let options = RevocationOptionsBuilder::new(&lists).map_err(|_there_is_one| Refusal::Unknown)?;
        let options = options.with_status_policy(UnknownStatusPolicy::Allow).with_expiration_policy(ExpirationPolicy::Enforce).build();
        let anchors = [path.anchor().clone()];
        let between: Vec<CertificateDer<'_>> = path.intermediate_certificates().map(webpki::Cert::der).collect();
        let verified = own.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &between, self.moment(), ForClients, Some(options), None);
        verified.map(drop).map_err(|error| match error {
            Error::CrlExpired { .. } => Refusal::Revoked("the revocation list of its issuer is out of date"),
            Error::CertRevoked => Refusal::Revoked(REVOKED),
            _ => Refusal::Revoked("the revocation list of its issuer is not signed by its issuer"),
        })
    }

    fn not_named(&self, origin: &Origin) -> Result<(), Refusal> {
        if self.lists.iter().any(|list| list.names(origin)) { Err(Refusal::Revoked(REVOKED)) } else { Ok(()) }
    }

    fn moment(&self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(self.now.seconds()).unwrap_or(0)))
    }
}

/// Whoever sends many authorities of one name has webpki try each of them before each other: eight of them cost it seconds.
fn few_of_one_name(certificates: &[CertificateDer<'_>]) -> Result<(), Refusal> {
    let names: Vec<Vec<u8>> = certificates.iter().filter_map(|der| Some(EndEntityCert::try_from(der).ok()?.subject().to_vec())).collect();
    let many = names.iter().any(|name| names.iter().filter(|other| *other == name).count() > OF_ONE_NAME_MAX);
    if many { Err(Refusal::Unsound(format!("x509: more than {OF_ONE_NAME_MAX} authorities of one name were sent along"))) } else { Ok(()) }
}

/// A certificate for clients, for anything, or that does not say. As Go reads it; webpki's own rule does not know "anything".
pub(super) struct ForClients;

impl ExtendedKeyUsageValidator for ForClients {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        let (mut said, mut good) = (false, false);
        for purpose in purposes {
            let purpose = purpose?;
            said = true;
            good |= purpose == KeyPurposeId::new(CLIENT_AUTH) || purpose == KeyPurposeId::new(ANY_PURPOSE);
        }
        if good || !said {
            Ok(())
        } else {
            Err(Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required: KeyUsage::client_auth(), present: Vec::new() }))
        }
    }
}

/// Whether a certificate's key usage, if it has one, lets its key sign certificates. webpki does not look.
fn signs_certificates(der: &[u8]) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(der) else { return false };
    parsed.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()))
}

/// The same as [`refusal`], with what of these certificates is the cause where webpki does not judge it.
fn explained(error: Error, chain: &ClientChain, authorities: &[&Authority]) -> Refusal {
    let all = || chain.own().into_iter().chain(chain.sent_along());
    let why = match error {
        Error::NameConstraintViolation => {
            let between = chain.sent_along().chain(authorities.iter().map(|authority| authority.der.as_slice()));
            unread::constrained(chain.own().unwrap_or_default(), between).map(|kinds| {
                format!(", or constrains {kinds} and such constraints are not supported by daypass: they let in nobody who has such a name")
            })
        }
        Error::UnsupportedCertVersion => {
            Some(": it is not of X.509 version 3, the only one that is supported: have it issued anew".to_owned())
        }
        Error::UnsupportedCriticalExtension => {
            Some(unread::unknown_extensions(all())).filter(|ids| !ids.is_empty()).map(|ids| format!(" ({ids})"))
        }
        _ => None,
    };
    match (refusal(error), why) {
        (Refusal::Unsound(text), Some(why)) => Refusal::Unsound(text + &why),
        (refusal, _) => refusal,
    }
}

fn refusal(error: Error) -> Refusal {
    let unsound = |text: &str| Refusal::Unsound(format!("x509: {text}"));
    match error {
        Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => Refusal::Unknown,
        Error::CertExpired { .. } | Error::CertNotValidYet { .. } => unsound("certificate has expired or is not yet valid"),
        Error::RequiredEkuNotFoundContext(_) => unsound("certificate specifies an incompatible key usage"),
        Error::NameConstraintViolation => unsound("a root or intermediate certificate is not authorized to sign for this name"),
        Error::PathLenConstraintViolated => unsound("too many intermediates for path length constraint"),
        Error::EndEntityUsedAsCa => unsound("parent certificate cannot sign this kind of certificate"),
        Error::UnsupportedCriticalExtension => unsound("unhandled critical extension"),
        Error::CaUsedAsEndEntity => unsound("the certificate of an authority is none of a client"),
        other => unsound(&format!("the certificates cannot be verified: {other}")),
    }
}

/// Certificates of one name that a client may send along: one that other authorities signed too has two or three.
const OF_ONE_NAME_MAX: usize = 3;
const REVOKED: &str = "a certificate was revoked";
/// 1.3.6.1.5.5.7.3.2
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
/// 2.5.29.37.0
const ANY_PURPOSE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
