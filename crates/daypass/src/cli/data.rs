//! Data on the command line: `key=value`, `key=@file`, `key=-` (stdin), `@file.json` and `-` (JSON from stdin).
//!
//! Errors name the argument by its place, not by its text: a password that lost its `key=` must not end up in a log.

use std::io::Read;

use daypass_base::whole;

use crate::show::value::Value;

/// Nothing larger is read from a file or stdin: servers refuse bodies past 32 MiB.
const INPUT_BYTES_MAX: u64 = 48 << 20;

/// Reads all arguments into one map; a key given twice becomes a list. The error fits after "Failed to parse K=V data: ".
pub(crate) fn parse(arguments: &[String], stdin: &mut dyn Read) -> Result<Value, String> {
    let mut input = Input { stdin, used: false };
    let mut data = Vec::new();
    for (place, argument) in arguments.iter().enumerate() {
        let named =
            |why: String| match argument.split_once('=').map(|(key, _)| key).or(argument.strip_prefix('@').map(|_| argument.as_str())) {
                Some(name) => format!("invalid key/value pair {name:?}: {why}"),
                None => format!("invalid key/value pair (number {}): {why}", place + 1),
            };
        if argument == "-" {
            merge(&mut data, &input.take().map_err(named)?).map_err(named)?;
        } else if let Some(file) = argument.strip_prefix('@') {
            merge(&mut data, &file_text(file).map_err(named)?).map_err(named)?;
        } else if let Some((key, value)) = argument.split_once('=') {
            let value = match value.strip_prefix('@') {
                Some(file) => file_text(file).map_err(named)?,
                None if value == "-" => input.take().map_err(named)?,
                None => value.strip_prefix('\\').filter(|rest| rest.starts_with('@')).unwrap_or(value).to_owned(),
            };
            add(&mut data, key, Value::Text(value));
        } else {
            return Err(named("format must be key=value".to_owned()));
        }
    }
    Ok(Value::Map(data).sorted())
}

/// `key=value` pairs of a repeatable flag. Of a key given twice, the last wins.
pub(crate) fn flag_pairs(flag: &str, pairs: &[String]) -> Result<Value, super::Failure> {
    let mut map = Value::Map(Vec::new());
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(
                super::Failure::usage(format!("missing = in KV pair of flag -{flag}")).hint(format!("write it as -{flag}=key=value"))
            );
        };
        map.set(key, Value::text(value));
    }
    Ok(map.sorted())
}

/// The text of a file, or of stdin for `-`.
pub(crate) fn text_of(path: &str, stdin: &mut dyn Read) -> Result<String, String> {
    if path == "-" { Input { stdin, used: false }.take() } else { file_text(path) }
}

struct Input<'a> {
    stdin: &'a mut dyn Read,
    used: bool,
}

impl Input<'_> {
    fn take(&mut self) -> Result<String, String> {
        if std::mem::replace(&mut self.used, true) {
            return Err("stdin was already read for another value".to_owned());
        }
        let mut text = String::new();
        self.stdin.take(INPUT_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| format!("error reading stdin: {error}"))?;
        limited(text)
    }
}

fn file_text(path: &str) -> Result<String, String> {
    let opened = std::fs::File::open(path).map_err(|error| format!("error reading file: open {path}: {}", plain(&error)))?;
    let mut text = String::new();
    opened.take(INPUT_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| format!("error reading file: {path}: {}", plain(&error)))?;
    limited(text)
}

fn limited(text: String) -> Result<String, String> {
    if text.len() as u64 > INPUT_BYTES_MAX { Err(format!("more than the limit of {INPUT_BYTES_MAX} bytes")) } else { Ok(text) }
}

/// Adds the keys of a JSON object.
fn merge(data: &mut Vec<(String, Value)>, json: &str) -> Result<(), String> {
    match Value::parse(json).map_err(|error| format!("invalid JSON: {error}"))? {
        Value::Map(entries) => {
            // The server refuses it as well, but does not know where it came from.
            whole::check(json.as_bytes()).map_err(|beyond| beyond.to_string())?;
            for (key, value) in entries {
                add(data, &key, value);
            }
            Ok(())
        }
        _ => Err("invalid JSON: an object is needed, like {\"key\": \"value\"}".to_owned()),
    }
}

fn add(data: &mut Vec<(String, Value)>, key: &str, value: Value) {
    match data.iter_mut().find(|(name, _)| name == key) {
        Some((_, Value::List(items))) => items.push(value),
        Some((_, old)) => *old = Value::List(vec![old.clone(), value]),
        None => data.push((key.to_owned(), value)),
    }
}

/// An operating system error in Go's words: lower case, without its number.
pub(crate) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_lowercase().to_string() + chars.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str], stdin: &str) -> Result<String, String> {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        parse(&arguments, &mut stdin.as_bytes()).map(|value| value.compact())
    }

    #[test]
    fn pairs_become_strings_and_repeats_become_lists() {
        assert_eq!(parsed(&["b=1", "a=x=y", "c="], "").unwrap(), r#"{"a":"x=y","b":"1","c":""}"#);
        assert_eq!(parsed(&["a=1", "a=2", "a=3"], "").unwrap(), r#"{"a":["1","2","3"]}"#);
    }

    #[test]
    fn stdin_is_a_value_or_a_whole_object() {
        assert_eq!(parsed(&["k=-"], "in\n").unwrap(), r#"{"k":"in\n"}"#);
        assert_eq!(parsed(&["-", "b=x"], r#"{"a":1.0}"#).unwrap(), r#"{"a":1.0,"b":"x"}"#);
        assert!(parsed(&["a=-", "b=-"], "x").unwrap_err().contains("already read"));
    }

    #[test]
    fn files_are_read_and_a_backslash_keeps_the_at_sign() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("v");
        std::fs::write(&file, "text").unwrap();
        assert_eq!(parsed(&[&format!("k=@{}", file.display()), "l=\\@x"], "").unwrap(), r#"{"k":"text","l":"@x"}"#);
        let error = parsed(&["k=@/no/such"], "").unwrap_err();
        assert_eq!(error, "invalid key/value pair \"k\": error reading file: open /no/such: no such file or directory");
    }

    #[test]
    fn an_argument_without_a_key_is_not_repeated_in_the_error() {
        let error = parsed(&["a=1", "hunter2"], "").unwrap_err();
        assert_eq!(error, "invalid key/value pair (number 2): format must be key=value");
    }

    #[test]
    fn a_whole_number_that_would_lose_digits_is_refused_and_a_string_is_not() {
        let error = parsed(&["a=1", "-"], r#"{"b":"x","c":[18446744073709551617]}"#).unwrap_err();
        assert!(error.starts_with("invalid key/value pair (number 2): the whole number at line 1 column 15 does not fit"), "{error}");
        assert_eq!(parsed(&["-"], r#"{"c":1e300,"d":18446744073709551615}"#).unwrap(), r#"{"c":1e300,"d":18446744073709551615}"#);
        assert_eq!(parsed(&["c=18446744073709551617"], "").unwrap(), r#"{"c":"18446744073709551617"}"#);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("v.json");
        std::fs::write(&file, r#"{"c":-9223372036854775809}"#).unwrap();
        assert!(parsed(&[&format!("@{}", file.display())], "").unwrap_err().contains("send it as a string"));
    }

    #[test]
    fn only_objects_can_be_merged() {
        assert!(parsed(&["-"], "[1]").unwrap_err().contains("an object is needed"));
        assert!(parsed(&["-"], "{\"k\":").unwrap_err().contains("EOF"));
    }
}
