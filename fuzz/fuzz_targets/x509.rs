//! Certificates come from strangers, revocation lists from wherever they are fetched. Whatever they hold, they are read or refused, no name has
//! control characters, and without a trusted authority nobody is vouched for.
#![no_main]

use daypass_engines::auth::cert::fuzzing::{judge, read_certificate, read_list};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert!(read_certificate(bytes), "names have no control characters");
    assert!(read_list(bytes), "a list that is stored is the list that was read");
    // An authority, a list and a chain, each with its length before it.
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (part, after) = after.split_at(usize::from(u16::from_be_bytes(*length)).min(after.len()));
        parts.push(part);
        rest = after;
    }
    if let [authority, list, chain @ ..] = parts.as_slice() {
        assert!(judge(authority, chain, list), "only authorities vouch");
    }
});
