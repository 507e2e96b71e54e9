//! The endpoints that real AWS does not have: `/_sandbox/health`, `/_sandbox/calls`, `/_sandbox/control`, `/_sandbox/ecr/verify`,
//! `/_sandbox/identity-certificate`.
//!
//! Calls and control answer callers on this machine only.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{self, Reply};
use crate::cloud::Cloud;
use crate::control::Rule;
use crate::ecr;
use crate::instances::InstanceSeed;
use crate::request::Request;
use crate::world::ProviderSeed;

/// What can be ordered in one request; each member is optional, and they are obeyed in this order.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Order {
    /// Takes all rules away.
    clear: bool,
    /// Forgets the calls.
    forget_calls: bool,
    rules: Vec<Rule>,
    /// Seconds; 0 ends it.
    limit_sessions: Option<u64>,
    /// Seconds.
    endpoint_lifetime: Option<u64>,
    /// Seconds.
    key_delay: Option<u64>,
    provider: Option<Registration>,
    instance: Option<Placed>,
}

/// An instance to add to an account, or to change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Placed {
    account: String,
    instance: InstanceSeed,
}

/// An OIDC provider to register in an account.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    account: String,
    url: String,
    audiences: Vec<String>,
    /// Without it the keys are read from the issuer, which must be on this machine then.
    #[serde(default)]
    jwks: Option<Value>,
}

/// Answers `/_sandbox/…`.
pub(crate) fn answer(cloud: &Cloud, request: &Request) -> Reply {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET" | "HEAD", "/_sandbox/health") => {
            answer::json(200, &json!({"status": "ok", "services": ["sts", "iam", "ec2", "ecr", "ecr-public"]}))
        }
        ("GET", "/_sandbox/ecr/verify") => ecr::verify(cloud, request),
        (_, "/_sandbox/calls" | "/_sandbox/control") if !request.peer.is_loopback() => {
            answer::json(403, &json!({"error": "only callers on this machine may do this"}))
        }
        ("GET", "/_sandbox/calls") => answer::json(200, &json!({"calls": cloud.control.calls()})),
        ("GET", "/_sandbox/control") => answer::json(200, &json!({"rules": cloud.control.rules()})),
        ("POST", "/_sandbox/control") => control(cloud, request),
        _ => answer::json(
            404,
            &json!({"error": "known are GET /_sandbox/health, /_sandbox/calls, /_sandbox/ecr/verify, /_sandbox/identity-certificate, and GET and POST /_sandbox/control"}),
        ),
    }
}

fn control(cloud: &Cloud, request: &Request) -> Reply {
    // A web page in the user's browser could send a form here, but not JSON.
    if request.method == Method::POST && !request.header("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
        return answer::json(415, &json!({"error": "send Content-Type: application/json"}));
    }
    match serde_json::from_slice::<Order>(&request.body).map_err(|error| error.to_string()).and_then(|order| obey(cloud, order)) {
        Ok(()) => answer::json(200, &json!({"rules": cloud.control.rules()})),
        Err(error) => answer::json(400, &json!({"error": error})),
    }
}

fn obey(cloud: &Cloud, order: Order) -> Result<(), String> {
    let control = &cloud.control;
    if order.clear {
        control.clear();
    }
    if order.forget_calls {
        control.forget_calls();
    }
    for rule in order.rules {
        control.add(rule).map_err(|error| error.to_string())?;
    }
    if let Some(seconds) = order.limit_sessions {
        control.limit_sessions(Duration::from_secs(seconds));
    }
    if let Some(seconds) = order.endpoint_lifetime {
        control.set_endpoint_lifetime(Duration::from_secs(seconds));
    }
    if let Some(seconds) = order.key_delay {
        control.set_key_delay(Duration::from_secs(seconds));
    }
    if let Some(Placed { account, instance }) = order.instance {
        cloud.set_instance(&account, instance)?;
    }
    match order.provider {
        Some(Registration { account, url, audiences, jwks }) => cloud.register(&account, &ProviderSeed { url, audiences, jwks }),
        None => Ok(()),
    }
}
