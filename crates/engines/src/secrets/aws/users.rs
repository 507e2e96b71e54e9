//! IAM users made for a lease, and taken apart when it ends.
//!
//! A note ([`crate::aws_keys::notes`]) is stored before AWS is asked for anything, and goes in the commit that stores the lease. What dies in
//! between leaves the note, and the regular work deletes the user that it names. With the note comes a row of the same making
//! ([`super::user_rows`]), which goes with the user: a template without chance in it gives the same name again, in this account or another, and
//! neither an attempt that failed nor the end of one lease may cost another build its user.

use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{AccessKey, AwsError, Call, ErrorKind, NewUser, Skew, Target, User, UserGrant};
use daypass_base::Timestamp;
use daypass_sdk::{Changes, Cx, Error, LeaseInfo, LeaseTerms, Leased, Renewal, Reply, Result, Seconds, reveal};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::aws_keys::account;
use crate::aws_keys::keys::{self, UNDO_PATIENCE};
use crate::aws_keys::notes::{self, Note, Written};
use crate::secrets::at_aws::{deadline, upstream};

use super::Aws;
use super::config_lease::{self, LeaseConfig};
use super::config_root::{self, RootConfig};
use super::dismantle::{Found, dismantle, twice};
use super::names::{self, Use};
use super::role::Role;
use super::text::quoted;
use super::user_rows::{self, Holder};

/// A user may look so much older than the request that made it: AWS's clock is known as it was when STS answered last.
const SKEW: Seconds = Seconds(300);
/// What else can be done about a note,
const DROP: &str = "drop this entry";
/// and about a lease.
const FORCE: &str = "revoke its lease with force";
/// Time to ask in which account a user will be.
const WHERE_PATIENCE: Duration = Duration::from_secs(3);
/// IAM is eventually consistent: a user this young that is not found may still appear.
const SETTLED: Seconds = Seconds(60);

/// A user that was made: what the lease keeps.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Made {
    username: String,
    /// When AWS was first asked for it.
    at: Timestamp,
    /// The account that it is in; empty in leases of old.
    #[serde(default)]
    account: String,
    /// Its unique id: a user that was made anew under its name has another one. Empty in notes and in leases of old.
    #[serde(default)]
    id: String,
    /// Where its note lay, by which its row knows it; empty in leases of old.
    #[serde(default)]
    note: String,
    /// The id of its key; empty in notes and in leases of old.
    #[serde(default)]
    key: String,
    /// By how many milliseconds AWS's clock was ahead, where that is known and matters.
    #[serde(skip)]
    skew: Option<i64>,
}

impl Made {
    /// Its row.
    fn row(&self) -> String {
        user_rows::row(&self.username, &self.note)
    }
}

/// The account in which a mount makes its users, as far as it is known: of the place that leads there.
#[derive(Default)]
pub(super) struct Home(Mutex<Option<(Target, String)>>);

impl Home {
    fn known(&self, target: &Target) -> Option<String> {
        let known = self.0.lock();
        known.as_ref().filter(|(place, _)| place == target).map(|(_, account)| account.clone())
    }

    fn learn(&self, target: &Target, account: &str) {
        *self.0.lock() = Some((target.clone(), account.to_owned()));
    }
}

/// The account that a user is about to be made in: once AWS has not answered it is too late to ask. Empty where AWS does not say it soon.
async fn account_at(engine: &Aws, target: &Target) -> String {
    if let Some(account) = engine.home.known(target) {
        return account;
    }
    match engine.aws.get_caller_identity(Call::usual(target, WHERE_PATIENCE)).await {
        Ok(identity) => {
            engine.home.learn(target, &identity.account);
            identity.account
        }
        Err(error) => {
            tracing::debug!(%error, "in which account IAM users are made is not known yet");
            String::new()
        }
    }
}

/// Makes a user with a key. Errors: `Upstream` with Vault's words for the step that AWS refused.
pub(super) async fn issue(engine: &Aws, cx: &Cx, role: &Role, config: &RootConfig, name: &str) -> Result<Reply> {
    let target = config.target(cx)?;
    let terms = terms(cx).await?;
    let username = names::generate(cx, &config.username_template, name, Use::Iam)?;
    let account = account_at(engine, &target).await;
    let skew = engine.aws.skew(&target).map(Skew::milliseconds);
    let mut made = Made { username, at: cx.clock.now(), account, id: String::new(), note: String::new(), key: String::new(), skew };
    let note = begin(cx, &made).await?;
    made.note.clone_from(&note.place);
    let call = Call::usual(&target, deadline(cx));
    let key = match make(engine, call, role, &mut made, name).await {
        Ok(key) => key,
        Err(Failed { error, user }) => {
            give_up(engine, cx, &target, &made, user).await;
            return Err(error);
        }
    };
    made.key.clone_from(&key.id);
    let (row, holder) = (made.row(), Holder::leased(&made.note, &made.account, &made.id));
    let data = json!({ "access_key": key.id, "secret_key": reveal(&key.secret), "session_token": Value::Null });
    let leased = Leased::stored(data, terms, &made)
        .fact("access_key_id", key.id)
        .fact("credential_type", "iam_user")
        .fact("user_name", &made.username)
        .also(note.settled(Changes::new()).put_json(&row, &holder)?)
        .with_row(row);
    Ok(leased.into())
}

/// Stores the note and the row.
async fn begin(cx: &Cx, made: &Made) -> Result<Written> {
    let note = Note { at: made.at, skew: made.skew, ..Note::user(cx, &made.username, &made.account) };
    notes::begin_with(cx, &note, |changes, place| {
        changes.put_json(user_rows::row(&made.username, place), &Holder::making(place, &made.account, made.at))
    })
    .await
}

/// A step that failed, and what became of the user.
struct Failed {
    error: Error,
    user: Fate,
}

/// Whether a user was made by the request at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Made,
    NotMade,
    /// AWS did not answer.
    Unknown,
}

async fn make(engine: &Aws, call: Call<'_>, role: &Role, made: &mut Made, role_name: &str) -> Result<AccessKey, Failed> {
    let failed = |doing: &str, error: AwsError, user: Fate| {
        let error = upstream(format!("{doing}: {}", error.sdk_text()), error);
        Failed { error, user }
    };
    let user = NewUser {
        name: made.username.clone(),
        path: role.user_path.clone(),
        permissions_boundary: (!role.permissions_boundary_arn.is_empty()).then(|| role.permissions_boundary_arn.clone()),
        tags: role.iam_tags.clone(),
    };
    let created = engine.aws.create_user(call, &user).await.map_err(|error| {
        let fate = if keys::was_not_done(&error) { Fate::NotMade } else { Fate::Unknown };
        failed("Error creating IAM user", error, fate)
    })?;
    engine.home.learn(call.target, &created.account);
    (made.account, made.id) = (created.account, created.id);
    for grant in grants(role, role_name) {
        let doing = match &grant {
            UserGrant::Group(_) => "Error adding user to group",
            UserGrant::Inline(..) => "Error putting user policy",
            UserGrant::Managed(_) => "Error attaching user policy",
        };
        engine.aws.grant_user(call, &made.username, &grant).await.map_err(|error| failed(doing, error, Fate::Made))?;
    }
    let key = engine.aws.create_access_key(call, &made.username).await;
    key.map_err(|error| failed("Error creating access keys", error, Fate::Made))
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
async fn give_up(engine: &Aws, cx: &Cx, target: &Target, made: &Made, user: Fate) {
    let call = Call::taking_back(target, UNDO_PATIENCE);
    let gone = match user {
        Fate::Made => dismantle(engine, call, &made.username, &made.key).await.is_ok_and(|found| found == Found::Deleted),
        Fate::NotMade => true,
        Fate::Unknown => unmake(engine, cx, call, made).await.is_ok_and(|found| found == Found::Deleted),
    };
    // Where rows cannot be read now, the note stays: who undoes it removes its row.
    if gone && let Ok(released) = user_rows::release(cx, &made.note, &made.username).await {
        notes::clear_with(cx, released, &made.note).await;
    }
}

/// Takes a leased user back: the one that was made, and no other of its name. Errors: `Upstream`; `Failed` where another account is asked than the
/// one that it is in, or nobody can tell whose the user is. The core tries again.
pub(super) async fn revoke(engine: Arc<Aws>, cx: Cx, lease: LeaseInfo) -> Result<()> {
    let made: Made = serde_json::from_value(lease.internal)
        .map_err(|error| Error::internal("what is stored with the lease of an IAM user is not readable").because(error))?;
    let config: RootConfig = cx.store.get_json(config_root::KEY).await?.unwrap_or_default();
    let target = config.target(&cx)?;
    let call = Call::taking_back(&target, deadline(&cx));
    match look(&engine, call, &made.username).await {
        Ok(None) => return truly_gone(&engine, &cx, call, &made).await,
        Ok(Some(user)) if !is_the_one(&cx, &made, &user, FORCE).await? => {
            tracing::warn!(user = %made.username, id = %user.id, "the IAM user of this name is not the one of this lease, which is gone: it is left alone");
            return Ok(());
        }
        Ok(Some(_)) => {}
        Err(error) => unseen_but_ours(&engine, &cx, call, &made, error).await?,
    }
    match dismantle(&engine, call, &made.username, &made.key).await {
        Ok(Found::Nothing) => truly_gone(&engine, &cx, call, &made).await,
        // Its row goes with the lease.
        Ok(Found::Deleted) => Ok(()),
        Err(error) => Err(failed(&made.username, error)),
    }
}

/// The user that has a name now, if there is one.
async fn look(engine: &Aws, call: Call<'_>, username: &str) -> Result<Option<User>, AwsError> {
    match twice(|| engine.aws.get_user(call, Some(username))).await {
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

fn not_seen(username: &str, error: AwsError) -> Error {
    upstream(format!("Error reading IAM user {} before it is deleted: {}", quoted(username), error.sdk_text()), error)
}

/// Whether the user that has the name now may be the one that was made. Errors: `Failed` when it is in another account, or may be another making's.
async fn is_the_one(cx: &Cx, made: &Made, user: &User, otherwise: &str) -> Result<bool> {
    if !made.account.is_empty() && user.account != made.account {
        return Err(elsewhere(made, &user.account, otherwise));
    }
    if !made.id.is_empty() {
        return Ok(user.id == made.id);
    }
    Ok(!user_rows::is_anothers(cx, &made.note, user, otherwise).await?)
}

/// Where the server may not look at users (no `iam:GetUser`), the name of a leased user has to do: where STS says that its account is asked, and while nobody
/// else here made one of that name. Errors: otherwise, and when AWS did not tell for another reason.
async fn unseen_but_ours(engine: &Aws, cx: &Cx, call: Call<'_>, made: &Made, error: AwsError) -> Result<()> {
    let may_not_look = error.kind == ErrorKind::Denied;
    if !may_not_look || !user_rows::others(cx, &made.note, &made.username).await?.is_empty() {
        return Err(not_seen(&made.username, error));
    }
    match account::surely_other(engine.aws.as_ref(), call, &made.account).await {
        Err(error) => {
            let text = format!(
                "IAM user {} may be one of that name in another account: iam:GetUser is refused, and STS did not say which account is asked: {}; let the \
                 server call iam:GetUser or reach STS, or see in IAM that the user is gone and {FORCE}",
                quoted(&made.username),
                error.sdk_text()
            );
            Err(upstream(text, error))
        }
        told => in_its_account(made, told, FORCE),
    }
}

/// Whether a leased user that is not found is gone. Errors: when it may still appear, or is in an account that is not the one asked.
async fn truly_gone(engine: &Aws, cx: &Cx, call: Call<'_>, made: &Made) -> Result<()> {
    settled(cx, made)?;
    in_its_account(made, account::other(engine.aws.as_ref(), call, &made.account).await, FORCE)
}

/// Errors: when another account is asked than the one that the user was made in, or AWS does not say which that is.
fn in_its_account(made: &Made, other: Result<Option<String>, AwsError>, otherwise: &str) -> Result<()> {
    match other {
        Ok(None) => Ok(()),
        Ok(Some(asked)) => Err(elsewhere(made, &asked, otherwise)),
        Err(error) => {
            let text = format!("unable to see which account was asked for IAM user {}: {}", quoted(&made.username), error.sdk_text());
            Err(Error::failed(text).because(error))
        }
    }
}

fn elsewhere(made: &Made, asked: &str, then: &str) -> Error {
    let (user, otherwise) = (format!("IAM user {}", quoted(&made.username)), format!("delete the user there and {then}"));
    account::elsewhere(&user, &made.account, config_root::KEY, asked, &otherwise)
}

/// Errors: `Failed` for a user that is not found and may still appear: IAM takes its time, and a call that its caller gave up may be on its way.
fn settled(cx: &Cx, made: &Made) -> Result<()> {
    if Seconds::from(cx.clock.now().since(made.at)) >= SETTLED {
        return Ok(());
    }
    Err(Error::failed(format!(
        "IAM user {} was made less than {} s ago and is not found at AWS yet; it is looked for again",
        quoted(&made.username),
        SETTLED.0
    )))
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

/// Undoes a note of a user: nobody got its keys.
pub(super) async fn undo(engine: &Aws, cx: &Cx, place: &str, note: &Note) -> Result<Changes> {
    let (username, account) = (note.username.clone(), note.account.clone());
    let made = Made { username, at: note.at, account, id: String::new(), note: place.to_owned(), key: String::new(), skew: note.skew };
    let config: RootConfig = cx.store.get_json(config_root::KEY).await?.unwrap_or_default();
    let target = config.target(cx)?;
    let call = Call::taking_back(&target, UNDO_PATIENCE);
    if unmake(engine, cx, call, &made).await? == Found::Nothing {
        settled(cx, &made)?;
        in_its_account(&made, account::other(engine.aws.as_ref(), call, &made.account).await, DROP)?;
    }
    user_rows::release(cx, place, &made.username).await
}

/// Takes a user apart that may have been made for nobody. One that another making or a lease holds, that is older, or in another account, is
/// somebody's; so it has to be known how old it is. Errors: also when that cannot be told.
async fn unmake(engine: &Aws, cx: &Cx, call: Call<'_>, made: &Made) -> Result<Found> {
    let username = made.username.as_str();
    let found = look(engine, call, username).await.map_err(|error| not_seen(username, error))?;
    let Some(user) = found else { return Ok(Found::Nothing) };
    if !is_the_one(cx, made, &user, DROP).await? {
        return Ok(Found::Deleted);
    }
    let clock = keys::clock_of(engine.aws.as_ref(), call, made.skew).await;
    if user.created + SKEW >= clock.unwrap_or_default().theirs(made.at) {
        return dismantle(engine, call, username, &made.key).await.map_err(|error| failed(username, error));
    }
    if clock.is_none() {
        return Err(Error::failed(format!(
            "IAM user {} may be older than the request that was to make it, but AWS's clock could not be read: it is left alone; see in IAM whose \
             it is, delete it there if it is nobody's, or drop this entry",
            quoted(username)
        )));
    }
    tracing::warn!(user = %username, "this IAM user is older than the request that was to make it: it is left alone");
    Ok(Found::Deleted)
}

fn failed(username: &str, error: AwsError) -> Error {
    upstream(format!("Error deleting IAM user {}: {}", quoted(username), error.sdk_text()), error)
}
