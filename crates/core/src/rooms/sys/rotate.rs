//! `sys/rotate`, `sys/rotate/config`, `sys/key-status`: the key that values are encrypted with.

use std::sync::Arc;

use daypass_base::Seconds;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use daypass_storage::Batch;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::Sys;
use super::mounts::Nothing;
use crate::keys::{OPERATIONS_MAX, Rotation};
use crate::node::core_key;

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["key-status"]).summary("Show the encryption key in use.").on(Operation::Read, key_status),
        Endpoint::at(["rotate", "rotate/keyring"])
            .judged_as_one("rotate")
            .summary("Start a new encryption key.")
            .help("What was sealed under older keys stays readable; what is written from now on is sealed under the new one.")
            .sudo()
            .on(Operation::Update, rotate),
        Endpoint::at(["rotate/config", "rotate/keyring/config"])
            .judged_as_one("rotate/config")
            .summary("Show or set when a new encryption key is started by itself.")
            .help(
                "It is looked at once a minute. Where it is switched off, a new key is still started after 3865470566 encryptions: beyond \
                 that, encrypting under the same key would not be safe.",
            )
            .on(Operation::Read, read_rotation)
            .on(Operation::Update, write_rotation),
    ]
}

async fn key_status(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let status = unsealed.rows.barrier().status();
    let shown = json!({ "term": status.term, "install_time": status.installed, "encryptions": status.encryptions });
    Ok(Reply::json(shown).at_top_level())
}

async fn rotate(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<()> {
    let (inner, unsealed) = sys.way.open()?;
    inner.rotate(&unsealed).await?;
    Ok(())
}

/// When a new key is to be started by itself; what is absent stays as it is.
#[derive(Debug, Deserialize, JsonSchema)]
struct RotationParams {
    /// Whether it happens at all.
    enabled: Option<bool>,
    /// After how many encryptions, 1000000 to 3865470566.
    max_operations: Option<i64>,
    /// After how long, at least 24 hours; 0 is never.
    interval: Option<Seconds>,
}

async fn read_rotation(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let rotation = Rotation::stored(&unsealed).await?;
    let interval = rotation.interval.set().map_or_else(|| json!(0), |interval| json!(interval.to_string()));
    Ok(Reply::json(json!({ "enabled": rotation.enabled, "max_operations": rotation.max_operations, "interval": interval })))
}

/// Errors: `BadRequest` for numbers out of range.
async fn write_rotation(sys: Arc<Sys>, _cx: Cx, params: RotationParams) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    let decide = |stored: Option<Rotation>| {
        let mut rotation = stored.unwrap_or_else(Rotation::usual);
        rotation.enabled = params.enabled.unwrap_or(rotation.enabled);
        rotation.max_operations = params.max_operations.unwrap_or(rotation.max_operations);
        rotation.interval = params.interval.unwrap_or(rotation.interval);
        if !(OPERATIONS_MIN..=OPERATIONS_MAX).contains(&rotation.max_operations) {
            return Err(Error::bad_request(format!("max_operations must be in the range [{OPERATIONS_MIN},{OPERATIONS_MAX}]")));
        }
        if !rotation.interval.is_zero() && rotation.interval < INTERVAL_MIN {
            return Err(Error::bad_request(format!("interval must be greater or equal to {INTERVAL_MIN}")));
        }
        Ok(Some(rotation))
    };
    unsealed.rows.change(&core_key("rotation"), &Batch::new(), decide).await.map(drop)
}

const OPERATIONS_MIN: i64 = 1_000_000;
const INTERVAL_MIN: Seconds = Seconds(86_400);
