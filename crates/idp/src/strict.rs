//! JSON that decides about somebody, read without a second meaning: a name that stands twice in an object is refused, because two readers
//! might take different ones for true. Source: RFC 7519 section 4, RFC 8725 section 2.4.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Names and items in one document. A token of 64 KiB cannot hold more than half of it.
const PARTS_MAX: usize = 65_536;

/// Reads an object. Errors: what is wrong, without the values.
///
/// ```
/// use daypass_idp::strict;
/// assert!(strict::object(br#"{"sub":"a","aud":["b"]}"#).is_ok());
/// assert!(strict::object(br#"{"sub":"a","sub":"b"}"#).unwrap_err().contains("twice"));
/// ```
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    match value(bytes)? {
        Value::Object(map) => Ok(map),
        _ => Err("it is no JSON object".to_owned()),
    }
}

/// Reads a list. Errors: what is wrong, without the values.
///
/// ```
/// use daypass_idp::strict;
/// assert_eq!(strict::list(b"[1, 2]").unwrap().len(), 2);
/// assert!(strict::list(br#"[{"a":1,"a":2}]"#).unwrap_err().contains("twice"));
/// ```
pub fn list(bytes: &[u8]) -> Result<Vec<Value>, String> {
    match value(bytes)? {
        Value::Array(items) => Ok(items),
        _ => Err("it is no JSON list".to_owned()),
    }
}

fn value(bytes: &[u8]) -> Result<Value, String> {
    let mut parts = 0;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { parts: &mut parts }.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| if error.is_data() { without_place(&error.to_string()) } else { "it is no JSON".to_owned() })
}

/// serde's errors end in a place that means nothing inside of a token.
fn without_place(text: &str) -> String {
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

struct Strict<'p> {
    parts: &'p mut usize,
}

impl Strict<'_> {
    fn count<E: de::Error>(&mut self) -> Result<(), E> {
        *self.parts += 1;
        if *self.parts > PARTS_MAX { Err(E::custom(format!("it has more than {PARTS_MAX} parts"))) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Strict { parts: &mut *self.parts })? {
            self.count()?;
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            self.count()?;
            let value = map.next_value_seed(Strict { parts: &mut *self.parts })?;
            if out.insert(name, value).is_some() {
                return Err(de::Error::custom("a name stands twice in one object"));
            }
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_stands_twice_is_refused_at_every_depth() {
        for bad in [r#"{"a":1,"a":1}"#, r#"{"x":{"a":1,"b":2,"a":3}}"#, r#"{"x":[{"a":1,"\u0061":2}]}"#] {
            assert_eq!(object(bad.as_bytes()).unwrap_err(), "a name stands twice in one object", "{bad}");
        }
        let read = object(br#"{"a":{"b":1},"b":[1,-2,1.5,"x",null,true]}"#).unwrap();
        assert_eq!(Value::Object(read), serde_json::json!({"a": {"b": 1}, "b": [1, -2, 1.5, "x", null, true]}));
    }

    #[test]
    fn what_is_no_object_is_refused_without_being_repeated() {
        for bad in ["", "[]", "1", "{\"a\":1}x", "{\"a\":}", "{\"secret", &"[".repeat(5000), r#"{"a":1e999}"#] {
            assert!(!object(bad.as_bytes()).unwrap_err().contains("secret"), "{bad}");
        }
        let many = format!("{{\"a\":[{}0]}}", "0,".repeat(70_000));
        assert!(object(many.as_bytes()).unwrap_err().contains("more than 65536 parts"));
    }
}
