//! What goes on after a seal, and the end of the process, which waits for it: whoever seals a server and stops it loses nothing by that.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{MutexGuard, watch};
use tokio::task::JoinHandle;

use crate::keys::ceremony::Ceremonies;
use crate::keys::{DELIVERY_MAX, Keys};
use crate::node::{Inner, Unsealed};

/// Work that no seal ends. What is in [`Unsealed::background`] ends with it.
#[derive(Default)]
pub(crate) struct Outliving {
    /// What was in memory is written and given up.
    winding_up: Tasks,
    /// Waits for what becomes of answers with new shares.
    deliveries: Tasks,
    /// States of before a seal that may still write to the store.
    writing: Arc<watch::Sender<Writing>>,
}

#[derive(Debug, Default)]
struct Writing {
    states: usize,
    /// Somebody unseals the server, and waits for them.
    awaited: bool,
    /// No request is left that could want their audit devices.
    last: bool,
}

/// One that may still write, until this is dropped.
struct StillWriting(Arc<watch::Sender<Writing>>);

impl Drop for StillWriting {
    fn drop(&mut self) {
        self.0.send_modify(|writing| {
            writing.states = writing.states.saturating_sub(1);
            writing.awaited &= writing.states > 0;
        });
    }
}

/// What was in memory, out of use: no request reaches it any more but those that have it already. To be handed to [`Inner::leave`].
pub(crate) struct Left {
    pub(crate) unsealed: Arc<Unsealed>,
    writing: Option<StillWriting>,
}

impl Left {
    /// Its rows have ended: whoever opens the store need not wait for it.
    pub(crate) fn writes_no_more(&mut self) {
        self.writing = None;
    }
}

impl Outliving {
    /// Waits until no state of before a seal writes to the store any more: two of them would each have mounts, counts and locks of their own.
    async fn wait_for_writers(&self) {
        let mut writing = self.writing.subscribe();
        if writing.borrow_and_update().states > 0 {
            self.writing.send_modify(|writing| writing.awaited = writing.states > 0);
            let _sender_is_here = writing.wait_for(|writing| writing.states == 0).await;
        }
    }
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
    /// Takes what is in memory out of use. `None`: the server is sealed.
    pub(crate) fn take_out(&self) -> Option<Left> {
        // Counted first: whoever unseals the server a moment later waits for it.
        self.outliving.writing.send_modify(|writing| writing.states += 1);
        let writing = StillWriting(Arc::clone(&self.outliving.writing));
        self.unsealed.swap(None).map(|unsealed| Left { unsealed, writing: Some(writing) })
    }

    /// Gives up what was in memory, in a moment: requests in flight, the one that asked for it among them, still have to write to its audit
    /// devices, also when the server is unsealed meanwhile.
    pub(crate) fn leave(self: &Arc<Self>, left: Left) {
        let inner = Arc::clone(self);
        let leaving = async move {
            let Left { unsealed, writing: still_writing } = left;
            let mut linger = inner.clock.sleep(LINGER);
            let mut writing = inner.outliving.writing.subscribe();
            let lingered = tokio::select! {
                () = &mut linger => true,
                _awaited = writing.wait_for(|writing| writing.awaited || writing.last) => false,
            };
            inner.end_writing(&unsealed).await;
            drop(still_writing);
            if !lingered {
                tokio::select! {
                    () = linger => {}
                    _last = writing.wait_for(|writing| writing.last) => {}
                }
            }
            unsealed.audit.close().await;
        };
        self.outliving.winding_up.add(self.apart(leaving));
    }

    /// The right to change keys, for who opens the store: no state of before a seal writes to it.
    pub(crate) async fn keys_to_open(&self) -> MutexGuard<'_, Keys> {
        loop {
            // Not under the lock: what is wound up may wait for it.
            self.outliving.wait_for_writers().await;
            let keys = self.keys.lock().await;
            if self.outliving.writing.borrow().states == 0 {
                return keys;
            }
        }
    }

    /// Runs what waits for the fate of an answer with new shares.
    pub(crate) fn await_delivery(&self, waiting: impl Future<Output = ()> + Send + 'static) {
        self.outliving.deliveries.add(self.apart(waiting));
    }

    /// Seals the server, if it is not sealed, and ends all that goes on after a seal: nothing uses the store from here on.
    pub(crate) async fn seal(&self) {
        if let Some(Left { unsealed, writing }) = self.take_out() {
            self.end_writing(&unsealed).await;
            drop(writing);
            unsealed.audit.close().await;
        }
        self.outliving.writing.send_modify(|writing| writing.last = true);
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

    /// Ends the background work of what was in memory, and all that it writes to the store.
    async fn end_writing(&self, unsealed: &Unsealed) {
        self.end_work(unsealed).await;
        *unsealed.ceremonies.lock().await = Ceremonies::default();
        // What was minted since is written before the keys go.
        let _the_log_has_it = unsealed.mints.flush().await;
        // Requests that are still under way change nothing from here on.
        unsealed.rows.end().await;
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
