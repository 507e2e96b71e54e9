//! Where lines go. A [`Sink`] takes a line and says when the operating system has it.
//!
//! [`QueuedSink`] makes one from anything that can write bytes ([`Writer`]): a thread of its own does the writing, so a disk that hangs
//! holds up no request longer than the deadline, and lines that wait for each other go out in one write. Files are in [`crate::file`];
//! a socket or syslog needs no more than another writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use daypass_base::{BoxFuture, Clock};
use tokio::sync::{mpsc, oneshot};

/// Resolves when the line is with the operating system, or will not be. Dropping it does not take the line back.
pub type Receipt = BoxFuture<'static, Result<(), SinkError>>;

/// Why a line was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The device was disabled.
    #[error("the audit device is closed")]
    Closed,
    /// The place cannot be opened.
    #[error("{0}")]
    Open(String),
    /// Lines come faster than they can be written, or writing hangs.
    #[error("{lines} lines of {bytes} bytes are waiting to be written, the most that may")]
    QueueFull {
        /// Limit on lines.
        lines: usize,
        /// Limit on bytes.
        bytes: usize,
    },
    /// The operating system did not take the line in time. It may still do so: then the log tells of a request that was refused.
    #[error("the line was not written within {0:?}")]
    TimedOut(Duration),
    /// The operating system refused the line.
    #[error("the line was not written: {0}")]
    Write(String),
}

/// Limits of a [`QueuedSink`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkLimits {
    /// Lines that may wait.
    pub queue_lines_max: usize,
    /// Bytes that may wait. A longer line is taken when nothing else waits.
    pub queue_bytes_max: usize,
    /// How long a line may take to be with the operating system, and a place to be opened.
    pub deadline: Duration,
}

impl Default for SinkLimits {
    fn default() -> Self {
        Self { queue_lines_max: 8192, queue_bytes_max: 64 << 20, deadline: Duration::from_secs(5) }
    }
}

/// A place that takes lines.
pub trait Sink: Send + Sync + 'static {
    /// Takes charge of a line, which ends in a line feed. Lines are written in the order of these calls.
    fn submit(&self, line: Vec<u8>) -> Receipt;

    /// Opens the place anew, for a log file that was moved away.
    fn reopen(&self) -> Receipt;

    /// Writes what waits and lets go of the place.
    fn close(&self) -> Receipt;

    /// Whether the last word was a missed deadline, so that nobody should wait for this sink if another has the line.
    fn is_stalled(&self) -> bool;
}

/// Something that bytes can be appended to, by one thread that may block.
pub trait Writer: Send + 'static {
    /// Appends all of `bytes`, which are whole lines.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Unwritten>;

    /// Opens the place anew.
    fn reopen(&mut self) -> std::io::Result<()>;
}

/// Bytes that did not all get written.
#[derive(Debug)]
pub struct Unwritten {
    /// Number of bytes from the start that did.
    pub written: usize,
    /// What the operating system said.
    pub source: std::io::Error,
}

/// Takes every line and keeps none.
#[derive(Debug, Default)]
pub struct DiscardSink;

impl Sink for DiscardSink {
    fn submit(&self, _line: Vec<u8>) -> Receipt {
        Box::pin(std::future::ready(Ok(())))
    }

    fn reopen(&self) -> Receipt {
        Box::pin(std::future::ready(Ok(())))
    }

    fn close(&self) -> Receipt {
        Box::pin(std::future::ready(Ok(())))
    }

    fn is_stalled(&self) -> bool {
        false
    }
}

/// A writer behind a bounded queue and a thread.
pub struct QueuedSink {
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
    limits: SinkLimits,
    clock: Arc<dyn Clock>,
}

struct Shared {
    /// For the log: which device it is.
    name: String,
    queued_bytes: AtomicUsize,
    stalled: AtomicBool,
}

enum Job {
    Close(oneshot::Sender<Result<(), SinkError>>),
    Line(Vec<u8>, oneshot::Sender<Result<(), SinkError>>),
    Reopen(oneshot::Sender<Result<(), SinkError>>),
}

impl QueuedSink {
    /// Starts the thread, which opens the writer with `open`. Fails when that fails or misses the deadline.
    pub async fn start<W: Writer>(
        name: &str,
        limits: SinkLimits,
        clock: Arc<dyn Clock>,
        open: impl FnOnce() -> Result<W, String> + Send + 'static,
    ) -> Result<Self, SinkError> {
        let (jobs, queue) = mpsc::channel(limits.queue_lines_max.max(1));
        let (opened, answer) = oneshot::channel();
        let shared = Arc::new(Shared { name: name.to_owned(), queued_bytes: AtomicUsize::new(0), stalled: AtomicBool::new(false) });
        let thread_shared = Arc::clone(&shared);
        // The thread ends when it is told to, or when the sink is dropped and the queue is written; nothing joins it, since a hung
        // disk would hang whoever does.
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(move || match open() {
            Ok(writer) => {
                if opened.send(Ok(())).is_ok() {
                    Scribe { writer, shared: thread_shared, batch: Vec::new(), waiting: Vec::new(), failing: false }.run(queue);
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
                    if !shared.stalled.swap(true, Ordering::Relaxed) {
                        tracing::error!(device = %shared.name, ?deadline, "audit device missed its deadline");
                    }
                    Err(SinkError::TimedOut(deadline))
                }
            }
        })
    }

    fn send(&self, job: impl FnOnce(oneshot::Sender<Result<(), SinkError>>) -> Job) -> Result<Receipt, SinkError> {
        let (reply, answer) = oneshot::channel();
        match self.jobs.try_send(job(reply)) {
            Ok(()) => Ok(self.receipt(answer)),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(SinkError::Closed),
            Err(mpsc::error::TrySendError::Full(_)) => Err(self.full()),
        }
    }

    fn full(&self) -> SinkError {
        SinkError::QueueFull { lines: self.limits.queue_lines_max, bytes: self.limits.queue_bytes_max }
    }
}

impl Sink for QueuedSink {
    fn submit(&self, line: Vec<u8>) -> Receipt {
        let length = line.len();
        let before = self.shared.queued_bytes.fetch_add(length, Ordering::Relaxed);
        let sent = if before > 0 && before.saturating_add(length) > self.limits.queue_bytes_max {
            Err(self.full())
        } else {
            self.send(|reply| Job::Line(line, reply))
        };
        sent.unwrap_or_else(|error| {
            self.shared.queued_bytes.fetch_sub(length, Ordering::Relaxed);
            Box::pin(std::future::ready(Err(error)))
        })
    }

    fn reopen(&self) -> Receipt {
        self.send(Job::Reopen).unwrap_or_else(|error| Box::pin(std::future::ready(Err(error))))
    }

    fn close(&self) -> Receipt {
        self.send(Job::Close).unwrap_or_else(|error| Box::pin(std::future::ready(Err(error))))
    }

    fn is_stalled(&self) -> bool {
        self.shared.stalled.load(Ordering::Relaxed)
    }
}

/// The thread's side: gathers lines that wait and writes them together.
struct Scribe<W> {
    writer: W,
    shared: Arc<Shared>,
    batch: Vec<u8>,
    /// End of each line in `batch`, and who waits for it.
    waiting: Vec<(usize, oneshot::Sender<Result<(), SinkError>>)>,
    failing: bool,
}

impl<W: Writer> Scribe<W> {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let mut next = Some(first);
            while let Some(job) = next.take() {
                match job {
                    Job::Close(reply) => {
                        queue.close();
                        self.drain(&mut queue);
                        let _nobody_waits = reply.send(Ok(()));
                        return;
                    }
                    Job::Line(line, reply) => self.gather(&line, reply),
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

    /// What was queued before the end.
    fn drain(&mut self, queue: &mut mpsc::Receiver<Job>) {
        while let Ok(job) = queue.try_recv() {
            match job {
                Job::Line(line, reply) => self.gather(&line, reply),
                Job::Close(reply) | Job::Reopen(reply) => {
                    let _nobody_waits = reply.send(Err(SinkError::Closed));
                }
            }
        }
        self.write();
    }

    fn gather(&mut self, line: &[u8], reply: oneshot::Sender<Result<(), SinkError>>) {
        self.shared.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
        self.batch.extend_from_slice(line);
        self.waiting.push((self.batch.len(), reply));
    }

    /// Writes the batch and answers everyone in it. After a failure the place is opened anew and the rest is tried once more,
    /// which mends a file system that was remounted or a pipe whose reader came back.
    fn write(&mut self) {
        let mut start = 0;
        for attempt in [Attempt::First, Attempt::Last] {
            let Some(rest) = self.batch.get(start..).filter(|rest| !rest.is_empty()) else { break };
            let Err(unwritten) = self.writer.append(rest) else {
                start = self.batch.len();
                break;
            };
            // Only whole lines count; one that was cut is written again.
            let reached = start + unwritten.written;
            start = self.waiting.iter().map(|(end, _)| *end).take_while(|end| *end <= reached).last().unwrap_or(start);
            if attempt == Attempt::Last {
                self.answer(start, &SinkError::Write(unwritten.source.to_string()));
                return;
            }
            // If this fails, so does the second try, with the better reason.
            let _tried_again_below = self.writer.reopen();
        }
        self.answer(start, &SinkError::Closed);
    }

    /// Tells the lines that end by `start` that they are written, and the others why not.
    fn answer(&mut self, start: usize, error: &SinkError) {
        let failed = self.waiting.last().is_some_and(|(end, _)| *end > start);
        if failed && !self.failing {
            tracing::error!(device = %self.shared.name, %error, "audit device does not take lines");
        } else if !failed && self.failing {
            tracing::info!(device = %self.shared.name, "audit device takes lines again");
        }
        self.failing = failed;
        self.shared.stalled.store(false, Ordering::Relaxed);
        for (end, reply) in self.waiting.drain(..) {
            let _nobody_waits = reply.send(if end <= start { Ok(()) } else { Err(error.clone()) });
        }
        self.batch.clear();
        // One huge answer should not hold its memory for ever.
        self.batch.shrink_to(BATCH_BYTES_MAX);
    }
}

/// Which of the two tries it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    First,
    Last,
}

/// Lines that go out in one write.
const BATCH_LINES_MAX: usize = 512;
/// Bytes after which no further line joins a write.
const BATCH_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
