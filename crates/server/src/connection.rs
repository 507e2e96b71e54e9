//! One connection, from accept to close.
//!
//! HTTP/1 is spoken in turns: hyper has the socket while requests come; after a quiet moment hyper and its buffers are dropped and the
//! socket alone waits for the next byte ("parked"). HTTP/2 has state that cannot be dropped, so it is never parked.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use daypass_base::client_chain::TooLong;
use daypass_base::{BoxFuture, ClientChain, Clock};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::listener::Socket;
use crate::pace::{Pace, Verdict};
use crate::request::{Handler, Session, Shared};
use crate::room::Own;
use crate::tls::ALPN_HTTP2;
use crate::wire::{Protocol, Transport, Wire};
use crate::{Limits, Peer, Reloader, TlsFacts};

/// Serves a connection, whose state is `pace`, until either side ends it. `stop` becoming true ends it after the request in flight.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    socket: Socket,
    peer: Peer,
    tls: Option<Arc<Reloader>>,
    pace: Arc<Pace>,
    stop: watch::Receiver<bool>,
) {
    let session = |protocol, tls| {
        let streams = (protocol == Protocol::Http2).then(|| Arc::new(Semaphore::new(shared.limits.streams.try_into().unwrap_or(1))));
        let (shared, pace) = (Arc::clone(&shared), Arc::clone(&pace));
        let room = Arc::new(Own::new(protocol, &shared.room));
        Arc::new(Session { shared, pace, peer, tls, protocol, streams, room })
    };
    let wire = |transport, protocol| Wire::new(transport, protocol, Arc::clone(&pace), Arc::clone(&shared.room.open_heads));
    let Some(tls) = tls else {
        let transport: Box<dyn Transport> = match socket {
            Socket::Tcp(stream) => Box::new(stream),
            Socket::Unix(stream) => Box::new(stream),
        };
        return http1(wire(transport, Protocol::Http1), session(Protocol::Http1, None), stop, Start::Wait).await;
    };
    let shaken = Box::pin(handshake(socket, &peer, &tls, &shared.limits, &pace, stop.clone())).await;
    let Some((transport, facts, protocol)) = shaken else { return };
    let wire = wire(transport, protocol);
    let session = session(protocol, Some(Arc::new(facts)));
    match protocol {
        // What the client sent right behind its handshake may be in TLS's buffer: no wait for the socket.
        Protocol::Http1 => http1(wire, session, stop, Start::Now).await,
        Protocol::Http2 => Box::pin(http2(wire, session, stop)).await,
    }
}

async fn handshake(
    socket: Socket,
    peer: &Peer,
    tls: &Reloader,
    limits: &Limits,
    pace: &Pace,
    mut stop: watch::Receiver<bool>,
) -> Option<(Box<dyn Transport>, TlsFacts, Protocol)> {
    let shake = async {
        match socket {
            Socket::Tcp(stream) => shake_tcp(stream, tls, limits, pace).await,
            Socket::Unix(stream) => {
                poll_fn(|cx| stream.poll_readable(cx)).await?;
                pace.handshake_begun();
                shake(stream, tls).await
            }
        }
    };
    tokio::select! {
        biased;
        () = stopped(&mut stop) => None,
        // Before the handshake: one that always has something to read uses up the task's turn, and a timer that comes after it never rings.
        () = pace.clock().sleep(limits.handshake_timeout) => None,
        shaken = shake => match shaken {
            Ok(shaken) => {
                pace.handshake_over();
                Some(shaken)
            }
            Err(error) => {
                tell(&error, peer, tls, pace.clock().elapsed());
                None
            }
        },
    }
}

/// A certificate that is not taken breaks its connection off, and many a client says no more than that: here is the reason. Anything else that goes wrong
/// is mostly strangers trying ports.
fn tell(error: &io::Error, peer: &Peer, tls: &Reloader, now: Duration) {
    let inner = error.get_ref();
    let refused = inner.is_some_and(|inner| {
        inner.is::<TooLong>() || matches!(inner.downcast_ref(), Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented))
    });
    if let Some(left_out) = refused.then(|| tls.refusals.may_tell(now, crate::TOLD_EVERY)).flatten() {
        tracing::info!(%error, client = ?peer, left_out, "a client's certificate was not taken, and its connection ended");
    } else {
        tracing::debug!(%error, "a TLS handshake failed");
    }
}

/// Looks at the first byte: an HTTP request on a TLS port gets an answer that says so, and a client that says nothing costs no TLS buffers.
async fn shake_tcp(
    mut stream: TcpStream,
    tls: &Reloader,
    limits: &Limits,
    pace: &Pace,
) -> io::Result<(Box<dyn Transport>, TlsFacts, Protocol)> {
    let mut first = [0];
    let peeked = stream.peek(&mut first).await?;
    pace.handshake_begun();
    if peeked > 0 && first.iter().all(u8::is_ascii_alphabetic) {
        stream.write_all(PLAIN_ON_TLS).await?;
        let goodbye = async {
            if stream.shutdown().await.is_ok() {
                drain(&mut stream).await;
            }
        };
        tokio::select! {
            () = goodbye => {}
            () = pace.clock().sleep(limits.linger) => {}
        }
        return Err(io::Error::new(io::ErrorKind::InvalidData, "plain HTTP on a TLS listener"));
    }
    shake(stream, tls).await
}

async fn shake<T: Transport + 'static>(stream: T, tls: &Reloader) -> io::Result<(Box<dyn Transport>, TlsFacts, Protocol)> {
    let stream: TlsStream<T> = TlsAcceptor::from(tls.config()).accept(stream).await?;
    let session = stream.get_ref().1;
    let certificates = session.peer_certificates().unwrap_or_default().iter().map(AsRef::as_ref);
    let client_chain = ClientChain::of(certificates).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let facts = TlsFacts { client_chain: Arc::new(client_chain), server_name: session.server_name().map(str::to_owned) };
    let protocol = if session.alpn_protocol() == Some(ALPN_HTTP2) { Protocol::Http2 } else { Protocol::Http1 };
    Ok((Box::new(stream), facts, protocol))
}

/// Whether HTTP/1 begins with a wait for bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Now,
    Wait,
}

async fn http1(mut wire: Wire, session: Arc<Session>, mut stop: watch::Receiver<bool>, mut start: Start) {
    loop {
        if start == Start::Wait && !wait_for_bytes(&wire, &session, &mut stop).await {
            break;
        }
        // Boxed, so that a parked connection does not carry room for it.
        let (back, end) = Box::pin(speak_http1(wire, &session, &mut stop)).await;
        wire = back;
        if end != End::Parked {
            break;
        }
        start = Start::Wait;
    }
    Box::pin(close(wire, &session)).await;
}

/// False when the connection is to end instead.
async fn wait_for_bytes(wire: &Wire, session: &Session, stop: &mut watch::Receiver<bool>) -> bool {
    let pace = &session.pace;
    let patience = pace.patience(&session.shared.limits);
    tokio::select! {
        biased;
        () = stopped(stop) => false,
        readable = wire.readable() => readable.is_ok(),
        () = pace.clock().sleep(patience) => false,
    }
}

async fn speak_http1(wire: Wire, session: &Arc<Session>, stop: &mut watch::Receiver<bool>) -> (Wire, End) {
    let limits = &session.shared.limits;
    let buffer = limits.header_bytes.max(HYPER_BUFFER_MIN);
    let mut builder = http1::Builder::new();
    // Timeouts are `Pace`'s: hyper's counts the wait between two requests as time for the next head. A client that closes its sending
    // half still reads, and handlers run to their end anyway, so nobody needs to listen for it.
    builder.header_read_timeout(None).half_close(true).max_header_size(buffer).max_buf_size(buffer).max_headers(limits.headers);
    let mut connection = builder.serve_connection(TokioIo::new(wire), Handler(Arc::clone(session)));
    let end = watch_over(&mut connection, session, stop, Parking::Allowed).await;
    let parts = connection.into_parts();
    let mut wire = parts.io.into_inner();
    wire.put_back(parts.read_buf);
    (wire, end)
}

async fn http2(wire: Wire, session: Arc<Session>, mut stop: watch::Receiver<bool>) {
    let limits = &session.shared.limits;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .max_concurrent_streams(limits.streams)
        .max_pending_accept_reset_streams(limits.stream_resets)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX));
    let mut connection = builder.serve_connection(TokioIo::new(wire), Handler(Arc::clone(&session)));
    watch_over(&mut connection, &session, &mut stop, Parking::Impossible).await;
}

/// How a turn of HTTP ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By the client, by an error, or because it was told to.
    Closed,
    /// Its time was up.
    Cut,
    /// Quietly, to be taken up again.
    Parked,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Parking {
    Allowed,
    Impossible,
}

/// hyper's two kinds of connection.
trait Talk {
    fn poll_talk(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>>;
    fn finish(&mut self);
}

impl Talk for http1::Connection<TokioIo<Wire>, Handler> {
    fn poll_talk(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.poll_without_shutdown(cx)
    }

    fn finish(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

impl Talk for http2::Connection<TokioIo<Wire>, Handler, TokioExecutor> {
    fn poll_talk(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Pin::new(self).poll(cx)
    }

    fn finish(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

/// Lets hyper talk, and ends it when it is time.
async fn watch_over(talk: &mut impl Talk, session: &Session, stop: &mut watch::Receiver<bool>, parking: Parking) -> End {
    let limits = &session.shared.limits;
    let pace = &session.pace;
    let mut alarm = Alarm { clock: Arc::clone(pace.clock()), armed: None };
    let mut stopping = std::pin::pin!(stopped(stop));
    let mut finishing = false;
    let mut goodbye: Option<Duration> = None;
    poll_fn(|cx| {
        loop {
            loop {
                let talked = talk.poll_talk(cx);
                pace.turn_over(&session.shared.running);
                if let Poll::Ready(ended) = talked {
                    if let Err(error) = ended {
                        tracing::debug!(%error, peer = ?session.peer, "a connection ended with an error");
                    }
                    return Poll::Ready(End::Closed);
                }
                if finishing || stopping.as_mut().poll(cx).is_pending() {
                    break;
                }
                finishing = true;
                pace.finish();
                if parking == Parking::Allowed && pace.is_quiet() {
                    return Poll::Ready(End::Closed);
                }
                talk.finish();
            }
            loop {
                let look_again = match pace.verdict(limits) {
                    // Over HTTP/2 an idle client is told, and what it has sent meanwhile is answered. Over HTTP/1 there is nothing to say.
                    Verdict::Cut if goodbye.is_none() && !finishing && parking == Parking::Impossible && pace.is_quiet() => {
                        goodbye = Some(pace.clock().elapsed() + limits.linger);
                        talk.finish();
                        break;
                    }
                    Verdict::Cut => match goodbye.filter(|until| pace.clock().elapsed() < *until) {
                        Some(until) => until,
                        None => return Poll::Ready(End::Cut),
                    },
                    Verdict::Park if parking == Parking::Allowed => return Poll::Ready(End::Parked),
                    Verdict::Wait(until) => until,
                    // Talking shows whether anybody listens on.
                    Verdict::Busy(until) if pace.is_streaming() => until.min(pace.clock().elapsed() + LOOK_AT_LISTENER),
                    Verdict::Busy(until) => until,
                    Verdict::Park => pace.cut_at(limits),
                };
                if alarm.poll_at(look_again, cx).is_pending() {
                    return Poll::Pending;
                }
                if pace.is_streaming() {
                    break;
                }
            }
        }
    })
    .await
}

/// A timer that is set anew only when it has rung or must ring sooner: a busy connection leaves it alone.
struct Alarm {
    clock: Arc<dyn Clock>,
    armed: Option<(Duration, BoxFuture<'static, ()>)>,
}

impl Alarm {
    /// Ready at `at` or before.
    fn poll_at(&mut self, at: Duration, cx: &mut Context<'_>) -> Poll<()> {
        if self.armed.as_ref().is_none_or(|(armed, _)| *armed > at) {
            self.armed = Some((at, self.clock.sleep(at.saturating_sub(self.clock.elapsed()))));
        }
        let rung = self.armed.as_mut().is_none_or(|(_, timer)| timer.as_mut().poll(cx).is_ready());
        if rung {
            self.armed = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// Says goodbye.
async fn close(mut wire: Wire, session: &Session) {
    let goodbye = async {
        if wire.shutdown().await.is_ok() && session.pace.left_unread() {
            drain(&mut wire).await;
        }
    };
    tokio::select! {
        () = goodbye => {}
        () = session.pace.clock().sleep(session.shared.limits.linger) => {}
    }
}

/// Reads what a client is still sending that was refused: it would otherwise get a reset before it has read why.
async fn drain(stream: &mut (impl AsyncRead + Unpin)) {
    let mut sink = vec![0; 16 * 1024];
    while stream.read(&mut sink).await.is_ok_and(|bytes| bytes > 0) {}
}

/// Resolves when the server stops, also when it is gone already.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _gone = stop.wait_for(|stop| *stop).await;
}

/// How often a client of a stream is looked at, while there is nothing to send to it.
const LOOK_AT_LISTENER: Duration = Duration::from_secs(5);
/// hyper refuses a smaller one.
const HYPER_BUFFER_MIN: usize = 8192;
/// Go's servers answer these words, which people search for.
const PLAIN_ON_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 48\r\nConnection: close\r\n\r\n\
    Client sent an HTTP request to an HTTPS server.\n";
