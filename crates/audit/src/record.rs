//! What is told to the audit devices. All of it is borrowed: a record lives no longer than the call that writes it.
//!
//! Field names and their order are those of the lines that Vault writes (API documentation, "Audit devices", and recorded lines).
//! A field that is empty, zero, false or `None` is left out of the line.

use std::collections::{BTreeMap, BTreeSet};

use daypass_base::{Seconds, Timestamp};
use serde_json::{Map, Value};

/// One line of an audit log.
#[derive(Clone, Copy, Default)]
pub struct Record<'a> {
    /// Before the request is processed, or before its answer is sent.
    pub record_type: RecordType,
    /// When, by the server's clock.
    pub time: Timestamp,
    /// Who asked; `None` when nobody is known.
    pub auth: Option<AuthRecord<'a>>,
    /// Why the request was refused or failed. Written in clear: it must hold no secret.
    pub error: &'a str,
    /// What was asked.
    pub request: RequestRecord<'a>,
    /// What was answered; written in records of that type only.
    pub response: Option<ResponseRecord<'a>>,
    /// Keys of the request's data whose strings stay clear (the mount's `audit_non_hmac_request_keys`).
    pub non_hmac_request_keys: &'a [String],
    /// Keys of the answer's data whose strings stay clear (the mount's `audit_non_hmac_response_keys`).
    pub non_hmac_response_keys: &'a [String],
    /// How much room it may take.
    pub room: Room,
}

/// How much room a record may take in a line, and its line in a device's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that the request's data may take. Where it takes more, a summary stands in its place.
    pub request_data: usize,
    /// The same of the answer's data.
    pub response_data: usize,
    /// The part of the queue that it may use.
    pub share: Share,
}

impl Default for Room {
    /// As much as it takes.
    fn default() -> Self {
        Self { request_data: usize::MAX, response_data: usize::MAX, share: Share::All }
    }
}

/// A part of a device's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// For records of callers who are known.
    All,
    /// For those of strangers, whose number nobody limits: they must not keep others from being recorded.
    Half,
}

/// Which half of an exchange a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecordType {
    /// The request, before it is processed.
    #[default]
    Request,
    /// The answer, before it is sent.
    Response,
}

impl RecordType {
    /// As the line says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

/// A token and what it may do: the caller's, or one that an answer hands out.
#[derive(Clone, Copy, Default)]
pub struct AuthRecord<'a> {
    /// The token; hashed.
    pub client_token: &'a str,
    /// Its accessor; hashed unless the device has `hmac_accessor=false`.
    pub accessor: &'a str,
    /// Shown name of the login.
    pub display_name: &'a str,
    /// Id of the entity behind it.
    pub entity_id: &'a str,
    /// Whether this login made the entity.
    pub entity_created: bool,
    /// Policies that the entity adds.
    pub identity_policies: Option<&'a dyn Strings>,
    /// What the login proved; in clear.
    pub metadata: Option<&'a dyn Pairs>,
    /// Whether `default` was left out on request.
    pub no_default_policy: bool,
    /// Uses that the token was made with.
    pub num_uses: u64,
    /// All policies.
    pub policies: Option<&'a dyn Strings>,
    /// What the policies said to this request.
    pub policy_results: Option<PolicyResults<'a>>,
    /// Uses that are left after this one.
    pub remaining_uses: u64,
    /// Policies of the token itself.
    pub token_policies: Option<&'a dyn Strings>,
    /// When the token was made; written in whole seconds.
    pub token_issue_time: Option<Timestamp>,
    /// How long the token was made for.
    pub token_ttl: Seconds,
    /// `service` or `batch`.
    pub token_type: &'a str,
}

/// What the policies said.
#[derive(Clone, Copy, Default)]
pub struct PolicyResults<'a> {
    /// Whether the request was allowed. Written even when false.
    pub allowed: bool,
    /// The policies that allowed it.
    pub granting_policies: &'a [GrantingPolicy<'a>],
}

/// A policy that allowed a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct GrantingPolicy<'a> {
    /// Its name.
    pub name: &'a str,
    /// `acl`, or empty for the root policy.
    pub policy_type: &'a str,
}

/// What was asked.
#[derive(Clone, Copy, Default)]
pub struct RequestRecord<'a> {
    /// Serial number of the client's TLS certificate, in decimal.
    pub client_certificate_serial_number: &'a str,
    /// The entity's id, or what stands for it in client counts.
    pub client_id: &'a str,
    /// The token that came with the request; hashed.
    pub client_token: &'a str,
    /// Its accessor; hashed unless the device has `hmac_accessor=false`.
    pub client_token_accessor: &'a str,
    /// The parameters; strings in it are hashed.
    pub data: Option<&'a Map<String, Value>>,
    /// All headers of the request, names in any case; the line has those that the rules name.
    pub headers: Option<&'a dyn Pairs>,
    /// The request id, the same as in the answer.
    pub id: &'a str,
    /// The mount that serves the path.
    pub mount: MountRecord<'a>,
    /// `read`, `update`, `list`, ... as policies call it.
    pub operation: &'a str,
    /// The path without `/v1/`.
    pub path: &'a str,
    /// Address of the client, without the port.
    pub remote_address: &'a str,
    /// Its port.
    pub remote_port: u16,
    /// Path and query as they came. Values in the query are hashed, but for those that are never secret.
    pub request_uri: &'a str,
    /// How long the answer is asked to be wrapped for.
    pub wrap_ttl: Seconds,
}

/// A mount, as both halves of an exchange name it.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountRecord<'a> {
    /// Such as `aws_1a2b3c4d`.
    pub accessor: &'a str,
    /// `secret` or `auth`.
    pub class: &'a str,
    /// Its path with the trailing slash.
    pub point: &'a str,
    /// Version of the engine.
    pub running_version: &'a str,
    /// Type of the engine.
    pub mount_type: &'a str,
}

/// What was answered. The mount is the request's and is written again.
#[derive(Clone, Copy, Default)]
pub struct ResponseRecord<'a> {
    /// The token that a login hands out; hashed.
    pub auth: Option<AuthRecord<'a>>,
    /// The data; strings in it are hashed.
    pub data: Option<&'a Map<String, Value>>,
    /// What the answer is about, never secret: id of the access key, role, session name; in clear.
    pub facts: Option<&'a dyn Pairs>,
    /// Headers that the engine set; in clear.
    pub headers: Option<&'a dyn Pairs>,
    /// Id of the lease.
    pub lease_id: &'a str,
    /// Where the client is sent.
    pub redirect: &'a str,
    /// Warnings; in clear.
    pub warnings: Option<&'a dyn Strings>,
    /// The wrapping token, when the answer is wrapped.
    pub wrap_info: Option<WrapRecord<'a>>,
}

/// A wrapping token.
#[derive(Debug, Clone, Copy, Default)]
pub struct WrapRecord<'a> {
    /// Its accessor; hashed unless the device has `hmac_accessor=false`.
    pub accessor: &'a str,
    /// The path whose answer it wraps.
    pub creation_path: &'a str,
    /// When it was made.
    pub creation_time: Timestamp,
    /// The token; hashed.
    pub token: &'a str,
    /// How long it can be unwrapped.
    pub ttl: Seconds,
    /// Accessor of a token inside; hashed as the other one.
    pub wrapped_accessor: &'a str,
}

/// Several strings, whatever holds them.
pub trait Strings: Sync {
    /// Calls `visit` with each, in order.
    fn each(&self, visit: &mut dyn FnMut(&str));
}

impl<T: AsRef<str> + Sync> Strings for Vec<T> {
    fn each(&self, visit: &mut dyn FnMut(&str)) {
        for text in self {
            visit(text.as_ref());
        }
    }
}

impl<T: AsRef<str> + Sync> Strings for &[T] {
    fn each(&self, visit: &mut dyn FnMut(&str)) {
        for text in *self {
            visit(text.as_ref());
        }
    }
}

impl<T: AsRef<str> + Sync> Strings for BTreeSet<T> {
    fn each(&self, visit: &mut dyn FnMut(&str)) {
        for text in self {
            visit(text.as_ref());
        }
    }
}

/// Several pairs of strings, whatever holds them.
pub trait Pairs: Sync {
    /// Calls `visit` with each, in order. A key may come more than once.
    fn each(&self, visit: &mut dyn FnMut(&str, &str));
}

impl<K: AsRef<str> + Sync, V: AsRef<str> + Sync> Pairs for Vec<(K, V)> {
    fn each(&self, visit: &mut dyn FnMut(&str, &str)) {
        for (key, value) in self {
            visit(key.as_ref(), value.as_ref());
        }
    }
}

impl<K: AsRef<str> + Sync, V: AsRef<str> + Sync> Pairs for BTreeMap<K, V> {
    fn each(&self, visit: &mut dyn FnMut(&str, &str)) {
        for (key, value) in self {
            visit(key.as_ref(), value.as_ref());
        }
    }
}
