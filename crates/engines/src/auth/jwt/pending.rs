//! Logins of people that are under way: between the address of the login page and the provider's answer. In memory of this node alone.
//!
//! Each is good for one answer and for five minutes. There are never more than [`FLOWS_MAX`]: anybody may begin one, so the oldest makes room.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use daypass_sdk::Secret;
use parking_lot::Mutex;

/// Logins under way at one moment, per mount.
const FLOWS_MAX: usize = 4_096;
/// How long a provider's page may take.
const FLOW_MAX: Duration = Duration::from_mins(5);

/// A login under way.
pub(super) struct Flow {
    pub(super) role: String,
    pub(super) redirect_uri: String,
    /// Must come back inside of the provider's token.
    pub(super) nonce: String,
    /// What the challenge was made from (RFC 7636).
    pub(super) verifier: Secret<String>,
    /// What the client has to show again; may be empty.
    pub(super) client_nonce: Secret<String>,
    /// What the provider posted here already.
    pub(super) posted: Option<Posted>,
}

/// What a provider posts.
pub(super) struct Posted {
    pub(super) code: Option<Secret<String>>,
    pub(super) id_token: Option<Secret<String>>,
}

#[derive(Default)]
pub(super) struct Pending(Mutex<Flows>);

#[derive(Default)]
struct Flows {
    by_state: HashMap<String, (Duration, Flow)>,
    /// In order of age; some are answered already.
    order: VecDeque<(Duration, String)>,
}

impl Pending {
    /// Remembers a login until it is answered.
    pub(super) fn begin(&self, now: Duration, state: String, flow: Flow) {
        let mut flows = self.0.lock();
        flows.sweep(now);
        while flows.order.len() >= FLOWS_MAX {
            let Some((_, oldest)) = flows.order.pop_front() else { break };
            flows.by_state.remove(&oldest);
        }
        let end = now + FLOW_MAX;
        flows.order.push_back((end, state.clone()));
        flows.by_state.insert(state, (end, flow));
    }

    /// Takes a login out: nobody answers it again.
    pub(super) fn take(&self, now: Duration, state: &str) -> Option<Flow> {
        let mut flows = self.0.lock();
        flows.sweep(now);
        flows.by_state.remove(state).map(|(_, flow)| flow)
    }

    /// Keeps what the provider posted, for the client to come for. Says no when there is no such login, or when it has an answer already.
    pub(super) fn post(&self, now: Duration, state: &str, posted: Posted) -> bool {
        let mut flows = self.0.lock();
        flows.sweep(now);
        match flows.by_state.get_mut(state) {
            Some((_, flow)) if flow.posted.is_none() => {
                flow.posted = Some(posted);
                true
            }
            _ => false,
        }
    }
}

impl Flows {
    fn sweep(&mut self, now: Duration) {
        while self.order.front().is_some_and(|(end, state)| *end <= now || !self.by_state.contains_key(state)) {
            if let Some((_, state)) = self.order.pop_front() {
                self.by_state.remove(&state);
            }
        }
    }
}
