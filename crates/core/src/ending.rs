//! What goes on after a seal, and the end of the process, which waits for it: whoever seals a server and stops it loses nothing by that.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::keys::DELIVERY_MAX;
use crate::keys::ceremony::Ceremonies;
use crate::node::{Inner, Unsealed};

/// Work that no seal ends. What is in [`Unsealed::background`] ends with it.
#[derive(Default)]
pub(crate) struct Outliving {
    /// What was in memory is written and given up.
    winding_up: Tasks,
    /// Waits for what becomes of answers with new shares.
    deliveries: Tasks,
}

#[derive(Default)]
struct Tasks(parking_lot::Mutex<Vec<JoinHandle<()>>>);

impl Tasks {
    fn add(&self, task: JoinHandle<()>) {
        let mut tasks = self.0.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    fn take(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Inner {
    /// Gives up what was in memory, in a moment: requests in flight, the one that asked for it among them, still have to write to its audit
    /// devices. The caller has seen to it that nothing new reaches the keys.
    pub(crate) fn leave(self: &Arc<Self>, unsealed: Arc<Unsealed>) {
        let inner = Arc::clone(self);
        let leaving = async move {
            inner.clock.sleep(LINGER).await;
            inner.wind_up(unsealed).await;
        };
        self.outliving.winding_up.add(self.apart(leaving));
    }

    /// Runs what waits for the fate of an answer with new shares.
    pub(crate) fn await_delivery(&self, waiting: impl Future<Output = ()> + Send + 'static) {
        self.outliving.deliveries.add(self.apart(waiting));
    }

    /// Seals the server, if it is not sealed, and ends all that goes on after a seal: nothing uses the store from here on.
    pub(crate) async fn seal(&self) {
        if let Some(unsealed) = self.unsealed.swap(None) {
            self.wind_up(unsealed).await;
        }
        for task in self.outliving.winding_up.take() {
            if let Err(error) = task.await {
                tracing::error!(%error, "what was in memory was not given up in good order");
            }
        }
        // Else shares from before a rekey would be back with the next start, though somebody has the new ones.
        let until = self.clock.elapsed() + DELIVERY_MAX;
        for mut task in self.outliving.deliveries.take() {
            tokio::select! {
                biased;
                _ended = &mut task => {}
                () = self.clock.sleep(until.saturating_sub(self.clock.elapsed())) => task.abort(),
            }
        }
        self.retire_previous(&mut *self.keys.lock().await).await;
    }

    /// Ends the background work and the audit devices of what was in memory.
    async fn wind_up(&self, unsealed: Arc<Unsealed>) {
        self.end_work(&unsealed).await;
        *unsealed.ceremonies.lock().await = Ceremonies::default();
        // What was minted since is written before the keys go.
        unsealed.mints.flush().await;
        unsealed.audit.close().await;
    }

    /// Ends the background work; when this returns, none of it runs.
    pub(crate) async fn end_work(&self, unsealed: &Unsealed) {
        let _nobody_listens = unsealed.stop.send(true);
        unsealed.monitors.end().await;
        let work = std::mem::take(&mut *unsealed.background.lock());
        for work in work {
            if let Err(error) = work.await {
                tracing::error!(%error, "the background work ended badly");
            }
        }
    }
}

/// For how long requests in flight may use what was in memory.
const LINGER: Duration = Duration::from_millis(200);
