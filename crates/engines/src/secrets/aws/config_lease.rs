//! `config/lease`: lifetimes of the leases of IAM users.

use std::sync::Arc;

use daypass_base::{Brief, duration};
use daypass_sdk::{Cx, Endpoint, Error, Json, Operation, Result, Seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Aws;

pub(super) const KEY: &str = "config/lease";

pub(super) fn endpoints() -> Vec<Endpoint<Aws>> {
    vec![
        Endpoint::at([KEY])
            .summary("Configure the default lease information for generated credentials.")
            .help(HELP)
            .on(Operation::Read, read_lease)
            .on(Operation::Update, write_lease),
    ]
}

/// Lifetimes of the leases of IAM users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeaseConfig {
    pub(super) lease: Seconds,
    pub(super) lease_max: Seconds,
}

/// No fields.
#[derive(Deserialize, JsonSchema)]
struct Nothing {}

/// Both are required.
#[derive(Deserialize, JsonSchema)]
struct Fields {
    /// Lifetime of a lease between renewals, as a duration or in seconds. Example: `1h`.
    lease: Option<String>,
    /// Lifetime of a lease with all renewals, as a duration or in seconds. Example: `24h`.
    lease_max: Option<String>,
}

async fn read_lease(_: Arc<Aws>, cx: Cx, _: Nothing) -> Result<Json<Value>> {
    let config: LeaseConfig = cx.store.get_json(KEY).await?.ok_or_else(Error::not_found)?;
    Ok(Json(json!({ "lease": config.lease.to_string(), "lease_max": config.lease_max.to_string() })))
}

async fn write_lease(_: Arc<Aws>, cx: Cx, params: Fields) -> Result<()> {
    let lease = required("lease", params.lease.as_deref())?;
    let lease_max = required("lease_max", params.lease_max.as_deref())?;
    let config = LeaseConfig { lease: parsed("lease", lease)?, lease_max: parsed("lease_max", lease_max)? };
    cx.store.put_json(KEY, &config).await
}

fn required<'a>(field: &str, value: Option<&'a str>) -> Result<&'a str> {
    value.filter(|text| !text.is_empty()).ok_or_else(|| Error::bad_request(format!("'{field}' is a required parameter")))
}

fn parsed(field: &str, text: &str) -> Result<Seconds> {
    let signed = duration::parse(text).map_err(|error| Error::bad_request(format!("Invalid {field}: {error}")))?;
    if signed.negative && !signed.size.is_zero() {
        return Err(Error::bad_request(format!("Invalid {field}: cannot provide negative value '{}'", Brief(text))));
    }
    Ok(signed.size.into())
}

const HELP: &str = "Lifetimes of credentials of roles of type iam_user. Both take effect when a credential is issued and when its lease
is renewed. STS credentials have the lifetime that was asked for, or the role's default_sts_ttl.";
