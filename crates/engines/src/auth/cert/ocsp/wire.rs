//! The bytes of OCSP: questions as they are sent, answers read strictly. Nothing of an answer is to be believed before [`super::verify`] has said so.
//!
//! Source: RFC 6960, section 4; RFC 9654 for nonces.

use aws_lc_rs::digest::{self, digest};
use daypass_sdk::Timestamp;
use time::{Date, Month, PrimitiveDateTime, Time};

use super::signer::Signer;
use crate::ber::tag::{INTEGER, NULL, OBJECT_ID, OCTETS, SEQUENCE};
use crate::ber::{Element, Elements, Refused};

/// What a responder answers with.
#[derive(Debug)]
pub(super) enum Answer<'a> {
    /// It says something of certificates.
    Basic(Box<Basic<'a>>),
    /// It says nothing, and why. This is not signed: anybody on the way may have said it.
    Excuse(Excuse),
}

/// Why a responder says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excuse {
    InternalError,
    MalformedRequest,
    SigRequired,
    TryLater,
    Unauthorized,
}

/// A signed answer.
#[derive(Debug)]
pub(super) struct Basic<'a> {
    /// What the signature covers.
    pub(super) covered: &'a [u8],
    /// What is in the signature's AlgorithmIdentifier.
    pub(super) algorithm: &'a [u8],
    pub(super) signature: &'a [u8],
    /// Certificates that came along.
    pub(super) certificates: Vec<&'a [u8]>,
    pub(super) responder: Responder<'a>,
    pub(super) produced: Timestamp,
    pub(super) singles: Vec<Single<'a>>,
    pub(super) nonce: Option<&'a [u8]>,
}

/// Who says to have signed an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Responder<'a> {
    /// SHA-1 of its key.
    Key(&'a [u8]),
    /// Its name in DER.
    Name(&'a [u8]),
}

/// What is said of one certificate.
#[derive(Debug)]
pub(super) struct Single<'a> {
    pub(super) id: CertId<'a>,
    pub(super) status: Status,
    pub(super) this_update: Timestamp,
    pub(super) next_update: Option<Timestamp>,
}

/// What a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Good,
    Revoked,
    /// The responder does not know it.
    Unknown,
}

/// Which certificate is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertId<'a> {
    hash: Hash,
    name_hash: &'a [u8],
    key_hash: &'a [u8],
    serial: &'a [u8],
}

/// How the issuer of a certificate is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    /// It protects nothing here: an issuer that is known is recognised by it.
    Sha1,
    Sha256,
}

impl Hash {
    fn of(self, bytes: &[u8]) -> digest::Digest {
        match self {
            Self::Sha1 => digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes),
            Self::Sha256 => digest(&digest::SHA256, bytes),
        }
    }
}

impl CertId<'_> {
    /// Whether this very certificate is meant: its issuer's name and key, and its number as it is encoded.
    pub(super) fn is(&self, issuer: &Signer, serial: &[u8]) -> bool {
        self.serial == serial
            && self.hash.of(&issuer.name).as_ref() == self.name_hash
            && self.hash.of(&issuer.key).as_ref() == self.key_hash
    }
}

impl Responder<'_> {
    pub(super) fn is(self, signer: &Signer) -> bool {
        match self {
            Self::Key(hash) => Hash::Sha1.of(&signer.key).as_ref() == hash,
            Self::Name(name) => signer.name == name,
        }
    }
}

/// The question about one certificate. The issuer is named by SHA-1, which every responder knows.
pub(super) fn question(issuer: &Signer, serial: &[u8], nonce: &[u8]) -> Vec<u8> {
    let algorithm = written(SEQUENCE, &[&written(OBJECT_ID, &[SHA1]), &written(NULL, &[])]);
    let name_hash = written(OCTETS, &[Hash::Sha1.of(&issuer.name).as_ref()]);
    let key_hash = written(OCTETS, &[Hash::Sha1.of(&issuer.key).as_ref()]);
    let id = written(SEQUENCE, &[&algorithm, &name_hash, &key_hash, &written(INTEGER, &[serial])]);
    let list = written(SEQUENCE, &[&written(SEQUENCE, &[&id])]);
    let nonce = written(OCTETS, &[&written(OCTETS, &[nonce])]);
    let extension = written(SEQUENCE, &[&written(OBJECT_ID, &[NONCE]), &nonce]);
    let extensions = written(EXPLICIT_2, &[&written(SEQUENCE, &[&extension])]);
    written(SEQUENCE, &[&written(SEQUENCE, &[&list, &extensions])])
}

/// An element in DER.
fn written(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let digits = content.len().to_be_bytes();
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    let digits = digits.get(zeros..).unwrap_or_default();
    let mut out = vec![tag];
    if content.len() > 0x7f {
        out.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
        out.extend_from_slice(digits);
    } else {
        out.extend(u8::try_from(content.len()));
    }
    out.extend_from_slice(&content);
    out
}

/// Reads an answer. Errors: what is wrong with it.
pub(super) fn answer(bytes: &[u8]) -> Result<Answer<'_>, Refused> {
    if bytes.len() > ANSWER_BYTES_MAX {
        return Err("it is longer than an answer may be");
    }
    let mut outside = Elements::in_der(bytes);
    let mut response = Elements::in_der(outside.need(SEQUENCE)?.content);
    outside.end()?;
    let excuse = match response.need(ENUMERATED)?.content {
        [0] => None,
        [1] => Some(Excuse::MalformedRequest),
        [2] => Some(Excuse::InternalError),
        [3] => Some(Excuse::TryLater),
        [5] => Some(Excuse::SigRequired),
        [6] => Some(Excuse::Unauthorized),
        _ => return Err("its status is not known"),
    };
    if let Some(excuse) = excuse {
        response.end()?;
        return Ok(Answer::Excuse(excuse));
    }
    let mut explicit = Elements::in_der(response.need(EXPLICIT_0)?.content);
    response.end()?;
    let mut typed = Elements::in_der(explicit.need(SEQUENCE)?.content);
    explicit.end()?;
    if typed.need(OBJECT_ID)?.content != BASIC {
        return Err("it is no basic answer");
    }
    let inside = typed.need(OCTETS)?.content;
    typed.end()?;
    basic(inside).map(|basic| Answer::Basic(Box::new(basic)))
}

fn basic(bytes: &[u8]) -> Result<Basic<'_>, Refused> {
    let mut outside = Elements::in_der(bytes);
    let mut parts = Elements::in_der(outside.need(SEQUENCE)?.content);
    outside.end()?;
    let data = parts.need(SEQUENCE)?;
    let algorithm = parts.need(SEQUENCE)?.content;
    let signature = parts.need(BITS)?.content.strip_prefix(&[0]).ok_or("its signature is no whole number of bytes")?;
    let mut certificates = Vec::new();
    if let Some(explicit) = parts.maybe(EXPLICIT_0)? {
        let mut explicit = Elements::in_der(explicit.content);
        let mut list = Elements::in_der(explicit.need(SEQUENCE)?.content);
        explicit.end()?;
        while !list.is_empty() {
            if certificates.len() >= CERTIFICATES_MAX {
                return Err("it has more certificates than an answer may have");
            }
            certificates.push(list.need(SEQUENCE)?.whole);
        }
    }
    parts.end()?;
    let mut inside = Elements::in_der(data.content);
    if let Some(version) = inside.maybe(EXPLICIT_0)?
        && version.content != [INTEGER, 1, 0]
    {
        return Err("its version is not known");
    }
    let responder = responder(&mut inside)?;
    let produced = moment(inside.need(GENERALIZED_TIME)?)?;
    let singles = singles(inside.need(SEQUENCE)?)?;
    let nonce = extensions(inside.maybe(EXPLICIT_1)?)?;
    inside.end()?;
    Ok(Basic { covered: data.whole, algorithm, signature, certificates, responder, produced, singles, nonce })
}

fn responder<'a>(inside: &mut Elements<'a>) -> Result<Responder<'a>, Refused> {
    let name = inside.maybe(EXPLICIT_1)?;
    let mut explicit = Elements::in_der(name.map_or_else(|| inside.need(EXPLICIT_2), Ok)?.content);
    let responder = match name {
        Some(_) => Responder::Name(explicit.need(SEQUENCE)?.whole),
        None => Responder::Key(explicit.need(OCTETS)?.content),
    };
    explicit.end()?;
    Ok(responder)
}

fn singles(list: Element<'_>) -> Result<Vec<Single<'_>>, Refused> {
    let (mut list, mut out) = (Elements::in_der(list.content), Vec::new());
    while !list.is_empty() {
        if out.len() >= SINGLES_MAX {
            return Err("it speaks of more certificates than an answer may");
        }
        let mut parts = Elements::in_der(list.need(SEQUENCE)?.content);
        let id = cert_id(parts.need(SEQUENCE)?)?;
        let status = if let Some(good) = parts.maybe(GOOD)? {
            Some(Status::Good).filter(|_| good.content.is_empty())
        } else if let Some(unknown) = parts.maybe(UNKNOWN)? {
            Some(Status::Unknown).filter(|_| unknown.content.is_empty())
        } else {
            // Since when, and why, makes no difference here.
            parts.maybe(EXPLICIT_1)?.map(|_| Status::Revoked)
        };
        let status = status.ok_or("the status of a certificate in it is not known")?;
        let this_update = moment(parts.need(GENERALIZED_TIME)?)?;
        let next_update = parts.maybe(EXPLICIT_0)?.map(|explicit| {
            let mut explicit = Elements::in_der(explicit.content);
            let next = moment(explicit.need(GENERALIZED_TIME)?)?;
            explicit.end().map(|()| next)
        });
        extensions(parts.maybe(EXPLICIT_1)?)?;
        parts.end()?;
        out.push(Single { id, status, this_update, next_update: next_update.transpose()? });
    }
    Ok(out)
}

fn cert_id(id: Element<'_>) -> Result<CertId<'_>, Refused> {
    let mut parts = Elements::in_der(id.content);
    let mut algorithm = Elements::in_der(parts.need(SEQUENCE)?.content);
    let hash = match algorithm.need(OBJECT_ID)?.content {
        SHA1 => Hash::Sha1,
        SHA256 => Hash::Sha256,
        _ => return Err("it names an issuer by a hash other than SHA-1 and SHA-256"),
    };
    algorithm.maybe(NULL)?;
    algorithm.end()?;
    let (name_hash, key_hash) = (parts.need(OCTETS)?.content, parts.need(OCTETS)?.content);
    let serial = parts.need(INTEGER)?.content;
    parts.end()?;
    Ok(CertId { hash, name_hash, key_hash, serial })
}

/// The nonce, if there is one. Errors: an extension that has to be understood and is not, or one that is there twice.
fn extensions(explicit: Option<Element<'_>>) -> Result<Option<&[u8]>, Refused> {
    let Some(explicit) = explicit else { return Ok(None) };
    let mut explicit = Elements::in_der(explicit.content);
    let mut list = Elements::in_der(explicit.need(SEQUENCE)?.content);
    explicit.end()?;
    let mut nonce = None;
    while !list.is_empty() {
        let mut parts = Elements::in_der(list.need(SEQUENCE)?.content);
        let name = parts.need(OBJECT_ID)?.content;
        let critical = parts.maybe(BOOLEAN)?.is_some_and(|critical| critical.content != [0]);
        let value = parts.need(OCTETS)?.content;
        parts.end()?;
        if name == NONCE {
            let mut inside = Elements::in_der(value);
            let value = inside.need(OCTETS)?.content;
            inside.end()?;
            if nonce.replace(value).is_some() {
                return Err("it has two nonces");
            }
        } else if critical {
            return Err("it has an extension that is critical and not known");
        }
    }
    Ok(nonce)
}

/// A time as DER has it: `20260102030405Z`.
fn moment(element: Element<'_>) -> Result<Timestamp, Refused> {
    const WRONG: Refused = "a time in it cannot be read";
    let digits =
        element.content.strip_suffix(b"Z").filter(|digits| digits.len() == 14 && digits.iter().all(u8::is_ascii_digit)).ok_or(WRONG)?;
    let number = |from: usize, to: usize| {
        digits.get(from..to).unwrap_or_default().iter().fold(0_u16, |sum, digit| sum * 10 + u16::from(digit - b'0'))
    };
    let small = |from: usize| u8::try_from(number(from, from + 2)).unwrap_or(u8::MAX);
    let month = Month::try_from(small(4)).map_err(|_no_month| WRONG)?;
    let date = Date::from_calendar_date(i32::from(number(0, 4)), month, small(6)).map_err(|_no_day| WRONG)?;
    let time = Time::from_hms(small(8), small(10), small(12)).map_err(|_no_time| WRONG)?;
    Ok(Timestamp::from_seconds(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp()))
}

/// Longest answer, in bytes: with the certificates of a responder most have three thousand.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Certificates that may come with an answer.
const CERTIFICATES_MAX: usize = 8;
/// Certificates that an answer may speak of: some responders sign for several at once.
const SINGLES_MAX: usize = 64;

const BOOLEAN: u8 = 0x01;
const BITS: u8 = 0x03;
const ENUMERATED: u8 = 0x0a;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`, primitive.
const GOOD: u8 = 0x80;
/// `[2]`, primitive.
const UNKNOWN: u8 = 0x82;
/// `[0]`, `[1]` and `[2]`, constructed.
const EXPLICIT_0: u8 = 0xa0;
const EXPLICIT_1: u8 = 0xa1;
const EXPLICIT_2: u8 = 0xa2;
/// 1.3.6.1.5.5.7.48.1.1
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
/// 1.3.6.1.5.5.7.48.1.2
const NONCE: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02];
/// 1.3.14.3.2.26
const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
/// 2.16.840.1.101.3.4.2.1
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
