//! The tables of fields in `docs/aws.md`, made from the declarations of the endpoints.
//!
//! A table stands between `<!-- fields KIND PATH -->` and `<!-- end of fields -->`; several paths with commas between share one.

#![expect(clippy::expect_used, clippy::panic, reason = "a test's scaffold fails by panicking, as its assertions do")]

use std::collections::BTreeMap;

use serde_json::Value;

use crate::every_mount;

const BEGIN: &str = "<!-- fields ";
const CLOSE: &str = " -->";
const END: &str = "<!-- end of fields -->";
/// Types of mounts whose endpoints must all have their table.
const KINDS: [&str; 2] = ["aws", "ecr"];

/// The page with its tables as the declarations say today, and the endpoints that have fields but no table.
///
/// # Panics
/// When a table is for an endpoint that is not there, or for several whose fields differ.
pub async fn page(text: &str) -> (String, Vec<String>) {
    let mut tables = tables().await;
    let mut missing: Vec<String> = tables.keys().filter(|(kind, _)| KINDS.contains(&kind.as_str())).map(name_of).collect();
    let mut out = String::with_capacity(text.len());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        let Some(paths) = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(CLOSE)) else { continue };
        lines.by_ref().take_while(|line| *line != END).for_each(drop);
        let (kind, paths) = paths.split_once(' ').expect("a kind and a path");
        let mut shared: Option<String> = None;
        for path in paths.split(',').map(str::trim) {
            let key = (kind.to_owned(), path.to_owned());
            let table = tables.remove(&key).unwrap_or_else(|| panic!("no endpoint with fields, or twice on the page: {kind} {path}"));
            missing.retain(|name| *name != name_of(&key));
            assert!(shared.as_ref().is_none_or(|shared| *shared == table), "{paths} of {kind} have not the same fields");
            shared = Some(table);
        }
        out.push_str(&shared.expect("at least one path"));
        out.push_str(END);
        out.push('\n');
    }
    (out, missing)
}

fn name_of((kind, path): &(String, String)) -> String {
    format!("{kind} {path}")
}

/// A table for each endpoint that has fields beside those of its path, by the type of its mount and its path.
async fn tables() -> BTreeMap<(String, String), String> {
    let server = every_mount().await;
    let mut tables = BTreeMap::new();
    for declarations in server.core().declarations().expect("the server is unsealed") {
        for endpoint in &declarations.endpoints {
            for pattern in &endpoint.patterns {
                let captured: Vec<&str> = pattern.names().collect();
                let schemas = endpoint.operations.iter().filter_map(|operation| operation.fields.get("properties")?.as_object());
                let fields: BTreeMap<&str, &Value> =
                    schemas.flatten().map(|(name, schema)| (name.as_str(), schema)).filter(|(name, _)| !captured.contains(name)).collect();
                let path = pattern.written(false).into_iter().next().unwrap_or_default();
                if !fields.is_empty() {
                    tables.insert((declarations.kind.clone(), path), table(&fields));
                }
            }
        }
    }
    tables
}

fn table(fields: &BTreeMap<&str, &Value>) -> String {
    let rows: Vec<String> = fields.iter().map(|(name, schema)| row(name, schema)).collect();
    format!("\n| field | meaning |\n|---|---|\n{}\n\n", rows.join("\n"))
}

fn row(name: &str, schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).expect("every field has a comment");
    // A bar ends a cell, in code too.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    format!("| `{name}` | {text} |")
}
