//! Signatures: made and checked with one version of a key.
//!
//! What the crypto library does not offer is refused in words: RSA with SHA-224 or SHA-3, and `hash_algorithm=none`. The forms of ed25519
//! with a context or a digest are refused with the words of Vault's community edition, which has neither.

use std::sync::OnceLock;

use aws_lc_rs::digest::{Digest, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512};
use aws_lc_rs::signature::{self, Ed25519KeyPair, KeyPair, RsaParameters, RsaPssSaltLength, RsaSignatureEncoding, UnparsedPublicKey};
use daypass_sdk::{Error, Result};

use super::cache::Loaded;
use super::cipher::need_context;
use super::hashing::Hash;
use super::key::{Version, Words};
use super::key_type::KeyType;
use super::material::{self, Material};
use super::payload::{self, Alphabet, Form};
use crate::ber::Elements;
use crate::ber::tag::{INTEGER, SEQUENCE};

/// How to sign.
#[derive(Debug, Clone)]
pub(super) struct How {
    /// `None` stands for `none`.
    pub(super) hash: Option<Hash>,
    /// The input is a digest already.
    pub(super) prehashed: bool,
    pub(super) padding: Padding,
    pub(super) salt: Salt,
    /// JWS has its own alphabet, and its own form of ECDSA signatures.
    pub(super) alphabet: Alphabet,
    /// For derived keys.
    pub(super) context: Vec<u8>,
}

/// How RSA pads a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Padding {
    Pkcs1,
    Pss,
}

/// The length of PSS's salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Salt {
    /// The longest when signing, any when verifying.
    Auto,
    /// So many bytes.
    Bytes(u16),
    /// As long as the digest.
    Hash,
}

/// The salt lengths of PSS that one request may look through where it names none. A look takes an operation of the key, because the library does
/// not tell which length a signature has.
pub(super) struct Search {
    left: usize,
    /// The length that was found last: one signer has one.
    last: Option<usize>,
}

/// A signature with its version, and the public key that it was made with where that was derived.
pub(super) struct Signed {
    pub(super) signature: String,
    pub(super) version: u64,
    pub(super) public: Option<Vec<u8>>,
}

/// Signs with this version (0: the latest). Errors: `BadRequest`.
pub(super) fn sign(key: &Loaded, wanted: i64, input: &[u8], how: &How) -> Result<Signed> {
    let key_type = key.key.key_type;
    let version = key.key.usable(wanted, &WORDS)?;
    let material = key.material(version)?;
    let mut public = None;
    let bytes = if let Material::Derived(prk) = &*material {
        let pair = derived_pair(prk, &how.context)?;
        public = Some(pair.public_key().as_ref().to_vec());
        sign_ed25519(&pair, input)?
    } else {
        signature(key_type, &material, input, how)?
    };
    Ok(Signed { signature: payload::seal(version, &bytes, how.alphabet), version, public })
}

/// A signature as such. Errors: `BadRequest`.
pub(super) fn signature(key_type: KeyType, material: &Material, input: &[u8], how: &How) -> Result<Vec<u8>> {
    match material {
        Material::Ed25519(pair) => sign_ed25519(pair, input),
        Material::Ecdsa(pair) => {
            let digest = curve_digest(key_type, &digest_of(input, how)?)?;
            let pair = if how.alphabet == Alphabet::Url { &pair.fixed } else { &pair.asn1 };
            Ok(pair.sign_digest(&digest).map_err(|error| Error::internal("signing failed").because(error))?.as_ref().to_vec())
        }
        Material::Rsa(pair) => sign_rsa(&pair.signing, input, how),
        Material::Aead(_) | Material::Bare | Material::Derived(_) => {
            Err(Error::bad_request("this version of the key has no private part and cannot sign"))
        }
    }
}

/// Whether a signature fits. Errors: `BadRequest` for a text that is none, or a way to sign that is not offered.
pub(super) fn verify(key: &Loaded, input: &[u8], text: &str, how: &How, search: &mut Search) -> Result<bool> {
    let key_type = key.key.key_type;
    let (number, signature) = payload::open(Form::Signature, text, key.key.window(), how.alphabet)?;
    let version = key.key.version(number)?;
    if key_type == KeyType::Ed25519 {
        let public = if key.key.derived { derived_public(version, &how.context)? } else { version.public.clone() };
        return Ok(UnparsedPublicKey::new(&signature::ED25519, public).verify(input, &signature).is_ok());
    }
    let digest = digest_of(input, how)?;
    if let Some(size) = key_type.rsa() {
        return verify_rsa(&version.public, size.len(), &digest, &signature, how, search);
    }
    if how.alphabet == Alphabet::Standard {
        check_form(&signature).map_err(Error::bad_request)?;
    }
    let digest = curve_digest(key_type, &digest)?;
    let algorithm: &'static signature::EcdsaVerificationAlgorithm = match (how.alphabet, key_type) {
        (Alphabet::Url, KeyType::EcdsaP256) => &signature::ECDSA_P256_SHA256_FIXED,
        (Alphabet::Url, KeyType::EcdsaP384) => &signature::ECDSA_P384_SHA384_FIXED,
        (Alphabet::Url, KeyType::EcdsaP521) => &signature::ECDSA_P521_SHA512_FIXED,
        _ => material::ecdsa(key_type)?.2,
    };
    Ok(UnparsedPublicKey::new(algorithm, &version.public).verify_digest(&digest, &signature).is_ok())
}

/// Whether bytes have the form of an ECDSA signature in DER: two numbers, and nothing after them. Errors: Vault's words for what is none.
fn check_form(signature: &[u8]) -> Result<(), &'static str> {
    let invalid = |_| "supplied signature is invalid";
    let mut outer = Elements::in_der(signature);
    let mut numbers = Elements::in_der(outer.need(SEQUENCE).map_err(invalid)?.content);
    for _ in ["r", "s"] {
        let number = numbers.need(INTEGER).map_err(invalid)?.content;
        // In DER a number has no byte that says nothing.
        if matches!(number, [] | [0x00, 0x00..=0x7f, ..] | [0xff, 0x80..=0xff, ..]) {
            return Err("supplied signature is invalid");
        }
    }
    outer.end().map_err(|_more| "supplied signature contains extra data")
}

/// The public key of a derived ed25519 key in this context. Errors: `BadRequest`, also for a version without a private half: a key derived from
/// nothing is one that everybody has.
pub(super) fn derived_public(version: &Version, context: &[u8]) -> Result<Vec<u8>> {
    if version.is_bare() {
        return Err(Error::bad_request("this version of the key has no private part to derive from"));
    }
    // Into the derivation.
    let prk = aws_lc_rs::hkdf::Salt::new(aws_lc_rs::hkdf::HKDF_SHA256, &[]).extract(version.secret.expose());
    Ok(derived_pair(&prk, context)?.public_key().as_ref().to_vec())
}

fn derived_pair(prk: &aws_lc_rs::hkdf::Prk, context: &[u8]) -> Result<Ed25519KeyPair> {
    need_context(context)?;
    let seed = material::derive(prk, context, 32)?;
    // Into the key pair.
    Ed25519KeyPair::from_seed_unchecked(seed.expose()).map_err(|error| Error::internal("a derived seed is no key").because(error))
}

fn sign_ed25519(pair: &Ed25519KeyPair, input: &[u8]) -> Result<Vec<u8>> {
    Ok(pair.try_sign(input).map_err(|error| Error::internal("signing failed").because(error))?.as_ref().to_vec())
}

fn digest_of(input: &[u8], how: &How) -> Result<Vec<u8>> {
    match how.hash {
        _ if how.prehashed => Ok(input.to_vec()),
        Some(hash) => Ok(hash.digest(input)),
        None => Err(Error::bad_request("hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15")),
    }
}

/// A digest as a curve takes it. ECDSA uses a digest as a number, of which only so many leading bits count; that number can be
/// given to the library as a digest of the one length that it takes for the curve, whatever hash it came from.
fn curve_digest(key_type: KeyType, digest: &[u8]) -> Result<Digest> {
    let (algorithm, length) = match key_type {
        KeyType::EcdsaP256 => (&SHA256, 32),
        KeyType::EcdsaP384 => (&SHA384, 48),
        _ => (&SHA512, 64),
    };
    if digest.len() > 64 {
        return Err(Error::bad_request(format!("the digest has {} bytes; at most 64 can be signed", digest.len())));
    }
    let leading = digest.get(..length).unwrap_or(digest);
    let mut number = vec![0; length - leading.len()];
    number.extend_from_slice(leading);
    Digest::import_less_safe(&number, algorithm).map_err(|error| Error::internal("a digest has the wrong length").because(error))
}

fn sign_rsa(pair: &signature::RsaKeyPair, input: &[u8], how: &How) -> Result<Vec<u8>> {
    let (row, hash) = rsa_hash(how)?;
    let digest = rsa_digest(&digest_of(input, how)?, hash)?;
    let mut out = vec![0; pair.public_modulus_len()];
    let encoding = match (how.padding, row) {
        (Padding::Pkcs1, 0) => &signature::RSA_PKCS1_SHA256,
        (Padding::Pkcs1, 1) => &signature::RSA_PKCS1_SHA384,
        (Padding::Pkcs1, _) => &signature::RSA_PKCS1_SHA512,
        (Padding::Pss, _) => pss_signing(row, salt_bytes(how.salt, pair.public_modulus_len(), hash)?)?,
    };
    let failed = |error| Error::bad_request("crypto/rsa: key size too small for PSS signature").because(error);
    pair.sign_digest(encoding, &digest, &mut out).map_err(failed)?;
    Ok(out)
}

fn verify_rsa(public: &[u8], length: usize, digest: &[u8], signature: &[u8], how: &How, search: &mut Search) -> Result<bool> {
    if how.padding == Padding::Pkcs1 && how.hash.is_some_and(|hash| hash.name == "sha1") {
        let Ok(digest) = Digest::import_less_safe(digest, &SHA1_FOR_LEGACY_USE_ONLY) else { return Err(not_hashed()) };
        let algorithm = &signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY;
        return Ok(UnparsedPublicKey::new(algorithm, public).verify_digest(&digest, signature).is_ok());
    }
    let (row, hash) = rsa_hash(how)?;
    let digest = rsa_digest(digest, hash)?;
    let fits = |algorithm: &'static RsaParameters| UnparsedPublicKey::new(algorithm, public).verify_digest(&digest, signature).is_ok();
    if how.padding == Padding::Pkcs1 {
        return Ok(fits(match row {
            0 => &signature::RSA_PKCS1_2048_8192_SHA256,
            1 => &signature::RSA_PKCS1_2048_8192_SHA384,
            _ => &signature::RSA_PKCS1_2048_8192_SHA512,
        }));
    }
    // A signature is as long as the modulus; any other length is none.
    if signature.len() != length {
        return Ok(false);
    }
    let fits = |salt: usize| Ok(fits(pss_verifying(row, salt)?));
    if how.salt != Salt::Auto {
        return fits(salt_bytes(how.salt, length, hash)?);
    }
    search.find(salt_bytes(Salt::Auto, length, hash)?, salt_bytes(Salt::Hash, length, hash)?, fits)
}

impl Default for Search {
    fn default() -> Self {
        Self { left: SALTS_TRIED_MAX, last: None }
    }
}

impl Search {
    /// Whether a signature fits with any length of salt. The lengths in use are always tried. Errors: `BadRequest` when the request has no more
    /// tries for the others.
    fn find(&mut self, longest: usize, usual: usize, fits: impl Fn(usize) -> Result<bool>) -> Result<bool> {
        let first = [Some(longest), Some(usual), self.last];
        for salt in first.into_iter().flatten() {
            if fits(salt)? {
                return Ok(true);
            }
        }
        for salt in (0..longest).filter(|salt| !first.contains(&Some(*salt))) {
            self.left = self.left.checked_sub(1).ok_or_else(|| {
                Error::bad_request(format!(
                    "the signature has neither the longest salt nor one as long as the hash, and this request has tried {SALTS_TRIED_MAX} other \
                     lengths, the limit: name salt_length"
                ))
            })?;
            if fits(salt)? {
                self.last = Some(salt);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The number of a hash in the tables below. Errors: `BadRequest` for those that the library does not take with RSA.
fn rsa_hash(how: &How) -> Result<(usize, Hash)> {
    let Some(hash) = how.hash else {
        return Err(Error::bad_request("hash_algorithm none is not available: use sha2-256, sha2-384 or sha2-512"));
    };
    let row = ["sha2-256", "sha2-384", "sha2-512"].iter().position(|name| *name == hash.name);
    let row = row.ok_or_else(|| {
        Error::bad_request(format!("hash_algorithm {} is not available for RSA keys: use sha2-256, sha2-384 or sha2-512", hash.name))
    })?;
    Ok((row, hash))
}

fn rsa_digest(digest: &[u8], hash: Hash) -> Result<Digest> {
    Digest::import_less_safe(digest, hash.algorithm).map_err(|error| not_hashed().because(error))
}

fn not_hashed() -> Error {
    Error::bad_request("crypto/rsa: input must be hashed message")
}

/// Bytes of salt. Errors: `BadRequest` when they do not fit beside the digest.
fn salt_bytes(salt: Salt, modulus_bytes: usize, hash: Hash) -> Result<usize> {
    let digest = hash.algorithm.output_len();
    let longest = modulus_bytes.saturating_sub(digest + 2);
    let wanted = match salt {
        Salt::Auto => longest,
        Salt::Bytes(bytes) => usize::from(bytes),
        Salt::Hash => digest,
    };
    if wanted > longest {
        return Err(Error::bad_request(format!("salt_length {wanted} is too long: this key and hash leave room for {longest} bytes")));
    }
    Ok(wanted)
}

// The library wants parameters that live for ever. Each is made once, when its salt length is first used; the tables bound them.
fn pss_signing(row: usize, salt: usize) -> Result<&'static RsaSignatureEncoding> {
    static MADE: [[OnceLock<RsaSignatureEncoding>; SALTS]; 3] = [const { [const { OnceLock::new() }; SALTS] }; 3];
    let (slot, length) = slot(&MADE, row, salt)?;
    Ok(slot.get_or_init(|| {
        let plain = match row {
            0 => signature::RSA_PSS_SHA256,
            1 => signature::RSA_PSS_SHA384,
            _ => signature::RSA_PSS_SHA512,
        };
        plain.with_pss_salt_length(RsaPssSaltLength::Custom(length))
    }))
}

fn pss_verifying(row: usize, salt: usize) -> Result<&'static RsaParameters> {
    static MADE: [[OnceLock<RsaParameters>; SALTS]; 3] = [const { [const { OnceLock::new() }; SALTS] }; 3];
    let (slot, length) = slot(&MADE, row, salt)?;
    Ok(slot.get_or_init(|| {
        let plain = match row {
            0 => signature::RSA_PSS_2048_8192_SHA256,
            1 => signature::RSA_PSS_2048_8192_SHA384,
            _ => signature::RSA_PSS_2048_8192_SHA512,
        };
        plain.with_pss_salt_length(RsaPssSaltLength::Custom(length))
    }))
}

fn slot<T>(table: &'static [[OnceLock<T>; SALTS]; 3], row: usize, salt: usize) -> Result<(&'static OnceLock<T>, u16)> {
    let slot = table.get(row).and_then(|row| row.get(salt));
    let length = u16::try_from(salt).ok();
    slot.zip(length).ok_or_else(|| Error::bad_request(format!("salt_length {salt} is over the limit of {}", SALTS - 1)))
}

/// Lengths of salts, 0 and up: RSA-4096 with SHA-256 leaves room for 478 bytes.
const SALTS: usize = 512;
/// Unusual lengths of salts that one request may try: two wrong signatures of RSA-4096, and then some.
const SALTS_TRIED_MAX: usize = 1_000;

/// How signing names its errors about versions.
const WORDS: Words = Words {
    negative: "requested version for signing is negative",
    too_new: "requested version for signing is higher than the latest key version",
    too_old: "requested version for signing is less than the minimum encryption key version",
};
