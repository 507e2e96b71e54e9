//! What can go wrong in a request, sorted by what the client can do about it.

use daypass_base::{Seconds, brief};
use serde_json::Value;

/// What an engine or the core returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The sort of a failure. One function in the core maps it to a status and a body; nothing matches on texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is wrong; the message says how. 400, bare text.
    BadRequest,
    /// Policy or state forbids it. 403, text in Vault's multi-error form.
    Denied,
    /// The work failed in a way that the caller may be told. 500, text in Vault's multi-error form.
    Failed,
    /// A bug or a broken store; the client is told no more than the request id. 500.
    Internal,
    /// The request is wrong, in the form that Vault gives errors of its own core: 400, multi-error form.
    InvalidRequest,
    /// Nothing is there. 404 with no message.
    NotFound,
    /// The engine has no such path. 404 `unsupported path`.
    NoSuchPath,
    /// The store is full, or stopped until a restart: writes are refused, reads go on. 507 would confuse clients; 503 with a clear text.
    StoreFull,
    /// The server is sealed. 503.
    Sealed,
    /// This node does not serve. 503.
    Standby,
    /// Over a rate or a quota. 429.
    TooMany,
    /// Something beyond daypass refused or failed; its answer is passed on. 400, bare text, as Vault does.
    Upstream,
    /// Something beyond daypass asks for fewer calls. 502.
    UpstreamThrottled,
    /// The wrapping token is spent or was never valid. 400.
    WrappingToken,
    /// The path exists, but not for this operation. 405 `unsupported operation`.
    WrongOperation,
}

/// A failure with a message for the client and, apart from it, the cause for the log.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The sort.
    pub kind: Kind,
    /// For the client: what was wrong, with which value and limit, and what to do. Never a secret, and never the whole of a long value
    /// ([`daypass_base::Brief`]).
    pub message: String,
    /// For the log only.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// Rarely: data beside the message, as some of Vault's refusals carry.
    pub data: Option<Box<Value>>,
    /// Remarks beside the message.
    pub warnings: Vec<String>,
    /// The message is not put into the multi-error form.
    pub bare: bool,
    /// A login failed because what it presented was wrong: it counts towards the lock-out of [`crate::Engine::login_alias`].
    pub wrong_credentials: bool,
    /// When it is worth trying again, from now; zero is unknown. Shown as `Retry-After`.
    pub retry_after: Seconds,
}

impl Error {
    /// A failure of this sort with this message, which is cut where it is longer than any client reads ([`daypass_base::brief::cut`]): nobody keeps
    /// more of it, neither the log nor the audit devices.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: brief::cut(message.into()),
            source: None,
            data: None,
            warnings: Vec::new(),
            bare: false,
            wrong_credentials: false,
            retry_after: Seconds::ZERO,
        }
    }

    /// The request is wrong: 400 with this text.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Kind::BadRequest, message)
    }

    /// A login presented something wrong: 400 with this text, and one step towards the lock-out.
    pub fn wrong_credentials(message: impl Into<String>) -> Self {
        Self { wrong_credentials: true, ..Self::new(Kind::BadRequest, message) }
    }

    /// Forbidden.
    #[must_use]
    pub fn denied() -> Self {
        Self::new(Kind::Denied, "permission denied")
    }

    /// Nothing is there.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(Kind::NotFound, "not found")
    }

    /// The path is not one of the engine's.
    #[must_use]
    pub fn no_such_path() -> Self {
        Self::new(Kind::NoSuchPath, "unsupported path")
    }

    /// The path does not take this operation.
    #[must_use]
    pub fn wrong_operation() -> Self {
        Self::new(Kind::WrongOperation, "unsupported operation")
    }

    /// The work failed and the caller may know why: 500 in Vault's multi-error form.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// A bug or a broken store; `message` goes to the log with the cause, the client learns only the request id.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// Shows the message as it is, also where the sort usually puts it into Vault's multi-error form.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// Says when it is worth trying again, from now.
    #[must_use]
    pub fn retry_after(mut self, wait: Seconds) -> Self {
        self.retry_after = wait;
        self
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds data beside the message.
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = Some(Box::new(data));
        self
    }

    /// Adds a remark beside the message.
    #[must_use]
    pub fn with_warning(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_no_longer_than_a_client_reads() {
        let message = Error::bad_request("x".repeat(1 << 20)).message;
        assert!(message.len() <= 16 << 10 && message.ends_with("the whole text has 1048576 bytes)"), "{} bytes", message.len());
        assert_eq!(Error::denied().message, "permission denied");
    }
}
