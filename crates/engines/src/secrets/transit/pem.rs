//! PEM and the few bits of DER that exports and certificate requests need, written and read by hand. Certificates themselves are parsed
//! by the library that knows them.

use data_encoding::BASE64;
use daypass_sdk::{Error, Result};
use zeroize::Zeroizing;

use crate::der::element;

/// A PEM block with lines of 64 characters and a line end after the last, as Go writes it.
pub(super) fn write(label: &str, der: &[u8]) -> String {
    let text = Zeroizing::new(BASE64.encode(der));
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = next;
    }
    pem.push_str("-----END ");
    pem.push_str(label);
    pem.push_str("-----\n");
    pem
}

/// The bytes of the first PEM block with this label. Errors: `BadRequest`.
pub(super) fn read(label: &str, text: &str) -> Result<Vec<u8>> {
    let missing = || Error::bad_request(format!("there is no PEM block {label:?}"));
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----")).ok_or_else(missing)?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----")).ok_or_else(missing)?;
    let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    super::payload::decode(&body)
}

/// Every PEM block of a text, its label first; what stands before a block is passed over. `None` when the end holds no whole block.
pub(super) fn blocks(text: &str) -> Option<Vec<(String, Vec<u8>)>> {
    let (mut found, mut rest) = (Vec::new(), text);
    while !rest.trim().is_empty() {
        let (_, after) = rest.split_once("-----BEGIN ")?;
        let (label, after) = after.split_once("-----")?;
        let (body, after) = after.split_once(&format!("-----END {label}-----"))?;
        let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
        found.push((label.to_owned(), BASE64.decode(body.as_bytes()).ok()?));
        rest = after;
    }
    Some(found)
}

/// A DER element of these parts.
pub(super) fn wrapped(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let bytes = length.to_be_bytes();
    let significant = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let long = bytes.get(significant..).unwrap_or_default();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => out.push(short),
        // At most eight bytes.
        _ => out.extend(std::iter::once(0x80 | u8::try_from(long.len()).unwrap_or(8)).chain(long.iter().copied())),
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// What follows the first `skipped` elements inside a DER sequence.
pub(super) fn after_elements(der: &[u8], skipped: usize) -> Option<&[u8]> {
    let (mut rest, _) = element(0x30, der)?;
    for _ in 0..skipped {
        rest = element(*rest.first()?, rest)?.1;
    }
    Some(rest)
}

/// The key inside PKCS#8: what `RSA PRIVATE KEY` holds. `None` when it is no PKCS#8.
pub(super) fn inside_pkcs8(der: &[u8]) -> Option<&[u8]> {
    let (sequence, _) = element(0x30, der)?;
    let (_version, rest) = element(0x02, sequence)?;
    let (_algorithm, rest) = element(0x30, rest)?;
    element(0x04, rest).map(|(key, _)| key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_block_is_read_back(bytes: Vec<u8>) {
            let text = write("PUBLIC KEY", &bytes);
            prop_assert!(text.lines().all(|line| line.len() <= 64));
            prop_assert_eq!(read("PUBLIC KEY", &text).unwrap(), bytes);
        }

        #[test]
        fn what_is_wrapped_is_found_again(first: Vec<u8>, second: Vec<u8>) {
            let inner = [wrapped(0x04, &[&first]), wrapped(0x04, &[&second])];
            let whole = wrapped(0x30, &[&inner[0], &inner[1]]);
            prop_assert_eq!(element(0x30, &whole).unwrap().1, b"");
            prop_assert_eq!(after_elements(&whole, 1).unwrap(), &inner[1][..]);
            prop_assert_eq!(after_elements(&whole, 2).unwrap(), b"");
            prop_assert_eq!(after_elements(&whole, 3), None);
        }

        #[test]
        fn blocks_are_found_in_their_order(blocks_of in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..4)) {
            let text: String = blocks_of.iter().map(|bytes| format!("words\n{}", write("CERTIFICATE", bytes))).collect();
            let wanted: Vec<_> = blocks_of.into_iter().map(|bytes| ("CERTIFICATE".to_owned(), bytes)).collect();
            prop_assert_eq!(blocks(&text), Some(wanted));
            prop_assert_eq!(blocks(&format!("{text}more")), None);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _either = inside_pkcs8(&bytes);
        }
    }
}
