//! What it means for whoever logs in or renews that AWS did not say what it was asked.
//!
//! Clients take a 400 for good: they give a token up whose renewal is answered so. It is for what was judged. What could not be asked has another
//! status, by which they try again.

use daypass_aws::{AwsError, ErrorKind};
use daypass_sdk::{Error, Kind};

use crate::auth::crowded;

/// What AWS answers to a question of ours about a principal or an instance. That there is none, or can be none, says all: `BadRequest`. Everything else says
/// nothing of whom it is about, that we may not ask among it: `UpstreamThrottled`; `TooMany` where this server has no place for the call; `Failed`.
pub(super) fn not_told(error: AwsError) -> Error {
    let text = error.to_string();
    let told = match (error.kind, error.status) {
        (ErrorKind::Malformed, _) => Error::bad_request(text),
        // Any other may be of whoever is there in place of AWS.
        (ErrorKind::NotFound, _) if MISSING.contains(&error.code.as_str()) => Error::bad_request(text),
        (ErrorKind::Throttled, None) => crowded::later(Error::bad_request(text)),
        (ErrorKind::Throttled, Some(_)) => Error::new(Kind::UpstreamThrottled, text),
        _ => Error::failed(text),
    };
    told.because(error)
}

/// Says before an error what was being done; it stays of its sort.
pub(super) fn while_doing(what: &str, error: Error) -> Error {
    Error { message: format!("{what}: {}", error.message), ..error }
}

/// What IAM and EC2 call what they do not have.
const MISSING: [&str; 3] = ["NoSuchEntity", "NoSuchEntityException", "InvalidInstanceID.NotFound"];
#[cfg(test)]
mod tests {
    use daypass_sdk::Seconds;

    use super::*;

    #[test]
    fn only_what_aws_says_of_whom_we_ask_about_is_for_good() {
        let answer = |kind, status| {
            let code = if status == Some(404) { "NoSuchEntity" } else { "Code" };
            let error = AwsError { kind, code: code.to_owned(), message: "text".to_owned(), status, request_id: None };
            not_told(error)
        };
        for (kind, status, told) in [
            (ErrorKind::NotFound, Some(404), Kind::BadRequest),
            (ErrorKind::NotFound, Some(400), Kind::Failed),
            (ErrorKind::Malformed, Some(400), Kind::BadRequest),
            (ErrorKind::Malformed, None, Kind::BadRequest),
            (ErrorKind::Throttled, Some(400), Kind::UpstreamThrottled),
            (ErrorKind::Throttled, None, Kind::TooMany),
            (ErrorKind::Unreachable, None, Kind::Failed),
            (ErrorKind::Unreachable, Some(503), Kind::Failed),
            (ErrorKind::ExpiredIdentity, Some(403), Kind::Failed),
            (ErrorKind::NoIdentity, None, Kind::Failed),
            (ErrorKind::Denied, Some(403), Kind::Failed),
            (ErrorKind::Other, Some(409), Kind::Failed),
        ] {
            assert_eq!(answer(kind, status).kind, told, "{kind:?} {status:?}");
        }
        let error = while_doing("asking", answer(ErrorKind::Throttled, None));
        assert_eq!((error.kind, error.message.as_str(), error.retry_after), (Kind::TooMany, "asking: Code: text", Seconds(5)));
    }
}
