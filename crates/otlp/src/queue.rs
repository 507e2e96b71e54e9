//! Where traces wait: a bounded queue that never makes anybody wait, and what became of what was put into it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daypass_base::trace::{Trace, TraceCounts, Traces};
use tokio::sync::mpsc;

/// Takes traces of requests that have ended.
pub struct Queue {
    sender: mpsc::Sender<Trace>,
    counts: Arc<Counts>,
}

/// What became of spans.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Queue {
    pub(crate) fn new(sender: mpsc::Sender<Trace>) -> Self {
        Self { sender, counts: Arc::default() }
    }

    pub(crate) fn counts_shared(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }
}

impl Traces for Queue {
    fn ended(&self, trace: Trace) {
        let spans = trace.spans.len();
        if self.sender.try_send(trace).is_err() {
            self.counts.dropped(spans);
        }
    }

    fn counts(&self) -> TraceCounts {
        self.counts.read()
    }
}

impl Counts {
    pub(crate) fn sent(&self, spans: usize) {
        self.sent.fetch_add(u64::try_from(spans).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self, spans: usize) {
        self.dropped.fetch_add(u64::try_from(spans).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> TraceCounts {
        TraceCounts { sent: self.sent.load(Ordering::Relaxed), dropped: self.dropped.load(Ordering::Relaxed) }
    }
}
