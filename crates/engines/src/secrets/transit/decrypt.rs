//! `decrypt/`.

use std::sync::Arc;

use data_encoding::BASE64;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result, Secret, reveal};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::batch::{BatchInput, Inputs, Outcomes, Partial};
use super::cache::Loaded;
use super::cipher::{self, With};
use super::encrypt::{Item, not_found, same_context};
use super::work::Place;
use super::{Transit, rows};

/// What to decrypt.
#[derive(Deserialize, JsonSchema)]
struct Params {
    /// Name of the key.
    name: String,
    /// The ciphertext, as it was answered.
    ciphertext: Option<String>,
    /// Context of a derived key, in base64.
    #[serde(default)]
    context: String,
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
    partial_failure_response_code: Option<i64>,
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
    let place = inputs.place(&key);
    let references = inputs.items.iter().map(|item| item.reference.clone()).collect();
    let ready: Vec<Result<Ready>> = inputs.items.into_iter().enumerate().map(|(number, item)| item.into_ready(number, &key)).collect();
    let one = move |ready: Result<Ready>| {
        let Ready { ciphertext, with } = ready?;
        cipher::decrypt(&key, &ciphertext, &with).map(|plaintext| decrypted(&plaintext))
    };
    let results = transit.work.each(place, ready, one).await?;
    // An empty plaintext is one, so failures show the field too.
    let empty = Map::from_iter([("plaintext".to_owned(), Value::from(""))]);
    let outcomes = Outcomes { batch: inputs.batch, results, references };
    outcomes.answer(&cx, Partial::Refused(params.partial_failure_response_code), &empty)
}

/// A ciphertext that was read.
pub(super) struct Ready {
    pub(super) ciphertext: String,
    pub(super) with: With,
}

/// The ciphertext of a request or of an item. Errors: `BadRequest` with Vault's text.
pub(super) fn given(ciphertext: Option<String>) -> Result<String> {
    ciphertext.filter(|text| !text.is_empty()).ok_or_else(|| Error::bad_request("missing ciphertext to decrypt"))
}

impl Inputs<Item> {
    /// Where ciphertexts are decrypted.
    pub(super) fn place(&self, key: &Loaded) -> Place {
        let bytes = self.items.iter().map(|item| item.ciphertext.as_ref().map_or(0, String::len)).sum();
        Place::of(key, self.items.len(), bytes)
    }
}

impl Item {
    /// Errors: `BadRequest`.
    pub(super) fn into_ready(self, number: usize, key: &Loaded) -> Result<Ready> {
        let with = self.with(number, key)?;
        Ok(Ready { ciphertext: given(self.ciphertext)?, with })
    }
}

fn decrypted(plaintext: &Secret<Vec<u8>>) -> Map<String, Value> {
    // Into the answer, which is where it is meant to go.
    let text = Secret::new(BASE64.encode(plaintext.expose()));
    Map::from_iter([("plaintext".to_owned(), reveal(&text))])
}

impl Params {
    /// The inputs, each with a ciphertext. Errors: `BadRequest` with Vault's texts.
    fn inputs(&mut self) -> Result<Inputs<Item>> {
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
        Ok(Item {
            ciphertext: Some(given(self.ciphertext.take())?),
            context: std::mem::take(&mut self.context),
            nonce: std::mem::take(&mut self.nonce),
            associated_data: std::mem::take(&mut self.associated_data),
            padding_scheme: std::mem::take(&mut self.padding_scheme),
            ..Item::default()
        })
    }
}
