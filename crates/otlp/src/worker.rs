//! The one task that takes traces out of the queue, puts them together and sends them.

use std::sync::Arc;
use std::time::Duration;

use daypass_base::trace::{SPANS_MAX, Trace};
use daypass_base::{BoxFuture, Clock, Entropy};
use tokio::sync::{mpsc, watch};

use crate::queue::Counts;
use crate::wire::{Posted, Wire};
use crate::{BATCH_AFTER, BATCH_MAX, Settings, proto};

/// A batch is sent so often at most.
const ATTEMPTS_MAX: u32 = 5;
/// The wait before the second attempt; each later one is twice as long. A half of it is drawn by lot.
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// Between two lines of the log about traces that were dropped.
const SAY_AGAIN_AFTER: Duration = Duration::from_mins(1);

pub(crate) struct Worker {
    traces: mpsc::Receiver<Trace>,
    stop: watch::Receiver<bool>,
    wire: Wire,
    host: String,
    version: String,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    counts: Arc<Counts>,
    /// What the log was told last, and when.
    said: Option<Duration>,
    told: u64,
}

impl Worker {
    pub(crate) fn new(
        settings: Settings,
        traces: mpsc::Receiver<Trace>,
        stop: watch::Receiver<bool>,
        counts: Arc<Counts>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let Settings { endpoint, headers, version } = settings;
        let host = endpoint.host().to_owned();
        let wire = Wire::new(endpoint, headers, Arc::clone(&clock));
        Self { traces, stop, wire, host, version, clock, entropy, counts, said: None, told: 0 }
    }

    /// Until it is told to stop and nothing waits any more.
    pub(crate) async fn run(mut self) {
        loop {
            let batch = self.gather().await;
            if batch.is_empty() {
                return;
            }
            self.deliver(batch).await;
        }
    }

    /// The next batch; none when there will be none.
    async fn gather(&mut self) -> Vec<Trace> {
        let (mut batch, mut spans) = (Vec::new(), 0);
        let mut due: Option<BoxFuture<'static, ()>> = None;
        while spans + SPANS_MAX <= BATCH_MAX {
            let next = tokio::select! {
                biased;
                () = stopped(&mut self.stop), if !self.traces.is_closed() => {
                    // What waits comes out still, and nothing more goes in.
                    self.traces.close();
                    continue;
                }
                next = self.traces.recv() => next,
                () = passed(&mut due), if due.is_some() => None,
            };
            let Some(trace) = next else { break };
            spans += trace.spans.len();
            batch.push(trace);
            due.get_or_insert_with(|| self.clock.sleep(BATCH_AFTER));
        }
        batch
    }

    /// Sends a batch, again where that may help, and counts what became of it.
    async fn deliver(&mut self, batch: Vec<Trace>) {
        let spans = batch.iter().map(|trace| trace.spans.len()).sum::<usize>();
        let body = proto::encode(batch, &self.version);
        let mut made = 0;
        let trouble = loop {
            made += 1;
            match self.wire.post(body.clone()).await {
                Posted::Taken { rejected } => {
                    let rejected = rejected.min(spans);
                    self.counts.sent(spans - rejected);
                    self.counts.dropped(rejected);
                    let slow = "they came faster than they could be sent";
                    break if rejected == 0 { slow.to_owned() } else { "the collector did not want some of them".to_owned() };
                }
                Posted::Refused(trouble) => {
                    self.counts.dropped(spans);
                    break trouble;
                }
                Posted::Later(trouble, after) => {
                    let wait = after.unwrap_or_else(|| self.wait(made));
                    if made >= ATTEMPTS_MAX || !self.pause(wait).await {
                        self.counts.dropped(spans);
                        break trouble;
                    }
                }
            }
        };
        self.say(&trouble);
    }

    /// How long to wait after so many attempts.
    fn wait(&self, made: u32) -> Duration {
        let half = WAIT_FIRST.saturating_mul(2_u32.saturating_pow(made.saturating_sub(1))) / 2;
        half + Duration::from_nanos(self.entropy.below(u64::try_from(half.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Whether the time has passed: nothing is waited for once the server ends.
    async fn pause(&mut self, wait: Duration) -> bool {
        tokio::select! {
            biased;
            () = stopped(&mut self.stop) => false,
            () = self.clock.sleep(wait) => true,
        }
    }

    /// Tells the log if spans were dropped since it was told last, whatever dropped them.
    fn say(&mut self, trouble: &str) {
        let (now, dropped) = (self.clock.elapsed(), self.counts.read().dropped);
        let lately = self.said.is_some_and(|said| now.saturating_sub(said) < SAY_AGAIN_AFTER);
        if dropped > self.told && !lately {
            tracing::warn!(spans = dropped - self.told, collector = self.host, reason = trouble, "spans of traces were dropped");
            (self.said, self.told) = (Some(now), dropped);
        }
    }
}

/// Until the server ends.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An exporter that is gone is as good as one that says so.
    let _said_or_gone = stop.wait_for(|stop| *stop).await.map(drop);
}

async fn passed(due: &mut Option<BoxFuture<'static, ()>>) {
    if let Some(due) = due {
        due.await;
    }
}

#[cfg(test)]
mod tests {
    use daypass_base::sim::{SeededEntropy, SimClock};

    use super::*;
    use crate::{Endpoint, Headers};

    fn worker(clock: &SimClock) -> Worker {
        let endpoint = Endpoint::parse("http://127.0.0.1:1/v1/traces").unwrap();
        let settings = Settings { endpoint, headers: Headers::default(), version: String::new() };
        let (traces, stop) = (mpsc::channel(1).1, watch::channel(false).1);
        Worker::new(settings, traces, stop, Arc::default(), Arc::new(clock.clone()), Arc::new(SeededEntropy::new(2)))
    }

    #[test]
    fn the_log_is_told_once_a_minute_of_all_that_was_dropped() {
        let clock = SimClock::default();
        let mut worker = worker(&clock);
        worker.say("nothing is wrong");
        assert_eq!((worker.said, worker.told), (None, 0));
        worker.counts.dropped(4);
        worker.say("the collector answered 400");
        assert_eq!(worker.told, 4);
        for _ in 0..50 {
            worker.counts.dropped(4);
            clock.advance(Duration::from_secs(1));
            worker.say("the collector answered 400");
        }
        assert_eq!(worker.told, 4);
        clock.advance(Duration::from_secs(10));
        worker.say("the collector answered 400");
        assert_eq!(worker.told, 204);
    }

    #[test]
    fn waits_grow_and_differ() {
        let worker = worker(&SimClock::default());
        for (made, most) in [(1, 1), (2, 2), (3, 4), (4, 8)] {
            let (wait, most) = (worker.wait(made), Duration::from_secs(most));
            assert!((most / 2..most).contains(&wait), "{made}: {wait:?}");
        }
        assert_ne!(worker.wait(1), worker.wait(1));
    }
}
