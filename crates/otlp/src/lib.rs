//! Sends traces to a collector of OpenTelemetry: OTLP 1 over HTTP, as protobuf.
//!
//! [`start`] gives two ends. [`Queue`] takes what the core tells it and never waits: what finds no room is dropped and counted. Behind it one
//! task puts spans together and sends them, a batch at a time; a collector that is slow, wrong or gone costs that task's time and nobody
//! else's. Nothing is read or connected before the first batch.
//!
//! This crate never sees a request, and no text of a collector's reaches the log.

mod endpoint;
mod headers;
mod proto;
mod queue;
mod wire;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use daypass_base::{Clock, Entropy};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use endpoint::Endpoint;
pub use headers::Headers;
pub use queue::Queue;

/// Traces that wait to be sent; further ones are dropped. With 20 spans each, the most that there may be, they take some ten megabytes.
pub const QUEUE_MAX: usize = 2_048;
/// Spans of one batch.
pub const BATCH_MAX: usize = 512;
/// A batch is sent so long after its first trace, full or not.
pub const BATCH_AFTER: Duration = Duration::from_secs(5);
/// Time for what waits when the server ends.
pub const FLUSH_MAX: Duration = Duration::from_secs(5);

/// Where traces go, and what is said of who sends them.
pub struct Settings {
    /// The collector.
    pub endpoint: Endpoint,
    /// What each of our requests shows to it.
    pub headers: Headers,
    /// The version of this server.
    pub version: String,
}

/// The task that sends.
pub struct Exporter {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
    clock: Arc<dyn Clock>,
}

/// Starts to send, on the runtime that this is called on.
#[must_use]
pub fn start(settings: Settings, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> (Arc<Queue>, Exporter) {
    let (sender, traces) = mpsc::channel(QUEUE_MAX);
    let (stop, stopped) = watch::channel(false);
    let queue = Arc::new(Queue::new(sender));
    let worker = worker::Worker::new(settings, traces, stopped, queue.counts_shared(), Arc::clone(&clock), entropy);
    (queue, Exporter { task: tokio::spawn(worker.run()), stop, clock })
}

impl Exporter {
    /// Sends what waits, within [`FLUSH_MAX`], and ends. Traces that end later are dropped.
    pub async fn end(mut self) {
        let _gone_already = self.stop.send(true);
        tokio::select! {
            biased;
            ended = &mut self.task => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the sending of traces ended badly");
                }
            }
            () = self.clock.sleep(FLUSH_MAX) => {
                self.task.abort();
                tracing::warn!("the collector did not take the last traces within {} seconds; they are dropped", FLUSH_MAX.as_secs());
            }
        }
    }
}

#[cfg(test)]
mod tests;
