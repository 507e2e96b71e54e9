//! Logins of people that are under way: between the address of the login page and the provider's answer. In memory of this node alone.
//!
//! Each is good for one answer and for five minutes. There are never more than [`FLOWS_MAX`]: anybody may begin one, so beyond that the oldest of the address
//! that began most makes room, and whoever begins them without end ends his own. Anybody may post what only a provider should, too: what is posted has a
//! limit of its own, [`POSTED_BYTES_MAX`], over which it is refused, so that it costs nobody his place.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use daypass_base::Rare;
use daypass_base::places::network;
use daypass_sdk::Secret;
use parking_lot::Mutex;

/// Logins under way at one moment, per mount.
const FLOWS_MAX: usize = 4_096;
/// How long a provider's page may take.
const FLOW_MAX: Duration = Duration::from_mins(5);
/// What is posted to all logins of a mount and not come for yet: some 250 of the longest tokens, and thousands of usual ones.
const POSTED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How often the log says that logins had to make room: whoever fills it with them fills no log.
const TOLD_EVERY: Duration = Duration::from_mins(5);

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

/// Logins that had to make room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Crowd {
    /// Since the log was told last.
    pub(super) dropped: u64,
    /// Whose login went last: whoever has most of them. `None` is a unix socket.
    pub(super) most_from: Option<IpAddr>,
}

#[derive(Default)]
struct Flows {
    by_state: HashMap<String, Kept>,
    /// Until when each is good, and its state, in the order in which they began.
    by_number: BTreeMap<u64, (Duration, String)>,
    /// The numbers of each network; all that come over a unix socket are one.
    by_network: HashMap<Option<IpAddr>, BTreeSet<u64>>,
    /// How many each network has, with its oldest: the last of these makes room.
    shares: BTreeSet<(usize, Reverse<u64>)>,
    /// Of the next one.
    number: u64,
    /// Of all that was posted.
    posted_bytes: usize,
    /// Lines of the log about logins that had to make room.
    crowded: Rare,
}

struct Kept {
    number: u64,
    network: Option<IpAddr>,
    flow: Flow,
}

impl Pending {
    /// Remembers a login of whoever comes from there until it is answered. Returns what the log should be told, once in a while.
    pub(super) fn begin(&self, now: Duration, from: Option<IpAddr>, state: String, flow: Flow) -> Option<Crowd> {
        let mut flows = self.0.lock();
        flows.sweep(now);
        flows.insert(now + FLOW_MAX, from.map(network), state, flow);
        // The new one counts for its network as well: who has most already gets no more.
        if flows.by_state.len() > FLOWS_MAX { flows.make_room(now) } else { None }
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
        let awaited = by_state.get_mut(state).map(|kept| &mut kept.flow).filter(|flow| flow.posted.is_none());
        let Some(flow) = awaited else { return Post::NotAwaited };
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
    fn insert(&mut self, end: Duration, network: Option<IpAddr>, state: String, flow: Flow) {
        let number = self.number;
        self.number += 1;
        self.by_number.insert(number, (end, state.clone()));
        self.change(network, |own| own.insert(number));
        self.by_state.insert(state, Kept { number, network, flow });
    }

    fn remove(&mut self, state: &str) -> Option<Flow> {
        let Kept { number, network, flow } = self.by_state.remove(state)?;
        self.by_number.remove(&number);
        self.change(network, |own| own.remove(&number));
        self.posted_bytes = self.posted_bytes.saturating_sub(flow.posted.as_ref().map_or(0, Posted::bytes));
        Some(flow)
    }

    /// Changes the numbers of a network, and what is known of its share.
    fn change(&mut self, network: Option<IpAddr>, change: impl FnOnce(&mut BTreeSet<u64>) -> bool) {
        let own = self.by_network.entry(network).or_default();
        if let Some(before) = share(own) {
            self.shares.remove(&before);
        }
        change(own);
        if let Some(now) = share(own) {
            self.shares.insert(now);
        } else {
            self.by_network.remove(&network);
        }
    }

    fn make_room(&mut self, now: Duration) -> Option<Crowd> {
        let (_, Reverse(oldest)) = *self.shares.last()?;
        let (_, state) = self.by_number.get(&oldest)?.clone();
        let most_from = self.by_state.get(&state)?.network;
        self.remove(&state);
        let left_out = self.crowded.may_tell(now, TOLD_EVERY)?;
        Some(Crowd { dropped: left_out + 1, most_from })
    }

    fn sweep(&mut self, now: Duration) {
        while let Some(over) = self.by_number.first_entry().filter(|entry| entry.get().0 <= now) {
            let (_, state) = over.remove();
            self.remove(&state);
        }
    }
}

/// How many they are, and the oldest of them.
fn share(numbers: &BTreeSet<u64>) -> Option<(usize, Reverse<u64>)> {
    Some((numbers.len(), Reverse(*numbers.first()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(pending: &Pending, at: Duration, number: usize) -> String {
        begun_from(pending, at, "127.0.0.1", number).0
    }

    fn begun_from(pending: &Pending, at: Duration, from: &str, number: usize) -> (String, Option<Crowd>) {
        let (state, text) = (number.to_string(), String::new);
        let flow = Flow {
            role: text(),
            redirect_uri: text(),
            nonce: text(),
            verifier: Secret::new(text()),
            client_nonce: Secret::new(text()),
            posted: None,
        };
        let crowd = pending.begin(at, from.parse().ok(), state.clone(), flow);
        (state, crowd)
    }

    fn is_empty(pending: &Pending) -> bool {
        let flows = pending.0.lock();
        [flows.by_state.len(), flows.by_number.len(), flows.by_network.len(), flows.shares.len(), flows.posted_bytes] == [0; 5]
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
        assert!(is_empty(&pending));
    }

    /// Story: the oldest login of all made room. A stranger who began 400 in a second let nobody else finish one, and nothing said why.
    #[test]
    fn whoever_has_most_makes_room_and_the_log_is_told_once_in_a_while() {
        let (pending, at) = (Pending::default(), Duration::from_secs);
        let begin = |from: &str, second: u64, number: usize| begun_from(&pending, at(second), from, number).1;
        assert_eq!((begin("192.0.2.7", 0, 0), begin("not an address", 0, 1)), (None, None));
        // All of one /64, as a stranger has it.
        let stranger = |number: usize| format!("2001:db8::{number:x}");
        let told: Vec<Crowd> = (2..20_000).filter_map(|number| begin(&stranger(number), 1, number)).collect();
        let network = "2001:db8::".parse().ok();
        assert_eq!(told, [Crowd { dropped: 1, most_from: network }]);
        assert!(["0", "1"].iter().all(|state| pending.take(at(299), state).is_some()), "they took nobody's place but their own");
        assert!(pending.take(at(299), "15000").is_none() && pending.take(at(299), "19999").is_some());
        let lasting: Vec<_> = (20_000..20_010).filter_map(|number| begin(&stranger(number), 299, number)).collect();
        assert!(lasting.is_empty(), "told already");
        assert_eq!((30_000..40_000).find_map(|number| begin(&stranger(number), 300, number)), None);
        let after = begin(&stranger(1), 301, 40_000).unwrap();
        assert!(after.dropped > 10_000 && after.most_from == network, "{after:?}");
        pending.sweep(at(601));
        assert!(is_empty(&pending));
    }

    #[test]
    fn of_many_who_have_as_much_the_oldest_makes_room() {
        let (pending, at) = (Pending::default(), Duration::from_secs(1));
        let from = |number: usize| format!("10.0.{}.{}", number / 256, number % 256);
        assert_eq!((0..FLOWS_MAX + 2).filter_map(|number| begun_from(&pending, at, &from(number), number).1).count(), 1);
        assert_eq!(["0", "1", "2"].map(|state| pending.take(at, state).is_some()), [false, false, true]);
        assert_eq!(pending.0.lock().by_state.len(), FLOWS_MAX - 1);
    }
}
