//! What fuzz targets reach of this method: the readers of what strangers and providers send. Not part of the API.

use serde_json::Value;

use super::claims::{Leeways, Matching, Reading};
use crate::auth::glob::glob;
use crate::auth::jose::key::{self, Key};
use crate::auth::jose::token::{Token, Verified};

/// Reads a token. Says whether one that is read is made of what it was read from, and is verified by no key at all.
#[must_use]
pub fn read_token(text: &str) -> bool {
    let Ok(token) = Token::parse(text) else { return true };
    text.starts_with(token.signed) && token.signed.matches('.').count() == 1 && key::verify(&[], &token).is_none()
}

/// Reads a key set, and a PEM text. Says whether a set that is read has keys.
#[must_use]
pub fn read_keys(bytes: &[u8]) -> bool {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _read_or_refused = Key::from_pem(text);
        let _read_or_refused = Key::from_pem(&format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----"));
    }
    key::read_set(bytes).map_or(true, |keys| !keys.is_empty())
}

/// Reads who somebody is from any claims. Says whether nothing that is read has control characters, and whether a text without stars fits
/// itself alone.
#[must_use]
pub fn read_claims(json: &str, claim: &str) -> bool {
    let Ok(value @ Value::Object(_)) = serde_json::from_str::<Value>(json) else { return true };
    let claims = Verified(value);
    let mappings = [(claim.to_owned(), "key".to_owned())].into();
    let mut sound = true;
    for user_claim_is_pointer in [false, true] {
        let reading = Reading { user_claim: claim, user_claim_is_pointer, mappings: &mappings, groups_claim: claim };
        if let Ok(identity) = reading.of(&claims) {
            sound &= !identity.user.chars().any(char::is_control);
        }
    }
    for matching in [Matching::Glob, Matching::String] {
        let _fits_or_not = claims.has(&[(claim.to_owned(), Value::from("*"))].into(), matching);
    }
    let _holds_or_not = claims.holds(daypass_sdk::Timestamp::from_seconds(1_767_323_045), Leeways::default());
    sound && glob("*", claim) && (claim.contains('*') || (glob(claim, claim) && !glob(claim, &format!("{claim}x"))))
}
