//! Taking connections, and ending them: the one owner of every connection's task.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use daypass_base::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};

use crate::lanes::Lanes;
use crate::listener::{Parted, Socket};
use crate::request::{Running, Shared};
use crate::room::OfAll;
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
    /// Serves `listeners` with `service`, connections on `lanes`. Needs a tokio runtime, which takes connections.
    pub fn start(listeners: Vec<Bound>, service: Arc<dyn Service>, clock: Arc<dyn Clock>, lanes: Arc<Lanes>) -> Self {
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
                slots: Arc::new(Semaphore::new(shared.limits.connections.clamp(1, Semaphore::MAX_PERMITS))),
                listener: bound.listener,
                tls: bound.tls,
                shared,
                clock: Arc::clone(&clock),
                lanes: Arc::clone(&lanes),
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
    slots: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
    deadline: watch::Receiver<Option<Duration>>,
}

impl Acceptor {
    async fn run(mut self) -> usize {
        let mut connections = JoinSet::new();
        let mut backoff = Backoff::default();
        let mut stop = self.stop.clone();
        loop {
            tokio::select! {
                biased;
                () = connection::stopped(&mut stop) => break,
                Some(ended) = connections.join_next() => ended.unwrap_or_else(|error| log_panic(&error)),
                accepted = self.accept() => match accepted {
                    Ok((socket, peer, slot)) => {
                        backoff = Backoff::default();
                        self.spawn(&mut connections, socket, peer, slot);
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
        }
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

    fn spawn(&self, connections: &mut JoinSet<()>, socket: Socket, peer: Peer, slot: OwnedSemaphorePermit) {
        let (shared, tls, clock, stop) = (Arc::clone(&self.shared), self.tls.clone(), Arc::clone(&self.clock), self.stop.clone());
        let place = self.lanes.place();
        let runtime = place.runtime().clone();
        let parted = socket.part();
        let serve = async move {
            match parted.and_then(Parted::join) {
                Ok(socket) => connection::serve(shared, socket, peer, tls, clock, stop).await,
                Err(error) => tracing::warn!(%error, "a connection was lost on its way to the thread that serves it"),
            }
            drop((slot, place));
        };
        connections.spawn_on(serve, &runtime);
    }

    /// A slot first: with all of them taken, clients wait in the kernel's queue instead of in our memory.
    async fn accept(&self) -> io::Result<(Socket, Peer, OwnedSemaphorePermit)> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(io::Error::other)?;
        let (socket, peer) = poll_fn(|cx| self.listener.poll_accept(cx)).await?;
        Ok((socket, peer, slot))
    }
}

fn log_panic(error: &JoinError) {
    if error.is_panic() {
        tracing::error!(%error, "a connection ended in a panic");
    }
}

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
