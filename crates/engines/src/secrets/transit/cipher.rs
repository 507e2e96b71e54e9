//! Encryption and decryption with one version of a key.
//!
//! Payloads are as Vault's: a nonce of 12 bytes, the ciphertext, a tag of 16 bytes; or one RSA block.

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, Pkcs1PublicEncryptingKey, PublicEncryptingKey};
use daypass_base::Brief;
use daypass_sdk::{Entropy, Error, Result, Secret};

use super::cache::Loaded;
use super::key::Words;
use super::material::{self, Material};
use super::payload::{self, Alphabet, Form};

/// What goes with a plaintext or a ciphertext.
#[derive(Debug, Clone, Default)]
pub(super) struct With {
    /// For derived keys.
    pub(super) context: Vec<u8>,
    /// Authenticated, not encrypted.
    pub(super) associated: Vec<u8>,
    /// For RSA.
    pub(super) padding: Padding,
}

/// How RSA pads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Padding {
    #[default]
    Oaep,
    Pkcs1,
}

impl Padding {
    /// Errors: `BadRequest` for another name.
    pub(super) fn parse(name: &str) -> Result<Self> {
        match name {
            "" | "oaep" => Ok(Self::Oaep),
            "pkcs1v15" => Ok(Self::Pkcs1),
            other => Err(Error::bad_request(format!("unsupported padding scheme {}: use oaep or pkcs1v15", Brief(other)))),
        }
    }
}

/// Encrypts with this version (0: the latest). Returns the text and the version. Errors: `BadRequest`.
pub(super) fn encrypt(key: &Loaded, wanted: i64, plaintext: &[u8], with: &With, entropy: &dyn Entropy) -> Result<(String, u64)> {
    can_encrypt(key, "encryption")?;
    let version = key.key.usable(wanted, &WORDS)?;
    let material = key.material(version)?;
    let bytes = match &*material {
        Material::Aead(cipher) => seal(cipher, random_nonce(entropy), plaintext, &with.associated)?,
        Material::Derived(prk) => {
            let cipher = derived(key, prk, with)?;
            let nonce = match &cipher.nonce_key {
                Some(nonce_key) => convergent_nonce(nonce_key, plaintext, &with.associated),
                None => random_nonce(entropy),
            };
            seal(&cipher.key, nonce, plaintext, &with.associated)?
        }
        _ => encrypt_rsa(&key.key.version(version)?.public, plaintext, with.padding)?,
    };
    Ok((payload::seal(version, &bytes, Alphabet::Standard), version))
}

/// Decrypts. Errors: `BadRequest`; what was tampered with cannot be told from what another key encrypted.
pub(super) fn decrypt(key: &Loaded, ciphertext: &str, with: &With) -> Result<Secret<Vec<u8>>> {
    can_encrypt(key, "decryption")?;
    let (version, bytes) = payload::open(Form::Ciphertext, ciphertext, key.key.window(), Alphabet::Standard)?;
    let material = key.material(version)?;
    match &*material {
        Material::Aead(cipher) => open(cipher, bytes, &with.associated),
        Material::Derived(prk) => open(&derived(key, prk, with)?.key, bytes, &with.associated),
        Material::Rsa(pair) => decrypt_rsa(pair, &bytes, with.padding),
        _ => Err(Error::bad_request("this version of the key has no private part and cannot decrypt")),
    }
}

fn can_encrypt(key: &Loaded, what: &str) -> Result<()> {
    let key_type = key.key.key_type;
    if key_type.encrypts() {
        Ok(())
    } else {
        Err(Error::bad_request(format!("message {what} not supported for key type {}", key_type.name())))
    }
}

/// The keys of one context.
struct DerivedCipher {
    key: LessSafeKey,
    /// Set where the nonce comes from what is encrypted.
    nonce_key: Option<Secret<Vec<u8>>>,
}

fn derived(key: &Loaded, prk: &aws_lc_rs::hkdf::Prk, with: &With) -> Result<DerivedCipher> {
    need_context(&with.context)?;
    let cipher = key.key.key_type.aead().ok_or_else(|| Error::internal("a derived key has a cipher"))?;
    let nonce_keys = match (key.key.convergent, with.associated.is_empty()) {
        (false, _) => 0,
        (true, true) => 1,
        (true, false) => 2,
    };
    let bytes = material::derive(prk, &with.context, cipher.key_len() + nonce_keys * CONVERGENT_KEY_BYTES)?;
    // The first part into the cipher, the last into the HMAC that makes nonces. Those of plaintexts with associated data have a key of their own, behind the
    // other: under one key, a plaintext that begins as some associated data does would get the nonce of what goes with that.
    let (first, rest) = bytes.expose().split_at(cipher.key_len());
    let nonce_key = rest.rchunks(CONVERGENT_KEY_BYTES).next().map(|last| Secret::new(last.to_vec()));
    Ok(DerivedCipher { key: material::unbound(cipher, first)?, nonce_key })
}

/// Errors: `BadRequest` with Vault's text when a derived key is used without a context.
pub(super) fn need_context(context: &[u8]) -> Result<()> {
    if context.is_empty() {
        return Err(Error::bad_request(
            "missing 'context' for key derivation; the key was created using a derived key, which means additional, per-request information \
             must be included in order to perform operations with the key",
        ));
    }
    Ok(())
}

fn random_nonce(entropy: &dyn Entropy) -> [u8; NONCE_LEN] {
    entropy.bytes::<NONCE_LEN>()
}

/// The start of an HMAC: of the plaintext, as Vault's third version of convergent encryption has it, and of the associated data where there is some. Vault leaves
/// that out, and two tags under one key and nonce give away the key that AES-GCM authenticates with.
fn convergent_nonce(nonce_key: &Secret<Vec<u8>>, plaintext: &[u8], associated: &[u8]) -> [u8; NONCE_LEN] {
    // Into the HMAC.
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, nonce_key.expose()));
    if !associated.is_empty() {
        mac.update(&u64::try_from(associated.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(associated);
    }
    mac.update(plaintext);
    mac.sign().as_ref().first_chunk().copied().unwrap_or_default()
}

fn seal(cipher: &LessSafeKey, nonce: [u8; NONCE_LEN], plaintext: &[u8], associated: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(NONCE_LEN + plaintext.len() + cipher.algorithm().tag_len());
    out.extend_from_slice(&nonce);
    out.extend_from_slice(plaintext);
    let (_, body) = out.split_at_mut(NONCE_LEN);
    let tag = cipher
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(associated), body)
        .map_err(|error| Error::internal("encryption failed").because(error))?;
    out.extend_from_slice(tag.as_ref());
    Ok(out)
}

fn open(cipher: &LessSafeKey, mut bytes: Vec<u8>, associated: &[u8]) -> Result<Secret<Vec<u8>>> {
    let short = || Error::bad_request("invalid ciphertext length");
    let (nonce, body) = bytes.split_first_chunk_mut::<NONCE_LEN>().ok_or_else(short)?;
    if body.len() < cipher.algorithm().tag_len() {
        return Err(short());
    }
    let plaintext = cipher
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(associated), body)
        .map_err(|error| Error::bad_request("cipher: message authentication failed").because(error))?;
    let plaintext = Secret::new(plaintext.to_vec());
    // Wiped when it is dropped: the plaintext was decrypted in place.
    drop(Secret::new(bytes));
    Ok(plaintext)
}

fn encrypt_rsa(public: &[u8], plaintext: &[u8], padding: Padding) -> Result<Vec<u8>> {
    let broken = |error| Error::internal("a stored public key is not readable").because(error);
    let unfit = |error| Error::internal("a stored public key cannot encrypt").because(error);
    let too_long =
        |error| Error::bad_request("failed to RSA encrypt the plaintext: crypto/rsa: message too long for RSA key size").because(error);
    let public = PublicEncryptingKey::from_der(public).map_err(broken)?;
    let mut out = vec![0; public.key_size_bytes()];
    match padding {
        Padding::Oaep => {
            let key = OaepPublicEncryptingKey::new(public).map_err(unfit)?;
            key.encrypt(&OAEP_SHA256_MGF1SHA256, plaintext, &mut out, None).map_err(too_long)?;
        }
        Padding::Pkcs1 => {
            Pkcs1PublicEncryptingKey::new(public).map_err(unfit)?.encrypt(plaintext, &mut out).map_err(too_long)?;
        }
    }
    Ok(out)
}

fn decrypt_rsa(pair: &material::RsaPair, bytes: &[u8], padding: Padding) -> Result<Secret<Vec<u8>>> {
    let failed = |error| Error::bad_request("failed to RSA decrypt the ciphertext: crypto/rsa: decryption error").because(error);
    let mut out = zeroize::Zeroizing::new(vec![0; pair.oaep.min_output_size()]);
    let plaintext = match padding {
        Padding::Oaep => pair.oaep.decrypt(&OAEP_SHA256_MGF1SHA256, bytes, &mut out, None),
        Padding::Pkcs1 => pair.pkcs1.decrypt(bytes, &mut out),
    };
    Ok(Secret::new(plaintext.map_err(failed)?.to_vec()))
}

/// How encryption names its errors about versions.
const WORDS: Words = Words {
    negative: "requested version for encryption is negative",
    too_new: "requested version for encryption is higher than the latest key version",
    too_old: "requested version for encryption is less than the minimum encryption key version",
};

/// Bytes of a key that makes the nonces of convergent encryption.
const CONVERGENT_KEY_BYTES: usize = 32;
