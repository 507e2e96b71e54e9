//! `rewrap/`: from an old version of a key to a new one, without showing the plaintext.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Operation, Reply, Result};
use serde_json::Map;

use super::batch::{Outcomes, Partial};
use super::cipher::{self, With};
use super::decrypt::{Params, ready};
use super::encrypt::{encrypted, not_found};
use super::work::Place;
use super::{Transit, rows};

pub(super) fn endpoint() -> Endpoint<Transit> {
    Endpoint::at(["rewrap/{name}"])
        .summary("Encrypt a ciphertext again with the latest version of its key.")
        .help("The plaintext is not shown, so a job may do this that may not decrypt.")
        .on(Operation::Update, rewrap)
}

async fn rewrap(transit: Arc<Transit>, cx: Cx, mut params: Params) -> Result<Reply> {
    let inputs = params.inputs()?;
    let key = rows::load(&transit, &cx, &params.name).await?.ok_or_else(not_found)?;
    let bytes = inputs.items.iter().map(|item| item.ciphertext.as_ref().map_or(0, String::len)).sum();
    let (place, entropy) = (Place::of(&key, inputs.items.len(), bytes), Arc::clone(&cx.entropy));
    let references = inputs.items.iter().map(|item| item.reference.clone()).collect();
    let with_version = |(number, item): (usize, super::encrypt::Item)| {
        let version = item.key_version;
        (ready(number, item, &key), version)
    };
    let ready: Vec<((String, Result<With>), i64)> = inputs.items.into_iter().enumerate().map(with_version).collect();
    let key = Arc::clone(&key);
    let one = move |((text, with), version): ((String, Result<With>), i64)| {
        let with = with?;
        let plaintext = cipher::decrypt(&key, &text, &with)?;
        // From one cipher into the other.
        cipher::encrypt(&key, version, plaintext.expose(), &with, &*entropy).map(|(text, version)| encrypted(text, version))
    };
    let results = transit.work.each(place, ready, one).await?;
    let outcomes = Outcomes { batch: inputs.batch, results, references };
    outcomes.answer(&cx, Partial::Refused(params.partial_failure_response_code), &Map::new())
}
