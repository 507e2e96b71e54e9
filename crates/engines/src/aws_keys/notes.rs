//! Notes of what is to be undone at AWS: IAM users that may exist without a lease, access keys that may exist without anybody knowing them.
//!
//! A note is stored before AWS is asked, and goes in the commit that makes the thing somebody's. What a crash or a failure leaves is
//! undone by the regular work, which goes on where it stopped, waits longer after each failure of one note, and shows what stays stuck
//! (`config/parked-users`). Undoing may be done twice: what is gone already is done.

use std::time::Duration;

use daypass_base::Timestamp;
use daypass_sdk::{Changes, CommitFailure, Cx, Error, Expect, Result, Seconds};
use serde::{Deserialize, Serialize};

use crate::readable::readable;

use super::keys::{self, StrayKey};
use super::{KeyMount, RootKey};

/// Where the notes are.
const NOTES: &str = "wal/";
/// A note this old belongs to nobody who is still at work.
pub(crate) const AGE_MAX: Seconds = Seconds(300);
/// Notes that are read at once.
const PAGE: usize = 100;
/// Notes that one round of the regular work reads; the next round goes on behind them.
const READ_MAX: usize = 5_000;
/// Notes that one round undoes.
const TRIED_MAX: usize = 50;
/// Time for one round: an AWS that hangs must not hold up expiry, which runs on the same worker.
const ROUND_PATIENCE: Duration = Duration::from_secs(20);
/// After so many failures a note is shown as parked.
const PARKED_AFTER: u32 = 6;
/// The first wait after a failure; it doubles with each,
const WAIT_FIRST: Seconds = Seconds(60);
/// up to this, at which parked ones go on.
const WAIT_MAX: Seconds = Seconds(3_600);
/// Between the attempts for a mount that goes.
const LEAVE_PAUSE: Duration = Duration::from_secs(1);
/// Longest text of a failure that is kept, in characters.
const PROBLEM_MAX: usize = 400;

/// Something that was or will be made for nobody yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) username: String,
    /// When AWS was first asked for it.
    pub(crate) at: Timestamp,
    /// The account that the user is in; empty where that is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) account: String,
    /// By how many milliseconds AWS's clock was ahead then, where that is known; of a key, [`StrayKey`] says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) skew: Option<i64>,
    /// A key of the user; `None`: the user itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<StrayKey>,
    /// How often undoing was begun.
    #[serde(default)]
    pub(crate) attempts: u32,
    /// Not tried again before; nobody is at work on it after.
    #[serde(default)]
    pub(crate) next: Option<Timestamp>,
    /// Why the last attempt failed, in AWS's words.
    #[serde(default)]
    pub(crate) problem: String,
}

impl Note {
    /// A note of a user that is about to be made.
    pub(crate) fn user(cx: &Cx, username: &str, account: &str) -> Self {
        let (username, account, at) = (username.to_owned(), account.to_owned(), cx.clock.now());
        Self { username, at, account, skew: None, key: None, attempts: 0, next: None, problem: String::new() }
    }

    /// A note of a key that is about to be made or deleted.
    pub(crate) fn key(cx: &Cx, username: &str, account: &str, key: StrayKey) -> Self {
        Self { key: Some(key), ..Self::user(cx, username, account) }
    }

    pub(crate) fn is_parked(&self) -> bool {
        self.attempts >= PARKED_AFTER
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.next.unwrap_or(self.at + AGE_MAX) <= now
    }
}

/// Where a new note will lie.
fn place(cx: &Cx) -> String {
    format!("{NOTES}{}", data_encoding::HEXLOWER.encode(&cx.entropy.bytes::<16>()))
}

/// A note as its writer left it. Whoever undoes a note writes it anew first, so what is said here holds only while nobody has begun to.
pub(crate) struct Written {
    pub(crate) place: String,
    version: u64,
}

impl Written {
    /// Takes the note along in the commit that makes its thing somebody's.
    pub(crate) fn settled(&self, changes: Changes) -> Changes {
        changes.expect(&self.place, Expect::Version(self.version)).delete(&self.place)
    }

    /// Says something else in its place.
    pub(crate) fn replaced(&self, changes: Changes, note: &Note) -> Result<Changes> {
        changes.expect(&self.place, Expect::Version(self.version)).put_json(&self.place, note)
    }
}

/// The note at a place where one was just written that nobody had tried to undo.
pub(crate) async fn written(cx: &Cx, place: &str) -> Result<Written> {
    Ok(Written { place: place.to_owned(), version: version_at(cx, place, 0).await? })
}

/// The version of a note after so many attempts to undo it; one that no row has, where somebody has begun another, or the note is gone.
async fn version_at(cx: &Cx, place: &str, attempts: u32) -> Result<u64> {
    let found = cx.store.get_json_versioned::<Note>(place).await?;
    Ok(found.filter(|(note, _)| note.attempts == attempts).map_or(0, |(_, version)| version))
}

/// Stores a note.
pub(crate) async fn begin(cx: &Cx, note: &Note) -> Result<Written> {
    begin_with(cx, note, |changes, _| Ok(changes)).await
}

/// The same, with more in the commit; `more` is told the place.
pub(crate) async fn begin_with(cx: &Cx, note: &Note, more: impl FnOnce(Changes, &str) -> Result<Changes>) -> Result<Written> {
    let place = place(cx);
    let changes = Changes::new().expect(&place, Expect::Absent).put_json(&place, note)?;
    cx.store.commit(more(changes, &place)?).await?;
    written(cx, &place).await
}

/// Removes a note that says nothing any more. That it fails is no reason to fail: the regular work finds nothing to undo.
pub(crate) async fn clear(cx: &Cx, place: &str) {
    clear_with(cx, Changes::new(), place).await;
}

/// The same, with what goes along.
pub(crate) async fn clear_with(cx: &Cx, more: Changes, place: &str) {
    if let Err(error) = cx.store.commit(more.delete(place)).await.map_err(Error::from) {
        tracing::warn!(mount = %cx.mount.path, %error, "a note of something that is not to be undone could not be removed; it is looked at later");
    }
}

/// The regular work on notes: those that are due, from where the last round stopped.
pub(crate) async fn tidy(mount: &impl KeyMount, cx: &Cx) -> Result<()> {
    let began = cx.clock.elapsed();
    let (mut read, mut tried) = (0, 0);
    loop {
        let after = mount.upkeep().looked_at.lock().clone();
        let names = cx.store.list_page(NOTES, after.as_deref(), PAGE).await?;
        for (place, note, version) in stored(cx, &names).await? {
            mount.upkeep().looked_at.lock().replace(place.trim_start_matches(NOTES).to_owned());
            if !note.is_due(cx.clock.now()) {
                continue;
            }
            tried += 1;
            // What failed is noted there, and holds up no other.
            drop(undo(mount, cx, &place, note, version).await?);
            if tried >= TRIED_MAX || cx.clock.elapsed().saturating_sub(began) >= ROUND_PATIENCE {
                return Ok(());
            }
        }
        read += names.len();
        *mount.upkeep().looked_at.lock() = names.last().cloned();
        if names.len() < PAGE {
            // The end: the next round begins at the front.
            *mount.upkeep().looked_at.lock() = None;
            return Ok(());
        }
        if read >= READ_MAX {
            return Ok(());
        }
    }
}

/// The mount goes, and the notes with it: all are undone now, due or not. What cannot be is named in the log.
pub(crate) async fn leave(mount: &impl KeyMount, cx: &Cx) {
    for last in [false, false, true] {
        match undo_all(mount, cx, last).await {
            Ok(0) => return,
            Err(error) if last => {
                tracing::warn!(mount = %cx.mount.path, %error, "IAM users, or keys of them, that nobody got may be left at AWS");
            }
            Ok(_) if last => {}
            _ => cx.clock.sleep(LEAVE_PAUSE).await,
        }
    }
}

/// The identity that could undo notes is about to go: those that nobody can be making anything for are undone now. What AWS does not let us
/// stays noted: gives a remark on it for whoever replaces the identity. Errors: those of the store alone.
pub(crate) async fn settle<M: KeyMount>(mount: &M, cx: &Cx) -> Result<Option<String>> {
    let now = cx.clock.now();
    let is_over = |note: &Note| note.key.as_ref().is_some_and(StrayKey::is_over);
    let settled = async {
        for (place, note, version) in all(cx, |note| note.is_due(now) || is_over(note)).await? {
            drop(undo(mount, cx, &place, note, version).await?);
        }
        Ok::<(), Error>(())
    };
    tokio::select! {
        settled = settled => settled?,
        () = cx.clock.sleep(ROUND_PATIENCE) => {}
    }
    let left = all(cx, |note| note.attempts > 0 || note.is_due(now) || is_over(note)).await?.len();
    Ok((left > 0).then(|| {
        format!(
            "IAM users, or access keys of them, that are to be deleted could not be yet ({left}): it is tried again, as {} says then, so it has to \
             lead to their account; the log says what AWS has against it",
            M::Root::ROW
        )
    }))
}

/// Undoes every note, due or not. Gives how many are left.
async fn undo_all(mount: &impl KeyMount, cx: &Cx, last: bool) -> Result<usize> {
    let mut left = 0;
    for (place, note, version) in all(cx, |_| true).await? {
        let username = note.username.clone();
        if matches!(undo(mount, cx, &place, note, version).await?, Undone::Done) {
            continue;
        }
        left += 1;
        if last {
            tracing::warn!(mount = %cx.mount.path, user = %username, "an IAM user, or a key of it, that nobody got may be left at AWS; delete it there");
        }
    }
    Ok(left)
}

/// All notes, a page after the other, as `keep` chooses them. For people: never on the way of a mint.
pub(crate) async fn all(cx: &Cx, keep: impl Fn(&Note) -> bool) -> Result<Vec<(String, Note, u64)>> {
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let names = cx.store.list_page(NOTES, after.as_deref(), PAGE).await?;
        found.extend(stored(cx, &names).await?.into_iter().filter(|(_, note, _)| keep(note)));
        after = names.last().cloned();
        if names.len() < PAGE {
            return Ok(found);
        }
    }
}

/// Those that can be read: what is noted in a damaged one nobody can tell.
async fn stored(cx: &Cx, names: &[String]) -> Result<Vec<(String, Note, u64)>> {
    let places: Vec<String> = names.iter().map(|name| format!("{NOTES}{name}")).collect();
    let found = readable(cx, &places, cx.store.get_each_json(&places).await?);
    Ok(found.into_iter().map(|(place, (note, version))| (place.to_owned(), note, version)).collect())
}

/// How undoing ended.
#[derive(Debug)]
pub(crate) enum Undone {
    /// There is nothing left, nor the note.
    Done,
    /// AWS did not let us: its text. The note says when it is tried again.
    Failed(String),
    /// Somebody else took the note at the same moment.
    Taken,
}

/// Undoes what was just written. Errors: those of the store alone.
pub(crate) async fn undo_written(mount: &impl KeyMount, cx: &Cx, written: &Written, note: Note) -> Result<Undone> {
    undo(mount, cx, &written.place, note, written.version).await
}

/// Undoes one thing. Errors: those of the store alone.
pub(crate) async fn undo(mount: &impl KeyMount, cx: &Cx, place: &str, note: Note, version: u64) -> Result<Undone> {
    let attempts = note.attempts.saturating_add(1);
    let note = Note { attempts, next: Some(cx.clock.now() + wait(attempts)), ..note };
    // Written anew first: a lease that is being stored at this moment finds its note changed and is not handed out; of several nodes one
    // goes on; and an attempt that kills the process counts.
    match cx.store.commit(Changes::new().expect(place, Expect::Version(version)).put_json(place, &note)?).await {
        Ok(()) => {}
        Err(CommitFailure::Conflict(_)) => return Ok(Undone::Taken),
        Err(failure) => return Err(failure.into()),
    }
    let problem = match &note.key {
        None => mount.undo_user(cx, place, &note).await,
        Some(key) => keys::undo(mount, cx, &note, key).await.map(|()| Changes::new()),
    };
    let problem = match problem {
        Ok(with_it) => {
            cx.store.commit(with_it.delete(place)).await?;
            return Ok(Undone::Done);
        }
        Err(problem) => problem,
    };
    let problem: String = problem.message.chars().take(PROBLEM_MAX).collect();
    tracing::warn!(mount = %cx.mount.path, user = %note.username, attempts, problem, "an IAM user, or a key of it, that nobody got could not be deleted; it is tried again");
    let note = Note { problem: problem.clone(), ..note };
    let version = version_at(cx, place, attempts).await?;
    match cx.store.commit(Changes::new().expect(place, Expect::Version(version)).put_json(place, &note)?).await {
        Ok(()) | Err(CommitFailure::Conflict(_)) => Ok(Undone::Failed(problem)),
        Err(failure) => Err(failure.into()),
    }
}

/// How long after the start of an attempt the next one begins.
fn wait(attempts: u32) -> Seconds {
    let doubled = WAIT_FIRST.0.saturating_mul(1_u64 << attempts.saturating_sub(1).min(16));
    Seconds(doubled.min(WAIT_MAX.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour() {
        assert_eq!([1, 2, 3, 6, 7, 60].map(wait), [60, 120, 240, 1920, 3600, 3600].map(Seconds));
    }
}
