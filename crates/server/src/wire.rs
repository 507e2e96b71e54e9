//! The bytes of a connection, plain or TLS, with a watch on what goes in and out.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::pace::Pace;

/// Anything that HTTP can be spoken over.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + Sync {
    /// Ready when the socket has bytes or has ended. Only right after a read that had to wait: TLS may hold bytes that the socket has not.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Whether the other end has closed, or its sending half: whoever only listens to a stream and hangs up is told from who listens on.
    fn is_closed(&self) -> bool;
}

impl Transport for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            if !is_mistaken(self.try_io(Interest::READABLE, || peek(self))) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn is_closed(&self) -> bool {
        hung_up(self)
    }
}

impl Transport for UnixStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            if !is_mistaken(self.try_io(Interest::READABLE, || peek(self))) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn is_closed(&self) -> bool {
        hung_up(self)
    }
}

/// tokio takes a new socket for readable until a read says otherwise; believing it would give every silent connection its buffers.
fn peek(socket: impl AsFd) -> io::Result<()> {
    rustix::net::recv(socket, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    Ok(())
}

fn hung_up(socket: &impl AsFd) -> bool {
    let mut asked = [PollFd::new(socket, PollFlags::RDHUP)];
    // An error is for the writer to find.
    poll(&mut asked, Some(&Timespec::default())).is_ok() && asked.iter().any(|one| !one.revents().is_empty())
}

/// Any other error is for the reader to find.
fn is_mistaken(peeked: io::Result<()>) -> bool {
    peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

impl<T: Transport> Transport for TlsStream<T> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_ref().0.poll_readable(cx)
    }

    fn is_closed(&self) -> bool {
        self.get_ref().0.is_closed()
    }
}

impl Transport for Box<dyn Transport> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_readable(cx)
    }

    fn is_closed(&self) -> bool {
        (**self).is_closed()
    }
}

/// A transport that tells its [`Pace`] what it does.
pub(crate) struct Wire {
    transport: Box<dyn Transport>,
    /// Read earlier, to be read again.
    ahead: Bytes,
    pace: Arc<Pace>,
    protocol: Protocol,
}

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Wire {
    pub(crate) fn new(transport: Box<dyn Transport>, protocol: Protocol, pace: Arc<Pace>) -> Self {
        Self { transport, ahead: Bytes::new(), pace, protocol }
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
        if self.ahead.is_empty() { std::future::poll_fn(|cx| self.transport.poll_readable(cx)).await } else { Ok(()) }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            let before = into.filled().len();
            ready!(Pin::new(&mut self.transport).poll_read(cx, into))?;
            let begins = into.filled().get(before..).is_some_and(|read| read.iter().any(|byte| !matches!(byte, b'\r' | b'\n')));
            if self.protocol == Protocol::Http1 && begins {
                self.pace.bytes_read();
            }
        } else {
            let take = self.ahead.len().min(into.remaining());
            if let Some(bytes) = self.ahead.get(..take) {
                into.put_slice(bytes);
            }
            self.ahead.advance(take);
            // They are half a head, or they would be a request by now. Unless they count as one, the connection is as idle as before,
            // is parked with them again, and that goes round for ever.
            self.pace.bytes_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write(cx, from);
        self.watch(&written);
        written
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
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
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

impl Wire {
    fn watch(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(_)) => self.pace.bytes_written(),
            // Something waits to be written, which is as good as unflushed.
            Poll::Pending => self.pace.write_blocked(),
            Poll::Ready(Err(_)) => {}
        }
    }
}
