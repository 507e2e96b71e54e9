//! A JSON value that keeps what Go's clients keep: the digits of a number as written, and the order of keys as given.
//!
//! `serde_json::Value` would turn `1.10` into `1.1` and a 30-digit number into a float; a secret must come out as it went in.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize as _;
use serde_json::value::RawValue;

/// One JSON value. Maps that were parsed are sorted by key, as Go sorts them; maps that were built keep their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// `[…]`
    List(Vec<Value>),
    /// `{…}`
    Map(Vec<(String, Value)>),
    /// `null`
    Null,
    /// A number, in its own digits.
    Number(String),
    /// A string.
    Text(String),
}

/// Deeper nesting than this is refused: each level costs stack, and no secret is built like that.
const DEPTH_MAX: usize = 128;

impl Value {
    /// Reads one JSON document. Of a key given twice, the last wins.
    pub(crate) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        from_raw(serde_json::from_str(text)?, 0)
    }

    /// A string.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A whole number.
    pub(crate) fn number(number: impl Into<i64>) -> Self {
        Self::Number(number.into().to_string())
    }

    /// A map from pairs, in their order.
    pub(crate) fn map<K: Into<String>>(pairs: impl IntoIterator<Item = (K, Value)>) -> Self {
        Self::Map(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// A list of strings.
    pub(crate) fn texts<T: Into<String>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::List(items.into_iter().map(Self::text).collect())
    }

    /// The value at `key`, when this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The value under several keys in a row.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |value, key| value.get(key))
    }

    /// The pairs of a map; nothing for anything else.
    pub(crate) fn entries(&self) -> &[(String, Self)] {
        match self {
            Self::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; nothing for anything else.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// The string, if it is one.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, if it is one that fits.
    pub(crate) fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Number(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// Whether this is `true`.
    pub(crate) fn is_true(&self) -> bool {
        *self == Self::Bool(true)
    }

    /// Whether this is `null`.
    pub(crate) fn is_null(&self) -> bool {
        *self == Self::Null
    }

    /// The string at `key`, or nothing.
    pub(crate) fn text_at(&self, key: &str) -> &str {
        self.get(key).and_then(Self::as_text).unwrap_or_default()
    }

    /// The strings of the list at `key`.
    pub(crate) fn texts_at(&self, key: &str) -> Vec<&str> {
        self.get(key).map(Self::items).unwrap_or_default().iter().filter_map(Self::as_text).collect()
    }

    /// Puts `value` at `key`, in place of what was there.
    pub(crate) fn set(&mut self, key: &str, value: Self) {
        if let Self::Map(entries) = self {
            match entries.iter_mut().find(|(name, _)| name == key) {
                Some((_, old)) => *old = value,
                None => entries.push((key.to_owned(), value)),
            }
        }
    }

    /// The same value with the keys of every map in order.
    pub(crate) fn sorted(&self) -> Self {
        match self {
            Self::List(items) => Self::List(items.iter().map(Self::sorted).collect()),
            Self::Map(entries) => {
                let mut entries: Vec<_> = entries.iter().map(|(key, value)| (key.clone(), value.sorted())).collect();
                entries.sort_by(|(left, _), (right, _)| left.cmp(right));
                Self::Map(entries)
            }
            other => other.clone(),
        }
    }

    /// JSON on one line, as the wire wants it.
    pub(crate) fn compact(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out, None);
        out
    }

    /// JSON with two spaces a level and `<`, `>`, `&` escaped, byte for byte as Go's encoder writes it.
    pub(crate) fn pretty(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out, Some(0));
        out
    }

    /// The text that Go's `%v` makes: `[a b]`, `map[k:v]`, `<nil>`.
    pub(crate) fn go(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::List(items) => format!("[{}]", items.iter().map(Self::go).collect::<Vec<_>>().join(" ")),
            Self::Map(_) => {
                let sorted = self.sorted();
                let pairs: Vec<_> = sorted.entries().iter().map(|(key, value)| format!("{key}:{}", value.go())).collect();
                format!("map[{}]", pairs.join(" "))
            }
            Self::Null => "<nil>".to_owned(),
            Self::Number(digits) => digits.clone(),
            Self::Text(text) => text.clone(),
        }
    }

    fn write_json(&self, out: &mut String, indent: Option<usize>) {
        match self {
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::List(items) => {
                surround(out, '[', ']', indent, items, |out, item, inner| item.write_json(out, inner));
            }
            Self::Map(entries) => surround(out, '{', '}', indent, entries, |out, (key, value), inner| {
                write_quoted(out, key);
                out.push_str(if inner.is_some() { ": " } else { ":" });
                value.write_json(out, inner);
            }),
            Self::Null => out.push_str("null"),
            Self::Number(digits) => out.push_str(digits),
            Self::Text(text) => write_quoted(out, text),
        }
    }
}

fn surround<T>(
    out: &mut String,
    open: char,
    close: char,
    indent: Option<usize>,
    items: &[T],
    write: impl Fn(&mut String, &T, Option<usize>),
) {
    out.push(open);
    let inner = indent.map(|level| level + 1);
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        new_line(out, inner);
        write(out, item, inner);
    }
    if !items.is_empty() {
        new_line(out, indent);
    }
    out.push(close);
}

fn new_line(out: &mut String, indent: Option<usize>) {
    if let Some(level) = indent {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", level));
    }
}

/// A JSON string with the escapes that Go chooses.
fn write_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _infallible = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn from_raw(raw: &RawValue, depth: usize) -> Result<Value, serde_json::Error> {
    let text = raw.get();
    if depth > DEPTH_MAX {
        return Err(serde::de::Error::custom(format!("nested more than {DEPTH_MAX} levels deep")));
    }
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let entries = BTreeMap::<String, &RawValue>::deserialize(&mut serde_json::Deserializer::from_str(text))?;
            let parsed: Result<Vec<_>, _> = entries.into_iter().map(|(key, value)| Ok((key, from_raw(value, depth + 1)?))).collect();
            Value::Map(parsed?)
        }
        Some(b'[') => {
            let items = Vec::<&RawValue>::deserialize(&mut serde_json::Deserializer::from_str(text))?;
            Value::List(items.into_iter().map(|item| from_raw(item, depth + 1)).collect::<Result<_, _>>()?)
        }
        Some(b'"') => Value::Text(serde_json::from_str(text)?),
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'n') => Value::Null,
        _ => Value::Number(text.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits() {
        let text = r#"{"a":1.10,"b":123456789012345678901234567890,"c":-0,"d":1e21}"#;
        assert_eq!(Value::parse(text).unwrap().compact(), text);
    }

    #[test]
    fn go_text_is_as_go_prints_it() {
        let value = Value::parse(r#"{"z":null,"a":[1,"x",{"k":true}],"e":[],"m":{}}"#).unwrap();
        assert_eq!(value.go(), "map[a:[1 x map[k:true]] e:[] m:map[] z:<nil>]");
    }

    #[test]
    fn pretty_json_escapes_what_go_escapes() {
        let value = Value::map([("b", Value::text("<a>&\u{2028}\u{1}\t\"")), ("a", Value::List(vec![])), ("m", Value::texts(["x"]))]);
        let wanted = "{\n  \"b\": \"\\u003ca\\u003e\\u0026\\u2028\\u0001\\t\\\"\",\n  \"a\": [],\n  \"m\": [\n    \"x\"\n  ]\n}";
        assert_eq!(value.pretty(), wanted);
    }

    #[test]
    fn hostile_nesting_is_refused_without_a_crash() {
        let text = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Value::parse(&text).is_err());
    }

    #[test]
    fn the_last_of_two_equal_keys_wins() {
        assert_eq!(Value::parse(r#"{"a":1,"a":2}"#).unwrap().compact(), r#"{"a":2}"#);
    }
}
