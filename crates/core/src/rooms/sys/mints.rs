//! `sys/mints/<access key id>`: which caller got an AWS access key. Ours alone; Vault has nothing like it.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result, Seconds};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Sys;
use crate::mints::Mint;

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["mints/{access_key_id:any}"])
            .summary("Say which caller got an AWS access key, by which claims, when and from where.")
            .help(
                "Known are the credentials of this server's aws and ecr mounts while they are good and for a retention after that. A key \
                 that was handed out again (reuse_window) shows each time under uses, newest first. The ledger is written a moment after the \
                 answer: what a killed server had not written yet is in the audit log alone.",
            )
            .on(Operation::Read, read),
    ]
}

/// Which key.
#[derive(Deserialize, JsonSchema)]
struct Params {
    /// The access key id. Example: `ASIAIOSFODNN7EXAMPLE`.
    access_key_id: String,
}

async fn read(sys: Arc<Sys>, cx: Cx, params: Params) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let uses = unsealed.mints.find(params.access_key_id.trim()).await?;
    // The first time is the one that made it; the others got what was there.
    let first = uses.last().ok_or_else(Error::not_found)?;
    let now = cx.clock.now();
    let mut data = shown(first);
    data.insert("access_key_id".to_owned(), first.access_key_id.as_str().into());
    data.insert("live".to_owned(), (first.expires > now).into());
    data.insert("ttl".to_owned(), json!(Seconds::from(first.expires.since(now))));
    let all: Vec<Value> = uses.iter().map(|mint| Value::Object(shown(mint))).collect();
    data.insert("uses".to_owned(), all.into());
    Ok(Reply::data(data))
}

fn shown(mint: &Mint) -> Map<String, Value> {
    let value = json!({
        "path": mint.path,
        "lease_id": mint.lease_id,
        "request_id": mint.request_id,
        "issue_time": mint.issued,
        "expire_time": mint.expires,
        "display_name": mint.display_name,
        "entity_id": mint.entity_id,
        "accessor": mint.accessor,
        "metadata": mint.metadata,
        "claims": mint.claims,
        "remote_address": mint.remote_address,
        "facts": mint.facts,
    });
    if let Value::Object(map) = value { map } else { Map::new() }
}
