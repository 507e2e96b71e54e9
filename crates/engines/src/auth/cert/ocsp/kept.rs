//! What responders told lately, and who is being asked right now: in memory of one node, bounded.

use std::collections::HashMap;
use std::sync::Arc;

use daypass_sdk::Timestamp;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::verify::{Told, Trouble};
use super::wire::Status;

/// Whom it is about and under which settings it was told, hashed.
pub(super) type Key = [u8; 32];
/// What came of asking.
pub(super) type Outcome = Result<Told, Trouble>;

/// What is kept by one mount.
#[derive(Default)]
pub(in super::super) struct Kept(Mutex<State>);

#[derive(Default)]
struct State {
    told: HashMap<Key, (Timestamp, Told)>,
    /// Logins with one certificate at one moment share one asking.
    under_way: HashMap<Key, Arc<OnceCell<Outcome>>>,
}

impl Kept {
    /// What was told, as long as it holds.
    pub(super) fn find(&self, key: &Key, now: Timestamp) -> Option<Told> {
        self.0.lock().told.get(key).filter(|(until, _)| now < *until).map(|(_, told)| *told)
    }

    /// Keeps what was told among at most `size` others.
    pub(super) fn keep(&self, key: Key, told: Told, now: Timestamp, size: usize) {
        let Some(until) = until(&told, now) else { return };
        let mut state = self.0.lock();
        if state.told.len() >= size {
            state.told.retain(|_, (until, _)| now < *until);
        }
        while state.told.len() >= size && !state.told.contains_key(&key) {
            let Some(first) = state.told.iter().min_by_key(|(_, (until, _))| *until).map(|(key, _)| *key) else { break };
            state.told.remove(&first);
        }
        state.told.insert(key, (until, told));
    }

    /// What comes of `work`, or of the same work that somebody else began already.
    pub(super) async fn together(&self, key: Key, work: impl Future<Output = Outcome>) -> Outcome {
        let cell = {
            let mut state = self.0.lock();
            if state.under_way.len() >= UNDER_WAY_MAX {
                // Left over from those who gave up.
                state.under_way.retain(|_, cell| Arc::strong_count(cell) > 1);
            }
            Arc::clone(state.under_way.entry(key).or_default())
        };
        let outcome = cell.get_or_init(|| work).await.clone();
        let mut state = self.0.lock();
        if state.under_way.get(&key).is_some_and(|there| Arc::ptr_eq(there, &cell)) {
            state.under_way.remove(&key);
        }
        outcome
    }
}

/// Until when something is kept: not at all where a new answer may say something else at once.
fn until(told: &Told, now: Timestamp) -> Option<Timestamp> {
    let next = match (told.status, told.next_update) {
        (Status::Unknown, _) | (Status::Good, None) => return None,
        (Status::Revoked, None) => now + OPEN,
        (_, Some(next)) => next,
    };
    Some(next.min(now + LONGEST))
}

/// How long an answer is kept at most: the sooner a revocation counts.
const LONGEST: std::time::Duration = std::time::Duration::from_hours(1);
/// How long a revocation is kept that does not say until when it holds.
const OPEN: std::time::Duration = std::time::Duration::from_mins(5);
/// Askings under way before those that were given up are looked for.
const UNDER_WAY_MAX: usize = 1024;
