//! Logins of people that are under way: between the address of the login page and the provider's answer. In memory of this node alone.
//!
//! Each is good for one answer and for five minutes. There are never more than [`FLOWS_MAX`]: anybody may begin one, so the oldest makes room. Anybody may
//! post what only a provider should, too: what is posted has a limit of its own, [`POSTED_BYTES_MAX`], over which it is refused, so that it costs nobody his place.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use daypass_sdk::Secret;
use parking_lot::Mutex;

/// Logins under way at one moment, per mount.
const FLOWS_MAX: usize = 4_096;
/// How long a provider's page may take.
const FLOW_MAX: Duration = Duration::from_mins(5);
/// What is posted to all logins of a mount and not come for yet: some 250 of the longest tokens, and thousands of usual ones.
const POSTED_BYTES_MAX: usize = 16 * 1024 * 1024;

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

/// What of a provider's post will be used.
pub(super) enum Posted {
    Code(Secret<String>),
    IdToken(Secret<String>),
    /// It said no: the login is answered all the same.
    Nothing,
}

/// What became of a post.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Post {
    Kept,
    /// Too much is kept already.
    NoRoom,
    /// There is no such login, or it has an answer already.
    NotAwaited,
}

#[derive(Default)]
pub(super) struct Pending(Mutex<Flows>);

#[derive(Default)]
struct Flows {
    by_state: HashMap<String, (Duration, Flow)>,
    /// In order of age; some are answered already.
    order: VecDeque<(Duration, String)>,
    /// Of all that was posted.
    posted_bytes: usize,
}

impl Pending {
    /// Remembers a login until it is answered.
    pub(super) fn begin(&self, now: Duration, state: String, flow: Flow) {
        let mut flows = self.0.lock();
        flows.sweep(now);
        while flows.order.len() >= FLOWS_MAX {
            let Some((_, oldest)) = flows.order.pop_front() else { break };
            flows.remove(&oldest);
        }
        let end = now + FLOW_MAX;
        flows.order.push_back((end, state.clone()));
        flows.by_state.insert(state, (end, flow));
    }

    /// Takes a login out: nobody answers it again.
    pub(super) fn take(&self, now: Duration, state: &str) -> Option<Flow> {
        let mut flows = self.0.lock();
        flows.sweep(now);
        flows.remove(state)
    }

    /// Keeps what the provider posted, for the client to come for.
    pub(super) fn post(&self, now: Duration, state: &str, posted: Posted) -> Post {
        let mut flows = self.0.lock();
        flows.sweep(now);
        let Flows { by_state, posted_bytes, .. } = &mut *flows;
        let Some((_, flow)) = by_state.get_mut(state).filter(|(_, flow)| flow.posted.is_none()) else { return Post::NotAwaited };
        let bytes = *posted_bytes + posted.bytes();
        if bytes > POSTED_BYTES_MAX {
            return Post::NoRoom;
        }
        *posted_bytes = bytes;
        flow.posted = Some(posted);
        Post::Kept
    }

    /// Forgets what is over, also where nobody comes any more.
    pub(super) fn sweep(&self, now: Duration) {
        self.0.lock().sweep(now);
    }
}

impl Posted {
    fn bytes(&self) -> usize {
        match self {
            // Only its length is looked at.
            Self::Code(secret) | Self::IdToken(secret) => secret.expose().len(),
            Self::Nothing => 0,
        }
    }
}

impl Flows {
    fn remove(&mut self, state: &str) -> Option<Flow> {
        let (_, flow) = self.by_state.remove(state)?;
        self.posted_bytes = self.posted_bytes.saturating_sub(flow.posted.as_ref().map_or(0, Posted::bytes));
        Some(flow)
    }

    fn sweep(&mut self, now: Duration) {
        while self.order.front().is_some_and(|(end, state)| *end <= now || !self.by_state.contains_key(state)) {
            if let Some((_, state)) = self.order.pop_front() {
                self.remove(&state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(pending: &Pending, at: Duration, number: usize) -> String {
        let (state, text) = (number.to_string(), String::new);
        let flow = Flow {
            role: text(),
            redirect_uri: text(),
            nonce: text(),
            verifier: Secret::new(text()),
            client_nonce: Secret::new(text()),
            posted: None,
        };
        pending.begin(at, state.clone(), flow);
        state
    }

    fn token() -> Posted {
        Posted::IdToken(Secret::new("t".repeat(64 * 1024)))
    }

    /// Story: what strangers posted to logins that they began themselves had no limit together, and stayed until somebody else began a login.
    #[test]
    fn what_is_posted_is_bounded_costs_nobody_his_login_and_goes_with_its_time() {
        let (pending, at) = (Pending::default(), Duration::from_secs);
        let honest = begun(&pending, at(0), 1000);
        for number in 0..256 {
            assert_eq!(pending.post(at(0), &begun(&pending, at(0), number), token()), Post::Kept, "{number}");
        }
        assert_eq!(pending.post(at(1), &honest, token()), Post::NoRoom);
        assert!(pending.take(at(1), "7").is_some());
        assert_eq!(pending.post(at(1), &honest, token()), Post::Kept, "a login that is answered makes room");
        assert_eq!(pending.post(at(1), &honest, Posted::Nothing), Post::NotAwaited);
        pending.sweep(at(300));
        let flows = pending.0.lock();
        assert_eq!((flows.by_state.len(), flows.order.len(), flows.posted_bytes), (0, 0, 0));
    }
}
