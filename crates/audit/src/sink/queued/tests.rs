use std::io::{Error, ErrorKind};
use std::sync::Mutex;

use daypass_base::SystemClock;
use daypass_base::sim::SimClock;

use super::*;

/// A place that a test controls: it fails, writes a part, or waits for a permission each time.
#[derive(Clone)]
struct Place {
    content: Arc<Mutex<Vec<u8>>>,
    writes: Arc<AtomicUsize>,
    reopens: Arc<AtomicUsize>,
    /// What the next writes do: `Some(bytes)` writes that many and fails.
    failures: Arc<Mutex<VecDeque<Option<usize>>>>,
    gate: Option<Arc<Mutex<std::sync::mpsc::Receiver<()>>>>,
    fault: Fault,
    tended: Arc<AtomicUsize>,
}

impl Default for Place {
    fn default() -> Self {
        let (content, writes, reopens, failures) = Default::default();
        Self { content, writes, reopens, failures, gate: None, fault: Fault::Place, tended: Arc::default() }
    }
}

impl Writer for Place {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Unwritten> {
        if let Some(gate) = &self.gate {
            let _test_over = gate.lock().unwrap().recv();
        }
        self.writes.fetch_add(1, Ordering::SeqCst);
        let mut content = self.content.lock().unwrap();
        match self.failures.lock().unwrap().pop_front().flatten() {
            None => {
                content.extend_from_slice(bytes);
                Ok(())
            }
            Some(written) => {
                content.extend_from_slice(&bytes[..written.min(bytes.len())]);
                Err(Unwritten { written, source: Error::from(ErrorKind::StorageFull), fault: self.fault })
            }
        }
    }

    fn reopen(&mut self) -> std::io::Result<()> {
        self.reopens.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn tend(&mut self) -> Option<Space> {
        self.tended.fetch_add(1, Ordering::SeqCst);
        Some(Space { free: 1, total: 100 })
    }
}

impl Place {
    fn gated() -> (Self, std::sync::mpsc::Sender<()>) {
        let (open, gate) = std::sync::mpsc::channel();
        (Self { gate: Some(Arc::new(Mutex::new(gate))), ..Self::default() }, open)
    }

    async fn sink(&self, limits: SinkLimits, clock: Arc<dyn Clock>) -> QueuedSink {
        let place = self.clone();
        QueuedSink::start("test/", limits, clock, move || Ok(place)).await.unwrap()
    }

    fn content(&self) -> String {
        String::from_utf8(self.content.lock().unwrap().clone()).unwrap()
    }
}

fn limits(lines: usize, bytes: usize) -> SinkLimits {
    SinkLimits { queue_lines_max: lines, queue_bytes_max: bytes, deadline: Duration::from_secs(5), grace: Duration::from_millis(250) }
}

fn system() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

#[tokio::test]
async fn lines_are_written_in_order_when_the_receipt_says_so() {
    let place = Place::default();
    let sink = place.sink(SinkLimits::default(), system()).await;
    sink.submit(b"one\n".to_vec(), Share::All).await.unwrap();
    assert_eq!(place.content(), "one\n");
    let receipts: Vec<Receipt> = (0..500).map(|line| sink.submit(format!("{line}\n").into_bytes(), Share::All)).collect();
    for receipt in receipts {
        receipt.await.unwrap();
    }
    let expected: Vec<String> = std::iter::once("one".to_owned()).chain((0..500).map(|line| line.to_string())).collect();
    assert_eq!(place.content().lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn lines_that_wait_share_a_write() {
    let (place, gate) = Place::gated();
    let sink = place.sink(SinkLimits::default(), system()).await;
    let first = sink.submit(b"first\n".to_vec(), Share::All);
    gate.send(()).unwrap();
    first.await.unwrap();
    // The thread takes one, hangs in it, and finds the other hundred afterwards.
    let mut receipts = vec![sink.submit(b"head\n".to_vec(), Share::All)];
    receipts.extend((0..100).map(|_| sink.submit(b"tail\n".to_vec(), Share::All)));
    for _ in 0..3 {
        gate.send(()).unwrap();
    }
    drop(gate);
    for receipt in receipts {
        receipt.await.unwrap();
    }
    assert!(place.writes.load(Ordering::SeqCst) <= 3, "one at first, the head, the rest");
    assert_eq!(place.content().lines().count(), 102);
}

#[tokio::test]
async fn a_hung_place_costs_the_deadline_and_recovers() {
    let (place, gate) = Place::gated();
    let clock = SimClock::default();
    let sink = place.sink(SinkLimits::default(), Arc::new(clock.clone())).await;
    let receipt = sink.submit(b"late\n".to_vec(), Share::All);
    let waiting = tokio::spawn(receipt);
    clock.advance(Duration::from_secs(4));
    assert_eq!(sink.pace(), Pace::Well);
    clock.advance(Duration::from_secs(1));
    assert_eq!(waiting.await.unwrap(), Err(SinkError::TimedOut(Duration::from_secs(5))));
    assert_eq!(sink.pace(), Pace::Stalled);
    gate.send(()).unwrap();
    gate.send(()).unwrap();
    sink.submit(b"next\n".to_vec(), Share::All).await.unwrap();
    assert_eq!(sink.pace(), Pace::Well);
    assert_eq!(place.content(), "late\nnext\n");
}

#[tokio::test]
async fn slowness_counts_only_while_something_waits() {
    let (place, gate) = Place::gated();
    let sink = place.sink(SinkLimits::default(), Arc::new(SimClock::default())).await;
    // A word that comes late, when the line is written long since.
    sink.lags();
    assert_eq!(sink.pace(), Pace::Well);
    let receipt = sink.submit(b"one\n".to_vec(), Share::All);
    assert_eq!((sink.pace(), sink.health().queued_lines), (Pace::Lagging, 1));
    drop(gate);
    receipt.await.unwrap();
    sink.submit(b"two\n".to_vec(), Share::All).await.unwrap();
    assert_eq!((sink.pace(), sink.health().accepted), (Pace::Well, 2));
}

#[tokio::test]
async fn a_line_that_cannot_be_written_fails_alone() {
    let (mut place, gate) = Place::gated();
    place.fault = Fault::Line;
    place.failures.lock().unwrap().extend([None, Some(0), None]);
    let sink = place.sink(SinkLimits::default(), system()).await;
    let head = sink.submit(b"head\n".to_vec(), Share::All);
    gate.send(()).unwrap();
    head.await.unwrap();
    // The thread hangs before it takes any of them, so they share a batch or the first is alone.
    let receipts: Vec<Receipt> = ["one\n", "two\n", "six\n"].iter().map(|line| sink.submit(line.as_bytes().to_vec(), Share::All)).collect();
    drop(gate);
    let mut failed = 0;
    for receipt in receipts {
        failed += usize::from(receipt.await.is_err());
    }
    let health = sink.health();
    assert_eq!((failed, health.failed, health.accepted, health.failing), (1, 1, 3, false));
    assert_eq!(place.reopens.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_place_that_cannot_be_helped_is_not_opened_anew() {
    let place = Place { fault: Fault::Hopeless, ..Place::default() };
    place.failures.lock().unwrap().push_back(Some(0));
    let sink = place.sink(SinkLimits::default(), system()).await;
    assert!(matches!(sink.submit(b"one\n".to_vec(), Share::All).await, Err(SinkError::Write(_))));
    assert!(sink.health().failing);
    sink.submit(b"two\n".to_vec(), Share::All).await.unwrap();
    assert_eq!((place.reopens.load(Ordering::SeqCst), place.content().as_str(), sink.health().failing), (0, "two\n", false));
}

#[tokio::test]
async fn a_place_is_tended_at_the_start_and_every_second_of_work() {
    let place = Place::default();
    let clock = SimClock::default();
    let sink = place.sink(SinkLimits::default(), Arc::new(clock.clone())).await;
    sink.submit(b"first\n".to_vec(), Share::All).await.unwrap();
    assert!(sink.health().space.is_some_and(Space::is_low));
    let before = place.tended.load(Ordering::SeqCst);
    clock.advance(Duration::from_secs(1));
    sink.submit(b"one\n".to_vec(), Share::All).await.unwrap();
    assert!(place.tended.load(Ordering::SeqCst) > before);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let (place, gate) = Place::gated();
    let sink = place.sink(limits(3, 1000), Arc::new(SimClock::default())).await;
    // The thread may have taken the first ones already; the limit holds for those that wait.
    let mut receipts = Vec::new();
    let refused = loop {
        let mut receipt = sink.submit(b"x\n".to_vec(), Share::All);
        match std::future::poll_fn(|context| std::task::Poll::Ready(receipt.as_mut().poll(context))).await {
            std::task::Poll::Ready(result) => break result,
            std::task::Poll::Pending => receipts.push(receipt),
        }
        assert!(receipts.len() < 20, "the queue has no end");
    };
    assert_eq!(refused, Err(SinkError::QueueFull { line: 2, lines: 3, bytes: 1000 }));
    drop(gate);
    for receipt in receipts {
        receipt.await.unwrap();
    }
    assert_eq!(sink.shared.queued_bytes.load(Ordering::Relaxed), 0, "a refused line is not counted");
}

#[tokio::test]
async fn bytes_that_wait_are_limited_and_one_huge_line_is_not() {
    let (place, gate) = Place::gated();
    let sink = place.sink(limits(100, 10), Arc::new(SimClock::default())).await;
    sink.shared.queued_bytes.store(9, Ordering::Relaxed);
    assert_eq!(sink.submit(b"xx\n".to_vec(), Share::All).await, Err(SinkError::QueueFull { line: 3, lines: 100, bytes: 10 }));
    sink.shared.queued_bytes.store(0, Ordering::Relaxed);
    drop(gate);
    sink.submit(vec![b'\n'; 1000], Share::All).await.unwrap();
}

/// Story: requests without a token filled the queue with long lines, and those of callers who had one were refused for want of a record.
#[tokio::test]
async fn strangers_fill_half_of_the_queue_and_no_more() {
    let (place, gate) = Place::gated();
    let sink = place.sink(limits(100, 100), Arc::new(SimClock::default())).await;
    let line = |bytes: usize| [&vec![b'x'; bytes - 1][..], b"\n"].concat();
    // Story: lines of all callers counted, so that five large answers refused every login.
    let mut receipts = vec![sink.submit(line(50), Share::All), sink.submit(line(30), Share::Half), sink.submit(line(20), Share::Half)];
    let refused = SinkError::QueueFull { line: 2, lines: 50, bytes: 50 };
    assert_eq!(sink.submit(line(2), Share::Half).await, Err(refused.clone()));
    assert_eq!(sink.health().queued_bytes, 100);
    drop(gate);
    for receipt in receipts.drain(..) {
        receipt.await.unwrap();
    }
    // Of the lines as well.
    let strange = || (sink.shared.strangers_lines.load(Ordering::Relaxed), sink.shared.strangers_bytes.load(Ordering::Relaxed));
    assert_eq!(strange(), (0, 0));
    sink.shared.strangers_lines.store(50, Ordering::Relaxed);
    sink.shared.strangers_bytes.store(1, Ordering::Relaxed);
    assert_eq!(sink.submit(line(2), Share::Half).await, Err(refused));
    assert_eq!(strange(), (50, 1), "who is refused is not counted");
    sink.submit(line(2), Share::All).await.unwrap();
}

#[tokio::test]
async fn a_failed_write_is_tried_once_more_after_opening_anew() {
    let place = Place::default();
    place.failures.lock().unwrap().push_back(Some(0));
    let sink = place.sink(SinkLimits::default(), system()).await;
    sink.submit(b"one\n".to_vec(), Share::All).await.unwrap();
    assert_eq!((place.content().as_str(), place.reopens.load(Ordering::SeqCst)), ("one\n", 1));
}

#[tokio::test]
async fn lines_that_were_written_before_a_failure_count() {
    let (place, gate) = Place::gated();
    // The head goes through; of the batch of three, one whole line and a piece; then nothing.
    place.failures.lock().unwrap().extend([None, Some(6), Some(0)]);
    let sink = place.sink(SinkLimits::default(), system()).await;
    let receipts: Vec<Receipt> =
        ["head\n", "one\n", "two\n", "three\n"].iter().map(|line| sink.submit(line.as_bytes().to_vec(), Share::All)).collect();
    drop(gate);
    let mut taken = Vec::new();
    for receipt in receipts {
        taken.push(receipt.await);
    }
    // Depending on the thread's luck, the head is in a batch of its own or shares it; either way what is in the file is what was said.
    let whole = place.content().lines().filter(|line| ["head", "one", "two", "three"].contains(line)).count();
    assert!(taken.iter().filter(|result| result.is_ok()).count() <= whole);
    assert!(taken.iter().filter_map(|result| result.as_ref().err()).all(|error| matches!(error, SinkError::Write(_))));
}

#[tokio::test]
async fn closing_writes_what_waits_and_refuses_the_rest() {
    let place = Place::default();
    let sink = place.sink(SinkLimits::default(), system()).await;
    let before = sink.submit(b"before\n".to_vec(), Share::All);
    sink.close().await.unwrap();
    before.await.unwrap();
    assert_eq!(sink.submit(b"after\n".to_vec(), Share::All).await, Err(SinkError::Closed));
    assert_eq!(place.content(), "before\n");
}

#[tokio::test]
async fn reopening_happens_between_lines() {
    let place = Place::default();
    let sink = place.sink(SinkLimits::default(), system()).await;
    let receipts = [sink.submit(b"one\n".to_vec(), Share::All), sink.reopen(), sink.submit(b"two\n".to_vec(), Share::All)];
    for receipt in receipts {
        receipt.await.unwrap();
    }
    assert_eq!((place.content().as_str(), place.reopens.load(Ordering::SeqCst)), ("one\ntwo\n", 1));
}

#[tokio::test]
async fn a_place_that_cannot_be_opened_says_why() {
    let failed = QueuedSink::start::<Place>("test/", SinkLimits::default(), system(), || Err("no such volume".to_owned())).await;
    assert_eq!(failed.err(), Some(SinkError::Open("no such volume".to_owned())));
}
