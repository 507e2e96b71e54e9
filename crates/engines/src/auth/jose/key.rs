//! Public keys of issuers: from a JSON Web Key or a PEM text, to the answer whether one of them signed a token.
//!
//! What a key can verify follows from its own type, never from the token: a public key is never a password for HMAC, and an RSA key with
//! an `alg` of its own verifies nothing else. Sources: RFC 7517, RFC 7518, RFC 8037; RFC 5280 and RFC 8410 for PEM.

use aws_lc_rs::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use data_encoding::{BASE64URL, BASE64URL_NOPAD};
use daypass_base::Brief;
use daypass_idp::strict;
use serde_json::{Map, Value};

use super::pem;
use super::token::{Algorithm, Token};

/// Keys of one set.
const KEYS_MAX: usize = 256;
/// Keys that are tried for one token: those of its id, or all of a set without ids.
const TRIES_MAX: usize = 32;

/// A public key of an issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::auth) struct Key {
    /// What the key set calls it.
    pub(in crate::auth) id: Option<String>,
    /// The one algorithm that its issuer has it for, if it says so.
    only: Option<Algorithm>,
    pub(in crate::auth) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::auth) enum Kind {
    Ed25519(Vec<u8>),
    /// `0x04`, x, y.
    P256(Vec<u8>),
    P384(Vec<u8>),
    P521(Vec<u8>),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

/// Proof that a key verified a token; only [`verify`] makes it.
pub(in crate::auth) struct Proven(());

/// Whether one of these keys signed a token. `None` when none of them could have: another key set may know.
pub(in crate::auth) fn verify(keys: &[Key], token: &Token<'_>) -> Option<Proven> {
    let fits = |key: &&Key| key.can_verify(token.algorithm);
    let named = |key: &&Key| key.id.is_some() && key.id == token.key_id;
    let by_id = token.key_id.is_some() && keys.iter().any(|key| named(&key));
    // A key id chooses where our keys have ids; keys without one (PEM texts have none) are all tried.
    let chosen = keys.iter().filter(|key| if by_id { named(key) } else { token.key_id.is_none() || key.id.is_none() });
    chosen.filter(fits).take(TRIES_MAX).any(|key| key.verifies(token)).then_some(Proven(()))
}

impl Key {
    /// From a PEM text: a public key, or a certificate of one. Says what is wrong with it.
    pub(in crate::auth) fn from_pem(text: &str) -> Result<Self, String> {
        pem::read(text).and_then(Kind::checked).map(|kind| Self { id: None, only: None, kind })
    }

    /// From a JSON Web Key. `None` for one that verifies no tokens: another type, another use.
    fn from_jwk(jwk: &Map<String, Value>) -> Result<Option<Self>, String> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str).unwrap_or_default();
        let verifies = |ops: &Value| ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify"));
        if !matches!(text("use"), "" | "sig") || jwk.get("key_ops").is_some_and(|ops| !ops.is_null() && !verifies(ops)) {
            return Ok(None);
        }
        let only = match text("alg") {
            "" => None,
            name => match Algorithm::parse(name) {
                Some(algorithm) => Some(algorithm),
                None => return Ok(None),
            },
        };
        let kind = match (text("kty"), text("crv")) {
            ("EC", "P-256") => Kind::P256(point(text("x"), text("y"), 32)?),
            ("EC", "P-384") => Kind::P384(point(text("x"), text("y"), 48)?),
            ("EC", "P-521") => Kind::P521(point(text("x"), text("y"), 66)?),
            ("OKP", "Ed25519") => Kind::Ed25519(part("x", text("x"))?),
            ("RSA", _) => Kind::Rsa { n: part("n", text("n"))?, e: part("e", text("e"))? },
            _ => return Ok(None),
        };
        let id = jwk.get("kid").and_then(Value::as_str).map(str::to_owned);
        Ok(Some(Self { id, only, kind: kind.checked()? }))
    }

    fn can_verify(&self, algorithm: Algorithm) -> bool {
        let of_kind = match &self.kind {
            Kind::Ed25519(_) => algorithm == Algorithm::EdDsa,
            Kind::P256(_) => algorithm == Algorithm::Es256,
            Kind::P384(_) => algorithm == Algorithm::Es384,
            Kind::P521(_) => algorithm == Algorithm::Es512,
            Kind::Rsa { .. } => rsa(algorithm).is_some(),
        };
        of_kind && self.only.is_none_or(|only| only == algorithm)
    }

    fn verifies(&self, token: &Token<'_>) -> bool {
        let (message, signature) = (token.signed.as_bytes(), token.signature.as_slice());
        let plain = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
        };
        match &self.kind {
            Kind::Ed25519(key) => plain(&signature::ED25519, key),
            Kind::P256(key) => plain(&signature::ECDSA_P256_SHA256_FIXED, key),
            Kind::P384(key) => plain(&signature::ECDSA_P384_SHA384_FIXED, key),
            Kind::P521(key) => plain(&signature::ECDSA_P521_SHA512_FIXED, key),
            Kind::Rsa { n, e } => rsa(token.algorithm).is_some_and(|algorithm| {
                let key = RsaPublicKeyComponents { n: n.as_slice(), e: e.as_slice() };
                key.verify(algorithm, message, signature).is_ok()
            }),
        }
    }
}

impl Kind {
    /// Checks sizes; whether a point lies on its curve is checked with each signature.
    pub(in crate::auth) fn checked(self) -> Result<Self, String> {
        let wanted = match &self {
            Self::Ed25519(key) => (key.len() == 32).then_some(()).ok_or("an Ed25519 key has 32 bytes"),
            Self::P256(key) => (key.len() == 65).then_some(()).ok_or("a P-256 key has two coordinates of 32 bytes"),
            Self::P384(key) => (key.len() == 97).then_some(()).ok_or("a P-384 key has two coordinates of 48 bytes"),
            Self::P521(key) => (key.len() == 133).then_some(()).ok_or("a P-521 key has two coordinates of 66 bytes"),
            Self::Rsa { n, e } => {
                let bits = n.iter().position(|byte| *byte != 0).map_or(0, |zeros| (n.len() - zeros) * 8);
                let sound = (2048..=8192).contains(&bits) && (1..=8).contains(&e.len());
                sound.then_some(()).ok_or("an RSA key has 2048 to 8192 bits and a short exponent")
            }
        };
        wanted.map_err(str::to_owned)?;
        Ok(match self {
            // The library takes them without leading zeros.
            Self::Rsa { n, e } => Self::Rsa { n: without_zeros(n), e: without_zeros(e) },
            other => other,
        })
    }
}

fn without_zeros(mut bytes: Vec<u8>) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    bytes
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        _ => return None,
    })
}

/// Reads a key set. What it has for other purposes, and keys that cannot be read, are left out; a set without any key of use is refused.
pub(in crate::auth) fn read_set(bytes: &[u8]) -> Result<Vec<Key>, String> {
    let set = strict::object(bytes)?;
    let listed = set.get("keys").and_then(Value::as_array).ok_or("it has no list \"keys\"")?;
    if listed.len() > KEYS_MAX {
        return Err(format!("it has {} keys, over the limit of {KEYS_MAX}", listed.len()));
    }
    let (mut keys, mut problem) = (Vec::new(), None);
    for jwk in listed.iter().filter_map(Value::as_object) {
        match Key::from_jwk(jwk) {
            Ok(key) => keys.extend(key),
            Err(why) => {
                let id = jwk.get("kid").and_then(Value::as_str).unwrap_or_default();
                problem = Some(format!("its key {:?} cannot be used: {why}", Brief(id)));
            }
        }
    }
    if keys.is_empty() { Err(problem.unwrap_or_else(|| "it has no key that verifies tokens".to_owned())) } else { Ok(keys) }
}

fn part(name: &str, text: &str) -> Result<Vec<u8>, String> {
    // RFC 7518 has no padding; some servers write it.
    let decoded = BASE64URL_NOPAD.decode(text.as_bytes()).or_else(|_padded| BASE64URL.decode(text.as_bytes()));
    decoded.map_err(|_its_place_says_little| format!("{name} is no base64url"))
}

fn point(x: &str, y: &str, size: usize) -> Result<Vec<u8>, String> {
    let (x, y) = (part("x", x)?, part("y", y)?);
    if x.len() != size || y.len() != size {
        return Err(format!("x and y must have {size} bytes each"));
    }
    Ok([&[4], x.as_slice(), y.as_slice()].concat())
}
