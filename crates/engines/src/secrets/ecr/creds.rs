//! `creds/<role>`: a login to a registry.

use std::sync::Arc;

use data_encoding::BASE64;
use daypass_aws::{Aws, Call, ErrorKind, Login, Logins};
use daypass_base::Brief;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result, Seconds, reveal};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::secrets::at_aws::{OWN_IDENTITY_OVER, deadline, lent, onward, upstream};

use super::held::{Failed, Got, Handed, Want, end_of};
use super::role::{MIN_TTL_MAX, Plan};
use super::{Ecr, config_root, roles};

/// ECR's one user.
const USER: &str = "AWS";

pub(super) fn endpoints() -> Vec<Endpoint<Ecr>> {
    vec![
        Endpoint::at(["creds/{name@}"])
            .summary("Get a login to the registries of a role.")
            .help(HELP)
            .on(Operation::Read, log_in)
            .on(Operation::Update, log_in),
    ]
}

/// What may be asked for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct Wanted {
    /// Name of the role. Example: `app`.
    name: String,
    /// How long the login must last at least, in seconds or as a duration, where that is longer than the role's own `min_ttl`; at most 11
    /// hours. Example: `6h`.
    min_ttl: Option<Seconds>,
    /// `dockerconfigjson` for the text of a Docker `config.json`, as Kubernetes wants it in a secret of that type; empty for fields.
    #[serde(default)]
    format: String,
}

#[derive(Clone, Copy)]
enum Format {
    DockerConfig,
    Fields,
}

async fn log_in(engine: Arc<Ecr>, cx: Cx, wanted: Wanted) -> Result<Reply> {
    let format = match wanted.format.as_str() {
        "" => Format::Fields,
        "dockerconfigjson" => Format::DockerConfig,
        other => return Err(Error::bad_request(format!("format {:?} is not known: leave it out, or give dockerconfigjson", Brief(other)))),
    };
    if let Some(asked) = wanted.min_ttl.filter(|asked| *asked > MIN_TTL_MAX) {
        let text = format!("min_ttl {}s is over the limit of {}s: a login lives for 12 hours", asked.0, MIN_TTL_MAX.0);
        return Err(Error::bad_request(text));
    }
    let role = roles::role(&cx, &wanted.name).await?;
    let plan = role.plan(&cx, &wanted.name, &config_root::stored(&cx).await?);
    engine.last.remember(&plan.target);
    let at_least = role.min_ttl.max(wanted.min_ttl.unwrap_or_default());
    let want = Want { role: &wanted.name, plan: &plan, clock: cx.clock.as_ref(), at_least };
    let ask = fetch(engine.aws.as_ref(), &plan, &cx);
    let handed = engine.held.login(want, &engine.revoked, ask).await.map_err(refused)?;
    answer(&cx, &plan, &handed, format)
}

/// Asks AWS: for a session of the IAM role, if there is one, then for the logins.
async fn fetch(aws: &dyn Aws, plan: &Plan, cx: &Cx) -> Result<Got, Failed> {
    let (call, began) = (Call::usual(&plan.target, deadline(cx)), cx.clock.elapsed());
    let mut question = plan.question();
    if let Some(assume) = &plan.assume {
        let made = aws.assume_role(call, assume.clone()).await;
        question.session = Some(made.map_err(|error| Failed { doing: "Error assuming role", error })?);
    }
    let session_ends = question.session.as_ref().map(|session| session.expiration);
    let call = Call { deadline: onward(call, cx.clock.elapsed().saturating_sub(began)), ..call };
    let made = aws.get_authorization_token(call, question).await;
    let mut logins = made.map_err(|error| Failed { doing: "Error getting a login from ECR", error })?;
    // In the role's order, so that the first is the one that its writer put first.
    let place = |login: &Login| plan.registries.iter().position(|account| host(login).starts_with(account.as_str()));
    logins.logins.sort_by_key(place);
    Ok(Got::new(logins, session_ends, cx.clock.moment(), aws.skew(&plan.target).unwrap_or_default()))
}

fn refused(Failed { doing, error }: Failed) -> Error {
    let mut text = format!("{doing}: {}", error.sdk_text());
    if error.kind == ErrorKind::ExpiredIdentity {
        text.push_str(OWN_IDENTITY_OVER);
    }
    upstream(text, error)
}

/// Shows logins. The lease lasts as long as the first of them, but not longer than the mount allows.
fn answer(cx: &Cx, plan: &Plan, handed: &Handed, format: Format) -> Result<Reply> {
    let got = handed.got();
    let logins = &got.logins;
    let (Some(first), Some(end)) = (logins.logins.first(), end_of(logins)) else {
        return Err(Error::internal("a login without a registry was kept"));
    };
    let mut data = match format {
        Format::Fields => fields(first),
        Format::DockerConfig => Map::from_iter([("dockerconfigjson".to_owned(), docker_config(logins).into())]),
    };
    data.insert("expires_at".to_owned(), end.to_string().into());
    data.insert("registry".to_owned(), host(first).into());
    if let (Format::Fields, [_, _, ..]) = (format, logins.logins.as_slice()) {
        let all = logins.logins.iter().map(|login| {
            let mut one = fields(login);
            one.insert("registry".to_owned(), host(login).into());
            one.insert("expires_at".to_owned(), login.expires.to_string().into());
            Value::Object(one)
        });
        data.insert("registries".to_owned(), all.collect());
    }
    let hosts = logins.logins.iter().map(host).collect::<Vec<_>>().join(",");
    let role_arn = plan.assume.as_ref().map_or("", |assume| assume.role_arn.as_str());
    let facts = [("access_key_id", logins.access_key_id.as_str()), ("registry", hosts.as_str()), ("role_arn", role_arn)];
    let reused = matches!(handed, Handed::Again(_)).then_some(("reused", "true"));
    Ok(lent(cx, data, got.left(cx.clock.moment()), facts.into_iter().chain(reused)))
}

fn fields(login: &Login) -> Map<String, Value> {
    let pairs =
        [("username", USER.into()), ("password", reveal(&login.password)), ("proxy_endpoint", login.proxy_endpoint.as_str().into())];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The text of a `config.json` with these logins. Source: Kubernetes, "Docker config Secrets".
fn docker_config(logins: &Logins) -> String {
    let auth = |login: &Login| {
        // An answer is where an issued login is meant to go.
        let pair = BASE64.encode(format!("{USER}:{}", login.password.expose()).as_bytes());
        (host(login).to_owned(), json!({ "username": USER, "password": reveal(&login.password), "auth": pair }))
    };
    let auths: Map<String, Value> = logins.logins.iter().map(auth).collect();
    json!({ "auths": auths }).to_string()
}

/// A registry as images are named.
fn host(login: &Login) -> &str {
    login.proxy_endpoint.strip_prefix("https://").unwrap_or(&login.proxy_endpoint)
}

const HELP: &str = "Gives a login: username, password and the registry that they are good for. With several registries, registries has
all of them. ECR's passwords live for 12 hours; one is handed out again until less than min_ttl of it is left, and its lease lasts as long
as it does. The lease cannot be renewed, and revoking it does not end the password earlier at AWS.

    daypass read -field=password ecr/creds/app | docker login --username AWS --password-stdin REGISTRY

format=dockerconfigjson gives the text for a Kubernetes secret of type kubernetes.io/dockerconfigjson.";
