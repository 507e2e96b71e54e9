//! A request as it arrived, and the parameters of the query protocol. Parsing only; nothing is trusted yet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::fault::{Fault, Result};

/// A whole request. Path and query are kept raw, because the signature covers them as sent.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) host: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) peer: IpAddr,
}

impl Request {
    /// A header's value when it is there once and is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Query and form parameters together, as the query protocol reads them.
    pub(crate) fn params(&self) -> Result<Params> {
        let mut params = Params::default();
        params.read(self.query.as_bytes())?;
        if self.header("content-type").is_none_or(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
            params.read(&self.body)?;
        }
        Ok(params)
    }
}

/// Decoded parameters in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
}

impl Params {
    fn read(&mut self, text: &[u8]) -> Result<()> {
        for pair in text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            if self.pairs.len() >= PARAMS_MAX {
                return Err(Fault::new(400, "MalformedQueryString", format!("The request has more than {PARAMS_MAX} parameters.")));
            }
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = form_decode(halves.next().unwrap_or_default())?;
            let value = form_decode(halves.next().unwrap_or_default())?;
            self.pairs.push((name, value));
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        Self { pairs: pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value, or AWS's complaint that it is missing. `name` begins with a capital; the complaint's does not.
    pub(crate) fn required(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| {
            let mut constraints = crate::fault::Constraints::default();
            constraints.missing(&member_name(name));
            constraints.check().err().unwrap_or_else(|| Fault::validation(format!("{name} is missing")))
        })
    }

    /// A whole number, or `None` when absent.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>> {
        self.get(name)
            .map(|text| {
                text.parse().map_err(|_malformed| {
                    let shown: String = text.chars().take(64).collect();
                    Fault::new(400, "MalformedInput", format!("Unable to parse '{shown}' as an integer for {name}"))
                })
            })
            .transpose()
    }

    /// `Name.member.1`, `Name.member.2`, … in the order of their numbers.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        self.members(name)
            .into_values()
            .filter_map(|fields| fields.into_iter().find(|(field, _)| field.is_empty()).map(|(_, value)| value))
            .collect()
    }

    /// `Name.member.1.Key`, `Name.member.1.Value`, …: the fields of each member in the order of their numbers.
    pub(crate) fn members(&self, name: &str) -> BTreeMap<u32, Vec<(&str, &str)>> {
        let mut found: BTreeMap<u32, Vec<(&str, &str)>> = BTreeMap::new();
        for (key, value) in &self.pairs {
            let Some(rest) = key.strip_prefix(name).and_then(|rest| rest.strip_prefix(".member.")) else { continue };
            let (number, field) = rest.split_once('.').unwrap_or((rest, ""));
            if let Ok(number) = number.parse() {
                found.entry(number).or_default().push((field, value));
            }
        }
        found
    }

    /// `Tags.member.N.Key` and `.Value` as pairs.
    pub(crate) fn tags(&self, name: &str) -> Vec<(String, String)> {
        let field =
            |fields: &[(&str, &str)], wanted: &str| fields.iter().find(|(field, _)| *field == wanted).map(|(_, value)| (*value).to_owned());
        self.members(name)
            .into_values()
            .map(|fields| (field(&fields, "Key").unwrap_or_default(), field(&fields, "Value").unwrap_or_default()))
            .collect()
    }
}

/// `RoleArn` is called `roleArn` in complaints.
fn member_name(name: &str) -> String {
    let mut characters = name.chars();
    characters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(characters).collect()
}

/// Undoes percent encoding with `+` for a blank; strict about broken escapes and UTF-8.
pub(crate) fn form_decode(text: &[u8]) -> Result<String> {
    let broken = || Fault::new(400, "MalformedQueryString", "The query string contains a syntax error.");
    let bytes = percent_decode(text, Plus::Blank).ok_or_else(broken)?;
    String::from_utf8(bytes).map_err(|_not_text| broken())
}

/// What `+` stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plus {
    Blank,
    Itself,
}

/// `None` for a broken escape.
pub(crate) fn percent_decode(text: &[u8], plus: Plus) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            b'+' if plus == Plus::Blank => b' ',
            other => other,
        });
    }
    Some(out)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Form parameters in one request. Fifty tags and ten policies need 130.
const PARAMS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_in_the_order_of_their_numbers() {
        let params = Params::of(&[
            ("Tags.member.2.Key", "b"),
            ("Tags.member.10.Key", "c"),
            ("Tags.member.1.Key", "a"),
            ("Tags.member.1.Value", "1"),
            ("L.member.1", "x"),
        ]);
        assert_eq!(params.tags("Tags"), [("a", "1"), ("b", ""), ("c", "")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(params.list("L"), ["x"]);
        assert!(params.required("RoleArn").unwrap_err().message.contains("Value null at 'roleArn'"));
    }

    #[test]
    fn broken_escapes_are_refused() {
        assert_eq!(form_decode(b"a%20b+c").unwrap(), "a b c");
        for text in [&b"%"[..], b"%2", b"%zz", b"%ff"] {
            assert!(form_decode(text).is_err());
        }
    }
}
