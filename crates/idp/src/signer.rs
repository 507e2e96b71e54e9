//! Keys of a test's issuer: they sign tokens, and show their public half as a key set or as PEM.

#![expect(clippy::expect_used, reason = "a test's scaffold fails by panicking, as its assertions do")]

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::{Value, json};

/// A key pair with an id.
pub struct Signer {
    id: String,
    pair: Pair,
}

enum Pair {
    Ec(Curve, Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
    Rsa(Box<RsaKeyPair>),
}

#[derive(Clone, Copy)]
enum Curve {
    P256,
    P384,
    P521,
}

impl Signer {
    /// A new key for this algorithm of RFC 7518 or RFC 8037. RSA keys sign with each of theirs.
    #[must_use]
    pub fn new(algorithm: &str, id: &str) -> Self {
        let ec = |curve, algorithm| Pair::Ec(curve, Box::new(EcdsaKeyPair::generate(algorithm).expect("a key can be made")));
        let pair = match algorithm {
            "ES256" => ec(Curve::P256, &signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => ec(Curve::P384, &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            "ES512" => ec(Curve::P521, &signature::ECDSA_P521_SHA512_FIXED_SIGNING),
            "EdDSA" => Pair::Ed25519(Box::new(Ed25519KeyPair::generate().expect("a key can be made"))),
            _ => Pair::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key can be made"))),
        };
        Self { id: id.to_owned(), pair }
    }

    /// The public half as a JSON Web Key.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let text = |bytes: Option<&[u8]>| BASE64URL_NOPAD.encode(bytes.unwrap_or_default());
        let mut jwk = match &self.pair {
            Pair::Ec(curve, pair) => {
                let (name, size) = match curve {
                    Curve::P256 => ("P-256", 32),
                    Curve::P384 => ("P-384", 48),
                    Curve::P521 => ("P-521", 66),
                };
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": name, "x": text(point.get(1..=size)), "y": text(point.get(1 + size..))})
            }
            Pair::Ed25519(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": text(Some(pair.public_key().as_ref()))}),
            // A sequence of two numbers, which lie at the same place in every key of this size.
            Pair::Rsa(pair) => json!({"kty": "RSA", "n": text(pair.public_key().as_ref().get(9..265)), "e": "AQAB"}),
        };
        if let Some(jwk) = jwk.as_object_mut() {
            jwk.insert("kid".to_owned(), self.id.clone().into());
            jwk.insert("use".to_owned(), "sig".into());
        }
        jwk
    }

    /// A key set of these keys.
    #[must_use]
    pub fn set(signers: &[&Self]) -> Value {
        json!({ "keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>() })
    }

    /// The public half as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = match &self.pair {
            Pair::Ec(_, pair) => pair.public_key().as_der(),
            Pair::Ed25519(pair) => pair.public_key().as_der(),
            Pair::Rsa(pair) => pair.public_key().as_der(),
        }
        .expect("a public key can be shown");
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(der.as_ref()))
    }

    /// A token with these claims, signed by the key's first algorithm and naming the key.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> String {
        let algorithm = match &self.pair {
            Pair::Ec(Curve::P256, _) => "ES256",
            Pair::Ec(Curve::P384, _) => "ES384",
            Pair::Ec(Curve::P521, _) => "ES512",
            Pair::Ed25519(_) => "EdDSA",
            Pair::Rsa(_) => "RS256",
        };
        self.sign_as(&json!({"alg": algorithm, "typ": "JWT", "kid": self.id}).to_string(), &claims.to_string())
    }

    /// A token of this header and payload, whatever they are. What is signed is honest; RSA signs as the header's `alg` says.
    #[must_use]
    pub fn sign_as(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", BASE64URL_NOPAD.encode(header.as_bytes()), BASE64URL_NOPAD.encode(payload.as_bytes()));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Ec(_, pair) => pair.sign(&random, message.as_bytes()).expect("a key signs").as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let padding: &'static dyn signature::RsaEncoding = match serde_json::from_str::<Value>(header).ok().as_ref() {
                    Some(header) if header["alg"] == "PS256" => &signature::RSA_PSS_SHA256,
                    Some(header) if header["alg"] == "PS384" => &signature::RSA_PSS_SHA384,
                    Some(header) if header["alg"] == "PS512" => &signature::RSA_PSS_SHA512,
                    Some(header) if header["alg"] == "RS384" => &signature::RSA_PKCS1_SHA384,
                    Some(header) if header["alg"] == "RS512" => &signature::RSA_PKCS1_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message.as_bytes(), &mut signature).expect("a key signs");
                signature
            }
        };
        format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
    }
}
