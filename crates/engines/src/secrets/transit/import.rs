//! Keys from outside: `wrapping_key`, `keys/<name>/import` and `keys/<name>/import_version`.
//!
//! What comes is an AES-256 key under RSA-OAEP with the wrapping key (512 bytes), then the key itself under that AES key (RFC 5649).
//! Symmetric and HMAC keys are plain bytes, all others PKCS#8. Or only the public half comes, as PEM.

use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512, OaepAlgorithm,
    OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use aws_lc_rs::signature::Ed25519KeyPair;
use daypass_base::Brief;
use daypass_sdk::{Changes, CommitFailure, Cx, Endpoint, Error, Expect, Operation, Reply, Result, Seconds, Secret};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::key::{Key, Version, checked_period};
use super::key_type::KeyType;
use super::rows::{self, Step};
use super::work::Place;
use super::{Transit, material, payload, pem};

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

/// A key to bring in.
#[derive(Deserialize, JsonSchema)]
struct ImportParams {
    /// Name of the key.
    name: String,
    /// Type of the key, as for `keys/`; `aes256-gcm96` unless given.
    #[serde(rename = "type", default)]
    key_type: String,
    /// The wrapped key, in base64.
    #[serde(default)]
    ciphertext: String,
    /// Hash of RSA-OAEP: `SHA256` (the default), `SHA1`, `SHA384` or `SHA512`.
    #[serde(default)]
    hash_function: String,
    /// The public half alone as PEM, instead of `ciphertext`: it verifies, and encrypts with RSA; not for a derived key.
    #[serde(default)]
    public_key: String,
    /// Let the key get new versions that are made here.
    #[serde(default)]
    allow_rotation: bool,
    /// Derive the real key of each use from a context.
    #[serde(default)]
    derived: bool,
    /// Let the key be exported.
    #[serde(default)]
    exportable: bool,
    /// Let the key be backed up in clear.
    #[serde(default)]
    allow_plaintext_backup: bool,
    /// Time between automatic rotations, in seconds or as a duration; needs `allow_rotation`.
    #[serde(default)]
    auto_rotate_period: Seconds,
}

/// A version to bring in.
#[derive(Deserialize, JsonSchema)]
struct VersionParams {
    /// Name of the key.
    name: String,
    /// The wrapped key, in base64.
    #[serde(default)]
    ciphertext: String,
    /// Hash of RSA-OAEP: `SHA256` (the default), `SHA1`, `SHA384` or `SHA512`.
    #[serde(default)]
    hash_function: String,
    /// The public half alone as PEM, instead of `ciphertext`.
    #[serde(default)]
    public_key: String,
    /// Version whose private half this is; without it, that of the latest version if it lacks this one, else of a new version.
    version: Option<i64>,
}

pub(super) fn endpoints() -> Vec<Endpoint<Transit>> {
    vec![
        Endpoint::at(["wrapping_key"])
            .summary("The public key under which keys are brought in.")
            .help("RSA-4096, made when it is first asked for.")
            .on(Operation::Read, wrapping_key),
        Endpoint::at(["keys/{name}/import"])
            .summary("Bring a key in.")
            .help(
                "Wrap an AES-256 key of your own with wrapping_key (RSA-OAEP), wrap the key to bring in with that AES key (AES-KWP), and send \
                 both after one another, in base64.",
            )
            .on(Operation::Update, import),
        Endpoint::at(["keys/{name}/import_version"])
            .summary("Bring a new version of an imported key in.")
            .help(
                "The version becomes the latest, unless it is the private half of a version of which only the public one is known: then that one \
                 is completed. The key must have been imported.",
            )
            .on(Operation::Update, import_version),
    ]
}

async fn wrapping_key(transit: Arc<Transit>, cx: Cx, _: NoParams) -> Result<Reply> {
    let pkcs8 = wrapping_row(&transit, &cx).await?;
    let broken = |error| Error::internal("the wrapping key is not readable").because(error);
    let unwritable = |error| Error::internal("the wrapping key cannot be written").because(error);
    // Into the crypto library.
    let public = PrivateDecryptingKey::from_pkcs8(pkcs8.expose()).map_err(broken)?.public_key();
    let der = public.as_der().map_err(unwritable)?;
    Ok(Reply::json(json!({ "public_key": pem::write("PUBLIC KEY", der.as_ref()) })))
}

/// The wrapping key as PKCS#8; made once.
async fn wrapping_row(transit: &Transit, cx: &Cx) -> Result<Secret<Vec<u8>>> {
    if let Some(entry) = cx.store.get(ROW).await? {
        return Ok(Secret::new(entry.value));
    }
    let failed = |error| Error::internal("the wrapping key could not be made").because(error);
    let make = move || {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa4096).map_err(failed)?;
        Ok(key.as_der().map_err(failed)?.as_ref().to_vec())
    };
    let made = transit.work.run(Place::OffTheRuntime, make).await?;
    match cx.store.commit(Changes::new().expect(ROW, Expect::Absent).put(ROW, made)).await {
        // Whoever was first made the key that counts.
        Ok(()) | Err(CommitFailure::Conflict(_)) => {}
        Err(CommitFailure::Error(error)) => return Err(error),
    }
    let stored = cx.store.get(ROW).await?.ok_or_else(|| Error::internal("the wrapping key is missing"))?;
    Ok(Secret::new(stored.value))
}

/// Errors: `BadRequest` for material that is no key of the type, and when the key exists.
async fn import(transit: Arc<Transit>, cx: Cx, params: ImportParams) -> Result<()> {
    let mut key = Key::new(KeyType::parse(&params.key_type)?);
    key.derive(params.derived, false)?;
    key.exportable = params.exportable;
    key.allow_plaintext_backup = params.allow_plaintext_backup;
    key.auto_rotate_period = checked_period(params.auto_rotate_period)?;
    if !key.auto_rotate_period.is_zero() && !params.allow_rotation {
        return Err(Error::bad_request("allow_rotation must be set to true if auto-rotation is enabled"));
    }
    (key.imported, key.allow_rotation) = (true, params.allow_rotation);
    let exists =
        || Error::bad_request("the import path cannot be used with an existing key; use import-version to rotate an existing imported key");
    if cx.store.get(&rows::row(&params.name)).await?.is_some() {
        return Err(exists());
    }
    let brought = Brought { ciphertext: params.ciphertext, hash_function: params.hash_function, public_key: params.public_key };
    let version = brought.version(&transit, &cx, key.key_type).await?;
    if key.key_type == KeyType::Hmac {
        // Only its length is looked at.
        key.key_size = version.secret.expose().len();
    }
    key.add(version)?;
    rows::change(&transit.cache, &cx, &params.name, |found| match found {
        Some(_) => Err(exists()),
        None => Ok(Step::Store(Box::new(key.clone()), ())),
    })
    .await
}

/// Errors: `BadRequest` for material that is no key of the type, and for a key that was made here.
async fn import_version(transit: Arc<Transit>, cx: Cx, params: VersionParams) -> Result<()> {
    let usable = |key: Option<&Key>| match key {
        None => Err(Error::bad_request(format!("no key found with name {}; to import a new key, use the import/ endpoint", params.name))),
        Some(key) if !key.imported => Err(Error::bad_request("the import_version endpoint can only be used with an imported key")),
        Some(key) => Ok(key.key_type),
    };
    let key_type = usable(rows::load(&transit, &cx, &params.name).await?.as_ref().map(|loaded| &loaded.key))?;
    let brought = Brought { ciphertext: params.ciphertext, hash_function: params.hash_function, public_key: params.public_key };
    let version = brought.version(&transit, &cx, key_type).await?;
    rows::change(&transit.cache, &cx, &params.name, |key| {
        if usable(key.as_ref())? != key_type {
            return Err(Error::failed("the key was replaced by another request at the same moment; try again"));
        }
        let Some(mut key) = key else { return Ok(Step::Leave(())) };
        key.bring(params.version, version.clone())?;
        Ok(Step::Store(Box::new(key), ()))
    })
    .await
}

/// Key material as it was sent.
struct Brought {
    ciphertext: String,
    hash_function: String,
    public_key: String,
}

impl Brought {
    async fn version(self, transit: &Transit, cx: &Cx, key_type: KeyType) -> Result<Version> {
        let (entropy, now) = (Arc::clone(&cx.entropy), cx.clock.now());
        if self.ciphertext.is_empty() {
            if self.public_key.is_empty() {
                return Err(Error::bad_request("only one of the following fields must be provided, ciphertext or public_key"));
            }
            let der = pem::read("PUBLIC KEY", &self.public_key)?;
            let work = move || material::public_version(key_type, &der, &*entropy, now);
            return transit.work.run(Place::OffTheRuntime, work).await;
        }
        if !self.public_key.is_empty() {
            return Err(Error::bad_request("only one of the following fields must be provided, ciphertext or public_key"));
        }
        let hash = oaep(&self.hash_function)?;
        let pkcs8 = wrapping_row(transit, cx).await?;
        let work = move || {
            let secret = unwrap(&pkcs8, hash, &payload::decode(&self.ciphertext)?)?;
            let secret = if key_type == KeyType::Ed25519 { seed(&secret)? } else { secret };
            material::version(key_type, secret, &*entropy, now)
        };
        transit.work.run(Place::OffTheRuntime, work).await
    }
}

/// The form of RSA-OAEP that a request names. Errors: `BadRequest`.
pub(super) fn oaep(name: &str) -> Result<&'static OaepAlgorithm> {
    // In any case of letters, as in Vault.
    Ok(match name.to_ascii_uppercase().as_str() {
        "" | "SHA256" => &OAEP_SHA256_MGF1SHA256,
        "SHA1" => &OAEP_SHA1_MGF1SHA1,
        "SHA384" => &OAEP_SHA384_MGF1SHA384,
        "SHA512" => &OAEP_SHA512_MGF1SHA512,
        _ => return Err(Error::bad_request(format!("unsupported hash_function {:?}: use SHA1, SHA256, SHA384 or SHA512", Brief(name)))),
    })
}

/// Takes a key out of its two wrappings. Which one failed is not told.
fn unwrap(pkcs8: &Secret<Vec<u8>>, hash: &'static OaepAlgorithm, sent: &[u8]) -> Result<Secret<Vec<u8>>> {
    let refuse =
        |error| Error::bad_request("the ciphertext is not wrapped with this mount's wrapping_key and an AES-256 key").because(error);
    let broken = |error| Error::internal("the wrapping key is not readable").because(error);
    let short = || Error::bad_request(format!("the ciphertext has {} bytes; the wrapped AES key alone takes {WRAPPED_BYTES}", sent.len()));
    let (wrapped, body) = sent.split_at_checked(WRAPPED_BYTES).ok_or_else(short)?;
    // Into the crypto library.
    let key = PrivateDecryptingKey::from_pkcs8(pkcs8.expose()).map_err(broken)?;
    let key = OaepPrivateDecryptingKey::new(key).map_err(refuse)?;
    let mut ephemeral = Zeroizing::new(vec![0; key.min_output_size()]);
    let ephemeral = key.decrypt(hash, wrapped, &mut ephemeral, None).map_err(refuse)?;
    let mut out = Zeroizing::new(vec![0; body.len()]);
    let secret = AesKek::new(&AES_256, ephemeral).and_then(|kek| kek.unwrap_with_padding(body, &mut out)).map_err(refuse)?;
    Ok(Secret::new(secret.to_vec()))
}

/// The seed of an ed25519 key in PKCS#8.
fn seed(pkcs8: &Secret<Vec<u8>>) -> Result<Secret<Vec<u8>>> {
    let refuse = |error| Error::bad_request("the key material is no ed25519 key in PKCS#8").because(error);
    let unreadable = |error| Error::internal("an ed25519 key has no seed").because(error);
    // Into the crypto library, and from there into another secret.
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8.expose()).map_err(refuse)?;
    let seed = pair.seed().map_err(unreadable)?;
    let bytes: aws_lc_rs::encoding::Curve25519SeedBin<'static> =
        aws_lc_rs::encoding::AsBigEndian::as_be_bytes(&seed).map_err(unreadable)?;
    Ok(Secret::new(bytes.as_ref().to_vec()))
}

/// The row of the wrapping key.
const ROW: &str = "wrapping-key";
/// Bytes of one RSA-4096 block.
const WRAPPED_BYTES: usize = 512;
