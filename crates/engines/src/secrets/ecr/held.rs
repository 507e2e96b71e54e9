//! What ECR gave, kept in memory until it is too old to hand out. Readers of one role at one moment make one call between them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daypass_aws::{AwsError, Logins};
use daypass_sdk::{Seconds, Timestamp};
use parking_lot::Mutex;

use super::role::Plan;
use crate::secrets::revoked::Revoked;

/// Roles whose logins are kept; the one unused for longest goes first.
const ROLES_MAX: usize = 1000;

/// The logins of a mount's roles.
#[derive(Default)]
pub(super) struct Held {
    roles: Mutex<HashMap<String, Kept>>,
}

struct Kept {
    slot: Arc<Slot>,
    used: Timestamp,
}

/// One role's login, and the queue before it: the lock is held while AWS is asked, so that whoever comes meanwhile finds the answer. A
/// reader who gives up lets the next one ask.
#[derive(Default)]
struct Slot {
    arrivals: AtomicU64,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    good: Option<(Plan, Got)>,
    bad: Option<Failure>,
}

/// What AWS gave.
#[derive(Clone)]
pub(super) struct Got {
    pub(super) logins: Arc<Logins>,
    /// When the session ends that got them, where an IAM role was assumed.
    pub(super) session_ends: Option<Timestamp>,
}

/// Logins that somebody gets.
pub(super) enum Handed {
    /// Fetched for somebody else before.
    Again(Arc<Logins>),
    /// Fetched for this one.
    First(Arc<Logins>),
}

impl Handed {
    pub(super) fn logins(&self) -> &Logins {
        let (Self::Again(logins) | Self::First(logins)) = self;
        logins
    }
}

/// What the last call failed with: the answer to all who came before it was known.
struct Failure {
    plan: Plan,
    came_before: u64,
    failed: Failed,
}

/// A failed AWS call and what it was made for.
#[derive(Clone)]
pub(super) struct Failed {
    pub(super) doing: &'static str,
    pub(super) error: AwsError,
}

/// What is wanted: for this plan, living at least so long.
pub(super) struct Want<'a> {
    pub(super) role: &'a str,
    pub(super) plan: &'a Plan,
    pub(super) now: Timestamp,
    pub(super) at_least: Seconds,
}

impl Held {
    /// The login that is kept, or the one that `ask` fetches.
    pub(super) async fn login<F>(&self, want: Want<'_>, revoked: &Revoked, ask: F) -> Result<Handed, Failed>
    where
        F: Future<Output = Result<Got, Failed>>,
    {
        let slot = self.slot(want.role, want.now);
        let ticket = slot.arrivals.fetch_add(1, Ordering::Relaxed);
        let mut state = slot.state.lock().await;
        let is_over = |got: &Got| want.plan.assume.as_ref().zip(got.session_ends).is_some_and(|(input, end)| revoked.ended(input, end));
        if let Some((plan, got)) = &state.good
            && plan == want.plan
            && !is_over(got)
            && end_of(&got.logins).is_some_and(|end| end > want.now && end.since(want.now) >= want.at_least.duration())
        {
            return Ok(Handed::Again(Arc::clone(&got.logins)));
        }
        if let Some(failure) = state.bad.as_ref().filter(|failure| ticket < failure.came_before && failure.plan == *want.plan) {
            return Err(failure.failed.clone());
        }
        match ask.await {
            Ok(got) => {
                *state = State { good: Some((want.plan.clone(), got.clone())), bad: None };
                Ok(Handed::First(got.logins))
            }
            Err(failed) => {
                let came_before = slot.arrivals.load(Ordering::Relaxed);
                state.bad = Some(Failure { plan: want.plan.clone(), came_before, failed: failed.clone() });
                Err(failed)
            }
        }
    }

    /// Drops what is kept for a role.
    pub(super) fn forget(&self, role: &str) {
        self.roles.lock().remove(role);
    }

    fn slot(&self, role: &str, now: Timestamp) -> Arc<Slot> {
        let mut roles = self.roles.lock();
        if let Some(kept) = roles.get_mut(role) {
            kept.used = now;
            return Arc::clone(&kept.slot);
        }
        if roles.len() >= ROLES_MAX
            && let Some(oldest) = roles.iter().min_by_key(|(_, kept)| kept.used).map(|(name, _)| name.clone())
        {
            roles.remove(&oldest);
        }
        let slot = Arc::new(Slot::default());
        roles.insert(role.to_owned(), Kept { slot: Arc::clone(&slot), used: now });
        slot
    }
}

/// When the first of several logins ends.
pub(super) fn end_of(logins: &Logins) -> Option<Timestamp> {
    logins.logins.iter().map(|login| login.expires).min()
}
