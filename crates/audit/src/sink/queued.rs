//! A bounded queue and a thread in front of a [`Writer`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use daypass_base::Clock;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Fault, Pace, Receipt, Sink, SinkError, SinkHealth, SinkLimits, Space, Unwritten, Writer};
use crate::record::Share;

/// A writer behind a bounded queue and a thread.
pub struct QueuedSink {
    jobs: mpsc::SyncSender<Job>,
    shared: Arc<Shared>,
    limits: SinkLimits,
    clock: Arc<dyn Clock>,
}

/// What both sides see.
#[derive(Default)]
pub(super) struct Shared {
    /// For the log: which device it is.
    name: String,
    pub(super) queued_bytes: AtomicUsize,
    /// Lines that were submitted and have no answer yet.
    queued_lines: AtomicUsize,
    /// Those of them that are of strangers, and their bytes.
    strangers_lines: AtomicUsize,
    strangers_bytes: AtomicUsize,
    /// A [`Pace`], which counts while lines wait.
    pace: AtomicU8,
    failing: AtomicBool,
    accepted: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    space: Mutex<Option<Space>>,
}

/// A line of a stranger's that waits, for as long as it does.
struct Strange {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Drop for Strange {
    fn drop(&mut self) {
        self.shared.strangers_lines.fetch_sub(1, Ordering::Relaxed);
        self.shared.strangers_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

enum Job {
    Close(Reply),
    Line(Vec<u8>, Option<Strange>, Reply),
    Reopen(Reply),
}

type Reply = oneshot::Sender<Result<(), SinkError>>;

impl QueuedSink {
    /// Starts the thread, which opens the writer with `open`. Fails when that fails or misses the deadline.
    pub async fn start<W: Writer>(
        name: &str,
        limits: SinkLimits,
        clock: Arc<dyn Clock>,
        open: impl FnOnce() -> Result<W, String> + Send + 'static,
    ) -> Result<Self, SinkError> {
        let (jobs, queue) = mpsc::sync_channel(limits.queue_lines_max.max(1));
        let (opened, answer) = oneshot::channel();
        let shared = Arc::new(Shared { name: name.to_owned(), ..Shared::default() });
        let (thread_shared, thread_clock) = (Arc::clone(&shared), Arc::clone(&clock));
        // The thread ends when it is told to, or when the sink is dropped and the queue is written; nothing joins it, since a hung
        // disk would hang whoever does.
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(move || match open() {
            Ok(writer) => {
                let mut scribe = Scribe::new(writer, thread_shared, thread_clock);
                if opened.send(Ok(())).is_ok() {
                    // Afterwards: a peer that cannot be reached is no reason not to start.
                    scribe.tend();
                    scribe.run(queue);
                }
            }
            Err(reason) => {
                let _nobody_waits = opened.send(Err(SinkError::Open(reason)));
            }
        });
        thread.map_err(|error| SinkError::Open(format!("no thread could be started: {error}")))?;
        let sink = Self { jobs, shared, limits, clock };
        sink.receipt(answer).await?;
        Ok(sink)
    }

    /// Waits for `answer` until the deadline, which starts now.
    fn receipt(&self, answer: oneshot::Receiver<Result<(), SinkError>>) -> Receipt {
        let (deadline, shared) = (self.limits.deadline, Arc::clone(&self.shared));
        let timer = self.clock.sleep(deadline);
        Box::pin(async move {
            tokio::select! {
                biased;
                answer = answer => answer.unwrap_or(Err(SinkError::Closed)),
                () = timer => {
                    if shared.slows_to(Pace::Stalled) {
                        tracing::error!(device = %shared.name, ?deadline, "audit device missed its deadline; requests do not wait for it until it answers");
                    }
                    Err(SinkError::TimedOut(deadline))
                }
            }
        })
    }

    /// `line` is how long the line is, where there is one.
    fn send(&self, line: usize, job: impl FnOnce(Reply) -> Job) -> Result<Receipt, SinkError> {
        let (reply, answer) = oneshot::channel();
        match self.jobs.try_send(job(reply)) {
            Ok(()) => Ok(self.receipt(answer)),
            Err(mpsc::TrySendError::Disconnected(_)) => Err(SinkError::Closed),
            Err(mpsc::TrySendError::Full(_)) => {
                Err(SinkError::QueueFull { line, lines: self.limits.queue_lines_max, bytes: self.limits.queue_bytes_max })
            }
        }
    }

    /// Whether a line of so many bytes fits behind what waits. How many lines wait in all is the channel's to limit.
    fn fits(&self, line: usize, bytes_before: usize) -> Result<(), SinkError> {
        let SinkLimits { queue_lines_max, queue_bytes_max, .. } = self.limits;
        if bytes_before > 0 && bytes_before.saturating_add(line) > queue_bytes_max {
            return Err(SinkError::QueueFull { line, lines: queue_lines_max, bytes: queue_bytes_max });
        }
        Ok(())
    }

    /// Counts a line of a stranger's. Of such lines no more wait than half of what may: the other half is for everybody else.
    fn strange(&self, bytes: usize) -> Result<Strange, SinkError> {
        let (lines_max, bytes_max) = (self.limits.queue_lines_max / 2, self.limits.queue_bytes_max / 2);
        let lines_before = self.shared.strangers_lines.fetch_add(1, Ordering::Relaxed);
        let bytes_before = self.shared.strangers_bytes.fetch_add(bytes, Ordering::Relaxed);
        let strange = Strange { shared: Arc::clone(&self.shared), bytes };
        if bytes_before > 0 && (lines_before >= lines_max || bytes_before.saturating_add(bytes) > bytes_max) {
            return Err(SinkError::QueueFull { line: bytes, lines: lines_max, bytes: bytes_max });
        }
        Ok(strange)
    }
}

impl Sink for QueuedSink {
    fn submit(&self, line: Vec<u8>, share: Share) -> Receipt {
        let (shared, length) = (&self.shared, line.len());
        let bytes_before = shared.queued_bytes.fetch_add(length, Ordering::Relaxed);
        shared.queued_lines.fetch_add(1, Ordering::Relaxed);
        let strange = if share == Share::Half { self.strange(length).map(Some) } else { Ok(None) };
        let sent = strange.and_then(|strange| {
            self.fits(length, bytes_before)?;
            self.send(length, |reply| Job::Line(line, strange, reply))
        });
        sent.unwrap_or_else(|error| {
            shared.queued_bytes.fetch_sub(length, Ordering::Relaxed);
            shared.queued_lines.fetch_sub(1, Ordering::Relaxed);
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::ready(Err(error)))
        })
    }

    fn reopen(&self) -> Receipt {
        self.send(0, Job::Reopen).unwrap_or_else(|error| Box::pin(std::future::ready(Err(error))))
    }

    fn close(&self) -> Receipt {
        self.send(0, Job::Close).unwrap_or_else(|error| Box::pin(std::future::ready(Err(error))))
    }

    fn pace(&self) -> Pace {
        self.shared.pace()
    }

    fn lags(&self) {
        if self.shared.slows_to(Pace::Lagging) {
            // A device that is slow all the time would fill the log; its pace is among its figures.
            tracing::debug!(device = %self.shared.name, "audit device lags behind; requests that are on record elsewhere go on without it");
        }
    }

    fn health(&self) -> SinkHealth {
        let shared = &self.shared;
        SinkHealth {
            accepted: shared.accepted.load(Ordering::Relaxed),
            failed: shared.failed.load(Ordering::Relaxed),
            dropped: shared.dropped.load(Ordering::Relaxed),
            queued_lines: shared.queued_lines.load(Ordering::Relaxed),
            queued_bytes: shared.queued_bytes.load(Ordering::Relaxed),
            pace: shared.pace(),
            failing: shared.failing.load(Ordering::Relaxed),
            space: *shared.space.lock(),
        }
    }
}

impl Shared {
    /// While nothing waits there is nothing to be slow with: so a late word about slowness can never stop a sink for good.
    fn pace(&self) -> Pace {
        if self.queued_lines.load(Ordering::Relaxed) == 0 {
            return Pace::Well;
        }
        match self.pace.load(Ordering::Relaxed) {
            0 => Pace::Well,
            1 => Pace::Lagging,
            _ => Pace::Stalled,
        }
    }

    /// Returns whether that is news.
    fn slows_to(&self, pace: Pace) -> bool {
        let pace = pace as u8;
        self.pace.fetch_max(pace, Ordering::Relaxed) < pace
    }
}

/// A line in a batch.
struct Waiting {
    /// Where it ends.
    end: usize,
    _strange: Option<Strange>,
    reply: Reply,
}

/// The thread's side: gathers lines that wait and writes them together.
struct Scribe<W> {
    writer: W,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    batch: Vec<u8>,
    /// The lines in `batch`.
    waiting: VecDeque<Waiting>,
    /// Whom to answer when the batch is done and counted.
    settled: Vec<(Reply, Result<(), SinkError>)>,
    tended: Duration,
    low_space: bool,
}

impl<W: Writer> Scribe<W> {
    fn new(writer: W, shared: Arc<Shared>, clock: Arc<dyn Clock>) -> Self {
        Self {
            writer,
            shared,
            clock,
            batch: Vec::new(),
            waiting: VecDeque::new(),
            settled: Vec::new(),
            tended: Duration::ZERO,
            low_space: false,
        }
    }

    fn run(mut self, queue: mpsc::Receiver<Job>) {
        loop {
            let first = match queue.recv_timeout(TEND_EVERY) {
                Ok(job) => Some(job),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            if first.is_none() || self.clock.elapsed().saturating_sub(self.tended) >= TEND_EVERY {
                self.tend();
            }
            let mut next = first;
            while let Some(job) = next.take() {
                match job {
                    Job::Close(reply) => {
                        self.drain(&queue);
                        let _nobody_waits = reply.send(Ok(()));
                        return;
                    }
                    Job::Line(line, strange, reply) => self.gather(&line, strange, reply),
                    Job::Reopen(reply) => {
                        self.write();
                        let opened = self.writer.reopen().map_err(|error| SinkError::Open(error.to_string()));
                        let _nobody_waits = reply.send(opened);
                    }
                }
                if self.waiting.len() < BATCH_LINES_MAX && self.batch.len() < BATCH_BYTES_MAX {
                    next = queue.try_recv().ok();
                }
            }
            self.write();
        }
    }

    /// What was queued before the end. What comes in the same moment finds nobody, and is told so by the fall of its reply.
    fn drain(&mut self, queue: &mpsc::Receiver<Job>) {
        while let Ok(job) = queue.try_recv() {
            match job {
                Job::Line(line, strange, reply) => self.gather(&line, strange, reply),
                Job::Close(reply) | Job::Reopen(reply) => {
                    let _nobody_waits = reply.send(Err(SinkError::Closed));
                }
            }
        }
        self.write();
    }

    fn gather(&mut self, line: &[u8], strange: Option<Strange>, reply: Reply) {
        self.batch.extend_from_slice(line);
        self.waiting.push_back(Waiting { end: self.batch.len(), _strange: strange, reply });
    }

    /// Writes the batch and answers everyone in it. After a failure the place is opened anew and the rest is tried once more,
    /// which mends a file system that was remounted or a pipe whose reader came back. A line that cannot be written fails alone.
    fn write(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let (mut start, mut fresh, mut failed) = (0, false, None);
        while let Some(rest) = self.batch.get(start..).filter(|rest| !rest.is_empty()) {
            let Err(Unwritten { written, source, fault }) = self.writer.append(rest) else {
                self.settle(self.batch.len(), &Ok(()));
                break;
            };
            // Only whole lines count; one that was cut is written again.
            let reached = start + written;
            let reason = source.to_string();
            let error = if fault == Fault::Line { SinkError::Line(reason) } else { SinkError::Write(reason) };
            start = self.settle(reached, &Ok(())).unwrap_or(start);
            match fault {
                Fault::Line => {
                    let Some(end) = self.waiting.front().map(|line| line.end) else { break };
                    start = self.settle(end, &Err(error.clone())).unwrap_or(end);
                }
                // If this fails, so does the second try, with the better reason.
                Fault::Place if !fresh => {
                    fresh = true;
                    let _tried_again_below = self.writer.reopen();
                }
                Fault::Place | Fault::Hopeless => {
                    self.settle(self.batch.len(), &Err(error.clone()));
                    failed = Some(error);
                    break;
                }
            }
        }
        self.tell(failed);
        self.batch.clear();
        // One huge answer should not hold its memory for ever.
        self.batch.shrink_to(BATCH_BYTES_MAX);
    }

    /// Counts the lines that end by `end`. Returns where the last of them ends.
    fn settle(&mut self, end: usize, result: &Result<(), SinkError>) -> Option<usize> {
        let mut last = None;
        let count = self.waiting.iter().take_while(|line| line.end <= end).count();
        let tally = if result.is_ok() { &self.shared.accepted } else { &self.shared.failed };
        tally.fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
        for line in self.waiting.drain(..count) {
            last = Some(line.end);
            self.settled.push((line.reply, result.clone()));
        }
        last
    }

    /// The batch is done: the sink answers again, the log has what changed, and everyone their answer.
    fn tell(&mut self, failed: Option<SinkError>) {
        let (shared, failing) = (&self.shared, failed.is_some());
        shared.queued_bytes.fetch_sub(self.batch.len(), Ordering::Relaxed);
        shared.queued_lines.fetch_sub(self.settled.len(), Ordering::Relaxed);
        let was_failing = shared.failing.swap(failing, Ordering::Relaxed);
        if let Some(error) = failed.filter(|_| !was_failing) {
            tracing::error!(device = %shared.name, %error, "audit device does not take lines");
        } else if was_failing && !failing {
            tracing::info!(device = %shared.name, "audit device takes lines again");
        }
        if shared.pace.swap(0, Ordering::Relaxed) == Pace::Stalled as u8 {
            tracing::info!(device = %shared.name, "audit device answers again");
        }
        for (reply, result) in self.settled.drain(..) {
            let _nobody_waits = reply.send(result);
        }
    }

    fn tend(&mut self) {
        self.tended = self.clock.elapsed();
        let space = self.writer.tend();
        *self.shared.space.lock() = space;
        let Some(space) = space else { return };
        if space.is_low() && !self.low_space {
            let (free, total) = (space.free, space.total);
            tracing::warn!(device = %self.shared.name, free, total, "the file system of an audit device is nearly full: make room");
            self.low_space = true;
        } else if space.is_ample() && self.low_space {
            tracing::info!(device = %self.shared.name, free = space.free, "the file system of an audit device has room again");
            self.low_space = false;
        }
    }
}

/// Lines that go out in one write.
const BATCH_LINES_MAX: usize = 512;
/// Bytes after which no further line joins a write.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// How often a writer is tended.
const TEND_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
