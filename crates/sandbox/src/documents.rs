//! Signatures of instance identity documents, as AWS's metadata service has them, by a key of the sandbox's own.
//!
//! Sources: Amazon EC2 User Guide, "Verify instance identity document"; RFC 5652. The PKCS#7 form is written in BER as AWS writes it.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use data_encoding::BASE64;

const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const SHA256_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const SHA256_NAME: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];

/// Signs instance identity documents.
pub struct DocumentSigner(RsaKeyPair);

impl DocumentSigner {
    /// With a new key; `None` when the crypto library makes none.
    pub fn new() -> Option<Self> {
        RsaKeyPair::generate(KeySize::Rsa2048).ok().map(Self)
    }

    /// The certificate of its key, in PEM.
    pub fn certificate_pem(&self) -> String {
        let text = BASE64.encode(&self.certificate());
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines(&text))
    }

    /// What `/latest/dynamic/instance-identity/signature` is for a document.
    pub fn signature(&self, document: &[u8]) -> String {
        lines(&BASE64.encode(&self.signs(document)))
    }

    /// What `/latest/dynamic/instance-identity/rsa2048` is for a document.
    pub fn pkcs7(&self, document: &[u8]) -> String {
        let attribute = |name: &[u8], value: Vec<u8>| sequence(&[object(name), element(0x31, &value)]);
        let hash = digest(&SHA256, document);
        let attributes = [attribute(CONTENT_TYPE, object(DATA)), attribute(MESSAGE_DIGEST, element(4, hash.as_ref()))].concat();
        let signer = sequence(&[
            vec![2, 1, 1],
            sequence(&[name(), vec![2, 1, 1]]),
            algorithm(SHA256_NAME),
            element(0xa0, &attributes),
            algorithm(RSA),
            element(4, &self.signs(&element(0x31, &attributes))),
        ]);
        let content = open(0xa0, &open(0x24, &element(4, document)));
        let data = [
            vec![2, 1, 1],
            element(0x31, &algorithm(SHA256_NAME)),
            open(0x30, &[object(DATA), content].concat()),
            element(0xa0, &self.certificate()),
            element(0x31, &signer),
        ];
        let message = open(0x30, &[object(SIGNED_DATA), open(0xa0, &open(0x30, &data.concat()))].concat());
        lines(&BASE64.encode(&message))
    }

    fn signs(&self, text: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        // It fails for a wrong length alone; then the signature is zeros, which verify nothing.
        let _signed = self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature);
        signature
    }

    fn certificate(&self) -> Vec<u8> {
        let key = [&[0], self.0.public_key().as_ref()].concat();
        let validity = sequence(&[element(0x17, b"200101000000Z"), element(0x17, b"491231235959Z")]);
        let inside = sequence(&[
            element(0xa0, &[2, 1, 2]),
            vec![2, 1, 1],
            algorithm(SHA256_WITH_RSA),
            name(),
            validity,
            name(),
            sequence(&[algorithm(RSA), element(3, &key)]),
        ]);
        let signature = [&[0], self.signs(&inside).as_slice()].concat();
        sequence(&[inside, algorithm(SHA256_WITH_RSA), element(3, &signature)])
    }
}

fn name() -> Vec<u8> {
    sequence(&[element(0x31, &sequence(&[object(ORGANIZATION), element(0x0c, b"Daypass sandbox")]))])
}

fn algorithm(name: &[u8]) -> Vec<u8> {
    sequence(&[object(name), vec![5, 0]])
}

fn object(name: &[u8]) -> Vec<u8> {
    element(6, name)
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

/// An element whose length stands in front.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let bytes = content.len().to_be_bytes();
    let digits: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut out = vec![tag];
    match content.len() {
        0 => out.push(0),
        1..=0x7f => out.extend(digits),
        _ => {
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
            out.extend(digits);
        }
    }
    out.extend_from_slice(content);
    out
}

/// An element that ends in two zeros.
fn open(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, 0x80], content, &[0, 0]].concat()
}

/// As long as the metadata service's lines are.
fn lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 64 + 1);
    for (place, character) in text.chars().enumerate() {
        if place > 0 && place % 64 == 0 {
            out.push('\n');
        }
        out.push(character);
    }
    out
}
