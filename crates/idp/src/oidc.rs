//! The calls of OpenID Connect. Sources: OpenID Connect Discovery 1.0, OpenID Connect Core 1.0, RFC 6749, RFC 7636.

use std::time::Duration;

use bytes::Bytes;
use daypass_base::Secret;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Ask, Idp, IdpError, Payload, Proof, Result, Trust, Url, strict};

/// What a provider says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its name, as it stands in its tokens.
    pub issuer: String,
    /// Where its keys are.
    pub keys: Url,
    /// Where people log in; a provider for machines has none.
    pub authorization: Option<Url>,
    /// Where a code becomes a token.
    pub token: Option<Url>,
    /// Where more is told about somebody.
    pub userinfo: Option<Url>,
    /// Whether the client's password goes into the form: the provider takes it nowhere else.
    pub secret_in_form: bool,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    userinfo_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// The tokens that a code was exchanged for.
#[derive(Debug)]
pub struct Tokens {
    /// Says who logged in.
    pub id: Secret<String>,
    /// Opens the userinfo endpoint.
    pub access: Option<Secret<String>>,
}

/// A code, with what proves that it may be exchanged.
#[derive(Debug)]
pub struct Exchange {
    /// The code.
    pub code: Secret<String>,
    /// What the challenge was made from.
    pub verifier: Secret<String>,
    /// The redirect URI that the code was asked for with.
    pub redirect_uri: String,
    /// Our name at the provider.
    pub client_id: String,
    /// Our password there.
    pub client_secret: Secret<String>,
}

/// Asks a provider about itself. Errors: `Mismatch` when it calls itself otherwise than `issuer`; `Settings` when the URL may not be asked.
pub async fn discover(idp: &dyn Idp, issuer: &str, trust: &Trust, deadline: Duration) -> Result<Provider> {
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let url = Url::parse(&url).map_err(IdpError::Settings)?;
    let host = url.host().to_owned();
    let local = url.is_local();
    let body = get(idp, url, trust, Proof::Nothing, deadline).await?;
    let nonsense = |why: &str| IdpError::Nonsense(format!("the discovery document of {host} cannot be used: {why}"));
    let document = strict::object(&body).map_err(|why| nonsense(&why))?;
    let document = Document::deserialize(Value::Object(document)).map_err(|error| nonsense(&error.to_string()))?;
    if document.issuer != issuer {
        let text = format!("the provider calls itself {:?}, not {issuer:?}: both must be the same to the last slash", document.issuer);
        return Err(IdpError::Mismatch(text));
    }
    let url = |text: String| {
        let url = Url::parse(&text).map_err(|why| nonsense(&why))?;
        // A provider elsewhere must not send us to what listens on this machine.
        if url.is_local() && !local { Err(nonsense(&format!("it leads to this machine: {text:?}"))) } else { Ok(url) }
    };
    let optional = |text: Option<String>| text.filter(|text| !text.is_empty()).map(&url).transpose();
    let ways = document.token_endpoint_auth_methods_supported.unwrap_or_default();
    let has = |way: &str| ways.iter().any(|known| known == way);
    Ok(Provider {
        keys: url(document.jwks_uri)?,
        authorization: optional(document.authorization_endpoint)?,
        token: optional(document.token_endpoint)?,
        userinfo: optional(document.userinfo_endpoint)?,
        secret_in_form: has("client_secret_post") && !has("client_secret_basic"),
        issuer: document.issuer,
    })
}

/// Fetches a key set; what is in it is for the reader to judge.
pub async fn keys(idp: &dyn Idp, url: &Url, trust: &Trust, deadline: Duration) -> Result<Bytes> {
    get(idp, url.clone(), trust, Proof::Nothing, deadline).await
}

/// Exchanges a code for tokens. Errors: `Settings` when the provider has no token endpoint, `Refused` when it does not take the code.
pub async fn exchange(idp: &dyn Idp, provider: &Provider, trust: &Trust, deadline: Duration, given: Exchange) -> Result<Tokens> {
    let url = provider.token.clone().ok_or_else(|| IdpError::Settings("the provider names no token endpoint".to_owned()))?;
    let host = url.host().to_owned();
    let text = |text: &str| Secret::new(text.to_owned());
    let mut form = vec![
        ("grant_type", text("authorization_code")),
        ("code", given.code),
        ("redirect_uri", text(&given.redirect_uri)),
        ("code_verifier", given.verifier),
    ];
    let proof = if provider.secret_in_form {
        form.extend([("client_id", text(&given.client_id)), ("client_secret", given.client_secret)]);
        Proof::Nothing
    } else {
        Proof::Basic(given.client_id, given.client_secret)
    };
    let answer = idp.ask(Ask { url, payload: Payload::Form(form), proof, trust: trust.clone(), deadline }).await?;
    let body = answer.json(&host)?;
    let mut body = strict::object(&body).map_err(|why| IdpError::Nonsense(format!("the token answer of {host} cannot be used: {why}")))?;
    let mut token = |name: &str| match body.remove(name) {
        Some(Value::String(token)) if !token.is_empty() => Some(Secret::new(token)),
        _ => None,
    };
    let id = token("id_token").ok_or_else(|| IdpError::Nonsense("No id_token found in response.".to_owned()))?;
    Ok(Tokens { id, access: token("access_token") })
}

/// Asks for more about whoever an access token belongs to.
pub async fn userinfo(idp: &dyn Idp, url: &Url, trust: &Trust, deadline: Duration, token: Secret<String>) -> Result<Map<String, Value>> {
    let body = get(idp, url.clone(), trust, Proof::Bearer(token), deadline).await?;
    strict::object(&body).map_err(|why| IdpError::Nonsense(format!("what {} tells about the user cannot be used: {why}", url.host())))
}

async fn get(idp: &dyn Idp, url: Url, trust: &Trust, proof: Proof, deadline: Duration) -> Result<Bytes> {
    let host = url.host().to_owned();
    idp.ask(Ask { url, payload: Payload::Nothing, proof, trust: trust.clone(), deadline }).await?.json(&host)
}

#[cfg(test)]
mod tests;
