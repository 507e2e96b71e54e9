//! What fuzz targets reach of this method: the readers of what strangers and providers send. Not part of the API.

use serde_json::Value;

use super::claims::{Matching, Reading, glob};
use super::key;
use super::token::{Token, Verified};

/// Reads a token. One that is read is made of what it was read from.
pub fn read_token(text: &str) {
    if let Ok(token) = Token::parse(text) {
        assert!(text.starts_with(token.signed) && token.signed.matches('.').count() == 1, "the signed part is the token's own");
        assert!(key::verify(&[], &token).is_none(), "no key verifies nothing");
    }
}

/// Reads a key set, and a PEM text.
pub fn read_keys(bytes: &[u8]) {
    let set = key::read_set(bytes);
    assert!(set.map_or(true, |keys| !keys.is_empty()), "a set has keys or is refused");
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _read_or_refused = key::Key::from_pem(text);
        let _read_or_refused = key::Key::from_pem(&format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----"));
    }
}

/// Reads who somebody is from any claims. Nothing that is read has control characters.
pub fn read_claims(json: &str, claim: &str) {
    let Ok(value @ Value::Object(_)) = serde_json::from_str::<Value>(json) else { return };
    let claims = Verified(value);
    let mappings = [(claim.to_owned(), "key".to_owned())].into();
    for user_claim_is_pointer in [false, true] {
        let reading = Reading { user_claim: claim, user_claim_is_pointer, mappings: &mappings, groups_claim: claim };
        if let Ok(identity) = reading.of(&claims) {
            assert!(!identity.user.chars().any(char::is_control), "names have no control characters");
        }
    }
    for matching in [Matching::Glob, Matching::String] {
        let _fits_or_not = claims.has(&[(claim.to_owned(), Value::from("*"))].into(), matching);
    }
    assert!(glob("*", claim) && glob(claim, claim) || claim.contains('*'), "a text without stars fits itself");
    let _holds_or_not = claims.holds(daypass_sdk::Timestamp::from_seconds(1_767_323_045), super::claims::Leeways::default());
}
