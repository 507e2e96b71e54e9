//! `verify/`: signatures and HMACs.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use serde_json::{Map, Value};

use super::batch::{Outcomes, Partial};
use super::cache::Loaded;
use super::hashing::Hash;
use super::sign::{Item, Params};
use super::signing::{self, How, Search};
use super::work::Place;
use super::{Transit, hmac, rows};

pub(super) fn endpoint() -> Endpoint<Transit> {
    Endpoint::at(["verify/{name}", "verify/{name}/{urlalgorithm}"])
        .summary("Verify a signature or an HMAC.")
        .help("A signature that does not fit is answered with valid false; a text that is no signature is refused.")
        .on(Operation::Update, verify)
}

/// What all items of a request bring to be checked.
enum Check {
    Hmac(Hash),
    Signature(Box<How>),
}

async fn verify(transit: Arc<Transit>, cx: Cx, mut params: Params) -> Result<Reply> {
    let inputs = params.inputs()?;
    let hmac = brought(&inputs.items)?;
    let missing = || Error::bad_request(if hmac { "encryption key not found" } else { "signature verification key not found" });
    let key = rows::load(&transit, &cx, &params.name).await?.ok_or_else(missing)?;
    let key_type = key.key.key_type;
    let check = if hmac {
        Check::Hmac(Hash::parse(params.hash_name(), "unsupported algorithm")?)
    } else if key_type.signs() {
        Check::Signature(Box::new(params.how(&key.key)?))
    } else {
        return Err(Error::bad_request(format!("key type {} does not support verification", key_type.name())));
    };
    let batch = inputs.batch;
    let references = inputs.items.iter().map(|item| item.reference.clone()).collect();
    let place = Place::of(&key, inputs.items.len(), 0);
    let mut search = Search::default();
    let one = move |item: Item| fits(&key, &item, &check, &mut search).map(|valid| Map::from_iter([("valid".to_owned(), valid.into())]));
    let results = transit.work.each(place, inputs.items, one).await?;
    let invalid = Map::from_iter([("valid".to_owned(), Value::Bool(false))]);
    Outcomes { batch, results, references }.answer(&cx, Partial::Fine, &invalid)
}

/// Whether the items bring HMACs (`true`) or signatures. Errors: `BadRequest` unless all bring one of the same sort.
fn brought(items: &[Item]) -> Result<bool> {
    if items.iter().any(|item| item.cmac.is_some()) {
        return Err(Error::bad_request("cmac is not available: verify a signature or an hmac"));
    }
    let hmac = items.first().is_some_and(|item| item.hmac.is_some());
    if items.iter().any(|item| item.hmac.is_some() != hmac || item.signature.is_some() == hmac) {
        return Err(Error::bad_request("provide one of 'signature', 'hmac' or 'cmac'"));
    }
    Ok(hmac)
}

fn fits(key: &Loaded, item: &Item, check: &Check, search: &mut Search) -> Result<bool> {
    let input = item.message()?;
    match check {
        Check::Hmac(hash) => hmac::fits(&key.key, *hash, &input, item.hmac.as_deref().unwrap_or_default()),
        Check::Signature(how) => {
            let how = item.how(how, key.key.key_type)?;
            signing::verify(key, &input, item.signature.as_deref().unwrap_or_default(), &how, search)
        }
    }
}
