//! In which account something was made, and which one is asked now: what is not found in another account is not gone.

use daypass_aws::{Aws, AwsError, Call};
use daypass_sdk::{Error, Result};

/// The account that is asked, where it is another one than something was made in; never where that is not known.
pub(crate) async fn other(aws: &dyn Aws, call: Call<'_>, made_in: &str) -> Result<Option<String>, AwsError> {
    if made_in.is_empty() {
        return Ok(None);
    }
    let asked = aws.get_caller_identity(call).await?.account;
    Ok((asked != made_in).then_some(asked))
}

/// What is said of a thing that cannot be deleted from here. `row` is the configuration that leads to another account.
pub(crate) fn elsewhere(thing: &str, made_in: &str, row: &str, asked: &str, otherwise: &str) -> Error {
    Error::failed(format!(
        "{thing} was made in account {made_in}, and {row} leads to account {asked} now: let it lead there again, or {otherwise}"
    ))
}
