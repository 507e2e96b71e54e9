//! Removals of mounts: one at a time for each mount, so that one that hangs keeps no other from going.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// Turns at what is left of mounts, by uuid. A mount that nobody is at has no entry for long.
#[derive(Debug, Default)]
pub(crate) struct Removing(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Removing {
    /// Waits until nobody is at the removal of this mount; nobody else is while what this gives lives. Two at once would not do: the second might take
    /// back what a new mount at the path issued.
    pub(crate) async fn alone(&self, uuid: &str) -> OwnedMutexGuard<()> {
        self.turn(uuid).lock_owned().await
    }

    /// As [`Removing::alone`], for who need not wait. `None`: somebody is at it.
    pub(crate) fn at_once(&self, uuid: &str) -> Option<OwnedMutexGuard<()>> {
        self.turn(uuid).try_lock_owned().ok()
    }

    fn turn(&self, uuid: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock();
        if let Some(turn) = turns.get(uuid).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(uuid.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_wait_for_each_other_at_one_mount_only_and_nothing_is_kept_of_them() {
        let removing = Removing::default();
        let first = removing.alone("a").await;
        assert!(removing.at_once("a").is_none());
        drop(removing.at_once("b").unwrap());
        let mut second = std::pin::pin!(removing.alone("a"));
        tokio::select! {
            biased;
            _turn = &mut second => panic!("the second does not wait"),
            () = std::future::ready(()) => {}
        }
        drop(first);
        drop(second.await);
        drop(removing.at_once("c").unwrap());
        assert_eq!(removing.0.lock().len(), 1, "what is over goes when another begins");
    }
}
