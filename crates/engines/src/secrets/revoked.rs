//! Which sessions `revoke-sessions` of an aws mount has ended, so that no aws or ecr mount of this process hands out what it keeps of them.
//!
//! Several mounts may give out sessions of one IAM role, and the policy that ends them is on that role.

use std::collections::HashMap;
use std::sync::Arc;

use daypass_aws::AssumeRole;
use daypass_sdk::{Seconds, Timestamp};
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use super::arn;

/// IAM roles, and source identities of them, that are remembered.
const ENTRIES_MAX: usize = 4_096;
/// No session lives longer.
const SESSION_MAX: Seconds = Seconds(36 * 3600);

/// What was ended: for all mounts together. Each node has its own, as each keeps credentials of its own.
#[derive(Default)]
pub(crate) struct Revoked {
    known: Mutex<Known>,
    /// Held by those who put policies on, or take them off, and by those who wait for that: by IAM role and source identity.
    turns: Mutex<HashMap<Ended, Arc<tokio::sync::Mutex<()>>>>,
}

/// Whose sessions: an IAM role's, and of a source identity, which is empty for all of them.
type Ended = (String, String);

#[derive(Default)]
struct Known {
    /// What AWS says that it ended.
    ended: Moments,
    /// What it may have ended: it did not answer.
    doubted: Moments,
    /// How often something was ended.
    count: u64,
}

#[derive(Default)]
struct Moments {
    /// Sessions that began before this are meant.
    before: HashMap<Ended, Timestamp>,
    /// What found no place: holds for every role.
    floor: Option<Timestamp>,
}

/// A session, as far as it matters for ending it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// Account and name of its IAM role.
    iam_role: String,
    source_identity: Option<String>,
}

impl Session {
    /// One that is asked for like this.
    pub(crate) fn of(input: &AssumeRole) -> Self {
        Self { iam_role: account_and_name(&input.role_arn), source_identity: input.source_identity.clone() }
    }
}

impl Revoked {
    /// A turn to change the policy for these sessions, from choosing the moment until it is noted. Of two calls at the same moment the one with the
    /// earlier moment could reach AWS last, and what the other one was told would not hold.
    pub(super) async fn turn(&self, iam_role: &str, source_identity: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock();
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry((account_and_name(iam_role), source_identity.to_owned())).or_default())
        };
        turn.lock_owned().await
    }

    /// Sessions of an IAM role, or those of one source identity, that began before a moment of AWS's clock are over. Of several moments the
    /// latest counts.
    pub(super) fn note(&self, iam_role: &str, source_identity: &str, before: Timestamp) {
        let mut known = self.known.lock();
        known.count += 1;
        known.ended.note(iam_role, source_identity, before);
    }

    /// The same where AWS did not answer. What is kept for other callers could be handed out dead; but who counts live sessions counts these.
    pub(super) fn doubt(&self, iam_role: &str, source_identity: &str, before: Timestamp) {
        self.known.lock().doubted.note(iam_role, source_identity, before);
    }

    /// That was undone, or never done.
    pub(super) fn forget(&self, iam_role: &str, source_identity: &str) {
        let mut known = self.known.lock();
        let Known { ended, doubted, .. } = &mut *known;
        for moments in [ended, doubted] {
            moments.before.remove(&(account_and_name(iam_role), source_identity.to_owned()));
        }
    }

    /// Whether a session that was made by this call and ends at `expiration`, by AWS's clock, may be one of those.
    pub(crate) fn ended(&self, input: &AssumeRole, expiration: Timestamp) -> bool {
        let known = self.known.lock();
        let is_one = |moments: &Moments| !moments.is_empty() && moments.cover(&Session::of(input), expiration - input.duration.duration());
        is_one(&known.ended) || is_one(&known.doubted)
    }

    /// Whether a session that began then, by AWS's clock, is one of those, as AWS says.
    pub(super) fn has_ended(&self, session: &Session, began: Timestamp) -> bool {
        let known = self.known.lock();
        !known.ended.is_empty() && known.ended.cover(session, began)
    }

    /// How often something was ended by now: as long as it is the same, no other session is over.
    pub(super) fn count(&self) -> u64 {
        self.known.lock().count
    }
}

impl Moments {
    fn note(&mut self, iam_role: &str, source_identity: &str, before: Timestamp) {
        if self.before.len() >= ENTRIES_MAX {
            // No session that began then is left.
            self.before.retain(|_, then| *then + SESSION_MAX > before);
        }
        if self.before.len() >= ENTRIES_MAX {
            self.floor = self.floor.max(Some(before));
            return;
        }
        let latest = self.before.entry((account_and_name(iam_role), source_identity.to_owned())).or_insert(before);
        *latest = (*latest).max(before);
    }

    fn is_empty(&self) -> bool {
        self.before.is_empty() && self.floor.is_none()
    }

    fn cover(&self, session: &Session, began: Timestamp) -> bool {
        let identities = std::iter::once("").chain(session.source_identity.as_deref());
        let of_role = identities.filter_map(|identity| self.before.get(&(session.iam_role.clone(), identity.to_owned())).copied());
        // What AWS compares is when the session began, in whole seconds. One of the very second is made anew rather than doubted.
        of_role.chain(self.floor).any(|before| began <= before)
    }
}

/// An IAM role as the policy is put on it: by its name, which is unique in its account whatever its path.
fn account_and_name(role_arn: &str) -> String {
    let account = arn::iam_role(role_arn).map(|arn| arn.account).unwrap_or_default();
    format!("{account}/{}", role_arn.rsplit('/').next().unwrap_or_default())
}

/// The next full second: what AWS compares has no fractions, and a session of the second at hand is to be ended too.
pub(super) fn next_second(now: Timestamp) -> Timestamp {
    Timestamp::from_seconds(now.seconds()) + Seconds(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(role: &str, identity: Option<&str>) -> AssumeRole {
        AssumeRole {
            role_arn: format!("arn:aws:iam::111111111111:role/{role}"),
            source_identity: identity.map(str::to_owned),
            duration: Seconds(900),
            ..AssumeRole::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_seconds(second)
    }

    #[test]
    fn what_began_before_is_over_for_the_role_or_the_identity_that_was_meant() {
        let revoked = Revoked::default();
        let one = session("path/one", Some("acme"));
        assert!(!revoked.ended(&one, at(1_900)));
        revoked.note("arn:aws:iam::111111111111:role/one", "acme", at(1_000));
        assert!(revoked.ended(&one, at(1_900)) && !revoked.ended(&one, at(1_901)));
        assert!(!revoked.ended(&session("one", Some("other")), at(1_900)) && !revoked.ended(&session("two", Some("acme")), at(1_900)));
        revoked.note("arn:aws:iam::111111111111:role/one", "", at(2_000));
        revoked.forget("arn:aws:iam::111111111111:role/one", "acme");
        assert!(revoked.ended(&session("one", None), at(2_800)));
        revoked.forget("arn:aws:iam::111111111111:role/one", "");
        assert!(!revoked.ended(&one, at(1_900)));
    }

    #[test]
    fn a_moment_that_is_noted_late_brings_nothing_back() {
        let revoked = Revoked::default();
        for moment in [1_010, 1_000] {
            revoked.note("arn:aws:iam::111111111111:role/one", "", at(moment));
        }
        assert!(revoked.ended(&session("one", None), at(1_910)));
    }

    #[tokio::test]
    async fn turns_are_forgotten_when_they_are_over() {
        let revoked = Revoked::default();
        for role in ["one", "two", "three"] {
            drop(revoked.turn(&format!("arn:aws:iam::111111111111:role/{role}"), "").await);
        }
        assert_eq!(revoked.turns.lock().len(), 1);
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_forgotten_that_matters() {
        let revoked = Revoked::default();
        for number in 0..ENTRIES_MAX + 10 {
            revoked.note(&format!("arn:aws:iam::111111111111:role/r{number}"), "", at(1_000));
        }
        assert_eq!(revoked.known.lock().ended.before.len(), ENTRIES_MAX);
        assert!(revoked.ended(&session(&format!("r{}", ENTRIES_MAX + 5), None), at(1_900)));
    }
}
