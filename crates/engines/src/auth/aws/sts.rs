//! `config/sts/`: IAM roles of other accounts, to be assumed before anything is asked there.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Json, Keys, Operation, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::AwsAuth;

/// What is stored for an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StsRole {
    pub(super) sts_role: String,
    #[serde(default)]
    pub(super) external_id: String,
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

/// Which account.
#[derive(Deserialize, JsonSchema)]
struct AccountParams {
    /// Number of the account. Example: `111111111111`.
    account_id: String,
}

/// The fields of an account.
#[derive(Deserialize, JsonSchema)]
struct Fields {
    /// Number of the account. Example: `111111111111`.
    account_id: String,
    /// ARN of the IAM role to assume there. Example: `arn:aws:iam::111111111111:role/daypass-reads-iam`.
    sts_role: Option<String>,
    /// External id that the role's trust policy asks for. Example: `acme-42`.
    external_id: Option<String>,
}

pub(super) fn list_endpoint() -> Endpoint<AwsAuth> {
    Endpoint::at(["config/sts/?"]).summary("List accounts with a role to assume.").on(Operation::List, list)
}

pub(super) fn endpoint() -> Endpoint<AwsAuth> {
    Endpoint::at(["config/sts/{account_id}"])
        .summary("The IAM role to assume before principals of an account are looked up.")
        .help("Principals of other accounts than the server's own are looked up with this role; it needs iam:GetRole and iam:GetUser.")
        .exists(exists)
        .on(Operation::Read, read)
        .on(Operation::Update, write)
        .on(Operation::Delete, delete)
}

/// Reads the role of an account.
pub(super) async fn find(cx: &Cx, account: &str) -> Result<Option<StsRole>> {
    cx.store.get_json(&row(account)).await
}

async fn list(_: Arc<AwsAuth>, cx: Cx, _: NoParams) -> Result<Keys> {
    Ok(Keys(cx.list(ROWS).await?))
}

async fn exists(_: Arc<AwsAuth>, cx: Cx, params: AccountParams) -> Result<bool> {
    Ok(find(&cx, &params.account_id).await?.is_some())
}

async fn read(_: Arc<AwsAuth>, cx: Cx, params: AccountParams) -> Result<Json<Value>> {
    let found = find(&cx, &params.account_id).await?.ok_or_else(Error::not_found)?;
    Ok(Json(json!({ "sts_role": found.sts_role, "external_id": found.external_id })))
}

/// Fails with `BadRequest` without a role.
async fn write(engine: Arc<AwsAuth>, cx: Cx, fields: Fields) -> Result<()> {
    let decide = |stored: Option<StsRole>| {
        let stored = stored.unwrap_or_default();
        let stored = StsRole {
            sts_role: fields.sts_role.clone().unwrap_or(stored.sts_role),
            external_id: fields.external_id.clone().unwrap_or(stored.external_id),
        };
        if stored.sts_role.is_empty() {
            return Err(Error::bad_request("sts role cannot be empty"));
        }
        if stored.sts_role.len() > TEXT_MAX || stored.external_id.len() > TEXT_MAX {
            return Err(Error::bad_request(format!("sts_role and external_id may have at most {TEXT_MAX} bytes")));
        }
        Ok(stored)
    };
    cx.store.change(&row(&fields.account_id), decide).await?;
    engine.full_arns.forget();
    Ok(())
}

async fn delete(engine: Arc<AwsAuth>, cx: Cx, params: AccountParams) -> Result<()> {
    engine.full_arns.forget();
    cx.store.delete(&row(&params.account_id)).await
}

fn row(account: &str) -> String {
    format!("{ROWS}{account}")
}

const ROWS: &str = "config/sts/";
const TEXT_MAX: usize = 2048;
