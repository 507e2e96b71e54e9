//! Places for calls: so many in all, and fewer for each origin, so that one that does not answer leaves some to the others. A call waits for a place of its
//! origin first: whoever waits there holds nothing that others need.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Calls under way at one moment; more wait, within their deadlines.
pub(super) const CALLS_MAX: usize = 64;
/// Those of them to one origin.
pub(super) const CALLS_OF_ORIGIN_MAX: usize = 16;
/// Origins that are told apart at one moment; the calls to any more of them have the places of one.
const ORIGINS_MAX: usize = 256;
/// What stands for those. No origin is called so.
const OTHERS: &str = "";

/// The places of all calls.
pub(super) struct Places {
    all: Semaphore,
    /// Those that somebody calls or wants to call.
    origins: Mutex<HashMap<String, Origin>>,
}

struct Origin {
    calls: usize,
    turns: Arc<Semaphore>,
}

/// A place that was taken; it is free again when this is dropped.
pub(super) struct Place<'a> {
    _all: SemaphorePermit<'a>,
    _turn: OwnedSemaphorePermit,
    _interest: Interest<'a>,
}

/// Somebody wants to call an origin, which is remembered for as long.
struct Interest<'a> {
    places: &'a Places,
    origin: String,
    turns: Arc<Semaphore>,
}

impl Places {
    pub(super) fn new() -> Self {
        Self { all: Semaphore::new(CALLS_MAX), origins: Mutex::default() }
    }

    /// A place for a call to this origin, once there is one.
    pub(super) async fn take(&self, origin: String) -> Result<Place<'_>, AcquireError> {
        let interest = self.interest(origin);
        let turn = Arc::clone(&interest.turns).acquire_owned().await?;
        Ok(Place { _all: self.all.acquire().await?, _turn: turn, _interest: interest })
    }

    fn interest(&self, origin: String) -> Interest<'_> {
        let mut origins = self.origins();
        let origin = if origins.len() < ORIGINS_MAX || origins.contains_key(&origin) { origin } else { OTHERS.to_owned() };
        let known = origins.entry(origin.clone());
        let known = known.or_insert_with(|| Origin { calls: 0, turns: Arc::new(Semaphore::new(CALLS_OF_ORIGIN_MAX)) });
        known.calls += 1;
        Interest { places: self, origin, turns: Arc::clone(&known.turns) }
    }

    fn origins(&self) -> MutexGuard<'_, HashMap<String, Origin>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Interest<'_> {
    fn drop(&mut self) {
        let mut origins = self.places.origins();
        let Some(known) = origins.get_mut(&self.origin) else { return };
        known.calls -= 1;
        if known.calls == 0 {
            origins.remove(&self.origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place, if there is one at once.
    async fn at_once<'a>(places: &'a Places, origin: &str) -> Option<Place<'a>> {
        tokio::select! {
            biased;
            place = places.take(origin.to_owned()) => Some(place.unwrap()),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn an_origin_has_its_share_and_all_have_theirs() {
        let places = Places::new();
        let mut taken = Vec::new();
        for origin in ["a", "b", "c", "d"] {
            for _ in 0..CALLS_OF_ORIGIN_MAX {
                taken.push(at_once(&places, origin).await.unwrap());
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
    async fn origins_are_told_apart_up_to_a_limit() {
        let places = Places::new();
        let wanted: Vec<Interest<'_>> = (0..ORIGINS_MAX + 50).map(|number| places.interest(number.to_string())).collect();
        assert_eq!(places.origins().len(), ORIGINS_MAX + 1);
        assert_eq!(places.origins()[OTHERS].calls, 50);
        drop(wanted);
        assert!(places.origins().is_empty());
    }
}
