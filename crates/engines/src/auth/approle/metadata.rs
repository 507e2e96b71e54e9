//! The `metadata` of a secret id: JSON in a text, the same in base64, or `k=v` pairs.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use daypass_sdk::{Error, Result, check_metadata};
use serde_json::Value;

/// Reads metadata in any of its forms. Errors: `BadRequest`.
pub(super) fn parse(sent: Option<&Value>) -> Result<BTreeMap<String, String>> {
    let pairs = match sent {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(Value::String(text)) => of_text(text.trim())?,
        Some(Value::Object(_)) => sent.and_then(texts).ok_or_else(refused)?,
        Some(_) => return Err(refused()),
    };
    if pairs.len() > PAIRS_MAX {
        return Err(Error::bad_request(format!("metadata has {} pairs; at most {PAIRS_MAX} are allowed", pairs.len())));
    }
    check_metadata(&pairs)?;
    Ok(pairs)
}

fn of_text(text: &str) -> Result<BTreeMap<String, String>> {
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok().as_ref().and_then(texts);
    if let Some(pairs) = json(text.as_bytes()) {
        return Ok(pairs);
    }
    if let Some(pairs) = BASE64.decode(text.as_bytes()).ok().and_then(|bytes| json(&bytes)) {
        return Ok(pairs);
    }
    let pair = |pair: &str| pair.split_once('=').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).ok_or_else(refused);
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

/// An object whose values are all texts.
fn texts(value: &Value) -> Option<BTreeMap<String, String>> {
    value.as_object()?.iter().map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn refused() -> Error {
    Error::bad_request("failed to parse metadata: failed to parse the input: invalid <key,value> format")
}

const PAIRS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_of_metadata_is_read() {
        let job = BTreeMap::from([("job".to_owned(), "build".to_owned())]);
        for form in [json!("{\"job\": \"build\"}"), json!("job=build"), json!("eyJqb2IiOiJidWlsZCJ9"), json!({"job": "build"})] {
            assert_eq!(parse(Some(&form)).unwrap(), job, "{form}");
        }
        assert!(parse(None).unwrap().is_empty() && parse(Some(&json!(""))).unwrap().is_empty());
        for bad in [json!("not json"), json!(5), json!({"a": 1})] {
            assert_eq!(parse(Some(&bad)).unwrap_err().message, refused().message, "{bad}");
        }
        let long = parse(Some(&json!({ "a": "x".repeat(70_000) }))).unwrap_err();
        assert!(long.message.contains("the metadata has 70001 bytes"), "a login could not put it into a token: {}", long.message);
    }
}
