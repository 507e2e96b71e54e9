//! The mint ledger's window in memory: ids of live STS leases, for listings. Bounded; the oldest are forgotten first.

use std::collections::{BTreeMap, VecDeque};

use daypass_base::Timestamp;
use parking_lot::Mutex;

/// Live STS leases by id.
pub(crate) struct Ledger {
    state: Mutex<State>,
    most: usize,
}

#[derive(Default)]
struct State {
    ends: BTreeMap<String, Timestamp>,
    order: VecDeque<String>,
}

impl Ledger {
    pub(crate) fn new(most: usize) -> Self {
        Self { state: Mutex::default(), most }
    }

    /// Notes a new lease.
    pub(crate) fn add(&self, lease_id: &str, ends: Timestamp, now: Timestamp) {
        let mut state = self.state.lock();
        state.ends.insert(lease_id.to_owned(), ends);
        state.order.push_back(lease_id.to_owned());
        // Those in front are the oldest: drop what has ended, and what is too much. Lifetimes differ, so this is no exact sweep.
        while let Some(front) = state.order.front() {
            let ended = state.ends.get(front).is_none_or(|end| *end <= now);
            if !ended && state.order.len() <= self.most {
                break;
            }
            if let Some(front) = state.order.pop_front() {
                state.ends.remove(&front);
            }
        }
    }

    /// Forgets a revoked lease.
    pub(crate) fn remove(&self, lease_id: &str) {
        self.state.lock().ends.remove(lease_id);
    }

    /// Forgets everything below a prefix.
    pub(crate) fn remove_below(&self, prefix: &str) {
        self.state.lock().ends.retain(|id, _| !id.starts_with(prefix));
    }

    /// Names below a prefix, folded at `/`, of leases that have not ended.
    pub(crate) fn list(&self, prefix: &str, now: Timestamp) -> Vec<String> {
        let state = self.state.lock();
        let mut names: Vec<String> = Vec::new();
        for (id, _) in state.ends.range(prefix.to_owned()..).take_while(|(id, _)| id.starts_with(prefix)).filter(|(_, end)| **end > now) {
            let rest = id.get(prefix.len()..).unwrap_or_default();
            let name = match rest.split_once('/') {
                Some((folder, _)) => format!("{folder}/"),
                None => rest.to_owned(),
            };
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
        names
    }
}
