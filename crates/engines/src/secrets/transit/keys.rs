//! `keys/`: make, read, list, configure, trim and delete keys.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Keys, Operation, Reply, Result, Seconds};
use schemars::JsonSchema;
use serde::Deserialize;

use super::key::{Key, Settings, checked_period};
use super::key_type::KeyType;
use super::rows::{self, Step};
use super::{Transit, material, payload};

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

/// Which key.
#[derive(Deserialize, JsonSchema)]
struct ReadParams {
    /// Name of the key.
    name: String,
    /// Context in base64: shows the public keys that a derived ed25519 key has for it.
    #[serde(default)]
    context: String,
}

/// What the key shall be.
#[derive(Deserialize, JsonSchema)]
struct CreateParams {
    /// Name of the key.
    name: String,
    /// `aes128-gcm96`, `aes256-gcm96` (the default), `chacha20-poly1305`, `ed25519`, `ecdsa-p256`, `ecdsa-p384`, `ecdsa-p521`, `rsa-2048`,
    /// `rsa-3072`, `rsa-4096` or `hmac`.
    #[serde(rename = "type", default)]
    key_type: String,
    /// Derive the real key of each use from a context.
    #[serde(default)]
    derived: bool,
    /// Give equal plaintexts equal ciphertexts within a context; needs `derived`.
    #[serde(default)]
    convergent_encryption: bool,
    /// Let the key be exported.
    #[serde(default)]
    exportable: bool,
    /// Let the key be backed up in clear.
    #[serde(default)]
    allow_plaintext_backup: bool,
    /// Time between automatic rotations, in seconds or as a duration: 0 for none, else an hour or more.
    #[serde(default)]
    auto_rotate_period: Seconds,
    /// Bytes of an `hmac` key, 32 to 512; 32 unless given.
    #[serde(default)]
    key_size: i64,
    /// Context in base64: shows the public key that a derived ed25519 key has for it.
    #[serde(default)]
    context: String,
}

/// New settings; what is left out stays as it is.
#[derive(Deserialize, JsonSchema)]
struct ConfigParams {
    /// Name of the key.
    name: String,
    /// The oldest version that decrypts and verifies.
    min_decryption_version: Option<i64>,
    /// The oldest version that encrypts and signs; 0 for the latest alone.
    min_encryption_version: Option<i64>,
    /// Let the key be deleted.
    deletion_allowed: Option<bool>,
    /// Let the key be exported; it cannot be taken back.
    exportable: Option<bool>,
    /// Let the key be backed up in clear; it cannot be taken back.
    allow_plaintext_backup: Option<bool>,
    /// Time between automatic rotations, in seconds or as a duration: 0 for none, else an hour or more.
    auto_rotate_period: Option<Seconds>,
}

/// How much to forget.
#[derive(Deserialize, JsonSchema)]
struct TrimParams {
    /// Name of the key.
    name: String,
    /// Versions below this are removed for good.
    min_available_version: Option<i64>,
}

pub(super) fn endpoints() -> Vec<Endpoint<Transit>> {
    vec![
        Endpoint::at(["keys/?"]).summary("List keys.").on(Operation::List, list),
        Endpoint::at(["keys/{name}"])
            .summary("Make, read or delete a key.")
            .help("A key that exists already is left as it is. Deleting needs deletion_allowed, which keys/<name>/config sets.")
            .on(Operation::Read, read)
            .on(Operation::Update, create)
            .on(Operation::Delete, delete),
        Endpoint::at(["keys/{name}/config"])
            .summary("Change the settings of a key.")
            .help("min_decryption_version takes old versions out of use, keys/<name>/trim removes them.")
            .on(Operation::Update, configure),
        Endpoint::at(["keys/{name}/trim"])
            .summary("Remove old versions of a key for good.")
            .help("Set min_decryption_version and min_encryption_version first; what was encrypted with removed versions is lost.")
            .on(Operation::Update, trim),
    ]
}

async fn list(_: Arc<Transit>, cx: Cx, _: NoParams) -> Result<Keys> {
    Ok(Keys(cx.store.list(rows::KEYS).await?))
}

async fn read(transit: Arc<Transit>, cx: Cx, params: ReadParams) -> Result<Reply> {
    let context = context(&params.context)?;
    let loaded = rows::load(&transit, &cx, &params.name).await?.ok_or_else(Error::not_found)?;
    loaded.key.describe(&params.name, context.as_deref()).map(Reply::data)
}

/// Errors: `BadRequest` for a type that is not offered, or that cannot do what is asked.
async fn create(transit: Arc<Transit>, cx: Cx, params: CreateParams) -> Result<Reply> {
    let context = context(&params.context)?;
    let mut key = Key::new(KeyType::parse(&params.key_type)?);
    key.derive(params.derived, params.convergent_encryption)?;
    key.exportable = params.exportable;
    key.allow_plaintext_backup = params.allow_plaintext_backup;
    key.auto_rotate_period = checked_period(params.auto_rotate_period)?;
    key.key_size = hmac_size(key.key_type, params.key_size)?;
    if let Some(found) = rows::load(&transit, &cx, &params.name).await? {
        return existing(&found.key, &params.name, context.as_deref());
    }
    key.add(transit.work.generate(&cx, key.key_type, key.key_size).await?)?;
    rows::change(&transit.cache, &cx, &params.name, |found| {
        if let Some(found) = found {
            return Ok(Step::Leave(existing(&found, &params.name, context.as_deref())?));
        }
        let answer = Reply::data(key.describe(&params.name, context.as_deref())?);
        Ok(Step::Store(Box::new(key.clone()), answer))
    })
    .await
}

fn existing(key: &Key, name: &str, context: Option<&[u8]>) -> Result<Reply> {
    Ok(Reply::data(key.describe(name, context)?).warn(format!("key {name} already existed")))
}

/// Errors: `BadRequest` with Vault's texts.
async fn delete(transit: Arc<Transit>, cx: Cx, params: ReadParams) -> Result<()> {
    let refuse = |what: &str| Error::bad_request(format!("error deleting policy {}: {what}", params.name));
    rows::change(&transit.cache, &cx, &params.name, |key| match key {
        None => Err(refuse("could not delete key; not found")),
        Some(key) if !key.deletion_allowed => Err(refuse("deletion is not allowed for this key")),
        Some(_) => Ok(Step::Remove(())),
    })
    .await
}

/// Errors: `BadRequest` with Vault's texts.
async fn configure(transit: Arc<Transit>, cx: Cx, params: ConfigParams) -> Result<Reply> {
    let settings = Settings {
        min_decryption: params.min_decryption_version,
        min_encryption: params.min_encryption_version,
        deletion_allowed: params.deletion_allowed,
        exportable: params.exportable,
        allow_plaintext_backup: params.allow_plaintext_backup,
        auto_rotate_period: params.auto_rotate_period,
    };
    rows::change(&transit.cache, &cx, &params.name, |key| {
        let missing = || Error::bad_request(format!("no existing key named {} could be found", params.name));
        let mut key = key.ok_or_else(missing)?;
        key.configure(&settings)?;
        let mut answer = Reply::data(key.describe(&params.name, None)?);
        if settings.min_decryption == Some(0) {
            answer = answer.warn("since Vault 0.3, transit key numbering starts at 1; forcing minimum to 1");
        }
        Ok(Step::Store(Box::new(key), answer))
    })
    .await
}

/// Errors: `BadRequest` with Vault's texts.
async fn trim(transit: Arc<Transit>, cx: Cx, params: TrimParams) -> Result<Reply> {
    let wanted = params.min_available_version.ok_or_else(|| Error::bad_request("missing min_available_version"))?;
    rows::change(&transit.cache, &cx, &params.name, |key| {
        let mut key = key.ok_or_else(|| Error::bad_request(format!("invalid key name {:?}", params.name)))?;
        key.trim(wanted)?;
        let answer = Reply::data(key.describe(&params.name, None)?);
        Ok(Step::Store(Box::new(key), answer))
    })
    .await
}

/// Reads a context; the empty one counts as none. Errors: `BadRequest`.
pub(super) fn context(text: &str) -> Result<Option<Vec<u8>>> {
    if text.is_empty() {
        return Ok(None);
    }
    let refuse = |error: Error| Error::bad_request("failed to base64-decode context").because(error);
    payload::decode(text).map(Some).map_err(refuse)
}

fn hmac_size(key_type: KeyType, wanted: i64) -> Result<usize> {
    if key_type != KeyType::Hmac {
        let name = key_type.name();
        return if wanted == 0 { Ok(0) } else { Err(Error::bad_request(format!("key_size is not valid for algorithm {name}"))) };
    }
    material::hmac_bytes(wanted)
}
