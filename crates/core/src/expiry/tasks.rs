//! Tasks that are under way, each with what it is for.

use std::future::{Future, pending};

use tokio::task::{Id, JoinError, JoinSet};

/// Ended with it.
pub(super) struct Tasks<For, Output> {
    running: JoinSet<Output>,
    begun: Vec<(Id, For)>,
}

impl<For, Output: Send + 'static> Tasks<For, Output> {
    pub(super) fn new() -> Self {
        Self { running: JoinSet::new(), begun: Vec::new() }
    }

    pub(super) fn begin(&mut self, what_for: For, task: impl Future<Output = Output> + Send + 'static) {
        self.begun.push((self.running.spawn(task).id(), what_for));
    }

    pub(super) fn count(&self) -> usize {
        self.begun.len()
    }

    /// What those under way are for.
    pub(super) fn iter(&self) -> impl Iterator<Item = &For> {
        self.begun.iter().map(|(_, what_for)| what_for)
    }

    /// One that has ended, if any has: what it was for, and what it said. An error: it panicked.
    pub(super) fn ended(&mut self) -> Option<(For, Result<Output, JoinError>)> {
        loop {
            let ended = self.running.try_join_next_with_id()?;
            if let Some(ended) = self.take(ended) {
                return Some(ended);
            }
        }
    }

    /// Waits until one ends; for ever where none is under way.
    pub(super) async fn next(&mut self) -> (For, Result<Output, JoinError>) {
        loop {
            let Some(ended) = self.running.join_next_with_id().await else { return pending().await };
            if let Some(ended) = self.take(ended) {
                return ended;
            }
        }
    }

    /// The tasks alone, to be waited for at the end.
    pub(super) fn into_running(self) -> JoinSet<Output> {
        self.running
    }

    fn take(&mut self, ended: Result<(Id, Output), JoinError>) -> Option<(For, Result<Output, JoinError>)> {
        let (id, said) = match ended {
            Ok((id, output)) => (id, Ok(output)),
            Err(error) => (error.id(), Err(error)),
        };
        let at = self.begun.iter().position(|(begun, _)| *begun == id)?;
        Some((self.begun.swap_remove(at).1, said))
    }
}
