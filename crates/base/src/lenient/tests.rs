use std::cell::Cell;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::{CommaInts, CommaList, KvPairs, StringList, decode, null_is_absent};
use crate::{Seconds, Secret};

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Params {
    name: Option<String>,
    ttl: Option<Seconds>,
    uses: Option<i64>,
    size: Option<u32>,
    flag: bool,
    rate: Option<f64>,
    list: CommaList,
    plain: StringList,
    meta: KvPairs,
    versions: CommaInts,
    password: Option<Secret<String>>,
    data: Option<Map<String, Value>>,
}

fn read(value: Value) -> Result<Params, String> {
    let Value::Object(map) = value else { panic!("an object is wanted") };
    decode(map).map_err(|error| error.to_string())
}

#[test]
fn texts_and_numbers_convert_both_ways() {
    let params = read(json!({"name": 5, "uses": "7", "size": "0x10", "flag": "true", "rate": "1.5", "ttl": "1h"})).unwrap();
    assert_eq!(params.name.as_deref(), Some("5"));
    assert_eq!((params.uses, params.size, params.flag, params.rate), (Some(7), Some(16), true, Some(1.5)));
    assert_eq!(params.ttl, Some(Seconds(3600)));
    assert_eq!(read(json!({"name": true})).unwrap().name.as_deref(), Some("1"));
}

#[test]
fn lists_and_pairs_take_every_form() {
    let params = read(json!({"list": "a, b", "plain": "a,b", "meta": ["k=v"], "versions": "1,2"})).unwrap();
    assert_eq!(params.list.0, ["a", "b"]);
    assert_eq!(params.plain.0, ["a,b"]);
    assert_eq!(params.meta.0.get("k").map(String::as_str), Some("v"));
    assert_eq!(params.versions.0, [1, 2]);
    let params = read(json!({"list": ["a"], "plain": ["x", 1], "meta": {"k": 1}, "versions": ["3", 4]})).unwrap();
    assert_eq!((params.list.0.len(), params.plain.0.len(), params.versions.0), (1, 2, vec![3, 4]));
}

#[derive(Debug, PartialEq, Deserialize)]
struct Inner {
    flag: Option<bool>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Given {
    list: Option<CommaList>,
    number: Option<i64>,
    flag: Option<bool>,
    text: Option<String>,
    plain: bool,
    ttl: Option<crate::Seconds>,
    #[serde(default)]
    increment: crate::Seconds,
    inner: Option<Inner>,
    #[serde(default, deserialize_with = "null_is_absent")]
    either: Option<bool>,
}

#[test]
fn null_is_what_is_empty_and_unknown_fields_are_skipped() {
    let params = read(json!({"ttl": null, "meta": null, "strange": {"a": 1}, "other": null})).unwrap();
    assert!(params.ttl.is_none() && params.meta.0.is_empty());
    let nothing = json!({
        "list": null, "number": null, "flag": null, "text": null, "plain": null, "ttl": null, "increment": null, "inner": null, "either": null,
    });
    let Value::Object(nothing) = nothing else { unreachable!() };
    let wanted = Given {
        list: Some(CommaList::default()),
        number: Some(0),
        flag: Some(false),
        text: Some(String::new()),
        plain: false,
        ttl: None,
        increment: crate::Seconds::ZERO,
        inner: None,
        either: None,
    };
    assert_eq!(decode::<Given>(nothing).unwrap(), wanted);
    let Value::Object(inside) = json!({"plain": true, "inner": {"flag": null}, "either": "1"}) else { unreachable!() };
    let inside = decode::<Given>(inside).unwrap();
    assert_eq!((inside.inner, inside.list, inside.either), (Some(Inner { flag: None }), None, Some(true)));
}

#[test]
fn errors_name_the_field_in_vaults_words() {
    let cases = [
        (
            json!({"uses": "abc"}),
            "error converting input for field \"uses\": cannot parse '' as int: strconv.ParseInt: parsing \"abc\": invalid syntax",
        ),
        (
            json!({"uses": 2.5}),
            "error converting input for field \"uses\": cannot parse '' as int: strconv.ParseInt: parsing \"2.5\": invalid syntax",
        ),
        (
            json!({"flag": "perhaps"}),
            "error converting input for field \"flag\": cannot parse '' as bool: strconv.ParseBool: parsing \"perhaps\": invalid syntax",
        ),
        (json!({"ttl": "abc"}), "error converting input for field \"ttl\": time: invalid duration \"abc\""),
        (json!({"ttl": -5}), "error converting input for field \"ttl\": cannot provide negative value '-5'"),
        (json!({"ttl": true}), "error converting input for field \"ttl\": could not parse duration from input"),
        (json!({"data": "x"}), "error converting input for field \"data\": '' expected a map, got 'string'"),
        (json!({"meta": "text"}), "error converting input for field \"meta\": invalid key pair \"text\""),
    ];
    for (input, text) in cases {
        assert_eq!(read(input).unwrap_err(), text);
    }
    assert!(read(json!({"name": {}})).unwrap_err().contains("unconvertible type"));
}

#[test]
fn a_bad_secret_is_not_echoed() {
    let error = read(json!({"password": ["hunter2"]})).unwrap_err();
    assert!(!error.contains("hunter2"), "{error}");
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    One,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(rename = "kind")]
    _kind: Option<Kind>,
    #[serde(rename = "limits")]
    _limits: Option<std::collections::BTreeMap<String, Seconds>>,
}

/// Story: a stranger sent a mebibyte of delete characters where a flag was wanted, and got seven of them back: quoted for people, and again for JSON.
#[test]
fn a_long_value_is_not_repeated() {
    let long = "\u{7f}".repeat(1 << 20);
    for field in ["uses", "size", "flag", "rate", "ttl", "meta", "versions"] {
        let error = read(json!({ field: long.clone() })).unwrap_err();
        assert!(error.len() < 2_000 && error.contains("\\u{7f}\"…"), "{field}: {} bytes", error.len());
    }
    for fields in [json!({ "kind": long.clone() }), json!({ "limits": { long.clone(): true } }), json!({ "limits": { "a": long } })] {
        let Value::Object(fields) = fields else { unreachable!() };
        let error = decode::<Choice>(fields).unwrap_err().to_string();
        assert!(error.len() < 2_000, "{} bytes", error.len());
    }
    let Value::Object(other) = json!({ "kind": "two" }) else { unreachable!() };
    assert_eq!(decode::<Choice>(other).unwrap_err().detail, "unknown variant `two`, expected `one`");
}

thread_local! {
    static TIMES_READ: Cell<usize> = const { Cell::new(0) };
}

/// A value that counts how often it is read.
#[derive(Debug)]
struct Counted;

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer)?;
        TIMES_READ.set(TIMES_READ.get() + 1);
        Ok(Self)
    }
}

#[derive(Debug, Deserialize)]
struct Large {
    #[serde(rename = "all")]
    _all: Counted,
    period: Option<Seconds>,
    ttl: Seconds,
}

/// Story: one null among the fields, even under a name that nobody knows, had all of them copied once more, where memory is counted for two copies.
#[test]
fn a_null_does_not_have_the_other_fields_read_twice() {
    let fields = |value: Value| value.as_object().cloned().unwrap();
    let large: Large = decode(fields(json!({ "all": "x", "period": null, "ttl": 5, "unknown": null }))).unwrap();
    assert_eq!((large.period, large.ttl, TIMES_READ.get()), (None, Seconds(5), 1));
    // What is wrong is told as without the nulls.
    let error = decode::<Large>(fields(json!({ "all": "x", "period": null, "ttl": "soon" }))).unwrap_err();
    assert_eq!((error.field.as_str(), error.detail.as_str()), ("ttl", "time: invalid duration \"soon\""));
    let error = decode::<Large>(fields(json!({ "all": "x", "period": null, "ttl": null }))).unwrap_err();
    assert_eq!((error.field.as_str(), error.detail.as_str()), ("ttl", "missing required field"));
}
