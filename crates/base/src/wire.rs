//! The JSON that goes over the wire, for the server that writes it and the client that reads it.
//!
//! Source: the answers of Vault 1.21 (`protocol` reference, sections 5, 6 and 10).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::{Secret, Timestamp};

/// The envelope of every successful answer of a logical endpoint. All nine keys are always present.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Envelope {
    /// UUIDv4 of the request; empty on wrapped answers.
    #[serde(default)]
    pub request_id: String,
    /// Lease of the secret; empty when there is none.
    #[serde(default)]
    pub lease_id: String,
    /// Whether the lease can be renewed.
    #[serde(default)]
    pub renewable: bool,
    /// How long the lease lasts, in seconds.
    #[serde(default)]
    pub lease_duration: u64,
    /// What was asked for.
    #[serde(default)]
    pub data: Option<Value>,
    /// Where the answer was put instead, when wrapping was asked for.
    #[serde(default)]
    pub wrap_info: Option<WrapInfo>,
    /// Remarks for the person who reads the answer.
    #[serde(default)]
    pub warnings: Option<Vec<String>>,
    /// The token, when the request was a login or made or renewed a token.
    #[serde(default)]
    pub auth: Option<Auth>,
    /// Type of the mount that answered (`kv`, `aws`, `system`); empty on wrapped answers.
    #[serde(default)]
    pub mount_type: String,
}

/// A token, as logins and `auth/token/create` hand it out.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Auth {
    /// The token.
    #[serde(serialize_with = "expose")]
    pub client_token: Secret<String>,
    /// A name for the token that gives none of its rights; empty for batch tokens.
    #[serde(default)]
    pub accessor: String,
    /// Sorted union of token and identity policies.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Policies of the token itself. Vault leaves the key out when empty; strict clients need it, so it is always there.
    #[serde(default)]
    pub token_policies: Vec<String>,
    /// Policies of the token's entity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identity_policies: Vec<String>,
    /// What the login proved, or what the creator wrote down.
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Lifetime in seconds; 0 never ends.
    #[serde(default)]
    pub lease_duration: u64,
    /// Whether the token can be renewed.
    #[serde(default)]
    pub renewable: bool,
    /// The entity of the caller, or empty.
    #[serde(default)]
    pub entity_id: String,
    /// `service` or `batch`.
    #[serde(default)]
    pub token_type: String,
    /// Whether the token outlives its maker.
    #[serde(default)]
    pub orphan: bool,
    /// A second factor that is still wanted; always null here.
    #[serde(default)]
    pub mfa_requirement: Option<Value>,
    /// Requests left; 0 is without limit.
    #[serde(default)]
    pub num_uses: i64,
}

/// Where a wrapped answer can be fetched, once.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct WrapInfo {
    /// The one-use token that fetches the answer.
    #[serde(serialize_with = "expose")]
    pub token: Secret<String>,
    /// Its accessor.
    #[serde(default)]
    pub accessor: String,
    /// How long the answer is kept, in seconds.
    #[serde(default)]
    pub ttl: u64,
    /// When it was put there.
    pub creation_time: Timestamp,
    /// The path that was asked.
    #[serde(default)]
    pub creation_path: String,
    /// Accessor of the token or secret id inside, if one is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub wrapped_accessor: String,
}

/// The body of a refusal.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Errors {
    /// Messages, possibly none.
    pub errors: Vec<String>,
    /// Rarely: data beside the messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

fn expose<S: Serializer>(secret: &Secret<String>, serializer: S) -> Result<S::Ok, S::Error> {
    // The wire is where a token is meant to go.
    serializer.serialize_str(secret.expose())
}
