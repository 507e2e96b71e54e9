//! Places for calls: so many in all, and fewer for each origin, so that one that does not answer leaves some to the others. A call waits for a turn of its
//! origin first: whoever waits there holds nothing that others need. Nor do more wait than the caller's own room allows, at one origin or at all of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Origins that are told apart at one moment; the calls to any more of them have the places of one.
const ORIGINS_MAX: usize = 256;
/// What stands for those. No origin is called so.
const OTHERS: &str = "";
/// So many calls in a row get no answer before nobody is believed to be there: one broken connection is no sign.
const SILENCES_MAX: usize = 3;

/// How many calls there may be.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Under way at one moment; more wait, within their deadlines.
    pub all: usize,
    /// Those of them to one origin.
    pub of_origin: usize,
    /// Waiting for a turn of one origin at one moment; more are refused.
    pub waiting: usize,
    /// Waiting at all origins together: whoever can choose among many finds a line at each. More are refused, but where an origin has a turn left.
    pub waiting_in_all: usize,
}

/// The places of all calls.
pub struct Places {
    room: Room,
    all: Semaphore,
    /// Calls that are under way or wait, whatever their origin.
    calls: Arc<AtomicUsize>,
    /// Those that somebody calls, wants to call, or will call again.
    origins: Mutex<HashMap<String, Weak<Share>>>,
}

/// The places of one origin, the same for all who hold it. Whoever calls an origin often keeps it, so that a call looks nothing up.
pub struct Share {
    turns: Arc<Semaphore>,
    /// Calls that are under way or wait.
    calls: AtomicUsize,
    /// The same of all origins.
    calls_in_all: Arc<AtomicUsize>,
    /// Calls that got no answer since the last that got one, as far as those who call tell.
    silences: AtomicUsize,
    /// It is that of many origins.
    is_shared: bool,
}

/// A call's turn at its origin; somebody else's when this is dropped.
pub struct Turn<'a> {
    places: &'a Places,
    _turn: OwnedSemaphorePermit,
    call: Call,
}

/// A place that was taken; it is free again when this is dropped.
pub struct Place<'a> {
    _all: SemaphorePermit<'a>,
    turn: Turn<'a>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// [`Room::waiting`] of them wait already.
    #[error("{waiting} calls to it wait already: try again in a few seconds")]
    Full {
        /// The limit.
        waiting: usize,
    },
    /// [`Room::waiting_in_all`] wait already, most of them elsewhere.
    #[error("{waiting} calls to it and to others wait already: try again in a few seconds")]
    FullInAll {
        /// The limit.
        waiting: usize,
    },
    /// Calls that were made meanwhile found that nobody answers: see [`Place::unanswered`].
    #[error("it gave no answer to the calls before this one: try again in a few seconds")]
    Silent,
}

/// Somebody calls an origin, or wants to.
struct Call(Arc<Share>);

impl Places {
    /// Nobody calls anybody.
    #[must_use]
    pub fn new(room: Room) -> Self {
        Self { room, all: Semaphore::new(room.all), calls: Arc::default(), origins: Mutex::default() }
    }

    /// How many calls there may be.
    pub fn room(&self) -> Room {
        self.room
    }

    /// The places of an origin, which is remembered for as long as somebody holds them.
    pub fn share(&self, origin: &str) -> Arc<Share> {
        let mut origins = self.origins();
        if let Some(share) = origins.get(origin).and_then(Weak::upgrade) {
            return share;
        }
        if origins.len() >= ORIGINS_MAX {
            origins.retain(|_, share| share.strong_count() > 0);
        }
        let origin = if origins.len() < ORIGINS_MAX { origin } else { OTHERS };
        if let Some(share) = origins.get(origin).and_then(Weak::upgrade) {
            return share;
        }
        let turns = Arc::new(Semaphore::new(self.room.of_origin));
        let share = Arc::new(Share {
            turns,
            calls: AtomicUsize::new(0),
            calls_in_all: Arc::clone(&self.calls),
            silences: AtomicUsize::new(0),
            is_shared: origin == OTHERS,
        });
        origins.insert(origin.to_owned(), Arc::downgrade(&share));
        share
    }

    /// A place for a call to this origin, if there is one now.
    pub fn take_now(&self, share: &Arc<Share>) -> Option<Place<'_>> {
        let call = self.call(share).ok()?;
        let turn = Arc::clone(&share.turns).try_acquire_owned().ok()?;
        Some(Place { _all: self.all.try_acquire().ok()?, turn: Turn { places: self, _turn: turn, call } })
    }

    /// A place for a call to this origin, once there is one.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub async fn take(&self, share: &Arc<Share>) -> Result<Place<'_>, NoPlace> {
        self.turn(share).await?.place().await
    }

    /// The first half of [`Places::take`], for whoever looks again, before it goes on, at what may have changed while it waited.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub async fn turn(&self, share: &Arc<Share>) -> Result<Turn<'_>, NoPlace> {
        let call = self.call(share)?;
        let turn = Arc::clone(&share.turns).acquire_owned().await.map_err(|_closed| NoPlace::Silent)?;
        Ok(Turn { places: self, _turn: turn, call })
    }

    fn call(&self, share: &Arc<Share>) -> Result<Call, NoPlace> {
        let Room { all, of_origin, waiting, waiting_in_all } = self.room;
        let (before, in_all) = (share.calls.fetch_add(1, Ordering::Relaxed), self.calls.fetch_add(1, Ordering::Relaxed));
        // Taken back when it is dropped.
        let call = Call(Arc::clone(share));
        if before >= of_origin.saturating_add(waiting) {
            return Err(NoPlace::Full { waiting });
        }
        if before >= of_origin && in_all >= all.saturating_add(waiting_in_all) {
            return Err(NoPlace::FullInAll { waiting: waiting_in_all });
        }
        Ok(call)
    }

    fn origins(&self) -> MutexGuard<'_, HashMap<String, Weak<Share>>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Turn<'a> {
    /// The second half of [`Places::take`].
    ///
    /// # Errors
    /// None but in theory: the places of all are never closed.
    pub async fn place(self) -> Result<Place<'a>, NoPlace> {
        let all = self.places.all.acquire().await.map_err(|_closed| NoPlace::Silent)?;
        Ok(Place { _all: all, turn: self })
    }
}

impl Place<'_> {
    /// The call got an answer.
    pub fn answered(self) {
        self.turn.call.0.silences.store(0, Ordering::Relaxed);
    }

    /// The call got none. After some in a row whoever waits for a turn of this origin is told so, and does not find out one after the other. Whoever comes
    /// later, and asks [`Places::share`] anew, tries again.
    pub fn unanswered(self) {
        let Turn { places, call: Call(share), .. } = &self.turn;
        let silences = share.silences.fetch_add(1, Ordering::Relaxed) + 1;
        // Those who wait where origins are not told apart want different ones.
        if silences >= SILENCES_MAX && !share.is_shared {
            share.turns.close();
            places.origins().retain(|_, known| !std::ptr::eq(known.as_ptr(), Arc::as_ptr(share)));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
        self.0.calls_in_all.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { all: 8, of_origin: 2, waiting: 2, waiting_in_all: 100 };

    /// Whether it still waits.
    async fn waits<T>(work: &mut (impl Future<Output = T> + Unpin)) -> bool {
        tokio::select! { biased; _ = work => false, () = std::future::ready(()) => true }
    }

    #[test]
    fn an_origin_has_its_share_and_all_have_theirs() {
        let places = Places::new(ROOM);
        let shares = ["a", "b", "c", "d"].map(|origin| places.share(origin));
        let mut taken = Vec::new();
        for share in &shares {
            for _ in 0..2 {
                taken.push(places.take_now(share).unwrap());
            }
            assert!(places.take_now(share).is_none());
        }
        let fifth = places.share("e");
        assert!(places.take_now(&fifth).is_none(), "all places are taken");
        taken.remove(0);
        assert!(places.take_now(&shares[1]).is_none());
        let last = places.take_now(&fifth);
        assert!(last.is_some() && places.take_now(&shares[0]).is_none(), "who finds no place of all keeps none of its origin");
        drop(last);
        assert!(places.take_now(&shares[0]).is_some());
        assert_eq!(fifth.calls.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn who_waits_at_one_origin_holds_nothing_that_others_need() {
        let places = Places::new(Room { all: 2, of_origin: 1, ..ROOM });
        let (slow, other) = (places.share("slow"), places.share("other"));
        let held = places.take_now(&slow).unwrap();
        let mut waiting = std::pin::pin!(places.take(&slow));
        assert!(waits(&mut waiting).await);
        assert!(places.take_now(&other).is_some());
        drop(held);
        assert!(waiting.await.is_ok());
    }

    #[tokio::test]
    async fn whoever_finds_a_long_line_is_told_at_once() {
        let places = Places::new(Room { of_origin: 1, ..ROOM });
        let share = places.share("a");
        let place = places.take_now(&share).unwrap();
        let waiting = [places.call(&share).unwrap(), places.call(&share).unwrap()];
        assert_eq!(places.take(&share).await.err(), Some(NoPlace::Full { waiting: 2 }));
        assert!(places.take_now(&places.share("b")).is_some());
        drop(waiting);
        assert!(waits(&mut std::pin::pin!(places.take(&share))).await, "there is room to wait again");
        drop(place);
        assert!(places.take(&share).await.is_ok());
    }

    /// Story: who waited was counted for each origin alone. A stranger who could choose among many let 512 wait at each, and each of them kept one of the turns
    /// that a listener has for its requests.
    #[tokio::test]
    async fn lines_at_many_origins_are_no_longer_than_the_one_of_all() {
        let places = Places::new(Room { all: 3, of_origin: 1, waiting: 2, waiting_in_all: 3 });
        let [a, b, c] = ["a", "b", "c"].map(|origin| places.share(origin));
        let held = [places.take_now(&a).unwrap(), places.take_now(&b).unwrap()];
        let waiting: Vec<_> = [&a, &a, &b, &b].map(|share| places.call(share).unwrap()).into();
        assert_eq!(places.take(&a).await.err(), Some(NoPlace::Full { waiting: 2 }));
        let last = places.take(&c).await.unwrap();
        assert_eq!(
            places.take(&c).await.err(),
            Some(NoPlace::FullInAll { waiting: 3 }),
            "an origin with a turn left is called, and no more"
        );
        drop(waiting);
        assert!(waits(&mut std::pin::pin!(places.take(&c))).await, "there is room to wait again");
        drop((held, last));
        assert_eq!(places.calls.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn whoever_waits_for_one_that_does_not_answer_is_told_so() {
        let places = Places::new(Room { of_origin: 1, ..ROOM });
        let (a, b) = (places.share("a"), places.share("b"));
        let other = places.take_now(&b).unwrap();
        for silences in [2, 1, 2] {
            for _ in 0..silences {
                places.take_now(&a).unwrap().unanswered();
            }
            places.take_now(&a).unwrap().answered();
        }
        (0..2).for_each(|_| places.take_now(&a).unwrap().unanswered());
        let place = places.take_now(&a).unwrap();
        let mut waiting = std::pin::pin!(places.take(&a));
        assert!(waits(&mut waiting).await);
        place.unanswered();
        assert_eq!(waiting.await.err(), Some(NoPlace::Silent));
        assert!(places.take_now(&b).is_none(), "others keep their turns");
        assert!(places.take_now(&places.share("a")).is_some(), "and whoever comes later tries again");
        drop(other);
    }

    #[test]
    fn origins_are_told_apart_up_to_a_limit_and_nothing_stays_of_those_that_nobody_calls() {
        let places = Places::new(ROOM);
        let shares: Vec<_> = (0..ORIGINS_MAX + 50).map(|number| places.share(&number.to_string())).collect();
        assert_eq!(places.origins().len(), ORIGINS_MAX + 1);
        assert!(Arc::ptr_eq(&shares[3], &places.share("3")) && !Arc::ptr_eq(&shares[3], &shares[4]));
        assert!(Arc::ptr_eq(&shares[ORIGINS_MAX], &shares[ORIGINS_MAX + 49]), "the rest have the places of one");
        (0..9).for_each(|_| places.take_now(&shares[ORIGINS_MAX]).unwrap().unanswered());
        assert!(places.take_now(&shares[ORIGINS_MAX]).is_some(), "which are not given up");
        drop(shares);
        let again = places.share("new");
        assert!(places.origins().len() == 1 && Arc::ptr_eq(&again, &places.share("new")));
    }
}
