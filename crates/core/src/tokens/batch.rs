//! Batch tokens: the token's state is the token, sealed. Nothing is stored, so nothing can be counted, renewed or listed.

use data_encoding::BASE64URL_NOPAD;
use daypass_barrier::Barrier;
use daypass_base::Secret;
use daypass_sdk::{Error, Result};

use super::text::TEXT_BYTES_MAX;
use super::{TokenRow, check_bytes};

/// Seals a token's state into its text. Errors: `BadRequest` for a text that nobody would look at.
pub(super) fn seal(row: &TokenRow, barrier: &Barrier) -> Result<Secret<String>> {
    let state = serde_json::to_vec(row).map_err(|error| Error::internal("a batch token cannot be written").because(error))?;
    let sealed = barrier.seal_token(&state).map_err(|error| Error::internal("a batch token cannot be sealed").because(error))?;
    let text = Secret::new(format!("hvb.{}", BASE64URL_NOPAD.encode(&sealed)));
    // Only its length is looked at.
    check_bytes(text.expose().len(), TEXT_BYTES_MAX, "in the text of a batch token")?;
    Ok(text)
}

/// Opens what follows `hvb.`. `None` for anything that this server did not seal.
pub(super) fn open(text: &str, barrier: &Barrier) -> Option<TokenRow> {
    let sealed = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    let state = barrier.open_token(&sealed).ok()?;
    serde_json::from_slice(&state).ok()
}
