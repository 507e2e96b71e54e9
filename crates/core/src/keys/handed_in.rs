//! The shares of an unsealing under way. How far it is can be asked without waiting for those who hand in, or for what they bring about.

use std::ops::{Deref, DerefMut};

use daypass_barrier::{Progress, Unsealing};

/// Shares handed in so far; `None` inside while there are none.
#[derive(Default)]
pub(crate) struct HandedIn {
    state: tokio::sync::Mutex<Option<Unsealing>>,
    /// As the last holder of the lock left it.
    progress: parking_lot::Mutex<Option<Progress>>,
}

/// The right to change them.
pub(crate) struct Turn<'a> {
    state: tokio::sync::MutexGuard<'a, Option<Unsealing>>,
    progress: &'a parking_lot::Mutex<Option<Progress>>,
}

impl HandedIn {
    /// Waits for whoever changes them.
    pub(crate) async fn lock(&self) -> Turn<'_> {
        Turn { state: self.state.lock().await, progress: &self.progress }
    }

    /// How far it is, if a share came.
    pub(crate) fn progress(&self) -> Option<Progress> {
        self.progress.lock().clone()
    }
}

impl Deref for Turn<'_> {
    type Target = Option<Unsealing>;

    fn deref(&self) -> &Self::Target {
        &self.state
    }
}

impl DerefMut for Turn<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.state
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.progress.lock() = self.state.as_ref().map(Unsealing::progress);
    }
}
