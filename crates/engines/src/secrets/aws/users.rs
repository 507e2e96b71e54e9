//! IAM users made for a lease, and taken apart when it ends.
//!
//! A note is stored before AWS is asked for anything, and goes in the commit that stores the lease. What dies in between leaves the note,
//! and the regular work deletes the user that it names. Deleting may be done twice: what is gone already is done.

use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{AccessKey, AwsError, Call, Depth, ErrorKind, NewUser, Target, UserGrant};
use daypass_base::Timestamp;
use daypass_sdk::{Changes, CommitFailure, Cx, Error, Expect, LeaseInfo, LeaseTerms, Leased, Renewal, Reply, Result, Seconds, reveal};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Aws;
use super::config_lease::{self, LeaseConfig};
use super::config_root::{self, RootConfig};
use super::creds::{deadline, upstream};
use super::names::{self, Use};
use super::role::Role;
use super::text::quoted;

/// Where the notes are: users that may exist without a lease.
const NOTES: &str = "wal/";
/// A note this old belongs to nobody who is still at work.
const NOTE_AGE_MAX: Seconds = Seconds(300);
/// Time for one user to be taken apart by the regular work.
const UNDO_PATIENCE: Duration = Duration::from_secs(20);
/// Notes that one round of the regular work looks at.
const NOTES_MAX: usize = 50;
/// IAM is eventually consistent: a user this young that is not found may still appear.
const SETTLED: Seconds = Seconds(60);

/// A user that was or will be made: the note, and what the lease keeps.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Made {
    username: String,
    /// When AWS was first asked for it.
    at: Timestamp,
}

/// Makes a user with a key. Errors: `Upstream` with Vault's words for the step that AWS refused.
pub(super) async fn issue(engine: &Aws, cx: &Cx, role: &Role, config: &RootConfig, name: &str) -> Result<Reply> {
    let target = config.target()?;
    let terms = terms(cx).await?;
    let made = Made { username: names::generate(cx, &config.username_template, name, Use::Iam)?, at: cx.clock.now() };
    let note = format!("{NOTES}{}", data_encoding::HEXLOWER.encode(&cx.entropy.bytes::<16>()));
    cx.store.commit(Changes::new().expect(&note, Expect::Absent).put_json(&note, &made)?).await?;
    let call = Call { target: &target, deadline: deadline(cx) };
    let key = match make(engine, call, role, &made, name).await {
        Ok(key) => key,
        Err(Failed { error, exists }) => {
            give_up(engine, cx, &target, &made, &note, exists).await;
            return Err(error);
        }
    };
    let data = json!({ "access_key": key.id, "secret_key": reveal(&key.secret), "session_token": Value::Null });
    let leased = Leased::stored(data, terms, &made)
        .fact("access_key_id", key.id)
        .fact("credential_type", "iam_user")
        .fact("user_name", &made.username)
        .also(Changes::new().expect(&note, Expect::Version(1)).delete(&note));
    Ok(leased.into())
}

/// A step that failed, and whether the user exists or may exist.
struct Failed {
    error: Error,
    exists: bool,
}

async fn make(engine: &Aws, call: Call<'_>, role: &Role, made: &Made, role_name: &str) -> Result<AccessKey, Failed> {
    let failed = |doing: &str, error: AwsError, exists: bool| {
        let error = upstream(format!("{doing}: {}", error.sdk_text()), error);
        Failed { error, exists }
    };
    let user = NewUser {
        name: made.username.clone(),
        path: role.user_path.clone(),
        permissions_boundary: (!role.permissions_boundary_arn.is_empty()).then(|| role.permissions_boundary_arn.clone()),
        tags: role.iam_tags.clone(),
    };
    // What AWS refused it did not do, nor what was never sent; what it did not answer it may have done.
    engine.aws.create_user(call, &user).await.map_err(|error| {
        let refused = error.status.is_some_and(|status| status < 500);
        let unsent = error.status.is_none() && matches!(error.kind, ErrorKind::Malformed | ErrorKind::NoIdentity);
        failed("Error creating IAM user", error, !refused && !unsent)
    })?;
    for grant in grants(role, role_name) {
        let doing = match &grant {
            UserGrant::Group(_) => "Error adding user to group",
            UserGrant::Inline(..) => "Error putting user policy",
            UserGrant::Managed(_) => "Error attaching user policy",
        };
        engine.aws.grant_user(call, &made.username, &grant).await.map_err(|error| failed(doing, error, true))?;
    }
    let key = engine.aws.create_access_key(call, &made.username).await;
    key.map_err(|error| failed("Error creating access keys", error, true))
}

/// What the role gives its users, in the order in which Vault gives it.
fn grants(role: &Role, role_name: &str) -> Vec<UserGrant> {
    let mut grants: Vec<UserGrant> = role.policy_arns.iter().cloned().map(UserGrant::Managed).collect();
    if !role.policy_document.is_empty() {
        grants.push(UserGrant::Inline(role_name.to_owned(), role.policy_document.clone()));
    }
    grants.extend(role.iam_groups.iter().cloned().map(UserGrant::Group));
    grants
}

/// Undoes at once what can be undone; what cannot is left to the regular work, by the note.
async fn give_up(engine: &Aws, cx: &Cx, target: &Target, made: &Made, note: &str, exists: bool) {
    let call = Call { target, deadline: UNDO_PATIENCE };
    let gone = if exists { dismantle(engine, call, &made.username).await.is_ok_and(|found| found == Found::Deleted) } else { true };
    if gone && let Err(error) = cx.store.delete(note).await {
        tracing::warn!(user = %made.username, %error, "the note of an IAM user that was not made could not be removed; it is looked at later");
    }
}

/// Whether there was anything to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Deleted,
    Nothing,
}

/// Takes everything off a user and deletes it.
async fn dismantle(engine: &Aws, call: Call<'_>, user: &str) -> Result<Found, AwsError> {
    match strip(engine, call, user, Depth::Usual).await {
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(Found::Nothing),
        stripped => stripped?,
    }
    match engine.aws.delete_user(call, user).await {
        // Somebody hung more on it by hand.
        Err(error) if error.code == "DeleteConflict" => {
            strip(engine, call, user, Depth::ByHand).await?;
            found(engine.aws.delete_user(call, user).await)
        }
        deleted => found(deleted),
    }
}

fn found(deleted: Result<(), AwsError>) -> Result<Found, AwsError> {
    match deleted {
        Ok(()) => Ok(Found::Deleted),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(Found::Deleted),
        Err(error) => Err(error),
    }
}

async fn strip(engine: &Aws, call: Call<'_>, user: &str, depth: Depth) -> Result<(), AwsError> {
    for holding in engine.aws.list_user_holdings(call, user, depth).await? {
        match engine.aws.remove_user_holding(call, user, &holding).await {
            Err(error) if error.kind == ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}

/// Takes a leased user back. Errors: `Upstream`; the core tries again.
pub(super) async fn revoke(engine: Arc<Aws>, cx: Cx, lease: LeaseInfo) -> Result<()> {
    let made: Made = serde_json::from_value(lease.internal)
        .map_err(|error| Error::internal("what is stored with the lease of an IAM user is not readable").because(error))?;
    let config: RootConfig = cx.store.get_json(config_root::KEY).await?.unwrap_or_default();
    let target = config.target()?;
    let call = Call { target: &target, deadline: deadline(&cx) };
    match dismantle(&engine, call, &made.username).await {
        Ok(Found::Nothing) if Seconds::from(cx.clock.now().since(made.at)) < SETTLED => Err(Error::failed(format!(
            "IAM user {} was made less than {} s ago and is not found at AWS yet; it is looked for again",
            quoted(&made.username),
            SETTLED.0
        ))),
        Ok(_) => Ok(()),
        Err(error) => Err(upstream(format!("Error deleting IAM user {}: {}", quoted(&made.username), error.sdk_text()), error)),
    }
}

/// The lifetime of `config/lease`, as it is now.
pub(super) async fn renew(cx: Cx) -> Result<Renewal> {
    Ok(Renewal { terms: terms(&cx).await?, period: Seconds::ZERO, internal: None, groups: None })
}

async fn terms(cx: &Cx) -> Result<LeaseTerms> {
    let config: Option<LeaseConfig> = cx.store.get_json(config_lease::KEY).await?;
    let (ttl, max_ttl) = config.map_or((Seconds::ZERO, Seconds::ZERO), |config| (config.lease, config.lease_max));
    Ok(LeaseTerms { ttl, max_ttl, renewable: true })
}

/// The mount goes, and the notes with it.
pub(super) async fn leave(engine: &Aws, cx: &Cx) {
    if let Err(error) = undo(engine, cx, Seconds::ZERO).await {
        tracing::warn!(mount = %cx.mount.path, %error, "IAM users that nobody got may be left; their names begin as the template of config/root says");
    }
}

/// Deletes users whose notes are old: nobody got their keys.
pub(super) async fn tidy(engine: &Aws, cx: &Cx) -> Result<()> {
    undo(engine, cx, NOTE_AGE_MAX).await
}

/// Deletes users whose notes are at least so old.
async fn undo(engine: &Aws, cx: &Cx, age: Seconds) -> Result<()> {
    for name in cx.store.list_page(NOTES, None, NOTES_MAX).await? {
        let note = format!("{NOTES}{name}");
        let Some((made, version)) = cx.store.get_json_versioned::<Made>(&note).await? else { continue };
        let now = cx.clock.now();
        if Seconds::from(now.since(made.at)) < age {
            continue;
        }
        // Written anew first: a lease that is being stored at this moment finds its note changed and is not handed out, and of several
        // nodes one goes on.
        match cx.store.commit(Changes::new().expect(&note, Expect::Version(version)).put_json(&note, &made)?).await {
            Ok(()) => {}
            Err(CommitFailure::Conflict(_)) => continue,
            Err(failure) => return Err(failure.into()),
        }
        let config: RootConfig = cx.store.get_json(config_root::KEY).await?.unwrap_or_default();
        let target = config.target()?;
        let call = Call { target: &target, deadline: UNDO_PATIENCE };
        match dismantle(engine, call, &made.username).await {
            Ok(_) => cx.store.delete(&note).await?,
            Err(error) => {
                tracing::warn!(user = %made.username, %error, "an IAM user that nobody got could not be deleted; it is tried again");
            }
        }
    }
    Ok(())
}
