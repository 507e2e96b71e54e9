//! The headers of the signed request, as clients hand them in: base64 of JSON, JSON, or an object; values texts or lists of one.
//!
//! A header that is there twice is refused, however its name is written: two readers could take different ones.

use data_encoding::BASE64;
use daypass_sdk::Secret;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// The headers; names in lower case, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Headers(Vec<(String, Secret<String>)>);

impl Headers {
    /// Reads what a login gives. Errors: what is wrong, without any value.
    pub(super) fn read(given: &Value) -> Result<Self, String> {
        let pairs = match given {
            Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            Value::String(text) => pairs_of(text)?,
            _ => return Err("it is neither a text nor an object".to_owned()),
        };
        if pairs.len() > HEADERS_MAX {
            return Err(format!("it has {} headers; at most {HEADERS_MAX} are allowed", pairs.len()));
        }
        let mut headers = Self::default();
        for (name, value) in pairs {
            headers.add(&name, &value)?;
        }
        Ok(headers)
    }

    fn add(&mut self, name: &str, value: &Value) -> Result<(), String> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_of_a_token) {
            return Err("a header has an impossible name".to_owned());
        }
        let name = name.to_ascii_lowercase();
        let value = match value {
            Value::Array(values) => match values.as_slice() {
                [one] => text_of(one),
                _ => return Err(format!("the header {name} has {} values; it must have one", values.len())),
            },
            one => text_of(one),
        };
        let value = value.ok_or_else(|| format!("the value of the header {name} is no text"))?;
        // Looked at for its form.
        let text = value.expose();
        if text.len() > VALUE_BYTES_MAX {
            return Err(format!("the value of the header {name} has {} bytes; at most {VALUE_BYTES_MAX} are allowed", text.len()));
        }
        if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(format!("the value of the header {name} has characters that no header may have"));
        }
        if self.get(&name).is_some() {
            return Err(format!("the header {name} is there twice"));
        }
        self.0.push((name, value));
        Ok(())
    }

    /// The value of a header, by its name in lower case.
    pub(super) fn get(&self, name: &str) -> Option<&Secret<String>> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The value of a header that is no secret.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        // Asked for by those who know that it is none.
        self.get(name).map(|value| value.expose().as_str())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Secret<String>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

fn pairs_of(text: &str) -> Result<Vec<(String, Value)>, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("it has {} bytes; at most {TEXT_BYTES_MAX} are allowed", text.len()));
    }
    let text = text.trim();
    let pairs = if text.starts_with('{') {
        serde_json::from_str::<Pairs>(text)
    } else {
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_quotes| "it is neither JSON nor base64".to_owned())?;
        serde_json::from_slice::<Pairs>(&bytes)
    };
    pairs.map(|pairs| pairs.0).map_err(|_quotes| "it is no JSON object of headers".to_owned())
}

fn text_of(value: &Value) -> Option<Secret<String>> {
    match value {
        Value::String(text) => Some(Secret::new(text.trim().to_owned())),
        Value::Number(number) => Some(Secret::new(number.to_string())),
        _ => None,
    }
}

fn is_of_a_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The entries of an object in their order, also those whose key was there before.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of headers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}

/// Headers of one request; clients send a dozen.
const HEADERS_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 128;
/// A session token has a kilobyte or two, with many session tags some more.
const VALUE_BYTES_MAX: usize = 16 * 1024;
/// All headers, encoded.
const TEXT_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_the_forms_that_clients_send_read_alike() {
        let object = json!({ "Host": "sts.amazonaws.com", "Content-Length": [43], "X-Amz-Date": ["20260102T030405Z"] });
        let text = object.to_string();
        let forms = [object, json!(BASE64.encode(text.as_bytes())), json!(text)];
        for form in forms {
            let headers = Headers::read(&form).unwrap();
            assert_eq!((headers.text("host"), headers.text("content-length")), (Some("sts.amazonaws.com"), Some("43")));
        }
    }

    #[test]
    fn a_header_is_there_once() {
        for text in [
            r#"{"Host":"a","Host":"b"}"#,
            r#"{"Host":"a","host":"a"}"#,
            r#"{"Host":["a","b"]}"#,
            r#"{"Host":[]}"#,
            r#"{"X-Amz-Date":"a","x-amz-date":["b"]}"#,
        ] {
            assert!(Headers::read(&json!(text)).is_err() && Headers::read(&json!(BASE64.encode(text.as_bytes()))).is_err(), "{text}");
        }
        assert!(Headers::read(&json!({ "Host": "a", "HOST": "b" })).is_err());
    }

    #[test]
    fn what_is_no_header_is_refused_without_its_value() {
        for given in [
            json!(5),
            json!([]),
            json!("secret"),
            json!("{secret}"),
            json!("[]"),
            json!({ "a b": "secret" }),
            json!({ "": "secret" }),
            json!({ "a": "secret\r\nHost: b" }),
            json!({ "a": "sécret" }),
            json!({ "a": { "secret": 1 } }),
            json!({ "a": [["secret"]] }),
            json!({ "a": null }),
            json!({ "a": "secret".repeat(10_000) }),
            json!("secret".repeat(100_000)),
            Value::Object((0..100).map(|number| (format!("h{number}"), json!("secret"))).collect()),
        ] {
            let error = Headers::read(&given).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
