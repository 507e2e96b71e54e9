//! `hash/`: hashes of data, without a key.

use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use daypass_base::Brief;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::hashing::{Hash, USUAL};
use super::{Transit, payload};

/// Data to hash.
#[derive(Deserialize, JsonSchema)]
struct Params {
    /// The data, in base64.
    input: Option<String>,
    /// `sha2-224`, `sha2-256` (the default), `sha2-384`, `sha2-512`, `sha3-256`, `sha3-384` or `sha3-512`.
    #[serde(default)]
    algorithm: String,
    /// In the path: the algorithm; it wins over the field.
    #[serde(default)]
    urlalgorithm: String,
    /// `hex` (the default) or `base64`.
    #[serde(default)]
    format: String,
}

pub(super) fn endpoint() -> Endpoint<Transit> {
    Endpoint::at(["hash", "hash/{urlalgorithm}"]).summary("Hash data.").on(Operation::Update, hash)
}

/// Errors: `BadRequest` for an input, an algorithm or a format that is not offered.
async fn hash(_: Arc<Transit>, _: Cx, params: Params) -> Result<Reply> {
    let unable = |error: Error| Error::bad_request(format!("unable to decode input as base64: {error}")).because(error);
    let input = params.input.ok_or_else(|| Error::bad_request("input missing"))?;
    let input = payload::decode(&input).map_err(unable)?;
    let encoding = match params.format.as_str() {
        "" | "hex" => &HEXLOWER,
        "base64" => &BASE64,
        other => return Err(Error::bad_request(format!("unsupported encoding format {}; must be \"hex\" or \"base64\"", Brief(other)))),
    };
    let name = [&params.urlalgorithm, &params.algorithm].into_iter().find(|name| !name.is_empty()).map_or(USUAL, String::as_str);
    let known = Hash::find(name).filter(|hash| hash.name != "sha1");
    let hash = known.ok_or_else(|| Error::bad_request(format!("unsupported algorithm {}", Brief(name))))?;
    Ok(Reply::json(json!({ "sum": encoding.encode(&hash.digest(&input)) })))
}
