//! Every limit of a listener, with its unit.

use std::time::Duration;

/// What a listener grants a client, before anybody knows who that is.
///
/// ```
/// use daypass_server::Limits;
/// let limits = Limits { body_bytes_max: 1024, ..Limits::default() };
/// assert_eq!(limits.header_timeout.as_secs(), 10);
/// ```
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at one time. Further ones wait in the kernel's queue until one ends.
    pub connections_max: usize,
    /// Bytes of request line and headers together (at least 8 KiB). More is answered with 431.
    pub header_bytes_max: usize,
    /// Bytes of one request's body. Vault's `max_request_size`.
    pub body_bytes_max: usize,
    /// Bytes of all bodies that are held at one time on this listener. It is not below `body_bytes_max`.
    pub all_bodies_bytes_max: usize,
    /// Requests at one time on one HTTP/2 connection.
    pub streams_max: u32,
    /// For the TLS handshake.
    pub handshake_timeout: Duration,
    /// From a request's first byte to the end of its headers, and from the start of a connection to its first request.
    /// Vault's `http_read_header_timeout`.
    pub header_timeout: Duration,
    /// From the end of the headers to the end of the body. Vault's `http_read_timeout`.
    pub body_timeout: Duration,
    /// Between an answer and the next request, and for a client that has stopped reading an answer. Vault's `http_idle_timeout`.
    pub idle_timeout: Duration,
    /// Between an answer and giving back the connection's buffers.
    pub park_after: Duration,
    /// For reading what a client still sends of a body that was refused, so that it gets to see the answer.
    pub linger: Duration,
}

impl Default for Limits {
    /// Vault's numbers where it has one.
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            header_bytes_max: 64 * 1024,
            body_bytes_max: 32 * 1024 * 1024,
            all_bodies_bytes_max: 512 * 1024 * 1024,
            streams_max: 128,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(5),
            park_after: Duration::from_millis(100),
            linger: Duration::from_secs(2),
        }
    }
}
