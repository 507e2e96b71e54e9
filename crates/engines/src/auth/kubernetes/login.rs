//! `login`: from the token of a service account to one of ours, and how long that token lives on.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_base::Brief;
use daypass_idp::IdpError;
use daypass_idp::kubernetes::{self, Account, Cluster};
use daypass_sdk::{Cx, Endpoint, Error, Kind, Login, Operation, Renewal, Result, Secret, from_json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::config::{self, Config};
use super::role::{Admission, Role};
use super::selector::Selector;
use super::{Kubernetes, roles};
use crate::auth::jose::key;
use crate::auth::jose::token::{Token, Verified};
use crate::auth::{cidr, crowded};

/// What a pod presents.
#[derive(Deserialize, JsonSchema)]
struct LoginParams {
    /// The role to log in to. Example: `ci`.
    #[serde(default)]
    role: String,
    /// The token of the service account, at most 64 KiB; pods find it at `/var/run/secrets/kubernetes.io/serviceaccount/token`.
    jwt: Option<Secret<String>>,
}

/// What a token remembers of its login.
#[derive(Serialize, Deserialize)]
struct Remembered {
    role: String,
}

pub(super) fn endpoint() -> Endpoint<Kubernetes> {
    Endpoint::at(["login"])
        .summary("Log in with the token of a Kubernetes service account.")
        .help("The cluster's API server is asked whose the token is. Answers with a token that has the policies and lifetimes of the role.")
        .on_proof()
        .on(Operation::Update, login)
}

/// Fails with `BadRequest` for what is missing, with `TooMany` where too many wait for the API server, and with `Denied` for whoever is not let in, mostly
/// without saying why: the log does.
async fn login(kubernetes: Arc<Kubernetes>, cx: Cx, params: LoginParams) -> Result<Login> {
    if params.role.is_empty() {
        return Err(Error::bad_request("missing role"));
    }
    // One out of a file ends with its line; the API server gets it without.
    let jwt = params.jwt.map(|jwt| Secret::new(jwt.expose().trim().to_owned())).filter(|jwt| !jwt.is_empty());
    let jwt = jwt.ok_or_else(|| Error::bad_request("missing jwt"))?;
    let role = roles::find(&cx, &params.role).await?;
    let role = role.ok_or_else(|| Error::bad_request(format!("invalid role name {:?}", Brief(&params.role))))?;
    if !cidr::allowed(&role.token.bound_cidrs, cx.request.remote) {
        return Err(Error::denied());
    }
    let config = config::find(&cx).await?.ok_or_else(|| Error::failed("could not load backend configuration").bare())?;
    // Taken apart here, and sent to the API server; repeated nowhere.
    let token = Token::parse(jwt.expose()).map_err(refused)?;
    let audiences = audiences(&role, &token).map_err(refused)?;
    let cluster = config.cluster(&kubernetes, &jwt);
    let (account, claims) = vouched(&kubernetes, &config, &cluster, token, &jwt, &audiences).await?;
    admitted(&kubernetes, &role, &cluster, &account).await?;
    // As it is stored: whatever goes by the role of a login has to find one role, however it was spelled.
    Ok(made(&role, roles::folded(&params.role), account, &claims))
}

/// What the API server is asked about: the audience that the role wants, else those that the token claims, so that the server judges them.
fn audiences(role: &Role, token: &Token<'_>) -> Result<Vec<String>, String> {
    let claimed = token.claimed_audiences()?;
    if role.audience.trim().is_empty() {
        return Ok(claimed);
    }
    if claimed.contains(&role.audience) {
        return Ok(vec![role.audience.clone()]);
    }
    Err("invalid audience (aud) claim: audience claim does not match any expected audience".to_owned())
}

/// Whose token it is, by the API server, and what it says of itself, which is believed then.
async fn vouched(
    kubernetes: &Kubernetes,
    config: &Config,
    cluster: &Cluster,
    token: Token<'_>,
    jwt: &Secret<String>,
    audiences: &[String],
) -> Result<(Account, Verified)> {
    let keys = config.keys().map_err(|why| Error::internal(format!("the stored configuration cannot be used: {why}")))?;
    if !keys.is_empty() && key::verify(&keys, &token).is_none() {
        return Err(told("no known key successfully validated the token signature"));
    }
    let reviewed = kubernetes::review(kubernetes.idp.as_ref(), cluster, jwt, audiences).await;
    let account = reviewed.map_err(|error| unasked(&error).unwrap_or_else(|| told(&error.to_string())))?;
    let account = account.ok_or_else(|| told("service account jwt not valid"))?;
    let claims = token.reviewed(&account);
    if claims.text("sub") != format!("system:serviceaccount:{}:{}", account.namespace, account.name) {
        return Err(told("the token's subject and the API server's answer are not the same account"));
    }
    if config.wanted_issuer().is_some_and(|issuer| issuer != claims.text("iss")) {
        return Err(refused("invalid issuer (iss) claim".to_owned()));
    }
    Ok((account, claims))
}

async fn admitted(kubernetes: &Kubernetes, role: &Role, cluster: &Cluster, account: &Account) -> Result<()> {
    match role.admits(account) {
        Admission::In => Ok(()),
        Admission::NotTheName => Err(refused("service account name not authorized".to_owned())),
        Admission::NotTheNamespace => Err(refused("namespace not authorized".to_owned())),
        Admission::IfLabelled => {
            let labels = kubernetes::namespace_labels(kubernetes.idp.as_ref(), cluster, &account.namespace).await;
            let labels = labels.map_err(|error| {
                if let Some(later) = unasked(&error) {
                    return later;
                }
                tracing::info!(%error, "the labels of a namespace could not be read");
                refused("namespace not authorized".to_owned())
            })?;
            let fits = Selector::parse(&role.bound_service_account_namespace_selector).is_some_and(|selector| selector.fits(&labels));
            if fits { Ok(()) } else { Err(refused("namespace not authorized".to_owned())) }
        }
    }
}

fn made(role: &Role, name: String, account: Account, claims: &Verified) -> Login {
    let internal = Some(json!(Remembered { role: name.clone() }));
    let (alias, display_name) = (role.alias(&account), format!("{}-{}", account.namespace, account.name));
    let metadata = BTreeMap::from([
        ("role".to_owned(), name),
        ("service_account_name".to_owned(), account.name),
        ("service_account_namespace".to_owned(), account.namespace),
        // Tokens of pods are in no secret.
        ("service_account_secret_name".to_owned(), claims.text("kubernetes.io/serviceaccount/secret.name").to_owned()),
        ("service_account_uid".to_owned(), account.uid),
    ]);
    Login { metadata, display_name, alias, internal, ..role.token.login() }
}

/// A refusal that the caller may know the reason of: 403 with this text.
fn refused(why: String) -> Error {
    Error::new(Kind::Denied, why).bare()
}

/// What is no refusal: too many wait for the API server already. The address of that is nobody's business.
fn unasked(error: &IdpError) -> Option<Error> {
    crowded::told(error, "the API server")
}

/// A refusal of which the log alone has the reason.
fn told(why: &str) -> Error {
    tracing::info!(why, "a login is refused: lookup failed");
    Error::denied()
}

/// Fails with `BadRequest` when the role is gone: the token keeps the end it has.
pub(super) async fn renew(cx: Cx, internal: Value) -> Result<Renewal> {
    let Remembered { role } = from_json("the login of a token", internal.to_string().as_bytes())?;
    let found = roles::find(&cx, &role).await?;
    let found = found.ok_or_else(|| Error::bad_request(format!("role {role} does not exist during renewal")))?;
    Ok(found.token.renewal())
}
