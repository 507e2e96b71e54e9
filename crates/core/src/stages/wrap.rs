//! Wrap: puts an answer away under a one-use token, when the client or the engine wants that.

use std::sync::Arc;

use daypass_sdk::Result;

use crate::node::{Inner, Unsealed};
use crate::respond::{Answer, Content, wrap_envelope};
use crate::stages::bind::Bound;
use crate::stages::parse::Parsed;
use crate::wrapping;

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

/// Errors: when the answer cannot be put away.
pub(crate) async fn wrap(inner: &Arc<Inner>, unsealed: &Unsealed, parsed: &Parsed, bound: Bound) -> Result<Wrapped> {
    let (answer, ttl) = bound.into_parts();
    let Some(ttl) = ttl else { return Ok(Wrapped { answer, _proof: () }) };
    let Content::Envelope(envelope) = &answer.content else { return Ok(Wrapped { answer, _proof: () }) };
    if answer.status != 200 || envelope.wrap_info.is_some() {
        return Ok(Wrapped { answer, _proof: () });
    }
    let info = wrapping::put_away(inner, unsealed, envelope, &parsed.path, ttl).await?;
    // The record says what was minted, whoever unwraps it.
    let answer = Answer { facts: answer.facts, ..Answer::envelope(200, wrap_envelope(info)) };
    Ok(Wrapped { answer, _proof: () })
}
