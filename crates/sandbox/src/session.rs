//! Sessions (what a session token says about its bearer) and callers (who an authenticated request comes from).

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_base::{Secret, Timestamp};
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, Result};
use crate::policy::{Document, Use};
use crate::seal::{IdKind, Purpose, Sealer, new_id};

/// The content of a session token. Everything that a later request needs is in it, so that the sandbox keeps no list of sessions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) key_id: String,
    pub(crate) account: String,
    pub(crate) bearer: Bearer,
    /// Seconds since 1970.
    pub(crate) issued: i64,
    /// Seconds since 1970.
    pub(crate) expires: i64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tags: BTreeMap<String, String>,
    /// Keys of the tags that the next role inherits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) transitive: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_identity: Option<String>,
    /// Session policy, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
    /// Managed policies passed as session policies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) policy_arns: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) mfa: bool,
    /// Another role's session made it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) chained: bool,
    /// The parsed `policy`; filled when a token is opened.
    #[serde(skip)]
    pub(crate) document: Option<Arc<Document>>,
}

/// Who holds a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Bearer {
    /// From `GetFederationToken`.
    Federated { user: String, name: String },
    /// From one of the `AssumeRole` actions, or from a credentials endpoint.
    Role { role: String, role_id: String, name: String },
    /// From `GetSessionToken`.
    User { user: String, user_id: String },
}

/// An authenticated caller.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) account: String,
    pub(crate) kind: CallerKind,
    /// As `GetCallerIdentity` says it.
    pub(crate) arn: String,
    /// The user's or role's own ARN.
    pub(crate) principal_arn: String,
    /// As `GetCallerIdentity` says it.
    pub(crate) user_id: String,
    pub(crate) key_id: String,
    /// Absent for long-term keys.
    pub(crate) session: Option<Arc<Session>>,
}

/// What kind of principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallerKind {
    Federated { user: String },
    Role { role: String },
    User { user: String },
}

/// A temporary credential just made.
#[derive(Debug)]
pub(crate) struct Credential {
    pub(crate) key_id: String,
    pub(crate) secret: Secret<String>,
    pub(crate) token: Secret<String>,
    pub(crate) expires: Timestamp,
}

impl Session {
    /// A session without tags and policies. The key id is made here.
    pub(crate) fn begin(sealer: &Sealer, account: &str, bearer: Bearer, issued: Timestamp, expires: Timestamp) -> Self {
        Self {
            key_id: new_id(sealer.entropy(), IdKind::TemporaryKey, account),
            account: account.to_owned(),
            bearer,
            issued: issued.seconds(),
            expires: expires.seconds(),
            tags: BTreeMap::new(),
            transitive: Vec::new(),
            source_identity: None,
            policy: None,
            policy_arns: Vec::new(),
            mfa: false,
            chained: false,
            document: None,
        }
    }

    /// The credential for this session.
    pub(crate) fn credential(&self, sealer: &Sealer) -> Result<Credential> {
        let broken =
            || Fault::new(500, "InternalFailure", "The request processing has failed because of an unknown error, exception or failure.");
        let plain = serde_json::to_vec(self).map_err(|_never| broken())?;
        let token = sealer.seal(Purpose::Session, &plain).ok_or_else(broken)?;
        Ok(Credential {
            key_id: self.key_id.clone(),
            secret: Secret::new(sealer.secret_of(&self.key_id)),
            token: Secret::new(token),
            expires: Timestamp::from_seconds(self.expires),
        })
    }

    /// The session inside a token, or `None` when the token is not ours.
    pub(crate) fn open(sealer: &Sealer, token: &str) -> Option<Self> {
        let mut session: Self = serde_json::from_slice(&sealer.open(Purpose::Session, token)?).ok()?;
        session.document = match &session.policy {
            Some(text) => Some(Arc::new(Document::parse(text, Use::Identity).ok()?)),
            None => None,
        };
        Some(session)
    }

    /// Whether a session policy narrows it.
    pub(crate) fn is_narrowed(&self) -> bool {
        self.policy.is_some() || !self.policy_arns.is_empty()
    }
}

impl Caller {
    /// The user's name when it is a user (also with a session of `GetSessionToken`).
    pub(crate) fn user(&self) -> Option<&str> {
        match &self.kind {
            CallerKind::User { user } => Some(user),
            CallerKind::Federated { .. } | CallerKind::Role { .. } => None,
        }
    }
}
