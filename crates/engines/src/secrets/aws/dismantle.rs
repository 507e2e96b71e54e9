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

/// Takes everything off a user and deletes it.
pub(super) async fn dismantle(engine: &Aws, call: Call<'_>, user: &str) -> Result<Found, AwsError> {
    match delete_keys(engine, call, user).await {
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(Found::Nothing),
        deleted => deleted?,
    }
    match strip(engine, call, user, Depth::Usual).await {
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(Found::Nothing),
        stripped => stripped?,
    }
    let delete = || engine.aws.delete_user(call, user);
    match twice(delete).await {
        // Somebody hung more on it by hand.
        Err(error) if error.code == "DeleteConflict" => {
            strip(engine, call, user, Depth::ByHand).await?;
            done(twice(delete).await)?;
        }
        deleted => done(deleted)?,
    }
    Ok(Found::Deleted)
}

/// Deletes all keys, also those behind one that could not be deleted. Errors: the first failure; `NotFound` where there is no such user.
async fn delete_keys(engine: &Aws, call: Call<'_>, user: &str) -> Result<(), AwsError> {
    let mut all = Ok(());
    for key in twice(|| engine.aws.list_access_keys(call, user)).await? {
        let key = Holding::AccessKey(key.id);
        all = all.and(done(twice(|| engine.aws.remove_user_holding(call, user, &key)).await));
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
