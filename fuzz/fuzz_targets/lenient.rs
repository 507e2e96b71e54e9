//! Any JSON object in a request body gives parameters or an error that names a field, never a crash.
#![no_main]

use daypass_base::lenient::{CommaInts, CommaList, KvPairs, StringList, decode};
use daypass_base::{Seconds, Secret};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::{Map, Value};

/// One field of each kind that handlers ask for.
#[derive(Deserialize)]
struct Params {
    #[serde(default)]
    text: String,
    maybe: Option<String>,
    flag: Option<bool>,
    number: Option<i64>,
    count: Option<u64>,
    fraction: Option<f64>,
    ttl: Option<Seconds>,
    secret: Option<Secret<String>>,
    #[serde(default)]
    commas: CommaList,
    #[serde(default)]
    list: StringList,
    #[serde(default)]
    pairs: KvPairs,
    #[serde(default)]
    ints: CommaInts,
    rest: Option<Map<String, Value>>,
}

fuzz_target!(|body: &[u8]| {
    let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(body) else { return };
    match decode::<Params>(fields.clone()) {
        Ok(params) => {
            // Nothing is invented: a field that was not sent is absent.
            assert!(fields.contains_key("text") || params.text.is_empty());
            assert!(fields.contains_key("maybe") || params.maybe.is_none());
            assert!(fields.contains_key("commas") || params.commas.0.is_empty());
            assert!(fields.contains_key("list") || params.list.0.is_empty());
            assert!(fields.contains_key("pairs") || params.pairs.0.is_empty());
            assert!(fields.contains_key("ints") || params.ints.0.is_empty());
            let sent = |name: &str| fields.get(name).is_some_and(|v| !v.is_null());
            assert!(sent("flag") || params.flag.is_none());
            assert!(sent("number") || params.number.is_none());
            assert!(sent("count") || params.count.is_none());
            assert!(sent("fraction") || params.fraction.is_none());
            assert!(sent("ttl") || params.ttl.is_none());
            assert!(sent("secret") || params.secret.is_none());
            assert!(sent("rest") || params.rest.is_none());
        }
        Err(error) => assert!(!error.field.is_empty() && fields.contains_key(&error.field), "the error names {:?}", error.field),
    }
});
