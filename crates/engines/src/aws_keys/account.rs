//! In which account something was made, and which one is asked now: what is not found in another account is not gone.

use daypass_aws::{Aws, AwsError, Call, ErrorKind};
use daypass_sdk::{Error, Result};

/// The account that is asked, where it is another one than something was made in that is not found; never where that is not known, or STS cannot be reached:
/// there are networks with a way to IAM and none to STS, and what is gone there would be looked for without end.
pub(crate) async fn other(aws: &dyn Aws, call: Call<'_>, made_in: &str) -> Result<Option<String>, AwsError> {
    match surely_other(aws, call, made_in).await {
        Err(error) if error.kind == ErrorKind::Unreachable => {
            tracing::warn!(account = made_in, %error, "which account is asked could not be seen; what is not found is taken for deleted");
            Ok(None)
        }
        told => told,
    }
}

/// The same before something is deleted by its name alone, which is somebody else's in another account. Errors: also where STS cannot be reached.
pub(crate) async fn surely_other(aws: &dyn Aws, call: Call<'_>, made_in: &str) -> Result<Option<String>, AwsError> {
    if made_in.is_empty() {
        return Ok(None);
    }
    let asked = aws.get_caller_identity(call).await?;
    Ok(Some(asked.account).filter(|asked| asked != made_in))
}

/// What is said of a thing that cannot be deleted from here. `row` is the configuration that leads to another account.
pub(crate) fn elsewhere(thing: &str, made_in: &str, row: &str, asked: &str, otherwise: &str) -> Error {
    Error::failed(format!(
        "{thing} was made in account {made_in}, and {row} leads to account {asked} now: let it lead there again, or {otherwise}"
    ))
}
