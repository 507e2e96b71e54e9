//! `sign/`, and the fields that it shares with `verify/`.

use std::sync::Arc;

use data_encoding::BASE64;
use daypass_base::Brief;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::batch::{BatchInput, Inputs, Outcomes, Partial};
use super::hashing::{Hash, USUAL};
use super::key::Key;
use super::key_type::KeyType;
use super::payload::{self, Alphabet};
use super::signing::{self, How, Padding, Salt, Signed};
use super::work::Place;
use super::{Transit, keys, rows};

/// What to sign or to verify, and how.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Params {
    /// Name of the key.
    pub(super) name: String,
    /// The message, in base64; empty unless given.
    input: Option<String>,
    /// `sha1`, `sha2-224`, `sha2-256` (the default), `sha2-384`, `sha2-512`, `sha3-256`, `sha3-384` or `sha3-512`; ed25519 has its own, and
    /// refuses `sha2-512`, which would ask for another form of it.
    #[serde(default)]
    hash_algorithm: String,
    /// In the path: the hash; it wins over the fields.
    #[serde(default)]
    urlalgorithm: String,
    /// Older name of `hash_algorithm`.
    #[serde(default)]
    algorithm: String,
    /// The input is the digest of the message already; refused for ed25519.
    #[serde(default)]
    prehashed: bool,
    /// For RSA: `pss` (the default) or `pkcs1v15`.
    #[serde(default)]
    signature_algorithm: String,
    /// `asn1` (the default) or `jws`.
    #[serde(default)]
    marshaling_algorithm: String,
    /// For PSS: `auto` (the default), `hash` or a number of bytes.
    #[serde(default)]
    salt_length: String,
    /// Context of a derived key, in base64.
    #[serde(default)]
    context: String,
    /// For forms of ed25519 that Vault's community edition does not have either: refused for ed25519, without meaning for other keys.
    #[serde(default)]
    signature_context: String,
    /// Version to sign with; 0 for the latest. A signature says itself which version it is of.
    #[serde(default)]
    key_version: i64,
    /// To verify: the signature, as it was answered.
    pub(super) signature: Option<String>,
    /// To verify: the HMAC, as it was answered.
    pub(super) hmac: Option<String>,
    /// To verify: not available.
    pub(super) cmac: Option<String>,
    /// Items with `input`, `context` and `reference` (and `signature` or `hmac` to verify), at most 2000, instead of one message.
    batch_input: Option<BatchInput>,
}

/// One message.
#[derive(Deserialize)]
pub(super) struct Item {
    input: Option<String>,
    #[serde(default)]
    context: String,
    #[serde(default)]
    signature_context: String,
    #[serde(default)]
    pub(super) reference: String,
    pub(super) signature: Option<String>,
    pub(super) hmac: Option<String>,
    pub(super) cmac: Option<String>,
}

pub(super) fn endpoint() -> Endpoint<Transit> {
    Endpoint::at(["sign/{name}", "sign/{name}/{urlalgorithm}"])
        .summary("Sign.")
        .help("In a batch each item fails alone; the status is 200 all the same.")
        .on(Operation::Update, sign)
}

async fn sign(transit: Arc<Transit>, cx: Cx, mut params: Params) -> Result<Reply> {
    let inputs = params.inputs()?;
    let key = rows::load(&transit, &cx, &params.name).await?.ok_or_else(|| Error::bad_request("signing key not found"))?;
    let key_type = key.key.key_type;
    if !key_type.signs() {
        return Err(Error::bad_request(format!("key type {} does not support signing", key_type.name())));
    }
    let (how, wanted) = (params.how(&key.key)?, params.key_version);
    let bytes = inputs.items.iter().map(|item| item.input.as_ref().map_or(0, String::len)).sum();
    let place = Place::of(&key, inputs.items.len(), bytes);
    let batch = inputs.batch;
    let references = inputs.items.iter().map(|item| item.reference.clone()).collect();
    let one = move |item: Item| {
        let input = item.message()?;
        let how = item.how(&how, key.key.key_type)?;
        signing::sign(&key, wanted, &input, &how).map(|signed| shown(signed, batch))
    };
    let results = transit.work.each(place, inputs.items, one).await?;
    Outcomes { batch, results, references }.answer(&cx, Partial::Fine, &Map::new())
}

fn shown(signed: Signed, batch: bool) -> Map<String, Value> {
    let mut data = Map::from_iter([("signature".to_owned(), signed.signature.into()), ("key_version".to_owned(), signed.version.into())]);
    if let Some(public) = signed.public {
        let name = if batch { "publickey" } else { "public_key" };
        data.insert(name.to_owned(), BASE64.encode(&public).into());
    }
    data
}

impl Params {
    /// The messages. Errors: `BadRequest`.
    pub(super) fn inputs(&mut self) -> Result<Inputs<Item>> {
        let batch = self.batch_input.take();
        let single = || {
            Ok(Item {
                // As in Vault: only the items of a batch must bring one.
                input: Some(self.input.take().unwrap_or_default()),
                context: std::mem::take(&mut self.context),
                signature_context: std::mem::take(&mut self.signature_context),
                reference: String::new(),
                signature: self.signature.take(),
                hmac: self.hmac.take(),
                cmac: self.cmac.take(),
            })
        };
        Inputs::read(batch, single)
    }

    /// The name of the hash that the request means.
    pub(super) fn hash_name(&self) -> &str {
        let given = [&self.urlalgorithm, &self.hash_algorithm, &self.algorithm].into_iter().find(|name| !name.is_empty());
        given.map_or(USUAL, String::as_str)
    }

    /// How to sign with a key. Errors: `BadRequest` with Vault's texts for names that nobody knows.
    pub(super) fn how(&self, key: &Key) -> Result<How> {
        let padding = match self.signature_algorithm.as_str() {
            "" | "pss" => Padding::Pss,
            "pkcs1v15" => Padding::Pkcs1,
            other => return Err(Error::bad_request(format!("unsupported rsa signature algorithm {}", Brief(other)))),
        };
        let hash = match self.hash_name() {
            "none" if key.key_type != KeyType::Ed25519 && !(self.prehashed && padding == Padding::Pkcs1) => {
                return Err(Error::bad_request("hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15"));
            }
            "none" => None,
            name => Some(Hash::parse(name, "invalid hash algorithm")?),
        };
        let alphabet = match self.marshaling_algorithm.as_str() {
            "" | "asn1" => Alphabet::Standard,
            "jws" => Alphabet::Url,
            other => return Err(Error::bad_request(format!("invalid marshaling type {:?}", Brief(other)))),
        };
        let salt = match self.salt_length.as_str() {
            "" | "auto" | "0" => Salt::Auto,
            "hash" | "-1" => Salt::Hash,
            other => {
                let bad = |error| Error::bad_request(format!("invalid salt length {:?}", Brief(other))).because(error);
                let bytes = other.parse().map_err(bad)?;
                Salt::Bytes(bytes)
            }
        };
        Ok(How { hash, prehashed: self.prehashed, padding, salt, alphabet, context: Vec::new() })
    }
}

impl Item {
    /// Errors: `BadRequest` with Vault's texts.
    pub(super) fn message(&self) -> Result<Vec<u8>> {
        let input = self.input.as_ref().ok_or_else(|| Error::bad_request("missing input"))?;
        let unable = |error: Error| Error::bad_request(format!("unable to decode input as base64: {error}")).because(error);
        payload::decode(input).map_err(unable)
    }

    /// How to sign this item. Errors: `BadRequest`, with the words of Vault's community edition for what its ed25519 does not do.
    pub(super) fn how(&self, how: &How, key_type: KeyType) -> Result<How> {
        let pure = |wanted| Err(Error::bad_request(format!("only Pure Ed25519 signatures supported, {wanted}")));
        match key_type {
            KeyType::Ed25519 if how.prehashed => return pure("prehashed must be false"),
            // Spelled as Vault spells it.
            KeyType::Ed25519 if how.hash.is_some_and(|hash| hash.name == "sha2-512") => return pure("hash_alogithm should not be set"),
            KeyType::Ed25519 if !self.signature_context.is_empty() => return pure("signature_context must be empty"),
            _ => {}
        }
        Ok(How { context: keys::context(&self.context)?.unwrap_or_default(), ..how.clone() })
    }
}
