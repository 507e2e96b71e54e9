//! Why a request brought nothing, in the words of Go's client, because scripts match on them.

use std::fmt;

/// Why a request brought nothing.
#[derive(Debug)]
pub(crate) enum Error {
    /// The server refused.
    Api(Refusal),
    /// The request was to be shown instead of made; this is how it looks.
    Instead(String),
    /// The answer was not JSON.
    Unreadable(String),
    /// The server was not reached.
    Unreached {
        /// Method as Go's errors write it (`Get`).
        method: String,
        /// The whole URL.
        url: String,
        /// What happened.
        trouble: Trouble,
    },
}

/// A refusal by the server.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Method of the request.
    pub(crate) method: String,
    /// Its whole URL.
    pub(crate) url: String,
    /// HTTP status.
    pub(crate) status: u16,
    /// The messages; one raw body when it was no JSON.
    pub(crate) errors: Vec<String>,
    /// Whether `errors` is a raw body.
    pub(crate) raw: bool,
    /// Namespace asked in, if any.
    pub(crate) namespace: Option<String>,
    /// Whether a token was sent.
    pub(crate) token_sent: bool,
}

/// What went wrong on the way, with what to do about it.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// In Go's words.
    pub(crate) text: String,
    /// One line that helps.
    pub(crate) hint: Option<String>,
}

impl Trouble {
    /// Trouble without advice.
    pub(crate) fn new(text: String) -> Self {
        Self { text, hint: None }
    }

    /// With advice.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Error {
    /// The status of a refusal.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Api(refusal) => Some(refusal.status),
            _ => None,
        }
    }

    /// One line that helps, if there is one.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Unreached { trouble, .. } => trouble.hint.clone(),
            Self::Api(refusal) if refusal.status == 403 && !refusal.token_sent => {
                Some("no token was sent: log in first, or set VAULT_TOKEN".to_owned())
            }
            Self::Api(refusal) if refusal.errors.iter().any(|error| error.contains("HTTP request to an HTTPS server")) => {
                Some("this server speaks TLS: change http:// to https:// in VAULT_ADDR or -address".to_owned())
            }
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(refusal) => refusal.fmt(f),
            Self::Instead(text) => f.write_str(text),
            Self::Unreadable(why) => write!(f, "the server's answer is no JSON: {why}"),
            Self::Unreached { method, url, trouble } => write!(f, "{method} {url:?}: {}", trouble.text),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error making API request.\n\n")?;
        if let Some(namespace) = &self.namespace {
            writeln!(f, "Namespace: {namespace}")?;
        }
        writeln!(f, "URL: {} {}", self.method, self.url)?;
        if self.raw {
            return write!(f, "Code: {}. Raw Message:\n\n{}", self.status, self.errors.concat());
        }
        write!(f, "Code: {}. Errors:\n\n", self.status)?;
        let lines: Vec<String> = self.errors.iter().map(|error| format!("* {error}")).collect();
        f.write_str(&lines.join("\n"))
    }
}
