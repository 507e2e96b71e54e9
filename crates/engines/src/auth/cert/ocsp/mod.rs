//! OCSP: asking those who issued a client's certificate, or whom they let answer, whether it was revoked. An entry says whether that is done
//! ([`settings`]).
//!
//! - Asked about are the client's certificate, always, and those authorities between it and the trusted one that name a responder. Only after the chain
//!   was verified: who is asked stands in the certificates.
//! - [`wire`] writes questions and reads answers, [`verify`] says what an answer is worth, [`ask`] asks and asks again, [`kept`] has what was told lately.
//!
//! Must never: let in what was revoked; take an answer that somebody else signed, that is about another certificate, or that is of another time.
//!
//! Sources: RFC 6960, RFC 5019, RFC 9654; Vault API, "TLS certificates auth method".

mod ask;
mod kept;
mod settings;
mod signer;
mod verify;
mod wire;

pub(super) use ask::{check, places};
pub(super) use kept::Kept;
pub(super) use settings::{Ocsp, OcspParams, Responders};
pub(super) use signer::Signer;

use daypass_sdk::Timestamp;

/// For fuzzing: reads and judges an answer. Says whether one that counts is about that certificate alone, and counts no more once it has ended.
pub(super) fn is_about_one(issuer: &[u8], serial: &[u8], answer: &[u8], now: Timestamp) -> bool {
    let Ok(issuer) = Signer::read(issuer) else { return true };
    let trust = verify::Trust { named: &[], revoked: &|_| false };
    let judge = |serial: &[u8], now| verify::judge(answer, &verify::Question { issuer: &issuer, serial, nonce: &[9; 32] }, &trust, now);
    let Ok(told) = judge(serial, now) else { return true };
    judge(&[serial, &[1]].concat(), now).is_err() && told.next_update.is_none_or(|next| judge(serial, next).is_err())
}

#[cfg(test)]
mod tests;
