//! `hmac/`: HMACs with a key of any type; each version has a key of its own for it.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Map;
use subtle::ConstantTimeEq;

use super::batch::{BatchInput, Inputs, Outcomes, Partial};
use super::hashing::{Hash, USUAL};
use super::key::{Key, Words};
use super::payload::{self, Alphabet, Form};
use super::work::Place;
use super::{Transit, rows};

/// What to authenticate.
#[derive(Deserialize, JsonSchema)]
struct Params {
    /// Name of the key.
    name: String,
    /// The message, in base64.
    input: Option<String>,
    /// `sha1`, `sha2-224`, `sha2-256` (the default), `sha2-384`, `sha2-512`, `sha3-256`, `sha3-384` or `sha3-512`.
    #[serde(default)]
    algorithm: String,
    /// In the path: the hash; it wins over the field.
    #[serde(default)]
    urlalgorithm: String,
    /// Version of the key; 0 for the latest.
    #[serde(default)]
    key_version: i64,
    /// Items with `input` and `reference`, at most 2000, instead of one message.
    batch_input: Option<BatchInput>,
}

/// One message.
#[derive(Deserialize)]
struct Item {
    input: Option<String>,
    #[serde(default)]
    reference: String,
}

pub(super) fn endpoint() -> Endpoint<Transit> {
    Endpoint::at(["hmac/{name}", "hmac/{name}/{urlalgorithm}"])
        .summary("Authenticate with an HMAC.")
        .help("verify/<name> checks it. In a batch each item fails alone; the status is 200 all the same.")
        .on(Operation::Update, make)
}

async fn make(transit: Arc<Transit>, cx: Cx, mut params: Params) -> Result<Reply> {
    let batch = params.batch_input.take();
    let input = params.input.take();
    let inputs = Inputs::read(batch, || Ok(Item { input, reference: String::new() }))?;
    let key = rows::load(&transit, &cx, &params.name).await?.ok_or_else(|| Error::bad_request("encryption key not found"))?;
    let name = [&params.urlalgorithm, &params.algorithm].into_iter().find(|name| !name.is_empty()).map_or(USUAL, String::as_str);
    let hash = Hash::parse(name, "unsupported algorithm")?;
    let version = key.key.usable(params.key_version, &WORDS)?;
    let bytes = inputs.items.iter().map(|item| item.input.as_ref().map_or(0, String::len)).sum();
    let place = if key.key.key_type.is_rsa() { Place::Here } else { Place::of(&key, inputs.items.len(), bytes) };
    let batch = inputs.batch;
    let references = inputs.items.iter().map(|item| item.reference.clone()).collect();
    let one = move |item: Item| {
        let input = item.input.ok_or_else(|| Error::bad_request("missing input for HMAC"))?;
        let unable = |error: Error| Error::bad_request(format!("unable to decode input as base64: {error}")).because(error);
        let tag = hash.hmac(&key.key.version(version)?.hmac_key, &payload::decode(&input).map_err(unable)?);
        Ok(Map::from_iter([("hmac".to_owned(), payload::seal(version, &tag, Alphabet::Standard).into())]))
    };
    let results = transit.work.each(place, inputs.items, one).await?;
    Outcomes { batch, results, references }.answer(&cx, Partial::Fine, &Map::new())
}

/// Whether an HMAC fits. Errors: `BadRequest` for a text that is none.
pub(super) fn fits(key: &Key, hash: Hash, input: &[u8], text: &str) -> Result<bool> {
    let (version, tag) = payload::open(Form::Hmac, text, key.window(), Alphabet::Standard)?;
    let made = hash.hmac(&key.version(version)?.hmac_key, input);
    Ok(made.ct_eq(&tag).into())
}

const WORDS: Words = Words {
    negative: "requested version for HMAC is negative",
    too_new: "requested version for HMAC is higher than the latest key version",
    too_old: "cannot generate HMAC: version is too old (disallowed by policy)",
};
