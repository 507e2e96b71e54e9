//! `rewrap/`: from an old version of a key to a new one, without showing the plaintext.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Map;

use super::batch::{BatchInput, Inputs, Outcomes, Partial};
use super::cipher;
use super::decrypt::{Ready, given};
use super::encrypt::{Item, encrypted, not_found, same_context};
use super::{Transit, rows};

/// What to encrypt again.
#[derive(Deserialize, JsonSchema)]
struct Params {
    /// Name of the key.
    name: String,
    /// The ciphertext, as it was answered.
    ciphertext: Option<String>,
    /// Context of a derived key, in base64.
    #[serde(default)]
    context: String,
    /// Version to encrypt with; 0 for the latest. The version to decrypt with is in the ciphertext.
    #[serde(default)]
    key_version: i64,
    /// Not taken by keys of today.
    #[serde(default)]
    nonce: String,
    /// The data that was authenticated with the ciphertext, in base64; it is authenticated with the new one too.
    #[serde(default)]
    associated_data: String,
    /// For RSA: `oaep` (the default) or `pkcs1v15`.
    #[serde(default)]
    padding_scheme: String,
    /// Items with the fields above and a `reference`, at most 2000, instead of one ciphertext.
    batch_input: Option<BatchInput>,
}

pub(super) fn endpoint() -> Endpoint<Transit> {
    Endpoint::at(["rewrap/{name}"])
        .summary("Encrypt a ciphertext again with the latest version of its key.")
        .help(
            "The plaintext is not shown, so a job may do this that may not decrypt. In a batch each item fails alone; the status is 200 all the \
             same.",
        )
        .on(Operation::Update, rewrap)
}

async fn rewrap(transit: Arc<Transit>, cx: Cx, mut params: Params) -> Result<Reply> {
    let inputs = params.inputs()?;
    let key = rows::load(&transit, &cx, &params.name).await?.ok_or_else(not_found)?;
    let (place, entropy) = (inputs.place(&key), Arc::clone(&cx.entropy));
    let references = inputs.items.iter().map(|item| item.reference.clone()).collect();
    let with_version = |(number, item): (usize, Item)| {
        let version = item.key_version;
        item.into_ready(number, &key).map(|ready| (ready, version))
    };
    let ready: Vec<Result<(Ready, i64)>> = inputs.items.into_iter().enumerate().map(with_version).collect();
    let key = Arc::clone(&key);
    let one = move |ready: Result<(Ready, i64)>| {
        let (Ready { ciphertext, with }, version) = ready?;
        let plaintext = cipher::decrypt(&key, &ciphertext, &with)?;
        // From one cipher into the other.
        cipher::encrypt(&key, version, plaintext.expose(), &with, &*entropy).map(|(text, version)| encrypted(text, version))
    };
    let results = transit.work.each(place, ready, one).await?;
    Outcomes { batch: inputs.batch, results, references }.answer(&cx, Partial::Fine, &Map::new())
}

impl Params {
    /// The inputs; an item without a ciphertext fails alone, as in Vault. Errors: `BadRequest` with Vault's texts.
    fn inputs(&mut self) -> Result<Inputs<Item>> {
        let batch = self.batch_input.take();
        let inputs = Inputs::read(batch, || self.item())?;
        same_context(&inputs.items)?;
        Ok(inputs)
    }

    fn item(&mut self) -> Result<Item> {
        Ok(Item {
            ciphertext: Some(given(self.ciphertext.take())?),
            context: std::mem::take(&mut self.context),
            nonce: std::mem::take(&mut self.nonce),
            key_version: self.key_version,
            associated_data: std::mem::take(&mut self.associated_data),
            padding_scheme: std::mem::take(&mut self.padding_scheme),
            ..Item::default()
        })
    }
}
