//! The pages of `path-help`.

use std::fmt::Write;

use serde_json::Value;

use super::text_of;
use crate::{Declared, Pattern};

/// The page of a whole room: what it is, and its paths.
#[must_use]
pub fn room_page(summary: &str, declared: &[Declared]) -> String {
    let mut page = format!(
        "## DESCRIPTION\n\n{}\n\n## PATHS\n\nThe following paths are supported by this backend. To view help for\n",
        summary.trim()
    );
    page.push_str("any of the paths below, use the help command with any route matching\nthe path pattern. ");
    page.push_str("Note that depending on the policy of your auth token,\nyou may or may not be able to access certain paths.\n\n");
    let mut lines: Vec<(String, &str)> = Vec::new();
    for endpoint in declared {
        lines.extend(endpoint.patterns.iter().map(|pattern| (pattern.openapi(), endpoint.summary)));
    }
    lines.sort();
    for (path, summary) in lines {
        let _infallible = write!(page, "    {path}\n        {summary}\n\n");
    }
    page
}

/// The page of one endpoint, asked for by this path.
#[must_use]
pub fn endpoint_page(endpoint: &Declared, path: &str) -> String {
    let pattern = endpoint.patterns.iter().find(|pattern| pattern.matches(path).is_some()).or(endpoint.patterns.first());
    let pattern = pattern.map(Pattern::openapi).unwrap_or_default();
    let mut page = format!("Request:        {path}\nMatching Route: {pattern}\n\n{}\n\n", endpoint.summary);
    if let Some(instead) = endpoint.deprecated {
        let _infallible = write!(page, "Deprecated: {instead}\n\n");
    }
    let mut fields: Vec<(String, String, String)> = Vec::new();
    for operation in &endpoint.operations {
        let Some(properties) = operation.fields.get("properties").and_then(Value::as_object) else { continue };
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

/// The type in one word, as a person would name it.
fn type_name(schema: &Value) -> String {
    if let Some(unit) = schema.get("x-daypass-unit").and_then(Value::as_str) {
        return format!("duration ({unit})");
    }
    match schema.get("type") {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("any").to_owned(),
        _ => {
            let choices = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(key)).and_then(Value::as_array);
            choices.into_iter().flatten().map(type_name).find(|name| name != "null").unwrap_or_else(|| "any".to_owned())
        }
    }
}
