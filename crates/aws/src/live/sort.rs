//! From the SDK's errors to ours.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_types::request_id::RequestId;

use crate::{AwsError, ErrorKind};

/// Longest chain of causes that is shown, in characters.
const DETAIL_MAX: usize = 600;

/// Sorts an error of an SDK call.
pub(crate) fn sorted<E>(error: &SdkError<E, HttpResponse>) -> AwsError
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    if let SdkError::ServiceError(service) = error
        && !service.raw().status().is_success()
    {
        let meta = service.err().meta();
        return AwsError::answered(meta.code(), meta.message(), service.raw().status().as_u16(), meta.request_id());
    }
    if matches!(error, SdkError::ResponseError(_) | SdkError::ServiceError(_)) {
        // AWS may have done all of it.
        return AwsError::broken_off(causes(error));
    }
    // The identity was looked for in vain: then other endpoints need not be tried.
    if found::<CredentialsError>(error).is_some() {
        let told = found::<AwsError>(error).filter(|told| told.kind == ErrorKind::NoIdentity);
        return told.cloned().unwrap_or_else(|| AwsError::no_identity(causes(error)));
    }
    AwsError::unreachable(causes(error))
}

/// The first error of this type among the causes of another.
fn found<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(<dyn StdError>::downcast_ref::<T>)
}

/// The causes of an error in one line, cut at its limit.
pub(crate) fn causes(error: &(dyn StdError + 'static)) -> String {
    shortened(daypass_base::causes(error))
}

/// Cut at its limit.
pub(crate) fn shortened(out: String) -> String {
    match out.char_indices().nth(DETAIL_MAX) {
        Some((at, _)) => format!("{}…", out.split_at(at).0),
        None => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_are_told_from_the_outside_in() {
        let error = Outer(std::io::Error::other("x".repeat(2000)));
        let text = causes(&error);
        assert!(text.starts_with("outer: xxx") && text.ends_with('…') && text.chars().count() == DETAIL_MAX + 1);
    }
}
