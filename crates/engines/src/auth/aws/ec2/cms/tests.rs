//! Messages as AWS writes them, and everything that must not pass for one.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};

use super::*;

/// A key, and its public half as PKCS#1 has it.
pub(in crate::auth::aws::ec2) struct Key(RsaKeyPair);

impl Key {
    pub(in crate::auth::aws::ec2) fn new() -> Self {
        Self(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub(in crate::auth::aws::ec2) fn public(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }

    pub(in crate::auth::aws::ec2) fn signs(&self, text: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).unwrap();
        signature
    }
}

/// An element of definite length.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let [high, low] = length.to_be_bytes();
    let head = match length {
        0..=0x7f => vec![tag, low],
        0x80..=0xff => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head, content.to_vec()].concat()
}

/// An element of indefinite length.
fn open(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, 0x80], content, &[0, 0]].concat()
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, &parts.concat())
}

fn object(name: &[u8]) -> Vec<u8> {
    tlv(OBJECT_ID, name)
}

fn algorithm(name: &[u8]) -> Vec<u8> {
    sequence(&[&object(name), &[NULL, 0]])
}

fn sha256() -> Vec<u8> {
    [SHA2, &[1]].concat()
}

fn attribute(name: &[u8], value: &[u8]) -> Vec<u8> {
    sequence(&[&object(name), &tlv(SET, value)])
}

/// The signed attributes of a content, without their tag.
fn attributes(content: &[u8]) -> Vec<u8> {
    let digest = digest(&digest::SHA256, content);
    [attribute(CONTENT_TYPE, &object(DATA)), attribute(MESSAGE_DIGEST, &tlv(OCTETS, digest.as_ref()))].concat()
}

fn signer_with(digest_name: &[u8], attributes: &[u8], signed_by: &[u8], signature: &[u8]) -> Vec<u8> {
    let whom = sequence(&[&sequence(&[]), &tlv(INTEGER, &[9])]);
    let attributes = if attributes.is_empty() { Vec::new() } else { tlv(ZERO, attributes) };
    sequence(&[&[INTEGER, 1, 1], &whom, &algorithm(digest_name), &attributes, &algorithm(signed_by), &tlv(OCTETS, signature)])
}

fn signer(key: &Key, content: &[u8]) -> Vec<u8> {
    let attributes = attributes(content);
    signer_with(&sha256(), &attributes, RSA, &key.signs(&tlv(SET, &attributes)))
}

fn message_of(content: &[u8], certificates: &[u8], signers: &[u8]) -> Vec<u8> {
    let inside = sequence(&[&object(DATA), &tlv(ZERO, &tlv(OCTETS, content))]);
    let data = sequence(&[&[INTEGER, 1, 1], &tlv(SET, &algorithm(&sha256())), &inside, certificates, &tlv(SET, signers)]);
    sequence(&[&object(SIGNED_DATA), &tlv(ZERO, &data)])
}

/// A message as it should be.
pub(in crate::auth::aws::ec2) fn message(key: &Key, content: &[u8]) -> Vec<u8> {
    message_of(content, &[], &signer(key, content))
}

/// The same in BER, as AWS writes it: open lengths, content in pieces.
fn message_in_ber(key: &Key, content: &[u8]) -> Vec<u8> {
    let (one, two) = content.split_at(content.len() / 2);
    let pieces = open(OCTETS_IN_PIECES, &[tlv(OCTETS, one), tlv(OCTETS, two)].concat());
    let inside = open(SEQUENCE, &[object(DATA), open(ZERO, &pieces)].concat());
    let signers = tlv(SET, &signer(key, content));
    let data = [vec![INTEGER, 1, 1], tlv(SET, &algorithm(&sha256())), inside, signers].concat();
    open(SEQUENCE, &[object(SIGNED_DATA), open(ZERO, &open(SEQUENCE, &data))].concat())
}

fn refused(bytes: &[u8]) -> Refused {
    Signed::read(bytes).unwrap_err()
}

const CONTENT: &[u8] = br#"{"instanceId":"i-0"}"#;

#[test]
fn a_message_is_read_in_either_form_and_verified_by_its_key_alone() {
    let (key, other) = (Key::new(), Key::new());
    let bare = message_of(CONTENT, &[], &signer_with(&sha256(), &[], &[PKCS1, &[11]].concat(), &key.signs(CONTENT)));
    for bytes in [message(&key, CONTENT), message_in_ber(&key, CONTENT), bare] {
        let signed = Signed::read(&bytes).unwrap();
        assert_eq!(signed.content, CONTENT);
        assert!(signed.is_by(&key.public()) && !signed.is_by(&other.public()));
    }
}

#[test]
fn a_certificate_that_the_message_brings_is_passed_over() {
    let (key, other) = (Key::new(), Key::new());
    let bytes = message_of(CONTENT, &tlv(ZERO, &sequence(&[&other.public()])), &signer(&other, CONTENT));
    assert!(!Signed::read(&bytes).unwrap().is_by(&key.public()));
}

#[test]
fn the_signature_is_bound_to_the_document_inside() {
    let key = Key::new();
    let stolen = signer(&key, CONTENT);
    let bytes = message_of(br#"{"instanceId":"i-1"}"#, &[], &stolen);
    assert_eq!(refused(&bytes), "the digest in its signed attributes is not that of the document inside");
    let bare = message_of(br#"{"instanceId":"i-1"}"#, &[], &signer_with(&sha256(), &[], RSA, &key.signs(CONTENT)));
    assert!(!Signed::read(&bare).unwrap().is_by(&key.public()));
    let outside = sequence(&[&object(DATA)]);
    let data = sequence(&[&[INTEGER, 1, 1], &tlv(SET, &algorithm(&sha256())), &outside, &tlv(SET, &stolen)]);
    assert_eq!(refused(&sequence(&[&object(SIGNED_DATA), &tlv(ZERO, &data)])), "the document is not inside of it");
}

#[test]
fn exactly_one_signer_is_taken() {
    let (key, other) = (Key::new(), Key::new());
    assert_eq!(refused(&message_of(CONTENT, &[], &[])), "nobody signed it");
    let two = [signer(&key, CONTENT), signer(&other, CONTENT)].concat();
    assert_eq!(refused(&message_of(CONTENT, &[], &two)), "it has more than one signer");
}

#[test]
fn digests_and_algorithms_that_are_not_known_are_refused() {
    let key = Key::new();
    let with = |digest: &[u8], signed_by: &[u8]| {
        message_of(CONTENT, &[], &signer_with(digest, &attributes(CONTENT), signed_by, &key.signs(CONTENT)))
    };
    let sha1 = [0x2b, 0x0e, 0x03, 0x02, 0x1a];
    assert_eq!(refused(&with(&sha1, RSA)), "its digest is none of SHA-256, SHA-384 and SHA-512");
    assert_eq!(refused(&with(&[SHA2, &[9]].concat(), RSA)), "its digest is none of SHA-256, SHA-384 and SHA-512");
    assert_eq!(refused(&with(&sha256(), &[PKCS1, &[5]].concat())), "its signature is not of RSA with the digest that it names");
    assert_eq!(refused(&with(&sha256(), &[PKCS1, &[13]].concat())), "its signature is not of RSA with the digest that it names");
    for dsa in [&[DSA[0], &[3]].concat(), &[DSA[1], &[2]].concat()] {
        assert_eq!(refused(&with(&sha1, dsa)), BY_DSA);
    }
}

#[test]
fn signed_attributes_say_type_and_digest_once() {
    let key = Key::new();
    let with = |attributes: &[u8]| message_of(CONTENT, &[], &signer_with(&sha256(), attributes, RSA, &key.signs(&tlv(SET, attributes))));
    let kind = attribute(CONTENT_TYPE, &object(DATA));
    assert_eq!(refused(&with(&attributes(CONTENT)[kind.len()..])), "its signed attributes do not say the type of the content");
    assert_eq!(refused(&with(&kind)), "the digest in its signed attributes is not that of the document inside");
    assert_eq!(refused(&with(&[attributes(CONTENT), kind.clone()].concat())), "a signed attribute is there twice");
    let two_values = attribute(CONTENT_TYPE, &[object(DATA), object(DATA)].concat());
    assert_eq!(refused(&with(&two_values)), "bytes follow after the end");
    assert!(Signed::read(&with(&attributes(CONTENT))).unwrap().is_by(&key.public()));
}

#[test]
fn attributes_do_not_pass_for_a_document() {
    let key = Key::new();
    let covered = tlv(SET, &attributes(CONTENT));
    let bytes = message_of(&covered, &[], &signer_with(&sha256(), &[], RSA, &key.signs(&covered)));
    // The signature fits; what it covers is no JSON, which the reader of documents sees.
    assert_eq!(Signed::read(&bytes).unwrap().content.first(), Some(&SET));
}

#[test]
fn a_part_of_a_message_is_none_and_neither_is_more() {
    let key = Key::new();
    for bytes in [message(&key, CONTENT), message_in_ber(&key, CONTENT)] {
        for end in 0..bytes.len() {
            Signed::read(&bytes[..end]).unwrap_err();
        }
        assert_eq!(refused(&[bytes, vec![0]].concat()), "bytes follow after the end");
    }
    assert_eq!(refused(&sequence(&[&object(DATA), &tlv(ZERO, &[])])), "it is no signed data");
}
