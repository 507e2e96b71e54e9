//! What a login is told for which nobody was asked, since too many wait for answers already. It says nothing about who logs in: that is for another time.

use daypass_idp::IdpError;
use daypass_sdk::{Error, Kind, Seconds};

/// After so long there may be room again.
const RETRY_AFTER: Seconds = Seconds(5);

/// The same refusal as one that is worth to be tried again.
pub(super) fn later(error: Error) -> Error {
    Error { kind: Kind::TooMany, ..error }.retry_after(RETRY_AFTER)
}

/// What may be told to anybody, where nobody was asked: `whom` says in general who it would have been.
pub(super) fn told(error: &IdpError, whom: &str) -> Option<Error> {
    let IdpError::Crowded { detail, .. } = error else { return None };
    Some(later(Error::bad_request(format!("{whom} was not asked: {detail}"))))
}
