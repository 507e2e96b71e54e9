//! `users/`: who may log in, with which password, and what their tokens are.

use std::sync::Arc;

use daypass_base::lenient::CommaList;
use daypass_sdk::{Cx, Endpoint, Error, Keys, Operation, Reply, Result, Seconds, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Userpass;
use super::password::check_brought;
use super::stand_in::Brought;
use crate::auth::token_fields::{TokenFields, TokenParams, With, bound_networks, older_name};

/// A stored user.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct User {
    /// The hash of the password.
    hash: String,
    pub(super) token: TokenFields,
    /// Which older names were used, and are shown again.
    #[serde(default)]
    older: OlderNames,
}

#[derive(Default, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "one flag for each name that a client may have used")]
struct OlderNames {
    bound_cidrs: bool,
    max_ttl: bool,
    policies: bool,
    ttl: bool,
}

/// Which user.
#[derive(Deserialize, JsonSchema)]
struct NameParams {
    /// Name of the user; case does not matter.
    username: String,
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

/// A user's own fields.
#[derive(Deserialize, JsonSchema)]
struct UserParams {
    /// Name of the user; case does not matter.
    username: String,
    /// The password, at most 4096 bytes.
    password: Option<Secret<String>>,
    /// The bcrypt hash of the password, instead of the password itself.
    password_hash: Option<Secret<String>>,
    /// Older name of `token_policies`.
    policies: Option<CommaList>,
    /// Older name of `token_ttl`.
    ttl: Option<Seconds>,
    /// Older name of `token_max_ttl`.
    max_ttl: Option<Seconds>,
    /// Older name of `token_bound_cidrs`.
    bound_cidrs: Option<CommaList>,
}

pub(super) fn list_endpoint() -> Endpoint<Userpass> {
    Endpoint::at(["users/?"]).summary("List users.").on(Operation::List, list)
}

pub(super) fn endpoint() -> Endpoint<Userpass> {
    Endpoint::at(["users/{username}"])
        .summary("Make, change, read or remove a user.")
        .help("A new user needs a password, or its bcrypt hash. The token fields say what a login of the user gets.")
        .exists(exists)
        .on(Operation::Read, read)
        .on(Operation::Update, write)
        .on(Operation::Delete, delete)
}

pub(super) fn password_endpoint() -> Endpoint<Userpass> {
    Endpoint::at(["users/{username}/password"]).summary("Change a user's password.").on(Operation::Update, set_password)
}

pub(super) fn policies_endpoint() -> Endpoint<Userpass> {
    Endpoint::at(["users/{username}/policies"]).summary("Change a user's policies.").on(Operation::Update, set_policies)
}

/// Reads a user by name. Names are stored in lower case.
pub(super) async fn find(cx: &Cx, name: &str) -> Result<Option<User>> {
    cx.store.get_json(&row(name)).await
}

impl User {
    /// The hash, for a comparison.
    pub(super) fn hash(&self) -> Secret<String> {
        Secret::new(self.hash.clone())
    }
}

async fn list(_: Arc<Userpass>, cx: Cx, _: NoParams) -> Result<Keys> {
    Ok(Keys(cx.list(ROWS).await?))
}

async fn exists(_: Arc<Userpass>, cx: Cx, params: With<UserParams>) -> Result<bool> {
    Ok(cx.store.get(&row(&params.own.username)).await?.is_some())
}

async fn read(_: Arc<Userpass>, cx: Cx, params: NameParams) -> Result<Reply> {
    let user = find(&cx, &params.username).await?.ok_or_else(Error::not_found)?;
    let mut data = Map::new();
    user.token.show(&mut data);
    let older: [(&str, bool, Value); 4] = [
        ("bound_cidrs", user.older.bound_cidrs, json!(user.token.bound_cidrs)),
        ("max_ttl", user.older.max_ttl, json!(user.token.max_ttl)),
        ("policies", user.older.policies, json!(user.token.policies)),
        ("ttl", user.older.ttl, json!(user.token.ttl)),
    ];
    data.extend(older.into_iter().filter(|(_, used, _)| *used).map(|(name, _, value)| (name.to_owned(), value)));
    Ok(Reply::data(data))
}

/// Fails with `BadRequest` for a new user without a password and for token fields that contradict each other.
async fn write(userpass: Arc<Userpass>, cx: Cx, params: With<UserParams>) -> Result<()> {
    let With { own, token } = params;
    let hash = new_hash(&userpass, &cx, &own).await?;
    let decide = |user: Option<User>| {
        let mut user = user.unwrap_or_default();
        if let Some(hash) = &hash {
            // Into the sealed row.
            user.hash.clone_from(hash.expose());
        }
        user.apply(&own, token.clone())?;
        if user.hash.is_empty() {
            return Err(no_password());
        }
        Ok(user)
    };
    cx.store.change(&row(&own.username), decide).await.map(drop)
}

async fn set_password(userpass: Arc<Userpass>, cx: Cx, params: UserParams) -> Result<()> {
    let hash = new_hash(&userpass, &cx, &params).await?;
    let decide = |user: Option<User>| {
        let mut user = user.ok_or_else(no_user)?;
        // Into the sealed row.
        user.hash.clone_from(hash.as_ref().ok_or_else(no_password)?.expose());
        Ok(user)
    };
    cx.store.change(&row(&params.username), decide).await.map(drop)
}

async fn set_policies(_: Arc<Userpass>, cx: Cx, params: With<UserParams>) -> Result<()> {
    let decide = |user: Option<User>| {
        let mut user = user.ok_or_else(no_user)?;
        let policies = older_name(params.token.token_policies.clone(), params.own.policies.clone(), &mut user.older.policies);
        user.token.apply(TokenParams { token_policies: policies, ..TokenParams::default() })?;
        Ok(user)
    };
    cx.store.change(&row(&params.own.username), decide).await.map(drop)
}

async fn delete(_: Arc<Userpass>, cx: Cx, params: NameParams) -> Result<()> {
    cx.store.delete(&row(&params.username)).await
}

impl User {
    fn apply(&mut self, own: &UserParams, mut token: TokenParams) -> Result<()> {
        token.token_policies = older_name(token.token_policies, own.policies.clone(), &mut self.older.policies);
        token.token_ttl = older_name(token.token_ttl, own.ttl, &mut self.older.ttl);
        token.token_max_ttl = older_name(token.token_max_ttl, own.max_ttl, &mut self.older.max_ttl);
        if let Some(networks) = &own.bound_cidrs {
            bound_networks(&networks.0)?;
        }
        token.token_bound_cidrs = older_name(token.token_bound_cidrs, own.bound_cidrs.clone(), &mut self.older.bound_cidrs);
        self.token.apply(token)
    }
}

/// The hash of what the request gives as password, if it gives one.
async fn new_hash(userpass: &Userpass, cx: &Cx, params: &UserParams) -> Result<Option<Secret<String>>> {
    let given = |secret: &Option<Secret<String>>| secret.clone().filter(|secret| !secret.is_empty());
    match (given(&params.password), given(&params.password_hash)) {
        (Some(_), Some(_)) => Err(Error::bad_request("\"password\" and \"password_hash\" cannot be supplied together")),
        (Some(password), None) => userpass.hashing.hash(cx, &password).await.map(Some),
        (None, Some(hash)) => {
            Brought::note(cx, check_brought(&hash)?).await?;
            Ok(Some(hash))
        }
        (None, None) => Ok(None),
    }
}

fn row(name: &str) -> String {
    format!("{ROWS}{}", name.to_lowercase())
}

fn no_user() -> Error {
    Error::failed("username does not exist")
}

fn no_password() -> Error {
    Error::bad_request("\"password\" or \"password_hash\" must be supplied")
}

const ROWS: &str = "user/";
