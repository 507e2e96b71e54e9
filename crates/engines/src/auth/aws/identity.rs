//! `config/identity`: what a login tells of whom it proved, and by which name it is known.

use std::sync::Arc;

use daypass_base::Brief;
use daypass_base::lenient::CommaList;
use daypass_sdk::{Cx, Endpoint, Error, Json, Operation, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::AwsAuth;

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct IdentityConfig {
    pub(super) iam_alias: String,
    pub(super) iam_metadata: Vec<String>,
    pub(super) ec2_alias: String,
    pub(super) ec2_metadata: Vec<String>,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        let usual = || DEFAULT_METADATA.map(str::to_owned).to_vec();
        Self { iam_alias: "role_id".to_owned(), iam_metadata: usual(), ec2_alias: "role_id".to_owned(), ec2_metadata: usual() }
    }
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

/// The fields of `config/identity`; what is absent stays as it is.
#[derive(Deserialize, JsonSchema)]
struct Fields {
    /// What names the entity of an IAM login: `role_id`, `unique_id`, `canonical_arn` or `full_arn`. Example: `unique_id`.
    iam_alias: Option<String>,
    /// What IAM logins tell; `default` stands for `account_id` and `auth_type`. Example: `default,canonical_arn`.
    iam_metadata: Option<CommaList>,
    /// What names the entity of an EC2 login: `role_id`, `instance_id` or `image_id`. Example: `role_id`.
    ec2_alias: Option<String>,
    /// What EC2 logins tell; `default` stands for `account_id` and `auth_type`. Example: `default,region`.
    ec2_metadata: Option<CommaList>,
}

pub(super) fn endpoint() -> Endpoint<AwsAuth> {
    Endpoint::at([KEY])
        .summary("Configure what logins tell and how their entities are named.")
        .help("The metadata go with the token; policies and session tags of the aws secrets engine can use them.")
        .on(Operation::Read, read)
        .on(Operation::Update, write)
}

/// Reads the configuration, or its defaults.
pub(super) async fn find(cx: &Cx) -> Result<IdentityConfig> {
    Ok(cx.store.get_json(KEY).await?.unwrap_or_default())
}

async fn read(_: Arc<AwsAuth>, cx: Cx, _: NoParams) -> Result<Json<Value>> {
    let config = find(&cx).await?;
    Ok(Json(json!({
        "iam_alias": config.iam_alias,
        "iam_metadata": config.iam_metadata,
        "ec2_alias": config.ec2_alias,
        "ec2_metadata": config.ec2_metadata,
    })))
}

/// Fails with `BadRequest` for a name that is none of those allowed.
async fn write(_: Arc<AwsAuth>, cx: Cx, fields: Fields) -> Result<()> {
    let decide = |config: Option<IdentityConfig>| {
        let mut config = config.unwrap_or_default();
        if let Some(alias) = &fields.iam_alias {
            config.iam_alias = one_of("iam_alias", alias, &IAM_ALIASES)?;
        }
        if let Some(alias) = &fields.ec2_alias {
            config.ec2_alias = one_of("ec2_alias", alias, &EC2_ALIASES)?;
        }
        if let Some(names) = &fields.iam_metadata {
            config.iam_metadata = metadata("iam_metadata", &names.0, &IAM_METADATA)?;
        }
        if let Some(names) = &fields.ec2_metadata {
            config.ec2_metadata = metadata("ec2_metadata", &names.0, &EC2_METADATA)?;
        }
        Ok(config)
    };
    cx.store.change(KEY, decide).await.map(drop)
}

fn one_of(field: &str, given: &str, allowed: &[&str]) -> Result<String> {
    if allowed.contains(&given) {
        return Ok(given.to_owned());
    }
    Err(Error::bad_request(format!("{field} of {:?} not in set of allowed values: [{}]", Brief(given), allowed.join(" "))))
}

fn metadata(field: &str, given: &[String], addable: &[&str]) -> Result<Vec<String>> {
    let mut out: Vec<String> = Vec::new();
    for name in given {
        let names = if name == "default" {
            DEFAULT_METADATA.map(str::to_owned).to_vec()
        } else if DEFAULT_METADATA.contains(&name.as_str()) || addable.contains(&name.as_str()) {
            vec![name.clone()]
        } else {
            let allowed = [&DEFAULT_METADATA, addable].concat().join(" ");
            let name = Brief(name);
            return Err(Error::bad_request(format!("{field} contains an unrecognized field {name:?}, available fields: [{allowed}]")));
        };
        for name in names {
            if !out.contains(&name) {
                out.push(name);
            }
        }
    }
    Ok(out)
}

const KEY: &str = "config/identity";
const IAM_ALIASES: [&str; 4] = ["role_id", "unique_id", "canonical_arn", "full_arn"];
const EC2_ALIASES: [&str; 3] = ["role_id", "instance_id", "image_id"];
const DEFAULT_METADATA: [&str; 2] = ["account_id", "auth_type"];
const IAM_METADATA: [&str; 7] = [
    "canonical_arn",
    "client_arn",
    "client_user_id",
    "inferred_aws_region",
    "inferred_entity_id",
    "inferred_entity_type",
    "inferred_hostname",
];
const EC2_METADATA: [&str; 3] = ["ami_id", "instance_id", "region"];
