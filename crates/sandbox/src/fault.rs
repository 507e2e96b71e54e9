//! Refusals as AWS words them: a code, a status, a message. How they look on the wire is in `answer.rs`.

/// A refusal. `code` is the query protocol's; [`Fault::json_code`] gives the name that JSON services use for the same thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

pub(crate) type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(crate) fn access_denied(message: impl Into<String>) -> Self {
        Self::new(403, "AccessDenied", message)
    }

    pub(crate) fn expired_token() -> Self {
        Self::new(403, "ExpiredToken", "The security token included in the request is expired")
    }

    pub(crate) fn incomplete(message: impl Into<String>) -> Self {
        Self::new(400, "IncompleteSignature", message)
    }

    pub(crate) fn invalid_action(action: &str, version: &str) -> Self {
        Self::new(400, "InvalidAction", format!("Could not find operation {action} for version {version}"))
    }

    pub(crate) fn invalid_key() -> Self {
        Self::new(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
    }

    pub(crate) fn malformed_policy(message: impl Into<String>) -> Self {
        Self::new(400, "MalformedPolicyDocument", message)
    }

    pub(crate) fn missing_token() -> Self {
        Self::new(403, "MissingAuthenticationToken", "Request is missing Authentication Token")
    }

    pub(crate) fn signature(message: impl Into<String>) -> Self {
        Self::new(403, "SignatureDoesNotMatch", message)
    }

    pub(crate) fn throttled() -> Self {
        Self::new(400, "Throttling", "Rate exceeded")
    }

    pub(crate) fn unavailable() -> Self {
        Self::new(503, "ServiceUnavailable", "The request has failed due to a temporary failure of the server.")
    }

    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::new(400, "ValidationError", message)
    }

    /// The name that services with a JSON protocol give to this refusal.
    pub(crate) fn json_code(&self) -> &'static str {
        match self.code {
            "AccessDenied" => "AccessDeniedException",
            "ExpiredToken" => "ExpiredTokenException",
            "IncompleteSignature" => "IncompleteSignatureException",
            "InvalidAction" => "UnknownOperationException",
            "InvalidClientTokenId" => "UnrecognizedClientException",
            "MissingAuthenticationToken" => "MissingAuthenticationTokenException",
            "ServiceUnavailable" => "ServiceUnavailableException",
            "SignatureDoesNotMatch" => "InvalidSignatureException",
            "Throttling" => "ThrottlingException",
            "ValidationError" => "ValidationException",
            other => other,
        }
    }
}

/// Collects broken constraints and words them as AWS's request validation does, all of them in one message.
#[derive(Debug, Default)]
pub(crate) struct Constraints {
    broken: Vec<String>,
}

impl Constraints {
    pub(crate) fn missing(&mut self, member: &str) {
        self.broken.push(format!("Value null at '{member}' failed to satisfy constraint: Member must not be null"));
    }

    pub(crate) fn length(&mut self, member: &str, value: &str, least: usize, most: usize) {
        let length = value.chars().count();
        if length < least {
            self.fail(member, value, &format!("Member must have length greater than or equal to {least}"));
        } else if length > most {
            self.fail(member, value, &format!("Member must have length less than or equal to {most}"));
        }
    }

    pub(crate) fn pattern(&mut self, member: &str, value: &str, pattern: &str, fits: impl Fn(char) -> bool) {
        if !value.chars().all(fits) {
            self.fail(member, value, &format!("Member must satisfy regular expression pattern: {pattern}"));
        }
    }

    pub(crate) fn range(&mut self, member: &str, value: i64, least: i64, most: i64) {
        if value < least {
            self.fail(member, &value.to_string(), &format!("Member must have value greater than or equal to {least}"));
        } else if value > most {
            self.fail(member, &value.to_string(), &format!("Member must have value less than or equal to {most}"));
        }
    }

    pub(crate) fn fail(&mut self, member: &str, value: &str, constraint: &str) {
        // A request may carry up to a megabyte; nobody needs that back.
        let shown: String = value.chars().take(256).collect();
        self.broken.push(format!("Value '{shown}' at '{member}' failed to satisfy constraint: {constraint}"));
    }

    /// Fails with `ValidationError` when anything was broken.
    pub(crate) fn check(self) -> Result<()> {
        let count = self.broken.len();
        match count {
            0 => Ok(()),
            1 => Err(Fault::validation(format!("1 validation error detected: {}", self.broken.join("; ")))),
            _ => Err(Fault::validation(format!("{count} validation errors detected: {}", self.broken.join("; ")))),
        }
    }
}

/// The characters that session names, federated names and IAM names are made of: `[\w+=,.@-]`.
pub(crate) fn name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '=' | ',' | '.' | '@' | '-')
}

/// How AWS prints that pattern.
pub(crate) const NAME_PATTERN: &str = r"[\w+=,.@-]*";
