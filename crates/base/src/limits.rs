//! Every limit on what a client may send, hold or ask for, in one place. `docs/limits.md` shows them to users; a test compares the two.
//!
//! Listeners take theirs from here and so does the core. What is stored has limits of its own, next to what they protect: policies
//! (`policy/src/limits.rs`), HCL ([`crate::hcl::Limits`]), audit queues (`audit`'s `SinkLimits`), KV paths and metadata (`engines`).

use std::time::Duration;

use crate::Seconds;

/// What a client is granted. The defaults are Vault's where Vault has one.
///
/// ```
/// use daypass_base::Limits;
/// let limits = Limits { body_bytes: 1024, ..Limits::default() };
/// assert_eq!(limits.header_timeout.as_secs(), 10);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time on one listener. Beyond: one that does nothing is closed for a new one, of the address that has most; where there is none, new ones
    /// wait in the kernel's queue until one ends.
    pub connections: usize,
    /// For the TLS handshake. Beyond: closed.
    pub handshake_timeout: Duration,
    /// From a request's first byte to the end of its headers, over HTTP/2 from the first frame that has some of them, and from the start of a connection to its first
    /// request. Beyond: closed.
    pub header_timeout: Duration,
    /// From the end of the headers to the end of the body. Beyond: 408. Also for each 64 KiB of a snapshot, in either direction.
    pub body_timeout: Duration,
    /// Between an answer and the next request, and for each 64 KiB of an answer that its client is to take; an answer that counts towards `all_bodies_bytes`
    /// has it once, and a second for each 64 KiB. Beyond: closed.
    pub idle_timeout: Duration,
    /// Between an answer and giving back the connection's buffers. No client notices.
    pub park_after: Duration,
    /// For reading what a client still sends of a body that was refused, so that it gets to see the answer; and at the end of the server for requests that have not
    /// come in whole.
    pub linger: Duration,
    /// Requests at one time on one HTTP/2 connection. Beyond: the stream is refused.
    pub streams: u32,
    /// Streams of one HTTP/2 connection that its client has reset and that still wait to be looked at. Beyond: closed.
    pub stream_resets: usize,
    /// Requests at one time on one listener. Beyond: 503.
    pub requests: usize,
    /// Headers of a request. Beyond: 431.
    pub headers: usize,
    /// Bytes of request line and headers together, at least 8 KiB. Beyond: 431.
    pub header_bytes: usize,
    /// Bytes of path and query as sent. Beyond: 414.
    pub uri_bytes: usize,
    /// Bytes of a path after decoding. Beyond: 414.
    pub path_bytes: usize,
    /// Segments of a path. Beyond: 400.
    pub path_segments: usize,
    /// Parameters of a query, and of a body that is a form. Beyond: 400.
    pub query_parameters: usize,
    /// Bytes of a request body. Beyond: 413.
    pub body_bytes: usize,
    /// Bytes that are held at one time on one listener: half of it are for bodies, an eighth (or a quarter up to 24 MiB, where that is more) for
    /// requests over HTTP/2, and the rest for answers that their clients have not taken (over HTTP/1: those over 64 KiB). Not counted: 64 KiB of each connection,
    /// 128 KiB over HTTP/2. At least twice `body_bytes` is granted. Beyond: 503. One connection over HTTP/2 has at most a sixteenth of the part for requests, or 12 KiB
    /// for each of its `streams` where that is more. For each 6 MiB of `all_bodies_bytes` one such request may wait for another frame of its headers, 8 at least.
    /// Beyond: closed.
    pub all_bodies_bytes: usize,
    /// Bytes of a snapshot that is restored. Beyond: 400.
    pub snapshot_bytes: u64,
    /// Levels of arrays and objects in a JSON body. Beyond: 400.
    pub json_depth: usize,
    /// Bytes of one JSON string, and of one value of a form, joined where a name comes several times. Beyond: 400.
    pub json_string_bytes: usize,
    /// Entries of one JSON object. Beyond: 400.
    pub json_object_entries: usize,
    /// Elements of one JSON array, and of a text that is read as a list. Beyond: 400.
    pub json_array_elements: usize,
    /// Values in one JSON body. Beyond: 400.
    pub json_tokens: usize,
    /// About how many bytes of memory the values of one JSON body may take. Beyond: 400.
    pub json_memory_bytes: usize,
    /// About how many bytes of memory the fields of all requests under way may take, each counted twice, since its handler gets a copy; a request whose
    /// fields take less than 16 KiB is not counted. At least twice `json_memory_bytes` is granted. Beyond: 503.
    pub all_fields_bytes: usize,
    /// Bytes that the data of a request may take in a line of an audit device, a quarter of what may wait to be written there (`audit`'s `SinkLimits`).
    /// Beyond: 400. Of an answer whose data takes more, the line has a summary.
    pub audit_data_bytes: usize,
    /// The same for callers without a valid token. A line repeats no more than this of what another has.
    pub audit_stranger_data_bytes: usize,
    /// Longest time that a request's work may take. Beyond: 500.
    pub request_seconds: Seconds,
    /// Names in one list answer. Beyond: 400, which says how to ask for pages.
    pub list_names: usize,
    /// Mounts of one server. Beyond: 400.
    pub mounts: usize,
    /// Compiled policy sets kept in memory. Beyond: all of them are forgotten and compiled again when they are needed.
    pub policy_sets_cached: usize,
    /// About how many bytes these and what they make for each caller may take. Beyond: as above.
    pub policy_sets_bytes: usize,
    /// Callers whose groups and identity policies are kept in memory; beyond, all are forgotten and read again.
    pub entities_cached: usize,
    /// Live STS leases whose ids are kept in memory for listings; the oldest are forgotten first.
    pub sts_leases_listed: usize,
    /// Mints that the ledger remembers, in steps of 64; the oldest are forgotten first.
    pub mints_kept: usize,
    /// How long the ledger remembers a mint after its credential is over.
    pub mint_retention: Seconds,
}

/// What a client is told where there is no room for its request or its answer ([`Limits::all_bodies_bytes`], [`Limits::all_fields_bytes`]): with
/// 503 and `Retry-After`.
pub const OVERLOADED: &str = "overloaded, try again later";

/// [`Limits::list_names`] wherever names are listed, also in engines, which see no other limit.
pub const LIST_NAMES: usize = 500_000;

/// The highest [`Limits::json_array_elements`], wherever a text is split at its commas: also inside of other fields, which nobody else looks into.
pub const LIST_ELEMENTS: usize = 10_000;

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(5),
            park_after: Duration::from_millis(100),
            linger: Duration::from_secs(2),
            streams: 128,
            stream_resets: 20,
            requests: 4_096,
            headers: 100,
            header_bytes: 64 << 10,
            uri_bytes: 16 << 10,
            path_bytes: 2_048,
            path_segments: 64,
            query_parameters: 256,
            body_bytes: 32 << 20,
            all_bodies_bytes: 512 << 20,
            snapshot_bytes: 256 << 30,
            json_depth: 300,
            json_string_bytes: 1 << 20,
            json_object_entries: 10_000,
            json_array_elements: LIST_ELEMENTS,
            json_tokens: 500_000,
            json_memory_bytes: 64 << 20,
            all_fields_bytes: 512 << 20,
            audit_data_bytes: 16 << 20,
            // A token of another issuer, which may have 64 KiB, fits twice where it is written in clear; hashes of texts, 1,600 times.
            audit_stranger_data_bytes: 128 << 10,
            request_seconds: Seconds(90),
            list_names: LIST_NAMES,
            mounts: 10_000,
            policy_sets_cached: 1_024,
            policy_sets_bytes: 64 << 20,
            entities_cached: 10_000,
            sts_leases_listed: 100_000,
            mints_kept: 1_000_000,
            mint_retention: Seconds(90 * 86_400),
        }
    }
}
