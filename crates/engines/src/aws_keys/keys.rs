//! Access keys of users that exist: made and deleted so that a crash at any line leaves no key that nobody knows of.
//!
//! Before a key is made a note says which keys there were: one that is not among them afterwards is ours. Before one is deleted whose
//! record goes first, a note names it. The regular work undoes by the note, and never takes a key that is in use here.

use std::time::Duration;

use daypass_aws::{AccessKey, AssumeRole, Aws, AwsError, Call, ErrorKind, Holding, Target};
use daypass_sdk::{CommitFailure, Cx, Entry, Error, Result, Seconds};
use serde::{Deserialize, Serialize};

use crate::go_text::quoted;
use crate::secrets::at_aws::{SESSION_SIZE_MAX, safe};

use super::notes::{self, Note};
use super::{KeyMount, RootKey};

/// Time for one thing to be undone by the regular work.
pub(crate) const UNDO_PATIENCE: Duration = Duration::from_secs(20);
/// Lifetime of a session that handles a key: AWS's shortest.
const SESSION: Seconds = Seconds(900);
/// Clocks of AWS and of this machine differ by less.
const SKEW: Seconds = Seconds(300);

/// A key that may have to go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StrayKey {
    /// The key itself, where it is known.
    pub(crate) id: String,
    /// Else: the keys that there were before it was made.
    pub(crate) known: Vec<String>,
    /// How the user's account is reached.
    #[serde(skip_serializing_if = "Route::is_own")]
    pub(crate) route: Route,
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
    pub(crate) route: &'a Route,
}

/// A key that was made, and the note that goes when it is somebody's.
pub(crate) struct Fresh {
    pub(crate) key: AccessKey,
    /// Where the note lies.
    pub(crate) note: String,
    user: String,
}

/// Makes a key beside those that are known. Errors: `Failed` with AWS's words.
pub(crate) async fn make(aws: &dyn Aws, cx: &Cx, call: Call<'_>, owner: Owner<'_>, known: Vec<String>, doing: &str) -> Result<Fresh> {
    let stray = StrayKey { id: String::new(), known, route: owner.route.clone() };
    let note = notes::begin(cx, &Note::key(cx, owner.name, stray)).await?;
    match aws.create_access_key(call, owner.name).await {
        Ok(key) => Ok(Fresh { key, note, user: owner.name.to_owned() }),
        Err(error) => {
            if was_not_done(&error) {
                notes::clear(cx, &note).await;
            }
            Err(failed(doing, error))
        }
    }
}

/// Deletes a fresh key that nobody will use. What AWS does not do now is done by its note.
pub(crate) async fn discard(aws: &dyn Aws, cx: &Cx, call: Call<'_>, fresh: &Fresh) {
    let user = &fresh.user;
    match delete(aws, call, user, &fresh.key.id).await {
        Ok(()) => notes::clear(cx, &fresh.note).await,
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

/// Deletes a key; one that is gone is deleted.
pub(crate) async fn delete(aws: &dyn Aws, call: Call<'_>, user: &str, id: &str) -> Result<(), AwsError> {
    match aws.remove_user_holding(call, user, &Holding::AccessKey(id.to_owned())).await {
        Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
        gone => gone,
    }
}

/// Undoes a note of a key.
pub(crate) async fn undo<M: KeyMount>(mount: &M, cx: &Cx, note: &Note, stray: &StrayKey) -> Result<()> {
    let aws = mount.aws();
    let root: M::Root = cx.store.get_json(M::Root::ROW).await?.unwrap_or_default();
    let own = root.reach(cx)?;
    let call = Call { target: &own, deadline: UNDO_PATIENCE };
    let target = stray.route.target(aws, call, &note.username).await?;
    let call = Call { target: &target, ..call };
    let Some(id) = found(aws, call, note, stray).await? else { return Ok(()) };
    if root.key().access_key == id || mount.uses(cx, &note.username, &id).await? {
        return Ok(());
    }
    delete(aws, call, &note.username, &id).await.map_err(|error| failed("unable to delete the access key", error))
}

/// The key that a note means. `None`: it was never made, or nobody can tell which it is.
async fn found(aws: &dyn Aws, call: Call<'_>, note: &Note, stray: &StrayKey) -> Result<Option<String>> {
    if !stray.id.is_empty() {
        return Ok(Some(stray.id.clone()));
    }
    let keys = match aws.list_access_keys(call, &note.username).await {
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
        keys => keys.map_err(|error| failed("unable to list the access keys", error))?,
    };
    let ours = |created| created + SKEW >= note.at && created <= note.at + SKEW + SKEW;
    let mut strange = keys.into_iter().filter(|key| !stray.known.contains(&key.id) && ours(key.created));
    let first = strange.next();
    if first.is_some() && strange.next().is_some() {
        tracing::warn!(user = %note.username, "one of two access keys of this user may have been made here and is not used; see which in IAM");
        return Ok(None);
    }
    Ok(first.map(|key| key.id))
}

/// What AWS refused it did not do, nor what was never sent; what it did not answer it may have done.
pub(crate) fn was_not_done(error: &AwsError) -> bool {
    let refused = error.status.is_some_and(|status| (400..500).contains(&status)) && error.code != "SerializationError";
    let unsent = error.status.is_none() && matches!(error.kind, ErrorKind::Malformed | ErrorKind::NoIdentity);
    refused || unsent
}

pub(crate) fn failed(doing: &str, error: AwsError) -> Error {
    Error::failed(format!("{doing}: {}", error.sdk_text())).because(error)
}
