//! `login`: from a role id and a secret id to a token, and how long that token lives on.

use std::sync::Arc;

use daypass_sdk::{CommitFailure, Cx, Endpoint, Error, Login, Operation, Renewal, Result, Secret, from_json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::role::Role;
use super::roles::{self, RoleIdRow};
use super::secret::{self, FoundSecret, SecretId};
use super::{ATTEMPTS_MAX, AppRole, trimmed};
use crate::auth::cidr;

/// What a machine presents.
#[derive(Deserialize, JsonSchema)]
struct LoginParams {
    /// The role id.
    #[serde(default)]
    role_id: String,
    /// The secret id; not needed where the role does not bind one.
    secret_id: Option<Secret<String>>,
}

/// What a token remembers of its login.
#[derive(Serialize, Deserialize)]
struct Remembered {
    role_name: String,
}

pub(super) fn endpoint() -> Endpoint<AppRole> {
    Endpoint::at(["login"])
        .summary("Log in with a role id and a secret id.")
        .help("Answers with a token that has the policies and lifetimes of the role. A secret id of limited use loses one use.")
        .on_proof()
        .on(Operation::Update, login)
        .on(Operation::Read, login_by_get)
}

/// A login by GET is refused; without a role id with the text that a write gets. Source: recorded fixture `approle-flow`.
async fn login_by_get(_: Arc<AppRole>, _: Cx, params: LoginParams) -> Result<()> {
    Err(if trimmed(&params.role_id).is_empty() { no_alias() } else { Error::wrong_operation().bare() })
}

/// Fails with `BadRequest` for ids that do not belong together, without telling which is wrong; with `Denied` for a secret id whose tokens could be used from
/// nowhere any more.
async fn login(approle: Arc<AppRole>, cx: Cx, params: LoginParams) -> Result<Login> {
    let role_id = trimmed(&params.role_id);
    if role_id.is_empty() {
        return Err(no_alias());
    }
    let way: Option<RoleIdRow> = cx.store.get_json(&roles::role_id_row(&approle, &cx, role_id).await?).await?;
    // Hashed into the name of its row, also where there is no such role.
    let secret = params.secret_id.as_ref().map_or("", |secret| trimmed(secret.expose()));
    let id = approle.ids.id(&cx, secret).await?;
    let Some(RoleIdRow { role_name }) = way else { return Err(nobody(&cx, &id).await?) };
    let (role, used) = if secret.is_empty() {
        let role = roles::find(&cx, &role_name).await?.ok_or_else(wrong)?.role;
        if role.bind_secret_id {
            return Err(Error::bad_request("missing secret_id"));
        }
        (role, None)
    } else {
        use_secret(&cx, &role_name, role_id, &id).await?
    };
    if role.role_id != role_id {
        return Err(wrong());
    }
    from_inside(&cx, &role.secret_id_bound_cidrs, "by CIDR restrictions on the role: %!w(<nil>)")?;
    let mut metadata = used.as_ref().map(|used| used.secret.metadata.clone()).unwrap_or_default();
    metadata.insert("role_name".to_owned(), role_name.clone());
    let mut login = Login { metadata, alias: role.role_id.clone(), internal: Some(json!(Remembered { role_name })), ..role.token.login() };
    if let Some(Used { networks, .. }) = used {
        login.bound_cidrs = networks;
    }
    Ok(login)
}

/// A role id that nobody has is refused with the same work as a wrong secret id: what is read is not there.
async fn nobody(cx: &Cx, id: &str) -> Result<Error> {
    let _nothing = roles::find(cx, "").await?;
    let _nothing = cx.store.get(&secret::row("", id)).await?;
    Ok(wrong())
}

/// A secret id that a login has used.
struct Used {
    secret: SecretId,
    /// Where the token may be used from.
    networks: Vec<String>,
}

/// Takes a use of a secret id, where it is limited; again when another login was faster.
async fn use_secret(cx: &Cx, role_name: &str, role_id: &str, id: &str) -> Result<(Role, Option<Used>)> {
    for _ in 0..ATTEMPTS_MAX {
        let role = roles::find(cx, role_name).await?.ok_or_else(wrong)?.role;
        if role.role_id != role_id {
            return Err(wrong());
        }
        if !role.bind_secret_id {
            return Ok((role, None));
        }
        let now = cx.clock.now();
        let entry = cx.store.get(&secret::row(&role.generation, id)).await?.ok_or_else(wrong)?;
        let found = FoundSecret::of(&role.generation, id, entry)?;
        if found.secret.ended(now) {
            return Err(wrong());
        }
        // Before a use is taken: whoever shows it can do nothing about this refusal, and the secret id is good again once the role's networks are.
        let networks = found.secret.token_networks(&role.token.bound_cidrs).ok_or_else(Error::denied)?;
        if found.secret.num_uses == 0 {
            from_inside(cx, &found.secret.cidr_list, "through CIDR restrictions on the secret ID")?;
            return Ok((role, Some(Used { secret: found.secret, networks })));
        }
        // The use is taken before the network is looked at, as in Vault: whoever stole a secret id cannot try it from many places.
        match cx.store.commit(found.take_use(now)?).await {
            Ok(()) => {
                from_inside(cx, &found.secret.cidr_list, "by CIDR restrictions on the secret ID: %!w(<nil>)")?;
                return Ok((role, Some(Used { secret: found.secret, networks })));
            }
            Err(CommitFailure::Conflict(_)) => {}
            Err(CommitFailure::Error(error)) => return Err(error),
        }
    }
    Err(Error::from(CommitFailure::Conflict(0)))
}

/// Fails with `BadRequest` when the request comes from outside these networks. `how` is Vault's text, which ends in what Go prints for an error
/// that is none: clients and scripts know it so.
fn from_inside(cx: &Cx, networks: &[String], how: &str) -> Result<()> {
    if cidr::allowed(networks, cx.request.remote) {
        return Ok(());
    }
    let source = cx.request.remote.map(|address| address.to_canonical().to_string()).unwrap_or_default();
    Err(Error::bad_request(format!("source address {source:?} unauthorized {how}")))
}

/// Fails with `BadRequest` when the role is gone: the token keeps the end it has.
pub(super) async fn renew(cx: Cx, internal: Value) -> Result<Renewal> {
    let Remembered { role_name } = from_json("the login of a token", internal.to_string().as_bytes())?;
    let found = roles::find(&cx, &role_name).await?;
    let found = found.ok_or_else(|| Error::bad_request(format!("role {role_name:?} does not exist during renewal")))?;
    Ok(found.role.token.renewal())
}

fn wrong() -> Error {
    Error::wrong_credentials("invalid role or secret ID")
}

fn no_alias() -> Error {
    Error::failed("failed to determine alias name from login request").bare()
}
