//! Taking connections, and ending them: the one owner of every connection's task.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use daypass_base::{Clock, Connections, Rare};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};

use crate::lanes::Lanes;
use crate::listener::{Parted, Socket};
use crate::pace::Pace;
use crate::request::{Running, Shared};
use crate::room::OfAll;
use crate::slots::Slots;
use crate::{Limits, Listener, Peer, Reloader, Service, connection};

/// A listener with what it needs to serve.
pub struct Bound {
    /// Where connections come from.
    pub listener: Listener,
    /// Its certificates; `None`: plain HTTP/1.1.
    pub tls: Option<Arc<Reloader>>,
    /// What it grants.
    pub limits: Limits,
}

/// Listeners being served. Dropping it cuts everything off; [`Server::shutdown`] is the kind way.
pub struct Server {
    clock: Arc<dyn Clock>,
    running: Arc<Running>,
    stop: watch::Sender<bool>,
    loops: Vec<JoinHandle<usize>>,
    deadline: watch::Sender<Option<Duration>>,
    /// Kept until `shutdown` has waited for what runs on them: with its last owner a lane ends, and all that is on it.
    _lanes: Arc<Lanes>,
}

impl Server {
    /// Serves `listeners` with `service`, connections on `lanes`, and counts these. Needs a tokio runtime, which takes connections.
    pub fn start(
        listeners: Vec<Bound>,
        service: Arc<dyn Service>,
        clock: Arc<dyn Clock>,
        lanes: Arc<Lanes>,
        counts: &Arc<Connections>,
    ) -> Self {
        let (stop, _) = watch::channel(false);
        let (deadline, _) = watch::channel(None);
        let running = Arc::new(Running::default());
        let serve = |bound: Bound| {
            let shared = Arc::new(Shared {
                service: Arc::clone(&service),
                room: Arc::new(OfAll::new(&bound.limits)),
                requests: Arc::new(Semaphore::new(bound.limits.requests.clamp(1, Semaphore::MAX_PERMITS))),
                running: Arc::clone(&running),
                limits: bound.limits,
            });
            let acceptor = Acceptor {
                listener: bound.listener,
                tls: bound.tls,
                shared,
                clock: Arc::clone(&clock),
                lanes: Arc::clone(&lanes),
                counts: Arc::clone(counts),
                full: Rare::default(),
                stop: stop.subscribe(),
                deadline: deadline.subscribe(),
            };
            tokio::spawn(acceptor.run())
        };
        let loops = listeners.into_iter().map(serve).collect();
        Self { clock, running, stop, loops, deadline, _lanes: lanes }
    }

    /// Stops accepting, closes idle connections, and lets requests in flight end until `grace` has passed. Returns how many
    /// connections were cut off.
    pub async fn shutdown(self, grace: Duration) -> usize {
        let end = self.clock.elapsed() + grace;
        self.deadline.send_replace(Some(end));
        self.stop.send_replace(true);
        let mut cut = 0;
        for one in self.loops {
            cut += one.await.unwrap_or_else(|error| {
                log_panic(&error);
                0
            });
        }
        let left = end.saturating_sub(self.clock.elapsed());
        tokio::select! {
            biased;
            () = self.running.none_apart() => {}
            () = self.clock.sleep(left) => {}
        }
        cut
    }
}

struct Acceptor {
    listener: Listener,
    tls: Option<Arc<Reloader>>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    lanes: Arc<Lanes>,
    counts: Arc<Connections>,
    /// Lines that say that all connections are taken.
    full: Rare,
    stop: watch::Receiver<bool>,
    deadline: watch::Receiver<Option<Duration>>,
}

impl Acceptor {
    async fn run(mut self) -> usize {
        let mut connections = JoinSet::new();
        let mut slots = Slots::new(self.shared.limits.connections, Arc::clone(&self.counts));
        // Came while all were taken: one is let in before there is room for it, which tells that room is wanted. Others wait in the kernel's queue.
        let mut guest: Option<(Socket, Peer)> = None;
        let mut backoff = Backoff::default();
        let mut stop = self.stop.clone();
        loop {
            tokio::select! {
                biased;
                () = connection::stopped(&mut stop) => break,
                Some(ended) = connections.join_next_with_id() => slots.leave(match ended {
                    Ok((connection, ())) => connection,
                    Err(error) => {
                        log_panic(&error);
                        error.id()
                    }
                }),
                () = self.clock.sleep(LOOK_AGAIN), if guest.is_some() => self.make_room(&mut slots),
                accepted = poll_fn(|cx| self.listener.poll_accept(cx)), if guest.is_none() => match accepted {
                    Ok(came) => {
                        backoff = Backoff::default();
                        guest = Some(came);
                        if slots.are_taken() {
                            self.make_room(&mut slots);
                        }
                    }
                    Err(error) => if let Some(pause) = backoff.after(&error) {
                        tracing::warn!(%error, listener = self.listener.address(), pause_ms = pause.as_millis(), "cannot accept connections");
                        tokio::select! {
                            () = connection::stopped(&mut stop) => {}
                            () = self.clock.sleep(pause) => {}
                        }
                    },
                },
            }
            if !slots.are_taken()
                && let Some((socket, peer)) = guest.take()
            {
                self.spawn(&mut connections, &mut slots, socket, peer);
            }
        }
        drop(guest);
        // The socket closes now: clients that come from here on are refused, or taken by the next process.
        drop(self.listener);
        let end = self.deadline.borrow_and_update().unwrap_or_default();
        let grace = self.clock.sleep(end.saturating_sub(self.clock.elapsed()));
        tokio::select! {
            biased;
            () = async { while connections.join_next().await.is_some() {} } => {}
            () = grace => {}
        }
        // What has ended meanwhile was not cut off.
        while connections.try_join_next().is_some() {}
        let cut = connections.len();
        connections.shutdown().await;
        cut
    }

    fn spawn(&self, connections: &mut JoinSet<()>, slots: &mut Slots, socket: Socket, peer: Peer) {
        let (shared, tls, stop) = (Arc::clone(&self.shared), self.tls.clone(), self.stop.clone());
        let pace = Arc::new(Pace::new(Arc::clone(&self.clock)));
        let own_pace = Arc::clone(&pace);
        let place = self.lanes.place();
        let runtime = place.runtime().clone();
        let parted = socket.part();
        let serve = async move {
            match parted.and_then(Parted::join) {
                Ok(socket) => connection::serve(shared, socket, peer, tls, own_pace, stop).await,
                Err(error) => tracing::warn!(%error, "a connection was lost on its way to the thread that serves it"),
            }
            drop(place);
        };
        let task = connections.spawn_on(serve, &runtime);
        slots.take(&peer, pace, task);
    }

    /// Has somebody who does nothing go, for whoever waits.
    fn make_room(&self, slots: &mut Slots) {
        let now = self.clock.elapsed();
        if slots.one_is_going(now) {
            return;
        }
        let gone = slots.make_room(now);
        let Some(left_out) = self.full.may_tell(now, crate::TOLD_EVERY) else { return };
        let (connections, listener) = (self.shared.limits.connections, self.listener.address());
        if let Some(gone) = gone {
            tracing::warn!(
                connections,
                listener,
                from = ?gone.network,
                of_those = gone.of_network,
                left_out,
                "all connections are taken: one that did nothing was closed for a new one"
            );
        } else {
            tracing::warn!(connections, listener, left_out, "all connections are taken and in use: new ones wait");
        }
    }
}

fn log_panic(error: &JoinError) {
    if error.is_panic() {
        tracing::error!(%error, "a connection ended in a panic");
    }
}

/// When a client waits for a connection and none has ended: after so long one that does nothing is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long to wait before the next accept. Without it, a process that has run out of file descriptors would spin: the connection stays
/// in the queue, and the next accept fails at once.
#[derive(Default)]
struct Backoff {
    last: Duration,
}

impl Backoff {
    fn after(&mut self, error: &io::Error) -> Option<Duration> {
        // These are about the one connection, not about the listener.
        if matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::Interrupted
        ) {
            return None;
        }
        self.last = (self.last * 2).clamp(Duration::from_millis(20), Duration::from_secs(1));
        Some(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_of_descriptors_waits_longer_each_time_and_a_lost_client_does_not() {
        let mut backoff = Backoff::default();
        let too_many_files = io::Error::from_raw_os_error(24);
        let waits: Vec<_> = std::iter::repeat_with(|| backoff.after(&too_many_files).unwrap().as_millis()).take(8).collect();
        assert_eq!(waits, [20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(backoff.after(&io::ErrorKind::ConnectionAborted.into()), None);
    }
}
