//! Public keys from PEM: `PUBLIC KEY` (RFC 5280's SubjectPublicKeyInfo), `RSA PUBLIC KEY` (PKCS#1), and the key of a `CERTIFICATE`.
//!
//! A certificate stands for its key alone, as in Vault: neither its name nor its time says anything here. The bit of DER is read by hand.

use data_encoding::BASE64;
use daypass_base::Brief;

use super::key::Kind;
use crate::der::element;

/// Longest PEM text, in bytes.
const PEM_BYTES_MAX: usize = 32 * 1024;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
/// The version of a certificate.
const VERSION: u8 = 0xa0;

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// Reads the first block of a PEM text.
pub(in crate::auth) fn read(text: &str) -> Result<Kind, String> {
    if text.len() > PEM_BYTES_MAX {
        return Err(format!("it has {} bytes, over the limit of {PEM_BYTES_MAX}", text.len()));
    }
    let (label, der) = block(text).ok_or("it has no PEM block")?;
    let damaged = || format!("its block {:?} is damaged", Brief(label));
    match label {
        "PUBLIC KEY" => of_info(whole(SEQUENCE, &der).ok_or_else(damaged)?),
        "RSA PUBLIC KEY" => of_pkcs1(&der).ok_or_else(damaged),
        "CERTIFICATE" => of_info(info_of_certificate(&der).ok_or_else(damaged)?),
        _ => Err(format!("its block is {:?}; PUBLIC KEY, RSA PUBLIC KEY and CERTIFICATE can be read", Brief(label))),
    }
}

/// Label and content of the first block.
fn block(text: &str) -> Option<(&str, Vec<u8>)> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    Some((label, BASE64.decode(body.as_bytes()).ok()?))
}

/// The key in a SubjectPublicKeyInfo.
fn of_info(info: &[u8]) -> Result<Kind, String> {
    let parts = || {
        let (algorithm, rest) = element(SEQUENCE, info)?;
        let (id, parameters) = element(OBJECT_ID, algorithm)?;
        let (bits, _) = element(BITS, rest)?;
        // The first byte counts unused bits; a key has none.
        let (0, key) = bits.split_first().map(|(unused, key)| (*unused, key))? else { return None };
        Some((id, parameters, key))
    };
    let (id, parameters, key) = parts().ok_or("its key is damaged")?;
    match id {
        RSA => of_pkcs1(key).ok_or_else(|| "its RSA key is damaged".to_owned()),
        ED25519 => Ok(Kind::Ed25519(key.to_vec())),
        EC if key.first() != Some(&4) => Err("its point is compressed".to_owned()),
        EC => match element(OBJECT_ID, parameters) {
            Some((P256, _)) => Ok(Kind::P256(key.to_vec())),
            Some((P384, _)) => Ok(Kind::P384(key.to_vec())),
            Some((P521, _)) => Ok(Kind::P521(key.to_vec())),
            _ => Err("its curve is none of P-256, P-384 and P-521".to_owned()),
        },
        _ => Err("its key is none of RSA, EC and Ed25519".to_owned()),
    }
}

/// Modulus and exponent.
pub(in crate::auth) fn of_pkcs1(der: &[u8]) -> Option<Kind> {
    let (n, rest) = element(INTEGER, whole(SEQUENCE, der)?)?;
    let (e, _) = element(INTEGER, rest)?;
    let positive = |bytes: &[u8]| bytes.iter().skip_while(|byte| **byte == 0).copied().collect::<Vec<u8>>();
    Some(Kind::Rsa { n: positive(n), e: positive(e) })
}

/// The SubjectPublicKeyInfo of a certificate: the seventh part of its body, or the sixth where no version stands first.
fn info_of_certificate(der: &[u8]) -> Option<&[u8]> {
    let (body, _) = element(SEQUENCE, whole(SEQUENCE, der)?)?;
    let rest = element(VERSION, body).map_or(body, |(_, rest)| rest);
    let (_serial, mut rest) = element(INTEGER, rest)?;
    for _signature_issuer_validity_subject in 0..4 {
        rest = element(SEQUENCE, rest)?.1;
    }
    element(SEQUENCE, rest).map(|(info, _)| info)
}

/// The content of an element with this tag that is all there is.
fn whole(tag: u8, der: &[u8]) -> Option<&[u8]> {
    element(tag, der).filter(|(_, rest)| rest.is_empty()).map(|(content, _)| content)
}
