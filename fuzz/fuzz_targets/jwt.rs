//! Tokens and key sets come from strangers and from providers. Whatever they hold, they are read or refused, and no claim becomes a name
//! with control characters.
#![no_main]

use daypass_engines::auth::jwt::fuzzing::{read_claims, read_keys, read_token};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    read_keys(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        read_token(text);
        // A header that is fine, so that payloads are reached.
        read_token(&format!("eyJhbGciOiJFUzI1NiJ9.{text}"));
        let (claim, json) = text.split_once('\n').unwrap_or(("sub", text));
        read_claims(json, claim);
    }
});
