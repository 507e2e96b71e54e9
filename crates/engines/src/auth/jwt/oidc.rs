//! `oidc/`: people log in on the provider's page. `auth_url` begins it, `callback` ends it with a token.
//!
//! Every login has a state (chooses the login, single use), a nonce (ties the provider's token to it), and a challenge (RFC 7636, always S256:
//! whoever steals the code cannot use it). A client that sends a nonce of its own at the beginning must show it again at the end.

use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use daypass_idp::oidc::{self, Exchange, Provider};
use daypass_idp::percent_encoded;
use daypass_sdk::{Cx, Endpoint, Error, Json, Login, Operation, Outcome, Result, Secret};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Jwt;
use super::config::{self, Config, Prepared};
use super::keys::Trouble;
use super::login::{admit, role_name};
use super::pending::{Crowd, Flow, Post, Posted};
use super::role::Role;
use super::roles;
use crate::auth::cidr;
use crate::auth::jose::token::{TOKEN_BYTES_MAX, Token, Verified};

/// How a login begins.
#[derive(Deserialize, JsonSchema)]
#[serde(default)]
#[derive(Default)]
struct BeginParams {
    /// The role to log in to; by default the configuration's `default_role`.
    role: String,
    /// Where the provider shall send the person back to; the role must allow it: `http://localhost:8250/oidc/callback`. At most 2048 bytes.
    redirect_uri: String,
    /// Anything random; the callback must show it again. At most 512 bytes.
    client_nonce: Secret<String>,
}

/// What the provider sends back.
#[derive(Deserialize, JsonSchema)]
#[serde(default)]
#[derive(Default)]
struct CallbackParams {
    /// Says which login this is.
    state: String,
    /// The provider's code; none where the provider has posted it already. At most 8 KiB where it is posted.
    code: Option<Secret<String>>,
    /// The provider's token, where it sends one by `form_post`. At most 64 KiB.
    id_token: Option<Secret<String>>,
    /// What the login began with.
    client_nonce: Secret<String>,
}

pub(super) fn begin_endpoint() -> Endpoint<Jwt> {
    Endpoint::at(["oidc/auth_url"])
        .summary("Begin a login on the provider's page.")
        .help("Answers with the page's URL, good for five minutes; with an empty one when there is no such role or the role does not allow the redirect.")
        .public()
        .on(Operation::Update, begin)
}

pub(super) fn callback_endpoint() -> Endpoint<Jwt> {
    Endpoint::at(["oidc/callback"])
        .summary("End a login on the provider's page.")
        .help(
            "A read exchanges the provider's code for a token of ours; it works once. A write takes what a provider posts itself (form_post), and \
             the read that follows needs no code.",
        )
        .on_proof()
        .on(Operation::Read, callback)
        .on(Operation::Update, posted)
}

/// Fails with `BadRequest` where the mount has no such logins; otherwise strangers learn nothing.
async fn begin(jwt: Arc<Jwt>, cx: Cx, params: BeginParams) -> Result<Json<Value>> {
    let prepared = config::prepared(&jwt, &cx).await?.ok_or_else(|| Error::bad_request("could not load configuration"))?;
    if !prepared.config.has_browser_flow() {
        return Err(Error::bad_request("OIDC login is not configured for this mount"));
    }
    let name = role_name(&params.role, &prepared)?;
    if params.redirect_uri.is_empty() {
        return Err(Error::bad_request("missing redirect_uri"));
    }
    check_length("redirect_uri", &params.redirect_uri, REDIRECT_URI_BYTES_MAX)?;
    // Only its length is looked at.
    check_length("client_nonce", params.client_nonce.expose(), CLIENT_NONCE_BYTES_MAX)?;
    let url = match roles::find_named(&cx, &name).await? {
        Some((name, role)) if role.browser && allows(&role.allowed_redirect_uris, &params.redirect_uri) => {
            match prepared.source.provider(&cx, jwt.idp.as_ref()).await {
                Ok(provider) => started(&jwt, &cx, &prepared.config, &role, &provider, Beginning { name, params }),
                Err(trouble @ Trouble::Crowded(_)) => return Err(trouble.told(Error::bad_request(trouble.to_string()))),
                Err(trouble) => {
                    tracing::warn!(mount = cx.mount.path, %trouble, "the provider cannot be asked about itself");
                    String::new()
                }
            }
        }
        _ => String::new(),
    };
    Ok(Json(json!({ "auth_url": url })))
}

struct Beginning {
    name: String,
    params: BeginParams,
}

/// Remembers a login and gives the address of the provider's page.
fn started(jwt: &Jwt, cx: &Cx, config: &Config, role: &Role, provider: &Provider, begun: Beginning) -> String {
    let Some(page) = &provider.authorization else { return String::new() };
    let form_post = config.oidc_response_mode == "form_post";
    let mut redirect_uri = begun.params.redirect_uri;
    if form_post {
        // The provider posts to the API, not to a page of the UI.
        redirect_uri = redirect_uri.replacen("/ui/vault/", "/v1/", 1);
    }
    let (state, nonce) = (HEXLOWER.encode(&cx.entropy.bytes::<20>()), HEXLOWER.encode(&cx.entropy.bytes::<20>()));
    let verifier = Secret::new(BASE64URL_NOPAD.encode(&cx.entropy.bytes::<32>()));
    // Hashed: the provider gets the verifier itself with the code.
    let challenge = BASE64URL_NOPAD.encode(digest::digest(&digest::SHA256, verifier.expose().as_bytes()).as_ref());
    let scopes: Vec<&str> = std::iter::once("openid").chain(role.oidc_scopes.iter().map(String::as_str)).collect();
    let kinds: Vec<&str> = ["code", "id_token"].into_iter().filter(|kind| config.asks_for(kind)).collect();
    let mut pairs = vec![
        ("client_id", config.oidc_client_id.clone()),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256".to_owned()),
        ("nonce", nonce.clone()),
        ("redirect_uri", redirect_uri.clone()),
        ("response_type", kinds.join(" ")),
        ("scope", scopes.join(" ")),
        ("state", state.clone()),
    ];
    if form_post {
        pairs.push(("response_mode", "form_post".to_owned()));
    }
    if !role.max_age.is_zero() {
        pairs.push(("max_age", role.max_age.0.to_string()));
    }
    let query: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={}", percent_encoded(&value))).collect();
    let client_nonce = begun.params.client_nonce;
    let flow = Flow { role: begun.name, redirect_uri, nonce, verifier, client_nonce, posted: None };
    if let Some(Crowd { dropped, most_from }) = jwt.pending.begin(cx.clock.elapsed(), cx.request.remote, state, flow) {
        // Whoever is dropped is told that a state is missing, and nothing else says why.
        tracing::warn!(
            mount = cx.mount.path,
            dropped,
            ?most_from,
            "logins on the provider's page had to make room: too many are under way"
        );
    }
    let joint = if page.as_str().contains('?') { '&' } else { '?' };
    format!("{}{joint}{}", page.as_str(), query.join("&"))
}

/// Fails with `BadRequest` in Vault's words.
async fn callback(jwt: Arc<Jwt>, cx: Cx, params: CallbackParams) -> Result<Login> {
    let prepared = config::prepared(&jwt, &cx).await?.ok_or_else(|| failed("Could not load configuration"))?;
    let flow = jwt.pending.take(cx.clock.elapsed(), &params.state).ok_or_else(|| failed("Expired or missing OAuth state."))?;
    // Compared in constant time.
    if !flow.client_nonce.is_empty() && flow.client_nonce != params.client_nonce {
        return Err(Error::bad_request("invalid client_nonce"));
    }
    let role = roles::find_stored(&cx, &flow.role).await?.ok_or_else(|| failed("Role could not be found"))?;
    if !cidr::allowed(&role.token.bound_cidrs, cx.request.remote) {
        return Err(Error::denied());
    }
    let provider = prepared.source.provider(&cx, jwt.idp.as_ref()).await.map_err(|why| failed(&format!("{why}.")))?;
    let (id, access) = tokens(&jwt, &cx, &prepared.config, &provider, &flow, params.code).await?;
    // Taken apart, and repeated nowhere.
    let mut claims = verified(&jwt, &cx, &prepared, &role, id.expose()).await.map_err(|why| unverified(&why))?;
    if claims.text("nonce") != flow.nonce {
        return Err(unverified("Invalid ID token nonce."));
    }
    if let (Some(access), Some(url)) = (access, &provider.userinfo) {
        let more = oidc::userinfo(jwt.idp.as_ref(), url, &prepared.config.discovery_trust(), cx.request.deadline, access).await;
        match more {
            Ok(more) => claims.completed_by(more),
            Err(trouble) => tracing::warn!(mount = cx.mount.path, %trouble, "the provider tells no more about a user"),
        }
    }
    admit(&role, flow.role, &claims)
}

/// The provider's token, and what opens its userinfo endpoint.
async fn tokens(
    jwt: &Jwt,
    cx: &Cx,
    config: &Config,
    provider: &Provider,
    flow: &Flow,
    code: Option<Secret<String>>,
) -> Result<(Secret<String>, Option<Secret<String>>)> {
    // `no_code` is what Vault's UI sends after a form_post; compared, and repeated nowhere.
    let given = code.filter(|code| !code.is_empty() && code.expose() != "no_code");
    let code = match (given, &flow.posted) {
        (Some(code), _) => code,
        (None, Some(Posted::Code(code))) => code.clone(),
        (None, Some(Posted::IdToken(id))) => return Ok((id.clone(), None)),
        (None, Some(Posted::Nothing) | None) => return Err(failed("No code or id_token received.")),
    };
    let given = Exchange {
        code,
        verifier: flow.verifier.clone(),
        redirect_uri: flow.redirect_uri.clone(),
        client_id: config.oidc_client_id.clone(),
        client_secret: config.client_secret(),
    };
    let tokens = oidc::exchange(jwt.idp.as_ref(), provider, &config.discovery_trust(), cx.request.deadline, given).await;
    let tokens = tokens.map_err(|why| failed(&format!("Error exchanging oidc code: {:?}.", why.to_string())))?;
    Ok((tokens.id, tokens.access))
}

/// The claims of a provider's token for us. Source: OpenID Connect Core 1.0, section 3.1.3.7.
async fn verified(jwt: &Jwt, cx: &Cx, prepared: &Prepared, role: &Role, text: &str) -> Result<Verified, String> {
    let token = Token::parse(text)?;
    if !prepared.takes_from_browser(token.algorithm) {
        return Err(format!("invalid algorithm (alg) header parameter: {} is not among jwt_supported_algs", token.algorithm.name()));
    }
    let proven = prepared.source.verify(cx, jwt.idp.as_ref(), &token).await.map_err(|why| why.to_string())?;
    let claims = token.believed(proven);
    if prepared.config.issuer() != Some(claims.text("iss")) {
        return Err("invalid issuer (iss) claim".to_owned());
    }
    let client = prepared.config.oidc_client_id.as_str();
    let audiences = claims.audiences()?;
    if !audiences.contains(&client) {
        return Err("invalid audience (aud) claim: it does not name our oidc_client_id".to_owned());
    }
    let (party, many) = (claims.text("azp"), audiences.len() > 1);
    if (many || !party.is_empty()) && party != client {
        return Err("invalid authorized party (azp) claim: it is not our oidc_client_id".to_owned());
    }
    claims.is_for(&role.bound_audiences)?;
    if !role.bound_subject.is_empty() && role.bound_subject != claims.text("sub") {
        return Err("invalid subject (sub) claim".to_owned());
    }
    if claims.plain("exp").is_none() {
        return Err("no expiration time (exp) claim in token".to_owned());
    }
    claims.holds(cx.clock.now(), role.leeways())?;
    claims.is_fresh(cx.clock.now(), role.max_age, role.leeways())?;
    Ok(claims)
}

/// Keeps what a provider posts. People see the answer, in their browser. Fails with `BadRequest` for what no provider sends, in size.
async fn posted(jwt: Arc<Jwt>, cx: Cx, params: CallbackParams) -> Result<Outcome> {
    let prepared = config::prepared(&jwt, &cx).await?.ok_or_else(|| failed("Could not load configuration."))?;
    if prepared.config.oidc_response_mode != "form_post" {
        return Err(Error::wrong_operation());
    }
    let given = |name: &str, secret: Option<Secret<String>>, most: usize| {
        let given = secret.filter(|secret| !secret.is_empty());
        // Only its length is looked at: anybody may post this, and it is kept.
        given.map(|secret| check_length(name, secret.expose(), most).map(|()| secret)).transpose()
    };
    let kept = match (given("code", params.code, CODE_BYTES_MAX)?, given("id_token", params.id_token, TOKEN_BYTES_MAX)?) {
        // The token that comes for a code is taken then, whatever else was posted.
        (Some(code), _) => Posted::Code(code),
        (None, Some(id)) => Posted::IdToken(id),
        (None, None) => Posted::Nothing,
    };
    let (status, page) = match jwt.pending.post(cx.clock.elapsed(), &params.state, kept) {
        Post::Kept => (200, RECEIVED),
        Post::NoRoom => (429, NO_ROOM),
        Post::NotAwaited => (400, EXPIRED),
    };
    Ok(Outcome::Raw(status, "text/html", Bytes::from_static(page.as_bytes())))
}

/// Errors: `BadRequest` for a text over its limit. It may be a secret, and is not repeated.
fn check_length(name: &str, text: &str, most: usize) -> Result<()> {
    if text.len() <= most {
        return Ok(());
    }
    Err(Error::bad_request(format!("{name} is longer than {most} bytes: it has {}", text.len())))
}

/// Whether a role allows a redirect: to the letter, except for the port on this machine (RFC 8252 section 7.3).
fn allows(allowed: &[String], uri: &str) -> bool {
    match on_this_machine(uri) {
        Some(parts) => allowed.iter().any(|allowed| on_this_machine(allowed) == Some(parts)),
        None => allowed.iter().any(|allowed| allowed == uri),
    }
}

/// Scheme, host and the rest of a URI that leads to this machine, without its port.
fn on_this_machine(uri: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = uri.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = port.strip_prefix(':').unwrap_or(port);
    let plain = port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    (plain && matches!(host, "localhost" | "127.0.0.1" | "::1")).then_some((scheme, host, path))
}

fn failed(why: &str) -> Error {
    Error::bad_request(format!("Vault login failed. {why}"))
}

fn unverified(why: &str) -> Error {
    Error::bad_request(format!("Token verification failed. {why}"))
}

const CLIENT_NONCE_BYTES_MAX: usize = 512;
/// Browsers take no longer addresses everywhere.
const REDIRECT_URI_BYTES_MAX: usize = 2048;
/// Those of the large providers have one or two thousand.
const CODE_BYTES_MAX: usize = 8 * 1024;
const RECEIVED: &str =
    "<!DOCTYPE html><title>Login</title><p>The login page's answer has arrived. Go back to the program in which you log in.</p>";
const NO_ROOM: &str = "<!DOCTYPE html><title>Login</title><p>Vault login failed. Too many logins wait for their program: load this page again in a minute.</p>";
const EXPIRED: &str = "<!DOCTYPE html><title>Login</title><p>Vault login failed. Expired or missing OAuth state.</p>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_allowed_to_the_letter_but_for_the_port_on_this_machine() {
        let allowed = ["http://localhost:8250/oidc/callback", "https://vault.example/ui/vault/auth/oidc/oidc/callback"].map(str::to_owned);
        for good in
            ["http://localhost:8250/oidc/callback", "http://localhost:1/oidc/callback", "http://localhost/oidc/callback", &allowed[1]]
        {
            assert!(allows(&allowed, good), "{good}");
        }
        for bad in [
            "",
            "http://localhost:8250/oidc/callback/",
            "http://localhost:8250/other",
            "https://localhost:8250/oidc/callback",
            "http://127.0.0.1:8250/oidc/callback",
            "http://localhost.evil.example/oidc/callback",
            "http://localhost:8250@evil.example/oidc/callback",
            "http://localhost:x/oidc/callback",
            "http://localhost:8250/oidc/callback?x",
            "https://vault.example:8443/ui/vault/auth/oidc/oidc/callback",
            "https://vault.example/ui/vault/auth/oidc/oidc/callback?x=y",
        ] {
            assert!(!allows(&allowed, bad), "{bad}");
        }
    }
}
