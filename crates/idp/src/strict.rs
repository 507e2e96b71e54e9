//! JSON that decides about somebody, read without a second meaning: a name that stands twice in an object is refused, because two readers
//! might take different ones for true. Source: RFC 7519 section 4, RFC 8725 section 2.4.

use std::fmt;

use daypass_base::Weight;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Names and items in one document. A token of 64 KiB cannot hold more than half of it.
const PARTS_MAX: usize = 65_536;
/// About how many bytes of memory one document may take: what an identity provider answers has at most a mebibyte of text.
const MEMORY_BYTES_MAX: usize = 8 << 20;

/// Reads an object. Errors: what is wrong, without the values.
///
/// ```
/// use daypass_idp::strict;
/// assert!(strict::object(br#"{"sub":"a","aud":["b"]}"#).is_ok());
/// assert!(strict::object(br#"{"sub":"a","sub":"b"}"#).unwrap_err().contains("twice"));
/// ```
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    object_within(bytes, MEMORY_BYTES_MAX)
}

/// The same for what strangers send: it takes about so many bytes of memory at most, however small its text is. Errors: as above.
pub fn object_within(bytes: &[u8], memory: usize) -> Result<Map<String, Value>, String> {
    match value(bytes, memory)? {
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
    match value(bytes, MEMORY_BYTES_MAX)? {
        Value::Array(items) => Ok(items),
        _ => Err("it is no JSON list".to_owned()),
    }
}

fn value(bytes: &[u8], memory: usize) -> Result<Value, String> {
    let mut budget = Budget { parts: 0, weight: Weight::limited(memory) };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { budget: &mut budget }.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| if error.is_data() { without_place(&error.to_string()) } else { "it is no JSON".to_owned() })
}

/// serde's errors end in a place that means nothing inside of a token.
fn without_place(text: &str) -> String {
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

struct Budget {
    parts: usize,
    weight: Weight,
}

struct Strict<'b> {
    budget: &'b mut Budget,
}

impl Strict<'_> {
    fn count<E: de::Error>(&mut self) -> Result<(), E> {
        self.budget.parts += 1;
        if self.budget.parts > PARTS_MAX { Err(E::custom(format!("it has more than {PARTS_MAX} parts"))) } else { Ok(()) }
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

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.budget.weight.text(value.len()).map_err(E::custom)?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Strict { budget: &mut *self.budget })? {
            self.count()?;
            self.budget.weight.element(items.len()).map_err(de::Error::custom)?;
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            self.count()?;
            let weight = &mut self.budget.weight;
            weight.text(name.len()).and_then(|()| weight.entry(out.len())).map_err(de::Error::custom)?;
            let value = map.next_value_seed(Strict { budget: &mut *self.budget })?;
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

    /// Story: a token of 64 KiB that nobody had signed took four megabytes while the server asked for the issuer's keys.
    #[test]
    fn many_small_objects_are_refused_before_they_take_memory() {
        let nested = format!("{}0{}", "{\"\":".repeat(100), "}".repeat(100));
        let claims = format!("{{\"a\":[{}{nested}]}}", format!("{nested},").repeat(40));
        assert!(object_within(claims.as_bytes(), 1 << 19).unwrap_err().starts_with("JSON input takes more than 524288 bytes of memory"));
        let groups: Vec<String> = (0..1000).map(|number| format!("\"https://groups.example/{number}\"")).collect();
        assert!(object_within(format!("{{\"groups\":[{}]}}", groups.join(",")).as_bytes(), 1 << 19).is_ok());
    }
}
