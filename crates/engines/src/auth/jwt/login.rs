//! `login`: from a token of another issuer to one of ours, and how long that token lives on.

use std::sync::Arc;

use daypass_base::Brief;
use daypass_sdk::{Cx, Endpoint, Error, Kind, Login, Operation, Renewal, Result, Secret, from_json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Jwt;
use super::claims::Identity;
use super::config::{self, Prepared};
use super::role::Role;
use super::roles;
use crate::auth::cidr;
use crate::auth::jose::token::{Token, Verified};

/// What a machine presents.
#[derive(Deserialize, JsonSchema)]
struct LoginParams {
    /// The role to log in to; by default the configuration's `default_role`.
    #[serde(default)]
    role: String,
    /// The token of the issuer, at most 64 KiB.
    jwt: Option<Secret<String>>,
}

/// What a token remembers of its login.
#[derive(Serialize, Deserialize)]
struct Remembered {
    role: String,
}

pub(super) fn endpoint() -> Endpoint<Jwt> {
    Endpoint::at(["login"])
        .summary("Log in with a token of another issuer, such as a build server.")
        .help("Answers with a token that has the policies and lifetimes of the role, and the mapped claims as metadata.")
        .on_proof()
        .on(Operation::Update, login)
}

/// Fails with `BadRequest` in Vault's words; `Upstream` when the issuer's keys cannot be had, `TooMany` when too many wait for them.
async fn login(jwt: Arc<Jwt>, cx: Cx, params: LoginParams) -> Result<Login> {
    let prepared = config::prepared(&jwt, &cx).await?.ok_or_else(|| Error::bad_request("could not load configuration"))?;
    let name = role_name(&params.role, &prepared)?;
    let unknown = || Error::bad_request(format!("role {:?} could not be found", Brief(&name.to_lowercase())));
    let (name, role) = roles::find_named(&cx, &name).await?.ok_or_else(unknown)?;
    if role.browser {
        return Err(Error::bad_request("role with oidc role_type is not allowed"));
    }
    let token = params.jwt.filter(|token| !token.expose().trim().is_empty()).ok_or_else(|| Error::bad_request("missing token"))?;
    if !cidr::allowed(&role.token.bound_cidrs, cx.request.remote) {
        return Err(Error::denied());
    }
    // Taken apart, and repeated nowhere. One out of a file ends with its line.
    let claims = verified(&jwt, &cx, &prepared, &role, token.expose().trim()).await?;
    let fails = |text: String| Error::bad_request(text);
    if role.bound_audiences.is_empty() && !claims.audiences().map_err(fails)?.is_empty() {
        return Err(Error::bad_request("audience claim found in JWT but no audiences bound to the role"));
    }
    admit(&role, name, &claims)
}

/// The role that is asked for, or the configuration's own.
pub(super) fn role_name(asked: &str, prepared: &Prepared) -> Result<String> {
    let name = if asked.is_empty() { &prepared.config.default_role } else { asked };
    if name.is_empty() { Err(Error::bad_request("missing role")) } else { Ok(name.to_owned()) }
}

/// The claims of a machine's token, once everything about the token itself is right.
async fn verified(jwt: &Jwt, cx: &Cx, prepared: &Prepared, role: &Role, text: &str) -> Result<Verified> {
    let refused = |why: String| Error::bad_request(format!("error validating token: {why}"));
    let token = Token::parse(text).map_err(refused)?;
    if !prepared.takes(token.algorithm) {
        let text = format!("invalid algorithm (alg) header parameter: jwt_supported_algs does not list {}", token.algorithm.name());
        return Err(refused(text));
    }
    let proven = prepared.source.verify(cx, jwt.idp.as_ref(), &token).await.map_err(|why| {
        let text = format!("error validating token: error verifying token signature: {why}");
        why.told(Error::new(Kind::Upstream, text))
    })?;
    let claims = token.believed(proven);
    if prepared.config.issuer().is_some_and(|issuer| issuer != claims.text("iss")) {
        return Err(refused("invalid issuer (iss) claim".to_owned()));
    }
    if !role.bound_subject.is_empty() && role.bound_subject != claims.text("sub") {
        return Err(refused("invalid subject (sub) claim".to_owned()));
    }
    claims.is_for(&role.bound_audiences).map_err(refused)?;
    claims.holds(cx.clock.now(), role.leeways()).map_err(refused)?;
    claims.is_fresh(cx.clock.now(), role.max_age, role.leeways()).map_err(refused)?;
    Ok(claims)
}

/// What a role makes of verified claims.
pub(super) fn admit(role: &Role, role_name: String, claims: &Verified) -> Result<Login> {
    let Identity { user, mut metadata, groups } = role.reading().of(claims).map_err(Error::bad_request)?;
    let bound = claims.has(&role.bound_claims, role.matching());
    bound.map_err(|why| Error::bad_request(format!("error validating claims: {why}")))?;
    metadata.insert("role".to_owned(), role_name.clone());
    let internal = Some(json!(Remembered { role: role_name }));
    Ok(Login { metadata, display_name: user.clone(), alias: user, groups, internal, ..role.token.login() })
}

/// Fails with `BadRequest` when the role is gone: the token keeps the end it has.
pub(super) async fn renew(cx: Cx, internal: Value) -> Result<Renewal> {
    let Remembered { role } = from_json("the login of a token", internal.to_string().as_bytes())?;
    let found = roles::find_stored(&cx, &role).await?;
    let found = found.ok_or_else(|| Error::bad_request(format!("role {role} does not exist during renewal")))?;
    Ok(found.token.renewal())
}
