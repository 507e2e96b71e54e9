//! Wrap: puts an answer away under a one-use token, when the client or the engine wants that.

use std::sync::Arc;

use daypass_base::wire::Envelope;
use daypass_sdk::{Error, Result};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::node::{Inner, Unsealed};
use crate::respond::{Answer, Content, envelope_bytes, wrap_envelope};
use crate::stages::bind::Bound;
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
