//! From the schemas that the field structs make (JSON Schema 2020-12) to what OpenAPI 3.0 knows.

use serde_json::{Map, Value, json};

/// The fields of an operation: their schemas by name, which of them must be sent, and the schema of any others if they are taken.
pub(super) struct Fields {
    pub(super) named: Vec<(String, Value)>,
    pub(super) required: Vec<String>,
    pub(super) others: Option<Value>,
}

pub(super) fn fields(root: &Value) -> Fields {
    let named = root.get("properties").and_then(Value::as_object).into_iter().flatten();
    let required = root.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    // A body that is all the caller's own has no names at all.
    let any = root.as_bool() == Some(true) || (root.get("properties").is_none() && root.get("type").is_none());
    let others = if any { Some(&Value::Bool(true)) } else { root.get("additionalProperties") };
    Fields {
        named: named.map(|(name, schema)| (name.clone(), converted(schema))).collect(),
        required: required.map(str::to_owned).collect(),
        others: others.filter(|others| **others != Value::Bool(false)).map(converted),
    }
}

/// One schema in OpenAPI 3.0's words. What it has no word for is left out: a wider schema is still true.
pub(super) fn converted(schema: &Value) -> Value {
    let Value::Object(given) = schema else { return json!({}) };
    let mut out = Map::new();
    let mut nullable = false;
    for (key, value) in given {
        match key.as_str() {
            "type" => nullable |= set_type(&mut out, given, value),
            "anyOf" | "oneOf" => nullable |= set_alternatives(&mut out, value),
            "const" => drop(out.insert("enum".to_owned(), json!([value]))),
            "default" if value.is_null() => {}
            "examples" => drop(value.get(0).map(|first| out.insert("example".to_owned(), first.clone()))),
            "exclusiveMinimum" | "exclusiveMaximum" if value.is_number() => {
                let bound = if key == "exclusiveMinimum" { "minimum" } else { "maximum" };
                out.insert(bound.to_owned(), value.clone());
                out.insert(key.clone(), true.into());
            }
            "x-daypass-sensitive" => {
                out.insert("x-vault-displayAttrs".to_owned(), json!({ "sensitive": true }));
                out.insert(key.clone(), value.clone());
            }
            // Handled with the type that they belong to.
            "items" | "additionalProperties" | "properties" | "prefixItems" => {}
            "description" | "default" | "enum" | "format" | "minimum" | "maximum" | "minLength" | "maxLength" | "pattern" | "minItems"
            | "maxItems" | "required" | "uniqueItems" | "example" => drop(out.insert(key.clone(), value.clone())),
            other if other.starts_with("x-") => drop(out.insert(key.clone(), value.clone())),
            _unknown_to_openapi => {}
        }
    }
    if nullable {
        out.insert("nullable".to_owned(), true.into());
    }
    Value::Object(out)
}

/// Sets the type, or the alternatives where there are several. Tells whether `null` is one of them.
fn set_type(out: &mut Map<String, Value>, given: &Map<String, Value>, types: &Value) -> bool {
    let names: Vec<&str> = match types {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let nullable = names.contains(&"null");
    let mut alternatives: Vec<Map<String, Value>> = names.iter().filter(|name| **name != "null").map(|name| typed(name, given)).collect();
    match alternatives.len() {
        0 => {}
        1 => out.extend(alternatives.pop().unwrap_or_default()),
        _ => drop(out.insert("anyOf".to_owned(), alternatives.into())),
    }
    nullable
}

fn typed(name: &str, given: &Map<String, Value>) -> Map<String, Value> {
    let mut out = Map::from_iter([("type".to_owned(), Value::from(name))]);
    if name == "array" {
        out.insert("items".to_owned(), given.get("items").map_or_else(|| json!({}), converted));
    }
    if name == "object" {
        if let Some(properties) = given.get("properties").and_then(Value::as_object) {
            let properties: Map<String, Value> = properties.iter().map(|(name, schema)| (name.clone(), converted(schema))).collect();
            out.insert("properties".to_owned(), properties.into());
        }
        if let Some(more) = given.get("additionalProperties") {
            out.insert("additionalProperties".to_owned(), if more.is_boolean() { more.clone() } else { converted(more) });
        }
    }
    out
}

/// Alternatives: `null` makes the whole nullable, a single one is the schema itself, constants are an enumeration.
fn set_alternatives(out: &mut Map<String, Value>, alternatives: &Value) -> bool {
    let all: Vec<&Value> = alternatives.as_array().into_iter().flatten().collect();
    let is_null = |schema: &&Value| schema.get("type").and_then(Value::as_str) == Some("null");
    let nullable = all.iter().any(is_null);
    let rest: Vec<&Value> = all.into_iter().filter(|schema| !is_null(schema)).collect();
    let constants: Vec<Value> = rest.iter().filter_map(|schema| schema.get("const").cloned()).collect();
    if !rest.is_empty() && constants.len() == rest.len() {
        out.insert("type".to_owned(), "string".into());
        out.insert("enum".to_owned(), constants.into());
    } else if let [one] = rest.as_slice() {
        if let Value::Object(one) = converted(one) {
            // What stands beside the alternatives is nearer to the field.
            for (key, value) in one {
                out.entry(key).or_insert(value);
            }
        }
    } else {
        out.insert("anyOf".to_owned(), rest.into_iter().map(converted).collect());
    }
    nullable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_null_adds_becomes_nullable() {
        assert_eq!(converted(&json!({ "type": ["string", "null"], "default": null })), json!({ "type": "string", "nullable": true }));
        let either =
            json!({ "anyOf": [{ "type": ["integer", "string"], "x-daypass-unit": "seconds" }, { "type": "null" }], "description": "d" });
        let wanted = json!({
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "description": "d", "nullable": true, "x-daypass-unit": "seconds"
        });
        assert_eq!(converted(&either), wanted);
    }

    #[test]
    fn lists_keep_what_they_hold() {
        let list = json!({ "type": ["array", "string"], "items": { "type": "string" } });
        let wanted = json!({ "anyOf": [{ "type": "array", "items": { "type": "string" } }, { "type": "string" }] });
        assert_eq!(converted(&list), wanted);
    }

    #[test]
    fn a_body_of_the_callers_own_takes_anything() {
        assert_eq!(fields(&json!({ "type": "object", "additionalProperties": true })).others, Some(json!({})));
        assert_eq!(fields(&json!({ "type": "object", "properties": {} })).others, None);
    }
}
