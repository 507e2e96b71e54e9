//! The bytes of a connection, plain or TLS, with a watch on what goes in and out.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;

use crate::delivery::{Deliveries, Heard, Way, has_closed};
use crate::frames::Frames;
use crate::pace::Pace;

/// Anything that HTTP can be spoken over.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + Sync {
    /// Ready when the socket has bytes, has ended or has failed. Only right after a read that had to wait: TLS may hold bytes that the socket has not.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Whether the other end has closed, or its sending half: whoever only listens to a stream and hangs up is told from who listens on.
    fn is_closed(&self) -> bool;
    /// The socket, to be looked at when the connection is over. `None` where the process has no room for one more.
    fn socket(&self) -> Option<OwnedFd>;
}

impl Transport for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            if let Some(found) = found(self.try_io(Interest::READABLE, || peek(self))) {
                return Poll::Ready(found);
            }
        }
    }

    fn is_closed(&self) -> bool {
        has_closed(self)
    }

    fn socket(&self) -> Option<OwnedFd> {
        self.as_fd().try_clone_to_owned().ok()
    }
}

impl Transport for UnixStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            if let Some(found) = found(self.try_io(Interest::READABLE, || peek(self))) {
                return Poll::Ready(found);
            }
        }
    }

    fn is_closed(&self) -> bool {
        has_closed(self)
    }

    fn socket(&self) -> Option<OwnedFd> {
        self.as_fd().try_clone_to_owned().ok()
    }
}

/// tokio takes a new socket for readable until a read says otherwise; believing it would give every silent connection its buffers.
fn peek(socket: impl AsFd) -> io::Result<()> {
    rustix::net::recv(socket, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    Ok(())
}

/// What a peek came upon; `None`: nothing is there yet. Any other error is passed on: looking has taken it from the socket, where a reader would
/// find an end like any other.
fn found(peeked: io::Result<()>) -> Option<io::Result<()>> {
    if peeked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) { None } else { Some(peeked) }
}

impl<T: Transport> Transport for TlsStream<T> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_ref().0.poll_readable(cx)
    }

    fn is_closed(&self) -> bool {
        self.get_ref().0.is_closed()
    }

    fn socket(&self) -> Option<OwnedFd> {
        self.get_ref().0.socket()
    }
}

impl Transport for Box<dyn Transport> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_readable(cx)
    }

    fn is_closed(&self) -> bool {
        (**self).is_closed()
    }

    fn socket(&self) -> Option<OwnedFd> {
        (**self).socket()
    }
}

/// A transport that tells its [`Pace`] what it does.
pub(crate) struct Wire {
    transport: Box<dyn Transport>,
    /// Read earlier, to be read again.
    ahead: Bytes,
    pace: Arc<Pace>,
    protocol: Protocol,
    /// What comes in over HTTP/2.
    frames: Frames,
    open_heads: Arc<Semaphore>,
    /// The place of a head over HTTP/2 that goes on in another frame.
    open_head: Option<OwnedSemaphorePermit>,
    /// Writing to a client that has closed, and the end of the connection, wait for this.
    settling: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Wire {
    /// `open_heads` bounds the heads over HTTP/2 that go on in another frame (see [`crate::room`]).
    pub(crate) fn new(transport: Box<dyn Transport>, protocol: Protocol, pace: Arc<Pace>, open_heads: Arc<Semaphore>) -> Self {
        Self { transport, ahead: Bytes::new(), pace, protocol, frames: Frames::default(), open_heads, open_head: None, settling: None }
    }

    /// Puts back what was read too far, but for empty lines: some clients send a line end behind a body, which is no beginning of a
    /// request (RFC 9112, 2.2), and the connection that they leave may be parked.
    pub(crate) fn put_back(&mut self, mut ahead: Bytes) {
        loop {
            match ahead.as_ref() {
                [b'\r', b'\n', ..] => ahead.advance(2),
                [b'\n', ..] => ahead.advance(1),
                _ => break,
            }
        }
        self.ahead = ahead;
    }

    /// Resolves when there is something to read, which is now if something was put back: a connection is never parked with that.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        if !self.ahead.is_empty() {
            return Ok(());
        }
        std::future::poll_fn(|cx| self.transport.poll_readable(cx)).await.inspect_err(|error| self.broke(error))
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if wire.ahead.is_empty() {
            let before = into.filled().len();
            let room = into.remaining() > 0;
            let read = ready!(Pin::new(&mut wire.transport).poll_read(cx, into));
            read.inspect_err(|error| wire.broke(error))?;
            let read = into.filled().get(before..).unwrap_or_default();
            match wire.protocol {
                _ if read.is_empty() && room => wire.hear(Heard::End),
                Protocol::Http1 if read.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) => wire.pace.bytes_read(),
                Protocol::Http1 => {}
                Protocol::Http2 => {
                    let last = wire.pace.deliveries().map_or(0, |deliveries| deliveries.last());
                    let reset = wire.frames.reset_up_to(last, read);
                    wire.pace.stream_begun(wire.frames.newest());
                    if reset {
                        wire.hear(Heard::Broken);
                    }
                    wire.look_at_head()?;
                }
            }
        } else {
            let take = wire.ahead.len().min(into.remaining());
            if let Some(bytes) = wire.ahead.get(..take) {
                into.put_slice(bytes);
            }
            wire.ahead.advance(take);
            // They are half a head, or they would be a request by now. Unless they count as one, the connection is as idle as before,
            // is parked with them again, and that goes round for ever.
            wire.pace.bytes_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.before_writing(cx));
        let written = Pin::new(&mut self.transport).poll_write(cx, from);
        self.watch(&written);
        written
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.before_writing(cx));
        let written = Pin::new(&mut self.transport).poll_write_vectored(cx, from);
        self.watch(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // HTTP/1 reads nothing while it answers, so nobody else would notice; it comes by here each time it is woken.
        if self.protocol == Protocol::Http1 && self.pace.is_streaming() && self.transport.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
        self.pace.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(deliveries) = self.pace.deliveries().map(Arc::clone) {
            ready!(self.settle(deliveries, cx));
        }
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

impl Wire {
    /// Looks at the socket where such an answer may be among what is written. Where one is being looked after already and its client has closed,
    /// HTTP/2 has to wait with its goodbye: see [`crate::delivery`].
    fn before_writing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deliveries) = self.pace.deliveries() else { return Poll::Ready(()) };
        let client_had_closed = self.transport.is_closed();
        deliveries.about_to_write(|| Some(Way { socket: self.transport.socket()?, client_had_closed }));
        if client_had_closed && deliveries.are_watched() {
            self.pace.write_blocked();
            let deliveries = Arc::clone(deliveries);
            return self.settle(deliveries, cx);
        }
        Poll::Ready(())
    }

    fn settle(&mut self, deliveries: Arc<Deliveries>, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.settling.get_or_insert_with(|| Box::pin(deliveries.settled())).as_mut().poll(cx));
        self.settling = None;
        Poll::Ready(())
    }

    fn watch(&self, written: &Poll<io::Result<usize>>) {
        match written {
            // Over HTTP/2 they may as well be the answer to a ping.
            Poll::Ready(Ok(_)) if self.protocol == Protocol::Http1 => self.pace.bytes_written(),
            // What waits to be written is as good as unflushed.
            Poll::Ready(Ok(_)) | Poll::Pending => self.pace.write_blocked(),
            Poll::Ready(Err(error)) => self.broke(error),
        }
    }

    /// Errors: a head goes on in another frame, and there is no room for one more of that kind.
    fn look_at_head(&mut self) -> io::Result<()> {
        if !self.frames.is_half_head() {
            self.pace.no_half_head();
            self.open_head = None;
            return Ok(());
        }
        self.pace.half_a_head();
        if self.frames.is_open_head() && self.open_head.is_none() {
            let place = Arc::clone(&self.open_heads).try_acquire_owned();
            self.open_head = Some(place.map_err(|_none_left| io::Error::other("too many heads over HTTP/2 wait for their rest"))?);
        }
        Ok(())
    }

    fn hear(&self, heard: Heard) {
        if let Some(deliveries) = self.pace.deliveries() {
            deliveries.hear(heard);
        }
    }

    fn broke(&self, error: &io::Error) {
        // The other is TLS's complaint about a client that closes without a goodbye: many do.
        self.hear(if error.raw_os_error().is_some() { Heard::Broken } else { Heard::End });
    }
}
