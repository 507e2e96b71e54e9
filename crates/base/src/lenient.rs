//! Lenient decoding of request fields, as Vault's clients rely on it: `"5"` is a number where a number is wanted, `5` a text where a
//! text is, `"a,b"` a list, and unknown fields are no error.
//!
//! [`decode`] turns a JSON object into a struct by these rules, so that a handler's parameters are plain typed structs. Error texts
//! are those that Vault's clients see (recorded fixture `bodies-and-types` and others).

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use crate::Brief;
use crate::limits::LIST_ELEMENTS;

/// A field that could not be read: which, and why in Vault's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error converting input for field {:?}: {detail}", Brief(.field))]
pub struct FieldError {
    /// Name of the field.
    pub field: String,
    /// What was wrong with it. Never the value of a secret: only numbers, booleans and durations are echoed, as far as they are short.
    pub detail: String,
}

/// Reads a struct from request fields. Unknown fields are skipped. `null` is what is empty or zero, so that `{"token_policies": null}` takes
/// all policies away, as in Vault; where the wanted type has nothing of that sort, as durations have not, the field counts as absent.
///
/// ```
/// use daypass_base::lenient::{decode, CommaList};
/// #[derive(serde::Deserialize)]
/// struct Params { ttl: Option<daypass_base::Seconds>, #[serde(default)] arns: CommaList, uses: Option<i64> }
/// let fields = serde_json::json!({"ttl": "60m", "arns": "a, b", "uses": "5", "other": 1});
/// let serde_json::Value::Object(fields) = fields else { unreachable!() };
/// let params: Params = decode(fields).unwrap();
/// assert_eq!((params.ttl.unwrap().0, params.arns.0.len(), params.uses), (3600, 2, Some(5)));
/// ```
pub fn decode<P: DeserializeOwned>(mut fields: Map<String, Value>) -> Result<P, FieldError> {
    // Nulls are read by themselves first, without the other fields: reading uses those up, and a copy of all would be memory that nobody counts.
    while fields.values().any(Value::is_null) {
        match P::deserialize(Fields(Entries::outermost(Left::Nulls(fields.iter())))) {
            // Its type wants no null. Each turn takes one away that the struct knows.
            Err(error) if fields.get(&error.field).is_some_and(Value::is_null) => fields.remove(&error.field),
            _ => break,
        };
    }
    let read = P::deserialize(Fields(Entries::outermost(Left::All(fields.into_iter()))));
    read.map_err(|error| FieldError { field: error.field, detail: error.detail })
}

/// For a field where `null` is as good as nothing, whatever its type: Vault reads a few so.
///
/// Errors: what the type says of a value that it does not take.
pub fn null_is_absent<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        value => T::deserialize(Weak::inside(value)).map(Some).map_err(de::Error::custom),
    }
}

/// A list that may be written `"a,b"`, `["a", "b"]` or `"a"`. Items are trimmed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CommaList(pub Vec<String>);

/// A list that may be written `["a", "b"]` or `"a"`; a single text is one item and is not split at commas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StringList(pub Vec<String>);

/// Pairs that may be written `{"k": "v"}`, `["k=v"]` or `"k=v"`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct KvPairs(pub BTreeMap<String, String>);

/// Whole numbers that may be written `[1, 2]`, `"1,2"`, `1` or `["1"]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CommaInts(pub Vec<i64>);

impl<'de> Deserialize<'de> for CommaList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let texts = match value {
            Value::Null => Vec::new(),
            Value::String(text) if text.trim().is_empty() => Vec::new(),
            Value::String(text) => elements(&text).map_err(de::Error::custom)?.map(str::to_owned).collect(),
            other => texts(other).map_err(de::Error::custom)?.into_iter().map(|item| item.trim().to_owned()).collect(),
        };
        Ok(Self(texts))
    }
}

impl<'de> Deserialize<'de> for StringList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Null => Ok(Self::default()),
            Value::String(text) if text.is_empty() => Ok(Self::default()),
            other => texts(other).map(Self).map_err(de::Error::custom),
        }
    }
}

impl<'de> Deserialize<'de> for KvPairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs = match Value::deserialize(deserializer)? {
            Value::Null => BTreeMap::new(),
            Value::Object(map) => {
                let pair = |(key, value)| weak_text(value).map(|text| (key, text));
                map.into_iter().map(pair).collect::<Result<_, _>>().map_err(de::Error::custom)?
            }
            Value::String(text) if text.is_empty() => BTreeMap::new(),
            other => {
                let split = |text: String| match text.split_once('=') {
                    Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
                    None => Err(format!("invalid key pair {:?}", Brief(&text))),
                };
                texts(other).map_err(de::Error::custom)?.into_iter().map(split).collect::<Result<_, _>>().map_err(de::Error::custom)?
            }
        };
        Ok(Self(pairs))
    }
}

impl<'de> Deserialize<'de> for CommaInts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = match Value::deserialize(deserializer)? {
            Value::Null => Vec::new(),
            Value::Array(items) => items,
            Value::String(text) => {
                let elements = elements(&text).map_err(de::Error::custom)?;
                elements.filter(|item| !item.is_empty()).map(|item| Value::String(item.to_owned())).collect()
            }
            other => vec![other],
        };
        items.iter().map(weak_int).collect::<Result<_, _>>().map(Self).map_err(de::Error::custom)
    }
}

macro_rules! schema {
    ($($type:ident: $($json:tt)*)?) => {$(
        impl JsonSchema for $type {
            fn inline_schema() -> bool { true }
            fn schema_name() -> Cow<'static, str> { stringify!($type).into() }
            fn json_schema(_: &mut SchemaGenerator) -> Schema { json_schema!($($json)*) }
        }
    )?};
}
schema!(CommaList: { "type": ["array", "string"], "items": { "type": "string" }, "x-daypass-list": "comma" });
schema!(StringList: { "type": ["array", "string"], "items": { "type": "string" } });
schema!(KvPairs: { "type": ["object", "array", "string"], "additionalProperties": { "type": "string" } });
schema!(CommaInts: { "type": ["array", "string", "integer"], "items": { "type": "integer" }, "x-daypass-list": "comma" });

/// How many elements a text has where it is read as a list.
///
/// ```
/// assert_eq!(["a", "a, b"].map(daypass_base::lenient::count_elements), [1, 2]);
/// ```
#[must_use]
pub fn count_elements(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b',').count() + 1
}

/// The elements of a text, trimmed. Errors: there are more than any list may have. Those of an array are counted when the JSON is read.
fn elements(text: &str) -> Result<impl Iterator<Item = &str>, String> {
    let count = count_elements(text);
    if count > LIST_ELEMENTS {
        return Err(format!("the text has {count} elements with commas between them, over the limit of {LIST_ELEMENTS}"));
    }
    Ok(text.split(',').map(str::trim))
}

fn texts(value: Value) -> Result<Vec<String>, String> {
    match value {
        Value::Array(items) => items.into_iter().map(weak_text).collect(),
        Value::Object(_) => Err("'' expected type 'string', got unconvertible type 'map[string]interface {}'".to_owned()),
        other => weak_text(other).map(|text| vec![text]),
    }
}

/// A value where a text is wanted, as [`decode`] reads it. Errors: why it is none, in Vault's words.
///
/// ```
/// use daypass_base::lenient::weak_text;
/// assert_eq!((weak_text(5.into()), weak_text(true.into())), (Ok("5".to_owned()), Ok("1".to_owned())));
/// assert!(weak_text(serde_json::json!(["a"])).is_err());
/// ```
pub fn weak_text(value: Value) -> Result<String, String> {
    Ok(match value {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Bool(true) => "1".to_owned(),
        Value::Bool(false) => "0".to_owned(),
        Value::Null => String::new(),
        Value::Array(_) => return Err("'' expected type 'string', got unconvertible type '[]interface {}'".to_owned()),
        Value::Object(_) => return Err("'' expected type 'string', got unconvertible type 'map[string]interface {}'".to_owned()),
    })
}

fn weak_int(value: &Value) -> Result<i64, String> {
    let bad = |text: &str| format!("cannot parse '' as int: strconv.ParseInt: parsing {:?}: invalid syntax", Brief(text));
    match value {
        Value::Number(number) => number.as_i64().ok_or_else(|| bad(&number.to_string())),
        Value::String(text) => parse_int(text).ok_or_else(|| bad(text)),
        Value::Bool(flag) => Ok(i64::from(*flag)),
        Value::Null => Ok(0),
        Value::Array(_) => Err("'' expected type 'int', got unconvertible type '[]interface {}'".to_owned()),
        Value::Object(_) => Err("'' expected type 'int', got unconvertible type 'map[string]interface {}'".to_owned()),
    }
}

/// Go's `ParseInt` with base 0: decimal, `0x`, `0o` or leading `0`, `0b`. The empty text is 0.
#[must_use]
pub fn parse_int(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = match (lower.get(..2), lower.get(2..)) {
        (Some("0x"), Some(rest)) => (rest, 16),
        (Some("0b"), Some(rest)) => (rest, 2),
        (Some("0o"), Some(rest)) => (rest, 8),
        _ if lower.len() > 1 && lower.starts_with('0') => (lower.as_str(), 8),
        _ => (lower.as_str(), 10),
    };
    // The reader below takes a sign of its own.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let size = i128::from_str_radix(digits, radix).ok()?;
    i64::try_from(if negative { -size } else { size }).ok()
}

fn weak_float(value: &Value) -> Result<f64, String> {
    let bad = |text: &str| format!("cannot parse '' as float: strconv.ParseFloat: parsing {:?}: invalid syntax", Brief(text));
    match value {
        Value::Number(number) => number.as_f64().ok_or_else(|| bad(&number.to_string())),
        Value::String(text) if text.is_empty() => Ok(0.0),
        Value::String(text) => text.parse().map_err(|_not_a_number| bad(text)),
        Value::Bool(flag) => Ok(if *flag { 1.0 } else { 0.0 }),
        Value::Null => Ok(0.0),
        _ => Err("'' expected type 'float64', got unconvertible type".to_owned()),
    }
}

fn weak_bool(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        Value::Number(number) => Ok(number.as_f64() != Some(0.0)),
        Value::String(text) => {
            let bad = || format!("cannot parse '' as bool: strconv.ParseBool: parsing {:?}: invalid syntax", Brief(text));
            parse_bool(text).ok_or_else(bad)
        }
        Value::Null => Ok(false),
        Value::Array(_) => Err("'' expected type 'bool', got unconvertible type '[]interface {}'".to_owned()),
        Value::Object(_) => Err("'' expected type 'bool', got unconvertible type 'map[string]interface {}'".to_owned()),
    }
}

/// Go's `ParseBool`, with the empty text as false.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[derive(Debug)]
struct Failure {
    field: String,
    detail: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self { field: String::new(), detail: message.to_string() }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { field: field.to_owned(), detail: "missing required field".to_owned() }
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        Self::custom(de::value::Error::unknown_variant(&Brief(variant).to_string(), known))
    }
}

/// The request's fields as a struct.
struct Fields<'a>(Entries<'a>);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_map(self.0)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_map(self.0.known(known))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option seq tuple tuple_struct map
        enum identifier ignored_any
    }
}

struct Entries<'a> {
    left: Left<'a>,
    known: Option<&'static [&'static str]>,
    next: Option<(Cow<'a, str>, Value)>,
    /// They are the request's own: in structs inside of these, null is nothing.
    outermost: bool,
}

/// What is still to be read.
enum Left<'a> {
    /// All of these, which are used up.
    All(serde_json::map::IntoIter),
    /// What is null among these.
    Nulls(serde_json::map::Iter<'a>),
}

impl<'a> Entries<'a> {
    /// The request's own.
    fn outermost(left: Left<'a>) -> Self {
        Self { left, known: None, next: None, outermost: true }
    }

    /// Those of an object inside of a field.
    fn inside(map: Map<String, Value>) -> Self {
        Self { left: Left::All(map.into_iter()), known: None, next: None, outermost: false }
    }

    /// Without those that the struct does not know.
    fn known(self, known: &'static [&'static str]) -> Self {
        Self { known: Some(known), ..self }
    }
}

impl<'a> Iterator for Left<'a> {
    type Item = (Cow<'a, str>, Value);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::All(entries) => entries.next().map(|(name, value)| (Cow::Owned(name), value)),
            Self::Nulls(fields) => fields.find(|(_, value)| value.is_null()).map(|(name, _)| (Cow::Borrowed(name.as_str()), Value::Null)),
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        for (name, value) in self.left.by_ref() {
            let nothing = value.is_null() && self.known.is_some() && !self.outermost;
            let wanted = self.known.is_none_or(|known| known.contains(&&*name)) && !nothing;
            if wanted {
                let key = seed.deserialize(StrDeserializer::<Failure>::new(&name))?;
                self.next = Some((name, value));
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        let (name, value) = self.next.take().ok_or_else(|| de::Error::custom("value without a key"))?;
        let failed = |failure: Failure| Failure { field: name.into_owned(), detail: failure.detail };
        seed.deserialize(Weak { value, field: self.outermost }).map_err(failed)
    }
}

/// One value, converted to what is wanted of it.
struct Weak {
    value: Value,
    /// It is a field of the request.
    field: bool,
}

impl Weak {
    fn inside(value: Value) -> Self {
        Self { value, field: false }
    }
}

macro_rules! weak_ints {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            match &self.value {
                Value::Number(number) if number.is_u64() => visitor.visit_u64(number.as_u64().unwrap_or_default()),
                other => visitor.visit_i64(weak_int(other).map_err(de::Error::custom)?),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Weak {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(flag),
            Value::Number(number) => visit_number(&number, visitor),
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => visitor.visit_seq(Items { items: items.into_iter() }),
            Value::Object(map) => visitor.visit_map(Entries::inside(map)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_bool(weak_bool(&self.value).map_err(de::Error::custom)?)
    }

    weak_ints! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_f64(weak_float(&self.value).map_err(de::Error::custom)?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_string(weak_text(self.value).map_err(de::Error::custom)?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if self.value.is_null() && !self.field { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let items = match self.value {
            Value::Null => Vec::new(),
            Value::Array(items) => items,
            Value::String(text) if text.is_empty() => Vec::new(),
            other => vec![other],
        };
        visitor.visit_seq(Items { items: items.into_iter() })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let got = match self.value {
            Value::Object(map) => return visitor.visit_map(Entries::inside(map)),
            Value::Null if self.field => return Err(de::Error::custom("'' expected a map, got 'nil'")),
            Value::Null => return visitor.visit_map(Entries::inside(Map::new())),
            Value::String(_) => "string",
            Value::Number(_) => "json.Number",
            Value::Bool(_) => "bool",
            Value::Array(_) => "slice",
        };
        Err(de::Error::custom(format!("'' expected a map, got '{got}'")))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match self.value {
            Value::Object(map) => visitor.visit_map(Entries::inside(map).known(known)),
            other => Self { value: other, ..self }.deserialize_map(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let text = weak_text(self.value).map_err(de::Error::custom)?;
        visitor.visit_enum(StrDeserializer::<Failure>::new(&text))
    }

    serde::forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any }
}

fn visit_number<'de, V: Visitor<'de>>(number: &Number, visitor: V) -> Result<V::Value, Failure> {
    if let Some(value) = number.as_u64() {
        visitor.visit_u64(value)
    } else if let Some(value) = number.as_i64() {
        visitor.visit_i64(value)
    } else {
        visitor.visit_f64(number.as_f64().unwrap_or_default())
    }
}

struct Items {
    items: std::vec::IntoIter<Value>,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        self.items.next().map(|item| seed.deserialize(Weak::inside(item))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

#[cfg(test)]
mod tests;
