//! HTTP/1.1 to one origin over connections that are kept: the way of every STS call.
//!
//! A mint takes the connection of its own runtime that was used last. The settings are those of [`super::http`], where the SDK's own calls go: the
//! same trust, the same proxies, the same rule for addresses of this machine. They are read when the first connection is opened, not before.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use daypass_base::Clock;
use daypass_dial::{Broken, ClientConfig, Line, Peer, Refused, RootCertStore, Roots, Trust};
use http::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::Full;
use tokio::runtime::{Handle, Id};
use tokio::sync::OnceCell;

use super::http::{Way, certificates, way};
use super::sort::shortened;
use crate::Skew;

/// Idle connections are kept as long as AWS's front ends keep them, so that a mint seldom pays for a handshake.
const IDLE_MAX: Duration = Duration::from_secs(90);
/// Connections at rest, per origin.
const REST_MAX: usize = 512;
/// Time for opening a connection; the same as the SDK's own.
const CONNECT_MAX: Duration = Duration::from_millis(3_100);
/// Who is given up earlier says nothing about the connection: a caller may have little time.
const SILENT_MIN: Duration = CONNECT_MAX;
/// Longest answer, in bytes. STS answers with two kilobytes, an error page of a proxy with more.
const ANSWER_MAX: usize = 256 * 1024;

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
    origin: Uri,
    way: Way,
    tls: Tls,
    clock: Arc<dyn Clock>,
    rest: Mutex<Rest>,
    /// By how many milliseconds the other side's clock was ahead when it answered last.
    ahead: AtomicI64,
}

/// Before the first answer.
const NOT_SEEN: i64 = i64::MIN;

/// Connections that wait for a request.
#[derive(Default)]
struct Rest {
    /// With the time since when, the one used last at the end: it is taken first, and the others may grow old.
    lines: Vec<(Duration, Kept)>,
    /// Whether somebody comes by to close what has grown old.
    swept: bool,
}

/// A connection, and the runtime that its socket belongs to.
struct Kept {
    line: Line,
    home: Option<Id>,
}

/// The trust that the environment names for AWS, read once for all origins: it is hundreds of files on some systems, and strangers name origins.
#[derive(Clone, Default)]
pub(super) struct Tls(Arc<OnceCell<Arc<ClientConfig>>>);

impl Tls {
    async fn read() -> Result<Arc<ClientConfig>, String> {
        let found = tokio::task::spawn_blocking(certificates).await.map_err(|error| error.to_string())??;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found);
        daypass_dial::client_config(Roots::of_authorities(roots))
    }
}

impl Trust for Tls {
    /// The reading goes on when its caller's time is over, and others wait for that one: a slow disk is read once too.
    async fn tls(&self, _peer: Peer) -> Result<Arc<ClientConfig>, String> {
        if let Some(read) = self.0.get() {
            return Ok(Arc::clone(read));
        }
        let cell = Arc::clone(&self.0);
        let reading = tokio::spawn(async move { cell.get_or_try_init(Self::read).await.cloned() });
        reading.await.map_err(|error| error.to_string())?
    }
}

/// The runtime that this is called on.
fn home() -> Option<Id> {
    Handle::try_current().ok().map(|runtime| runtime.id())
}

impl Rest {
    /// The connection of this runtime that was used last: one of another runtime's would wake that one for each event.
    fn pop(&mut self, home: Option<Id>) -> Option<(Duration, Kept)> {
        let at = self.lines.iter().rposition(|(_, kept)| kept.home == home)?;
        Some(self.lines.remove(at))
    }
}

/// The least difference of the clocks that explains the time in an answer, a whole second: one that was long on its way says nothing against ours. All in
/// milliseconds since 1970.
fn ahead(theirs: i64, asked: i64, came: i64) -> i64 {
    let (least, most) = (theirs - came, theirs + 999 - asked);
    0.clamp(least, most.max(least))
}

impl Wire {
    /// Notes the time that an answer says, when it was asked for and when it had come; see [`ahead`].
    pub(super) fn notice(&self, theirs: i64, asked: i64, came: i64) {
        self.ahead.store(ahead(theirs, asked, came), Ordering::Relaxed);
    }

    /// By how much its clock differs.
    pub(super) fn skew(&self) -> Option<Skew> {
        let ahead = self.ahead.load(Ordering::Relaxed);
        (ahead != NOT_SEEN).then(|| Skew::seen(ahead))
    }

    /// Nothing is opened yet.
    pub(super) fn new(origin: Uri, tls: Tls, clock: Arc<dyn Clock>) -> Self {
        let way = way(&origin.to_string());
        Self { origin, way, tls, clock, rest: Mutex::default(), ahead: AtomicI64::new(NOT_SEEN) }
    }

    /// Sends what `request` makes, which has a whole URL. A connection that was at rest may have been closed by its peer in this
    /// very moment: then the request is made anew, once, for a fresh one.
    pub(super) async fn send(self: &Arc<Self>, request: impl Fn() -> Result<Request<Full<Bytes>>, String>) -> Result<Answer, Trouble> {
        if let Some(mut kept) = self.take().await {
            let request = request().map_err(Trouble::Settings)?;
            let mut asked = Asked { wire: self, at: self.clock.elapsed(), is_over: false };
            let answer = kept.exchange(request).await;
            asked.is_over = true;
            match answer {
                Ok(answer) => {
                    self.keep(kept).await;
                    return Ok(answer);
                }
                Err(detail) => tracing::debug!(%detail, "a connection to AWS was closed while it was at rest"),
            }
        }
        let mut kept = self.connect().await?;
        let sent = kept.exchange(request().map_err(Trouble::Settings)?).await;
        let answer = sent.map_err(|broken| Trouble::Lost(shortened(broken.to_string())))?;
        self.keep(kept).await;
        Ok(answer)
    }

    async fn connect(&self) -> Result<Kept, Trouble> {
        let opening = async {
            let proxy = if self.way == Way::World { daypass_dial::proxy_of(&self.origin)? } else { None };
            let opened = daypass_dial::open(&self.origin, proxy, CONNECT_MAX, &self.tls).await?;
            Ok(Kept { line: Line::start(opened).await?, home: home() })
        };
        let opened = tokio::select! {
            biased;
            opened = opening => opened,
            () = self.clock.sleep(CONNECT_MAX) => Err(Refused::Nobody(format!("no connection within {CONNECT_MAX:?}"))),
        };
        opened.map_err(|refused| match refused {
            Refused::Settings(detail) => Trouble::Settings(shortened(detail)),
            Refused::Nobody(detail) => Trouble::Unconnected(shortened(detail)),
        })
    }

    /// A connection at rest that is still open.
    async fn take(&self) -> Option<Kept> {
        loop {
            let (since, mut kept) = self.rest().pop(home())?;
            let fresh = self.clock.elapsed().saturating_sub(since) < IDLE_MAX;
            if fresh && kept.line.is_open().await {
                return Some(kept);
            }
        }
    }

    /// Puts a connection to rest, where it can take another request.
    async fn keep(self: &Arc<Self>, mut kept: Kept) {
        if !kept.line.is_open().await {
            return;
        }
        let mut rest = self.rest();
        if rest.lines.len() >= REST_MAX {
            return;
        }
        rest.lines.push((self.clock.elapsed(), kept));
        if !std::mem::replace(&mut rest.swept, true) {
            drop(rest);
            tokio::spawn(sweep(Arc::downgrade(self), Arc::clone(&self.clock)));
        }
    }

    /// Takes away what has been at rest since that moment or longer, to be closed outside of the lock.
    fn at_rest_since(rest: &mut Rest, then: Duration) -> Vec<(Duration, Kept)> {
        let old = rest.lines.iter().take_while(|(since, _)| *since <= then).count();
        rest.lines.drain(..old).collect()
    }

    /// Closes what has been at rest for too long. Says whether something is left.
    fn let_go(&self) -> bool {
        let now = self.clock.elapsed();
        let mut rest = self.rest();
        let gone = now.checked_sub(IDLE_MAX).map(|then| Self::at_rest_since(&mut rest, then));
        rest.swept = !rest.lines.is_empty();
        if !rest.swept {
            rest.lines.shrink_to_fit();
        }
        let left = rest.swept;
        drop(rest);
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

/// A request on a connection that was at rest. Given up after a while without an answer, it has shown that whatever stands between here and there may have
/// forgotten such connections: those that were at rest before it, and gave no answer since, are closed too, so that no other call waits for them.
struct Asked<'a> {
    wire: &'a Wire,
    at: Duration,
    /// With an answer, or with word that the connection broke.
    is_over: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.is_over || self.wire.clock.elapsed().saturating_sub(self.at) < SILENT_MIN {
            return;
        }
        let gone = Wire::at_rest_since(&mut self.wire.rest(), self.at);
        tracing::debug!(count = gone.len(), "AWS does not answer on a connection that was at rest: others like it are closed");
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

impl Kept {
    /// One request and its answer. What is kept of the answer are copies: what still pointed into the connection's buffer would make it take another
    /// one for the next answer.
    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Broken> {
        let (head, body) = self.line.exchange(request, ANSWER_MAX).await?.into_parts();
        let mut headers = HeaderMap::new();
        for name in HEADERS {
            if let Some(value) = head.headers.get(&name).and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok()) {
                headers.insert(name, value);
            }
        }
        Ok(Answer { status: head.status, headers, body: Bytes::copy_from_slice(&body) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Story: each connection to an STS that a stranger had named read all certificates of the system anew, and went on reading when it was given up.
    #[tokio::test]
    async fn the_certificates_are_read_once_for_all() {
        let (tls, peer) = (Tls::default(), || Peer::Origin);
        // Given up at once.
        drop(tokio::time::timeout(Duration::ZERO, tls.tls(peer())).await);
        let (one, other) = tokio::join!(tls.tls(peer()), async { tls.clone().tls(peer()).await });
        assert!(Arc::ptr_eq(&one.unwrap(), &other.unwrap()));
    }

    /// Story: an answer that was held up for five seconds said that AWS's clock is five seconds behind, and `revoke-sessions` spared the sessions of those.
    #[test]
    fn an_answer_that_was_long_on_its_way_says_nothing_against_our_clock() {
        assert_eq!(ahead(100_000, 100_200, 105_300), 0);
        assert_eq!(ahead(100_000, 95_000, 100_500), 0);
        // Ahead by two minutes, behind by two minutes.
        assert_eq!(ahead(220_000, 100_200, 100_300), 119_700);
        assert_eq!(ahead(100_000, 220_200, 225_300), -119_201);
    }
}
