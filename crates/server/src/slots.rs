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
    /// The lowest goes first: one that is idle before one that may only be slow, then one of the network that has most, then the one that has been so for longest.
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
        Self { most: most.max(1), taken, by_network, to_go: Vec::new(), found_at: Duration::ZERO, going: None, counts }
    }

    pub(crate) fn are_taken(&self) -> bool {
        self.taken.len() >= self.most
    }

    pub(crate) fn take(&mut self, peer: &Peer, pace: Arc<Pace>, task: AbortHandle) {
        let network = match peer {
            Peer::Tcp(address) => Some(places::network(address.ip())),
            Peer::Unix => None,
        };
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

    /// Closes a connection that can be spared, if there is one. It has ended a moment later.
    pub(crate) fn make_room(&mut self, now: Duration) -> Option<Gone> {
        // Who was idle then, and whose network had most, is no longer sure.
        if now.saturating_sub(self.found_at) > FRESH {
            self.to_go.clear();
        }
        self.close_next(now).or_else(|| {
            self.find(now);
            self.close_next(now)
        })
    }

    fn close_next(&mut self, now: Duration) -> Option<Gone> {
        while let Some(candidate) = self.to_go.pop() {
            if let Some(gone) = self.close(&candidate) {
                self.going = Some((candidate.connection, now));
                return Some(gone);
            }
        }
        None
    }

    fn find(&mut self, now: Duration) {
        self.found_at = now;
        let spared = |(connection, taken): (&Id, &Taken)| {
            let stand = taken.pace.spare(now)?;
            let of_network = self.by_network.of(&taken.network);
            Some(Candidate { connection: *connection, stand, order: (stand.spare, Reverse(of_network), stand.since) })
        };
        let mut found: Vec<Candidate> = self.taken.iter().filter_map(spared).collect();
        if found.len() > AT_ONCE {
            found.select_nth_unstable_by_key(AT_ONCE, |candidate| candidate.order);
            found.truncate(AT_ONCE);
        }
        found.sort_unstable_by_key(|candidate| Reverse(candidate.order));
        self.to_go = found;
    }

    /// `None` when it has ended, or has gone on since it was looked at.
    fn close(&self, candidate: &Candidate) -> Option<Gone> {
        let taken = self.taken.get(&candidate.connection)?;
        if !taken.pace.leave(&candidate.stand) {
            return None;
        }
        taken.task.abort();
        self.counts.made_room();
        let of_network = self.by_network.of(&taken.network);
        Some(Gone { network: taken.network, of_network })
    }
}

/// So many are found by one look at all: those of ten thousand take some hundred microseconds.
const AT_ONCE: usize = 128;
/// For so long what was found is believed.
const FRESH: Duration = Duration::from_secs(1);
/// One that was told to go ends when its thread comes to it. After so long another one is told.
const GOES_WITHIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use daypass_base::Clock;
    use daypass_base::sim::SimClock;

    use super::*;

    /// Story: one look after the other was taken while the first that had been told to go had not ended, and each told another one. A thread that was busy
    /// for a second cost ten clients their connections in place of one.
    #[tokio::test]
    async fn one_that_was_told_to_go_is_waited_for_but_not_for_ever() {
        let clock = SimClock::default();
        let mut slots = Slots::new(3, Arc::default());
        let tasks = [1, 2, 3].map(|port| {
            let task = tokio::spawn(std::future::pending::<()>());
            let peer = Peer::Tcp(([192, 0, 2, 1], port).into());
            slots.take(&peer, Arc::new(Pace::new(Arc::new(clock.clone()))), task.abort_handle());
            task
        });
        clock.advance(Duration::from_secs(2));
        assert!(!slots.one_is_going(clock.elapsed()));
        assert!(slots.make_room(clock.elapsed()).is_some());
        clock.advance(Duration::from_millis(900));
        assert!(slots.one_is_going(clock.elapsed()));
        clock.advance(Duration::from_millis(100));
        assert!(!slots.one_is_going(clock.elapsed()), "its thread may never come to it");
        assert!(slots.make_room(clock.elapsed()).is_some() && slots.one_is_going(clock.elapsed()));
        let told = slots.going.unwrap().0;
        tasks.iter().filter(|task| task.id() != told).for_each(|task| slots.leave(task.id()));
        assert!(slots.one_is_going(clock.elapsed()));
        slots.leave(told);
        assert!(!slots.one_is_going(clock.elapsed()));
    }
}
