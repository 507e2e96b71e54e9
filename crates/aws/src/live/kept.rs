//! What is kept for each target: so many, of which the one unused for longest makes room for another.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::api::Target;

pub(super) struct Kept<T> {
    most: usize,
    all: Mutex<All<T>>,
}

struct All<T> {
    of: HashMap<Target, Used<T>>,
    /// How often one was looked for.
    looks: u64,
}

struct Used<T> {
    value: T,
    /// The look that found it last.
    look: u64,
}

impl<T: Clone> Kept<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, all: Mutex::new(All { of: HashMap::new(), looks: 0 }) }
    }

    pub(super) fn find(&self, target: &Target) -> Option<T> {
        let mut all = self.all();
        all.looks += 1;
        let look = all.looks;
        let used = all.of.get_mut(target)?;
        used.look = look;
        Some(used.value.clone())
    }

    /// The one that is kept, which is `value` where there was none.
    pub(super) fn keep(&self, target: &Target, value: T) -> T {
        if let Some(known) = self.find(target) {
            return known;
        }
        let mut all = self.all();
        if all.of.len() >= self.most
            && let Some(oldest) = all.of.iter().min_by_key(|(_, used)| used.look).map(|(target, _)| target.clone())
        {
            all.of.remove(&oldest);
        }
        let look = all.looks;
        all.of.entry(target.clone()).or_insert(Used { value, look }).value.clone()
    }

    /// Drops it where `goes` says so.
    pub(super) fn forget_if(&self, target: &Target, goes: impl FnOnce(&T) -> bool) {
        let mut all = self.all();
        if all.of.get(target).is_some_and(|used| goes(&used.value)) {
            all.of.remove(target);
        }
    }

    pub(super) fn retain(&self, stays: impl Fn(&Target) -> bool) {
        self.all().of.retain(|target, _| stays(target));
    }

    fn all(&self) -> MutexGuard<'_, All<T>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.all().of.len()
    }
}
