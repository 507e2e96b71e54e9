//! What ECR gave, kept in memory until it is too old to hand out. Readers of one role at one moment make one call between them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use daypass_aws::{AwsError, Logins, Skew};
use daypass_sdk::{Clock, Moment, Seconds, Timestamp};
use parking_lot::Mutex;

use super::role::Plan;
use crate::secrets::revoked::Revoked;

/// Roles whose logins are kept; the one unused for longest goes first.
const ROLES_MAX: usize = 1000;
/// How long a login lives. Source: Amazon ECR API Reference, "GetAuthorizationToken".
const LIFE_MAX: Duration = Duration::from_hours(12);

/// The logins of a mount's roles.
#[derive(Default)]
pub(super) struct Held {
    roles: Mutex<HashMap<String, Kept>>,
}

struct Kept {
    slot: Arc<Slot>,
    used: Duration,
}

/// One role's login, and the queue of those for whom it is not good enough.
#[derive(Default)]
struct Slot {
    good: Mutex<Option<(Plan, Got)>>,
    arrivals: AtomicU64,
    /// Held while AWS is asked, so that whoever comes meanwhile finds the answer. A reader who gives up lets the next one ask. Has what the last call
    /// failed with.
    asking: tokio::sync::Mutex<Option<Failure>>,
}

/// What AWS gave.
#[derive(Clone)]
pub(super) struct Got {
    pub(super) logins: Arc<Logins>,
    /// When the session ends that got them, where an IAM role was assumed.
    pub(super) session_ends: Option<Timestamp>,
    came: Moment,
    /// For how long the first of them to end was good then.
    life: Duration,
}

impl Got {
    /// What came at this moment. Whoever asked knows AWS's clock.
    pub(super) fn new(logins: Logins, session_ends: Option<Timestamp>, came: Moment, clock: Skew) -> Self {
        // The clock is as STS showed it, maybe long ago and before ours was set: whatever it says, no login lives longer.
        let life = end_of(&logins).map_or(Duration::ZERO, |end| end.since(clock.theirs(came.wall))).min(LIFE_MAX);
        Self { logins: Arc::new(logins), session_ends, came, life }
    }

    /// For how long they are good yet. Whoever sets this machine's clock changes nothing about that.
    pub(super) fn left(&self, now: Moment) -> Duration {
        self.life.saturating_sub(now.since(self.came))
    }
}

/// Logins that somebody gets.
pub(super) enum Handed {
    /// Fetched for somebody else before.
    Again(Got),
    /// Fetched for this one.
    First(Got),
}

impl Handed {
    pub(super) fn got(&self) -> &Got {
        let (Self::Again(got) | Self::First(got)) = self;
        got
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
    pub(super) clock: &'a dyn Clock,
    pub(super) at_least: Seconds,
}

impl Held {
    /// The login that is kept, or the one that `ask` fetches.
    pub(super) async fn login<F>(&self, want: Want<'_>, revoked: &Revoked, ask: F) -> Result<Handed, Failed>
    where
        F: Future<Output = Result<Got, Failed>>,
    {
        let slot = self.slot(want.role, want.clock.elapsed());
        // Whoever wants a longer one may wait for AWS: nobody else does.
        if let Some(got) = slot.good_for(&want, revoked) {
            return Ok(Handed::Again(got));
        }
        let ticket = slot.arrivals.fetch_add(1, Ordering::Relaxed);
        let mut bad = slot.asking.lock().await;
        if let Some(got) = slot.good_for(&want, revoked) {
            return Ok(Handed::Again(got));
        }
        if let Some(failure) = bad.as_ref().filter(|failure| ticket < failure.came_before && failure.plan == *want.plan) {
            return Err(failure.failed.clone());
        }
        match ask.await {
            Ok(got) => {
                *bad = None;
                *slot.good.lock() = Some((want.plan.clone(), got.clone()));
                Ok(Handed::First(got))
            }
            Err(failed) => {
                let came_before = slot.arrivals.load(Ordering::Relaxed);
                *bad = Some(Failure { plan: want.plan.clone(), came_before, failed: failed.clone() });
                Err(failed)
            }
        }
    }

    /// Drops what is kept for a role.
    pub(super) fn forget(&self, role: &str) {
        self.roles.lock().remove(role);
    }

    fn slot(&self, role: &str, now: Duration) -> Arc<Slot> {
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

impl Slot {
    /// The login in memory, where it is what is wanted now.
    fn good_for(&self, want: &Want<'_>, revoked: &Revoked) -> Option<Got> {
        let good = self.good.lock();
        let (plan, got) = good.as_ref()?;
        let is_over = want.plan.assume.as_ref().zip(got.session_ends).is_some_and(|(input, end)| revoked.ended(input, end));
        let left = got.left(want.clock.moment());
        (plan == want.plan && !is_over && !left.is_zero() && left >= want.at_least.duration()).then(|| got.clone())
    }
}

/// When the first of several logins ends.
pub(super) fn end_of(logins: &Logins) -> Option<Timestamp> {
    logins.logins.iter().map(|login| login.expires).min()
}
