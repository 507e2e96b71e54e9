//! Versions of keys as the crypto library wants them: made anew, or parsed from what is stored.
//!
//! Symmetric keys, seeds and nonces come from the server's own randomness; RSA and EC keys are made by the library with its own.

use aws_lc_rs::aead::{LessSafeKey, UnboundKey};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType as Length, Prk, Salt};
use aws_lc_rs::rsa::{OaepPrivateDecryptingKey, Pkcs1PrivateDecryptingKey, PrivateDecryptingKey};
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaKeyPair};
use daypass_sdk::{Entropy, Error, Result, Secret, Timestamp};

use super::key::{Key, Version};
use super::key_type::KeyType;

/// A parsed version.
pub(super) enum Material {
    /// Encrypts as it is.
    Aead(LessSafeKey),
    /// The key of each use is derived from a context.
    Derived(Prk),
    Ecdsa(Box<EcdsaPair>),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaPair>),
    /// Only the public half is known, or there is nothing to parse.
    Bare,
}

/// One EC key for both ways to write a signature.
pub(super) struct EcdsaPair {
    pub(super) asn1: EcdsaKeyPair,
    pub(super) fixed: EcdsaKeyPair,
}

/// One RSA key for everything that it does.
pub(super) struct RsaPair {
    pub(super) signing: RsaKeyPair,
    pub(super) oaep: OaepPrivateDecryptingKey,
    pub(super) pkcs1: Pkcs1PrivateDecryptingKey,
}

/// Bytes of an HMAC key for the number that was asked for; 0 means the usual. Errors: `BadRequest` with Vault's text.
pub(super) fn hmac_bytes(wanted: i64) -> Result<usize> {
    let (least, most) = (*HMAC_KEY_BYTES.start(), *HMAC_KEY_BYTES.end());
    match usize::try_from(wanted) {
        Ok(0) => Ok(least),
        Ok(size) if HMAC_KEY_BYTES.contains(&size) => Ok(size),
        _ => Err(Error::bad_request(format!("invalid key size {wanted} for HMAC key, must be between {least} and {most} bytes"))),
    }
}

/// Makes the material of a new version. Slow for RSA. Errors: `BadRequest` for a size that no HMAC key has.
pub(super) fn generate(key_type: KeyType, key_size: usize, entropy: &dyn Entropy, now: Timestamp) -> Result<Version> {
    let failed = |error: Unspecified| Error::internal("a key could not be made").because(error);
    let secret = if let Some(usual) = key_type.random_bytes() {
        // The size may come from a row that was restored by a server that did not look at it.
        let size = if key_type == KeyType::Hmac { hmac_bytes(i64::try_from(key_size).unwrap_or(i64::MAX))? } else { usual };
        let mut bytes = vec![0; size];
        entropy.fill(&mut bytes);
        bytes
    } else if let Some(size) = key_type.rsa() {
        let pair = RsaKeyPair::generate(size).map_err(failed)?;
        pair.as_der().map_err(failed)?.as_ref().to_vec()
    } else {
        let pair = EcdsaKeyPair::generate(ecdsa(key_type)?.0).map_err(failed)?;
        pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()
    };
    version(key_type, Secret::new(secret), entropy, now)
}

/// A version of this material. Errors: `BadRequest` when it is no key of this type.
pub(super) fn version(key_type: KeyType, secret: Secret<Vec<u8>>, entropy: &dyn Entropy, now: Timestamp) -> Result<Version> {
    let public = public_half(key_type, &secret)?;
    let hmac_key = match key_type {
        KeyType::Hmac => secret.clone(),
        _ => Secret::new(entropy.bytes::<32>().to_vec()),
    };
    Ok(Version { created: now, secret, hmac_key, public, chain: String::new() })
}

/// A version that can only verify and encrypt. Errors: `BadRequest` when it is no public key of this type.
pub(super) fn public_version(key_type: KeyType, spki: &[u8], entropy: &dyn Entropy, now: Timestamp) -> Result<Version> {
    let public = public_spki(key_type, spki)?;
    let hmac_key = Secret::new(entropy.bytes::<32>().to_vec());
    Ok(Version { created: now, secret: Secret::new(Vec::new()), hmac_key, public, chain: String::new() })
}

/// The public half in the form that is stored. Errors: `BadRequest` when it is no public key of this type.
pub(super) fn public_spki(key_type: KeyType, spki: &[u8]) -> Result<Vec<u8>> {
    let refuse = |error: KeyRejected| not_a_key(key_type).because(error);
    let parse = |algorithm: &'static dyn signature::VerificationAlgorithm| signature::ParsedPublicKey::new(algorithm, spki).map_err(refuse);
    if let Some(size) = key_type.rsa() {
        let parsed = parse(&signature::RSA_PSS_2048_8192_SHA256)?;
        let key = aws_lc_rs::rsa::PublicEncryptingKey::from_der(spki).map_err(refuse)?;
        return if key.key_size_bytes() == size.len() { spki_of(&parsed) } else { Err(not_a_key(key_type)) };
    }
    if key_type == KeyType::Ed25519 {
        parse(&signature::ED25519)?;
        // The last bytes of an ed25519 SubjectPublicKeyInfo are the key itself.
        return Ok(spki.len().checked_sub(ED25519_BYTES).and_then(|start| spki.get(start..)).unwrap_or_default().to_vec());
    }
    if !key_type.is_ecdsa() {
        return Err(Error::bad_request(format!("keys of type {} have no public half", key_type.name())));
    }
    spki_of(&parse(ecdsa(key_type)?.2)?)
}

/// Whether the parts of a version that came from outside are what they say. Errors: `BadRequest`.
pub(super) fn check(key: &Key, number: u64, version: &Version) -> Result<()> {
    let key_type = key.key_type;
    let refuse = || Err(not_a_key(key_type));
    // Only looked at.
    let hmac_bytes = version.hmac_key.expose().len();
    let other_hmac = key_type == KeyType::Hmac && version.hmac_key != version.secret;
    if !HMAC_KEY_BYTES.contains(&hmac_bytes) || other_hmac {
        return refuse();
    }
    if number == key.latest {
        key.check_latest()?;
    }
    let public = match key_type {
        _ if !version.is_bare() => public_half(key_type, &version.secret)?,
        // What is stored of it is no SubjectPublicKeyInfo, which the library would take too.
        KeyType::Ed25519 if version.public.len() != ED25519_BYTES => return refuse(),
        _ => public_spki(key_type, &version.public)?,
    };
    if public != version.public {
        return refuse();
    }
    Material::parse(key, version).map(|_| ()).map_err(|error| not_a_key(key_type).because(error))
}

impl Material {
    /// Parses a version. Errors: `Internal` when what is stored is no key.
    pub(super) fn parse(key: &Key, version: &Version) -> Result<Self> {
        let broken = |error: KeyRejected| Error::internal("a stored key is not readable").because(error);
        // Into the crypto library, as everywhere below.
        let secret = version.secret.expose();
        if secret.is_empty() {
            return Ok(Self::Bare);
        }
        if key.derived {
            return Ok(Self::Derived(Salt::new(HKDF_SHA256, &[]).extract(secret)));
        }
        if let Some(cipher) = key.key_type.aead() {
            return unbound(cipher, secret).map(Self::Aead);
        }
        if key.key_type.is_rsa() {
            return rsa(secret).map(|pair| Self::Rsa(Box::new(pair))).map_err(broken);
        }
        match key.key_type {
            KeyType::Hmac => Ok(Self::Bare),
            KeyType::Ed25519 => Ed25519KeyPair::from_seed_unchecked(secret).map(Self::Ed25519).map_err(broken),
            other => {
                let (asn1, fixed, _) = ecdsa(other)?;
                let asn1 = EcdsaKeyPair::from_pkcs8(asn1, secret).map_err(broken)?;
                let fixed = EcdsaKeyPair::from_pkcs8(fixed, secret).map_err(broken)?;
                Ok(Self::Ecdsa(Box::new(EcdsaPair { asn1, fixed })))
            }
        }
    }
}

/// A cipher with this key.
pub(super) fn unbound(cipher: &'static aws_lc_rs::aead::Algorithm, key: &[u8]) -> Result<LessSafeKey> {
    let key = UnboundKey::new(cipher, key).map_err(|error| Error::internal("a key has the wrong length").because(error))?;
    Ok(LessSafeKey::new(key))
}

/// So many bytes for a context: HKDF-SHA256 without a salt, the context as its info, as Vault derives keys.
pub(super) fn derive(prk: &Prk, context: &[u8], length: usize) -> Result<Secret<Vec<u8>>> {
    let failed = |error: Unspecified| Error::internal("a key could not be derived").because(error);
    let mut out = vec![0; length];
    prk.expand(&[context], OutputLength(length)).and_then(|okm| okm.fill(&mut out)).map_err(failed)?;
    Ok(Secret::new(out))
}

struct OutputLength(usize);

impl Length for OutputLength {
    fn len(&self) -> usize {
        self.0
    }
}

fn public_half(key_type: KeyType, secret: &Secret<Vec<u8>>) -> Result<Vec<u8>> {
    let refuse = |error: KeyRejected| not_a_key(key_type).because(error);
    // Into the crypto library.
    let secret = secret.expose();
    if let Some(size) = key_type.rsa() {
        let pair = RsaKeyPair::from_pkcs8(secret).map_err(refuse)?;
        return if pair.public_modulus_len() == size.len() { spki_of(pair.public_key()) } else { Err(not_a_key(key_type)) };
    }
    match key_type {
        KeyType::Ed25519 => Ok(Ed25519KeyPair::from_seed_unchecked(secret).map_err(refuse)?.public_key().as_ref().to_vec()),
        KeyType::EcdsaP256 | KeyType::EcdsaP384 | KeyType::EcdsaP521 => {
            spki_of(EcdsaKeyPair::from_pkcs8(ecdsa(key_type)?.0, secret).map_err(refuse)?.public_key())
        }
        KeyType::Hmac if HMAC_KEY_BYTES.contains(&secret.len()) => Ok(Vec::new()),
        other if other.random_bytes() == Some(secret.len()) => Ok(Vec::new()),
        _ => Err(not_a_key(key_type)),
    }
}

fn spki_of(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Result<Vec<u8>> {
    let failed = |error: Unspecified| Error::internal("a public key could not be written").because(error);
    Ok(key.as_der().map_err(failed)?.as_ref().to_vec())
}

fn rsa(pkcs8: &[u8]) -> Result<RsaPair, KeyRejected> {
    let private = PrivateDecryptingKey::from_pkcs8(pkcs8)?;
    Ok(RsaPair {
        signing: RsaKeyPair::from_pkcs8(pkcs8)?,
        oaep: OaepPrivateDecryptingKey::new(private.clone())?,
        pkcs1: Pkcs1PrivateDecryptingKey::new(private)?,
    })
}

/// How a curve signs: as ASN.1, as two numbers of fixed length; and a way to read its public keys.
pub(super) type Curve = (&'static EcdsaSigningAlgorithm, &'static EcdsaSigningAlgorithm, &'static signature::EcdsaVerificationAlgorithm);

pub(super) fn ecdsa(key_type: KeyType) -> Result<Curve> {
    match key_type {
        KeyType::EcdsaP256 => Ok((
            &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            &signature::ECDSA_P256_SHA256_ASN1,
        )),
        KeyType::EcdsaP384 => Ok((
            &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
            &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
            &signature::ECDSA_P384_SHA384_ASN1,
        )),
        KeyType::EcdsaP521 => Ok((
            &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
            &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
            &signature::ECDSA_P521_SHA512_ASN1,
        )),
        other => Err(Error::internal(format!("{} is no key on a curve", other.name()))),
    }
}

fn not_a_key(key_type: KeyType) -> Error {
    Error::bad_request(format!("the key material is no key of type {}", key_type.name()))
}

/// Sizes of HMAC keys.
const HMAC_KEY_BYTES: std::ops::RangeInclusive<usize> = 32..=512;
/// Bytes of a public key of ed25519.
const ED25519_BYTES: usize = 32;
