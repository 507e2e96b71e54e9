//! The client's runtime.

use tokio::runtime::{Builder, Handle};

/// A runtime whose end waits for nobody: a name that is looked up on a thread of its own may take long, and a command that is done must not wait for that.
pub(super) struct Runtime {
    handle: Handle,
    /// `None` in `drop` alone, which takes it by value.
    running: Option<tokio::runtime::Runtime>,
}

impl Runtime {
    /// On the threads of those who wait. Fails when the system gives none.
    pub(super) fn new() -> std::io::Result<Self> {
        let running = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { handle: running.handle().clone(), running: Some(running) })
    }

    /// Waits for work.
    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        match &self.running {
            Some(running) => running.block_on(work),
            None => self.handle.block_on(work),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown_background();
        }
    }
}
