//! `sys/mints/<access key id>`: which caller got an AWS access key. Ours alone; Vault has nothing like it.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result, Seconds, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Sys;
use crate::leases::signed;
use crate::mints::{Found, Look, Mint};
use crate::node::Unsealed;

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["mints/{access_key_id:any}"])
            .summary("Say which caller got an AWS access key, by which claims, when and from where.")
            .help(
                "Known are the credentials of this server's aws and ecr mounts while they are good and for a retention after that. The key of \
                 an IAM user is live while its lease is there, and expire_time is that of the lease. A key \
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

/// Errors: `NotFound` for a key that nothing is known of; `Failed` where damaged rows may have told of it.
async fn read(sys: Arc<Sys>, cx: Cx, params: Params) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let Look { found, damaged } = unsealed.mints.find(params.access_key_id.trim()).await?;
    let Some(Found { maker, uses, total }) = found else { return Err(unknown(damaged)) };
    let now = cx.clock.now();
    let mut data = shown(&maker);
    data.insert("access_key_id".to_owned(), maker.access_key_id.as_str().into());
    let end = end(&unsealed, &maker).await?;
    data.insert("live".to_owned(), end.is_some_and(|end| end.is_live(now)).into());
    data.insert("ttl".to_owned(), json!(end.map_or(Seconds::ZERO, |end| Seconds::from(end.at().since(now)))));
    if let Some(end) = end {
        data.insert("expire_time".to_owned(), json!(end.at()));
    }
    let all: Vec<Value> = uses.iter().map(|mint| Value::Object(shown(mint))).collect();
    data.insert("uses".to_owned(), all.into());
    data.insert("uses_total".to_owned(), total.into());
    let mut reply = Reply::data(data);
    if damaged > 0 {
        reply = reply.warn(format!("{damaged} rows of the ledger are damaged: uses, and the maker, may be missing; the audit log has all"));
    }
    if total <= uses.len() {
        return Ok(reply);
    }
    Ok(reply.warn(format!("it was handed out {total} times: uses has the newest and the one that made it, the audit log has all")))
}

/// Of a key that nothing is known of. While rows are damaged nobody can say that it was not handed out.
fn unknown(damaged: usize) -> Error {
    if damaged == 0 {
        return Error::not_found();
    }
    Error::failed(format!(
        "nothing is known of this key, but {damaged} rows of the ledger are damaged and may have told of it: search the audit log for it"
    ))
}

/// When a credential is over.
#[derive(Clone, Copy)]
enum End {
    /// By itself.
    Itself(Timestamp),
    /// When its lease is taken back, which is meant to be at this moment: until that is done it works.
    Lease(Timestamp),
}

impl End {
    fn at(self) -> Timestamp {
        let (Self::Itself(at) | Self::Lease(at)) = self;
        at
    }

    fn is_live(self, now: Timestamp) -> bool {
        match self {
            Self::Itself(at) => at > now,
            Self::Lease(_) => true,
        }
    }
}

/// What is known of the end of a credential now: a lease that is stored may have been renewed, or taken back. `None`: it was.
async fn end(unsealed: &Unsealed, mint: &Mint) -> Result<Option<End>> {
    if signed::read(&mint.lease_id, unsealed.rows.barrier()).is_some() {
        return Ok(Some(End::Itself(mint.expires)));
    }
    let held = unsealed.leases.find(&mint.lease_id).await?;
    Ok(held.map(|held| End::Lease(held.row.expires)))
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
