//! Parked leases: those whose secrets could not be taken back in some quick tries. They are listed for a person, and tried again once a day.

use std::time::Duration;

use daypass_sdk::{CommitFailure, Result};
use daypass_storage::{Batch, Condition};

use super::{LeaseRow, Leases, lease_due, lease_key, parked_key, without_entries};

impl Leases {
    /// Shows leases that are parked, because their secrets could not be taken back and a person has to look, in the order of their ids
    /// until `show` says that it has seen enough.
    pub(crate) async fn parked(&self, mut show: impl FnMut(LeaseRow) -> bool + Send) -> Result<()> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.rows.backend().scan(&parked_key(""), after.as_deref(), PAGE).await.map_err(crate::rows::read_error)?;
            let Some((last, _)) = page.rows.last() else { return Ok(()) };
            after = Some(last.to_vec());
            for (_, row) in page.rows {
                let Some(id) = row.value.get(1..).and_then(|id| id.try_into().ok()) else { continue };
                let more = match self.look(id).await? {
                    None => true,
                    Some(Ok(held)) => show(held.row),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "a parked lease is damaged; it is passed over");
                        true
                    }
                };
                if !more {
                    return Ok(());
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Has parked leases tried again that nothing would: those that were parked when none was tried again, and those whose expiry entry is lost. So many at
    /// a time, each within the hour at a moment of its own. Returns how many. `goes_on`: whether to look at one more, and to write one more.
    pub(crate) async fn wake(&self, goes_on: impl Fn() -> bool + Send + Sync) -> Result<usize> {
        let (now, mut asleep) = (self.clock.now(), Vec::new());
        let is_asleep = |row: &LeaseRow| row.irrevocable() && row.again.is_none_or(|again| again + LOST <= now);
        let show = |row: LeaseRow| {
            if is_asleep(&row) {
                asleep.push(row.id);
            }
            asleep.len() < WOKEN_MAX && goes_on()
        };
        self.parked(show).await?;
        let mut woken = 0;
        for lease_id in asleep {
            // A seal waits for this. The rest is found again.
            if !goes_on() {
                break;
            }
            let Some(mut held) = self.find(&lease_id).await?.filter(|held| is_asleep(&held.row)) else { continue };
            let again = now + Duration::from_secs(self.entropy.below(SPREAD.as_secs()));
            let batch = Batch::new().taking_back().require(lease_key(held.id), Condition::Version(held.version));
            let batch = without_entries(batch, &held).due(lease_due(held.id, again));
            held.row.again = Some(again);
            match self.rows.commit(self.rows.put_json(batch, lease_key(held.id), &held.row)?).await {
                Ok(_) => woken += 1,
                // Somebody sees to it at this moment.
                Err(CommitFailure::Conflict(_)) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(woken)
    }
}

/// Parked leases that are read at a time.
const PAGE: usize = 500;
/// Parked leases that are woken at a time.
const WOKEN_MAX: usize = 500;
const SPREAD: Duration = Duration::from_hours(1);
/// The worker is never so late with one that was to be tried again, unless its entry is lost.
const LOST: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    use daypass_barrier::{Barrier, Keyring, RootKey};
    use daypass_base::Clock;
    use daypass_base::sim::{SeededEntropy, SimClock};
    use daypass_storage::{Backend, MemoryBackend};
    use serde_json::json;

    use super::*;
    use crate::rows::Rows;
    use crate::tokens::index_value;

    /// Rows of before have no time at which they are tried again, and no entry for it.
    #[tokio::test]
    async fn what_was_parked_when_none_was_tried_again_is_woken_once() {
        let (clock, entropy, backend) = (SimClock::default(), Arc::new(SeededEntropy::new(1)), Arc::new(MemoryBackend::new()));
        let barrier = Barrier::new(Keyring::generate(&*entropy, clock.now()), RootKey::generate(&*entropy), entropy.clone()).unwrap();
        let rows = Rows::new(Arc::clone(&backend) as Arc<dyn Backend>, barrier);
        let leases = Leases::new(rows.clone(), Arc::new(clock.clone()), entropy);
        let now = clock.now();
        for number in 1..=20 {
            let (id, path) = ([number; 16], format!("aws/creds/ci/{}00", crate::ids::encode_id(&[number; 16])));
            let row = json!({ "id": path, "mount_accessor": "aws_1", "token": null, "internal": {}, "issued": now, "expires": now, "ttl": 0, "max_ttl": 0,
                              "renewable": false, "attempts": 6, "error": "down", "revoking": true });
            let batch = rows.put_json(Batch::new().put(parked_key(&path), index_value(b'L', id)), lease_key(id), &row).unwrap();
            rows.commit(batch).await.unwrap();
        }
        // A seal stops it, also when all were found: twenty looks, and then five.
        let left = AtomicUsize::new(25);
        let goes_on = || left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        assert_eq!(leases.wake(goes_on).await.unwrap(), 5);
        assert_eq!(leases.wake(|| true).await.unwrap(), 15);
        assert_eq!(leases.wake(|| true).await.unwrap(), 0);
        let due = backend.due(0, now + SPREAD, 100).await.unwrap();
        assert_eq!(due.len(), 20);
        assert!(due.iter().any(|entry| entry.at < now + SPREAD / 2) && due.iter().any(|entry| entry.at > now + SPREAD / 2));
    }
}
