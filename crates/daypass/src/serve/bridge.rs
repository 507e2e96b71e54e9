//! Between the HTTP server's words and the core's.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use daypass_base::BoxFuture;
use daypass_base::limits::OVERLOADED;
use daypass_core::{Body as CoreBody, Core, HttpRequest, HttpResponse, Opened};
use daypass_server::{Body, Peer, RequestBody, ServerRequest, ServerResponse, Service};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, STRICT_TRANSPORT_SECURITY};
use http::{HeaderMap, Method, StatusCode, Uri};

use super::client_certificate::client_chain;
use crate::config::listener::{ForwardedFor, StatusHeaders};

/// Hands requests of one listener to the core.
pub(super) struct Bridge {
    core: Core,
    rules: Arc<Rules>,
}

/// What a listener adds to requests and answers.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Whose word on the client's address is believed.
    pub(super) forwarded_for: Option<ForwardedFor>,
    /// Headers added to answers, by status.
    pub(super) custom_headers: Vec<StatusHeaders>,
    /// What may be read without a token.
    pub(super) opened: Opened,
}

impl Bridge {
    pub(super) fn new(core: Core, rules: Rules) -> Self {
        Self { core, rules: Arc::new(rules) }
    }
}

impl Service for Bridge {
    fn takes_upload(&self, method: &Method, uri: &Uri) -> bool {
        daypass_core::takes_upload(method, uri)
    }

    fn handle(&self, request: ServerRequest) -> BoxFuture<'static, ServerResponse> {
        let (core, rules) = (self.core.clone(), Arc::clone(&self.rules));
        Box::pin(async move {
            let ServerRequest { method, uri, headers, body, peer, tls } = request;
            let body = match body {
                RequestBody::Whole(bytes) => CoreBody::Read(bytes),
                RequestBody::Coming(upload) => CoreBody::Coming(upload),
                RequestBody::TooLarge { .. } => CoreBody::TooLarge,
                RequestBody::Broken(reason) => return refused(StatusCode::BAD_REQUEST, &format!("the request body broke off: {reason}")),
                RequestBody::NoRoom => return overloaded(),
                RequestBody::TooSlow => return refused(StatusCode::REQUEST_TIMEOUT, "the request body did not come in time"),
            };
            let client_chain = match client_chain(rules.forwarded_for.as_ref(), peer, &headers, tls.as_deref()) {
                Ok(client_chain) => client_chain,
                Err(text) => return refused(StatusCode::BAD_REQUEST, &text),
            };
            let peer = match peer {
                Peer::Tcp(address) => match rules.client(address, &headers) {
                    Ok(address) => Some(address),
                    Err(text) => return refused(StatusCode::BAD_REQUEST, &text),
                },
                Peer::Unix => None,
            };
            let namespace = headers.get(NAMESPACE).cloned();
            let request = HttpRequest { method, uri, headers, body, peer, client_chain, opened: rules.opened };
            let mut response = written(core.handle(request).await);
            if let Some(namespace) = namespace {
                // As recorded: the header comes back, whatever it says.
                response.headers.insert(NAMESPACE, namespace);
            }
            rules.add_headers(&mut response);
            response
        })
    }
}

impl Rules {
    /// The client's address: the peer's, or the one that a trusted proxy names. Errors: Vault's texts.
    fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<SocketAddr, String> {
        let Some(rules) = &self.forwarded_for else { return Ok(peer) };
        let mut chain: Vec<&str> = Vec::new();
        for value in headers.get_all("x-forwarded-for") {
            let text = value.to_str().map_err(|_not_text| "malformed x-forwarded-for header".to_owned())?;
            chain.extend(text.split(',').map(str::trim));
        }
        if chain.is_empty() {
            let text = "missing x-forwarded-for header and configured to reject when not present";
            return if rules.reject_not_present { Err(text.to_owned()) } else { Ok(peer) };
        }
        if !rules.proxies.iter().any(|proxy| proxy.contains(peer.ip())) {
            let text = "client address not authorized for x-forwarded-for and configured to reject connection";
            return if rules.reject_not_authorized { Err(text.to_owned()) } else { Ok(peer) };
        }
        let skips = usize::try_from(rules.hop_skips).unwrap_or(usize::MAX);
        let named = chain.iter().rev().nth(skips).ok_or_else(|| {
            format!(
                "malformed x-forwarded-for configuration or request, hops to skip ({skips}) would skip before earliest chain link (chain length {})",
                chain.len()
            )
        })?;
        if let Ok(address) = named.parse::<SocketAddr>() {
            return Ok(address);
        }
        let address = named.trim_matches(['[', ']']).parse().map_err(|_no_address| "malformed x-forwarded-for header".to_owned())?;
        Ok(SocketAddr::new(address, peer.port()))
    }

    fn add_headers(&self, response: &mut ServerResponse) {
        let status = response.status.as_u16();
        let class = format!("{}xx", status / 100);
        for group in self
            .custom_headers
            .iter()
            .filter(|group| group.status == "default" || group.status == class || group.status == status.to_string())
        {
            for (name, value) in &group.headers {
                response.headers.insert(name, value.clone());
            }
        }
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
    let body = answer.more.map_or(Body::Full(answer.body), Body::Stream);
    ServerResponse { status, headers, body, receipt: answer.receipt }
}

/// Too many requests, or too much in their bodies: clients that are told when come again by themselves.
fn overloaded() -> ServerResponse {
    let mut response = refused(StatusCode::SERVICE_UNAVAILABLE, OVERLOADED);
    response.headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn refused(status: StatusCode, text: &str) -> ServerResponse {
    let body = serde_json::json!({ "errors": [text] }).to_string();
    ServerResponse { status, headers: common(), body: Body::Full(Bytes::from(body)), receipt: None }
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

#[cfg(test)]
mod tests {
    use crate::config::listener::Cidr;

    use super::*;

    fn rules(hop_skips: u64, strict: bool) -> Rules {
        let proxies = vec![Cidr::parse("10.0.0.0/8").unwrap()];
        let forwarded_for = ForwardedFor {
            proxies,
            hop_skips,
            reject_not_present: strict,
            reject_not_authorized: strict,
            client_cert_header: None,
            client_cert_decoders: Vec::new(),
        };
        Rules { forwarded_for: Some(forwarded_for), custom_headers: Vec::new(), opened: Opened::default() }
    }

    fn asked(rules: &Rules, peer: &str, header: Option<&str>) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert("x-forwarded-for", header.parse().unwrap());
        }
        rules.client(peer.parse().unwrap(), &headers).map(|address| address.to_string())
    }

    #[test]
    fn a_trusted_proxy_names_the_client() {
        assert_eq!(asked(&rules(0, true), "10.1.1.1:5000", Some("1.2.3.4, 5.6.7.8")).unwrap(), "5.6.7.8:5000");
        assert_eq!(asked(&rules(1, true), "10.1.1.1:5000", Some("1.2.3.4, 5.6.7.8")).unwrap(), "1.2.3.4:5000");
        assert!(asked(&rules(2, true), "10.1.1.1:5000", Some("1.2.3.4, 5.6.7.8")).unwrap_err().contains("hops to skip (2)"));
    }

    #[test]
    fn a_stranger_cannot_name_another_address() {
        assert!(asked(&rules(0, true), "192.0.2.1:5000", Some("127.0.0.1")).unwrap_err().contains("not authorized"));
        assert_eq!(asked(&rules(0, false), "192.0.2.1:5000", Some("127.0.0.1")).unwrap(), "192.0.2.1:5000");
        assert_eq!(asked(&Rules::default(), "192.0.2.1:5000", Some("127.0.0.1")).unwrap(), "192.0.2.1:5000");
        assert!(asked(&rules(0, true), "10.1.1.1:5000", None).unwrap_err().contains("missing x-forwarded-for"));
    }
}
