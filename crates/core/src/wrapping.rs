//! Response wrapping: an answer is kept under a one-use token that can fetch it once.

use std::sync::Arc;

use daypass_base::wire::{Envelope, WrapInfo};
use daypass_base::{Seconds, Secret, Timestamp};
use daypass_sdk::{Error, Kind, Result, TokenId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::node::{Inner, Unsealed};
use crate::respond::envelope_bytes;
use crate::revoke::cubbyhole_prefix;
use crate::rows::config_key;
use crate::tokens::{self, Known};

/// What is known of a wrapped answer without unwrapping it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Info {
    pub(crate) creation_ttl: Seconds,
    pub(crate) creation_time: Timestamp,
    pub(crate) creation_path: String,
}

/// Keeps an answer and returns where it can be fetched.
pub(crate) async fn put_away(inner: &Arc<Inner>, unsealed: &Unsealed, envelope: &Envelope, path: &str, ttl: Seconds) -> Result<WrapInfo> {
    let body = Zeroizing::new(envelope_bytes(envelope));
    let accessor = match (&envelope.auth, &envelope.data) {
        (Some(auth), _) => auth.accessor.clone(),
        (None, Some(data)) => data.get("secret_id_accessor").and_then(Value::as_str).unwrap_or_default().to_owned(),
        (None, None) => String::new(),
    };
    keep(inner, unsealed, &body, path, ttl, accessor).await
}

async fn keep(
    inner: &Arc<Inner>,
    unsealed: &Unsealed,
    body: &[u8],
    path: &str,
    ttl: Seconds,
    wrapped_accessor: String,
) -> Result<WrapInfo> {
    let now = inner.clock.now();
    let mut row = tokens::row(vec![POLICY.to_owned()], path, "", now);
    row.num_uses = 1;
    row.creation_ttl = ttl;
    row.explicit_max_ttl = ttl;
    row.expires = Some(now + ttl);
    let info = Info { creation_ttl: ttl, creation_time: now, creation_path: path.to_owned() };
    let response = json!({ "response": String::from_utf8_lossy(body) }).to_string().into_bytes();
    let about = json!(info).to_string().into_bytes();
    let made = unsealed.tokens.create(row, None, &[(RESPONSE, response), (INFO, about)]).await?;
    Ok(WrapInfo {
        token: made.text,
        accessor: made.row.accessor,
        ttl: ttl.0,
        creation_time: now,
        creation_path: path.to_owned(),
        wrapped_accessor,
    })
}

/// Finds a wrapping token that still holds its answer. Errors: `WrappingToken`.
pub(crate) async fn find(unsealed: &Unsealed, token: &Secret<String>) -> Result<(Known, Info)> {
    let known = unsealed.tokens.find(token).await?.0.filter(|known| !known.batch && known.row.num_uses == 1);
    let known = known.filter(is_wrapping).ok_or_else(invalid)?;
    let info = info(unsealed, known.id).await?;
    Ok((known, info))
}

/// Whether a token is a wrapping token.
pub(crate) fn is_wrapping(known: &Known) -> bool {
    known.row.policies.first().is_some_and(|policy| policy == POLICY)
}

async fn info(unsealed: &Unsealed, id: TokenId) -> Result<Info> {
    let found = unsealed.rows.get_json::<Info>(&config_key(format!("{}{INFO}", cubbyhole_prefix(id)))).await?;
    found.map(|(info, _)| info).ok_or_else(invalid)
}

/// Fetches the answer, once: whoever spends the token's one use gets it, everybody else is told that the token is not valid.
pub(crate) async fn unwrap(inner: &Arc<Inner>, unsealed: &Unsealed, token: &Secret<String>) -> Result<String> {
    let (known, _) = find(unsealed, token).await?;
    let id = known.id;
    // Read before the use is spent: whatever ends the token from here on, the answer is not lost to the one who spent it.
    let body = Zeroizing::new(response(unsealed, id).await?);
    unsealed.tokens.spend(known).await?.ok_or_else(invalid)?;
    crate::revoke::token(inner, unsealed, id).await?;
    Ok(body.to_string())
}

/// Spends a wrapping token and puts its answer under a new one with the same lifetime.
pub(crate) async fn rewrap(inner: &Arc<Inner>, unsealed: &Unsealed, token: &Secret<String>) -> Result<WrapInfo> {
    let (_, info) = find(unsealed, token).await?;
    let body = Zeroizing::new(unwrap(inner, unsealed, token).await?);
    let accessor = serde_json::from_str::<Value>(&body)
        .ok()
        .and_then(|value| value.pointer("/auth/accessor").and_then(Value::as_str).map(str::to_owned))
        .unwrap_or_default();
    keep(inner, unsealed, body.as_bytes(), &info.creation_path, info.creation_ttl, accessor).await
}

async fn response(unsealed: &Unsealed, id: TokenId) -> Result<String> {
    let found = unsealed.rows.get_json::<Value>(&config_key(format!("{}{RESPONSE}", cubbyhole_prefix(id)))).await?;
    let (value, _) = found.ok_or_else(invalid)?;
    value.get("response").and_then(Value::as_str).map(str::to_owned).ok_or_else(invalid)
}

/// Spent, ended, or never valid: all the same to whoever asks.
pub(crate) fn invalid() -> Error {
    Error::new(Kind::WrappingToken, "wrapping token is not valid or does not exist")
}

const POLICY: &str = "response-wrapping";
const RESPONSE: &str = "response";
const INFO: &str = "wrapinfo";
