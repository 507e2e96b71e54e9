//! `map/teams` and `map/users`: which policies names give. The name `default` gives them to all members.

use std::collections::BTreeSet;

use daypass_sdk::{Cx, Endpoint, Error, Keys, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::GitHub;

/// Whose names.
#[derive(Debug, Clone, Copy)]
pub(super) enum Names {
    Teams,
    Users,
}

/// What is stored of a name.
#[derive(Debug, Serialize, Deserialize)]
struct Mapped {
    value: String,
}

/// A team, and its policies.
#[derive(Deserialize, JsonSchema)]
struct TeamParams {
    /// Name or slug of the team; case does not matter. Example: `developers`.
    key: String,
    /// Its policies, with commas between them. Example: `reads,deploys`.
    #[serde(default)]
    #[schemars(extend("x-daypass-list" = "comma"))]
    value: String,
}

/// A user, and the user's policies.
#[derive(Deserialize, JsonSchema)]
struct UserParams {
    /// Name of the user; case does not matter. Example: `octocat`.
    key: String,
    /// The user's policies, with commas between them. Example: `reads,deploys`.
    #[serde(default)]
    #[schemars(extend("x-daypass-list" = "comma"))]
    value: String,
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

pub(super) fn teams_endpoint() -> Endpoint<GitHub> {
    Endpoint::at(["map/teams/?"])
        .summary("List the teams that have policies.")
        .on(Operation::List, |_, cx, _: NoParams| list(cx, Names::Teams))
}

pub(super) fn users_endpoint() -> Endpoint<GitHub> {
    Endpoint::at(["map/users/?"])
        .summary("List the users who have policies.")
        .on(Operation::List, |_, cx, _: NoParams| list(cx, Names::Users))
}

pub(super) fn team_endpoint() -> Endpoint<GitHub> {
    Endpoint::at(["map/teams/{key}"])
        .summary("Say which policies a team's members get, or read or delete that.")
        .help("A team is meant by its name or its slug. What is mapped to \"default\" is everybody's.")
        .on(Operation::Read, |_, cx, params: TeamParams| read(cx, Names::Teams, params.key))
        .on(Operation::Update, |_, cx, params: TeamParams| write(cx, Names::Teams, params.key, params.value))
        .on(Operation::Delete, |_, cx, params: TeamParams| delete(cx, Names::Teams, params.key))
}

pub(super) fn user_endpoint() -> Endpoint<GitHub> {
    Endpoint::at(["map/users/{key}"])
        .summary("Say which policies a user gets, or read or delete that.")
        .help("What is mapped to \"default\" is everybody's.")
        .on(Operation::Read, |_, cx, params: UserParams| read(cx, Names::Users, params.key))
        .on(Operation::Update, |_, cx, params: UserParams| write(cx, Names::Users, params.key, params.value))
        .on(Operation::Delete, |_, cx, params: UserParams| delete(cx, Names::Users, params.key))
}

/// The policies of all who have one of these names, and of everybody.
pub(super) async fn policies(cx: &Cx, names: Names, of: impl Iterator<Item = &str> + Send) -> Result<BTreeSet<String>> {
    let keys: BTreeSet<String> = of.chain(["default"]).filter(|name| is_mappable(name)).map(|name| row(names, name)).collect();
    let keys: Vec<String> = keys.into_iter().collect();
    let mut policies = BTreeSet::new();
    for (key, entry) in keys.iter().zip(cx.store.get_many(&keys).await?) {
        let Some(entry) = entry else { continue };
        let mapped: Mapped = daypass_sdk::from_json(key, &entry.value)?;
        policies.extend(mapped.value.split(',').map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()));
    }
    Ok(policies)
}

async fn list(cx: Cx, names: Names) -> Result<Keys> {
    Ok(Keys(cx.list(names.prefix()).await?))
}

async fn read(cx: Cx, names: Names, key: String) -> Result<Reply> {
    let mapped: Mapped = cx.store.get_json(&row(names, &key)).await?.ok_or_else(Error::not_found)?;
    Ok(Reply::json(json!({ "key": key.to_lowercase(), "value": mapped.value })))
}

async fn write(cx: Cx, names: Names, key: String, value: String) -> Result<()> {
    if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
        return Err(Error::bad_request(format!(
            "a name can have {KEY_BYTES_MAX} bytes and its policies {VALUE_BYTES_MAX}, these have {} and {}",
            key.len(),
            value.len()
        )));
    }
    cx.store.put_json(&row(names, &key), &Mapped { value }).await
}

async fn delete(cx: Cx, names: Names, key: String) -> Result<()> {
    cx.store.delete(&row(names, &key)).await
}

impl Names {
    fn prefix(self) -> &'static str {
        match self {
            Self::Teams => "map/teams/",
            Self::Users => "map/users/",
        }
    }
}

fn row(names: Names, key: &str) -> String {
    format!("{}{}", names.prefix(), key.to_lowercase())
}

/// A name with a slash in it would lead elsewhere; none can be mapped.
fn is_mappable(name: &str) -> bool {
    name.len() <= KEY_BYTES_MAX && !name.contains('/')
}

const KEY_BYTES_MAX: usize = 256;
const VALUE_BYTES_MAX: usize = 16 * 1024;
