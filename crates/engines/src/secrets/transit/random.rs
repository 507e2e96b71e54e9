//! `random/`: random bytes.

use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use daypass_base::Brief;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::Transit;

/// Random bytes wanted.
#[derive(Deserialize, JsonSchema)]
struct Params {
    /// How many bytes, 1 to 131072; 32 unless given.
    #[serde(default = "usual_bytes")]
    bytes: i64,
    /// `base64` (the default) or `hex`.
    #[serde(default)]
    format: String,
    /// In the path: the source (`platform`, `seal` or `all`, which are one here), or the number of bytes.
    #[serde(default)]
    source: String,
    /// In the path: the number of bytes; it wins over the field.
    #[serde(default)]
    urlbytes: String,
}

pub(super) fn endpoint() -> Endpoint<Transit> {
    Endpoint::at(["random", "random/{source}", "random/{source}/{urlbytes}"])
        .summary("Generate random bytes.")
        .help("Written random, random/<bytes>, random/<source> or random/<source>/<bytes>.")
        .on(Operation::Update, random)
}

/// Errors: `BadRequest` for a number, a source or a format that is not offered.
async fn random(_: Arc<Transit>, cx: Cx, params: Params) -> Result<Reply> {
    let numeric = !params.source.is_empty() && params.source.bytes().all(|byte| byte.is_ascii_digit());
    let (source, count) = if numeric { ("platform", &params.source) } else { (params.source.as_str(), &params.urlbytes) };
    if !["", "platform", "seal", "all"].contains(&source) {
        return Err(Error::bad_request(format!(
            "unsupported entropy source {:?}; must be \"platform\" or \"seal\", or \"all\"",
            Brief(source)
        )));
    }
    let count: i64 = if count.is_empty() {
        params.bytes
    } else {
        count.parse().map_err(|error| Error::bad_request(format!("error parsing url-set byte count: {error}")))?
    };
    if count < 1 {
        return Err(Error::bad_request("\"bytes\" cannot be less than 1"));
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > BYTES_MAX {
        return Err(Error::bad_request(format!("\"bytes\" should be less than {BYTES_MAX}")));
    }
    let encoding = match params.format.as_str() {
        "" | "base64" => &BASE64,
        "hex" => &HEXLOWER,
        other => return Err(Error::bad_request(format!("unsupported encoding format {:?}; must be \"hex\" or \"base64\"", Brief(other)))),
    };
    let mut bytes = vec![0; count];
    cx.entropy.fill(&mut bytes);
    Ok(Reply::json(json!({ "random_bytes": encoding.encode(&bytes) })))
}

fn usual_bytes() -> i64 {
    32
}

const BYTES_MAX: usize = 128 * 1024;
