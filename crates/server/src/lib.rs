//! Listeners: TCP and unix sockets, TLS, HTTP/1.1 and HTTP/2, limits, and a graceful end. The only user of the HTTP server crates.
//!
//! Turns bytes into a [`ServerRequest`], hands it to a [`Service`], and turns its [`ServerResponse`] into bytes. It knows no path, no token
//! and no JSON: percent-decoding, routing and the text of every error are the service's.
//!
//! - [`listener`] binds. [`tls`] reads certificates and reads them again. [`Limits`] has every number.
//! - [`accept`] takes connections and ends them; [`slots`] finds one to close when all are taken. [`Lanes`] are the threads that they are served on. [`connection`] drives one, with [`pace`] as its watch.
//! - [`request`] reads a body within its limits, of which [`room`] keeps count, and calls the service. [`answer`] is the body that it gives to HTTP, and [`unsent`] knows what of it
//!   nobody has read. [`delivery`] finds out whether an answer arrived, where somebody asks, with [`frames`] for HTTP/2.
//!
//! A connection that waits for its next request holds about 2 KB: after a moment HTTP's buffers are given back, and only the socket is kept.

pub mod accept;
mod answer;
mod client_key;
mod connection;
mod delivery;
mod frames;
mod lanes;

pub mod listener;
mod pace;
mod request;
mod room;
mod slots;
#[cfg(test)]
mod tests;
pub mod tls;
mod unsent;
mod upload;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daypass_base::{BoxFuture, ClientChain, Download, Receipt, Upload};
use http::{HeaderMap, Method, StatusCode, Uri};

pub use accept::{Bound, Server};
pub use daypass_base::Limits;
pub use lanes::Lanes;
pub use listener::Listener;
pub use tls::{Reloader, TlsFiles};

/// From one line of the log that strangers cause to the next.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Answers requests.
pub trait Service: Send + Sync + 'static {
    /// Answers one request.
    ///
    /// The future is always run to its end: when the client goes away it is finished apart from the connection, so that nothing is
    /// left half done. A panic in it is answered with status 500.
    fn handle(&self, request: ServerRequest) -> BoxFuture<'static, ServerResponse>;

    /// Whether the body of such a request is to be handed over while it comes ([`RequestBody::Coming`]) instead of being read first.
    fn takes_upload(&self, _method: &Method, _uri: &Uri) -> bool {
        false
    }
}

/// A request as it came in.
#[derive(Debug)]
pub struct ServerRequest {
    /// Any method, `LIST` included.
    pub method: Method,
    /// As sent: percent-encoded, not cleaned. Raw UTF-8 may be in it; other raw bytes were refused with 400.
    pub uri: Uri,
    /// As sent.
    pub headers: HeaderMap,
    /// The body, or why there is none.
    pub body: RequestBody,
    /// Who sent it.
    pub peer: Peer,
    /// What the TLS handshake showed; `None` when the listener has no TLS.
    pub tls: Option<Arc<TlsFacts>>,
}

/// The body of a request, read to its end before the service is called, but for an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestBody {
    /// The connection broke off, or its framing is wrong; mostly nobody is left to read the answer.
    Broken(String),
    /// It is still coming, at most [`Limits::snapshot_bytes`] of it, and not slower than 64 KiB in each [`Limits::body_timeout`].
    Coming(Upload),
    /// Others have used up its part of [`Limits::all_bodies_bytes`], or [`Limits::requests`] run already. Worth a 503. The rest of the request may be left out.
    NoRoom,
    /// It did not come in within [`Limits::body_timeout`].
    TooSlow,
    /// It is longer than [`Limits::body_bytes`].
    TooLarge {
        /// That limit, in bytes.
        limit: usize,
        /// What was read of it: nothing when its length was announced.
        read: Bytes,
    },
    /// All of it; empty when there was none.
    Whole(Bytes),
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP, from this address.
    Tcp(SocketAddr),
    /// Over a unix socket: a process on this machine.
    Unix,
}

/// What a TLS handshake showed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFacts {
    /// The certificates of the client. Whether anybody vouches for them depends on [`tls::ClientCertificates`].
    pub client_chain: Arc<ClientChain>,
    /// The name that the client asked for.
    pub server_name: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub struct ServerResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its headers. `Date` and `Content-Length` are added.
    pub headers: HeaderMap,
    /// Its body. For a HEAD request only its length is sent.
    pub body: Body,
    /// Told when the client's side has a body that comes all at once; dropped when that is not so. Within seconds after the answer.
    pub receipt: Option<Receipt>,
}

impl ServerResponse {
    /// An answer without headers.
    #[must_use]
    pub fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, headers: HeaderMap::new(), body: Body::Full(body.into()), receipt: None }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub enum Body {
    /// All at once.
    Full(Bytes),
    /// Piece by piece, until the sender is dropped. The sender's `send` fails once the client is gone.
    Stream(Download),
}
