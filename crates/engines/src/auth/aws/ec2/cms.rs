//! CMS SignedData with its content inside, as AWS writes instance identity documents: read strictly, verified with a key that was
//! brought here by somebody else than the message. Source: RFC 5652, sections 3 to 5 and 11; RFC 2315.
//!
//! Certificates in the message are passed over. What the signature covers is the content itself, or attributes that hold its digest.

use aws_lc_rs::digest::{self, digest};
use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RsaParameters, UnparsedPublicKey,
};

use crate::ber::tag::{INTEGER, NULL, OBJECT_ID, OCTETS, SEQUENCE};
use crate::ber::{Element, Elements, Refused};

const OCTETS_IN_PIECES: u8 = 0x24;
const SET: u8 = 0x31;
/// `[0]`, constructed: content, certificates, signed attributes, a signer's key id.
const ZERO: u8 = 0xa0;
/// `[1]`, constructed: revocation lists, unsigned attributes.
const ONE: u8 = 0xa1;
/// `[0]`, primitive: a signer's key id.
const KEY_ID: u8 = 0x80;

const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// What the names of RSA with a digest begin with.
const PKCS1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// What the names of the SHA-2 digests begin with.
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
/// What the two families of names of DSA begin with.
const DSA: [&[u8]; 2] = [&[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04], &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03]];

/// A digest that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// A message of one signer.
#[derive(Debug)]
pub(super) struct Signed {
    /// What is inside.
    pub(super) content: Vec<u8>,
    hash: Hash,
    /// What the signature covers.
    covered: Vec<u8>,
    signature: Vec<u8>,
}

impl Signed {
    /// Reads a message. Errors: what is wrong with it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Refused> {
        let mut outside = Elements::of(bytes);
        let mut info = Elements::of(outside.need(SEQUENCE)?.content);
        outside.end()?;
        if info.need(OBJECT_ID)?.content != SIGNED_DATA {
            return Err("it is no signed data");
        }
        let mut explicit = Elements::of(info.need(ZERO)?.content);
        info.end()?;
        let mut data = Elements::of(explicit.need(SEQUENCE)?.content);
        explicit.end()?;
        data.need(INTEGER)?;
        data.need(SET)?;
        let content = content_of(data.need(SEQUENCE)?)?;
        data.maybe(ZERO)?;
        data.maybe(ONE)?;
        let mut signers = Elements::of(data.need(SET)?.content);
        data.end()?;
        if signers.is_empty() {
            return Err("nobody signed it");
        }
        let signer = signers.need(SEQUENCE)?;
        if !signers.is_empty() {
            return Err("it has more than one signer");
        }
        Self::of_signer(content, signer)
    }

    fn of_signer(content: Vec<u8>, signer: Element<'_>) -> Result<Self, Refused> {
        let mut signer = Elements::of(signer.content);
        signer.need(INTEGER)?;
        // Whom it names says nothing: the key that fits does.
        if signer.maybe(KEY_ID)?.is_none() {
            signer.need(SEQUENCE)?;
        }
        let digest_name = name_of(signer.need(SEQUENCE)?)?;
        let attributes = signer.maybe(ZERO)?;
        let signed_by = name_of(signer.need(SEQUENCE)?)?;
        let signature = signer.need(OCTETS)?.content.to_vec();
        signer.maybe(ONE)?;
        signer.end()?;
        if DSA.iter().any(|family| signed_by.starts_with(family)) {
            return Err(BY_DSA);
        }
        let hash = Hash::named(digest_name).ok_or("its digest is none of SHA-256, SHA-384 and SHA-512")?;
        if signed_by != RSA && signed_by != [PKCS1, &[hash.in_pkcs1()]].concat() {
            return Err("its signature is not of RSA with the digest that it names");
        }
        let covered = match attributes {
            Some(attributes) => covered_by(attributes, digest(hash.algorithm(), &content).as_ref())?,
            None => content.clone(),
        };
        Ok(Self { content, hash, covered, signature })
    }

    /// Whether the key of this (PKCS#1) made the signature.
    pub(super) fn is_by(&self, rsa_key: &[u8]) -> bool {
        UnparsedPublicKey::new(self.hash.parameters(), rsa_key).verify(&self.covered, &self.signature).is_ok()
    }
}

impl Hash {
    fn named(name: &[u8]) -> Option<Self> {
        match name.strip_prefix(SHA2)? {
            [1] => Some(Self::Sha256),
            [2] => Some(Self::Sha384),
            [3] => Some(Self::Sha512),
            _ => None,
        }
    }

    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn parameters(self) -> &'static RsaParameters {
        match self {
            Self::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Sha384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
        }
    }

    /// The last arc of RSA with this digest.
    fn in_pkcs1(self) -> u8 {
        match self {
            Self::Sha256 => 11,
            Self::Sha384 => 12,
            Self::Sha512 => 13,
        }
    }
}

/// The name of an algorithm that has no parameters, or none but NULL.
fn name_of(algorithm: Element<'_>) -> Result<&[u8], Refused> {
    let mut parts = Elements::of(algorithm.content);
    let name = parts.need(OBJECT_ID)?.content;
    let is_dsa = DSA.iter().any(|family| name.starts_with(family));
    if parts.maybe(NULL)?.is_some_and(|null| !null.content.is_empty()) || (!is_dsa && !parts.is_empty()) {
        return Err("an algorithm has parameters that are not known");
    }
    Ok(name)
}

/// The bytes inside.
fn content_of(encapsulated: Element<'_>) -> Result<Vec<u8>, Refused> {
    let mut parts = Elements::of(encapsulated.content);
    if parts.need(OBJECT_ID)?.content != DATA {
        return Err("its content is not of the type data");
    }
    let mut explicit = Elements::of(parts.maybe(ZERO)?.ok_or("the document is not inside of it")?.content);
    parts.end()?;
    let content = match explicit.maybe(OCTETS_IN_PIECES)? {
        Some(pieces) => {
            let (mut pieces, mut content) = (Elements::of(pieces.content), Vec::new());
            while !pieces.is_empty() {
                content.extend_from_slice(pieces.need(OCTETS)?.content);
            }
            content
        }
        None => explicit.need(OCTETS)?.content.to_vec(),
    };
    explicit.end()?;
    Ok(content)
}

/// What a signature with attributes covers: them as a SET, once they say the type of the content and its digest, each once.
fn covered_by(attributes: Element<'_>, digest_of_content: &[u8]) -> Result<Vec<u8>, Refused> {
    if !attributes.definite {
        return Err("its signed attributes are not in DER");
    }
    let (mut kind, mut digest) = (None, None);
    let mut all = Elements::of(attributes.content);
    while !all.is_empty() {
        let mut attribute = Elements::of(all.need(SEQUENCE)?.content);
        let name = attribute.need(OBJECT_ID)?.content;
        let mut values = Elements::of(attribute.need(SET)?.content);
        attribute.end()?;
        let (place, tag) = match name {
            CONTENT_TYPE => (&mut kind, OBJECT_ID),
            MESSAGE_DIGEST => (&mut digest, OCTETS),
            _ => continue,
        };
        let value = values.need(tag)?.content;
        values.end()?;
        if place.replace(value).is_some() {
            return Err("a signed attribute is there twice");
        }
    }
    if kind != Some(DATA) {
        return Err("its signed attributes do not say the type of the content");
    }
    if digest != Some(digest_of_content) {
        return Err("the digest in its signed attributes is not that of the document inside");
    }
    let mut covered = attributes.whole.to_vec();
    if let Some(tag) = covered.first_mut() {
        *tag = SET;
    }
    Ok(covered)
}

/// Why the documents of `/pkcs7` are refused.
pub(super) const BY_DSA: Refused = "it is signed with DSA, which is not supported: send the instance's \
     /latest/dynamic/instance-identity/rsa2048 instead of its /latest/dynamic/instance-identity/pkcs7";

#[cfg(test)]
pub(super) mod tests;
