//! A request is what a stranger sends: line, headers, blank line, body. Whatever it holds, it is read or refused, and a path that is read
//! leads nowhere but down, and a number that is read has all its digits.
#![no_main]

use daypass_base::{SystemEntropy, whole};
use daypass_core::fuzzing::{parse_request, read_body, request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (head, body) = split(bytes, b"\n\n");
    let mut lines = head.split(|byte| *byte == b'\n');
    let line = lines.next().unwrap_or_default();
    let (method, target) = split(line, b" ");
    let headers: Vec<(&[u8], &[u8])> = lines.map(|line| split(line, b": ")).collect();
    if read_body(body).is_ok() {
        assert!(whole::check(body).is_ok(), "a whole number lost digits");
    }
    let Some(request) = request(method, target, &headers, body) else { return };
    match parse_request(request, &SystemEntropy) {
        Ok(path) => {
            assert!(!path.starts_with('/') || path.is_empty(), "{path:?} is not below the root");
            assert!(path.split('/').all(|segment| segment != ".."), "{path:?} leads upwards");
            assert!(!path.chars().any(char::is_control), "{path:?} holds control characters");
        }
        Err(status) => assert!((300..500).contains(&status), "status {status}"),
    }
});

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> (&'a [u8], &'a [u8]) {
    match bytes.windows(at.len()).position(|window| window == at) {
        Some(found) => (&bytes[..found], &bytes[found + at.len()..]),
        None => (bytes, &[]),
    }
}
