//! Documents made from declarations: `path-help` pages and OpenAPI path items.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::endpoint::Endpoint;
use crate::{Engine, Operation, Room};

/// Help for a path of a room, or for the room itself when the path is empty or unknown endpoints are asked (`None`).
pub(crate) fn help<E: Engine>(room: &Room<E>, mount: &str, path: &str) -> Option<(String, Value)> {
    if path.is_empty() {
        let document = document(mount, paths(room, mount));
        return Some((room_page(room), document));
    }
    let found = room.find(path)?;
    let endpoint = room.endpoints().get(found.endpoint)?;
    let items = endpoint_paths(endpoint, mount);
    Some((endpoint_page(endpoint, path), document(mount, items)))
}

/// OpenAPI path items of every endpoint of a room.
pub(crate) fn paths<E: Engine>(room: &Room<E>, mount: &str) -> Vec<(String, Value)> {
    room.endpoints().iter().flat_map(|endpoint| endpoint_paths(endpoint, mount)).collect()
}

/// An OpenAPI document around path items.
#[must_use]
pub fn document(title: &str, items: Vec<(String, Value)>) -> Value {
    let paths: Map<String, Value> = items.into_iter().collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "daypass HTTP API",
            "description": format!("Endpoints below {title:?}. All API routes are prefixed with `/v1/`."),
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
    })
}

fn room_page<E: Engine>(room: &Room<E>) -> String {
    let mut page = format!(
        "## DESCRIPTION\n\n{}\n\n## PATHS\n\nThe following paths are supported by this backend. To view help for\n",
        E::SUMMARY.trim()
    );
    page.push_str("any of the paths below, use the help command with any route matching\nthe path pattern.\n\n");
    let mut lines: Vec<(String, &str)> = Vec::new();
    for endpoint in room.endpoints() {
        lines.extend(endpoint.patterns.iter().map(|pattern| (pattern.openapi(), endpoint.summary)));
    }
    lines.sort();
    for (path, summary) in lines {
        let _infallible = write!(page, "    {path}\n        {summary}\n\n");
    }
    page
}

fn endpoint_page<E: Send + Sync + 'static>(endpoint: &Endpoint<E>, path: &str) -> String {
    let pattern = endpoint.patterns.first().map(crate::Pattern::openapi).unwrap_or_default();
    let mut page = format!("Request:        {path}\nMatching Route: {pattern}\n\n{}\n\n", endpoint.summary);
    if let Some(instead) = endpoint.deprecated {
        let _infallible = write!(page, "Deprecated: {instead}\n\n");
    }
    let mut fields: Vec<(String, String, String)> = Vec::new();
    for action in &endpoint.actions {
        let Some(properties) = action.params.schema().get("properties").and_then(Value::as_object) else { continue };
        for (name, schema) in properties {
            if !fields.iter().any(|(known, ..)| known == name) {
                fields.push((name.clone(), type_name(schema), text_of(schema, "description")));
            }
        }
    }
    fields.sort();
    if !fields.is_empty() {
        page.push_str("## PARAMETERS\n\n");
        for (name, kind, description) in fields {
            let _infallible = write!(page, "    {name} ({kind})\n\n        {}\n\n", description.replace('\n', "\n        "));
        }
    }
    page.push_str("## DESCRIPTION\n\n");
    page.push_str(if endpoint.help.is_empty() { endpoint.summary } else { endpoint.help.trim() });
    page.push('\n');
    page
}

fn endpoint_paths<E: Send + Sync + 'static>(endpoint: &Endpoint<E>, mount: &str) -> Vec<(String, Value)> {
    endpoint.patterns.iter().map(|pattern| (format!("/{mount}{}", pattern.openapi()), item(endpoint, pattern, mount))).collect()
}

fn item<E: Send + Sync + 'static>(endpoint: &Endpoint<E>, pattern: &crate::Pattern, mount: &str) -> Value {
    let captured: Vec<&str> = pattern.names().collect();
    let mut item = Map::new();
    item.insert("description".to_owned(), endpoint.summary.into());
    if endpoint.public {
        item.insert("x-vault-unauthenticated".to_owned(), true.into());
    }
    if endpoint.sudo {
        item.insert("x-vault-sudo".to_owned(), true.into());
    }
    for action in &endpoint.actions {
        let properties = action.params.schema().get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let method = match action.operation {
            Operation::Create | Operation::Update => "post",
            Operation::Delete => "delete",
            Operation::Header => "head",
            Operation::Patch => "patch",
            Operation::Help => continue,
            Operation::List | Operation::Read => "get",
        };
        let mut parameters: Vec<Value> = captured.iter().map(|name| parameter(name, "path", true, properties.get(*name))).collect();
        let body: Map<String, Value> = properties
            .into_iter()
            .filter(|(name, _)| !captured.contains(&name.as_str()))
            .map(|(name, schema)| (name, plain(&schema)))
            .collect();
        let tag = mount.trim_end_matches('/').split('/').next_back().unwrap_or("sys");
        let mut operation = Map::from_iter([
            ("summary".to_owned(), endpoint.summary.into()),
            ("operationId".to_owned(), operation_id(mount, pattern, action.operation).into()),
            ("tags".to_owned(), json!([tag])),
            ("responses".to_owned(), json!({ "200": { "description": "OK" }, "204": { "description": "No content" } })),
        ]);
        if method == "post" || method == "patch" {
            let kind = if method == "patch" { "application/merge-patch+json" } else { "application/json" };
            let schema = json!({ "type": "object", "properties": body });
            operation.insert("requestBody".to_owned(), json!({ "content": { kind: { "schema": schema } } }));
        } else {
            parameters.extend(body.iter().map(|(name, schema)| parameter(name, "query", false, Some(schema))));
        }
        if action.operation == Operation::List {
            parameters.push(json!({ "name": "list", "in": "query", "required": true, "schema": { "type": "string", "enum": ["true"] } }));
        }
        operation.insert("parameters".to_owned(), parameters.into());
        // A path that both reads and lists is one GET in OpenAPI; the read describes it.
        if action.operation == Operation::List && item.contains_key("get") {
            continue;
        }
        item.insert(method.to_owned(), operation.into());
    }
    item.into()
}

fn parameter(name: &str, place: &str, required: bool, schema: Option<&Value>) -> Value {
    let schema = schema.map_or_else(|| json!({ "type": "string" }), plain);
    json!({ "name": name, "in": place, "required": required, "description": text_of(&schema, "description"), "schema": schema })
}

/// A field's schema with its description, without the alternatives that only `null` adds.
fn plain(schema: &Value) -> Value {
    schema.clone()
}

fn operation_id(mount: &str, pattern: &crate::Pattern, operation: Operation) -> String {
    let mut id = String::from(operation.name());
    for piece in mount.split('/').chain(pattern.text().split('/')) {
        let word: String = piece.chars().filter(char::is_ascii_alphanumeric).collect();
        if !word.is_empty() {
            id.push('-');
            id.push_str(&word);
        }
    }
    id
}

fn type_name(schema: &Value) -> String {
    if let Some(unit) = schema.get("x-daypass-unit").and_then(Value::as_str) {
        return format!("duration ({unit})");
    }
    match schema.get("type") {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("any").to_owned(),
        _ => "any".to_owned(),
    }
}

fn text_of(schema: &Value, key: &str) -> String {
    schema.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}
