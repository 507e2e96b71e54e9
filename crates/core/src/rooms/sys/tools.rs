//! `sys/tools`: random bytes and hashes for those who have no other source at hand.

use std::sync::Arc;

use aws_lc_rs::digest;
use data_encoding::{BASE64, HEXLOWER};
use daypass_base::Brief;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::Sys;

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["tools/random/{source..?}"])
            .summary("Generate random bytes.")
            .help("Written tools/random, tools/random/<bytes>, tools/random/<source> or tools/random/<source>/<bytes>.")
            .on(Operation::Update, random),
        Endpoint::at(["tools/hash/{urlalgorithm..?}"])
            .summary("Hash data.")
            .help("The algorithm in the path wins over the one in the body.")
            .on(Operation::Update, hash),
    ]
}

/// Random bytes wanted.
#[derive(Debug, Deserialize, JsonSchema)]
struct Random {
    /// How many bytes, 1 to 131072; 32 unless given.
    #[serde(default = "usual_bytes")]
    bytes: i64,
    /// `base64` (the default) or `hex`.
    #[serde(default = "base64")]
    format: String,
    /// In the path: the source (`platform`, `seal` or `all`, which are one here) and the number of bytes.
    #[serde(default)]
    source: String,
}

/// Data to hash.
#[derive(Debug, Deserialize, JsonSchema)]
struct Hash {
    /// The data, in base64.
    #[serde(default)]
    input: String,
    /// `sha2-224`, `sha2-256` (the default), `sha2-384`, `sha2-512`, `sha3-256`, `sha3-384` or `sha3-512`.
    #[serde(default = "sha2_256")]
    algorithm: String,
    /// `hex` (the default) or `base64`.
    #[serde(default = "hex")]
    format: String,
    /// In the path: the algorithm.
    #[serde(default)]
    urlalgorithm: String,
}

/// Errors: `BadRequest` for a number, a source or a format that is not offered.
async fn random(_sys: Arc<Sys>, cx: Cx, params: Random) -> Result<Reply> {
    let (source, count) = match params.source.split_once('/') {
        Some((source, bytes)) => (source, Some(bytes)),
        None if params.source.chars().all(|c| c.is_ascii_digit()) && !params.source.is_empty() => ("", Some(params.source.as_str())),
        None => (params.source.as_str(), None),
    };
    let count = match count {
        Some(text) => text.parse().map_err(|error| Error::bad_request(format!("error parsing url-set byte count: {error}")))?,
        None => params.bytes,
    };
    if count < 1 {
        return Err(Error::bad_request("\"bytes\" cannot be less than 1"));
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > BYTES_MAX {
        return Err(Error::bad_request(format!("\"bytes\" should be less than {BYTES_MAX}")));
    }
    if !["", "platform", "seal", "all"].contains(&source) {
        return Err(Error::bad_request(format!(
            "unsupported entropy source {:?}; must be \"platform\" or \"seal\", or \"all\"",
            Brief(source)
        )));
    }
    let encoding = match params.format.as_str() {
        "base64" => &BASE64,
        "hex" => &HEXLOWER,
        other => return Err(Error::bad_request(format!("unsupported encoding format {:?}; must be \"hex\" or \"base64\"", Brief(other)))),
    };
    let mut bytes = vec![0; count];
    cx.entropy.fill(&mut bytes);
    Ok(Reply::json(json!({ "random_bytes": encoding.encode(&bytes) })))
}

/// Errors: `BadRequest` for an input, an algorithm or a format that is not offered.
async fn hash(_sys: Arc<Sys>, _cx: Cx, params: Hash) -> Result<Reply> {
    let input = BASE64.decode(params.input.as_bytes()).map_err(|error| {
        let text = format!("unable to decode input as base64: illegal base64 data at input byte {}", error.position);
        Error::bad_request(text).because(error)
    })?;
    let encoding = match params.format.as_str() {
        "base64" => &BASE64,
        "hex" => &HEXLOWER,
        other => return Err(Error::bad_request(format!("unsupported encoding format {}; must be \"hex\" or \"base64\"", Brief(other)))),
    };
    let name = if params.urlalgorithm.is_empty() { &params.algorithm } else { &params.urlalgorithm };
    let algorithm = match name.as_str() {
        "sha2-224" => &digest::SHA224,
        "sha2-256" => &digest::SHA256,
        "sha2-384" => &digest::SHA384,
        "sha2-512" => &digest::SHA512,
        "sha3-256" => &digest::SHA3_256,
        "sha3-384" => &digest::SHA3_384,
        "sha3-512" => &digest::SHA3_512,
        other => return Err(Error::bad_request(format!("unsupported algorithm {}", Brief(other)))),
    };
    Ok(Reply::json(json!({ "sum": encoding.encode(digest::digest(algorithm, &input).as_ref()) })))
}

fn usual_bytes() -> i64 {
    32
}

fn base64() -> String {
    "base64".to_owned()
}

fn hex() -> String {
    "hex".to_owned()
}

fn sha2_256() -> String {
    "sha2-256".to_owned()
}

const BYTES_MAX: usize = 128 * 1024;
