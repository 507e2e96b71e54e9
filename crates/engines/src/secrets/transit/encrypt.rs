//! `encrypt/`: with a key that exists, or that is made on the way.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result, Secret};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::batch::{BatchInput, Inputs, Outcomes, Partial};
use super::cache::Loaded;
use super::cipher::{self, Padding, With};
use super::key::Key;
use super::key_type::KeyType;
use super::rows::{self, Step};
use super::work::Place;
use super::{Transit, payload, settings};

/// What to encrypt.
#[derive(Deserialize, JsonSchema)]
struct Params {
    /// Name of the key.
    name: String,
    /// The plaintext, in base64.
    plaintext: Option<Secret<String>>,
    /// Context of a derived key, in base64.
    #[serde(default)]
    context: String,
    /// Version of the key; 0 for the latest.
    #[serde(default)]
    key_version: i64,
    /// Not taken by keys of today: nonces are random, or made from the plaintext.
    #[serde(default)]
    nonce: String,
    /// Data that is authenticated with the ciphertext and has to be given again to decrypt, in base64.
    #[serde(default)]
    associated_data: String,
    /// For RSA: `oaep` (the default) or `pkcs1v15`.
    #[serde(default)]
    padding_scheme: String,
    /// Items with the fields above and a `reference`, at most 2000, instead of one plaintext.
    batch_input: Option<BatchInput>,
    /// Type of the key if it has to be made: a symmetric one.
    #[serde(rename = "type", default)]
    key_type: String,
    /// Whether the key encrypts convergently if it has to be made; needs a context.
    #[serde(default)]
    convergent_encryption: bool,
    /// Status of a batch of which only some items failed, instead of 400.
    partial_failure_response_code: Option<i64>,
}

/// One input of a request that encrypts, decrypts or wraps again.
#[derive(Default, Deserialize)]
pub(super) struct Item {
    pub(super) plaintext: Option<Secret<String>>,
    pub(super) ciphertext: Option<String>,
    #[serde(default)]
    pub(super) context: String,
    #[serde(default)]
    pub(super) nonce: String,
    #[serde(default)]
    pub(super) key_version: i64,
    #[serde(default)]
    pub(super) associated_data: String,
    #[serde(default)]
    pub(super) padding_scheme: String,
    #[serde(default)]
    pub(super) reference: String,
}

pub(super) fn endpoint() -> Endpoint<Transit> {
    Endpoint::at(["encrypt/{name}"])
        .summary("Encrypt.")
        .help(
            "A key that does not exist is made when the token has the create capability, unless config/keys disables it. In a batch each \
             item fails alone; then the status is 400 and the body still holds all results.",
        )
        .exists(exists)
        .on(Operation::Update, encrypt)
}

/// Which key.
#[derive(Deserialize, JsonSchema)]
struct NameParams {
    /// Name of the key.
    name: String,
}

async fn exists(_: Arc<Transit>, cx: Cx, params: NameParams) -> Result<bool> {
    Ok(cx.store.get(&rows::row(&params.name)).await?.is_some())
}

/// An input that was read.
struct Ready {
    plaintext: Secret<Vec<u8>>,
    with: With,
    key_version: i64,
}

async fn encrypt(transit: Arc<Transit>, cx: Cx, mut params: Params) -> Result<Reply> {
    let batch = params.batch_input.take();
    let inputs = Inputs::read(batch, || params.item())?;
    for (number, item) in inputs.items.iter().enumerate() {
        if item.plaintext.is_none() {
            return Err(Error::bad_request(format!("failed to parse batch input: '[{number}].plaintext' missing plaintext to encrypt")));
        }
    }
    let with_context = same_context(&inputs.items)?;
    let mut remark = None;
    if cx.request.operation == Some(Operation::Create) {
        remark = make(&transit, &cx, &params, with_context).await?;
    }
    let key = rows::load(&transit, &cx, &params.name).await?.ok_or_else(not_found)?;
    let ready: Vec<Result<Ready>> = inputs.items.iter().enumerate().map(|(number, item)| item.ready(number, &key)).collect();
    let references = inputs.items.into_iter().map(|item| item.reference).collect();
    // Only its length is looked at.
    let bytes = ready.iter().flatten().map(|ready| ready.plaintext.expose().len()).sum();
    let (place, entropy) = (Place::of(&key, ready.len(), bytes), Arc::clone(&cx.entropy));
    let one = move |ready: Result<Ready>| {
        let Ready { plaintext, with, key_version } = ready?;
        // Into the cipher.
        cipher::encrypt(&key, key_version, plaintext.expose(), &with, &*entropy).map(|(text, version)| encrypted(text, version))
    };
    let results = transit.work.each(place, ready, one).await?;
    let outcomes = Outcomes { batch: inputs.batch, results, references };
    let reply = outcomes.answer(&cx, Partial::Refused(params.partial_failure_response_code), &Map::new())?;
    Ok(match remark {
        Some(remark) => reply.warn(remark),
        None => reply,
    })
}

/// The fields of an answer.
pub(super) fn encrypted(ciphertext: String, version: u64) -> Map<String, Value> {
    Map::from_iter([("ciphertext".to_owned(), ciphertext.into()), ("key_version".to_owned(), version.into())])
}

/// All items have a context, or none has. Errors: `BadRequest` with Vault's text.
pub(super) fn same_context(items: &[Item]) -> Result<bool> {
    let first = items.first().is_some_and(|item| !item.context.is_empty());
    if items.iter().any(|item| item.context.is_empty() == first) {
        return Err(Error::bad_request("context should be set either in all the request blocks or in none"));
    }
    Ok(first)
}

pub(super) fn not_found() -> Error {
    Error::bad_request("encryption key not found")
}

/// Makes the key that is to encrypt, if it still is not there. Returns a remark when another request made it meanwhile.
async fn make(transit: &Transit, cx: &Cx, params: &Params, derived: bool) -> Result<Option<&'static str>> {
    if params.convergent_encryption && !derived {
        return Err(Error::bad_request("convergent encryption requires derivation to be enabled, so context is required"));
    }
    let key_type = KeyType::parse(&params.key_type)?;
    if key_type.aead().is_none() {
        return Err(Error::bad_request(format!("key type {} not supported for this operation", key_type.name())));
    }
    if !settings::may_upsert(cx).await? {
        return Err(not_found());
    }
    let mut key = Key::new(key_type);
    key.derive(derived, params.convergent_encryption)?;
    key.add(transit.work.generate(cx, key_type, 0).await?)?;
    rows::change(&transit.cache, cx, &params.name, |found| match found {
        Some(_) => Ok(Step::Leave(Some("Attempted creation of the key during the encrypt operation, but it was created beforehand"))),
        None => Ok(Step::Store(Box::new(key.clone()), None)),
    })
    .await
}

impl Params {
    fn item(&mut self) -> Result<Item> {
        let plaintext = self.plaintext.take().ok_or_else(|| Error::bad_request("missing plaintext to encrypt"))?;
        Ok(Item {
            plaintext: Some(plaintext),
            ciphertext: None,
            context: std::mem::take(&mut self.context),
            nonce: std::mem::take(&mut self.nonce),
            key_version: self.key_version,
            associated_data: std::mem::take(&mut self.associated_data),
            padding_scheme: std::mem::take(&mut self.padding_scheme),
            reference: String::new(),
        })
    }
}

impl Item {
    fn ready(&self, number: usize, key: &Loaded) -> Result<Ready> {
        // Decoded into another secret.
        let plaintext = self.plaintext.as_ref().map(Secret::expose).map_or("", String::as_str);
        let plaintext = Secret::new(payload::decode(plaintext)?);
        Ok(Ready { plaintext, with: self.with(number, key)?, key_version: self.key_version })
    }

    /// What goes with this input. Errors: `BadRequest`.
    pub(super) fn with(&self, number: usize, key: &Loaded) -> Result<With> {
        let context = payload::decode(&self.context)?;
        if !self.nonce.is_empty() {
            payload::decode(&self.nonce)?;
            return Err(Error::bad_request("provided nonce not allowed for this key"));
        }
        let key_type = key.key.key_type;
        if !self.associated_data.is_empty() && key_type.aead().is_none() {
            let name = key_type.name();
            return Err(Error::bad_request(format!("'[{number}].associated_data' provided for non-AEAD cipher suite {name}")));
        }
        if !self.padding_scheme.is_empty() && !key_type.is_rsa() {
            return Err(Error::bad_request("padding_scheme argument invalid: padding_scheme only supported for RSA keys"));
        }
        let associated = payload::decode(&self.associated_data)?;
        Ok(With { context, associated, padding: Padding::parse(&self.padding_scheme)? })
    }
}
