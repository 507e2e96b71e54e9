//! `subkeys/`: the names inside a secret without its values.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Kv2;
use super::data::{ReadParams, find};

/// Which secret, and how deep to look.
#[derive(Deserialize, JsonSchema)]
struct SubkeysParams {
    /// Path of the secret.
    path: String,
    /// Number of the version; 0 is the current one.
    #[serde(default)]
    version: i64,
    /// Levels to show; 0 for all.
    #[serde(default)]
    depth: i64,
}

pub(super) fn endpoint() -> Endpoint<Kv2> {
    Endpoint::at(["subkeys/{path..}"])
        .summary("Read the structure of a secret without its values.")
        .help("Shows the names inside a secret; values are null. Names deeper than `depth` are left out.")
        .safe()
        .on(Operation::Read, read)
}

async fn read(kv: Arc<Kv2>, cx: Cx, params: SubkeysParams) -> Result<Reply> {
    let depth = usize::try_from(params.depth).ok().filter(|depth| *depth > 0).unwrap_or(usize::MAX);
    let found = find(&kv, &cx, &ReadParams { path: params.path, version: params.version }).await?;
    Ok(found.answer("subkeys", |data| names(data, depth)))
}

/// The same object with values removed, `depth` levels deep. Empty objects count as values.
fn names(object: Map<String, Value>, depth: usize) -> Map<String, Value> {
    let shown = |value| match value {
        Value::Object(inner) if depth > 1 && !inner.is_empty() => Value::Object(names(inner, depth - 1)),
        _ => Value::Null,
    };
    object.into_iter().map(|(name, value)| (name, shown(value))).collect()
}
