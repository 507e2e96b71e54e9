//! Wrap: puts an answer away under a one-use token, when the client or the engine wants that.

use std::sync::Arc;

use daypass_base::duration;
use daypass_base::wire::Envelope;
use daypass_sdk::{Error, Operation, Result};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::node::{Inner, Unsealed};
use crate::respond::{Answer, Content, envelope_bytes, wrap_envelope};
use crate::stages::bind::Bound;
use crate::stages::door::Routed;
use crate::stages::identify::Identified;
use crate::stages::parse::Parsed;
use crate::wrapping::{self, Kept};

/// An answer that may be sent.
pub(crate) struct Wrapped {
    pub(crate) answer: Answer,
    _proof: (),
}

impl Wrapped {
    /// A refusal: never wrapped.
    pub(crate) fn refusal(answer: Answer) -> Self {
        Self { answer, _proof: () }
    }
}

/// Metrics, log lines, sealed snapshots, public keys, documents: programs read them as they are, and nothing in them is secret.
pub(crate) fn is_never(routed: &Routed, operation: Operation) -> bool {
    routed.support.bare && !routed.support.for_aws_sdks || operation == Operation::Help
}

/// Whether the answer may be put away for this caller. Asked before the work is done: an answer that is wanted wrapped is never sent in clear instead.
/// Errors: `BadRequest` for a time beyond the server's `max_lease_ttl`, for whoever has no more than a wrapping token that is about to end, and for strangers on
/// endpoints that answer anybody: each of their requests would be a token in the store.
pub(crate) async fn check(inner: &Inner, unsealed: &Unsealed, parsed: &Parsed, routed: &Routed, identified: &Identified) -> Result<()> {
    let Some(asked) = parsed.wrap_ttl.filter(|_| !is_never(routed, parsed.operation)) else { return Ok(()) };
    let most = inner.settings.ttls.max;
    if asked > most {
        let [asked, most] = [asked, most].map(|seconds| duration::short_string(seconds.duration()));
        return Err(Error::bad_request(format!(
            "the wrapping time {asked} (X-Vault-Wrap-TTL, -wrap-ttl) is over max_lease_ttl {most} of the server: ask for a shorter one"
        )));
    }
    if identified.wrap_ttl.is_some_and(|ttl| ttl.is_zero()) {
        return Err(wrapping::too_late());
    }
    let support = &routed.support;
    if !support.public || support.on_proof || support.own_token || is_of_somebody(unsealed, identified).await? {
        return Ok(());
    }
    Err(Error::bad_request(
        "this path answers without a token, and then its answer cannot be wrapped: leave out X-Vault-Wrap-TTL (vault commands: -wrap-ttl, VAULT_WRAP_TTL), or \
         present a token, one without a limit of uses",
    ))
}

/// Whether a token was presented that is good elsewhere, too. Here nothing is spent, so that one of few uses would be good for any number of rows.
async fn is_of_somebody(unsealed: &Unsealed, identified: &Identified) -> Result<bool> {
    let Some(known) = identified.known.as_ref().filter(|known| known.row.num_uses == 0) else { return Ok(false) };
    let config_version = unsealed.tokens.config_version().await?;
    Ok(!unsealed.identities.refuses(&known.row, config_version).await?)
}

/// Errors: when the answer cannot be put away; `BadRequest` when it is of a kind that never can. It is not shown then.
pub(crate) async fn wrap(inner: &Arc<Inner>, unsealed: &Unsealed, parsed: &Parsed, bound: Bound) -> Result<Wrapped> {
    let (answer, ttl) = bound.into_parts();
    let Some(ttl) = ttl else { return Ok(Wrapped { answer, _proof: () }) };
    let Some(kept) = kept(&answer)? else { return Ok(Wrapped { answer, _proof: () }) };
    let info = wrapping::put_away(inner, unsealed, &kept, &parsed.path, ttl).await?;
    // The record says what was minted, whoever unwraps it.
    let answer = Answer { facts: answer.facts, ..Answer::envelope(200, wrap_envelope(info)) };
    Ok(Wrapped { answer, _proof: () })
}

/// What is put away of an answer; nothing of one that says nothing, that refuses, or that was put away already.
fn kept(answer: &Answer) -> Result<Option<Kept>> {
    let kept = |body: Vec<u8>, accessor: String| Some(Kept { status: answer.status, body: Zeroizing::new(body), accessor });
    Ok(match &answer.content {
        Content::Empty | Content::Refused(_) => None,
        Content::Envelope(envelope) if envelope.wrap_info.is_some() => None,
        // A deleted version is answered with 404, and still tells about itself.
        Content::Envelope(envelope) if answer.status == 200 || envelope.data.is_some() => {
            kept(envelope_bytes(envelope), accessor_in(envelope))
        }
        Content::Envelope(_) => None,
        Content::Bare(value) if answer.status < 300 || value.get("data").is_some_and(|data| !data.is_null()) => {
            kept(value.to_string().into_bytes(), String::new())
        }
        Content::Bare(_) => None,
        Content::Raw(_, body) if body.is_empty() => None,
        // What is unwrapped goes to somebody else as it is.
        Content::Raw("application/json", body) => kept(body.to_vec(), String::new()),
        Content::Raw(..) | Content::Stream(..) => {
            return Err(Error::bad_request(
                "this answer cannot be wrapped: leave out X-Vault-Wrap-TTL (vault commands: -wrap-ttl, VAULT_WRAP_TTL)",
            ));
        }
    })
}

fn accessor_in(envelope: &Envelope) -> String {
    match (&envelope.auth, &envelope.data) {
        (Some(auth), _) => auth.accessor.clone(),
        (None, Some(data)) => data.get("secret_id_accessor").and_then(Value::as_str).unwrap_or_default().to_owned(),
        (None, None) => String::new(),
    }
}
