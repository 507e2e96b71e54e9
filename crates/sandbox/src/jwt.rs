//! Web identity tokens: RS256 and ES256 JSON Web Tokens checked against the keys of a registered issuer. Sources: RFC 7515, 7517, 7518, 7519.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A public key of an issuer.
#[derive(Debug, Clone)]
pub(crate) struct VerifyingKey {
    id: Option<String>,
    kind: KeyKind,
}

#[derive(Debug, Clone)]
enum KeyKind {
    /// `0x04`, x, y.
    Es256([u8; 65]),
    Rs256 {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

/// One key of a JSON Web Key Set; unknown members are ignored, as RFC 7517 wants.
#[derive(Debug, Deserialize)]
pub(crate) struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

impl Jwk {
    /// Whether tokens that are signed by such a key can be checked here.
    pub(crate) fn is_supported(&self) -> bool {
        matches!((self.kty.as_str(), self.crv.as_str()), ("RSA", _) | ("EC", "P-256"))
    }
}

impl VerifyingKey {
    /// Says what is wrong with the key.
    pub(crate) fn from_jwk(jwk: &Jwk) -> Result<Self, String> {
        let part = |name: &str, text: &str| {
            BASE64URL_NOPAD
                .decode(text.trim_end_matches('=').as_bytes())
                .map_err(|error| format!("member {name} of a key is no base64url: {error}"))
        };
        let kind = match (jwk.kty.as_str(), jwk.crv.as_str()) {
            ("RSA", _) => KeyKind::Rs256 { n: part("n", &jwk.n)?, e: part("e", &jwk.e)? },
            ("EC", "P-256") => {
                let mut point = vec![4];
                point.extend(part("x", &jwk.x)?);
                point.extend(part("y", &jwk.y)?);
                KeyKind::Es256(point.try_into().map_err(|_length| "x and y of a P-256 key must be 32 bytes each".to_owned())?)
            }
            (kind, curve) => return Err(format!("key type {kind:?} {curve:?} is not supported: use RSA, or EC with P-256")),
        };
        Ok(Self { id: jwk.kid.clone(), kind })
    }

    fn verifies(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        match (&self.kind, algorithm) {
            (KeyKind::Rs256 { n, e }, "RS256") => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            (KeyKind::Es256(point), "ES256") => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok(),
            _ => false,
        }
    }
}

/// A token taken apart, nothing checked yet.
#[derive(Debug)]
pub(crate) struct Token<'t> {
    signed: &'t str,
    signature: Vec<u8>,
    algorithm: String,
    key_id: Option<String>,
    pub(crate) claims: Map<String, Value>,
}

impl<'t> Token<'t> {
    /// `None` when it is no JSON Web Token.
    pub(crate) fn parse(text: &'t str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).ok();
        let header: Map<String, Value> = serde_json::from_slice(&decode(header)?).ok()?;
        let claims = serde_json::from_slice(&decode(claims)?).ok()?;
        let member = |name: &str| header.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self { signed, signature: decode(signature)?, algorithm: member("alg")?, key_id: member("kid"), claims })
    }

    /// Whether one of `keys` signed it. A key id in the token must be that key's.
    pub(crate) fn is_signed_by(&self, keys: &[VerifyingKey]) -> bool {
        keys.iter()
            .filter(|key| self.key_id.is_none() || key.id.is_none() || key.id == self.key_id)
            .any(|key| key.verifies(&self.algorithm, self.signed.as_bytes(), &self.signature))
    }

    /// Whether one of `keys` may be the one that signed it, by its id.
    pub(crate) fn names_one_of(&self, keys: &[VerifyingKey]) -> bool {
        keys.iter().any(|key| self.key_id.is_none() || key.id.is_none() || key.id == self.key_id)
    }

    pub(crate) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }

    /// A time in seconds since 1970.
    pub(crate) fn time(&self, claim: &str) -> Option<i64> {
        let value = self.claims.get(claim)?;
        #[expect(clippy::cast_possible_truncation, reason = "RFC 7519 allows fractions of a second, which do not matter here")]
        value.as_i64().or_else(|| value.as_f64().map(|number| number as i64))
    }

    /// `aud` is one text or a list.
    pub(crate) fn audiences(&self) -> Vec<&str> {
        match self.claims.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }
}
