//! Requests and answers as the server hands them over: HTTP's nouns, without any HTTP server.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use daypass_base::{ClientChain, Download, Receipt, Upload};
use http::{HeaderMap, Method, Uri};

/// A request whose body has been read.
#[derive(Debug)]
pub struct HttpRequest {
    /// The method, also ones that HTTP does not know, such as `LIST`.
    pub method: Method,
    /// Path and query as sent.
    pub uri: Uri,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// Who sent it; `None` over a unix socket.
    pub peer: Option<SocketAddr>,
    /// The certificates that the client showed; `None` where there was no TLS to show them over.
    pub client_chain: Option<Arc<ClientChain>>,
    /// What its listener lets be read without a token.
    pub opened: Opened,
}

/// What a listener lets be read without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Opened {
    /// `sys/in-flight-req`.
    pub in_flight_requests: bool,
    /// `sys/metrics`.
    pub metrics: bool,
}

impl Opened {
    pub(crate) fn has(self, path: &str) -> bool {
        match path {
            "sys/in-flight-req" => self.in_flight_requests,
            "sys/metrics" => self.metrics,
            _ => false,
        }
    }
}

/// Whether the body of such a request is wanted as it comes, rather than when it is whole: the only ones too large to be held.
#[must_use]
pub fn takes_upload(method: &Method, uri: &Uri) -> bool {
    matches!(method.as_str(), "POST" | "PUT") && uri.path().strip_prefix("/v1/").is_some_and(is_upload)
}

/// The paths whose body is no JSON.
pub(crate) fn is_upload(path: &str) -> bool {
    let snapshot = path.strip_prefix("sys/storage/").map(|path| path.strip_prefix("raft/").unwrap_or(path));
    matches!(snapshot, Some("snapshot" | "snapshot-force"))
}

/// A request's body.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Read(Bytes),
    /// It is still coming: only where [`takes_upload`] says so.
    Coming(Upload),
    /// It is over the limit, and what came was dropped.
    TooLarge,
}

/// An answer, ready to be sent.
#[derive(Debug)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
    /// What follows the body, piece by piece, until the sender is dropped.
    pub more: Option<Download>,
    /// Usual headers that this answer goes without; names in lower case.
    pub without: &'static [&'static str],
    /// To be told that the answer reached its client; dropped, it did not.
    pub receipt: Option<Receipt>,
}

impl HttpResponse {
    /// An answer without a body, of type JSON as all of Vault's.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), more: None, without: &[], receipt: None }
    }

    /// A header of the answer.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }
}
