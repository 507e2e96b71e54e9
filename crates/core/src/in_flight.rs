//! Requests that are being answered: `sys/in-flight-req`. In shards, so that requests seldom wait for each other; bounded, since each
//! entry holds a path.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use daypass_base::Timestamp;
use parking_lot::Mutex;

/// What is told of a request.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    pub(crate) id: String,
    pub(crate) started: Timestamp,
    /// `None` over a unix socket.
    pub(crate) remote: Option<SocketAddr>,
    /// Without `/v1/` and without the query.
    pub(crate) path: String,
    pub(crate) method: http::Method,
}

/// All requests that are being answered.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    shards: [Mutex<HashMap<u64, Flight>>; SHARDS],
    next: AtomicU64,
    count: AtomicU64,
}

const SHARDS: usize = 16;
/// Requests listed per shard; those beyond are counted alone.
const LISTED_MAX: usize = 1_024;

/// Takes the request off the list when it is answered, or given up.
pub(crate) struct Guard<'a> {
    all: &'a InFlight,
    number: u64,
}

impl InFlight {
    pub(crate) fn enter(&self, flight: Flight) -> Guard<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        if let Some(shard) = self.shard(number) {
            let mut shard = shard.lock();
            if shard.len() < LISTED_MAX {
                shard.insert(number, flight);
            }
        }
        Guard { all: self, number }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn list(&self) -> Vec<Flight> {
        self.shards.iter().flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>()).collect()
    }

    fn shard(&self, number: u64) -> Option<&Mutex<HashMap<u64, Flight>>> {
        self.shards.get(usize::try_from(number).unwrap_or_default() % SHARDS)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.all.count.fetch_sub(1, Ordering::Relaxed);
        if let Some(shard) = self.all.shard(self.number) {
            shard.lock().remove(&self.number);
        }
    }
}
