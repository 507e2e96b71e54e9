//! Who has the connections of a listener, and who makes room when there are no more: without that whoever opens all of them and then says little keeps everybody
//! else out.
//!
//! Belongs to the one task that takes connections. A request costs nothing here: what a connection does stands in its [`Pace`], which is looked at only when all
//! are taken, and then once for many that are to go.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use daypass_base::{Connections, Tally, places};
use tokio::task::{AbortHandle, Id};

use crate::Peer;
use crate::pace::{Pace, Spare, Stand};

/// The connections of one listener.
pub(crate) struct Slots {
    most: usize,
    taken: HashMap<Id, Taken>,
    /// How many of them each network has. Those over a unix socket are as of one.
    by_network: Tally<Option<IpAddr>>,
    /// Those that may go, the next one last.
    to_go: Vec<Candidate>,
    /// When they were found, on the monotonic clock.
    found_at: Duration,
    /// When a look at all found nobody who can be spared whoever asks.
    nobody_at: Option<Duration>,
    /// Who was told to go last, and when.
    going: Option<(Id, Duration)>,
    counts: Arc<Connections>,
}

struct Taken {
    pace: Arc<Pace>,
    network: Option<IpAddr>,
    task: AbortHandle,
}

struct Candidate {
    connection: Id,
    stand: Stand,
    /// The lowest goes first: one that is idle before one that may only be slow, one that moves last of all; then one of the network that has most, then the one that has been so for longest.
    order: (Spare, Reverse<usize>, Duration),
}

/// A connection that was closed for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone {
    /// Where it came from: an address, with IPv6 a /64. `None`: over a unix socket.
    pub(crate) network: Option<IpAddr>,
    /// How many connections that had.
    pub(crate) of_network: usize,
}

impl Slots {
    /// Room for so many connections, one at least.
    pub(crate) fn new(most: usize, counts: Arc<Connections>) -> Self {
        let (taken, by_network) = (HashMap::new(), Tally::default());
        Self { most: most.max(1), taken, by_network, to_go: Vec::new(), found_at: Duration::ZERO, nobody_at: None, going: None, counts }
    }

    pub(crate) fn are_taken(&self) -> bool {
        self.taken.len() >= self.most
    }

    pub(crate) fn take(&mut self, peer: &Peer, pace: Arc<Pace>, task: AbortHandle) {
        let network = network(peer);
        self.by_network.add(network);
        self.taken.insert(task.id(), Taken { pace, network, task });
        self.counts.opened();
    }

    /// The connection has ended.
    pub(crate) fn leave(&mut self, connection: Id) {
        let Some(taken) = self.taken.remove(&connection) else { return };
        self.by_network.remove(&taken.network);
        self.counts.closed();
        if self.going.is_some_and(|(told, _)| told == connection) {
            self.going = None;
        }
    }

    /// Whether one that was told to go is about to end, and its place is there in a moment.
    pub(crate) fn one_is_going(&self, now: Duration) -> bool {
        self.going.is_some_and(|(_, told)| now.saturating_sub(told) < GOES_WITHIN)
    }

    /// Whether the network of this client has many of the connections.
    pub(crate) fn has_many(&self, peer: &Peer) -> bool {
        self.are_many(self.by_network.of(&network(peer)))
    }

    fn are_many(&self, of_network: usize) -> bool {
        of_network.saturating_mul(MANY) > self.taken.len()
    }

    /// Closes a connection that can be spared for this client, if there is one. It has ended a moment later.
    pub(crate) fn make_room(&mut self, guest: &Peer, now: Duration) -> Option<Gone> {
        // Who was idle then, and whose network had most, is no longer sure.
        if now.saturating_sub(self.found_at) > FRESH {
            self.to_go.clear();
        }
        let from = network(guest);
        self.close_next(from, now).or_else(|| {
            // Such clients do not keep others waiting while they wait themselves, so any number of them may come.
            let looked_just_now = self.nobody_at.is_some_and(|at| now.saturating_sub(at) < LOOK_AGAIN);
            if looked_just_now && self.has_many(guest) {
                return None;
            }
            self.find(from, now);
            self.close_next(from, now)
        })
    }

    fn close_next(&mut self, guest: Option<IpAddr>, now: Duration) -> Option<Gone> {
        while let Some(candidate) = self.to_go.pop() {
            if let Some(gone) = self.close(&candidate, guest) {
                self.going = Some((candidate.connection, now));
                return Some(gone);
            }
        }
        None
    }

    fn find(&mut self, guest: Option<IpAddr>, now: Duration) {
        self.found_at = now;
        let of_guest = self.by_network.of(&guest);
        let crowd = self.by_network.most().filter(|(_, most)| self.gives_way(*most, of_guest)).map(|(network, _)| *network);
        let spared = |(connection, taken): (&Id, &Taken)| {
            let stand = taken.pace.stand(now)?;
            if stand.spare == Spare::Moving && crowd != Some(taken.network) {
                return None;
            }
            let of_network = self.by_network.of(&taken.network);
            Some(Candidate { connection: *connection, stand, order: (stand.spare, Reverse(of_network), stand.since) })
        };
        let mut found: Vec<Candidate> = self.taken.iter().filter_map(spared).collect();
        self.nobody_at = found.iter().all(|candidate| candidate.stand.spare == Spare::Moving).then_some(now);
        if found.len() > AT_ONCE {
            found.select_nth_unstable_by_key(AT_ONCE, |candidate| candidate.order);
            found.truncate(AT_ONCE);
        }
        found.sort_unstable_by_key(|candidate| Reverse(candidate.order));
        self.to_go = found;
    }

    /// Whether a network with so many connections gives way to one with so many, though it uses all of them. Never among those of one network: behind a
    /// balancer all have the same. Nor where each would then take from the other in turn.
    fn gives_way(&self, of_network: usize, of_guest: usize) -> bool {
        self.are_many(of_network) && of_network > of_guest.saturating_add(1)
    }

    /// `None` when it has ended, or has gone on since it was looked at.
    fn close(&self, candidate: &Candidate, guest: Option<IpAddr>) -> Option<Gone> {
        let taken = self.taken.get(&candidate.connection)?;
        let of_network = self.by_network.of(&taken.network);
        let may_go = candidate.stand.spare != Spare::Moving || self.gives_way(of_network, self.by_network.of(&guest));
        if !may_go || !taken.pace.leave(&candidate.stand) {
            return None;
        }
        taken.task.abort();
        self.counts.made_room();
        Some(Gone { network: taken.network, of_network })
    }
}

/// Whose place it is, and with whom it is shared.
fn network(peer: &Peer) -> Option<IpAddr> {
    match peer {
        Peer::Tcp(address) => Some(places::network(address.ip())),
        Peer::Unix => None,
    }
}

/// When a client waits for a connection and none has ended: after so long one that can be spared is looked for again.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A network has many connections when they are more than one in so many of all.
const MANY: usize = 4;
/// One that was told to go ends when its thread comes to it. After so long another one is told.
const GOES_WITHIN: Duration = Duration::from_secs(1);
/// So many are found by one look at all: those of ten thousand take some hundred microseconds.
const AT_ONCE: usize = 128;
/// For so long what was found is believed.
const FRESH: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use daypass_base::Clock;
    use daypass_base::sim::SimClock;

    use super::*;

    fn from(text: &str) -> Peer {
        Peer::Tcp((text.parse::<IpAddr>().unwrap(), 1).into())
    }

    /// Connections that have come from there and said nothing, each with its task.
    fn taken_by(clock: &SimClock, addresses: &[&str]) -> (Slots, Vec<tokio::task::JoinHandle<()>>) {
        let mut slots = Slots::new(addresses.len(), Arc::default());
        let take = |address: &&str| {
            let task = tokio::spawn(std::future::pending());
            slots.take(&from(address), Arc::new(Pace::new(Arc::new(clock.clone()))), task.abort_handle());
            task
        };
        let tasks = addresses.iter().map(take).collect();
        (slots, tasks)
    }

    /// Story: one look after the other was taken while the first that had been told to go had not ended, and each told another one. A thread that was busy
    /// for a second cost ten clients their connections in place of one.
    #[tokio::test]
    async fn one_that_was_told_to_go_is_waited_for_but_not_for_ever() {
        let clock = SimClock::default();
        let (mut slots, tasks) = taken_by(&clock, &["192.0.2.1"; 3]);
        clock.advance(Duration::from_secs(2));
        let guest = from("192.0.2.1");
        assert!(!slots.one_is_going(clock.elapsed()));
        assert!(slots.make_room(&guest, clock.elapsed()).is_some());
        clock.advance(Duration::from_millis(900));
        assert!(slots.one_is_going(clock.elapsed()));
        clock.advance(Duration::from_millis(100));
        assert!(!slots.one_is_going(clock.elapsed()), "its thread may never come to it");
        assert!(slots.make_room(&guest, clock.elapsed()).is_some() && slots.one_is_going(clock.elapsed()));
        let told = slots.going.unwrap().0;
        tasks.iter().filter(|task| task.id() != told).for_each(|task| slots.leave(task.id()));
        assert!(slots.one_is_going(clock.elapsed()));
        slots.leave(told);
        assert!(!slots.one_is_going(clock.elapsed()));
    }

    /// A network gives way down to a quarter of all connections, and only to one that has fewer: two balancers do not take from each other in turn.
    #[tokio::test]
    async fn a_network_that_has_many_gives_way_to_one_that_has_fewer() {
        let clock = SimClock::default();
        let make_room = |slots: &mut Slots, guest| {
            let gone = slots.make_room(&from(guest), clock.elapsed())?;
            slots.leave(slots.going.unwrap().0);
            Some(gone.of_network)
        };
        let (mut slots, _tasks) = taken_by(&clock, &["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"]);
        assert_eq!(make_room(&mut slots, "192.0.2.1"), None, "never among those of one network");
        assert_eq!(make_room(&mut slots, "192.0.2.2"), Some(3));
        assert_eq!(make_room(&mut slots, "192.0.2.2"), None, "both have about as many");
        assert_eq!(make_room(&mut slots, "192.0.2.3"), Some(2));
        let apart: Vec<String> = (0..8).map(|number| format!("192.0.2.{}", number / 2)).collect();
        let (mut slots, _tasks) = taken_by(&clock, &apart.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(make_room(&mut slots, "192.0.2.9"), None, "nobody has more than a quarter");
    }
}
