//! `login/`: from a name and a password to a token, and how long that token lives on.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Login, Operation, Renewal, Result, Secret, from_json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::stand_in::Brought;
use super::{Userpass, users};
use crate::auth::token_fields::same_policies;

/// Who wants to log in.
#[derive(Deserialize, JsonSchema)]
struct LoginParams {
    /// Name of the user; case does not matter.
    username: String,
    /// The user's password.
    password: Option<Secret<String>>,
}

/// What a token remembers of its login.
#[derive(Serialize, Deserialize)]
struct Remembered {
    username: String,
    policies: Vec<String>,
}

pub(super) fn endpoint() -> Endpoint<Userpass> {
    Endpoint::at(["login/{username}"])
        .summary("Log in with a user name and a password.")
        .help("Answers with a token that has the policies and lifetimes of the user.")
        .on_proof()
        .on(Operation::Update, login)
}

/// Fails with `BadRequest` for a wrong password and for an unknown user alike, and with `TooMany` where no password is looked at because too many are already.
async fn login(userpass: Arc<Userpass>, cx: Cx, params: LoginParams) -> Result<Login> {
    let password = params.password.filter(|password| !password.is_empty()).ok_or_else(|| Error::bad_request("invalid credentials"))?;
    let name = params.username.to_lowercase();
    let user = users::find(&cx, &name).await?;
    let instead = Brought::read(&cx).await?.cost_for(&name);
    let fits = userpass.hashing.verify(&cx, user.as_ref().map(users::User::hash), instead, &password).await?;
    let Some(user) = user.filter(|_| fits) else { return Err(Error::wrong_credentials("invalid username or password")) };
    let remembered = Remembered { username: name.clone(), policies: user.token.policies.clone() };
    Ok(Login {
        metadata: BTreeMap::from([("username".to_owned(), name.clone())]),
        display_name: name.clone(),
        alias: name,
        internal: Some(json!(remembered)),
        ..user.token.login()
    })
}

/// Fails with `NotFound` when the user is gone, with `BadRequest` when the user's policies were changed: the token keeps the end it has.
pub(super) async fn renew(cx: Cx, internal: Value) -> Result<Renewal> {
    let remembered: Remembered = from_json("the login of a token", internal.to_string().as_bytes())?;
    let user = users::find(&cx, &remembered.username).await?.ok_or_else(Error::not_found)?;
    if !same_policies(&user.token.policies, &remembered.policies) {
        return Err(Error::bad_request("policies have changed, not renewing"));
    }
    Ok(user.token.renewal())
}
