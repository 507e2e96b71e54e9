//! One call, its answer, and what can go wrong.

use std::time::Duration;

use bytes::Bytes;
use daypass_base::{BoxFuture, Secret};

use crate::Url;

/// Longest answer that is read, in bytes: a key set of hundreds of keys with their certificates.
pub const ANSWER_MAX: usize = 512 * 1024;

/// The outcome of a call.
pub type Result<T, E = IdpError> = std::result::Result<T, E>;

/// Identity providers, as auth methods see them.
pub trait Idp: Send + Sync + 'static {
    /// Sends one request within its deadline. Any status but a redirect is an answer.
    fn ask(&self, ask: Ask) -> BoxFuture<'_, Result<Answer>>;
}

/// A request.
#[derive(Debug)]
pub struct Ask {
    /// Where to.
    pub url: Url,
    /// What is sent.
    pub payload: Payload,
    /// Who asks.
    pub proof: Proof,
    /// Whose certificates are good.
    pub trust: Trust,
    /// How long it may take, connecting included.
    pub deadline: Duration,
}

/// What a request sends.
#[derive(Debug)]
pub enum Payload {
    /// Bytes of one type that are no secret, for an answer of another type, by POST.
    Bytes {
        /// `Content-Type`.
        kind: &'static str,
        /// `Accept`.
        wanted: &'static str,
        /// What is sent.
        bytes: Vec<u8>,
    },
    /// Fields of a form, by POST.
    Form(Vec<(&'static str, Secret<String>)>),
    /// Nothing, by GET.
    Nothing,
    /// A JSON document, by POST.
    Json(Secret<String>),
}

/// What a request shows of who asks.
#[derive(Debug)]
pub enum Proof {
    /// A name and a password, encoded as RFC 6749 section 2.3.1 wants.
    Basic(String, Secret<String>),
    /// A token.
    Bearer(Secret<String>),
    /// Nothing.
    Nothing,
}

/// Which authorities vouch for a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those in this PEM text, and those of the system.
    Also(String),
    /// Those in this PEM text, and no others.
    Only(String),
    /// Those of the system.
    #[default]
    System,
}

impl Trust {
    /// From a configured PEM text; empty for the system's own.
    #[must_use]
    pub fn of_pem(pem: &str) -> Self {
        if pem.trim().is_empty() { Self::System } else { Self::Only(pem.to_owned()) }
    }
}

/// An answer whose body has been read.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// `Content-Type` as it came; empty without one.
    pub content_type: String,
    /// At most [`ANSWER_MAX`] bytes.
    pub body: Bytes,
}

/// Why there is no answer, or none that can be used. The texts name hosts and limits, never what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdpError {
    /// Nobody was asked: too many wait for their turn already, or did before.
    #[error("{host} was not asked: {detail}")]
    Crowded {
        /// Who would have been asked.
        host: String,
        /// Which limit there is, and what to do; it names nobody.
        detail: String,
        /// It stood in the line of the one it wanted to ask, who did not come to it in time: those before it may have had no answer.
        slow: bool,
    },
    /// The provider says something else than was configured.
    #[error("{0}")]
    Mismatch(String),
    /// The answer is not what was asked for.
    #[error("{0}")]
    Nonsense(String),
    /// A redirect: who answers would be another than was configured.
    #[error("{host} answered with a redirect ({status}), which is not followed: configure the URL that it leads to")]
    Redirected {
        /// Who answered.
        host: String,
        /// The status code.
        status: u16,
    },
    /// The provider refused, or failed.
    #[error("{host} answered {status}{detail}")]
    Refused {
        /// Who answered.
        host: String,
        /// The status code.
        status: u16,
        /// The provider's own code for it, with a colon before it.
        detail: String,
    },
    /// Settings allow no call: asking again does not help.
    #[error("{0}")]
    Settings(String),
    /// Nobody answered, or not in time.
    #[error("{host} cannot be reached: {detail}")]
    Unreachable {
        /// Who was asked.
        host: String,
        /// What went wrong.
        detail: String,
    },
}

impl Answer {
    /// The body of a success that holds JSON. Errors: `Refused` for another status, `Nonsense` for a web page.
    pub fn json(self, host: &str) -> Result<Bytes> {
        if !(200..300).contains(&self.status) {
            return Err(IdpError::Refused { host: host.to_owned(), status: self.status, detail: oauth_error(&self.body) });
        }
        // Key sets are served as all sorts of things, a stored file's `application/octet-stream` among them; a page for people is never one.
        if self.content_type.trim_start().to_ascii_lowercase().starts_with("text/html") {
            return Err(IdpError::Nonsense(format!("{host} answered with a web page instead of JSON")));
        }
        Ok(self.body)
    }
}

/// The error code of RFC 6749 section 5.2. Only the code is told: descriptions may repeat what was sent.
fn oauth_error(body: &[u8]) -> String {
    let code = serde_json::from_slice::<serde_json::Value>(body).ok();
    let code = code.as_ref().and_then(|body| body.get("error")).and_then(serde_json::Value::as_str).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if code.is_empty() || code.len() > 64 || !code.chars().all(plain) { String::new() } else { format!(": {code}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, content_type: &str, body: &'static str) -> Answer {
        Answer { status, content_type: content_type.to_owned(), body: Bytes::from_static(body.as_bytes()) }
    }

    #[test]
    fn refusals_name_the_code_and_nothing_that_was_sent() {
        let refused = |body| answer(400, "application/json", body).json("idp.example").unwrap_err().to_string();
        assert_eq!(refused(r#"{"error":"invalid_grant","error_description":"code abc"}"#), "idp.example answered 400: invalid_grant");
        assert_eq!(refused(r#"{"error":"a b\n"}"#), "idp.example answered 400");
        assert_eq!(refused("<html>"), "idp.example answered 400");
    }

    #[test]
    fn a_web_page_is_no_key_set() {
        assert!(answer(200, "Text/HTML; charset=utf-8", "{}").json("h").is_err());
        assert!(answer(200, "binary/octet-stream", "{}").json("h").is_ok());
    }
}
