//! Between the HTTP server's words and the core's.

use bytes::Bytes;
use daypass_base::BoxFuture;
use daypass_core::{Body as CoreBody, Core, HttpRequest, HttpResponse};
use daypass_server::{Body, Peer, RequestBody, ServerRequest, ServerResponse, Service};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY};
use http::{HeaderMap, StatusCode};

/// Hands requests to the core.
pub(super) struct Bridge {
    core: Core,
}

impl Bridge {
    pub(super) fn new(core: Core) -> Self {
        Self { core }
    }
}

impl Service for Bridge {
    fn handle(&self, request: ServerRequest) -> BoxFuture<'static, ServerResponse> {
        let core = self.core.clone();
        Box::pin(async move {
            let ServerRequest { method, uri, headers, body, peer, tls: _ } = request;
            let body = match body {
                RequestBody::Whole(bytes) => CoreBody::Read(bytes),
                RequestBody::TooLarge { .. } => CoreBody::TooLarge,
                RequestBody::Broken(reason) => return refused(StatusCode::BAD_REQUEST, &format!("the request body broke off: {reason}")),
                RequestBody::NoRoom => return refused(StatusCode::SERVICE_UNAVAILABLE, "overloaded, try again later"),
                RequestBody::TooSlow => return refused(StatusCode::REQUEST_TIMEOUT, "the request body did not come in time"),
            };
            let peer = match peer {
                Peer::Tcp(address) => Some(address),
                Peer::Unix => None,
            };
            let namespace = headers.get(NAMESPACE).cloned();
            let mut response = written(core.handle(HttpRequest { method, uri, headers, body, peer }).await);
            if let Some(namespace) = namespace {
                // As recorded: the header comes back, whatever it says.
                response.headers.insert(NAMESPACE, namespace);
            }
            response
        })
    }
}

fn written(answer: HttpResponse) -> ServerResponse {
    let mut headers = common();
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    for name in answer.without {
        headers.remove(*name);
    }
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    ServerResponse { status, headers, body: Body::Full(answer.body) }
}

fn refused(status: StatusCode, text: &str) -> ServerResponse {
    let body = serde_json::json!({ "errors": [text] }).to_string();
    ServerResponse { status, headers: common(), body: Body::Full(Bytes::from(body)) }
}

/// On every answer. The content type is compared to the letter by some clients.
fn common() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000; includeSubDomains"));
    headers
}

const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
