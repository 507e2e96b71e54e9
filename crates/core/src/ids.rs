//! Internal ids in time order, and their printable forms.
//!
//! An id is `shard (1 byte) | milliseconds since 1970 (6) | random (9)`: rows that are made together lie together, which is worth more
//! than the choice of storage engine. Base 62 of a fixed width keeps that order in texts.

use daypass_base::entropy::BASE62;
use daypass_base::{Clock, Entropy};

/// An internal id.
pub(crate) type Id = [u8; 16];

/// A new id of shard 0 (the embedded store has one node, so one shard).
pub(crate) fn new_id(clock: &dyn Clock, entropy: &dyn Entropy) -> Id {
    let millis = u64::try_from(clock.now().millis()).unwrap_or(0).to_be_bytes();
    let mut id = [0; 16];
    let random = entropy.bytes::<9>();
    for (to, from) in id.iter_mut().zip([0].iter().chain(millis.iter().skip(2)).chain(&random)) {
        *to = *from;
    }
    id
}

/// 22 characters of base 62.
pub(crate) fn encode_id(id: &Id) -> String {
    encode(u128::from_be_bytes(*id), 22)
}

/// Reads [`encode_id`]'s form.
pub(crate) fn decode_id(text: &str) -> Option<Id> {
    if text.len() != 22 {
        return None;
    }
    decode(text).map(u128::to_be_bytes)
}

/// `value` in base 62, exactly `width` digits; higher digits are cut off.
pub(crate) fn encode(mut value: u128, width: usize) -> String {
    let mut digits = vec![b'0'; width];
    for digit in digits.iter_mut().rev() {
        let index = usize::try_from(value % 62).unwrap_or(0);
        *digit = BASE62.get(index).copied().unwrap_or(b'0');
        value /= 62;
    }
    String::from_utf8(digits).unwrap_or_default()
}

/// Reads base 62. `None` for other characters and for what does not fit 128 bits.
pub(crate) fn decode(text: &str) -> Option<u128> {
    text.bytes().try_fold(0_u128, |sum, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A' + 10,
            b'a'..=b'z' => byte - b'a' + 36,
            _ => return None,
        };
        sum.checked_mul(62)?.checked_add(u128::from(digit))
    })
}

/// A random UUID (version 4) from our own entropy.
pub(crate) fn uuid(entropy: &dyn Entropy) -> String {
    uuid::Builder::from_random_bytes(entropy.bytes::<16>()).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use daypass_base::sim::{SeededEntropy, SimClock};

    use super::*;

    #[test]
    fn ids_round_trip_and_keep_their_order() {
        let (clock, entropy) = (SimClock::default(), SeededEntropy::new(1));
        let first = new_id(&clock, &entropy);
        clock.advance(Duration::from_millis(1));
        let second = new_id(&clock, &entropy);
        assert!(first < second && encode_id(&first) < encode_id(&second));
        assert_eq!(decode_id(&encode_id(&first)), Some(first));
        assert_eq!(decode_id("zzzzzzzzzzzzzzzzzzzzzz"), None, "more than 128 bits");
        assert_eq!(decode_id("short"), None);
    }
}
