//! `delete/`, `undelete/` and `destroy/`: what happens to single versions.

use std::sync::Arc;

use daypass_base::lenient::CommaInts;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Kv2;
use super::key::{Author, DataRows, Key};
use super::rows::{Step, change};

/// Which versions of which secret.
#[derive(Deserialize, JsonSchema)]
struct VersionsParams {
    /// Path of the secret.
    path: String,
    /// Numbers of the versions; unknown ones are passed over.
    #[serde(default)]
    versions: CommaInts,
}

pub(super) fn delete_endpoint() -> Endpoint<Kv2> {
    Endpoint::at(["delete/{path..}"])
        .summary("Delete versions of a secret; they can be restored.")
        .help("Marks versions as deleted. Their data stays until it is destroyed or too old, and `undelete` brings it back.")
        .on(Operation::Update, delete)
}

pub(super) fn undelete_endpoint() -> Endpoint<Kv2> {
    Endpoint::at(["undelete/{path..}"])
        .summary("Restore deleted versions of a secret.")
        .help("Makes deleted versions readable again. Destroyed versions stay destroyed.")
        .on(Operation::Update, undelete)
}

pub(super) fn destroy_endpoint() -> Endpoint<Kv2> {
    Endpoint::at(["destroy/{path..}"])
        .summary("Remove versions of a secret for good.")
        .help("Removes the data of versions for good; nothing brings it back. Their numbers and times stay in the metadata.")
        .on(Operation::Update, destroy)
}

async fn delete(kv: Arc<Kv2>, cx: Cx, params: VersionsParams) -> Result<()> {
    let by = Author::doing(&cx, "delete");
    let now = cx.clock.now();
    mark(kv, &cx, &params, "No version number provided", |key, _| {
        key.delete(&params.versions.0, &by, now);
        DataRows::default()
    })
    .await
}

async fn undelete(kv: Arc<Kv2>, cx: Cx, params: VersionsParams) -> Result<()> {
    let by = Author::doing(&cx, "undelete");
    let now = cx.clock.now();
    mark(kv, &cx, &params, "No version number provided", |key, config| {
        key.undelete(config, &params.versions.0, &by, now);
        DataRows::default()
    })
    .await
}

async fn destroy(kv: Arc<Kv2>, cx: Cx, params: VersionsParams) -> Result<()> {
    let by = Author::doing(&cx, "destroy");
    let now = cx.clock.now();
    mark(kv, &cx, &params, "no version number provided", |key, _| key.destroy(&params.versions.0, &by, now)).await
}

/// A secret that does not exist is no error, as in Vault. `none` is the text for a request without versions.
async fn mark(
    kv: Arc<Kv2>,
    cx: &Cx,
    params: &VersionsParams,
    none: &'static str,
    apply: impl Fn(&mut Key, &super::config::Config) -> DataRows,
) -> Result<()> {
    kv.ready(cx).await?;
    if params.versions.0.is_empty() {
        return Err(Error::bad_request(none));
    }
    change(cx, &params.path, |config, key| {
        let Some(mut key) = key else { return Ok(Step::Leave(())) };
        let rows = apply(&mut key, config);
        Ok(Step::Store(Box::new(key), rows, ()))
    })
    .await
}
