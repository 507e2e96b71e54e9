//! Documents made from declarations: `path-help` pages and OpenAPI.
//!
//! OpenAPI 3.0: Vault serves 3.0.2, and what reads Vault's document or makes clients from one knows 3.0 best.

mod answers;
mod page;
mod schema;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

pub use self::page::{endpoint_page, room_page};
use crate::{Declared, DeclaredOperation, Operation, Part, Pattern};

/// Path items of declared endpoints below `mount`. `find` tells which endpoint a path leads to: a pattern that another one
/// hides is no path of its own.
pub fn paths<'a>(
    declared: impl IntoIterator<Item = (usize, &'a Declared)>,
    mount: &str,
    find: &dyn Fn(&str) -> Option<usize>,
) -> Vec<(String, Value)> {
    let mut items: Vec<(String, Map<String, Value>)> = Vec::new();
    for (number, endpoint) in declared {
        for pattern in &endpoint.patterns {
            for operation in &endpoint.operations {
                let Some(method) = method(operation.operation) else { continue };
                for path in pattern.written(operation.operation == Operation::List) {
                    if find(&path.replace(['{', '}'], "")) != Some(number) {
                        continue;
                    }
                    let full = format!("/{mount}{path}");
                    let at = items.iter().position(|(known, _)| *known == full).unwrap_or_else(|| {
                        items.push((full, item(endpoint)));
                        items.len() - 1
                    });
                    let Some((_, item)) = items.get_mut(at) else { continue };
                    // Create and update are one method; the first that is declared describes it.
                    item.entry(method).or_insert_with(|| describe(endpoint, operation, pattern, mount, &path));
                }
            }
        }
    }
    items.into_iter().map(|(path, item)| (path, item.into())).collect()
}

/// An OpenAPI document around path items.
#[must_use]
pub fn document(title: &str, items: Vec<(String, Value)>) -> Value {
    let mut paths: Map<String, Value> = items.into_iter().collect();
    tell_apart(&mut paths);
    let about = if title.is_empty() { String::new() } else { format!("Endpoints below {title:?}. ") };
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "daypass HTTP API",
            "description": format!("{about}All API routes are prefixed with `/v1/`."),
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" },
        },
        "servers": [{ "url": "/v1" }],
        "security": [{ "token": [] }, { "bearer": [] }],
        "paths": paths,
        "components": answers::components(),
    })
}

/// The same items with the mount as a parameter of the path: for clients that are made once and used with other mounts.
#[must_use]
pub fn generic(items: Vec<(String, Value)>, mount: &str) -> Vec<(String, Value)> {
    let (before, own) = mount.strip_prefix("auth/").map_or(("", mount), |own| ("auth/", own));
    let own = own.trim_end_matches('/');
    let word: String = own.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let name = format!("{word}_mount_path");
    let given = json!({
        "name": name, "in": "path", "required": true, "description": "Path that the backend was mounted at",
        "schema": { "type": "string", "default": own },
    });
    let old = format!("/{mount}");
    let renamed = |(path, mut item): (String, Value)| {
        if let Some(item) = item.as_object_mut() {
            item.insert("parameters".to_owned(), json!([given.clone()]));
        }
        (format!("/{before}{{{name}}}/{}", path.strip_prefix(&old).unwrap_or(&path)), item)
    };
    items.into_iter().map(renamed).collect()
}

/// Gives a number to every operation id that another operation has already.
fn tell_apart(paths: &mut Map<String, Value>) {
    let mut taken = BTreeSet::new();
    for item in paths.values_mut().filter_map(Value::as_object_mut) {
        for operation in item.values_mut().filter_map(Value::as_object_mut) {
            let Some(id) = operation.get("operationId").and_then(Value::as_str).map(str::to_owned) else { continue };
            let mut unique = id.clone();
            let mut number = 2;
            while !taken.insert(unique.clone()) {
                unique = format!("{id}-{number}");
                number += 1;
            }
            operation.insert("operationId".to_owned(), unique.into());
        }
    }
}

fn item(endpoint: &Declared) -> Map<String, Value> {
    let mut item = Map::from_iter([("description".to_owned(), endpoint.summary.into())]);
    for (key, holds) in [
        ("x-vault-createSupported", endpoint.existence_check),
        ("x-vault-sudo", endpoint.sudo),
        ("x-vault-unauthenticated", endpoint.public),
    ] {
        if holds {
            item.insert(key.to_owned(), true.into());
        }
    }
    item
}

fn describe(endpoint: &Declared, operation: &DeclaredOperation, pattern: &Pattern, mount: &str, path: &str) -> Value {
    let captured: Vec<&Part> = pattern
        .parts()
        .iter()
        .filter(|part| !matches!(part, Part::Literal(_)) && path.contains(&format!("{{{}}}", capture(part))))
        .collect();
    let fields = schema::fields(&operation.fields);
    let of = |name: &str| fields.named.iter().find(|(known, _)| known == name).map(|(_, schema)| schema);
    let mut parameters: Vec<Value> = captured.iter().map(|part| in_path(part, of(capture(part)))).collect();
    let is_captured = |name: &str| pattern.names().any(|captured| captured == name);
    let own: Vec<(&str, &Value)> =
        fields.named.iter().map(|(name, schema)| (name.as_str(), schema)).filter(|(name, _)| !is_captured(name)).collect();
    let required: Vec<&str> = fields.required.iter().map(String::as_str).filter(|name| !is_captured(name)).collect();
    let mut out = Map::from_iter([
        ("summary".to_owned(), endpoint.summary.into()),
        ("operationId".to_owned(), operation_id(mount, path, operation.operation).into()),
        ("tags".to_owned(), json!([tag(mount)])),
        ("responses".to_owned(), answers::responses(endpoint, operation)),
    ]);
    if !endpoint.help.is_empty() {
        out.insert("description".to_owned(), endpoint.help.trim().into());
    }
    if endpoint.deprecated.is_some() {
        out.insert("deprecated".to_owned(), true.into());
    }
    if endpoint.public {
        out.insert("security".to_owned(), json!([]));
    }
    match operation.operation {
        Operation::Create | Operation::Update | Operation::Patch => {
            let kind = if operation.operation == Operation::Patch { "application/merge-patch+json" } else { "application/json" };
            if let Some(schema) = body(&own, &required, fields.others.as_ref()) {
                let needed = !required.is_empty() || operation.operation == Operation::Patch;
                out.insert("requestBody".to_owned(), json!({ "required": needed, "content": { kind: { "schema": schema } } }));
            }
        }
        _ => parameters.extend(own.iter().map(|(name, schema)| in_query(name, schema, required.contains(name)))),
    }
    if operation.operation == Operation::List {
        parameters.push(json!({
            "name": "list", "in": "query", "required": true, "description": "Must be `true`: what makes a GET a list.",
            "schema": { "type": "string", "enum": ["true"] },
        }));
    }
    out.insert("parameters".to_owned(), parameters.into());
    out.into()
}

/// The schema of a body; `None` where the endpoint takes no fields.
fn body(own: &[(&str, &Value)], required: &[&str], others: Option<&Value>) -> Option<Value> {
    if own.is_empty() && others.is_none() {
        return None;
    }
    let properties: Map<String, Value> = own.iter().map(|(name, schema)| ((*name).to_owned(), (*schema).clone())).collect();
    let mut out = Map::from_iter([("type".to_owned(), Value::from("object")), ("properties".to_owned(), properties.into())]);
    if !required.is_empty() {
        out.insert("required".to_owned(), json!(required));
    }
    if let Some(others) = others {
        out.insert("additionalProperties".to_owned(), others.clone());
    }
    Some(out.into())
}

fn in_path(part: &Part, field: Option<&Value>) -> Value {
    let mut schema = json!({ "type": "string" });
    let (key, value) = match part {
        Part::Name(_) => ("pattern", json!(r"^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$")),
        Part::NameWithAt(_) => ("pattern", json!(r"^[A-Za-z0-9_]([A-Za-z0-9_.@-]*[A-Za-z0-9_])?$")),
        // No control characters: HTTP itself refuses them in a path, before anything here is asked.
        Part::Any(_) => ("pattern", json!(r"^[^/\x00-\x1f\x7f-\x9f]+$")),
        Part::Literal(_) | Part::Greedy(_) | Part::GreedyOrNothing(_) => ("pattern", json!(r"^[^\x00-\x1f\x7f-\x9f]+$")),
    };
    if let Some(schema) = schema.as_object_mut() {
        schema.insert(key.to_owned(), value);
    }
    let several = matches!(part, Part::Greedy(_) | Part::GreedyOrNothing(_));
    let usual = if several { "A path; it may have several segments." } else { "A name." };
    let description = field.map(|schema| text_of(schema, "description")).filter(|text| !text.is_empty());
    json!({
        "name": capture(part), "in": "path", "required": true, "schema": schema,
        "description": description.unwrap_or_else(|| usual.to_owned()),
    })
}

fn in_query(name: &str, schema: &Value, required: bool) -> Value {
    json!({ "name": name, "in": "query", "required": required, "description": text_of(schema, "description"), "schema": schema })
}

fn capture(part: &Part) -> &'static str {
    match part {
        Part::Literal(name)
        | Part::Name(name)
        | Part::NameWithAt(name)
        | Part::Any(name)
        | Part::Greedy(name)
        | Part::GreedyOrNothing(name) => name,
    }
}

/// The method that documents name; `None` for what they do not show.
fn method(operation: Operation) -> Option<&'static str> {
    Some(match operation {
        Operation::Create | Operation::Update => "post",
        Operation::Delete => "delete",
        Operation::Header => "head",
        Operation::Patch => "patch",
        Operation::Help => return None,
        Operation::List | Operation::Read => "get",
    })
}

/// As Vault groups them.
fn tag(mount: &str) -> &'static str {
    match mount {
        "sys/" => "system",
        "identity/" => "identity",
        _ if mount.starts_with("auth/") => "auth",
        _ => "secrets",
    }
}

fn operation_id(mount: &str, path: &str, operation: Operation) -> String {
    let name = if operation == Operation::Create { Operation::Update } else { operation }.name();
    let mut id = String::from(name);
    for piece in mount.split('/').chain(path.split('/')) {
        let words = piece.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        for word in words {
            id.push('-');
            id.push_str(word);
        }
    }
    id
}

fn text_of(schema: &Value, key: &str) -> String {
    schema.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}
