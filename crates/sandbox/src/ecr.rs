//! ECR and ECR Public: registry passwords, and the check that a proxy before a real registry asks for.
//!
//! Source: Amazon ECR API reference, `GetAuthorizationToken`. A password is a sealed text, so nothing is kept.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::answer::{self, Reply};
use crate::authority::{self, Own, RequestFacts};
use crate::cloud::{Call, Cloud, Service, caller_of_session};
use crate::fault::{Fault, Result};
use crate::request::{Params, Request};
use crate::seal::Purpose;
use crate::session::{Caller, CallerKind, Session};
use crate::trust::is_account;

/// Inside a registry password.
#[derive(Serialize, Deserialize)]
struct Login {
    account: String,
    arn: String,
    principal_arn: String,
    region: String,
    /// The user's name for long-term keys.
    user: Option<String>,
    session: Option<Session>,
    public: bool,
    /// Seconds since 1970.
    expires: i64,
}

pub(crate) fn perform(cloud: &Cloud, call: &Call<'_>, caller: &Caller, service: Service, action: &str) -> Result<Reply> {
    if action != "GetAuthorizationToken" {
        return Err(Fault::invalid_action(action, "2015-09-21"));
    }
    let body: Value = if call.request.body.is_empty() {
        json!({})
    } else {
        serde_json::from_slice(&call.request.body)
            .map_err(|_syntax| Fault::new(400, "SerializationException", "Start of structure or map found where not expected."))?
    };
    let public = service == Service::EcrPublic;
    if public && call.region != PUBLIC_REGION {
        return Err(Fault::new(400, "UnsupportedCommandException", "ECR Public has its API in us-east-1 alone."));
    }
    let state = cloud.state.read();
    let actions: &[&str] =
        if public { &["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"] } else { &["ecr:GetAuthorizationToken"] };
    for action in actions {
        let facts = call.facts(&state, Some(caller));
        let own = authority::own(&state, caller, action, "*", &facts);
        if own != Own::Allowed {
            return Err(authority::refusal(caller, action, "*", own));
        }
    }
    let expires = call.now.seconds().saturating_add(TOKEN_SECONDS);
    let login = Login {
        account: caller.account.clone(),
        arn: caller.arn.clone(),
        principal_arn: caller.principal_arn.clone(),
        region: call.region.to_owned(),
        user: caller.user().map(str::to_owned),
        session: caller.session.as_deref().cloned(),
        public,
        expires,
    };
    let token = BASE64.encode(format!("AWS:{}", password(cloud, &login)?).as_bytes());
    if public {
        return Ok(answer::amz_json(&json!({"authorizationData": {"authorizationToken": token, "expiresAt": expires}}), call.request_id));
    }
    let registries = registries(&body, &caller.account)?;
    let data: Vec<Value> = registries
        .iter()
        .map(|account| {
            let endpoint = format!("https://{account}.dkr.ecr.{}.{}", call.region, suffix(call.region));
            json!({"authorizationToken": token, "expiresAt": expires, "proxyEndpoint": endpoint})
        })
        .collect();
    Ok(answer::amz_json(&json!({"authorizationData": data}), call.request_id))
}

/// What hosts of a region end in.
fn suffix(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("cn") => "amazonaws.com.cn",
        Some("eusc") => "amazonaws.eu",
        _ => "amazonaws.com",
    }
}

fn registries(body: &Value, own: &str) -> Result<Vec<String>> {
    let ids: Vec<String> = match body.get("registryIds") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(ids)) => ids.iter().map(|id| id.as_str().unwrap_or_default().to_owned()).collect(),
        Some(_) => vec![String::new()],
    };
    if ids.len() > 10 || ids.iter().any(|id| !is_account(id)) {
        return Err(Fault::new(
            400,
            "InvalidParameterException",
            "Invalid parameter at 'registryIds' failed to satisfy constraint: 'must satisfy regular expression '[0-9]{12}''",
        ));
    }
    Ok(if ids.is_empty() { vec![own.to_owned()] } else { ids })
}

/// In the shape of AWS's passwords: base64 of a JSON object.
fn password(cloud: &Cloud, login: &Login) -> Result<String> {
    let broken = || Fault::new(500, "ServerException", "Service Unavailable. Please try again later.");
    let plain = serde_json::to_vec(login).map_err(|_never| broken())?;
    let payload = cloud.sealer.seal(Purpose::Registry, &plain).ok_or_else(broken)?;
    Ok(BASE64.encode(json!({"payload": payload, "version": "2", "type": "DATA_KEY", "expiration": login.expires}).to_string().as_bytes()))
}

/// `GET /_sandbox/ecr/verify` with `Authorization: Basic base64(AWS:<password>)`: 200 with `X-Account`, `X-Principal` and `X-Region`, or 401.
/// The query may ask for more: `account`, `region` (the password must be of them), `action` and `repository` (403 unless the
/// caller's policies allow it, e.g. `action=ecr:PutImage&repository=app`).
pub(crate) fn verify(cloud: &Cloud, request: &Request) -> Reply {
    let refuse = |why: &str| {
        let mut reply = answer::text(401, why);
        reply.headers_mut().insert(
            http::header::WWW_AUTHENTICATE,
            http::HeaderValue::from_static("Basic realm=\"https://ecr.sandbox/\",service=\"ecr.amazonaws.com\""),
        );
        reply
    };
    let Some(login) = request.header("authorization").and_then(|header| login_of(cloud, header)) else {
        return refuse("no password of this sandbox's ECR: use the token of ecr:GetAuthorizationToken with the user name AWS");
    };
    if login.expires <= cloud.clock.now().seconds() {
        return refuse("Your authorization token has expired. Reauthenticate and try again.");
    }
    let Ok(params) = request.params() else { return answer::text(400, "the query string is malformed") };
    if ["account", "region"]
        .iter()
        .zip([&login.account, &login.region])
        .any(|(name, own)| params.get(name).is_some_and(|wanted| wanted != own))
    {
        return answer::text(403, "the password is for another account or region");
    }
    if let Some(refused) = refused_action(cloud, &login, &params) {
        return answer::text(403, refused);
    }
    let mut reply = answer::text(200, "ok");
    for (name, value) in [("x-account", &login.account), ("x-principal", &login.arn), ("x-region", &login.region)] {
        if let Ok(value) = http::HeaderValue::from_str(value) {
            reply.headers_mut().insert(name, value);
        }
    }
    reply
}

fn login_of(cloud: &Cloud, header: &str) -> Option<Login> {
    let pair = BASE64.decode(header.strip_prefix("Basic ")?.trim().as_bytes()).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    let envelope: Value = serde_json::from_slice(&BASE64.decode(pair.strip_prefix("AWS:")?.as_bytes()).ok()?).ok()?;
    let plain = cloud.sealer.open(Purpose::Registry, envelope.get("payload")?.as_str()?)?;
    serde_json::from_slice(&plain).ok()
}

/// Why the bearer may not do the `action` of the query, if one is asked about.
fn refused_action(cloud: &Cloud, login: &Login, params: &Params) -> Option<String> {
    let action = params.get("action")?;
    let state = cloud.state.read();
    let resource = format!("arn:aws:ecr:{}:{}:repository/{}", login.region, login.account, params.get("repository").unwrap_or("*"));
    let caller = match (&login.session, &login.user) {
        (Some(session), _) => {
            let mut session = session.clone();
            session.document = session
                .policy
                .as_deref()
                .and_then(|text| crate::policy::Document::parse(text, crate::policy::Use::Identity).ok())
                .map(std::sync::Arc::new);
            caller_of_session(&state, std::sync::Arc::new(session)).ok()
        }
        (None, Some(user)) => Some(Caller {
            account: login.account.clone(),
            kind: CallerKind::User { user: user.clone() },
            arn: login.arn.clone(),
            principal_arn: login.principal_arn.clone(),
            user_id: String::new(),
            key_id: String::new(),
            session: None,
        }),
        (None, None) => None,
    };
    let Some(caller) = caller else { return Some("the principal behind the password is gone".to_owned()) };
    let facts = RequestFacts {
        state: &state,
        caller: Some(&caller),
        now: cloud.clock.now(),
        source_ip: None,
        region: &login.region,
        extra: Vec::new(),
        request_tags: &[],
        resource_tags: None,
    };
    let own = authority::own(&state, &caller, action, &resource, &facts);
    (own != Own::Allowed).then(|| authority::refusal(&caller, action, &resource, own).message)
}

/// Where the API of ECR Public is.
const PUBLIC_REGION: &str = "us-east-1";
/// Seconds that a registry password lives.
const TOKEN_SECONDS: i64 = 43_200;
