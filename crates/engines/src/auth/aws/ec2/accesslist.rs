//! `identity-accesslist/`: the instances that logged in.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Json, Keys, Operation, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Entry;
use crate::auth::aws::AwsAuth;

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

/// Which instance.
#[derive(Deserialize, JsonSchema)]
struct InstanceParams {
    /// Id of the instance. Example: `i-0123456789abcdef0`.
    instance_id: String,
}

pub(super) fn endpoints() -> [Endpoint<AwsAuth>; 2] {
    let all = Endpoint::at(["identity-accesslist/?", "identity-whitelist/?"])
        .summary("List the instances that logged in.")
        .on(Operation::List, list);
    let one = Endpoint::at(["identity-accesslist/{instance_id}", "identity-whitelist/{instance_id}"])
        .summary("What is remembered of an instance that logged in.")
        .help(HELP)
        .on(Operation::Read, read)
        .on(Operation::Delete, delete);
    [all, one]
}

async fn list(_: Arc<AwsAuth>, cx: Cx, _: NoParams) -> Result<Keys> {
    Ok(Keys(cx.list(ROWS).await?))
}

async fn read(_: Arc<AwsAuth>, cx: Cx, params: InstanceParams) -> Result<Json<Value>> {
    let entry: Entry = cx.store.get_json(&row(&params.instance_id)).await?.ok_or_else(Error::not_found)?;
    Ok(Json(json!({
        "role": entry.role,
        "creation_time": entry.creation_time,
        "expiration_time": entry.expiration_time,
        "last_updated_time": entry.last_updated_time,
        "pending_time": entry.pending_time,
        "disallow_reauthentication": entry.disallow_reauthentication,
    })))
}

async fn delete(_: Arc<AwsAuth>, cx: Cx, params: InstanceParams) -> Result<()> {
    cx.store.delete(&row(&params.instance_id)).await
}

pub(super) fn row(instance: &str) -> String {
    format!("{ROWS}{instance}")
}

pub(super) const ROWS: &str = "accesslist/";
const HELP: &str =
    "The first login of an instance is noted here, with the digest of its nonce: later logins must bring the nonce. To let an
instance log in that lost it, delete its entry.";
