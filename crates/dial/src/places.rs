//! Places for calls: so many in all, and fewer for each origin, so that one that does not answer leaves some to the others. A call waits for a turn of its
//! origin first: whoever waits there holds nothing that others need.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Origins that are told apart at one moment; the calls to any more of them share the turns of one.
const ORIGINS_MAX: usize = 256;
/// What stands for those. No origin is called so.
const OTHERS: &str = "";

/// How many calls there are.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    /// Under way at one moment; more wait, within their deadlines.
    pub all: usize,
    /// Those of them to one origin.
    pub of_origin: usize,
    /// Waiting for a turn of one origin at one moment; more are refused.
    pub waiting: usize,
}

/// The places of all calls.
pub struct Places {
    shares: Shares,
    all: Semaphore,
    /// Those that somebody calls or wants to call.
    origins: Mutex<HashMap<String, Origin>>,
}

struct Origin {
    calls: usize,
    turns: Arc<Semaphore>,
}

/// A call's turn at its origin; somebody else's when this is dropped.
pub struct Turn<'a> {
    _turn: OwnedSemaphorePermit,
    interest: Interest<'a>,
}

/// A place that was taken; it is free again when this is dropped.
pub struct Place<'a> {
    _all: SemaphorePermit<'a>,
    turn: Turn<'a>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// [`Shares::waiting`] of them wait already.
    #[error("{waiting} calls to it wait already: try again in a few seconds")]
    Full {
        /// The limit.
        waiting: usize,
    },
    /// A call that was made meanwhile found that nobody answers: see [`Place::forsake`].
    #[error("it gave no answer to the call before this one: try again in a few seconds")]
    Silent,
}

/// Somebody wants to call an origin, which is remembered for as long.
struct Interest<'a> {
    places: &'a Places,
    origin: String,
    turns: Arc<Semaphore>,
}

impl Places {
    /// Nobody calls anybody.
    #[must_use]
    pub fn new(shares: Shares) -> Self {
        Self { shares, all: Semaphore::new(shares.all), origins: Mutex::default() }
    }

    /// A place for a call to this origin, once there is one.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub async fn take(&self, origin: &str) -> Result<Place<'_>, NoPlace> {
        self.turn(origin).await?.place().await
    }

    /// The first half of [`Places::take`], for whoever looks again, before it goes on, at what may have changed while it waited.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub async fn turn(&self, origin: &str) -> Result<Turn<'_>, NoPlace> {
        let interest = self.interest(origin)?;
        let turn = Arc::clone(&interest.turns).acquire_owned().await.map_err(|_closed| NoPlace::Silent)?;
        Ok(Turn { _turn: turn, interest })
    }

    fn interest(&self, origin: &str) -> Result<Interest<'_>, NoPlace> {
        let Shares { of_origin, waiting, .. } = self.shares;
        let mut origins = self.origins();
        let origin = if origins.len() < ORIGINS_MAX || origins.contains_key(origin) { origin } else { OTHERS };
        let known = origins.entry(origin.to_owned());
        let known = known.or_insert_with(|| Origin { calls: 0, turns: Arc::new(Semaphore::new(of_origin)) });
        if known.calls >= of_origin.saturating_add(waiting) {
            return Err(NoPlace::Full { waiting });
        }
        known.calls += 1;
        Ok(Interest { places: self, origin: origin.to_owned(), turns: Arc::clone(&known.turns) })
    }

    fn origins(&self) -> MutexGuard<'_, HashMap<String, Origin>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Turn<'a> {
    /// The second half of [`Places::take`].
    ///
    /// # Errors
    /// None but in theory: the places of all are never closed.
    pub async fn place(self) -> Result<Place<'a>, NoPlace> {
        let all = self.interest.places.all.acquire().await.map_err(|_closed| NoPlace::Silent)?;
        Ok(Place { _all: all, turn: self })
    }
}

impl Place<'_> {
    /// Nobody answers there: whoever waits for a turn of this origin is told so now, and does not find out one after the other. Whoever comes later tries
    /// again.
    pub fn forsake(self) {
        let interest = &self.turn.interest;
        // Those who wait there want different origins.
        if interest.origin != OTHERS {
            interest.turns.close();
            interest.places.origins().retain(|_, known| !Arc::ptr_eq(&known.turns, &interest.turns));
        }
    }
}

impl Drop for Interest<'_> {
    fn drop(&mut self) {
        let mut origins = self.places.origins();
        let Some(known) = origins.get_mut(&self.origin).filter(|known| Arc::ptr_eq(&known.turns, &self.turns)) else { return };
        known.calls -= 1;
        if known.calls == 0 {
            origins.remove(&self.origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARES: Shares = Shares { all: 64, of_origin: 16, waiting: 2 };

    /// What comes of it at once.
    async fn at_once<'a>(places: &'a Places, origin: &str) -> Option<Result<Place<'a>, NoPlace>> {
        tokio::select! {
            biased;
            place = places.take(origin) => Some(place),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn an_origin_has_its_share_and_all_have_theirs() {
        let places = Places::new(SHARES);
        let mut taken = Vec::new();
        for origin in ["a", "b", "c", "d"] {
            for _ in 0..SHARES.of_origin {
                taken.push(at_once(&places, origin).await.unwrap().unwrap());
            }
            assert!(at_once(&places, origin).await.is_none(), "{origin}");
        }
        assert!(at_once(&places, "e").await.is_none(), "all places are taken");
        taken.remove(0);
        assert!(at_once(&places, "e").await.is_some() && at_once(&places, "b").await.is_none());
        drop(taken);
        assert!(places.origins().is_empty(), "nothing stays of those that gave up");
    }

    #[tokio::test]
    async fn whoever_finds_a_long_line_is_told_at_once() {
        let places = Places::new(Shares { of_origin: 1, ..SHARES });
        let place = places.take("a").await.unwrap();
        let waiting = [places.interest("a").unwrap(), places.interest("a").unwrap()];
        assert_eq!(at_once(&places, "a").await.unwrap().err(), Some(NoPlace::Full { waiting: 2 }));
        assert!(at_once(&places, "b").await.unwrap().is_ok());
        drop(waiting);
        assert!(at_once(&places, "a").await.is_none(), "there is room to wait again");
        drop(place);
        assert!(at_once(&places, "a").await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn whoever_waits_for_one_that_does_not_answer_is_told_so() {
        let places = Places::new(Shares { of_origin: 1, ..SHARES });
        let (place, other) = (places.take("a").await.unwrap(), places.take("b").await.unwrap());
        let mut waiting = std::pin::pin!(places.take("a"));
        assert!(tokio::select! { biased; _ = &mut waiting => false, () = std::future::ready(()) => true });
        place.forsake();
        assert_eq!(waiting.await.err(), Some(NoPlace::Silent));
        assert!(at_once(&places, "b").await.is_none(), "others keep their turns");
        assert!(at_once(&places, "a").await.unwrap().is_ok(), "and whoever comes later tries again");
        drop(other);
        assert!(places.origins().is_empty());
    }

    #[tokio::test]
    async fn origins_are_told_apart_up_to_a_limit() {
        let places = Places::new(Shares { waiting: 100, ..SHARES });
        let wanted: Vec<Interest<'_>> = (0..ORIGINS_MAX + 50).map(|number| places.interest(&number.to_string()).unwrap()).collect();
        assert_eq!(places.origins().len(), ORIGINS_MAX + 1);
        assert_eq!(places.origins()[OTHERS].calls, 50);
        drop(wanted);
        assert!(places.origins().is_empty());
    }
}
