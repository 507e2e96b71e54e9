//! Where lines go. A [`Sink`] takes a line and says when the operating system has it.
//!
//! [`QueuedSink`] makes one from anything that can write bytes ([`Writer`]): a thread of its own does the writing, so a disk that hangs
//! holds up no request longer than the deadline, and lines that wait for each other go out in one write. Writers are files
//! ([`crate::file`]), sockets ([`crate::socket`]) and the local syslog ([`crate::syslog`]).

use std::time::Duration;

use daypass_base::BoxFuture;

use crate::record::Share;

mod queued;

pub use queued::QueuedSink;

/// Resolves when the line is with the operating system, or will not be. Dropping it does not take the line back.
pub type Receipt = BoxFuture<'static, Result<(), SinkError>>;

/// Why a line was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The device was disabled.
    #[error("the audit device is closed")]
    Closed,
    /// The operating system refused this line, and takes others: it is longer than a message may be.
    #[error("the line was not written: {0}")]
    Line(String),
    /// The place cannot be opened.
    #[error("{0}")]
    Open(String),
    /// Lines come faster than they can be written, or writing hangs; or this one is very long.
    #[error("its queue has no room for a line of {line} bytes: at most {lines} lines with {bytes} bytes together may wait to be written")]
    QueueFull {
        /// Bytes of the line.
        line: usize,
        /// Limit on lines.
        lines: usize,
        /// Limit on bytes.
        bytes: usize,
    },
    /// It missed its deadline and has not answered since: nobody waits for it again before it does.
    #[error("it hangs: a line has been waiting for longer than {0:?}")]
    Stalled(Duration),
    /// The operating system did not take the line in time. It may still do so: then the log tells of a request that was refused.
    #[error("the line was not written within {0:?}")]
    TimedOut(Duration),
    /// The operating system refused the line.
    #[error("the line was not written: {0}")]
    Write(String),
}

impl SinkError {
    /// Whether others may be taken where this line was not.
    #[must_use]
    pub fn is_of_the_line(&self) -> bool {
        match self {
            Self::Line(_) => true,
            Self::QueueFull { line, bytes, .. } => line.saturating_mul(LONG_LINES) > *bytes,
            Self::Closed | Self::Open(_) | Self::Stalled(_) | Self::TimedOut(_) | Self::Write(_) => false,
        }
    }
}

/// Limits of a [`QueuedSink`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkLimits {
    /// Lines that may wait.
    pub queue_lines_max: usize,
    /// Bytes that may wait; data takes a quarter of it in a line at most (`Limits::audit_data_bytes`). A longer line is taken when nothing else waits.
    pub queue_bytes_max: usize,
    /// How long a line may take to be with the operating system, and a place to be opened.
    pub deadline: Duration,
    /// How long a request that is on record elsewhere waits for this device to have the line as well.
    pub grace: Duration,
}

impl Default for SinkLimits {
    fn default() -> Self {
        let (deadline, grace) = (Duration::from_secs(5), Duration::from_millis(250));
        Self { queue_lines_max: 8192, queue_bytes_max: 64 << 20, deadline, grace }
    }
}

/// How a sink keeps up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Pace {
    /// It does.
    #[default]
    Well,
    /// It took longer than others wait for it: they go on without it where another has the line.
    Lagging,
    /// It missed its deadline: nobody waits for it.
    Stalled,
}

/// A place that takes lines.
pub trait Sink: Send + Sync + 'static {
    /// Takes charge of a line, which ends in a line feed, where its share of the queue has room for it. Lines are written in the order of these calls.
    fn submit(&self, line: Vec<u8>, share: Share) -> Receipt;

    /// Opens the place anew, for a log file that was moved away.
    fn reopen(&self) -> Receipt;

    /// Writes what waits and lets go of the place.
    fn close(&self) -> Receipt;

    /// Whether anybody should wait for it.
    fn pace(&self) -> Pace;

    /// Others went on without it.
    fn lags(&self);

    /// Its figures.
    fn health(&self) -> SinkHealth;
}

/// Figures of a sink since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SinkHealth {
    /// Lines that the operating system has.
    pub accepted: u64,
    /// Lines that it refused.
    pub failed: u64,
    /// Lines that were not even queued, since too much was waiting or the sink was closed.
    pub dropped: u64,
    /// Lines that wait now.
    pub queued_lines: usize,
    /// Bytes that wait now.
    pub queued_bytes: usize,
    /// How it keeps up.
    pub pace: Pace,
    /// Whether its last line was refused.
    pub failing: bool,
    /// Room for a file, as it was seen last; `None` for what is no file.
    pub space: Option<Space>,
}

/// Room on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// What may still be written.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

impl Space {
    /// Whether someone should make room: less than a twentieth is left, where that is less than a gibibyte.
    #[must_use]
    pub fn is_low(self) -> bool {
        self.free < self.alarm()
    }

    /// Whether there is so much room that an alarm is over: a fifth more than what sets it off, so that it does not come and go.
    #[must_use]
    pub fn is_ample(self) -> bool {
        self.free >= self.alarm().saturating_add(self.alarm() / 5)
    }

    fn alarm(self) -> u64 {
        (self.total / 20).min(LOW_SPACE_MAX)
    }
}

/// Something that bytes can be appended to, by one thread that may block.
pub trait Writer: Send + 'static {
    /// Appends all of `bytes`, which are whole lines.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Unwritten>;

    /// Opens the place anew.
    fn reopen(&mut self) -> std::io::Result<()>;

    /// Called about once a second: looks after the place. Returns the room that is left, where there is such a thing.
    fn tend(&mut self) -> Option<Space> {
        None
    }
}

/// Bytes that did not all get written.
#[derive(Debug)]
pub struct Unwritten {
    /// Number of bytes from the start that did.
    pub written: usize,
    /// What the operating system said.
    pub source: std::io::Error,
    /// What it is about.
    pub fault: Fault,
}

/// What was wrong when bytes did not get written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The first line that is not written cannot be; those behind it may be.
    Line,
    /// The place; opening it anew may help.
    Place,
    /// The place, and opening it anew was tried or is no use now.
    Hopeless,
}

/// Takes every line and keeps none.
#[derive(Debug, Default)]
pub struct DiscardSink;

impl Sink for DiscardSink {
    fn submit(&self, _line: Vec<u8>, _share: Share) -> Receipt {
        Box::pin(std::future::ready(Ok(())))
    }

    fn reopen(&self) -> Receipt {
        Box::pin(std::future::ready(Ok(())))
    }

    fn close(&self) -> Receipt {
        Box::pin(std::future::ready(Ok(())))
    }

    fn pace(&self) -> Pace {
        Pace::Well
    }

    fn lags(&self) {}

    fn health(&self) -> SinkHealth {
        SinkHealth::default()
    }
}

/// A line that so many would not fit of is long: that it is refused says little about others.
const LONG_LINES: usize = 16;
/// A gibibyte: on a large disk, a twentieth would be an alarm too early.
const LOW_SPACE_MAX: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_begins_below_a_twentieth_or_a_gibibyte_and_ends_well_above() {
        let space = |free: u64, total: u64| Space { free, total };
        let small = 100 << 20;
        assert!(space((5 << 20) - 1, small).is_low() && !space(5 << 20, small).is_low());
        assert!(!space(5 << 20, small).is_ample() && space(6 << 20, small).is_ample());
        let large = 10 << 40;
        assert!(space((1 << 30) - 1, large).is_low() && !space(1 << 30, large).is_low());
        assert!(space(0, 1 << 20).is_low());
    }
}
