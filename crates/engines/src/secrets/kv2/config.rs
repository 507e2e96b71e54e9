//! `config`: what holds for every key of the mount unless the key says otherwise.

use std::sync::Arc;

use daypass_sdk::{Changes, CommitFailure, Cx, Endpoint, Error, Json, Operation, Result, from_json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Kv2;
use super::key::versions_setting;
use super::rows::ATTEMPTS_MAX;
use super::times::DeleteAfter;

/// The mount's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    /// Versions to keep of each key; 0 is the default of 10.
    pub(super) max_versions: u32,
    /// Every write has to name the version that it replaces.
    pub(super) cas_required: bool,
    /// New versions are deleted after so long.
    pub(super) delete_version_after: DeleteAfter,
}

/// New settings; what is absent stays as it is.
#[derive(Deserialize, JsonSchema)]
struct ConfigParams {
    /// How many versions of each key to keep; 0 means 10.
    max_versions: Option<i64>,
    /// Refuse writes without the `cas` option.
    cas_required: Option<bool>,
    /// Delete each new version after this time; 0 for never, a negative duration switches it off for all keys.
    delete_version_after: Option<DeleteAfter>,
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

pub(super) fn endpoint() -> Endpoint<Kv2> {
    Endpoint::at(["config"])
        .summary("Settings of the mount.")
        .help(
            "Sets how many versions are kept, whether writes need check-and-set, and when new versions are deleted. \
             A key's own metadata may say otherwise.",
        )
        .on(Operation::Read, read)
        .on(Operation::Update, write)
}

/// The row of the settings.
pub(super) const ROW: &str = "config";

async fn read(kv: Arc<Kv2>, cx: Cx, _: NoParams) -> Result<Json<Value>> {
    kv.ready(&cx).await?;
    let config: Config = cx.store.get_json(ROW).await?.unwrap_or_default();
    Ok(Json(json!({
        "max_versions": config.max_versions,
        "cas_required": config.cas_required,
        "delete_version_after": config.delete_version_after.to_string(),
    })))
}

async fn write(kv: Arc<Kv2>, cx: Cx, params: ConfigParams) -> Result<()> {
    kv.ready(&cx).await?;
    for _ in 0..ATTEMPTS_MAX {
        let entry = cx.store.get(ROW).await?;
        let mut config: Config = entry.as_ref().map(|entry| from_json(ROW, &entry.value)).transpose()?.unwrap_or_default();
        if let Some(max_versions) = params.max_versions {
            config.max_versions = versions_setting(max_versions);
        }
        config.cas_required = params.cas_required.unwrap_or(config.cas_required);
        config.delete_version_after = params.delete_version_after.unwrap_or(config.delete_version_after);
        match cx.store.commit(Changes::new().unchanged(ROW, entry.as_ref()).put_json(ROW, &config)?).await {
            Ok(()) => return Ok(()),
            Err(CommitFailure::Conflict(_)) => {}
            Err(CommitFailure::Error(error)) => return Err(error),
        }
    }
    Err(Error::from(CommitFailure::Conflict(0)))
}
