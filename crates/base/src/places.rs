//! Places for what anybody may ask for and what takes a while: so many in all, and only some of them from one address, so that whoever asks again and again
//! takes nobody else's.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Tally;

/// So many may be there at one moment. Nobody waits for a place: there is no end to those who may ask, and whoever waits holds more than a place.
///
/// ```
/// use daypass_base::Places;
/// let places = Places::new(3, 2);
/// let held = [places.take(None), places.take(None)];
/// assert!(held.iter().all(Option::is_some));
/// assert!(places.take(None).is_none());
/// assert!(places.take("192.0.2.1".parse().ok()).is_some());
/// drop(held);
/// assert!(places.take(None).is_some());
/// ```
#[derive(Debug)]
pub struct Places {
    all: usize,
    of_one: usize,
    taken: Arc<Mutex<Taken>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    network: Option<IpAddr>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Those who have some. Whoever comes over a unix socket is as one.
    by_network: Tally<Option<IpAddr>>,
}

impl Places {
    /// So many in all, and so many of them from one address (with IPv6: from one /64).
    #[must_use]
    pub fn new(all: usize, of_one: usize) -> Self {
        Self { all, of_one, taken: Arc::default() }
    }

    /// A place for whoever comes from there, if there is one now; `None` as an address is a unix socket.
    #[must_use]
    pub fn take(&self, from: Option<IpAddr>) -> Option<Place> {
        let network = from.map(network);
        let mut taken = lock(&self.taken);
        if taken.all >= self.all || taken.by_network.of(&network) >= self.of_one {
            return None;
        }
        taken.all += 1;
        taken.by_network.add(network);
        drop(taken);
        Some(Place { network, taken: Arc::clone(&self.taken) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all = taken.all.saturating_sub(1);
        taken.by_network.remove(&self.network);
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one client has for itself: an address, or with IPv6 half of one, as whose first address it is given.
///
/// ```
/// use daypass_base::places::network;
/// let of = |text: &str| network(text.parse().unwrap()).to_string();
/// assert_eq!((of("2001:db8:1:2:3::4"), of("192.0.2.1")), ("2001:db8:1:2::".to_owned(), "192.0.2.1".to_owned()));
/// ```
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_part_and_all_together_have_theirs() {
        let places = Places::new(4, 2);
        let take = |address: &str| places.take(address.parse().ok());
        let first = [take("192.0.2.1").unwrap(), take("::ffff:192.0.2.1").unwrap()];
        assert!(take("192.0.2.1").is_none());
        let sixth = [take("2001:db8::1").unwrap(), take("2001:db8::2").unwrap()];
        assert!(take("192.0.2.2").is_none() && places.take(None).is_none(), "all are taken");
        let [one, other] = first;
        drop(one);
        assert!(take("2001:db8::3").is_none(), "the same network");
        let again = take("192.0.2.1").unwrap();
        drop((other, sixth, again));
        let socket = [places.take(None).unwrap(), places.take(None).unwrap()];
        assert!(places.take(None).is_none(), "a unix socket has places like an address");
        drop(socket);
        let taken = lock(&places.taken);
        assert!(taken.all == 0 && taken.by_network.is_empty(), "nothing stays of those who have gone");
    }
}
