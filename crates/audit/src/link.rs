//! A connection that lines are sent over, with a limit on how long a peer may make the server wait.
//!
//! A peer that stops reading is not cut off: what it was sent lies in its buffers, and a new connection would only fill new ones and call
//! that written. It is asked again with each line, without waiting, and a line that was cut goes on where it stopped. A connection that
//! broke is made anew, at growing intervals.

use std::io::{Error, ErrorKind, Result};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use daypass_base::Clock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::sink::{Fault, Space, Unwritten, Writer};

/// How lines are told apart on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Each is a message of its own.
    Datagram,
    /// By their line feeds.
    Stream,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Link {
    fd: OwnedFd,
    framing: Framing,
}

/// Where to, and in which form.
pub(crate) trait Remote: Send + 'static {
    /// Connects, within `limit`.
    fn connect(&mut self, limit: Duration) -> Result<Link>;

    /// The line (with its line feed) as it is sent; `None` for as it is.
    fn frame(&self, line: &[u8]) -> Option<Vec<u8>>;
}

/// A [`Writer`] over a connection.
pub(crate) struct LinkWriter<R> {
    remote: R,
    clock: Arc<dyn Clock>,
    /// How long writing may wait for the peer.
    patience: Duration,
    link: Option<Link>,
    /// What is left of a line that was cut; it goes out before anything else.
    rest: Vec<u8>,
    /// The peer let the patience run out: it is not waited for until it reads.
    hung: bool,
    backoff: Backoff,
}

/// When to connect again.
#[derive(Default)]
struct Backoff {
    failures: u32,
    next: Duration,
    reason: String,
}

impl Link {
    pub(crate) fn new(fd: impl Into<OwnedFd>, framing: Framing) -> Self {
        let fd = fd.into();
        // What lies in the kernel's buffers is lost with the peer: not megabytes of it. A system's own lower limit is as good.
        let _lower_limit = rustix::net::sockopt::set_socket_send_buffer_size(&fd, SEND_BUFFER_BYTES);
        Self { fd, framing }
    }

    /// Sends what can be sent of `bytes` before `patience` is over. Returns how much.
    fn send(&self, bytes: &[u8], patience: Duration) -> Result<usize> {
        loop {
            match send(&self.fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => return Ok(sent),
                Err(Errno::AGAIN) => {
                    let limit =
                        Timespec { tv_sec: i64::try_from(patience.as_secs()).unwrap_or(0), tv_nsec: i64::from(patience.subsec_nanos()) };
                    let mut ready = [PollFd::new(&self.fd, PollFlags::OUT)];
                    if patience.is_zero() || poll(&mut ready, Some(&limit))? == 0 {
                        return Err(ErrorKind::TimedOut.into());
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether the peer is still there, as far as it said otherwise. What it sends is thrown away.
    fn is_open(&self) -> bool {
        let mut thrown_away = [0; 512];
        for _ in 0..READS_MAX {
            match recv(&self.fd, &mut thrown_away[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return self.framing == Framing::Datagram,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return error == Errno::AGAIN,
            }
        }
        true
    }
}

impl<R: Remote> LinkWriter<R> {
    /// Connects with the first line, or a second before.
    pub(crate) fn new(remote: R, patience: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { remote, clock, patience, link: None, rest: Vec::new(), hung: false, backoff: Backoff::default() }
    }

    fn drop_link(&mut self) {
        self.link = None;
        self.hung = false;
        self.rest.clear();
    }

    /// Connects if that is due.
    fn ensure(&mut self) -> Result<()> {
        if self.link.as_ref().is_some_and(|link| !link.is_open()) {
            self.drop_link();
        }
        if self.link.is_some() {
            return Ok(());
        }
        let now = self.clock.elapsed();
        if self.backoff.failures > 0 && now < self.backoff.next {
            return Err(Error::new(ErrorKind::NotConnected, self.backoff.reason.clone()));
        }
        match self.remote.connect(self.patience) {
            Ok(link) => {
                self.link = Some(link);
                self.backoff = Backoff::default();
                Ok(())
            }
            Err(error) => {
                let wait = BACKOFF_FIRST.saturating_mul(1 << self.backoff.failures.min(8)).min(BACKOFF_MAX);
                let next = self.clock.elapsed().saturating_add(wait);
                self.backoff = Backoff { failures: self.backoff.failures.saturating_add(1), next, reason: error.to_string() };
                Err(error)
            }
        }
    }

    /// Sends all of `bytes`. Returns how much was sent, and what went wrong with the rest.
    fn push(&mut self, bytes: &[u8]) -> (usize, Result<()>) {
        let mut sent = 0;
        let start = self.clock.elapsed();
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            let Some(link) = &self.link else { return (sent, Err(ErrorKind::NotConnected.into())) };
            let spent = self.clock.elapsed().saturating_sub(start);
            let patience = if self.hung { Duration::ZERO } else { self.patience.saturating_sub(spent) };
            match link.send(rest, patience) {
                Ok(count) => {
                    // A message goes out whole or not at all.
                    sent += if link.framing == Framing::Datagram { rest.len() } else { count };
                    self.hung = false;
                }
                Err(error) => return (sent, Err(error)),
            }
        }
        (sent, Ok(()))
    }

    /// What is left of a cut line.
    fn finish_rest(&mut self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let rest = std::mem::take(&mut self.rest);
        let (sent, result) = self.push(&rest);
        self.rest = rest.get(sent..).unwrap_or_default().to_vec();
        result
    }

    /// Sends whole lines, each framed. Returns how many bytes of `bytes` that were.
    fn push_lines(&mut self, bytes: &[u8]) -> (usize, Result<()>) {
        let mut written = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let framed = self.remote.frame(line);
            let framed = framed.as_deref().unwrap_or(line);
            let (sent, result) = self.push(framed);
            if result.is_err() {
                if sent > 0 {
                    self.rest = framed.get(sent..).unwrap_or_default().to_vec();
                }
                return (written, result);
            }
            written += line.len();
        }
        (written, Ok(()))
    }

    /// The whole batch at once.
    fn push_batch(&mut self, bytes: &[u8]) -> (usize, Result<()>) {
        let (sent, result) = self.push(bytes);
        if result.is_ok() {
            return (sent, result);
        }
        let begun = bytes.get(..sent).unwrap_or_default();
        let whole = begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        if sent > whole {
            let left = bytes.get(sent..).unwrap_or_default();
            let end = left.iter().position(|byte| *byte == b'\n').map_or(left.len(), |last| last + 1);
            self.rest = left.get(..end).unwrap_or_default().to_vec();
        }
        (whole, result)
    }

    fn failed(&mut self, written: usize, source: Error) -> Unwritten {
        let fault = match source.kind() {
            ErrorKind::TimedOut => {
                self.hung = true;
                let text = format!("the peer has not read for {:?}", self.patience);
                return Unwritten { written, source: Error::new(ErrorKind::TimedOut, text), fault: Fault::Hopeless };
            }
            ErrorKind::NotConnected => Fault::Hopeless,
            _ if source.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => return Unwritten { written, source, fault: Fault::Line },
            _ => Fault::Place,
        };
        self.drop_link();
        Unwritten { written, source, fault }
    }
}

impl<R: Remote> Writer for LinkWriter<R> {
    fn append(&mut self, bytes: &[u8]) -> std::result::Result<(), Unwritten> {
        if let Err(source) = self.ensure() {
            return Err(Unwritten { written: 0, source, fault: Fault::Hopeless });
        }
        if let Err(error) = self.finish_rest() {
            return Err(self.failed(0, error));
        }
        let framed = self.remote.frame(b"").is_some() || self.link.as_ref().is_some_and(|link| link.framing == Framing::Datagram);
        let (written, result) = if framed { self.push_lines(bytes) } else { self.push_batch(bytes) };
        result.map_err(|error| self.failed(written, error))
    }

    /// Connects anew: also the way to give up a peer that hangs.
    fn reopen(&mut self) -> Result<()> {
        self.drop_link();
        self.backoff = Backoff::default();
        self.ensure()
    }

    fn tend(&mut self) -> Option<Space> {
        // A connection that is back before the next line comes costs that line nothing. Why it is not, the next line says.
        let _said_with_the_next_line = self.ensure().and_then(|()| self.finish_rest());
        None
    }
}

/// What a peer that vanishes can take with it, about.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// Reads in a row that look for the end of a connection.
const READS_MAX: u32 = 16;
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
