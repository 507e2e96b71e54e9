//! Paths that KV version 2 does not have: clients of version 1 land here, and the answer tells them what to do.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Operation, Result};
use serde_json::{Map, Value};

use super::Kv2;

/// The bare names of the path groups.
pub(super) fn roots() -> Endpoint<Kv2> {
    every_operation(Endpoint::at(["data", "metadata", "delete", "undelete", "destroy"]).summary("Not a path of a secret."))
}

/// All other paths.
pub(super) fn elsewhere() -> Endpoint<Kv2> {
    every_operation(Endpoint::at(["{path..?}"]).summary("Not a path of a versioned K/V secrets engine."))
}

/// Without `Patch`: the CLI falls back on 405, not on 404.
fn every_operation(endpoint: Endpoint<Kv2>) -> Endpoint<Kv2> {
    endpoint.on(Operation::Read, refuse).on(Operation::Update, refuse).on(Operation::Delete, refuse).on(Operation::List, refuse)
}

/// Always fails, with `NotFound` and a warning.
pub(super) async fn refuse(_: Arc<Kv2>, cx: Cx, _: Map<String, Value>) -> Result<()> {
    Err(refusal(&cx))
}

/// The refusal of a path that is not one of the engine's. Source: recorded fixture `kv2-patch-and-subkeys`.
pub(super) fn refusal(cx: &Cx) -> Error {
    let warning = match cx.request.below.as_str() {
        "data" | "metadata" | "delete" | "undelete" | "destroy" => {
            "Non-listing operations on the root of a K/V v2 mount are not supported.".to_owned()
        }
        _ => {
            let command = match cx.request.operation {
                Some(Operation::Create | Operation::Update) => "put",
                Some(Operation::Delete) => "delete",
                Some(Operation::List) => "list",
                _ => "get",
            };
            format!(
                "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use. \
                 If using the Vault CLI, use 'vault kv {command}' for this operation."
            )
        }
    };
    Error::not_found().with_warning(warning)
}
