//! `login`: from a personal access token to one of ours, and how long that token lives on.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_idp::IdpError;
use daypass_idp::github::{self, Api, User};
use daypass_sdk::{Cx, Endpoint, Error, Login, Operation, Renewal, Result, Secret, from_json, into_the_sealed_store};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::GitHub;
use super::config::{self, Config};
use super::maps::{self, Names};
use crate::auth::token_fields::same_policies;
use crate::auth::{cidr, crowded};

/// What a person presents.
#[derive(Deserialize, JsonSchema)]
struct LoginParams {
    /// A personal access token of the user, with the scope `read:org`.
    #[serde(default)]
    token: Secret<String>,
}

/// What a token remembers of its login.
#[derive(Serialize, Deserialize)]
struct Remembered {
    /// Asked again with at each renewal.
    #[serde(serialize_with = "into_the_sealed_store")]
    token: Secret<String>,
    user_id: u64,
    policies: Vec<String>,
}

/// What GitHub says of a token.
struct Verified {
    user: User,
    /// The organisation's present name.
    organization: String,
    /// Names and slugs of the user's teams in it.
    teams: Vec<String>,
    policies: Vec<String>,
}

pub(super) fn endpoint() -> Endpoint<GitHub> {
    Endpoint::at(["login"])
        .summary("Log in with a personal access token of GitHub.")
        .help(
            "GitHub is asked whose the token is. Answers with a token that has the policies that the user's name and teams are mapped to.",
        )
        .on_proof()
        .on(Operation::Update, login)
}

/// Fails with `BadRequest` without a configuration, for a token that GitHub does not take and for users who are not in the organisation;
/// `Failed` when GitHub cannot be asked.
async fn login(engine: Arc<GitHub>, cx: Cx, params: LoginParams) -> Result<Login> {
    let config = config::find(&cx).await?.ok_or_else(|| Error::bad_request("configuration has not been set"))?;
    if params.token.is_empty() {
        return Err(Error::bad_request("missing token"));
    }
    if !cidr::allowed(&config.token.bound_cidrs, cx.request.remote) {
        return Err(Error::denied());
    }
    let Verified { user, organization, teams, policies } = verified(&engine, &cx, &config, &params.token).await?;
    let remembered = Remembered { token: params.token, user_id: user.id, policies: policies.clone() };
    Ok(Login {
        policies,
        metadata: BTreeMap::from([("org".to_owned(), organization), ("username".to_owned(), user.login.clone())]),
        display_name: user.login.clone(),
        alias: user.login,
        groups: teams,
        internal: Some(json!(remembered)),
        ..config.token.login()
    })
}

async fn verified(engine: &GitHub, cx: &Cx, config: &Config, token: &Secret<String>) -> Result<Verified> {
    // It would end the header that it goes into, or begin another.
    // Looked at for its form, and sent to GitHub; repeated nowhere.
    if token.expose().len() > TOKEN_BYTES_MAX || !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::bad_request(format!("the token is none of GitHub's: they have {TOKEN_BYTES_MAX} printable characters at most")));
    }
    let (idp, api) = (engine.idp.as_ref(), Api { base: config.base(), token: Some(token) });
    let user = github::user(idp, &api).await.map_err(told)?;
    let organization = github::membership(idp, &api, config.organization_id).await.map_err(told)?;
    let organization = organization.ok_or_else(|| Error::bad_request("user is not part of required org"))?;
    let teams = github::teams(idp, &api, config.organization_id).await.map_err(told)?;
    let mut names: Vec<String> = teams.into_iter().flat_map(|team| [team.name, team.slug]).collect();
    names.sort_unstable();
    names.dedup();
    let mut policies = maps::policies(cx, Names::Teams, names.iter().map(String::as_str)).await?;
    policies.extend(maps::policies(cx, Names::Users, [user.login.as_str()].into_iter()).await?);
    policies.extend(config.token.policies.iter().cloned());
    Ok(Verified { user, organization: organization.login, teams: names, policies: policies.into_iter().collect() })
}

/// A token that GitHub does not know is the caller's affair; all else is not. A 403 says nothing of the token for certain: who asks too often gets it too.
/// Who comes again later may find room.
fn told(error: IdpError) -> Error {
    if let Some(later) = crowded::told(&error, "GitHub") {
        return later;
    }
    match error {
        IdpError::Refused { status: 401, .. } => Error::bad_request(format!("GitHub does not take the token: {error}")),
        IdpError::Refused { status: 403, .. } => {
            Error::failed(format!("{error}: it limits how often it is asked, or the token may not say whose it is (it needs read:org)"))
                .bare()
        }
        other => Error::failed(other.to_string()).bare(),
    }
}

/// Fails with `BadRequest` when the user is not in the organisation any more, or would get other policies by now: the token keeps the end it
/// has. `Failed` when GitHub cannot be asked: it may be soon.
pub(super) async fn renew(engine: Arc<GitHub>, cx: Cx, internal: Value) -> Result<Renewal> {
    let remembered: Remembered = from_json("the login of a token", internal.to_string().as_bytes())?;
    let config = config::find(&cx).await?.ok_or_else(|| Error::bad_request("configuration has not been set"))?;
    let found = verified(&engine, &cx, &config, &remembered.token).await?;
    if found.user.id != remembered.user_id {
        return Err(Error::bad_request("the access token is another user's by now"));
    }
    if !same_policies(&found.policies, &remembered.policies) {
        return Err(Error::bad_request("policies do not match"));
    }
    Ok(Renewal { groups: Some(found.teams), ..config.token.renewal() })
}

const TOKEN_BYTES_MAX: usize = 1024;
