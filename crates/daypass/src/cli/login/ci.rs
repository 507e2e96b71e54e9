//! The token that a build server gives to its job, found in the environment.

use std::sync::Arc;
use std::time::Duration;

use daypass_base::{Secret, SystemClock};
use daypass_idp::{Ask, Idp as _, LiveIdp, Payload, Proof, Trust, Url, percent_encoded, strict};

use crate::cli::Failure;
use crate::cli::settings::Ctx;

/// Variables in which build servers put the token itself; the first that is set counts.
const VARIABLES: [&str; 6] = [
    "DAYPASS_ID_TOKEN",
    // GitLab's id_tokens, Jenkins' credentials: by the name that Vault's own pages use.
    "VAULT_ID_TOKEN",
    "CIRCLE_OIDC_TOKEN_V2",
    "BITBUCKET_STEP_OIDC_TOKEN",
    "TFC_WORKLOAD_IDENTITY_TOKEN",
    "CIRCLE_OIDC_TOKEN",
];
/// How long a build server may take.
const ASK_MAX: Duration = Duration::from_secs(20);

/// The job's token, for this audience where the build server lets us say so; `None` outside of a build that is known.
pub(super) fn token(ctx: &Ctx, audience: Option<&str>) -> Result<Option<Secret<String>>, Failure> {
    if let Some(token) = VARIABLES.iter().find_map(|name| ctx.plain_variable(name)) {
        return Ok(Some(Secret::new(token)));
    }
    let Some(url) = ctx.plain_variable("ACTIONS_ID_TOKEN_REQUEST_URL") else {
        if ctx.plain_variable("GITHUB_ACTIONS").is_some() {
            return Err(failure("this job of GitHub Actions may not ask for a token").hint("give it \"permissions: id-token: write\""));
        }
        return Ok(None);
    };
    let proof = ctx.plain_variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN").map(Secret::new);
    let proof = proof.ok_or_else(|| failure("ACTIONS_ID_TOKEN_REQUEST_URL is set, ACTIONS_ID_TOKEN_REQUEST_TOKEN is not"))?;
    from_github(&url, proof, audience).map(Some).map_err(|why| failure(&format!("GitHub Actions gives no token: {why}")))
}

/// Source: docs.github.com, "OpenID Connect reference", methods for requesting the token.
fn from_github(url: &str, proof: Secret<String>, audience: Option<&str>) -> Result<Secret<String>, String> {
    let more = audience.map(|audience| format!("{}audience={}", if url.contains('?') { '&' } else { '?' }, percent_encoded(audience)));
    let url = Url::parse(&format!("{url}{}", more.unwrap_or_default()))?;
    let host = url.host().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let idp = LiveIdp::new(Arc::new(SystemClock::new()));
    let ask = Ask { url, payload: Payload::Nothing, proof: Proof::Bearer(proof), trust: Trust::System, deadline: ASK_MAX };
    let answer = runtime.block_on(idp.ask(ask)).and_then(|answer| answer.json(&host)).map_err(|error| error.to_string())?;
    let mut answer = strict::object(&answer)?;
    match answer.remove("value") {
        Some(serde_json::Value::String(token)) if !token.is_empty() => Ok(Secret::new(token)),
        _ => Err("its answer has no \"value\"".to_owned()),
    }
}

fn failure(why: &str) -> Failure {
    Failure::server(format!("Error authenticating: {why}"))
}
