//! The threads that connections are served on: as many as there are cores, each with a runtime of its own.
//!
//! A connection stays on its lane, and what a request waits for wakes that one thread. A runtime that shares its tasks among threads would
//! wake a second thread for almost each event, mostly to find nothing to do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// Threads that serve connections; they end when this is dropped.
#[derive(Debug)]
pub struct Lanes {
    first: Lane,
    others: Vec<Lane>,
    /// Gone with the lanes, which tells the threads.
    _running: Option<watch::Sender<()>>,
}

#[derive(Debug)]
struct Lane {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

/// A connection's place on a lane, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

impl Lanes {
    /// The runtime that this is called on is the only lane.
    #[must_use]
    pub fn here() -> Self {
        Self { first: Lane { runtime: Handle::current(), connections: Arc::default() }, others: Vec::new(), _running: None }
    }

    /// Starts `count` threads, one at least. Errors: what the operating system said.
    pub fn start(count: usize) -> io::Result<Self> {
        let (running, ended) = watch::channel(());
        let others = (1..count).map(|number| Lane::start(number, ended.clone())).collect::<io::Result<_>>()?;
        Ok(Self { first: Lane::start(0, ended)?, others, _running: Some(running) })
    }

    /// A place on the lane that has the fewest connections.
    pub(crate) fn place(&self) -> Place {
        let load = |lane: &Lane| lane.connections.load(Ordering::Relaxed);
        let lane = self.others.iter().fold(&self.first, |best, lane| if load(lane) < load(best) { lane } else { best });
        lane.connections.fetch_add(1, Ordering::Relaxed);
        Place { runtime: lane.runtime.clone(), connections: Arc::clone(&lane.connections) }
    }
}

impl Lane {
    fn start(number: usize, mut ended: watch::Receiver<()>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new().name(format!("lane-{number}")).spawn(move || {
            // Nothing is ever sent: an error is the end of the lanes.
            runtime.block_on(async { while ended.changed().await.is_ok() {} });
            // What still blocks is not waited for: the process ends.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, connections: Arc::default() })
    }
}

impl Place {
    /// Where its tasks run.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_over_the_lanes_and_each_stays_on_its_own() {
        let lanes = Lanes::start(3).unwrap();
        let mut places: Vec<_> = std::iter::repeat_with(|| lanes.place()).take(7).collect();
        let loads = |lanes: &Lanes| {
            let all = std::iter::once(&lanes.first).chain(&lanes.others);
            all.map(|lane| lane.connections.load(Ordering::Relaxed)).collect::<Vec<_>>()
        };
        assert_eq!(loads(&lanes), [3, 2, 2]);
        let gone = places.swap_remove(1).runtime().id();
        assert_eq!(loads(&lanes), [3, 1, 2]);
        let next = lanes.place();
        assert_eq!(next.runtime().id(), gone);

        let (sender, receiver) = std::sync::mpsc::channel();
        next.runtime()
            .spawn(async move { sender.send((Handle::current().id(), std::thread::current().name().map(str::to_owned))).unwrap() });
        assert_eq!(receiver.recv().unwrap(), (gone, Some("lane-1".to_owned())));
    }

    #[test]
    fn the_threads_end_with_the_lanes() {
        let lanes = Lanes::start(1).unwrap();
        let (alive, ended) = std::sync::mpsc::channel::<()>();
        lanes.place().runtime().spawn(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        drop(lanes);
        assert_eq!(ended.recv(), Err(std::sync::mpsc::RecvError));
    }
}
