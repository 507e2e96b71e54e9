//! `sys/wrapping/*`: put an answer away, look at it from outside, fetch it, or wrap it anew. See `crate::wrapping`.

use std::sync::Arc;

use bytes::Bytes;
use daypass_base::Secret;
use daypass_base::wire::Envelope;
use daypass_sdk::{Cx, Endpoint, Error, Kind, Operation, Outcome, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::Sys;
use crate::wrapping::{self, Kept};

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["wrapping/wrap"]).summary("Response-wrap any JSON object.").on(Operation::Update, wrap).on(Operation::Read, wrap),
        Endpoint::at(["wrapping/unwrap"])
            .summary("Unwrap a response-wrapping token.")
            .help("A wrapping token that is presented itself is all that is needed; whoever names one in the body must be allowed to.")
            .own_token()
            .on(Operation::Update, unwrap),
        // To look at a wrapping token takes nothing from it.
        Endpoint::at(["wrapping/lookup"])
            .summary("Look up the properties of a response-wrapped token.")
            .on_proof()
            .on(Operation::Update, lookup)
            .on(Operation::Read, lookup),
        // Judged like anything else: whoever could wrap anew with nothing but the wrapping token would keep the answer from its end for ever.
        Endpoint::at(["wrapping/rewrap"]).summary("Rotate a response-wrapped token.").on(Operation::Update, rewrap),
    ]
}

/// Any fields: they are what is wrapped.
#[derive(Deserialize, JsonSchema)]
struct Anything {
    /// The object to wrap.
    #[serde(flatten)]
    fields: Map<String, Value>,
}

/// A wrapping token.
#[derive(Deserialize, JsonSchema)]
struct TokenParams {
    /// The wrapping token; the request's own token when left out.
    token: Option<Secret<String>>,
}

async fn wrap(_: Arc<Sys>, cx: Cx, anything: Anything) -> Result<Reply> {
    if cx.request.wrap_ttl.is_none() {
        return Err(Error::bad_request("endpoint requires response wrapping to be used"));
    }
    Ok(Reply::data(anything.fields).at_top_level())
}

async fn unwrap(sys: Arc<Sys>, cx: Cx, params: TokenParams) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    let token = wanted(&cx, params)?;
    if let Some(ttl) = cx.request.wrap_ttl {
        // Here and not on the answer's way out: an answer that cannot be put away then would be lost, its token being spent. For no longer than the token has left,
        // where nothing but a wrapping token was presented: see `Identified::wrap_ttl`.
        let info = wrapping::unwrap_into(&inner, &unsealed, &token, &cx.request.path, ttl).await?;
        return Ok(Outcome::Wrapped(Box::new(info)).into());
    }
    let (status, body) = wrapping::unwrap(&inner, &unsealed, &token).await?;
    Ok(Outcome::Raw(status, "application/json", Bytes::from(body)).into())
}

/// Wrapped for no longer than the token that is looked at has left: a look spends nothing, so that whoever holds one for a minute could have any number of rows
/// kept for as long as the server keeps anything.
async fn lookup(sys: Arc<Sys>, cx: Cx, params: TokenParams) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    let token = params.token.filter(|token| !token.is_empty()).or_else(|| cx.request.presented.clone());
    let token = token.ok_or_else(|| Error::bad_request("missing \"token\" value in input"))?;
    let (known, info) = wrapping::find(&unsealed, &token).await?;
    let data = json!({ "creation_ttl": info.creation_ttl, "creation_time": info.creation_time, "creation_path": info.creation_path });
    let envelope = Envelope { request_id: cx.request.id.clone(), data: Some(data), ..Envelope::default() };
    // As recorded: this answer names no mount.
    let body = serde_json::to_vec(&envelope).map_err(|error| Error::internal("an answer cannot be written").because(error))?;
    if let Some(asked) = cx.request.wrap_ttl {
        let ttl = wrapping::within(&known.row, asked, cx.clock.now());
        if ttl.is_zero() {
            return Err(wrapping::too_late());
        }
        let kept = Kept { status: 200, body: Zeroizing::new(body), accessor: String::new() };
        let info = wrapping::put_away(&inner, &unsealed, &kept, &cx.request.path, ttl).await?;
        return Ok(Outcome::Wrapped(Box::new(info)).into());
    }
    Ok(Outcome::Raw(200, "application/json", Bytes::from(body)).into())
}

async fn rewrap(sys: Arc<Sys>, cx: Cx, params: TokenParams) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    let token = wanted(&cx, params)?;
    let info = wrapping::rewrap(&inner, &unsealed, &token, cx.request.wrap_ttl).await?;
    Ok(Outcome::Wrapped(Box::new(info)).into())
}

fn wanted(cx: &Cx, params: TokenParams) -> Result<Secret<String>> {
    let token = params.token.filter(|token| !token.is_empty()).or_else(|| cx.request.presented.clone());
    token.ok_or_else(|| Error::new(Kind::Denied, "error validating wrapping token: token is empty"))
}
