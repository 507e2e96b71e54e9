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

    /// A turn that nobody has to be waited for.
    async fn at_once(removing: &Removing, uuid: &str) -> Option<OwnedMutexGuard<()>> {
        tokio::select! {
            biased;
            turn = removing.alone(uuid) => Some(turn),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn two_wait_for_each_other_at_one_mount_only_and_nothing_is_kept_of_them() {
        let removing = Removing::default();
        let first = at_once(&removing, "a").await.unwrap();
        assert!(at_once(&removing, "a").await.is_none());
        drop(at_once(&removing, "b").await.unwrap());
        drop(first);
        drop(at_once(&removing, "a").await.unwrap());
        drop(at_once(&removing, "c").await.unwrap());
        assert_eq!(removing.0.lock().len(), 1, "what is over goes when another begins");
    }
}
