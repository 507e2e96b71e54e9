//! `config/rotate-root`: the configured IAM user gets a new access key, and nobody ever sees its secret. On request, and by the schedule
//! of `config/root`.
//!
//! Two phases, each with a note of what a crash would leave ([`super::notes`]). First: note which keys there are, make the new one, wait
//! until AWS accepts it. Then, in one commit: the new key is in force, and a note says that the old one goes. Whatever fails before that
//! commit leaves the old key in force and the new one to be deleted; whatever fails after it, the other way round.

use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{AwsError, Call, ErrorKind, StaticKeys, Target};
use daypass_base::Timestamp;
use daypass_sdk::{Changes, Cx, Error, Expect, Json, Result, Seconds};
use serde_json::{Value, json};

use crate::secrets::at_aws::deadline;

use super::Aws;
use super::config_root::{KEY, Nothing, RootConfig};
use super::keys::{self, Fresh, Owner, Route, StrayKey, failed};
use super::notes::{self, Note, Undone};

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
pub(super) struct Trouble {
    failures: u32,
    again: Timestamp,
}

pub(super) async fn rotate(engine: Arc<Aws>, cx: Cx, _: Nothing) -> Result<Json<Value>> {
    let id = replace(&engine, &cx).await?;
    Ok(Json(json!({ "access_key": id })))
}

/// Rotates when the schedule of `config/root` says so. One that fails waits longer each time.
pub(super) async fn rotate_due(engine: &Aws, cx: &Cx) -> Result<()> {
    let Some(config) = cx.store.get_json::<RootConfig>(KEY).await? else { return Ok(()) };
    let now = cx.clock.now();
    if config.due(now).is_none_or(|due| due > now) {
        return Ok(());
    }
    let before = *engine.root_trouble.lock();
    if before.is_some_and(|trouble| trouble.again > now) {
        return Ok(());
    }
    // One that is given up here is undone or ended by its note, as after a crash.
    let replaced = tokio::select! {
        replaced = replace(engine, cx) => replaced,
        () = cx.clock.sleep(ROUND_PATIENCE) => Err(Error::failed(format!("replacing the root key took longer than {} s", ROUND_PATIENCE.as_secs()))),
    };
    match replaced {
        Ok(id) => {
            *engine.root_trouble.lock() = None;
            tracing::info!(mount = %cx.mount.path, access_key = %id, "the root key was replaced, as its schedule says");
            Ok(())
        }
        Err(error) => {
            let failures = before.map_or(0, |trouble| trouble.failures).saturating_add(1);
            let wait = WAIT_FIRST.0.saturating_mul(1 << (failures - 1).min(16)).min(WAIT_MAX.0);
            *engine.root_trouble.lock() = Some(Trouble { failures, again: now + Seconds(wait) });
            Err(error)
        }
    }
}

/// Both phases. Gives the id of the key that is in force then.
async fn replace(engine: &Aws, cx: &Cx) -> Result<String> {
    let read = cx.store.get(KEY).await?;
    let entry = read.as_ref().ok_or_else(|| Error::failed("no configuration found for config/root"))?;
    let mut config: RootConfig = daypass_sdk::from_json(KEY, &entry.value)?;
    if let Some(federation) = config.federation() {
        return Err(Error::bad_request(format!(
            "there is no key to rotate: config/root has identity_token_audience, so the server works with sessions of {}, which end by themselves; \
             the keys that sign its tokens are rotated at identity/oidc/key",
            federation.role_arn
        )));
    }
    if !config.has_keys() {
        return Err(Error::bad_request("Cannot call config/rotate-root when either access_key or secret_key is empty"));
    }
    let old = config.target(cx)?;
    let call = Call { target: &old, deadline: deadline(cx) };
    let user = engine.aws.get_user(call, None).await.map_err(|error| failed("error calling GetUser", error))?.name;
    let fresh = made(engine, cx, call, &user).await?;
    let keys = StaticKeys { access_key_id: fresh.key.id.clone(), secret_access_key: fresh.key.secret.clone() };
    let new = Target { keys: Some(keys), ..old.clone() };
    if let Err(error) = accepted(engine, cx, &new).await {
        engine.aws.forget(&new);
        keys::discard(engine, cx, call, &fresh).await;
        return Err(failed("the new access key is not accepted by AWS, so the old one stays in force", error));
    }
    let old_key = std::mem::replace(&mut config.access_key, fresh.key.id.clone());
    config.secret_key = fresh.key.secret.clone();
    config.rotated = Some(cx.clock.now());
    let end = Note::key(cx, &user, StrayKey { id: old_key, ..StrayKey::default() });
    // The note of the new key becomes the note of the old one: at no moment is there none.
    let changes = Changes::new().unchanged(KEY, read.as_ref()).put_json(KEY, &config)?;
    let stored = cx.store.commit(changes.expect(&fresh.note, Expect::Version(1)).put_json(&fresh.note, &end)?).await;
    if let Err(failure) = stored {
        let is_ours = |entry: &daypass_sdk::Entry| RootConfig::names_key(entry, &fresh.key.id);
        keys::stands(engine, cx, call, &fresh, failure, KEY, is_ours).await?;
    }
    engine.aws.forget(&old);
    match notes::undo(engine, cx, &fresh.note, end, 2).await? {
        Undone::Done | Undone::Taken => Ok(fresh.key.id),
        Undone::Failed(problem) => Err(Error::failed(format!(
            "error deleting old access key: {problem}; the new key is in force, and deleting the old one is tried again"
        ))),
    }
}

async fn made(engine: &Aws, cx: &Cx, call: Call<'_>, user: &str) -> Result<Fresh> {
    let known = engine.aws.list_access_keys(call, user).await.map_err(|error| failed("error calling ListAccessKeys", error))?;
    let known = known.into_iter().map(|key| key.id).collect();
    keys::make(engine, cx, call, Owner { name: user, route: &Route::default() }, known, "error calling CreateAccessKey").await
}

/// Waits until the new key works: IAM is eventually consistent.
async fn accepted(engine: &Aws, cx: &Cx, target: &Target) -> Result<(), AwsError> {
    let call = Call { target, deadline: deadline(cx) };
    let mut tried = 0;
    loop {
        tried += 1;
        match engine.aws.get_caller_identity(call).await {
            Ok(_) => return Ok(()),
            Err(error) if tried == TRIES || error.kind == ErrorKind::Malformed => return Err(error),
            Err(_) => cx.clock.sleep(PAUSE).await,
        }
    }
}
