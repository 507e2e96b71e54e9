//! Takes an IAM user apart: first what signs for it, then what it may do.
//!
//! Nobody can tell which of its policies and groups only deny something. So as long as a key of the user may work none of them goes: what stops
//! half-way (a right that the server lacks, AWS that does not answer) never leaves a key with more rights than it was given.

use daypass_aws::{AwsError, Call, Depth, ErrorKind, Holding};

use super::Aws;

/// Whether there was anything to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Deleted,
    Nothing,
}

/// Takes everything off a user and deletes it. `key`: the one that was made with it, by its id; empty where that is not known.
pub(super) async fn dismantle(engine: &Aws, call: Call<'_>, user: &str, key: &str) -> Result<Found, AwsError> {
    match delete_keys(engine, call, user, key).await {
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(Found::Nothing),
        deleted => deleted?,
    }
    match strip(engine, call, user, Depth::Usual).await {
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(Found::Nothing),
        stripped => stripped?,
    }
    let delete = || engine.aws.delete_user(call, user);
    let mut deleted = twice(delete).await;
    if conflict(&deleted).is_some() {
        // What was made a moment ago may be in IAM's lists only now.
        done(delete_keys(engine, call, user, key).await)?;
        deleted = twice(delete).await;
    }
    if let Some(kept) = conflict(&deleted) {
        // Somebody hung more on it by hand.
        let stripped = strip(engine, call, user, Depth::ByHand).await;
        done(stripped.map_err(|error| {
            let message = format!("{}; this was asked as the user could not be deleted: {}: {}", error.message, kept.code, kept.message);
            AwsError { message, ..error }
        }))?;
        deleted = twice(delete).await;
    }
    done(deleted)?;
    Ok(Found::Deleted)
}

/// Why a user was not deleted, where something hangs on it.
fn conflict(deleted: &Result<(), AwsError>) -> Option<&AwsError> {
    deleted.as_ref().err().filter(|error| error.code == "DeleteConflict")
}

/// Deletes all keys, also those behind one that could not be deleted. The one that is known goes first: IAM lists a key only some time after it made it, when
/// it works already. Errors: the first failure; `NotFound` where there is no such user.
async fn delete_keys(engine: &Aws, call: Call<'_>, user: &str, known: &str) -> Result<(), AwsError> {
    let delete = async |id: String| {
        let key = Holding::AccessKey(id);
        done(twice(|| engine.aws.remove_user_holding(call, user, &key)).await)
    };
    let mut all = if known.is_empty() { Ok(()) } else { delete(known.to_owned()).await };
    let listed = twice(|| engine.aws.list_access_keys(call, user)).await?;
    for key in listed.into_iter().filter(|key| key.id != known) {
        all = all.and(delete(key.id).await);
    }
    all
}

async fn strip(engine: &Aws, call: Call<'_>, user: &str, depth: Depth) -> Result<(), AwsError> {
    let mut holdings = twice(|| engine.aws.list_user_holdings(call, user, depth)).await?;
    holdings.sort_by_key(turn);
    // What comes behind a failure stays: it may be what denies something to a session that the user began with its keys.
    for holding in holdings {
        done(twice(|| engine.aws.remove_user_holding(call, user, &holding)).await)?;
    }
    Ok(())
}

/// When it goes, whatever the order in which it was listed: keys first in any case, and last the groups, whose denies hold for many.
fn turn(holding: &Holding) -> u8 {
    match holding {
        Holding::AccessKey(_) => 0,
        Holding::Managed(_) => 1,
        Holding::Inline(_) => 2,
        Holding::Group(_) => 3,
        _ => 4,
    }
}

/// Asks once more what AWS did not answer: it may have been done, and then what is gone is done.
pub(super) async fn twice<T, Fut: Future<Output = Result<T, AwsError>>>(ask: impl Fn() -> Fut) -> Result<T, AwsError> {
    match ask().await {
        Err(error) if error.kind == ErrorKind::Unreachable => ask().await,
        answer => answer,
    }
}

/// What is gone already is done.
fn done(removed: Result<(), AwsError>) -> Result<(), AwsError> {
    match removed {
        Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
