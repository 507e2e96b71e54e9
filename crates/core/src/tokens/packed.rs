//! Bytes in a row as one text (base64): a list of numbers, as rows of earlier versions have it, takes three times the room and ten times the
//! work. Both are read.

use data_encoding::BASE64_NOPAD;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64_NOPAD.encode(bytes))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    deserializer.deserialize_any(Packed)
}

struct Packed;

impl<'de> Visitor<'de> for Packed {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bytes as base64, or as a list of numbers")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        BASE64_NOPAD.decode(text.as_bytes()).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = numbers.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        #[serde(with = "super")]
        mac: Vec<u8>,
    }

    #[test]
    fn both_forms_are_read_and_the_short_one_is_written() {
        let row = Row { mac: vec![0, 1, 254, 255] };
        assert_eq!(serde_json::to_string(&row).unwrap(), r#"{"mac":"AAH+/w"}"#);
        for stored in [r#"{"mac":"AAH+/w"}"#, r#"{"mac":[0,1,254,255]}"#] {
            assert_eq!(serde_json::from_str::<Row>(stored).unwrap(), row);
        }
        assert!(serde_json::from_str::<Row>(r#"{"mac":"A*"}"#).is_err());
    }
}
