//! JSON bodies: read in one pass, with limits on shape and no duplicate keys.
//!
//! Vault checks shape apart from parsing and answers 500; here a bad body is always the client's 400, with Vault's texts for the limits.

use daypass_base::{Brief, Limits, Weight, whole};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads a body. `null` and blank bodies count as no fields. With it comes about how many bytes of memory it takes. Errors: a text for the client.
pub(crate) fn read_object(bytes: &[u8], limits: &Limits) -> Result<(Map<String, Value>, usize), String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok((Map::new(), 0));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    // Our own counter limits the depth, at 300 as Vault does; serde_json's would stop at 128.
    deserializer.disable_recursion_limit();
    let mut budget = Budget { limits, tokens: 0, weight: Weight::limited(limits.json_memory_bytes), is_large: false };
    let value = Reader { budget: &mut budget, depth: 0 }.deserialize(&mut deserializer).map_err(|error| text(&error))?;
    deserializer.end().map_err(|error| text(&error))?;
    if budget.is_large {
        whole::check(bytes).map_err(|beyond| format!("error parsing JSON: {beyond}"))?;
    }
    match value {
        Value::Object(map) => Ok((map, budget.weight.bytes())),
        Value::Null => Ok((Map::new(), 0)),
        other => Err(format!("error parsing JSON: failed to parse JSON input: an object is wanted, got {}", kind(&other))),
    }
}

fn text(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("JSON ") || text.starts_with("duplicate key") {
        // serde_json appends where it stopped; the limit's own text is what clients know.
        return text.split(" at line ").next().unwrap_or_default().to_owned();
    }
    format!("error parsing JSON: failed to parse JSON input: {text}")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

struct Budget<'a> {
    limits: &'a Limits,
    tokens: usize,
    weight: Weight,
    /// There is a float that may have been a whole number: then the text is looked at again.
    is_large: bool,
}

struct Reader<'a, 'b> {
    budget: &'a mut Budget<'b>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Reader<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.budget.tokens += 1;
        if self.budget.tokens > self.budget.limits.json_tokens {
            return Err(de::Error::custom("JSON payload exceeds allowed token count"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
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
        if value == 0.0 && value.is_sign_negative() {
            // `-0` is a whole number to every client that sends it.
            return Ok(0.into());
        }
        self.budget.is_large |= value.abs() >= BEYOND_I64;
        Number::from_f64(value).map(Value::Number).ok_or_else(|| de::Error::custom("a number is out of range"))
    }

    fn visit_str<E: de::Error>(mut self, value: &str) -> Result<Value, E> {
        self.check_string(value)?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: de::Error>(mut self, value: String) -> Result<Value, E> {
        self.check_string(&value)?;
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(Reader { budget: &mut *self.budget, depth })? {
            self.budget.weight.element(items.len()).map_err(de::Error::custom)?;
            items.push(item);
            if items.len() > self.budget.limits.json_array_elements {
                return Err(de::Error::custom("JSON array exceeds allowed element count"));
            }
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            self.check_string(&key)?;
            if map.contains_key(&key) {
                return Err(de::Error::custom(format!("duplicate key '{}' in object", Brief(&key))));
            }
            self.budget.weight.entry(map.len()).map_err(de::Error::custom)?;
            let value = access.next_value_seed(Reader { budget: &mut *self.budget, depth })?;
            map.insert(key, value);
            if map.len() > self.budget.limits.json_object_entries {
                return Err(de::Error::custom("JSON object exceeds allowed entry count"));
            }
        }
        Ok(Value::Object(map))
    }
}

impl Reader<'_, '_> {
    fn deeper<E: de::Error>(&self) -> Result<usize, E> {
        if self.depth >= self.budget.limits.json_depth {
            return Err(de::Error::custom("JSON input exceeds allowed nesting depth"));
        }
        Ok(self.depth + 1)
    }

    fn check_string<E: de::Error>(&mut self, text: &str) -> Result<(), E> {
        if text.len() > self.budget.limits.json_string_bytes {
            return Err(de::Error::custom("JSON string value exceeds allowed length"));
        }
        self.budget.weight.text(text.len()).map_err(de::Error::custom)
    }
}

/// 2^63. A whole number that comes as a float, because no 64 bits hold it, is not below this.
const BEYOND_I64: f64 = 9_223_372_036_854_775_808.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Map<String, Value>, String> {
        read_object(text.as_bytes(), &Limits::default()).map(|(map, _)| map)
    }

    #[test]
    fn bodies_without_fields_are_empty() {
        for text in ["", "  \n", "null", "{}"] {
            assert!(read(text).unwrap().is_empty(), "{text:?}");
        }
    }

    #[test]
    fn a_body_that_is_no_object_is_refused() {
        for text in ["[1]", "5", "\"x\"", "{", "{\"a\":1} x", "{'a':1}", "{\"a\":1,}", "not json"] {
            assert!(read(text).unwrap_err().starts_with("error parsing JSON: failed to parse JSON input: "), "{text}");
        }
    }

    #[test]
    fn duplicate_keys_are_refused_at_every_level() {
        assert_eq!(read("{\"a\":1,\"a\":2}").unwrap_err(), "duplicate key 'a' in object");
        assert_eq!(read("{\"x\":{\"a\":1,\"a\":2}}").unwrap_err(), "duplicate key 'a' in object");
        let long = "x".repeat(1 << 20);
        let shown = format!("duplicate key '{}…' in object", "x".repeat(128));
        assert_eq!(read(&format!("{{\"{long}\":1,\"{long}\":2}}")).unwrap_err(), shown);
    }

    #[test]
    fn shape_is_limited() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(400), "]".repeat(400));
        assert_eq!(read(&deep).unwrap_err(), "JSON input exceeds allowed nesting depth");
        let fine = format!("{{\"a\":{}{}}}", "[".repeat(299), "]".repeat(299));
        assert!(read(&fine).is_ok());
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat((1 << 20) + 1));
        assert_eq!(read(&long).unwrap_err(), "JSON string value exceeds allowed length");
        let wide = format!("{{\"a\":[{}1]}}", "1,".repeat(10_000));
        assert_eq!(read(&wide).unwrap_err(), "JSON array exceeds allowed element count");
    }

    /// Story: two and a half megabytes of objects with one entry each took 160 MB of memory, and twice that while their handler ran: 24 such requests of
    /// strangers ended a server.
    #[test]
    fn what_would_take_far_more_memory_than_its_text_is_refused() {
        let chain = format!("{}0{}", "{\"\":".repeat(290), "}".repeat(290));
        let body = |chains: usize| format!("{{\"j\":[{}{chain}]}}", format!("{chain},").repeat(chains - 1));
        let refused = read(&body(1714)).unwrap_err();
        assert_eq!(
            refused,
            "JSON input takes more than 67108864 bytes of memory: it has too many small objects or arrays, send it in parts"
        );
        let (_, weight) = read_object(body(300).as_bytes(), &Limits::default()).unwrap();
        assert_eq!(weight, 300 * 290 * 640 + 640 + 128 + 296 * 64 + 17);
    }

    /// Story: `18446744073709551617` was stored as `1.8446744073709552e+19`, and nobody was told.
    #[test]
    fn a_whole_number_that_would_lose_digits_is_refused() {
        let refused = read("{\"a\":\n [1, 18446744073709551617]}").unwrap_err();
        let text = "does not fit into 64 bits and would lose digits: send it as a string, in quotes";
        assert_eq!(refused, format!("error parsing JSON: the whole number at line 2 column 6 {text}"));
        for beyond in ["-9223372036854775809", "18446744073709551616", "100000000000000000000000000000000000"] {
            assert!(read(&format!("{{\"x\":1e300,\"a\":{beyond}}}")).unwrap_err().ends_with(text), "{beyond}");
        }
        for (fine, value) in [
            ("18446744073709551615", Value::from(u64::MAX)),
            ("-9223372036854775808", Value::from(i64::MIN)),
            ("1e300", Value::from(1e300)),
            ("18446744073709551617.0", Value::from(18_446_744_073_709_551_617.0)),
            ("\"18446744073709551617\"", Value::from("18446744073709551617")),
        ] {
            assert_eq!(read(&format!("{{\"x\":1e20,\"a\":{fine}}}")).unwrap().get("a"), Some(&value));
        }
    }

    /// Story: `31.245270191439438` was read as the float beside it and came back as `31.24527019143944`, as did one of ten with 17 digits.
    #[test]
    fn a_float_is_the_nearest_and_comes_back_as_it_was_written() {
        for text in ["31.245270191439438", "121.48791951161945", "423.20917087271323", "-198.44004278856286"] {
            let map = read(&format!("{{\"a\":{text}}}")).unwrap();
            assert_eq!(map.get("a").unwrap().as_f64(), text.parse::<f64>().ok());
            assert_eq!(map.get("a").unwrap().to_string(), text);
        }
        assert_eq!(read("{\"a\":0.12345678901234567890}").unwrap().get("a").unwrap().to_string(), "0.12345678901234568");
    }

    #[test]
    fn minus_zero_is_a_whole_number() {
        assert_eq!(read("{\"a\":-0}").unwrap().get("a"), Some(&Value::from(0)));
    }
}
