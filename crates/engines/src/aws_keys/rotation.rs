//! `config/rotate-root`: the configured IAM user gets a new access key, and nobody ever sees its secret. On request, and by the schedule
//! of the same configuration.
//!
//! Two phases, each with a note of what a crash would leave ([`super::notes`]). First: note which keys there are, make the new one, wait
//! until AWS accepts it. Then, in one commit: the new key is in force, and a note says that the old one goes. Whatever fails before that
//! commit leaves the old key in force and the new one to be deleted; whatever fails after it, the other way round.

use std::time::Duration;

use daypass_aws::{Aws, AwsError, Call, ErrorKind, StaticKeys, Target, User};
use daypass_base::Timestamp;
use daypass_sdk::{Changes, Cx, Entry, Error, Result, Seconds};

use crate::secrets::at_aws::deadline;

use super::keys::{self, Fresh, Owner, Route, StrayKey, failed};
use super::notes::{self, Note, Undone};
use super::{KeyMount, RootKey};

/// A new key is accepted everywhere after some seconds: so often it is tried,
const TRIES: u32 = 15;
/// and so long is waited in between.
const PAUSE: Duration = Duration::from_secs(2);
/// Time for an automatic rotation: it must not hold up expiry for long, which runs on the same worker.
const ROUND_PATIENCE: Duration = Duration::from_secs(45);
/// After an automatic rotation that failed, the first wait; it doubles with each,
const WAIT_FIRST: Seconds = Seconds(60);
/// up to this.
const WAIT_MAX: Seconds = Seconds(3_600);

/// Automatic rotations that failed in a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trouble {
    failures: u32,
    again: Timestamp,
}

/// Rotates when the schedule of the configuration says so. One that fails waits longer each time.
pub(crate) async fn rotate_due<M: KeyMount>(mount: &M, cx: &Cx) -> Result<()> {
    let Some(root) = cx.store.get_json::<M::Root>(M::Root::ROW).await? else { return Ok(()) };
    let now = cx.clock.now();
    if root.key().due(now).is_none_or(|due| due > now) {
        return Ok(());
    }
    let before = *mount.upkeep().trouble.lock();
    if before.is_some_and(|trouble| trouble.again > now) {
        return Ok(());
    }
    // One that is given up here is undone or ended by its note, as after a crash.
    let replaced = tokio::select! {
        replaced = replace(mount, cx) => replaced,
        () = cx.clock.sleep(ROUND_PATIENCE) => Err(Error::failed(format!("replacing the root key took longer than {} s", ROUND_PATIENCE.as_secs()))),
    };
    match replaced {
        Ok(id) => {
            *mount.upkeep().trouble.lock() = None;
            tracing::info!(mount = %cx.mount.path, access_key = %id, "the root key was replaced, as its schedule says");
            Ok(())
        }
        Err(error) => {
            let failures = before.map_or(0, |trouble| trouble.failures).saturating_add(1);
            let wait = WAIT_FIRST.0.saturating_mul(1 << (failures - 1).min(16)).min(WAIT_MAX.0);
            *mount.upkeep().trouble.lock() = Some(Trouble { failures, again: now + Seconds(wait) });
            Err(error)
        }
    }
}

/// Both phases. Gives the id of the key that is in force then. Errors: `BadRequest` or `Failed` when there is no key to replace; `Failed`
/// with AWS's words, and which key is in force.
pub(crate) async fn replace<M: KeyMount>(mount: &M, cx: &Cx) -> Result<String> {
    let (aws, row) = (mount.aws(), M::Root::ROW);
    let read = cx.store.get(row).await?;
    let stored = read.as_ref().map(|entry| daypass_sdk::from_json(row, &entry.value)).transpose()?;
    let mut root = M::Root::with_key(stored)?;
    let old = root.reach(cx)?;
    let call = Call::usual(&old, deadline(cx));
    let user = aws.get_user(call, None).await.map_err(|error| failed("error calling GetUser", error))?;
    let fresh = made(aws, cx, call, &user).await?;
    let keys = StaticKeys { access_key_id: fresh.key.id.clone(), secret_access_key: fresh.key.secret.clone() };
    let new = Target { keys: Some(keys), ..old.clone() };
    if let Err(error) = accepted(aws, cx, &new).await {
        aws.forget(&new);
        keys::discard(aws, cx, call, &fresh).await;
        return Err(failed("the new access key is not accepted by AWS, so the old one stays in force", error));
    }
    let end = StrayKey::over(root.key_mut().replace(&fresh.key, cx.clock.now()), Route::default());
    let end = Note::key(cx, &user.name, &user.account, end);
    // The note of the new key becomes the note of the old one: at no moment is there none.
    let changes = Changes::new().unchanged(row, read.as_ref()).put_json(row, &root)?;
    let stored = cx.store.commit(fresh.note.replaced(changes, &end)?).await;
    if let Err(failure) = stored {
        let is_ours = |entry: &Entry| {
            daypass_sdk::from_json::<M::Root>(row, &entry.value).is_ok_and(|stored| stored.key().access_key == fresh.key.id)
        };
        keys::stands(aws, cx, call, &fresh, failure, row, is_ours).await?;
    }
    aws.forget(&old);
    let ending = notes::written(cx, &fresh.note.place).await?;
    match notes::undo_written(mount, cx, &ending, end).await? {
        Undone::Done | Undone::Taken => Ok(fresh.key.id),
        Undone::Failed(problem) => Err(Error::failed(format!(
            "error deleting old access key: {problem}; the new key is in force, and deleting the old one is tried again"
        ))),
    }
}

async fn made(aws: &dyn Aws, cx: &Cx, call: Call<'_>, user: &User) -> Result<Fresh> {
    let known = aws.list_access_keys(call, &user.name).await.map_err(|error| failed("error calling ListAccessKeys", error))?;
    let known = known.into_iter().map(|key| key.id).collect();
    let owner = Owner { name: &user.name, account: &user.account, route: &Route::default() };
    keys::make(aws, cx, call, owner, known, "error calling CreateAccessKey").await
}

/// Waits until the new key works: IAM is eventually consistent.
async fn accepted(aws: &dyn Aws, cx: &Cx, target: &Target) -> Result<(), AwsError> {
    let call = Call::usual(target, deadline(cx));
    let mut tried = 0;
    loop {
        tried += 1;
        match aws.get_caller_identity(call).await {
            Ok(_) => return Ok(()),
            Err(error) if tried == TRIES || error.kind == ErrorKind::Malformed => return Err(error),
            Err(_) => cx.clock.sleep(PAUSE).await,
        }
    }
}
