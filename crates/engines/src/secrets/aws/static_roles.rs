//! `static-roles` and `static-creds`: keys of existing IAM users that are rotated.
//!
//! Not there yet: fields are checked as they will be, and a sound request is told so.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Keys, Operation, Reply, Result, Seconds};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Aws;

/// Shortest rotation period.
const ROTATION_PERIOD_MIN: Seconds = Seconds(60);

pub(super) fn endpoints() -> Vec<Endpoint<Aws>> {
    vec![
        Endpoint::at(["static-roles/?"]).summary("List the static roles.").help(HELP).on(Operation::List, list_static_roles),
        Endpoint::at(["static-roles/{name@}"])
            .summary("Manage rotated access keys of existing IAM users.")
            .help(HELP)
            .on(Operation::Read, read_static_role)
            .on(Operation::Update, write_static_role)
            .on(Operation::Delete, delete_static_role),
        Endpoint::at(["static-creds/{name@}"]).summary("Read the keys of a static role.").help(HELP).on(Operation::Read, read_static_role),
    ]
}

/// No fields.
#[derive(Deserialize, JsonSchema)]
struct Nothing {}

/// A static role by its name.
#[derive(Deserialize, JsonSchema)]
struct Named {
    /// Name of the static role. Example: `legacy-ci`.
    #[expect(dead_code, reason = "declared for the documents; there are no static roles yet")]
    name: String,
}

/// The fields of a static role.
#[derive(Deserialize, JsonSchema)]
struct Fields {
    /// Name of the static role. Example: `legacy-ci`.
    name: String,
    /// Name of the IAM user. Example: `ci`.
    username: Option<String>,
    /// Time between rotations, in seconds or as a duration, at least 60 s. Example: `24h`.
    rotation_period: Option<Seconds>,
}

async fn list_static_roles(_: Arc<Aws>, _: Cx, _: Nothing) -> Result<Keys> {
    Ok(Keys(Vec::new()))
}

async fn read_static_role(_: Arc<Aws>, _: Cx, _: Named) -> Result<Reply> {
    Err(Error::not_found())
}

async fn delete_static_role(_: Arc<Aws>, _: Cx, _: Named) -> Result<()> {
    Ok(())
}

async fn write_static_role(_: Arc<Aws>, _: Cx, params: Fields) -> Result<()> {
    if params.username.is_none_or(|name| name.is_empty()) {
        return Err(Error::bad_request("missing \"username\" parameter"));
    }
    let period = params.rotation_period.ok_or_else(|| Error::bad_request("missing \"rotation_period\" parameter"))?;
    if period < ROTATION_PERIOD_MIN {
        return Err(Error::failed("role rotation period out of range: must be greater than 60.00 seconds"));
    }
    let name = params.name;
    Err(Error::bad_request(format!(
        "static role {name:?} cannot be made: this version has no static roles yet; use a role of type assumed_role or session_token"
    )))
}

const HELP: &str = "A static role keeps and rotates the access keys of one existing IAM user. This version does not have it yet.";
