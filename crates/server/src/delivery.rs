//! What became of answers that somebody waits to hear of ([`Receipt`]): written is not received.
//!
//! A socket takes bytes for a client that has hung up; only what its machine says to them tells. So after such an answer was written the socket
//! is looked at once more a moment later: a machine whose client was gone, or closed without having read, has sent a reset by then, and one that
//! does not say a word makes the kernel give up. Whoever holds a receipt is told only when neither happened. Sooner than that moment tells only a
//! client on this machine that closes behind the answer: without a reset it has read everything. What a client sent or closed before proves
//! nothing, and neither do more bytes from it: it may send its next request without having read the answer. Nothing is written to a client that
//! has closed meanwhile, not even TLS's goodbye: the reset that this may bring would say nothing about the answer.
//!
//! Over HTTP/2 an answer may wait for its client's window while others are flushed. So it counts as written only when HTTP had room for its last
//! byte (`request::Receipted`) and has then had a turn that left nothing to flush; a stream that is reset later, as by a client that has given up
//! waiting, counts as a broken connection ([`crate::frames`]).

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daypass_base::{Clock, Receipt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{getpeername, getsockname, sockopt};
use tokio::sync::watch;

use crate::request::{Apart, Running};

/// The answers of one connection that have a receipt. Most connections have none of this.
#[derive(Default)]
pub(crate) struct Deliveries {
    waiting: Mutex<Waiting>,
    /// How many are being looked after.
    watched: watch::Sender<usize>,
    /// What came from the client since such an answer was on its way.
    heard: watch::Sender<Heard>,
    /// The newest stream that the client had begun over HTTP/2 when such an answer was last handed over: those after it are none of such an answer,
    /// and what becomes of them says nothing. A proxy has other clients' requests there.
    last: AtomicU32,
}

/// Answers that HTTP has and that are not known to be written.
#[derive(Default)]
struct Waiting {
    receipts: Vec<Receipt>,
    /// Where the last bytes of them went.
    way: Option<Way>,
}

/// A socket as it was just before something was written to it.
pub(crate) struct Way {
    pub(crate) socket: OwnedFd,
    /// The client had closed already, or its sending half: that says nothing about what is written now.
    pub(crate) client_had_closed: bool,
}

/// What came from a client behind an answer. Bytes are none of it: whoever sends its next request may not have read the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Heard {
    #[default]
    Nothing,
    /// It has closed its half.
    End,
    /// Reading from the socket or writing to it has failed, or the client takes no more of an HTTP/2 stream. Whoever met the error has taken
    /// it from there, so it is not to be found any more.
    Broken,
}

impl Deliveries {
    /// HTTP has the last byte of such an answer, and nothing but the socket holds it up. `newest`: the newest stream that the client has begun.
    pub(crate) fn hand_over(&self, receipt: Receipt, newest: u32) {
        let mut waiting = self.waiting();
        if waiting.receipts.is_empty() && !self.are_watched() {
            // Of another stream of HTTP/2.
            self.heard.send_replace(Heard::Nothing);
        }
        self.last.store(newest, Ordering::Relaxed);
        waiting.receipts.push(receipt);
    }

    /// Something is about to be written, with which such an answer may end. To be called before each write.
    pub(crate) fn about_to_write(&self, way: impl FnOnce() -> Option<Way>) {
        let mut waiting = self.waiting();
        if !waiting.receipts.is_empty() {
            waiting.way = way();
        }
    }

    /// HTTP has had its turn since it got them, and all that it had is written: their fate is found out, in a task of its own that ends within
    /// [`LOOK_AFTER`].
    pub(crate) fn written(self: &Arc<Self>, clock: &Arc<dyn Clock>, running: &Arc<Running>) {
        let waiting = std::mem::take(&mut *self.waiting());
        // Nothing was written, or there is no socket to look at: they are dropped, and nobody is told that an answer arrived.
        let Some(way) = waiting.way.filter(|_| !waiting.receipts.is_empty()) else { return };
        self.watched.send_modify(|watched| *watched += 1);
        let (apart, looking) = (Apart::begin(running), Arc::clone(self).look_after(way, waiting.receipts, Arc::clone(clock)));
        // Owned by `Server::shutdown`, which waits for `Running`: what came of an answer is not lost with the process.
        drop(tokio::spawn(async move {
            looking.await;
            drop(apart);
        }));
    }

    pub(crate) fn hear(&self, heard: Heard) {
        self.heard.send_if_modified(|before| {
            let more = heard > *before;
            *before = heard.max(*before);
            more
        });
    }

    /// The last stream of HTTP/2 that may be that of such an answer.
    pub(crate) fn last(&self) -> u32 {
        self.last.load(Ordering::Relaxed)
    }

    /// Whether anything is being looked after.
    pub(crate) fn are_watched(&self) -> bool {
        *self.watched.borrow() > 0
    }

    /// Resolves when nothing is being looked after.
    pub(crate) async fn settled(self: Arc<Self>) {
        let mut watched = self.watched.subscribe();
        // It cannot fail: the sender is held here.
        let _settled = watched.wait_for(|watched| *watched == 0).await;
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look_after(self: Arc<Self>, way: Way, receipts: Vec<Receipt>, clock: Arc<dyn Clock>) {
        let socket = &way.socket;
        // A unix socket has no such thing and needs none: what was written is with the client.
        let _no_tcp = sockopt::set_tcp_user_timeout(socket, UNANSWERED_MS);
        let mut hearing = self.heard.subscribe();
        let enough = async {
            // TLS may have said goodbye long before the client closes, or before the answer.
            let closed = is_local(socket)
                && !way.client_had_closed
                && hearing.wait_for(|heard| *heard != Heard::Nothing).await.is_ok_and(|heard| *heard == Heard::End)
                && has_closed(socket);
            if closed {
                clock.sleep(LOOK_AFTER_END).await;
            } else {
                let _told = hearing.wait_for(|heard| *heard == Heard::Broken).await;
            }
        };
        // A client of this machine that was gone has brought the error already.
        let mut arrived = is_well(socket);
        if arrived {
            tokio::select! {
                () = clock.sleep(LOOK_AFTER) => {}
                () = enough => {}
            }
        }
        let _no_tcp = sockopt::set_tcp_user_timeout(socket, 0);
        arrived = arrived && is_well(socket) && *self.heard.borrow() != Heard::Broken;
        if arrived {
            receipts.into_iter().for_each(Receipt::delivered);
        }
        self.watched.send_modify(|watched| *watched = watched.saturating_sub(1));
    }
}

/// Whether the other end has closed, or its sending half.
pub(crate) fn has_closed(socket: impl AsFd) -> bool {
    let mut asked = [PollFd::new(&socket, PollFlags::RDHUP)];
    // An error is for the writer to find.
    poll(&mut asked, Some(&Timespec::default())).is_ok() && asked.iter().any(|one| !one.revents().is_empty())
}

/// Whether the connection has not failed.
fn is_well(socket: &OwnedFd) -> bool {
    // Looking takes the error away, as reading and writing do. But a TCP connection that was reset or given up is closed in both directions, and
    // that stays; nobody closes this end meanwhile. A unix socket is so whenever the client has closed it.
    let is_tcp = getsockname(socket).is_ok_and(|here| SocketAddr::try_from(here).is_ok());
    let closed = PollFlags::HUP | PollFlags::ERR;
    let mut asked = [PollFd::new(socket, PollFlags::empty())];
    let polled = poll(&mut asked, Some(&Timespec::default())).is_ok();
    let stands = polled && !asked.iter().any(|one| is_tcp && one.revents().intersects(closed));
    stands && matches!(sockopt::socket_error(socket), Ok(Ok(())))
}

/// Whether the client is on this machine: what happens to bytes for it is decided before the write returns, or soon after.
fn is_local(socket: &OwnedFd) -> bool {
    let Ok(here) = getsockname(socket).map(SocketAddr::try_from) else { return false };
    // A unix socket has no such address.
    let Ok(here) = here else { return true };
    let there = getpeername(socket).ok().flatten().and_then(|there| SocketAddr::try_from(there).ok());
    there.is_some_and(|there| there.ip() == here.ip())
}

/// How long a client's machine may leave the bytes of such an answer unacknowledged, from the first time that they are sent again, before the
/// connection is given up.
const UNANSWERED_MS: u32 = 2000;
/// When the socket is looked at: after that time and what comes before it, which is three round trips on a new connection.
const LOOK_AFTER: Duration = Duration::from_secs(5);
/// After the end of a client on this machine, for a reset that a busy machine has still to deliver: the client may have closed before the answer.
const LOOK_AFTER_END: Duration = Duration::from_millis(10);
