//! `custom_metadata`: its limits and the texts of its refusals.

use std::collections::BTreeMap;
use std::fmt::Write;

use daypass_base::Brief;
use daypass_sdk::{Error, Result};
use serde_json::{Map, Value};

/// Reads custom metadata from a request. Errors: `BadRequest` for values that are no texts.
pub(super) fn parse(fields: &Map<String, Value>) -> Result<BTreeMap<String, String>> {
    fields.iter().map(|(name, value)| Ok((name.clone(), text(value)?))).collect()
}

/// Checks the limits: at most 64 pairs, keys of 1 to 128 bytes, values of 1 to 512, all printable. Errors: `BadRequest` with all mistakes.
pub(super) fn check(pairs: &BTreeMap<String, String>) -> Result<()> {
    let mut mistakes = Vec::new();
    if pairs.len() > PAIRS_MAX {
        mistakes.push(format!("payload must contain at most {PAIRS_MAX} keys, provided {}", pairs.len()));
    } else {
        for (name, value) in pairs {
            let key = Brief(name);
            if !(1..=KEY_BYTES_MAX).contains(&name.len()) {
                mistakes.push(format!("length of key {key:?} is {} but must be 0 < len(key) <= {KEY_BYTES_MAX}", name.len()));
            }
            if !(1..=VALUE_BYTES_MAX).contains(&value.len()) {
                let length = value.len();
                mistakes.push(format!("length of value for key {key:?} is {length} but must be 0 < len(value) <= {VALUE_BYTES_MAX}"));
            }
            if name.chars().any(char::is_control) {
                mistakes.push(format!("key {key:?} ({key}) contains unprintable characters"));
            }
            if value.chars().any(char::is_control) {
                mistakes.push(format!("value for key {key:?} contains unprintable characters"));
            }
        }
    }
    let message = match mistakes.len() {
        0 => return Ok(()),
        1 => "1 error occurred:".to_owned(),
        count => format!("{count} errors occurred:"),
    };
    let message = mistakes.iter().fold(message, |text, mistake| format!("{text}\n\t* {PREFIX}: {mistake}"));
    Err(Error::bad_request(message + "\n\n"))
}

/// A value as text, in the weak manner of all fields.
fn text(value: &Value) -> Result<String> {
    let kind = match value {
        Value::Null => return Ok(String::new()),
        Value::Bool(flag) => return Ok(if *flag { "1" } else { "0" }.to_owned()),
        Value::Number(number) => return Ok(number.to_string()),
        Value::String(text) => return Ok(text.clone()),
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    let mut shown = String::new();
    go_value(value, &mut shown);
    Err(Error::bad_request(format!("{PREFIX}: '' expected type 'string', got unconvertible type '{kind}', value: '{}'", Brief(&shown))))
}

/// A value as Go's `%v` prints it, which is what clients see in the refusal.
fn go_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => {
            let _infallible = write!(out, "{number}");
        }
        Value::String(text) => out.push_str(text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                go_value(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            out.push_str("map[");
            for (index, (name, item)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                out.push_str(name);
                out.push(':');
                go_value(item, out);
            }
            out.push(']');
        }
    }
}

const PREFIX: &str = "custom_metadata validation failed";
const PAIRS_MAX: usize = 64;
const KEY_BYTES_MAX: usize = 128;
const VALUE_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(value: Value) -> String {
        let Value::Object(map) = value else { panic!("an object is wanted") };
        parse(&map).and_then(|pairs| check(&pairs)).unwrap_err().message
    }

    #[test]
    fn each_limit_has_its_text() {
        let many: Map<String, Value> = (0..65).map(|n| (format!("k{n}"), json!("v"))).collect();
        assert_eq!(
            refused(many.into()),
            "1 error occurred:\n\t* custom_metadata validation failed: payload must contain at most 64 keys, provided 65\n\n"
        );
        assert_eq!(
            refused(json!({"k": "x".repeat(513), "": "v"})),
            "2 errors occurred:\n\t* custom_metadata validation failed: length of key \"\" is 0 but must be 0 < len(key) <= 128\n\
             \t* custom_metadata validation failed: length of value for key \"k\" is 513 but must be 0 < len(value) <= 512\n\n"
        );
        assert!(refused(json!({"k": "a\u{7}b"})).contains("value for key \"k\" contains unprintable characters"));
        assert!(refused(json!({"k": null})).contains("length of value for key \"k\" is 0"));
    }

    #[test]
    fn values_that_are_no_texts_are_shown_as_go_prints_them() {
        assert_eq!(
            refused(json!({"a": {"b": "c", "a": [1, true, null]}})),
            "custom_metadata validation failed: '' expected type 'string', got unconvertible type 'map[string]interface {}', \
             value: 'map[a:[1 true <nil>] b:c]'"
        );
        let Value::Object(weak) = json!({"n": 5, "t": true}) else { panic!() };
        assert_eq!(parse(&weak).unwrap(), BTreeMap::from([("n".to_owned(), "5".to_owned()), ("t".to_owned(), "1".to_owned())]));
    }
}
