//! What a handler may answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use daypass_base::{Receipt, Seconds, Secret, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::declared::Shape;
use crate::{Error, Result};

/// An answer: its outcome and remarks for the reader.
#[derive(Debug, Default)]
pub struct Reply {
    /// What came of the request.
    pub outcome: Outcome,
    /// Remarks.
    pub warnings: Vec<String>,
    /// Extra headers; names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// Repeat the keys of `data` at the top level of the answer, as the oldest `sys/` paths do for old clients.
    pub top_level: bool,
    /// `lease_duration` of an answer that has no lease (KV v1): how long the reader may keep the data. Zero otherwise.
    pub keep_for: Seconds,
    /// The answer is wrapped for so long, unless its client says how long itself. For the core's own rooms.
    pub wrap_for: Option<Seconds>,
    /// Tells whether the answer reached its client. For the core's own rooms.
    pub receipt: Option<Receipt>,
}

/// The forms of an answer.
#[derive(Debug, Default)]
pub enum Outcome {
    /// 202 without a body, or with an envelope when there are warnings.
    Accepted,
    /// Bare JSON without the envelope, with a status.
    Bare(u16, Value),
    /// 200 with an envelope around this data.
    Data(Map<String, Value>),
    /// 200 with a leased secret.
    Leased(Box<Leased>),
    /// 200 with a token to be made: the core makes it.
    Login(Box<Login>),
    /// 404 with an envelope around this data: deleted versions of KV v2.
    Missing(Map<String, Value>),
    /// 204.
    #[default]
    Nothing,
    /// 200 with an envelope whose `data` is null: there are only warnings, or the core fills in `auth` or the lease.
    NullData,
    /// 200 with a renewed lease of this id: `data` null, the lease in the envelope.
    RenewedLease {
        /// The lease.
        id: String,
        /// Whether it can be renewed again.
        renewable: bool,
        /// Its new lifetime.
        ttl: Seconds,
    },
    /// A body as it is, with status and content type.
    Raw(u16, &'static str, Bytes),
    /// 200 with a body of this content type that comes piece by piece, until the sender is dropped. For the core's own rooms.
    Stream(&'static str, daypass_base::Download),
    /// A token that the core's token room made or renewed.
    Token(Box<daypass_base::wire::Auth>),
    /// 200 with where the core put an answer away.
    Wrapped(Box<daypass_base::wire::WrapInfo>),
}

/// Data as an answer: any value that serialises to an object.
#[derive(Debug)]
pub struct Json<T>(pub T);

/// Names as a list answer. Without names the client sees 404.
#[derive(Debug)]
pub struct Keys(pub Vec<String>);

/// A secret with a lease.
#[derive(Debug)]
pub struct Leased {
    /// The secret, as the client sees it.
    pub data: Map<String, Value>,
    /// How long it lasts.
    pub terms: LeaseTerms,
    /// What the engine needs to revoke or renew it. `None`: nothing is stored; the lease id is signed and describes itself.
    pub internal: Option<Value>,
    /// When the secret ends by itself, which may be later than its lease does: the mount or a batch token can end that earlier. `None`: the
    /// engine takes it back when the lease ends.
    pub ends: Option<Timestamp>,
    /// Facts for the audit log and the mint ledger, never secret: access key id, session name, role ARN.
    pub facts: BTreeMap<String, String>,
    /// Changes of the engine's own storage that are committed together with a stored lease: they clear the note that the engine made before
    /// it acted. Where the lease could not be stored and the secret was taken back, those that delete are made alone.
    pub also: crate::Changes,
    /// A row of the engine's own storage that goes with a stored lease, in the commit that removes it.
    pub row: Option<String>,
    /// The client reads `data` alone: it gets no envelope, and never learns the lease's id.
    pub without_envelope: bool,
}

/// The lifetime of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTerms {
    /// How long from now; zero takes the mount's default.
    pub ttl: Seconds,
    /// How long at most with renewals; zero takes the mount's maximum.
    pub max_ttl: Seconds,
    /// Whether it can be renewed.
    pub renewable: bool,
}

/// Refuses metadata that no token can carry.
///
/// Errors: `BadRequest` when its names and values have more than [`METADATA_BYTES_MAX`] bytes.
pub fn check_metadata(pairs: &BTreeMap<String, String>) -> Result<()> {
    let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes <= METADATA_BYTES_MAX {
        return Ok(());
    }
    Err(Error::bad_request(format!("the metadata has {bytes} bytes, the limit for all of a token's is {METADATA_BYTES_MAX}: give it less")))
}

/// The most bytes that names and values of a token's metadata may have together. Vault ends at the size of a request; but tokens are read
/// many at a time when they expire, and their metadata goes into the audit log with each request.
pub const METADATA_BYTES_MAX: usize = 64 * 1024;

/// A successful login: what the token shall be.
#[derive(Debug, Default)]
pub struct Login {
    /// Policies of the token; `default` is added by the core unless `no_default_policy`.
    pub policies: Vec<String>,
    /// What was proved.
    pub metadata: BTreeMap<String, String>,
    /// The method's own part of the display name: the user, the role. May be empty.
    pub display_name: String,
    /// Name of the identity alias: user name, role id.
    pub alias: String,
    /// Groups that the method says the caller is in, by the names of external groups' aliases.
    pub groups: Vec<String>,
    /// Lifetime; zero takes the mount's default.
    pub ttl: Seconds,
    /// Longest lifetime with renewals; zero takes the mount's maximum.
    pub max_ttl: Seconds,
    /// A limit that even periodic tokens keep.
    pub explicit_max_ttl: Seconds,
    /// Every renewal sets the lifetime to this, without an end.
    pub period: Seconds,
    /// Requests the token is good for; 0 is without limit.
    pub num_uses: i64,
    /// Networks the token may be used from; empty for all.
    pub bound_cidrs: Vec<String>,
    /// `""`, `default`, `service`, `batch`, `default-service`, `default-batch`.
    pub token_type: String,
    /// Leave `default` out.
    pub no_default_policy: bool,
    /// Whether the token can be renewed.
    pub renewable: bool,
    /// What the engine wants to see again at renewal.
    pub internal: Option<Value>,
}

impl Reply {
    /// 200 with data.
    #[must_use]
    pub fn data(data: Map<String, Value>) -> Self {
        Outcome::Data(data).into()
    }

    /// 200 with a serialisable value. A value that is no object is put under `value`.
    pub fn json(value: impl Serialize) -> Self {
        Self::data(object(value))
    }

    /// 204.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Adds a remark. An answer that would have no body gets an envelope to carry it.
    #[must_use]
    pub fn warn(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        if matches!(self.outcome, Outcome::Nothing) {
            self.outcome = Outcome::NullData;
        }
        self
    }

    /// Says how long the reader may keep the data: the `lease_duration` of an answer without a lease.
    #[must_use]
    pub fn keep_for(mut self, duration: Seconds) -> Self {
        self.keep_for = duration;
        self
    }

    /// Repeats the keys of `data` at the top level.
    #[must_use]
    pub fn at_top_level(mut self) -> Self {
        self.top_level = true;
        self
    }

    /// Whether the answer has a body that can carry warnings.
    #[must_use]
    pub fn has_envelope(&self) -> bool {
        !matches!(self.outcome, Outcome::Nothing | Outcome::Bare(..) | Outcome::Raw(..) | Outcome::Stream(..))
    }
}

impl Leased {
    /// A secret that ends by itself: nothing is stored.
    pub fn not_renewable(data: impl Serialize, ttl: Seconds) -> Self {
        let terms = LeaseTerms { ttl, max_ttl: Seconds::ZERO, renewable: false };
        Self {
            data: object(data),
            terms,
            internal: None,
            ends: None,
            facts: BTreeMap::new(),
            also: crate::Changes::new(),
            row: None,
            without_envelope: false,
        }
    }

    /// A secret that the engine has to take back: `internal` is stored with the lease.
    pub fn stored(data: impl Serialize, terms: LeaseTerms, internal: impl Serialize) -> Self {
        let internal = serde_json::to_value(internal).unwrap_or(Value::Null);
        Self {
            data: object(data),
            terms,
            internal: Some(internal),
            ends: None,
            facts: BTreeMap::new(),
            also: crate::Changes::new(),
            row: None,
            without_envelope: false,
        }
    }

    /// Says when the secret ends by itself. Only for [`Self::not_renewable`] leases.
    #[must_use]
    pub fn ends(mut self, at: Timestamp) -> Self {
        self.ends = Some(at);
        self
    }

    /// Adds a fact for audit and ledger.
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Into<String>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    /// Names a row of the engine's storage that goes with the lease, however that ends: no other lease may have it. Only for [`Self::stored`] leases.
    #[must_use]
    pub fn with_row(mut self, row: String) -> Self {
        self.row = Some(row);
        self
    }

    /// Adds changes of the engine's storage that are committed together with the lease. Only for [`Self::stored`] leases.
    #[must_use]
    pub fn also(mut self, changes: crate::Changes) -> Self {
        self.also = changes;
        self
    }
}

/// What a handler may return, with what documents say of it.
pub trait Answer: Into<Reply> {
    /// The form of a success.
    const SHAPE: Shape;
}

impl Answer for () {
    const SHAPE: Shape = Shape::Nothing;
}

impl<T: Serialize> Answer for Json<T> {
    const SHAPE: Shape = Shape::Data;
}

impl Answer for Keys {
    const SHAPE: Shape = Shape::Keys;
}

impl Answer for Leased {
    const SHAPE: Shape = Shape::Leased;
}

impl Answer for Login {
    const SHAPE: Shape = Shape::Login;
}

impl Answer for Outcome {
    const SHAPE: Shape = Shape::Any;
}

impl Answer for Reply {
    const SHAPE: Shape = Shape::Any;
}

impl From<Outcome> for Reply {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, ..Self::default() }
    }
}

impl From<()> for Reply {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl<T: Serialize> From<Json<T>> for Reply {
    fn from(Json(value): Json<T>) -> Self {
        Self::json(value)
    }
}

impl From<Keys> for Reply {
    fn from(Keys(keys): Keys) -> Self {
        let mut data = Map::new();
        // An empty list has no `keys` at all; the core turns that into 404, as Vault does.
        if !keys.is_empty() {
            data.insert("keys".to_owned(), keys.into());
        }
        Self::data(data)
    }
}

impl From<Leased> for Reply {
    fn from(leased: Leased) -> Self {
        Outcome::Leased(Box::new(leased)).into()
    }
}

impl From<Login> for Reply {
    fn from(login: Login) -> Self {
        Outcome::Login(Box::new(login)).into()
    }
}

fn object(value: impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(map)) => map,
        Ok(other) => Map::from_iter([("value".to_owned(), other)]),
        Err(_not_json) => Map::new(),
    }
}

/// A secret text that is to be sent: the one way from [`Secret`] into an answer.
pub fn reveal(secret: &Secret<String>) -> Value {
    // An answer is where an issued credential is meant to go.
    Value::String(secret.expose().clone())
}
