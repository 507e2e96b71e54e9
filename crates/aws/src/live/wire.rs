//! HTTP/1.1 to one origin over connections that are kept: the way of every STS call.
//!
//! A connection has no task of its own. The request that uses it drives it, so that nothing is handed from task to task; a connection
//! at rest costs its socket and a small buffer, and whether its peer has closed it is seen when it is taken up again.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use daypass_base::Clock;
use http::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use tokio::runtime::{Handle, Id};

use super::dial::{Dialer, Reader, Refused, Stream};
use super::sort::causes;

/// Idle connections are kept as long as AWS's front ends keep them, so that a mint seldom pays for a handshake.
const IDLE_MAX: Duration = Duration::from_secs(90);
/// Connections at rest, per origin.
const REST_MAX: usize = 512;
/// Time for opening a connection; the same as the SDK's own.
const CONNECT_MAX: Duration = Duration::from_millis(3_100);
/// Longest answer, in bytes. STS answers with two kilobytes, an error page of a proxy with more.
const ANSWER_MAX: usize = 256 * 1024;
/// Bytes kept for reading, per connection.
const BUFFER_MAX: usize = 64 * 1024;

/// The headers of an answer that matter.
const HEADERS: [HeaderName; 4] = [CONTENT_TYPE, DATE, RETRY_AFTER, REQUEST_ID];
/// AWS's request id.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// A whole answer, with those of its headers that matter.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The settings allow no connection, or the request is none: asking again does not help.
    Settings(String),
    /// No connection could be opened.
    Unconnected(String),
    /// The connection broke.
    Lost(String),
}

/// Connections to one origin.
pub(super) struct Wire {
    dialer: Dialer,
    clock: Arc<dyn Clock>,
    rest: Mutex<Rest>,
}

/// Connections that wait for a request.
#[derive(Default)]
struct Rest {
    /// With the time since when, the one used last at the end: it is taken first, and the others may grow old.
    lines: Vec<(Duration, Line)>,
    /// Whether somebody comes by to close what has grown old.
    swept: bool,
}

type Driver = Connection<Box<dyn Stream>, Full<Bytes>>;

/// One connection.
struct Line {
    sender: SendRequest<Full<Bytes>>,
    driver: Pin<Box<Driver>>,
    reader: Reader,
    /// The runtime that its socket belongs to.
    home: Option<Id>,
    /// The driver has come to its end and must not be asked again.
    over: bool,
}

/// The runtime that this is called on.
fn home() -> Option<Id> {
    Handle::try_current().ok().map(|runtime| runtime.id())
}

impl Rest {
    /// The connection of this runtime that was used last: one of another runtime's would wake that one for each event.
    fn pop(&mut self, home: Option<Id>) -> Option<(Duration, Line)> {
        let at = self.lines.iter().rposition(|(_, line)| line.home == home)?;
        Some(self.lines.remove(at))
    }
}

impl Wire {
    /// Nothing is opened yet.
    pub(super) fn new(origin: Uri, clock: Arc<dyn Clock>) -> Self {
        Self { dialer: Dialer::new(origin), clock, rest: Mutex::default() }
    }

    /// Sends what `request` makes, which has a whole URL. A connection that was at rest may have been closed by its peer in this
    /// very moment: then the request is made anew, once, for a fresh one.
    pub(super) async fn send(self: &Arc<Self>, request: impl Fn() -> Result<Request<Full<Bytes>>, String>) -> Result<Answer, Trouble> {
        if let Some(mut line) = self.take().await {
            match line.exchange(request().map_err(Trouble::Settings)?).await {
                Ok(answer) => {
                    self.keep(line).await;
                    return Ok(answer);
                }
                Err(detail) => tracing::debug!(detail, "a connection to AWS was closed while it was at rest"),
            }
        }
        let mut line = self.connect().await?;
        let answer = line.exchange(request().map_err(Trouble::Settings)?).await.map_err(Trouble::Lost)?;
        self.keep(line).await;
        Ok(answer)
    }

    async fn connect(&self) -> Result<Line, Trouble> {
        let opening = async {
            let opened = self.dialer.open(CONNECT_MAX).await?;
            let handshake = http1::Builder::new().max_buf_size(BUFFER_MAX).handshake(opened.stream).await;
            let (sender, driver) = handshake.map_err(|error| Refused::Nobody(causes(&error)))?;
            Ok(Line { sender, driver: Box::pin(driver), reader: opened.reader, home: home(), over: false })
        };
        let opened = tokio::select! {
            biased;
            opened = opening => opened,
            () = self.clock.sleep(CONNECT_MAX) => Err(Refused::Nobody(format!("no connection within {CONNECT_MAX:?}"))),
        };
        opened.map_err(|refused| match refused {
            Refused::Settings(detail) => Trouble::Settings(detail),
            Refused::Nobody(detail) => Trouble::Unconnected(detail),
        })
    }

    /// A connection at rest that is still open.
    async fn take(&self) -> Option<Line> {
        loop {
            let (since, mut line) = self.rest().pop(home())?;
            let fresh = self.clock.elapsed().saturating_sub(since) < IDLE_MAX;
            if fresh && line.is_open().await {
                return Some(line);
            }
        }
    }

    /// Puts a connection to rest, where it can take another request.
    async fn keep(self: &Arc<Self>, mut line: Line) {
        if !line.is_open().await {
            return;
        }
        let mut rest = self.rest();
        if rest.lines.len() >= REST_MAX {
            return;
        }
        rest.lines.push((self.clock.elapsed(), line));
        if !std::mem::replace(&mut rest.swept, true) {
            drop(rest);
            tokio::spawn(sweep(Arc::downgrade(self), Arc::clone(&self.clock)));
        }
    }

    /// Closes what has been at rest for too long. Says whether something is left.
    fn let_go(&self) -> bool {
        let now = self.clock.elapsed();
        let mut rest = self.rest();
        let old = rest.lines.iter().take_while(|(since, _)| now.saturating_sub(*since) >= IDLE_MAX).count();
        let gone: Vec<_> = rest.lines.drain(..old).collect();
        rest.swept = !rest.lines.is_empty();
        if !rest.swept {
            rest.lines.shrink_to_fit();
        }
        let left = rest.swept;
        drop(rest);
        // Closed outside of the lock.
        drop(gone);
        left
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn at_rest(&self) -> usize {
        self.rest().lines.len()
    }
}

/// Comes by for as long as connections are at rest, so that none stays half closed on a quiet server.
async fn sweep(wire: Weak<Wire>, clock: Arc<dyn Clock>) {
    loop {
        clock.sleep(IDLE_MAX).await;
        if !wire.upgrade().is_some_and(|wire| wire.let_go()) {
            return;
        }
    }
}

impl Line {
    /// Whether the connection can take a request now. Looks once and does not wait.
    async fn is_open(&mut self) -> bool {
        poll_fn(|cx| {
            self.over = self.over || self.driver.as_mut().poll(cx).is_ready();
            Poll::Ready(!self.over && self.sender.is_ready())
        })
        .await
    }

    async fn exchange(&mut self, mut request: Request<Full<Bytes>>) -> Result<Answer, String> {
        self.address(&mut request);
        let sent = self.sender.send_request(request);
        let response = self.driven(sent).await.map_err(|error| causes(&error))?;
        let (head, body) = response.into_parts();
        let body = self.driven(Limited::new(body, ANSWER_MAX).collect()).await;
        let body = body.map_err(|error| causes(error.as_ref()))?.to_bytes();
        // Copies: what still pointed into the connection's buffer would make it take another one for the next answer.
        let mut headers = HeaderMap::new();
        for name in HEADERS {
            if let Some(value) = head.headers.get(&name).and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok()) {
                headers.insert(name, value);
            }
        }
        Ok(Answer { status: head.status, headers, body: Bytes::copy_from_slice(&body) })
    }

    /// A server is sent the path alone; a proxy the whole URL.
    fn address(&self, request: &mut Request<Full<Bytes>>) {
        match &self.reader {
            Reader::Origin => {
                let path = request.uri().path_and_query().cloned();
                *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
            }
            Reader::Proxy(authorization) => {
                if let Some(value) = authorization {
                    request.headers_mut().insert(http::header::PROXY_AUTHORIZATION, value.clone());
                }
            }
        }
    }

    /// Waits for `work`, which comes from this connection, and drives the connection meanwhile.
    async fn driven<W: Future>(&mut self, work: W) -> W::Output {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            // How a connection ends reaches the work that waits on it.
            self.over = self.over || self.driver.as_mut().poll(cx).is_ready();
            work.as_mut().poll(cx)
        })
        .await
    }
}
