//! Response wrapping: an answer is kept under a one-use token that can fetch it once.

use std::sync::Arc;

use daypass_base::wire::WrapInfo;
use daypass_base::{Seconds, Secret, Timestamp};
use daypass_sdk::{Error, Kind, Result, TokenId};
use daypass_storage::Key;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::node::{Inner, Unsealed};
use crate::revoke::cubbyhole_prefix;
use crate::rows::config_key;
use crate::tokens::{self, Known, Made, TokenRow};

/// What is known of a wrapped answer without unwrapping it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Info {
    pub(crate) creation_ttl: Seconds,
    pub(crate) creation_time: Timestamp,
    pub(crate) creation_path: String,
}

/// An answer that is put away, to be given out later as it was.
pub(crate) struct Kept {
    pub(crate) status: u16,
    pub(crate) body: Zeroizing<Vec<u8>>,
    /// Accessor of the token or secret id in it; may be empty.
    pub(crate) accessor: String,
}

/// Keeps an answer and returns where it can be fetched.
pub(crate) async fn put_away(inner: &Arc<Inner>, unsealed: &Unsealed, kept: &Kept, path: &str, ttl: Seconds) -> Result<WrapInfo> {
    let (row, contents) = parcel(kept, path, ttl, inner.clock.now());
    let made = unsealed.tokens.create(row, None, &contents).await?;
    Ok(handed_out(made, kept))
}

/// The wrapping token of an answer, and what lies in its cubbyhole.
fn parcel(kept: &Kept, path: &str, ttl: Seconds, now: Timestamp) -> (TokenRow, [(&'static str, Vec<u8>); 2]) {
    let mut row = tokens::row(vec![POLICY.to_owned()], path, "", now);
    row.num_uses = 1;
    row.creation_ttl = ttl;
    row.explicit_max_ttl = ttl;
    row.expires = Some(now + ttl);
    let info = Info { creation_ttl: ttl, creation_time: now, creation_path: path.to_owned() };
    let body = String::from_utf8_lossy(&kept.body);
    // The holder of the token may read this row, so it names only a status that is not the usual one.
    let response = if kept.status == 200 { json!({ "response": body }) } else { json!({ "response": body, "status": kept.status }) };
    (row, [(RESPONSE, response.to_string().into_bytes()), (INFO, json!(info).to_string().into_bytes())])
}

fn handed_out(made: Made, kept: &Kept) -> WrapInfo {
    WrapInfo {
        token: made.text,
        accessor: made.row.accessor,
        ttl: made.row.creation_ttl.0,
        creation_time: made.row.created,
        creation_path: made.row.path,
        wrapped_accessor: kept.accessor.clone(),
    }
}

/// Finds a wrapping token that still holds its answer. Errors: `WrappingToken`.
pub(crate) async fn find(unsealed: &Unsealed, token: &Secret<String>) -> Result<(Known, Info)> {
    let known = unsealed.tokens.find(token).await?.0.filter(|known| !known.batch && known.row.num_uses == 1);
    let known = known.filter(is_wrapping).ok_or_else(invalid)?;
    let info = info(unsealed, known.id).await?;
    Ok((known, info))
}

/// For how long what somebody gets for a wrapping token may be wrapped: for no longer than that one has left. In whole seconds, rounded down: what is wrapped can
/// be wrapped in its turn, and must not end later each time.
pub(crate) fn within(token: &TokenRow, asked: Seconds, now: Timestamp) -> Seconds {
    asked.min(token.ttl(now))
}

/// What is left rounds down to nothing.
pub(crate) fn too_late() -> Error {
    Error::bad_request(
        "the wrapping token has less than a second left, and for so short a time nothing can be wrapped: leave out X-Vault-Wrap-TTL (vault commands: -wrap-ttl, \
         VAULT_WRAP_TTL)",
    )
}

/// Whether a token is a wrapping token.
pub(crate) fn is_wrapping(known: &Known) -> bool {
    known.row.policies.first().is_some_and(|policy| policy == POLICY)
}

/// Whether nothing but its answer hangs on a wrapping token. Any request of its own spends its use before it does anything, so that until then its cubbyhole
/// has what it was made with ([`contents`]), and nothing else.
pub(crate) fn is_unused(row: &TokenRow) -> bool {
    row.num_uses == 1 && row.policies == [POLICY]
}

/// What lies in a wrapping token's cubbyhole.
pub(crate) fn contents(id: TokenId) -> [Key; 2] {
    [RESPONSE, INFO].map(|name| config_key(format!("{}{name}", cubbyhole_prefix(id))))
}

async fn info(unsealed: &Unsealed, id: TokenId) -> Result<Info> {
    let found = unsealed.rows.get_json::<Info>(&config_key(format!("{}{INFO}", cubbyhole_prefix(id)))).await?;
    found.map(|(info, _)| info).ok_or_else(invalid)
}

/// Fetches the answer with its status, once: whoever spends the token's one use gets it, everybody else is told that the token is not valid.
pub(crate) async fn unwrap(inner: &Arc<Inner>, unsealed: &Unsealed, token: &Secret<String>) -> Result<(u16, String)> {
    let (known, _) = find(unsealed, token).await?;
    let id = known.id;
    // Read before the use is spent: whatever ends the token from here on, the answer is not lost to the one who spent it.
    let (status, body) = response(unsealed, id).await?;
    let body = Zeroizing::new(body);
    unsealed.tokens.spend(known, inner.settings.limits.request_seconds).await?.ok_or_else(invalid)?;
    tidy_away(inner, unsealed, id).await;
    Ok((status, body.to_string()))
}

/// Puts a wrapped answer under a new token with the same lifetime, or with what is asked for if that is shorter.
pub(crate) async fn rewrap(inner: &Arc<Inner>, unsealed: &Unsealed, token: &Secret<String>, asked: Option<Seconds>) -> Result<WrapInfo> {
    let (known, info) = find(unsealed, token).await?;
    let ttl = asked.map_or(info.creation_ttl, |asked| asked.min(info.creation_ttl));
    exchange(inner, unsealed, known, &info.creation_path, ttl).await
}

/// Fetches the answer and puts it away again, as one that was asked for at `path` a moment ago.
pub(crate) async fn unwrap_into(
    inner: &Arc<Inner>,
    unsealed: &Unsealed,
    token: &Secret<String>,
    path: &str,
    ttl: Seconds,
) -> Result<WrapInfo> {
    let (known, _) = find(unsealed, token).await?;
    exchange(inner, unsealed, known, path, ttl).await
}

/// Spends a wrapping token and puts its answer under a new one, in one commit: where the store does not take it, or the process ends, the old one is
/// as good as before.
async fn exchange(inner: &Arc<Inner>, unsealed: &Unsealed, known: Known, path: &str, ttl: Seconds) -> Result<WrapInfo> {
    let id = known.id;
    let (status, body) = response(unsealed, id).await?;
    let accessor = daypass_base::nested::read::<Value>(body.as_bytes())
        .ok()
        .and_then(|value| value.pointer("/auth/accessor").and_then(Value::as_str).map(str::to_owned))
        .unwrap_or_default();
    let kept = Kept { status, body: Zeroizing::new(body.into_bytes()), accessor };
    let (row, contents) = parcel(&kept, path, ttl, inner.clock.now());
    let made = unsealed.tokens.exchange(known, inner.settings.limits.request_seconds, row, &contents).await?.ok_or_else(invalid)?;
    tidy_away(inner, unsealed, id).await;
    Ok(handed_out(made, &kept))
}

/// Removes what is left of a spent token. Its answer is on its way, so nothing that fails here may cost it; the token ends with its time anyway.
async fn tidy_away(inner: &Arc<Inner>, unsealed: &Unsealed, id: TokenId) {
    if let Err(error) = crate::revoke::token(inner, unsealed, id, tokens::Cause::Asked).await {
        tracing::warn!(%error, "a spent wrapping token could not be removed; it is of no use any more and goes when its time is over");
    }
}

async fn response(unsealed: &Unsealed, id: TokenId) -> Result<(u16, String)> {
    let found = unsealed.rows.get_json::<Value>(&config_key(format!("{}{RESPONSE}", cubbyhole_prefix(id)))).await?;
    let (value, _) = found.ok_or_else(invalid)?;
    let body = value.get("response").and_then(Value::as_str).map(str::to_owned).ok_or_else(invalid)?;
    let status = value.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
    Ok((status.unwrap_or(200), body))
}

/// Spent, ended, or never valid: all the same to whoever asks.
pub(crate) fn invalid() -> Error {
    Error::new(Kind::WrappingToken, "wrapping token is not valid or does not exist")
}

const POLICY: &str = "response-wrapping";
const RESPONSE: &str = "response";
const INFO: &str = "wrapinfo";
