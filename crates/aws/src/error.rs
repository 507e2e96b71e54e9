//! AWS's failures, sorted once by what can be done about them. Nobody else looks at AWS's error codes.

/// A failed AWS call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sdk_text())]
pub struct AwsError {
    /// The sort.
    pub kind: ErrorKind,
    /// AWS's code, `AccessDenied`, or the SDK's for what never reached AWS: `RequestError`, `NoCredentialProviders`, `InvalidParameter`.
    pub code: String,
    /// AWS's message. It names principals and resources, never a key.
    pub message: String,
    /// Status of the answer, if there was one.
    pub status: Option<u16>,
    /// AWS's request id, which its support asks for.
    pub request_id: Option<String>,
}

/// What can be done about a failed AWS call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// AWS said no: a policy, a trust policy, or keys that it does not know. Asking again does not help.
    Denied,
    /// The server's own credentials are over.
    ExpiredIdentity,
    /// AWS does not accept the request as it is.
    Malformed,
    /// The server has no AWS credentials.
    NoIdentity,
    /// A thing that the request names does not exist.
    NotFound,
    /// None of the others.
    Other,
    /// AWS asks for fewer calls, after all retries; without a status, this server does.
    Throttled,
    /// No sensible answer came in time: no connection, a time limit, a failure on AWS's side.
    Unreachable,
}

impl AwsError {
    /// The text as AWS's Go SDK prints it and Vault passes it on: `<Code>: <message>\n\tstatus code: 403, request id: <uuid>`.
    #[must_use]
    pub fn sdk_text(&self) -> String {
        match self.status {
            Some(status) => {
                let request_id = self.request_id.as_deref().unwrap_or_default();
                format!("{}: {}\n\tstatus code: {status}, request id: {request_id}", self.code, self.message)
            }
            None => format!("{}: {}", self.code, self.message),
        }
    }

    /// Whether AWS does not know, or no more, what signed the call: a session that is over, or whose role was made anew, or a key that was
    /// deleted. Keys that are looked for anew may do.
    #[must_use]
    pub fn identity_is_lost(&self) -> bool {
        self.kind == ErrorKind::ExpiredIdentity || LOST.contains(&self.code.as_str())
    }

    /// Whether it was not sent, as this server had no place for it: it did nothing, and may be made again.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.kind == ErrorKind::Throttled && self.status.is_none()
    }

    /// No answer: nothing listens, the network is down, or time is over.
    pub(crate) fn unreachable(detail: impl std::fmt::Display) -> Self {
        Self {
            kind: ErrorKind::Unreachable,
            code: "RequestError".to_owned(),
            message: format!("send request failed\ncaused by: {detail}"),
            status: None,
            request_id: None,
        }
    }

    /// It was not sent: too many wait for theirs already, or it waited for its turn until its time was over.
    pub(crate) fn crowded(message: String) -> Self {
        Self { kind: ErrorKind::Throttled, code: "RequestLimit".to_owned(), message, status: None, request_id: None }
    }

    /// An answer began and cannot be read: whether AWS did what it was asked is not known, so there is no status to judge by.
    pub(crate) fn broken_off(detail: impl std::fmt::Display) -> Self {
        let message = format!("the answer of AWS cannot be read\ncaused by: {detail}");
        Self { kind: ErrorKind::Unreachable, code: "SerializationError".to_owned(), message, status: None, request_id: None }
    }

    /// The server has no credentials to sign with.
    pub(crate) fn no_identity(detail: impl std::fmt::Display) -> Self {
        Self {
            kind: ErrorKind::NoIdentity,
            code: "NoCredentialProviders".to_owned(),
            message: format!(
                "no valid providers in chain: give the server an AWS identity (environment, profile, web identity, container or instance \
                 role) or set access_key and secret_key in config/root\ncaused by: {detail}"
            ),
            status: None,
            request_id: None,
        }
    }

    /// The server cannot say who it is.
    pub(crate) fn no_web_identity(detail: impl std::fmt::Display) -> Self {
        Self {
            kind: ErrorKind::NoIdentity,
            code: "WebIdentityErr".to_owned(),
            message: format!("no identity token could be made: {detail}"),
            status: None,
            request_id: None,
        }
    }

    /// An answer of AWS's.
    pub(crate) fn answered(code: Option<&str>, message: Option<&str>, status: u16, request_id: Option<&str>) -> Self {
        let code = code.filter(|code| !code.is_empty()).unwrap_or(if status >= 500 { "InternalFailure" } else { "UnknownError" });
        Self {
            kind: kind_of(code, status),
            code: code.to_owned(),
            message: message.unwrap_or_default().to_owned(),
            status: Some(status),
            request_id: request_id.map(str::to_owned),
        }
    }
}

/// What AWS says of keys and sessions that it does not know; the second one at its JSON services.
const LOST: [&str; 2] = ["InvalidClientTokenId", "UnrecognizedClientException"];

/// Sorts an answer by its code, then by its status. Codes: AWS's "Common Error Types", STS and IAM API references.
fn kind_of(code: &str, status: u16) -> ErrorKind {
    match code {
        "AccessDenied"
        | "AccessDeniedException"
        | "AuthFailure"
        | "IncompleteSignature"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "NotAuthorized"
        | "OptInRequired"
        | "RegionDisabledException"
        | "SignatureDoesNotMatch"
        | "UnauthorizedOperation"
        | "UnrecognizedClientException" => ErrorKind::Denied,
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => ErrorKind::ExpiredIdentity,
        "IDPRejectedClaim"
        | "InvalidAuthorizationMessageException"
        | "InvalidIdentityToken"
        | "InvalidInput"
        | "InvalidParameterCombination"
        | "InvalidParameterException"
        | "InvalidParameterValue"
        | "InvalidQueryParameter"
        | "MalformedPolicyDocument"
        | "MalformedPolicyDocumentException"
        | "MalformedQueryString"
        | "MissingParameter"
        | "PackedPolicyTooLarge"
        | "PackedPolicyTooLargeException"
        | "ValidationError"
        | "ValidationException" => ErrorKind::Malformed,
        "InvalidInstanceID.Malformed" => ErrorKind::Malformed,
        "InvalidInstanceID.NotFound" | "NoSuchEntity" | "NoSuchEntityException" => ErrorKind::NotFound,
        "BandwidthLimitExceeded"
        | "EC2ThrottledException"
        | "LimitExceededException"
        | "PriorRequestNotComplete"
        | "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "SlowDown"
        | "Throttling"
        | "ThrottledException"
        | "ThrottlingException"
        | "TooManyRequestsException"
        | "TransactionInProgressException" => ErrorKind::Throttled,
        _ => match status {
            401 | 403 => ErrorKind::Denied,
            404 => ErrorKind::NotFound,
            429 => ErrorKind::Throttled,
            500.. => ErrorKind::Unreachable,
            _ => ErrorKind::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_the_go_sdk_prints_it() {
        let message =
            "User: arn:aws:sts::1:assumed-role/a/b is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::1:role/x";
        let error = AwsError::answered(Some("AccessDenied"), Some(message), 403, Some("5f0a"));
        assert_eq!(error.kind, ErrorKind::Denied);
        assert_eq!(error.sdk_text(), format!("AccessDenied: {message}\n\tstatus code: 403, request id: 5f0a"));
        assert_eq!(error.to_string(), error.sdk_text());
    }

    #[test]
    fn codes_come_before_statuses() {
        for (code, status, kind) in [
            ("ThrottlingException", 400, ErrorKind::Throttled),
            ("ValidationError", 400, ErrorKind::Malformed),
            ("ExpiredToken", 403, ErrorKind::ExpiredIdentity),
            ("NoSuchEntity", 404, ErrorKind::NotFound),
            ("Novelty", 403, ErrorKind::Denied),
            ("Novelty", 429, ErrorKind::Throttled),
            ("Novelty", 503, ErrorKind::Unreachable),
            ("Novelty", 409, ErrorKind::Other),
        ] {
            assert_eq!(AwsError::answered(Some(code), None, status, None).kind, kind, "{code} {status}");
        }
        assert_eq!(AwsError::answered(None, None, 500, None).code, "InternalFailure");
    }

    #[test]
    fn keys_that_aws_does_not_know_are_told_from_those_that_may_not() {
        let lost = |code| AwsError::answered(Some(code), None, 403, None).identity_is_lost();
        assert!(["ExpiredToken", "InvalidClientTokenId", "UnrecognizedClientException"].into_iter().all(lost));
        assert!(!["AccessDenied", "SignatureDoesNotMatch", "MissingAuthenticationToken"].into_iter().any(lost));
    }

    #[test]
    fn what_had_no_answer_has_no_status() {
        let error = AwsError::unreachable("connection refused");
        assert_eq!(error.sdk_text(), "RequestError: send request failed\ncaused by: connection refused");
        assert!(AwsError::no_identity("nothing").sdk_text().starts_with("NoCredentialProviders: no valid providers in chain"));
    }
}
