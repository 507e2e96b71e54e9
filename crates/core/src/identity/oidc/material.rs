//! Signing keys as the crypto library wants them, and their public halves as JSON Web Keys. Sources: RFC 7517, RFC 7518, RFC 8037.
//!
//! Making and using RSA keys is slow: callers do it off the runtime.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair};
use data_encoding::BASE64URL_NOPAD;
use daypass_base::Secret;
use daypass_sdk::{Error, Result, into_the_sealed_store};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How a key signs, by the names of RFC 7518.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Algorithm {
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "ES384")]
    Es384,
    #[serde(rename = "ES512")]
    Es512,
    #[serde(rename = "EdDSA")]
    EdDsa,
    #[default]
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "RS384")]
    Rs384,
    #[serde(rename = "RS512")]
    Rs512,
}

/// What the library needs to know of an algorithm.
enum Scheme {
    Curve(&'static EcdsaSigningAlgorithm, &'static str),
    Edwards,
    Rsa(&'static dyn RsaEncoding),
}

impl Algorithm {
    /// All of them, in the order in which documents name them.
    pub(crate) const ALL: [Self; 7] = [Self::Rs256, Self::Rs384, Self::Rs512, Self::Es256, Self::Es384, Self::Es512, Self::EdDsa];

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
        }
    }

    fn scheme(self) -> Scheme {
        match self {
            Self::Es256 => Scheme::Curve(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
            Self::Es384 => Scheme::Curve(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
            Self::Es512 => Scheme::Curve(&signature::ECDSA_P521_SHA512_FIXED_SIGNING, "P-521"),
            Self::EdDsa => Scheme::Edwards,
            Self::Rs256 => Scheme::Rsa(&signature::RSA_PKCS1_SHA256),
            Self::Rs384 => Scheme::Rsa(&signature::RSA_PKCS1_SHA384),
            Self::Rs512 => Scheme::Rsa(&signature::RSA_PKCS1_SHA512),
        }
    }
}

/// The public half of a key, as the document shows it. Names are those of RFC 7517.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Jwk {
    #[serde(rename = "use")]
    usage: String,
    kty: String,
    pub(crate) kid: String,
    pub(crate) alg: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    y: Option<String>,
}

/// A key that signs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SigningKey {
    pub(crate) algorithm: Algorithm,
    /// PKCS #8, in base64.
    #[serde(serialize_with = "into_the_sealed_store")]
    private: Secret<String>,
    pub(crate) public: Jwk,
}

impl SigningKey {
    /// A new key of this id. Slow for RSA.
    pub(crate) fn generate(algorithm: Algorithm, id: String) -> Result<Self> {
        let failed = |error: Unspecified| Error::internal("a signing key could not be made").because(error);
        let named = |kty: &str| Jwk {
            usage: "sig".to_owned(),
            kty: kty.to_owned(),
            kid: id.clone(),
            alg: algorithm.name().to_owned(),
            n: None,
            e: None,
            crv: None,
            x: None,
            y: None,
        };
        let (private, public) = match algorithm.scheme() {
            Scheme::Curve(curve, name) => {
                let pair = EcdsaKeyPair::generate(curve).map_err(failed)?;
                let private = Zeroizing::new(pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec());
                let (x, y) = coordinates(pair.public_key().as_ref())?;
                (private, Jwk { crv: Some(name.to_owned()), x: Some(encoded(x)), y: Some(encoded(y)), ..named("EC") })
            }
            Scheme::Edwards => {
                let pair = Ed25519KeyPair::generate().map_err(failed)?;
                let private = Zeroizing::new(pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec());
                (private, Jwk { crv: Some("Ed25519".to_owned()), x: Some(encoded(pair.public_key().as_ref())), ..named("OKP") })
            }
            Scheme::Rsa(_) => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
                let private = Zeroizing::new(pair.as_der().map_err(failed)?.as_ref().to_vec());
                let (n, e) = rsa_numbers(pair.public_key().as_ref())?;
                (private, Jwk { n: Some(encoded(n)), e: Some(encoded(e)), ..named("RSA") })
            }
        };
        Ok(Self { algorithm, private: Secret::new(data_encoding::BASE64.encode(&private)), public })
    }

    /// A JSON Web Token with these claims, in JSON. Slow for RSA.
    pub(crate) fn sign(&self, claims: &[u8]) -> Result<Secret<String>> {
        let header = serde_json::json!({ "alg": self.algorithm.name(), "kid": self.public.kid }).to_string();
        let mut token = format!("{}.{}", encoded(header.as_bytes()), encoded(claims));
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        token.push_str(&encoded(&signature));
        Ok(Secret::new(token))
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>> {
        let unreadable = || Error::internal("a stored signing key is not readable");
        let failed = |error: Unspecified| Error::internal("signing failed").because(error);
        // Into the crypto library.
        let private = data_encoding::BASE64.decode(self.private.expose().as_bytes()).map(Zeroizing::new);
        let private = private.map_err(|error| unreadable().because(error))?;
        match self.algorithm.scheme() {
            Scheme::Curve(curve, _) => {
                let pair = EcdsaKeyPair::from_pkcs8(curve, &private).map_err(|error| unreadable().because(error))?;
                Ok(pair.sign(&SystemRandom::new(), message).map_err(failed)?.as_ref().to_vec())
            }
            Scheme::Edwards => {
                let pair = Ed25519KeyPair::from_pkcs8(&private).map_err(|error| unreadable().because(error))?;
                Ok(pair.sign(message).as_ref().to_vec())
            }
            Scheme::Rsa(encoding) => {
                let pair = RsaKeyPair::from_pkcs8(&private).map_err(|error| unreadable().because(error))?;
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), message, &mut out).map_err(failed)?;
                Ok(out)
            }
        }
    }
}

fn encoded(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

/// The two coordinates of an uncompressed point: 4, x, y.
fn coordinates(point: &[u8]) -> Result<(&[u8], &[u8])> {
    match point.split_first() {
        Some((4, both)) if both.len().is_multiple_of(2) => Ok(both.split_at(both.len() / 2)),
        _ => Err(Error::internal("the public half of a new key is no uncompressed point")),
    }
}

/// Modulus and exponent of a public RSA key as RFC 8017 writes it: a sequence of two integers.
fn rsa_numbers(der: &[u8]) -> Result<(&[u8], &[u8])> {
    let numbers = || {
        let (sequence, rest) = element(SEQUENCE, der)?;
        let (n, more) = element(INTEGER, sequence)?;
        let (e, end) = element(INTEGER, more)?;
        (rest.is_empty() && end.is_empty()).then_some((positive(n), positive(e)))
    };
    numbers().ok_or_else(|| Error::internal("the public half of a new key is not understood"))
}

/// The content of a DER element, and what follows it.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let mut length = usize::from(*first);
    if length >= 0x80 {
        let (digits, after) = rest.split_at_checked(length - 0x80)?;
        length = digits.iter().try_fold(0_usize, |length, digit| length.checked_mul(256)?.checked_add(usize::from(*digit)))?;
        rest = after;
    }
    rest.split_at_checked(length).filter(|_| *found == tag)
}

/// A positive integer without the zero that only says that it is one.
fn positive(integer: &[u8]) -> &[u8] {
    integer.strip_prefix(&[0]).unwrap_or(integer)
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};

    use super::*;

    fn decoded(text: Option<&String>) -> Vec<u8> {
        BASE64URL_NOPAD.decode(text.unwrap().as_bytes()).unwrap()
    }

    /// As somebody checks it who has nothing but the document.
    fn verifies(key: &Jwk, token: &str) -> bool {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
        let plain = |algorithm: &'static dyn VerificationAlgorithm, public: Vec<u8>| {
            UnparsedPublicKey::new(algorithm, public).verify(signed.as_bytes(), &signature).is_ok()
        };
        let point = || [vec![4], decoded(key.x.as_ref()), decoded(key.y.as_ref())].concat();
        let rsa = |parameters| {
            let public = RsaPublicKeyComponents { n: decoded(key.n.as_ref()), e: decoded(key.e.as_ref()) };
            public.verify(parameters, signed.as_bytes(), &signature).is_ok()
        };
        match key.alg.as_str() {
            "ES256" => plain(&signature::ECDSA_P256_SHA256_FIXED, point()),
            "ES384" => plain(&signature::ECDSA_P384_SHA384_FIXED, point()),
            "ES512" => plain(&signature::ECDSA_P521_SHA512_FIXED, point()),
            "EdDSA" => plain(&signature::ED25519, decoded(key.x.as_ref())),
            "RS256" => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            "RS384" => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            "RS512" => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn tokens_of_every_algorithm_are_verified_by_the_published_key_alone() {
        let other = SigningKey::generate(Algorithm::Es256, "other".to_owned()).unwrap();
        for algorithm in Algorithm::ALL {
            let key = SigningKey::generate(algorithm, "k".to_owned()).unwrap();
            let stored: SigningKey = serde_json::from_str(&serde_json::to_string(&key).unwrap()).unwrap();
            let token = stored.sign(br#"{"sub":"x"}"#).unwrap();
            assert!(verifies(&key.public, token.expose()), "{}", algorithm.name());
            let header: serde_json::Value =
                serde_json::from_slice(&decoded(token.expose().split('.').next().map(str::to_owned).as_ref())).unwrap();
            assert_eq!(header, serde_json::json!({ "alg": algorithm.name(), "kid": "k" }));
            if algorithm == Algorithm::Es256 {
                assert!(!verifies(&other.public, token.expose()));
            }
            let shown = serde_json::to_string(&key.public).unwrap();
            assert!(!shown.contains("null") && shown.starts_with(r#"{"use":"sig","kty":"#), "{shown}");
        }
    }

    #[test]
    fn an_rsa_key_of_2048_bits_has_256_bytes_and_the_usual_exponent() {
        let key = SigningKey::generate(Algorithm::Rs256, "k".to_owned()).unwrap();
        assert_eq!((decoded(key.public.n.as_ref()).len(), key.public.e.as_deref()), (256, Some("AQAB")));
        for broken in [&[][..], &[0x30], &[0x30, 0x84], &[0x30, 0x02, 0x02, 0x05], &[0x30, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1]] {
            assert!(rsa_numbers(broken).is_err());
        }
        assert!(coordinates(&[]).is_err() && coordinates(&[4, 1]).is_err() && coordinates(&[2, 1, 1]).is_err());
    }
}
