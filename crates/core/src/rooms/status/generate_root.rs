//! `sys/generate-root`, `sys/decode-token`: a new root token, authorised by the shares of the root key.

use std::sync::Arc;

use data_encoding::{BASE64, BASE64_NOPAD};
use daypass_base::Secret;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Outcome, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Nothing, Status, share};
use crate::ids;
use crate::keys::{OTP_LENGTH, RootProgress, Wanted};

pub(super) fn endpoints() -> Vec<Endpoint<Status>> {
    vec![
        Endpoint::at(["generate-root", "generate-root/attempt"])
            .summary("Start, show or cancel the generation of a root token.")
            .public()
            .bare()
            .on(Operation::Read, show)
            .on(Operation::Update, start)
            .on(Operation::Delete, cancel),
        Endpoint::at(["generate-root/update"])
            .summary("Enter a share of the root key, for a new root token.")
            .public()
            .bare()
            .on(Operation::Update, update),
        // Where OpenBao's command line asks; it looks for the same under `data`.
        Endpoint::at(["generate-root-token/attempt"])
            .summary("Start, show or cancel the generation of a root token, for OpenBao's clients.")
            .public()
            .on(Operation::Read, show_enveloped)
            .on(Operation::Update, start_enveloped)
            .on(Operation::Delete, cancel),
        Endpoint::at(["generate-root-token/update"])
            .summary("Enter a share of the root key, for OpenBao's clients.")
            .public()
            .on(Operation::Update, update_enveloped),
        Endpoint::at(["decode-token"]).summary("Decode a generated root token.").public().on(Operation::Update, decode),
    ]
}

/// How the new token is to be hidden.
#[derive(Deserialize, JsonSchema)]
struct StartParams {
    /// One-time password of 28 characters; made up and shown once unless given.
    otp: Option<Secret<String>>,
    /// A public PGP key that the token is encrypted to instead, in base64 of its binary form.
    pgp_key: Option<String>,
}

/// A share, and which attempt it is for.
#[derive(Deserialize, JsonSchema)]
struct UpdateParams {
    /// The share, in hex or base64.
    key: Option<Secret<String>>,
    /// The attempt's nonce.
    #[serde(default)]
    nonce: String,
}

/// A generated token and what hides it.
#[derive(Deserialize, JsonSchema)]
struct DecodeParams {
    /// The token as the generation answered it.
    encoded_token: Option<Secret<String>>,
    /// The one-time password.
    otp: Option<Secret<String>>,
}

/// `otp_length` is told with the attempt and left at 0 with each share, as recorded.
fn body(progress: &RootProgress, otp: Option<&Secret<String>>, otp_length: usize) -> Value {
    // Exposed to the person who generates the token, once.
    let otp = otp.map(|otp| otp.expose().clone()).unwrap_or_default();
    // Exposed to the same person; without the one-time password or the PGP key it says nothing.
    let encoded = progress.encoded.as_ref().map(|token| token.expose().clone()).unwrap_or_default();
    json!({
        "nonce": progress.nonce,
        "started": progress.started,
        "progress": progress.progress,
        "required": progress.required,
        "complete": progress.encoded.is_some(),
        "encoded_token": encoded,
        "encoded_root_token": encoded,
        "pgp_fingerprint": progress.fingerprint,
        "otp": otp,
        "otp_length": otp_length,
    })
}

fn bare(body: Value) -> Reply {
    Outcome::Bare(200, body).into()
}

/// In the envelope that other answers have; what answers in every state has none by itself.
fn enveloped(cx: &Cx, data: Value) -> Reply {
    let body = json!({
        "request_id": ids::uuid(&*cx.entropy),
        "lease_id": "",
        "renewable": false,
        "lease_duration": 0,
        "data": data,
        "wrap_info": Value::Null,
        "warnings": Value::Null,
        "auth": Value::Null,
        "mount_type": "",
    });
    bare(body)
}

async fn progress(status: &Status) -> Result<Value> {
    Ok(body(&status.way.inner()?.root_progress().await?, None, OTP_LENGTH))
}

async fn show(status: Arc<Status>, _: Cx, _: Nothing) -> Result<Reply> {
    progress(&status).await.map(bare)
}

async fn show_enveloped(status: Arc<Status>, cx: Cx, _: Nothing) -> Result<Reply> {
    progress(&status).await.map(|data| enveloped(&cx, data))
}

async fn start(status: Arc<Status>, cx: Cx, params: StartParams) -> Result<Reply> {
    started(&status, &cx, params).await.map(bare)
}

async fn start_enveloped(status: Arc<Status>, cx: Cx, params: StartParams) -> Result<Reply> {
    started(&status, &cx, params).await.map(|data| enveloped(&cx, data))
}

async fn started(status: &Status, cx: &Cx, params: StartParams) -> Result<Value> {
    let wanted = match (params.otp.filter(|otp| !otp.is_empty()), params.pgp_key.filter(|key| !key.is_empty())) {
        // Of two, Vault takes the one-time password too.
        (Some(otp), _) => Wanted::Otp(otp),
        (None, Some(key)) => Wanted::Pgp(key),
        (None, None) => Wanted::Any,
    };
    let (progress, made) = status.way.inner()?.start_root(wanted, cx.request.remote).await?;
    Ok(body(&progress, made.as_ref(), OTP_LENGTH))
}

async fn cancel(status: Arc<Status>, _: Cx, _: Nothing) -> Result<()> {
    status.way.inner()?.cancel_root().await
}

async fn update(status: Arc<Status>, _: Cx, params: UpdateParams) -> Result<Reply> {
    updated(&status, params).await.map(bare)
}

async fn update_enveloped(status: Arc<Status>, cx: Cx, params: UpdateParams) -> Result<Reply> {
    updated(&status, params).await.map(|data| enveloped(&cx, data))
}

async fn updated(status: &Status, params: UpdateParams) -> Result<Value> {
    let share = share(params.key)?;
    Ok(body(&status.way.inner()?.update_root(share, &params.nonce).await?, None, 0))
}

/// Errors: `Failed` for what does not decode; `Sealed`.
async fn decode(status: Arc<Status>, cx: Cx, params: DecodeParams) -> Result<Reply> {
    let inner = status.way.inner()?;
    inner.unsealed()?;
    let text = |field: Option<Secret<String>>| field.unwrap_or_else(|| Secret::new(String::new()));
    let (encoded, otp) = (text(params.encoded_token), text(params.otp));
    // Exposed to be joined: the token is what was asked for.
    let encoded = encoded.expose().as_bytes();
    let hidden = BASE64_NOPAD.decode(encoded).or_else(|_padded| BASE64.decode(encoded)).map(Zeroizing::new).map_err(|error| {
        Error::failed(format!("error decoding base64'd token: illegal base64 data at input byte {}", error.position)).bare()
    })?;
    let otp = otp.expose().as_bytes();
    if hidden.len() != otp.len() {
        let text = format!("error xoring token: length of byte slices is not equivalent: {} != {}", hidden.len(), otp.len());
        return Err(Error::failed(text).bare());
    }
    let token: Zeroizing<Vec<u8>> = Zeroizing::new(hidden.iter().zip(otp).map(|(hidden, otp)| hidden ^ otp).collect());
    let token = std::str::from_utf8(&token)
        .map_err(|_not_text| Error::failed("error decoding token: the one-time password is not the token's").bare())?;
    Ok(enveloped(&cx, json!({ "token": token })))
}
