//! PEM and the few bits of DER that exports need, written and read by hand: a key export is no reason for a parser crate.

use data_encoding::BASE64;
use daypass_sdk::{Error, Result};
use zeroize::Zeroizing;

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

/// The key inside PKCS#8: what `RSA PRIVATE KEY` holds. `None` when it is no PKCS#8.
pub(super) fn inside_pkcs8(der: &[u8]) -> Option<&[u8]> {
    let (sequence, _) = element(0x30, der)?;
    let (_version, rest) = element(0x02, sequence)?;
    let (_algorithm, rest) = element(0x30, rest)?;
    element(0x04, rest).map(|(key, _)| key)
}

/// The content of the first DER element, which must have this tag, and what follows it.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        short @ 0..=0x7f => (usize::from(*short), rest),
        long @ 0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (*first == tag).then_some(())?;
    rest.split_at_checked(length)
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
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _either = inside_pkcs8(&bytes);
        }
    }
}
