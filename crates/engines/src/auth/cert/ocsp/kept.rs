//! What responders told lately, and who is being asked right now: in memory of one node, bounded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use daypass_sdk::{Moment, Timestamp};
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
    told: HashMap<Key, Held>,
    /// Logins with one certificate at one moment share one asking.
    under_way: HashMap<Key, Arc<OnceCell<Outcome>>>,
}

struct Held {
    told: Told,
    since: Moment,
    life: Duration,
}

impl Held {
    fn left(&self, now: Moment) -> Duration {
        self.life.saturating_sub(now.since(self.since))
    }
}

impl Kept {
    /// What was told, as long as it holds.
    pub(super) fn find(&self, key: &Key, now: Moment) -> Option<Told> {
        self.0.lock().told.get(key).filter(|held| !held.left(now).is_zero()).map(|held| held.told)
    }

    /// Keeps what was told among at most `size` others.
    pub(super) fn keep(&self, key: Key, told: Told, now: Moment, size: usize) {
        let Some(life) = life(&told, now.wall) else { return };
        let mut state = self.0.lock();
        if state.told.len() >= size {
            state.told.retain(|_, held| !held.left(now).is_zero());
        }
        while state.told.len() >= size && !state.told.contains_key(&key) {
            let Some(first) = state.told.iter().min_by_key(|(_, held)| held.left(now)).map(|(key, _)| *key) else { break };
            state.told.remove(&first);
        }
        state.told.insert(key, Held { told, since: now, life });
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

/// How long something is kept: not at all where a new answer may say something else at once.
fn life(told: &Told, now: Timestamp) -> Option<Duration> {
    let life = match (told.status, told.next_update) {
        (Status::Unknown, _) | (Status::Good, None) => return None,
        (Status::Revoked, None) => OPEN,
        (_, Some(next)) => next.since(now),
    };
    Some(life.min(LONGEST))
}

/// How long an answer is kept at most: the sooner a revocation counts.
const LONGEST: Duration = Duration::from_hours(1);
/// How long a revocation is kept that does not say until when it holds.
const OPEN: Duration = Duration::from_mins(5);
/// Askings under way before those that were given up are looked for.
const UNDER_WAY_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Story: the clock was a day ahead and was put right. What a responder had said was believed for that day, where it is believed for an hour.
    #[test]
    fn an_answer_is_believed_for_as_long_whoever_sets_the_clock() {
        let (kept, now) = (Kept::default(), Timestamp::from_seconds(1_800_000_000));
        let told = Told { status: Status::Good, this_update: now, next_update: Some(now + Duration::from_hours(48)) };
        let at = |mins, wall| Moment { wall, elapsed: Duration::from_mins(mins) };
        kept.keep([1; 32], told, at(0, now), 10);
        let put_right = now - Duration::from_hours(24);
        assert_eq!(kept.find(&[1; 32], at(59, put_right)), Some(told));
        assert_eq!(kept.find(&[1; 32], at(60, put_right)), None);
        assert_eq!(kept.find(&[1; 32], at(1, now + LONGEST)), None);
    }
}
