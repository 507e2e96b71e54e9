//! Answers of OCSP come over plain HTTP from whoever is on the way. Whatever they hold, they are read or refused; one that counts is about the certificate
//! that was asked about and no other, and has an end.
#![no_main]

use daypass_engines::auth::cert::fuzzing::read_answer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The issuer's certificate and the number of the one in question, each with its length before it; then the answer.
    let mut parts = Vec::new();
    let mut rest = bytes;
    while parts.len() < 2
        && let Some((length, after)) = rest.split_first_chunk::<2>()
    {
        let (part, after) = after.split_at(usize::from(u16::from_be_bytes(*length)).min(after.len()));
        parts.push(part);
        rest = after;
    }
    if let [issuer, serial] = parts.as_slice() {
        assert!(read_answer(issuer, serial, rest), "an answer is about one certificate, and ends");
    }
});
