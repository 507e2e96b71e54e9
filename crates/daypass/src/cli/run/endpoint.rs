//! The container-credentials endpoint of one command. Source: AWS SDKs and Tools Reference Guide, "Container credential provider".

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daypass_base::{Secret, SystemClock};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::net::TcpListener;

use super::keeper::Kept;
use crate::cli::aws::minted::NotMinted;
use crate::cli::loopback::{self, Patience};
use crate::client;
use crate::show::value::Value;

/// Where credentials are.
pub(super) const PATH: &str = "/credentials";
/// Connections at one time.
const CONNECTIONS_MAX: usize = 64;
/// How long one connection may take: SDKs send their request at once, and in all it is a little more than anybody waits for a credential.
const PATIENCE: Patience = Patience { head: Duration::from_secs(1), whole: Duration::from_secs(10) };
/// Longest text of a refusal, in characters.
const MESSAGE_SIZE_MAX: usize = 1000;

/// Serves whoever brings the secret.
pub(super) async fn serve(
    listener: &TcpListener,
    clock: &Arc<SystemClock>,
    secret: &Secret<String>,
    kept: &Kept<SystemClock>,
) -> Infallible {
    loopback::until(listener, clock, CONNECTIONS_MAX, |caller| {
        let (clock, secret, kept) = (Arc::clone(clock), secret.clone(), kept.clone());
        async move {
            let serve = move |request: Request<_>| {
                let (refused, kept) = (judge(&request, &secret), kept.clone());
                async move {
                    match refused {
                        Some(refused) => refused.response(),
                        None => kept.for_container().await.map_or_else(|refused| refused.response(), |it| response(StatusCode::OK, it)),
                    }
                }
            };
            loopback::connection(caller, clock, PATIENCE, serve).await;
            None
        }
    })
    .await
}

/// Why a request gets nothing. Who does not bring the secret learns nothing else.
fn judge<B>(request: &Request<B>, secret: &Secret<String>) -> Option<Refused> {
    let brought = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if Secret::from(brought) != *secret {
        let text = "Authorization is not what AWS_CONTAINER_AUTHORIZATION_TOKEN says";
        return Some(Refused::new(StatusCode::FORBIDDEN, text.to_owned()));
    }
    if request.uri().path() != PATH {
        return Some(Refused::new(StatusCode::NOT_FOUND, format!("credentials are at {PATH}")));
    }
    (request.method() != Method::GET).then(|| Refused::new(StatusCode::METHOD_NOT_ALLOWED, "credentials are read with GET".to_owned()))
}

fn response(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What an SDK is told in place of a credential. Most ask again only after statuses from 500 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    status: StatusCode,
    message: String,
    /// Whether it will be the same when the server is asked again, unless somebody does something about it.
    pub(super) is_lasting: bool,
}

impl Refused {
    fn new(status: StatusCode, message: String) -> Self {
        Self { status, message, is_lasting: false }
    }

    /// It may be otherwise in a moment.
    pub(super) fn later(message: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// Why the server gave none. What it refuses it will refuse again; too many requests and its own troubles pass. An answer that is no refusal and has no
    /// credential may be that of a proxy before a server that is away.
    pub(super) fn of(problem: &NotMinted) -> Self {
        let message = problem.to_string().chars().take(MESSAGE_SIZE_MAX).collect();
        match problem {
            NotMinted::Api(client::Error::Api(refusal)) if !client::worth_retrying(refusal.status) => {
                let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
                Self { is_lasting: true, ..Self::new(status, message) }
            }
            NotMinted::Api(_) => Self::later(message),
            NotMinted::Nothing => Self::new(StatusCode::NOT_FOUND, message),
            NotMinted::User { .. } => Self { is_lasting: true, ..Self::new(StatusCode::BAD_REQUEST, message) },
            NotMinted::Other => Self::new(StatusCode::BAD_REQUEST, message),
        }
    }

    fn response(&self) -> Response<Full<Bytes>> {
        let code = match self.status.as_u16() {
            403 => "AccessDenied",
            404 => "NotFound",
            405 => "MethodNotAllowed",
            400..=499 => "InvalidRequest",
            _ => "ServiceUnavailable",
        };
        let body = Value::map([("code", Value::text(code)), ("message", Value::text(&*self.message))]);
        response(self.status, body.compact())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Error, Refusal};

    fn judged(method: Method, path: &str, authorization: &[&str]) -> Option<u16> {
        let request = Request::builder().method(method).uri(path);
        let request = authorization.iter().fold(request, |request, value| request.header(AUTHORIZATION, *value));
        judge(&request.body(()).unwrap(), &"secret".into()).map(|refused| refused.status.as_u16())
    }

    #[test]
    fn only_who_brings_the_secret_is_served() {
        assert_eq!(judged(Method::GET, "/credentials", &["secret"]), None);
        assert_eq!(judged(Method::GET, "/credentials?x=y", &["secret"]), None);
        for wrong in [&[][..], &[""], &["Secret"], &["secre"], &["secrets"], &["Bearer secret"], &["other", "secret"]] {
            assert_eq!(judged(Method::GET, "/credentials", wrong), Some(403), "{wrong:?}");
            assert_eq!(judged(Method::GET, "/other", wrong), Some(403), "{wrong:?}");
        }
        assert_eq!(judged(Method::GET, "/", &["secret"]), Some(404));
        assert_eq!(judged(Method::POST, "/credentials", &["secret"]), Some(405));
    }

    #[test]
    fn a_refusal_stays_one_and_trouble_is_worth_another_try() {
        let told = |status| {
            let (method, url) = ("GET".to_owned(), "http://x/v1/aws/sts/r".to_owned());
            let errors = vec!["permission denied".to_owned()];
            let refusal = Refusal { method, url, status, errors, raw: false, namespace: None, token_sent: true };
            let refused = Refused::of(&NotMinted::Api(Error::Api(refusal)));
            (refused.status.as_u16(), refused.message)
        };
        assert_eq!(told(403), (403, "permission denied".to_owned()));
        assert_eq!([400, 404, 412, 429, 500, 503].map(|status| told(status).0), [400, 404, 503, 503, 503, 503]);
        assert_eq!(Refused::of(&NotMinted::Api(Error::Unreadable("x".to_owned()))).status, 503);
    }
}
