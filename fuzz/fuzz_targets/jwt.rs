//! Tokens and key sets come from strangers and from providers. Whatever they hold, they are read or refused, and no claim becomes a name
//! with control characters.
#![no_main]

use daypass_engines::auth::jwt::fuzzing::{read_claims, read_keys, read_token};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert!(read_keys(bytes), "a set has keys or is refused");
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(read_token(text), "the signed part is the token's own, and no key verifies nothing");
        // A header that is fine, so that payloads are reached.
        assert!(read_token(&format!("eyJhbGciOiJFUzI1NiJ9.{text}")), "the same for any payload");
        let (claim, json) = text.split_once('\n').unwrap_or(("sub", text));
        assert!(read_claims(json, claim), "names have no control characters, and a text without stars fits itself alone");
    }
});
