//! The keys of static roles: made, replaced and deleted, so that whatever dies at whatever line leaves a role with a key that works.
//!
//! The key in use is never deleted before the role that names it is gone or names another one. A key that was made and is not stored
//! has a note ([`crate::aws_keys::keys`]).

use std::time::Duration;

use daypass_aws::{Call, ErrorKind, Target};
use daypass_sdk::{Changes, CommitFailure, Cx, Entry, Error, Expect, Reply, Result, Seconds};
use parking_lot::Mutex;

use crate::aws_keys::keys::{self, Fresh, Owner, StrayKey, UNDO_PATIENCE, failed};
use crate::aws_keys::notes::{self, Note, Undone};

use super::config_root::{self, RootConfig};
use super::static_roles::{self, ROLES, StaticRole, key};
use super::{Aws, text::quoted};

/// A rotation that failed, or that another node has begun, is tried again after this.
const RETRY: Seconds = Seconds(60);
/// Roles that one page of the regular work looks at.
const PAGE: usize = 500;
/// Once a round of the regular work has taken so long, the next role has its turn in the next round.
const ROUND_PATIENCE: Duration = Duration::from_secs(20);

/// Makes the first key of a role and stores the role with it. Errors: `BadRequest` when the keys of the user are handled here already.
pub(super) async fn first(engine: &Aws, cx: &Cx, call: Call<'_>, name: &str, role: StaticRole) -> Result<StaticRole> {
    if let Some(other) = static_roles::of_user(cx, &role.id).await? {
        return Err(Error::bad_request(format!(
            "IAM user {} is that of static role {} already: a user has two keys at most, and two roles would take them from each other; read {}, or \
             delete that role before this one is written (in Terraform: no create_before_destroy)",
            quoted(&role.username),
            quoted(&other),
            quoted(&format!("static-creds/{other}"))
        )));
    }
    let fresh = made(engine, cx, call, &role).await?;
    let role = role.with_key(&fresh.key, cx.clock.now());
    let changes = Changes::new().expect(key(name), Expect::Absent).put_json(key(name), &role)?;
    let stored = cx.store.commit(fresh.note.settled(changes)).await;
    if let Err(failure) = stored {
        keys::stands(engine.aws.as_ref(), cx, call, &fresh, failure, &key(name), |entry| role.is_in(entry)).await?;
    }
    Ok(role)
}

/// Makes the next key. Of two, the one that is not in use makes room; when neither is known, the oldest. The user is known to be that of the
/// role: see [`StaticRole::of`]. Errors: `BadRequest` for the user that the mount itself works with; `Failed` when each key is in use here.
async fn made(engine: &Aws, cx: &Cx, call: Call<'_>, role: &StaticRole) -> Result<Fresh> {
    let mut all =
        engine.aws.list_access_keys(call, &role.username).await.map_err(|error| failed("unable to list the access keys", error))?;
    let config: RootConfig = cx.store.get_json(config_root::KEY).await?.unwrap_or_default();
    if all.iter().any(|key| key.id == config.key.access_key) {
        return Err(Error::bad_request(format!(
            "IAM user {} is the one that this mount works with: access key {} of config/root is among its keys, and config/rotate-root or \
             rotation_period there replaces it; give the static role a user of its own",
            quoted(&role.username),
            config.key.access_key
        )));
    }
    if is_own(engine, &config, cx, &role.id).await? {
        return Err(Error::bad_request(format!(
            "IAM user {} is the one that this mount works with: it is the server's own AWS identity, and its keys are replaced where the server \
             has them from; give the static role a user of its own",
            quoted(&role.username)
        )));
    }
    all.sort_by_key(|key| key.created);
    if all.len() >= 2 {
        let mut idle = None;
        for (at, key) in all.iter().enumerate() {
            if key.id != role.access_key && !static_roles::uses(cx, &role.username, &key.id).await? {
                idle = Some(at);
                break;
            }
        }
        let Some(at) = idle else {
            return Err(Error::failed(format!(
                "IAM user {} has {} access keys, AWS's limit, and static roles of this mount hand out each of them: delete the other static role \
                 of this user",
                quoted(&role.username),
                all.len()
            )));
        };
        let idle = all.remove(at);
        let gone = keys::delete(engine.aws.as_ref(), call, &role.username, &idle.id).await;
        gone.map_err(|error| failed("unable to delete the oldest access key", error))?;
    }
    let known = all.into_iter().map(|key| key.id).collect();
    let owner = Owner { name: &role.username, account: &role.account, route: &role.route };
    keys::make(engine.aws.as_ref(), cx, call, owner, known, "unable to create a new access key").await
}

/// Whether the user with this unique id is the server's own AWS identity, and the mount works with that: environment and profiles may have the key
/// of a user. Errors: when AWS does not say who the server is.
async fn is_own(engine: &Aws, config: &RootConfig, cx: &Cx, id: &str) -> Result<bool> {
    let own = config.target(cx)?;
    if own.keys.is_some() || own.web_identity.is_some() {
        return Ok(false);
    }
    let call = Call::usual(&own, UNDO_PATIENCE);
    let error = match engine.aws.get_caller_identity(call).await {
        Ok(identity) => return Ok(identity.user_id == id),
        Err(error) => error,
    };
    // There are networks with a way to IAM and none to STS. IAM says it too, of users alone.
    if error.kind == ErrorKind::Unreachable {
        match engine.aws.get_user(call, None).await {
            Ok(user) => return Ok(user.id == id),
            Err(error) if error.kind == ErrorKind::Malformed => return Ok(false),
            Err(refused) => {
                return Err(failed(
                    "unable to see whether the user is the one that the server itself works with: STS cannot be reached, and iam:GetUser of the \
                     server's own user, which says it as well, is refused",
                    refused,
                ));
            }
        }
    }
    Err(failed("unable to see whether the user is the one that the server itself works with", error))
}

/// The role goes at once, its key right after: what AWS does not delete now is deleted by the regular work.
pub(super) async fn end(engine: &Aws, cx: &Cx, place: &str, read: &Entry) -> Result<Reply> {
    let role: StaticRole = daypass_sdk::from_json(ROLES, &read.value)?;
    let stray = StrayKey::over(role.access_key.clone(), role.route.clone());
    let note = Note::key(cx, &role.username, &role.account, stray);
    let written = notes::begin_with(cx, &note, |changes, _| Ok(changes.taking_back().unchanged(place, Some(read)).delete(place))).await?;
    match notes::undo_written(engine, cx, &written, note).await? {
        Undone::Done | Undone::Taken => Ok(Reply::nothing()),
        Undone::Failed(problem) => Ok(Reply::nothing().warn(format!(
            "the role is gone, but its access key {} of IAM user {} is not yet: {problem}; it is tried again, see config/parked-users",
            role.access_key,
            quoted(&role.username)
        ))),
    }
}

/// Where the last round of the regular work stopped because its time was over: the role that it came to last.
#[derive(Default)]
pub(super) struct Stopped(Mutex<Option<String>>);

/// Rotates what is due, from behind the role at which the last round stopped to the end, and then from the front. One that fails or takes its time holds up
/// no other: the next round begins behind it.
pub(super) async fn rotate_due(engine: &Aws, cx: &Cx) -> Result<()> {
    let end = cx.clock.elapsed() + ROUND_PATIENCE;
    let stopped = engine.stopped.0.lock().take();
    let rest = Part { after: stopped.clone(), last: None };
    let front = stopped.map(|last| Part { after: None, last: Some(last) });
    for part in [Some(rest), front].into_iter().flatten() {
        if let Some(last) = rotate_part(engine, cx, part, end).await? {
            *engine.stopped.0.lock() = Some(last);
            return Ok(());
        }
    }
    Ok(())
}

/// The roles behind one of them, up to another.
struct Part {
    after: Option<String>,
    last: Option<String>,
}

/// Rotates what is due of a part, until `end` on the monotonic clock. Gives the role that it came to last where time was over.
async fn rotate_part(engine: &Aws, cx: &Cx, part: Part, end: Duration) -> Result<Option<String>> {
    let Part { mut after, last } = part;
    loop {
        let mut names = cx.store.list_page(ROLES, after.as_deref(), PAGE).await?;
        after = names.last().cloned();
        if let Some(last) = &last {
            names.retain(|name| name <= last);
        }
        if names.is_empty() {
            return Ok(None);
        }
        let places: Vec<String> = names.iter().map(|name| key(name)).collect();
        for (name, found) in names.into_iter().zip(cx.store.get_each(&places).await?) {
            let rotated = match found {
                None => continue,
                Some(Err(damaged)) => Err(damaged),
                Some(Ok(entry)) => rotate_one(engine, cx, &key(&name), &entry).await,
            };
            if let Err(error) = rotated {
                tracing::warn!(role = %key(&name), %error, "the key of a static role could not be rotated; it is tried again in a minute");
            }
            if cx.clock.elapsed() >= end {
                return Ok(Some(name));
            }
        }
    }
}

async fn rotate_one(engine: &Aws, cx: &Cx, place: &str, entry: &Entry) -> Result<()> {
    let now = cx.clock.now();
    let mut role: StaticRole = daypass_sdk::from_json(ROLES, &entry.value)?;
    if role.next_rotation > now || role.claimed_until.is_some_and(|until| until > now) {
        return Ok(());
    }
    if role.schedule().missed(role.next_rotation, now)
        && let Some(due) = role.schedule().due(role.next_rotation, now).filter(|due| *due > now)
    {
        role.next_rotation = due;
        return committed(cx, Changes::new().unchanged(place, Some(entry)).put_json(place, &role)?).await.map(drop);
    }
    // Claimed first, so that of several nodes one makes a key.
    role.claimed_until = Some(now + RETRY);
    if !committed(cx, Changes::new().unchanged(place, Some(entry)).put_json(place, &role)?).await? {
        return Ok(());
    }
    let target = target(engine, cx, &role).await?;
    let call = Call::usual(&target, UNDO_PATIENCE);
    // A name is not a user: another one may have it by now, and its keys are not ours to delete.
    let user = static_roles::user_of(engine, call, &role).await?;
    let role = role.of(user)?;
    let fresh = made(engine, cx, call, &role).await?;
    // As it stands now: it may have been written since, and what a writer was told holds.
    let Some((mut stands, version)) = claimed(cx, place, &role).await else {
        keys::discard(engine.aws.as_ref(), cx, call, &fresh).await;
        return Err(Error::failed(
            "the role was deleted, rotated elsewhere or cannot be read since its key was made: that key is given up",
        ));
    };
    stands.account = role.account;
    let role = stands.with_key(&fresh.key, cx.clock.now());
    let changes = Changes::new().expect(place, Expect::Version(version)).put_json(place, &role)?;
    let stored = cx.store.commit(fresh.note.settled(changes)).await;
    match stored {
        Ok(()) => Ok(()),
        Err(failure) => keys::stands(engine.aws.as_ref(), cx, call, &fresh, failure, place, |entry| role.is_in(entry)).await,
    }
}

/// Where calls about the user of a role go.
pub(super) async fn target(engine: &Aws, cx: &Cx, role: &StaticRole) -> Result<Target> {
    let config: RootConfig = cx.store.get_json(config_root::KEY).await?.unwrap_or_default();
    let own = config.target(cx)?;
    role.route.target(engine.aws.as_ref(), Call::usual(&own, UNDO_PATIENCE), &role.username).await
}

/// A role that a rotation has claimed, as it stands by now, and its version. `None` where the claim holds no more, or it cannot be read.
///
/// Its schedule, its route and the name of its user may be others; the user is the same, which every write sees to.
async fn claimed(cx: &Cx, place: &str, claimed: &StaticRole) -> Option<(StaticRole, u64)> {
    let found = cx.store.get_json_versioned::<StaticRole>(place).await.ok().flatten();
    found.filter(|(role, _)| role.claimed_until == claimed.claimed_until && role.id == claimed.id)
}

/// Whether changes were applied; not when somebody else was first.
async fn committed(cx: &Cx, changes: Changes) -> Result<bool, Error> {
    match cx.store.commit(changes).await {
        Ok(()) => Ok(true),
        Err(CommitFailure::Conflict(_)) => Ok(false),
        Err(failure) => Err(failure.into()),
    }
}
