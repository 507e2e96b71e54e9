//! `datakey/`: a new random key, encrypted with a named one, for whoever encrypts by themselves.

use std::sync::Arc;

use data_encoding::BASE64;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result, Secret, reveal};
use schemars::JsonSchema;
use serde::Deserialize;

use super::encrypt::{Item, encrypted, not_found};
use super::work::Place;
use super::{Transit, cipher, keys, rows};

/// Which key, and what for.
#[derive(Deserialize, JsonSchema)]
struct Params {
    /// `plaintext` answers with the new key in clear too, `wrapped` without.
    plaintext: String,
    /// Name of the key that encrypts the new one.
    name: String,
    /// Bits of the new key: 128, 256 or 512; 256 unless given.
    #[serde(default = "usual_bits")]
    bits: i64,
    /// Context of a derived key, in base64.
    #[serde(default)]
    context: String,
    /// Version of the key that encrypts the new one; 0 for the latest.
    #[serde(default)]
    key_version: i64,
    /// Not taken by keys of today.
    #[serde(default)]
    nonce: String,
    /// For RSA: `oaep` (the default) or `pkcs1v15`.
    #[serde(default)]
    padding_scheme: String,
}

pub(super) fn endpoint() -> Endpoint<Transit> {
    Endpoint::at(["datakey/{plaintext}/{name}"])
        .summary("Make a random key, encrypted with a named one.")
        .help("datakey/plaintext answers with the key in clear and encrypted, datakey/wrapped with the encrypted one alone.")
        .on(Operation::Update, make)
}

/// Errors: `BadRequest`.
async fn make(transit: Arc<Transit>, cx: Cx, params: Params) -> Result<Reply> {
    if !["plaintext", "wrapped"].contains(&params.plaintext.as_str()) {
        return Err(Error::bad_request("Invalid path, must be 'plaintext' or 'wrapped'"));
    }
    keys::context(&params.context)?;
    let key = rows::load(&transit, &cx, &params.name).await?.ok_or_else(not_found)?;
    let mut bytes = match params.bits {
        128 => vec![0; 16],
        256 => vec![0; 32],
        512 => vec![0; 64],
        _ => return Err(Error::bad_request("invalid bit length")),
    };
    cx.entropy.fill(&mut bytes);
    let made = Secret::new(bytes);
    let item = Item { context: params.context, nonce: params.nonce, padding_scheme: params.padding_scheme, ..Item::default() };
    let with = item.with(0, &key)?;
    let (entropy, plain) = (Arc::clone(&cx.entropy), made.clone());
    let place = Place::of(&key, 1, 0);
    // Into the cipher.
    let work = move || cipher::encrypt(&key, params.key_version, plain.expose(), &with, &*entropy);
    let (ciphertext, version) = transit.work.run(place, work).await?;
    let mut data = encrypted(ciphertext, version);
    if params.plaintext == "plaintext" {
        // Into the answer: the caller asked for it in clear.
        data.insert("plaintext".to_owned(), reveal(&Secret::new(BASE64.encode(made.expose()))));
    }
    Ok(Reply::data(data))
}

fn usual_bits() -> i64 {
    256
}
