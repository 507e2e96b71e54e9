//! `decrypt/`.

use std::sync::Arc;

use data_encoding::BASE64;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result, Secret, reveal};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::batch::{BatchInput, Inputs, Outcomes, Partial};
use super::cipher::{self, With};
use super::encrypt::{Item, not_found, same_context};
use super::work::Place;
use super::{Transit, rows};

/// What to decrypt.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Params {
    /// Name of the key.
    pub(super) name: String,
    /// The ciphertext, as it was answered.
    ciphertext: Option<String>,
    /// Context of a derived key, in base64.
    #[serde(default)]
    context: String,
    /// Version to encrypt with when a ciphertext is wrapped again; 0 for the latest. Decryption reads it from the ciphertext.
    #[serde(default)]
    key_version: i64,
    /// Not taken by keys of today.
    #[serde(default)]
    nonce: String,
    /// The data that was authenticated with the ciphertext, in base64.
    #[serde(default)]
    associated_data: String,
    /// For RSA: `oaep` (the default) or `pkcs1v15`.
    #[serde(default)]
    padding_scheme: String,
    /// Items with the fields above and a `reference`, at most 2000, instead of one ciphertext.
    batch_input: Option<BatchInput>,
    /// Status of a batch of which only some items failed, instead of 400.
    pub(super) partial_failure_response_code: Option<i64>,
}

pub(super) fn endpoint() -> Endpoint<Transit> {
    Endpoint::at(["decrypt/{name}"])
        .summary("Decrypt.")
        .help("In a batch each item fails alone; then the status is 400 and the body still holds all results.")
        .on(Operation::Update, decrypt)
}

async fn decrypt(transit: Arc<Transit>, cx: Cx, mut params: Params) -> Result<Reply> {
    let inputs = params.inputs()?;
    let key = rows::load(&transit, &cx, &params.name).await?.ok_or_else(not_found)?;
    let bytes = inputs.items.iter().map(|item| item.ciphertext.as_ref().map_or(0, String::len)).sum();
    let place = Place::of(&key, inputs.items.len(), bytes);
    let references = inputs.items.iter().map(|item| item.reference.clone()).collect();
    let ready: Vec<(String, Result<With>)> = inputs.items.into_iter().enumerate().map(|(number, item)| ready(number, item, &key)).collect();
    let one = move |(text, with): (String, Result<With>)| cipher::decrypt(&key, &text, &with?).map(|plaintext| decrypted(&plaintext));
    let results = transit.work.each(place, ready, one).await?;
    // An empty plaintext is one, so failures show the field too.
    let empty = Map::from_iter([("plaintext".to_owned(), Value::from(""))]);
    let outcomes = Outcomes { batch: inputs.batch, results, references };
    outcomes.answer(&cx, Partial::Refused(params.partial_failure_response_code), &empty)
}

/// An item's ciphertext and what goes with it.
pub(super) fn ready(number: usize, item: Item, key: &super::cache::Loaded) -> (String, Result<With>) {
    let with = item.with(number, key);
    (item.ciphertext.unwrap_or_default(), with)
}

fn decrypted(plaintext: &Secret<Vec<u8>>) -> Map<String, Value> {
    // Into the answer, which is where it is meant to go.
    let text = Secret::new(BASE64.encode(plaintext.expose()));
    Map::from_iter([("plaintext".to_owned(), reveal(&text))])
}

impl Params {
    /// The inputs, each with a ciphertext. Errors: `BadRequest` with Vault's texts.
    pub(super) fn inputs(&mut self) -> Result<Inputs<Item>> {
        let batch = self.batch_input.take();
        let inputs = Inputs::read(batch, || self.item())?;
        for (number, item) in inputs.items.iter().enumerate() {
            if item.ciphertext.is_none() {
                return Err(Error::bad_request(format!(
                    "failed to parse batch input: '[{number}].ciphertext' missing ciphertext to decrypt"
                )));
            }
        }
        same_context(&inputs.items)?;
        Ok(inputs)
    }

    fn item(&mut self) -> Result<Item> {
        let given = self.ciphertext.take().filter(|text| !text.is_empty());
        let ciphertext = given.ok_or_else(|| Error::bad_request("missing ciphertext to decrypt"))?;
        Ok(Item {
            plaintext: None,
            ciphertext: Some(ciphertext),
            context: std::mem::take(&mut self.context),
            nonce: std::mem::take(&mut self.nonce),
            key_version: self.key_version,
            associated_data: std::mem::take(&mut self.associated_data),
            padding_scheme: std::mem::take(&mut self.padding_scheme),
            reference: String::new(),
        })
    }
}
