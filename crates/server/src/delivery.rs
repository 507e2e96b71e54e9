//! What became of answers that somebody waits to hear of ([`Receipt`]): written is not received.
//!
//! A socket takes bytes for a client that has hung up; only what its machine says to them tells. So after such an answer was flushed the socket
//! is looked at once more a moment later: a machine whose client was gone, or closed without having read, has sent a reset by then, and one that
//! does not say a word makes the kernel give up. Whoever holds a receipt is told only when neither happened. Sooner than that moment tells a client
//! that asks for something else, and one on this machine that closes: without a reset it has read everything. Nothing is written to the client
//! meanwhile, not even TLS's goodbye: the reset that this may bring would say nothing about the answer.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daypass_base::{Clock, Receipt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{getpeername, getsockname, sockopt};
use tokio::sync::watch;

/// The answers of one connection that have a receipt. Most connections have none of this.
#[derive(Default)]
pub(crate) struct Deliveries {
    /// Of answers that HTTP has and that are not flushed yet.
    handed_over: Mutex<Vec<Receipt>>,
    /// How many are being looked after.
    watched: watch::Sender<usize>,
    /// What came from the client since the last answer was flushed, or its end.
    heard: watch::Sender<Heard>,
}

/// What came from a client behind an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Heard {
    #[default]
    Nothing,
    /// It has closed its half.
    End,
    /// It asks for something else.
    Bytes,
    /// Reading from the socket or writing to it has failed. Whoever met the error has taken it from there, so it is not to be found any more.
    Broken,
}

impl Deliveries {
    /// HTTP has the last byte of such an answer.
    pub(crate) fn hand_over(&self, receipt: Receipt) {
        self.handed_over.lock().unwrap_or_else(PoisonError::into_inner).push(receipt);
    }

    /// All that HTTP had is written to this socket: their fate is found out, in a task of its own that ends within [`LOOK_AFTER`].
    pub(crate) fn flushed(self: &Arc<Self>, socket: impl FnOnce() -> Option<OwnedFd>, clock: &Arc<dyn Clock>) {
        let receipts = std::mem::take(&mut *self.handed_over.lock().unwrap_or_else(PoisonError::into_inner));
        // Without a socket to look at they are dropped: nobody is told that an answer arrived.
        let Some(socket) = (!receipts.is_empty()).then(socket).flatten() else { return };
        self.watched.send_modify(|watched| *watched += 1);
        self.heard.send_if_modified(|heard| {
            let bytes = *heard == Heard::Bytes;
            if bytes {
                *heard = Heard::Nothing;
            }
            bytes
        });
        drop(tokio::spawn(Arc::clone(self).look_after(socket, receipts, Arc::clone(clock))));
    }

    /// Something came from the client, over HTTP/1: HTTP/2 has frames that say nothing.
    pub(crate) fn hear(&self, heard: Heard) {
        self.heard.send_if_modified(|before| {
            let more = heard > *before;
            *before = heard.max(*before);
            more
        });
    }

    /// Resolves when nothing is being looked after.
    pub(crate) async fn settled(self: Arc<Self>) {
        let mut watched = self.watched.subscribe();
        // It cannot fail: the sender is held here.
        let _settled = watched.wait_for(|watched| *watched == 0).await;
    }

    async fn look_after(self: Arc<Self>, socket: OwnedFd, receipts: Vec<Receipt>, clock: Arc<dyn Clock>) {
        // A unix socket has no such thing and needs none: what was written is with the client.
        let _no_tcp = sockopt::set_tcp_user_timeout(&socket, UNANSWERED_MS);
        let (local, mut hearing) = (is_local(&socket), self.heard.subscribe());
        let enough = async {
            if local && hearing.wait_for(|heard| *heard != Heard::Nothing).await.is_ok_and(|heard| *heard == Heard::End) {
                clock.sleep(LOOK_AFTER_END).await;
            } else {
                let _told = hearing.wait_for(|heard| *heard >= Heard::Bytes).await;
            }
        };
        // A client of this machine that was gone has brought the error already.
        let is_well = || is_well(&socket);
        let mut arrived = is_well();
        if arrived {
            tokio::select! {
                () = clock.sleep(LOOK_AFTER) => {}
                () = enough => {}
            }
        }
        let _no_tcp = sockopt::set_tcp_user_timeout(&socket, 0);
        arrived = arrived && is_well() && *self.heard.borrow() != Heard::Broken;
        if arrived {
            receipts.into_iter().for_each(Receipt::delivered);
        }
        self.watched.send_modify(|watched| *watched = watched.saturating_sub(1));
    }
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

/// How long a client's machine may leave the bytes of such an answer unacknowledged, before the connection is given up.
const UNANSWERED_MS: u32 = 3000;
/// When the socket is looked at: after that time, with some room.
const LOOK_AFTER: Duration = Duration::from_secs(4);
/// After the end of a client on this machine, for a reset that a busy machine has still to deliver: the client may have closed before the answer.
const LOOK_AFTER_END: Duration = Duration::from_millis(10);
