//! What an answer is worth: pure.
//!
//! It counts when it speaks of the very certificate that was asked about, is of now, and is signed by the issuer of that certificate, by a responder to
//! whom that issuer itself gave the right, or by one that the operator named. Everything else is no answer, whatever it says.

use daypass_sdk::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::super::trusted::Origin;
use super::signer::{Signer, moment};
use super::wire::{self, Answer, Basic, Excuse, Status};

/// What is asked.
pub(super) struct Question<'a> {
    /// The issuer of the certificate in question. Its certificate is trusted, or its chain was verified.
    pub(super) issuer: &'a Signer,
    /// The number of that certificate, as it is encoded.
    pub(super) serial: &'a [u8],
    pub(super) nonce: &'a [u8],
}

/// Who may answer besides the issuer, and who may not.
pub(super) struct Trust<'a> {
    /// Those whom the operator named: responders, or authorities of responders.
    pub(super) named: &'a [Signer],
    /// Whether a revocation list names a certificate.
    pub(super) revoked: &'a (dyn Fn(&Origin) -> bool + Sync),
}

/// What a certificate is, and how long that may be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) status: Status,
    pub(super) this_update: Timestamp,
    pub(super) next_update: Option<Timestamp>,
}

/// Why there is no answer that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody answers, or not now: asking again may help.
    Busy(String),
    /// Nobody was asked: too many calls wait for their turn already. Strangers make those, and let nobody in by that; nor is it asked again while the login waits,
    /// whose time would be over before anything is said.
    Crowded(String),
    /// The responder answers nothing, and would not if asked again.
    Excused(String),
    /// There is an answer, and it cannot be believed; or nobody to ask.
    Wrong(String),
}

/// Reads and judges an answer.
pub(super) fn judge(bytes: &[u8], question: &Question<'_>, trust: &Trust<'_>, now: Timestamp) -> Result<Told, Trouble> {
    let wrong = |why: &str| Trouble::Wrong(why.to_owned());
    let basic = match wire::answer(bytes).map_err(|why| Trouble::Wrong(format!("its answer cannot be read: {why}")))? {
        Answer::Basic(basic) => basic,
        Answer::Excuse(excuse) => return Err(excuse.trouble()),
    };
    signed(&basic, question, trust, now).map_err(wrong)?;
    if basic.nonce.is_some_and(|nonce| nonce != question.nonce) {
        return Err(wrong("its answer is to another question: the nonce differs"));
    }
    let mut about = basic.singles.iter().filter(|single| single.id.is(question.issuer, question.serial));
    let single = about.next().ok_or_else(|| wrong("its answer is about another certificate"))?;
    if about.next().is_some() {
        return Err(wrong("its answer speaks of the certificate twice"));
    }
    let told = Told { status: single.status, this_update: single.this_update, next_update: single.next_update };
    told.is_of(now, basic.produced, basic.nonce.is_some()).map_err(wrong)?;
    Ok(told)
}

impl Excuse {
    fn trouble(self) -> Trouble {
        match self {
            Self::InternalError => Trouble::Busy("it answers that it has an error of its own (internalError)".to_owned()),
            Self::MalformedRequest => Trouble::Excused("it answers that it cannot read the request (malformedRequest)".to_owned()),
            Self::SigRequired => Trouble::Excused("it wants signed requests (sigRequired)".to_owned()),
            Self::TryLater => Trouble::Busy("it answers to try later (tryLater)".to_owned()),
            Self::Unauthorized => Trouble::Excused("it does not answer for this issuer (unauthorized)".to_owned()),
        }
    }
}

impl Told {
    /// Whether it is of now. One that does not say until when it holds, and does not repeat the nonce, could be repeated for ever: it holds for a day.
    fn is_of(&self, now: Timestamp, produced: Timestamp, repeats_nonce: bool) -> Result<(), &'static str> {
        let latest = now.seconds() + SKEW_SECONDS;
        if self.this_update.seconds() > latest || produced.seconds() > latest {
            return Err("its answer is of the future");
        }
        match self.next_update {
            Some(next) if next < self.this_update || next.seconds() <= now.seconds() => Err("its answer is out of date"),
            None if !repeats_nonce && now.seconds() - self.this_update.seconds() > OPEN_SECONDS_MAX => {
                Err("its answer does not say until when it holds, and is over a day old")
            }
            _ => Ok(()),
        }
    }
}

/// Errors: why the signature does not count.
fn signed(basic: &Basic<'_>, question: &Question<'_>, trust: &Trust<'_>, now: Timestamp) -> Result<(), &'static str> {
    let made_by = |signer: &Signer| basic.responder.is(signer) && signer.signed(basic.covered, basic.algorithm, basic.signature);
    let known: Vec<&Signer> = std::iter::once(question.issuer).chain(trust.named).filter(|signer| signer.is_valid_at(now)).collect();
    if known.iter().any(|signer| made_by(signer)) {
        return Ok(());
    }
    let mut why = "its answer is not signed by the issuer or by whom the issuer let answer";
    for der in &basic.certificates {
        let Ok(delegate) = Signer::read(der) else { continue };
        if !made_by(&delegate) {
            continue;
        }
        match let_answer(&delegate, question, &known, trust, now) {
            Ok(()) => return Ok(()),
            Err(refused) => why = refused,
        }
    }
    Err(why)
}

/// Whether one of those that are known let this responder answer. A certificate of theirs for another purpose is not enough: else every client of an
/// authority could answer for all the others.
fn let_answer(
    delegate: &Signer,
    question: &Question<'_>,
    known: &[&Signer],
    trust: &Trust<'_>,
    now: Timestamp,
) -> Result<(), &'static str> {
    const UNKNOWN: &str = "the certificate of the responder is not the issuer's";
    let der = CertificateDer::from(delegate.der.as_slice());
    let certificate = EndEntityCert::try_from(&der).map_err(|_its_text_says_no_more| UNKNOWN)?;
    let anchors: Vec<TrustAnchor<'_>> =
        known.iter().filter(|signer| signer.may_issue()).filter_map(|signer| signer.anchor().ok()).collect();
    // Without anything in between: the issuer itself has to have issued it.
    let verified =
        certificate.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &[], moment(now), KeyUsage::required(OCSP_SIGNING), None, None);
    verified.map_err(|error| match error {
        webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => "the certificate of the responder is not valid now",
        webpki::Error::RequiredEkuNotFoundContext(_) => "the certificate of the responder is not for OCSP",
        webpki::Error::CaUsedAsEndEntity => "the certificate of the responder is an authority's",
        _ => UNKNOWN,
    })?;
    let (_, parsed) = X509Certificate::from_der(&delegate.der).map_err(|_its_text_says_no_more| UNKNOWN)?;
    let usage = parsed.key_usage().map_err(|_twice| UNKNOWN)?;
    if usage.is_some_and(|usage| !usage.value.digital_signature() && !usage.value.non_repudiation()) {
        return Err("the key usage of the responder does not let it sign answers");
    }
    if certificate.serial() == question.serial && question.issuer.name.ends_with(certificate.issuer()) {
        return Err("the responder answers for itself");
    }
    if (trust.revoked)(&Origin::of(&certificate)) {
        return Err("the certificate of the responder was revoked");
    }
    Ok(())
}

/// Clocks of responders may be so far ahead.
const SKEW_SECONDS: i64 = 300;
/// How old an answer may be that says nothing of its end and does not repeat the nonce.
const OPEN_SECONDS_MAX: i64 = 86_400;
/// 1.3.6.1.5.5.7.3.9
const OCSP_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09];
