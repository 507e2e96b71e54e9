//! Access keys of users that exist: made and deleted so that a crash at any line leaves no key that nobody knows of.
//!
//! Before a key is made a note says which keys there were, and at once after it the note names the key. Only where AWS's answer was lost has the
//! key to be looked for: it is one that was not there before, that was made while the call was under way, and that nobody has used. People
//! make keys too: where that is not certain the key is left, and the note stays for people to see. Before a key is deleted whose record goes
//! first, a note names it. The regular work undoes by the note, and never takes a key that is in use here.

use std::time::Duration;

use daypass_aws::{AccessKey, AssumeRole, Aws, AwsError, Call, ErrorKind, Holding, KeyInfo, Skew, Target};
use daypass_base::Timestamp;
use daypass_sdk::{Changes, CommitFailure, Cx, Entry, Error, Result, Seconds};
use serde::{Deserialize, Serialize};

use crate::go_text::quoted;
use crate::secrets::at_aws::{SESSION_SIZE_MAX, safe};

use super::notes::{self, Note, Written};
use super::{KeyMount, RootKey, account};

/// Time for one thing to be undone by the regular work.
pub(crate) const UNDO_PATIENCE: Duration = Duration::from_secs(20);
/// Lifetime of a session that handles a key: AWS's shortest.
const SESSION: Seconds = Seconds(900);
/// Clocks of AWS and of this machine differ by less: AWS refuses what is signed otherwise.
const SKEW_MAX: Seconds = Seconds(300);
/// AWS's times have whole seconds, a call that was given up may still be on its way, and a commit takes its time.
const SLACK: Seconds = Seconds(5);
/// Time for a call whose note does not say it: the longest that a request may take.
const DEADLINE_MAX: Seconds = Seconds(90);

/// A key that may have to go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StrayKey {
    /// The key itself, where it is known.
    pub(crate) id: String,
    /// Else: the keys that there were before it was made.
    pub(crate) known: Vec<String>,
    /// Time that the call which makes it may take; zero for a key that is only to be deleted.
    #[serde(skip_serializing_if = "Seconds::is_zero")]
    deadline: Seconds,
    /// When that call ended without telling what it did; not known where this process died over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Timestamp>,
    /// By how many milliseconds AWS's clock was ahead then, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    skew: Option<i64>,
    /// How the user's account is reached.
    #[serde(skip_serializing_if = "Route::is_own")]
    pub(crate) route: Route,
}

impl StrayKey {
    /// A key whose time is over: nobody is making it.
    pub(crate) fn over(id: String, route: Route) -> Self {
        Self { id, route, ..Self::default() }
    }

    /// Whether it is a key that nobody is making: one whose time is over.
    pub(crate) fn is_over(&self) -> bool {
        !self.id.is_empty() && self.deadline.is_zero()
    }
}

/// How the account of a user is reached: with the mount's own identity, or through an IAM role of that account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Route {
    pub(crate) assume_role_arn: String,
    pub(crate) assume_role_session_name: String,
    pub(crate) external_id: String,
}

impl Route {
    pub(crate) fn is_own(&self) -> bool {
        self.assume_role_arn.is_empty()
    }

    /// Where calls about the user go. Errors: `Failed` when the role of its account cannot be assumed.
    pub(crate) async fn target(&self, aws: &dyn Aws, call: Call<'_>, user: &str) -> Result<Target> {
        if self.is_own() {
            return Ok(call.target.clone());
        }
        let session_name = match self.assume_role_session_name.as_str() {
            "" => safe(&format!("daypass-{user}")).chars().take(SESSION_SIZE_MAX).collect(),
            given => given.to_owned(),
        };
        let input = AssumeRole {
            role_arn: self.assume_role_arn.clone(),
            session_name,
            duration: SESSION,
            external_id: (!self.external_id.is_empty()).then(|| self.external_id.clone()),
            ..AssumeRole::default()
        };
        let doing = format!("unable to assume role {}", quoted(&self.assume_role_arn));
        let session = aws.assume_role(call, input).await.map_err(|error| failed(&doing, error))?;
        Ok(call.target.signed_by(&session))
    }
}

/// A user whose keys are handled.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) name: &'a str,
    /// The account that it is in.
    pub(crate) account: &'a str,
    pub(crate) route: &'a Route,
}

/// A key that was made, and the note that goes when it is somebody's.
pub(crate) struct Fresh {
    pub(crate) key: AccessKey,
    pub(crate) note: Written,
    user: String,
}

/// Makes a key beside those that are known. Errors: `Failed` with AWS's words.
pub(crate) async fn make(aws: &dyn Aws, cx: &Cx, call: Call<'_>, owner: Owner<'_>, known: Vec<String>, doing: &str) -> Result<Fresh> {
    let deadline = Seconds::from(call.deadline).max(Seconds(1));
    let skew = aws.skew(call.target).map(Skew::milliseconds);
    let stray = StrayKey { known, route: owner.route.clone(), deadline, skew, ..StrayKey::default() };
    let note = Note::key(cx, owner.name, owner.account, stray.clone());
    let begun = notes::begin(cx, &note).await?;
    let noted = |stray| begun.replaced(Changes::new(), &Note { key: Some(stray), ..note.clone() });
    match aws.create_access_key(call, owner.name).await {
        Ok(key) => {
            // From here on nobody has to guess which it is.
            let changes = noted(StrayKey { id: key.id.clone(), ..stray })?;
            let named = match cx.store.commit(changes).await {
                Ok(()) => notes::written(cx, &begun.place).await,
                Err(failure) => Err(failure.into()),
            };
            let user = owner.name.to_owned();
            match named {
                Ok(note) => Ok(Fresh { key, note, user }),
                Err(error) => {
                    discard(aws, cx, call, &Fresh { key, note: begun, user }).await;
                    Err(error)
                }
            }
        }
        Err(error) if was_not_done(&error) => {
            notes::clear(cx, &begun.place).await;
            Err(failed(doing, error))
        }
        Err(error) => {
            // Where that cannot be stored, the call's deadline says when it ended at the latest.
            if let Err(failure) = cx.store.commit(noted(StrayKey { ended: Some(cx.clock.now()), ..stray })?).await {
                tracing::debug!(error = %Error::from(failure), "when the making of an access key ended could not be noted");
            }
            Err(failed(doing, error))
        }
    }
}

/// Deletes a fresh key that nobody will use. What AWS does not do now, or does not find yet, is done by its note.
pub(crate) async fn discard(aws: &dyn Aws, cx: &Cx, call: Call<'_>, fresh: &Fresh) {
    let user = &fresh.user;
    match delete(aws, call, user, &fresh.key.id).await {
        Ok(Gone::Deleted) => notes::clear(cx, &fresh.note.place).await,
        Ok(Gone::NotFound) => {
            tracing::warn!(user, key = %fresh.key.id, "an access key that is not used is not found at AWS yet; it is looked for again");
        }
        Err(error) => {
            tracing::warn!(user, key = %fresh.key.id, %error, "an access key that is not used could not be deleted; it is tried again");
        }
    }
}

/// Whether what was written stands although the commit failed. A failure that is no conflict may have been applied.
/// Errors: the failure itself; the key is deleted where nobody can come to know it.
pub(crate) async fn stands(
    aws: &dyn Aws,
    cx: &Cx,
    call: Call<'_>,
    fresh: &Fresh,
    failure: CommitFailure,
    place: &str,
    is_ours: impl Fn(&Entry) -> bool,
) -> Result<()> {
    if matches!(failure, CommitFailure::Conflict(_)) {
        discard(aws, cx, call, fresh).await;
        return Err(failure.into());
    }
    // Not found now is not found for ever: then the note decides later, when nothing can be under way.
    match cx.store.get(place).await {
        Ok(Some(entry)) if is_ours(&entry) => Ok(()),
        _ => Err(failure.into()),
    }
}

/// Whether a key was there to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    Deleted,
    /// In the account that was asked.
    NotFound,
}

/// Deletes a key.
pub(crate) async fn delete(aws: &dyn Aws, call: Call<'_>, user: &str, id: &str) -> Result<Gone, AwsError> {
    match aws.remove_user_holding(call, user, &Holding::AccessKey(id.to_owned())).await {
        Err(error) if error.kind == ErrorKind::NotFound => Ok(Gone::NotFound),
        deleted => deleted.map(|()| Gone::Deleted),
    }
}

/// Whether the account that a note is about was asked: else what is not found there is not gone, nor what is found ours. Errors: `Failed` where it was
/// another, or when AWS does not say which account that is.
fn in_its_account<M: KeyMount>(note: &Note, other: Result<Option<String>, AwsError>, thing: &str) -> Result<()> {
    match other.map_err(|error| failed("unable to see which account was asked for the access key", error))? {
        None => Ok(()),
        Some(asked) => Err(account::elsewhere(thing, &note.account, M::Root::ROW, &asked, "delete the key there and drop this entry")),
    }
}

/// The account that has the user whose keys were found, where it is another one than the note's. IAM says it too, of the user itself, where there is a way
/// to IAM and none to STS. Errors: when neither does.
async fn surely_other(aws: &dyn Aws, call: Call<'_>, note: &Note) -> Result<Option<String>, AwsError> {
    let unreachable = match account::surely_other(aws, call, &note.account).await {
        Err(error) if error.kind == ErrorKind::Unreachable => error,
        told => return told,
    };
    match aws.get_user(call, Some(&note.username)).await {
        Ok(user) if !user.account.is_empty() => Ok(Some(user.account).filter(|asked| *asked != note.account)),
        _ => Err(unreachable),
    }
}

/// Undoes a note of a key.
pub(crate) async fn undo<M: KeyMount>(mount: &M, cx: &Cx, note: &Note, stray: &StrayKey) -> Result<()> {
    let aws = mount.aws();
    let root: M::Root = cx.store.get_json(M::Root::ROW).await?.unwrap_or_default();
    let own = root.reach(cx)?;
    let call = Call::taking_back(&own, UNDO_PATIENCE);
    let target = stray.route.target(aws, call, &note.username).await?;
    let call = Call { target: &target, ..call };
    if !stray.id.is_empty() {
        if root.key().access_key == stray.id || mount.uses(cx, &note.username, &stray.id).await? {
            return Ok(());
        }
        let gone = delete(aws, call, &note.username, &stray.id).await;
        return match gone.map_err(|error| failed("unable to delete the access key", error))? {
            Gone::Deleted => Ok(()),
            Gone::NotFound => {
                let thing = format!("access key {} of IAM user {}", stray.id, quoted(&note.username));
                in_its_account::<M>(note, account::other(aws, call, &note.account).await, &thing)
            }
        };
    }
    let strange = strange(aws, call, note, stray).await?;
    let mut idle = Vec::new();
    for key in strange {
        if root.key().access_key != key.id && !mount.uses(cx, &note.username, &key.id).await? {
            idle.push(key);
        }
    }
    // One of the same name in another account is another user: what it has says nothing of ours, and is not ours to delete.
    let thing = format!("an access key of IAM user {} that may have been made here for nobody", quoted(&note.username));
    if idle.is_empty() {
        return in_its_account::<M>(note, account::other(aws, call, &note.account).await, &thing);
    }
    in_its_account::<M>(note, surely_other(aws, call, note).await, &thing)?;
    let clock = clock_of(aws, Call { target: &own, ..call }, stray.skew).await;
    let Some(key) = stray.made(note.at, clock, &idle, &note.username)? else { return Ok(()) };
    let used = match aws.access_key_last_used(call, &key.id).await {
        Ok(None) => "nobody has used it",
        Ok(Some(at)) => {
            return Err(Error::failed(format!(
                "access key {} of this user was made while the answer to a call of this server's was lost, and was used at {at}: somebody has it, \
                 so it is left alone; drop this entry, or delete the key in IAM",
                key.id
            )));
        }
        // The server may not look.
        Err(error) if error.kind == ErrorKind::Denied => "the server has no permission iam:GetAccessKeyLastUsed to see whether it was used",
        Err(error) => return Err(failed("unable to see whether the access key was used", error)),
    };
    delete(aws, call, &note.username, &key.id).await.map_err(|error| failed("unable to delete the access key", error))?;
    tracing::warn!(mount = %cx.mount.path, user = %note.username, key = %key.id, created = %key.created, used,
        "an access key was deleted that was made while the answer to the server's own call was lost");
    Ok(())
}

/// AWS's clock: as it was then, in milliseconds, else as it is now. `None`: nobody can tell.
pub(crate) async fn clock_of(aws: &dyn Aws, call: Call<'_>, then: Option<i64>) -> Option<Skew> {
    if let Some(skew) = then.map(Skew::seen).or_else(|| aws.skew(call.target)) {
        return Some(skew);
    }
    // Anybody may ask that, and the answer has a date. There are networks with a way to IAM and none to STS.
    let asked = aws.get_caller_identity(call).await;
    asked.ok().and_then(|_| aws.skew(call.target))
}

/// The keys that the user has and had not before; none where there is no such user.
async fn strange(aws: &dyn Aws, call: Call<'_>, note: &Note, stray: &StrayKey) -> Result<Vec<KeyInfo>> {
    let keys = match aws.list_access_keys(call, &note.username).await {
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(Vec::new()),
        keys => keys.map_err(|error| failed("unable to list the access keys", error))?,
    };
    Ok(keys.into_iter().filter(|key| !stray.known.contains(&key.id)).collect())
}

impl StrayKey {
    /// Which of the strange keys was made by the call that began at `at`. `None`: it made none. Errors: when that is not certain.
    fn made<'a>(&self, at: Timestamp, skew: Option<Skew>, strange: &'a [KeyInfo], user: &str) -> Result<Option<&'a KeyInfo>> {
        let clock = skew.unwrap_or_default();
        let deadline = if self.deadline.is_zero() { DEADLINE_MAX } else { self.deadline };
        let (begin, end) = (clock.theirs(at), clock.theirs(self.ended.unwrap_or(at + deadline)));
        let within = |key: &&KeyInfo, slack: Seconds| key.created + slack >= begin && key.created <= end + slack;
        let ours: Vec<&KeyInfo> = strange.iter().filter(|key| within(key, SLACK)).collect();
        let unsure = |ids: &[&KeyInfo], why: &str| {
            let ids: Vec<&str> = ids.iter().map(|key| key.id.as_str()).collect();
            Err(Error::failed(format!(
                "access key {} of IAM user {} may have been made here for nobody, but {why}: it is left alone; see in IAM whose it is, delete it \
                 there if it is nobody's, or drop this entry",
                ids.join(" or "),
                quoted(user)
            )))
        };
        match ours.as_slice() {
            [] if skew.is_some() => Ok(None),
            [] => {
                let near: Vec<&KeyInfo> = strange.iter().filter(|key| within(key, SKEW_MAX)).collect();
                if near.is_empty() { Ok(None) } else { unsure(&near, "AWS's clock could not be read") }
            }
            [one] => Ok(Some(one)),
            several => unsure(several, "there is more than one that could be it"),
        }
    }
}

/// What AWS refused it did not do, nor what was never sent; what it did not answer it may have done.
pub(crate) fn was_not_done(error: &AwsError) -> bool {
    let refused = error.status.is_some_and(|status| (400..500).contains(&status)) && error.code != "SerializationError";
    let unsent = error.is_crowded() || error.status.is_none() && matches!(error.kind, ErrorKind::Malformed | ErrorKind::NoIdentity);
    refused || unsent
}

pub(crate) fn failed(doing: &str, error: AwsError) -> Error {
    Error::failed(format!("{doing}: {}", error.sdk_text())).because(error)
}
