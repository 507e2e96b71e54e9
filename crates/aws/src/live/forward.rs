//! A `GetCallerIdentity` that somebody else signed, sent to STS as it is; and the names and ids of principals.
//!
//! Strangers can cause these calls before anybody knows who they are. So they have places of their own: no mint waits for them.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use daypass_base::BoxFuture;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;

use super::sort::sorted;
use super::wire::{Answer, Trouble, Wire};
use super::{ATTEMPT_MAX, LiveAws};
use crate::api::{Call, Identity, Result};
use crate::caller::{self, Callers, Principal, PrincipalKind, SignedForm, SignedIdentity};
use crate::{AwsError, ErrorKind};

/// Forwarded calls under way at one moment; more wait, within their deadlines.
const FORWARDS_MAX: usize = 64;
/// Origins to which connections are kept; only those that said who somebody is.
const WIRES_MAX: usize = 32;

/// What forwarded calls have for themselves.
pub(super) struct Forwards {
    places: tokio::sync::Semaphore,
    wires: Mutex<HashMap<String, Arc<Wire>>>,
}

impl Default for Forwards {
    fn default() -> Self {
        Self { places: tokio::sync::Semaphore::new(FORWARDS_MAX), wires: Mutex::default() }
    }
}

impl LiveAws {
    async fn forward(&self, call: Call<'_>, signed: &SignedIdentity) -> Result<Identity> {
        let url = caller::destination(signed, call.target, self.settings.endpoint.as_deref())?;
        let origin: Uri = url.parse().map_err(|error| AwsError::unreachable(format!("the endpoint {url:?} is no URL: {error}")))?;
        let request = request(&origin, signed)?;
        let _place = self.forwards.places.acquire().await.map_err(AwsError::unreachable)?;
        self.patiently(call.target, || self.forward_once(&origin, &request)).await
    }

    async fn forward_once(&self, origin: &Uri, request: &Request<Full<Bytes>>) -> Result<Identity> {
        let kept = || self.forwards.wires.lock().unwrap_or_else(PoisonError::into_inner);
        let name = origin.to_string();
        let known = kept().get(&name).cloned();
        let wire = known.unwrap_or_else(|| Arc::new(Wire::new(origin.clone(), Arc::clone(&self.clock))));
        let answer = tokio::select! {
            biased;
            sent = wire.send(|| Ok(request.clone())) => sent.map_err(|trouble| no_answer(&name, trouble))?,
            () = self.clock.sleep(ATTEMPT_MAX) => {
                return Err(AwsError::unreachable(format!("Post {name:?}: no answer within {ATTEMPT_MAX:?}")));
            }
        };
        let identity = understood(&answer)?;
        let mut wires = kept();
        if wires.len() < WIRES_MAX {
            wires.entry(name).or_insert(wire);
        }
        Ok(identity)
    }
}

/// The request as it was signed, for this origin.
fn request(origin: &Uri, signed: &SignedIdentity) -> Result<Request<Full<Bytes>>> {
    let bad = |detail: String| AwsError {
        kind: ErrorKind::Malformed,
        code: "InvalidParameter".to_owned(),
        message: format!("the signed request cannot be sent on: {detail}"),
        status: None,
        request_id: None,
    };
    let (method, query, body) = match &signed.form {
        // To STS, which it was signed for.
        SignedForm::Get(query) => (Method::GET, format!("/?{}", query.expose()), Bytes::new()),
        SignedForm::Post(form) => (Method::POST, "/".to_owned(), Bytes::copy_from_slice(form.as_bytes())),
    };
    let mut parts = origin.clone().into_parts();
    parts.path_and_query = Some(query.parse().map_err(|_quotes| bad("its query is none".to_owned()))?);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_parts(parts).map_err(|error| bad(error.to_string()))?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(&signed.host).map_err(|error| bad(error.to_string()))?);
    for (name, value) in &signed.headers {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|error| bad(error.to_string()))?;
        // To STS, which it was signed for.
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_quotes| bad(format!("the value of {name} is no header's")))?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(request)
}

fn understood(answer: &Answer) -> Result<Identity> {
    let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    caller::understood(answer.status.as_u16(), kind, &answer.body)
}

fn no_answer(url: &str, trouble: Trouble) -> AwsError {
    let (Trouble::Settings(detail) | Trouble::Unconnected(detail) | Trouble::Lost(detail)) = trouble;
    AwsError::unreachable(format!("Post {url:?}: {detail}"))
}

impl Callers for LiveAws {
    fn forward_caller_identity<'a>(&'a self, call: Call<'a>, signed: &'a SignedIdentity) -> BoxFuture<'a, Result<Identity>> {
        Box::pin(async move { self.until(call.deadline, pin!(self.forward(call, signed))).await })
    }

    fn get_principal<'a>(&'a self, call: Call<'a>, kind: PrincipalKind, name: &'a str) -> BoxFuture<'a, Result<Principal>> {
        let missing = || AwsError::unreachable("the answer has no principal");
        Box::pin(self.iam(call, move |client| async move {
            Ok(match kind {
                PrincipalKind::InstanceProfile => {
                    let answer = client.get_instance_profile().instance_profile_name(name).send().await.map_err(|error| sorted(&error))?;
                    let found = answer.instance_profile.ok_or_else(missing)?;
                    Principal { arn: found.arn, id: found.instance_profile_id }
                }
                PrincipalKind::Role => {
                    let answer = client.get_role().role_name(name).send().await.map_err(|error| sorted(&error))?;
                    let found = answer.role.ok_or_else(missing)?;
                    Principal { arn: found.arn, id: found.role_id }
                }
                PrincipalKind::User => {
                    let answer = client.get_user().user_name(name).send().await.map_err(|error| sorted(&error))?;
                    let found = answer.user.ok_or_else(missing)?;
                    Principal { arn: found.arn, id: found.user_id }
                }
            })
        }))
    }
}
