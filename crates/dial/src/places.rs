//! Places for calls: so many in all, and fewer for each origin, so that one that does not answer leaves some to the others. A call waits for a turn of its
//! origin first: whoever waits there holds nothing that others need. Whoever waits is a request, of which a server has only so many: so there is a limit to
//! those who wait, for all origins together too, since strangers may choose among many.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError};

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
    /// Waiting for one origin at one moment; more are refused. Who need not wait never is.
    pub waiting: usize,
    /// The same for all origins together.
    pub waiting_in_all: usize,
}

/// The places of all calls.
pub struct Places {
    room: Room,
    all: Semaphore,
    /// Calls that wait.
    waiting: AtomicUsize,
    /// Those that somebody calls, wants to call, or will call again.
    origins: Mutex<HashMap<String, Weak<Share>>>,
}

/// The places of one origin, the same for all who hold it. Whoever calls an origin often keeps it, so that a call looks nothing up.
pub struct Share {
    turns: Arc<Semaphore>,
    /// Calls that wait.
    waiting: AtomicUsize,
    /// Calls that got no answer since the last that got one, as far as those who call tell.
    silences: AtomicUsize,
    /// It is that of many origins.
    is_shared: bool,
}

/// A call's turn at its origin; somebody else's when this is dropped.
pub struct Turn<'a> {
    places: &'a Places,
    share: Arc<Share>,
    _turn: OwnedSemaphorePermit,
    /// Kept until there is a place, where the call waited for its turn.
    wait: Option<Wait<'a>>,
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
    /// [`Room::waiting_in_all`] of them wait already.
    #[error("{waiting} calls to it and to others wait already: try again in a few seconds")]
    FullInAll {
        /// The limit.
        waiting: usize,
    },
    /// Calls that were made meanwhile found that nobody answers: see [`Place::unanswered`].
    #[error("it gave no answer to the calls before this one: try again in a few seconds")]
    Silent,
}

/// Somebody waits to call an origin.
struct Wait<'a> {
    places: &'a Places,
    share: Arc<Share>,
}

impl Room {
    /// Calls at one moment, under way or waiting: so many requests may be held by them.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.all.saturating_add(self.waiting_in_all)
    }
}

impl Places {
    /// Nobody calls anybody.
    #[must_use]
    pub fn new(room: Room) -> Self {
        Self { room, all: Semaphore::new(room.all), waiting: AtomicUsize::new(0), origins: Mutex::default() }
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
        let share = Arc::new(Share { turns, waiting: AtomicUsize::new(0), silences: AtomicUsize::new(0), is_shared: origin == OTHERS });
        origins.insert(origin.to_owned(), Arc::downgrade(&share));
        share
    }

    /// A place for a call to this origin, if there is one now.
    pub fn take_now(&self, share: &Arc<Share>) -> Option<Place<'_>> {
        let turn = Arc::clone(&share.turns).try_acquire_owned().ok()?;
        Some(Place { _all: self.all.try_acquire().ok()?, turn: self.had(share, turn, None) })
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
        match Arc::clone(&share.turns).try_acquire_owned() {
            Ok(turn) => return Ok(self.had(share, turn, None)),
            Err(TryAcquireError::Closed) => return Err(NoPlace::Silent),
            Err(TryAcquireError::NoPermits) => {}
        }
        let wait = self.wait(share)?;
        let turn = Arc::clone(&share.turns).acquire_owned().await.map_err(|_closed| NoPlace::Silent)?;
        Ok(self.had(share, turn, Some(wait)))
    }

    fn had<'a>(&'a self, share: &Arc<Share>, turn: OwnedSemaphorePermit, wait: Option<Wait<'a>>) -> Turn<'a> {
        Turn { places: self, share: Arc::clone(share), _turn: turn, wait }
    }

    /// Counts one more who waits, until that is dropped.
    fn wait(&self, share: &Arc<Share>) -> Result<Wait<'_>, NoPlace> {
        let Room { waiting, waiting_in_all, .. } = self.room;
        if !more(&share.waiting, waiting) {
            return Err(NoPlace::Full { waiting });
        }
        if !more(&self.waiting, waiting_in_all) {
            share.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(NoPlace::FullInAll { waiting: waiting_in_all });
        }
        Ok(Wait { places: self, share: Arc::clone(share) })
    }

    fn origins(&self) -> MutexGuard<'_, HashMap<String, Weak<Share>>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one more, unless there are that many.
fn more(count: &AtomicUsize, most: usize) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < most).then_some(count + 1)).is_ok()
}

impl<'a> Turn<'a> {
    /// The second half of [`Places::take`].
    ///
    /// # Errors
    /// [`NoPlace`], where the call did not wait before and would have to now.
    pub async fn place(mut self) -> Result<Place<'a>, NoPlace> {
        let (places, waited) = (self.places, self.wait.take());
        if let Ok(all) = places.all.try_acquire() {
            return Ok(Place { _all: all, turn: self });
        }
        let _wait = waited.map_or_else(|| places.wait(&self.share), Ok)?;
        let all = places.all.acquire().await.map_err(|_never_closed| NoPlace::Silent)?;
        Ok(Place { _all: all, turn: self })
    }
}

impl Place<'_> {
    /// The call got an answer.
    pub fn answered(self) {
        self.turn.share.silences.store(0, Ordering::Relaxed);
    }

    /// The call got none. After some in a row whoever waits for a turn of this origin is told so, and does not find out one after the other. Whoever comes
    /// later, and asks [`Places::share`] anew, tries again.
    pub fn unanswered(self) {
        let Turn { places, share, .. } = &self.turn;
        let silences = share.silences.fetch_add(1, Ordering::Relaxed) + 1;
        // Those who wait where origins are not told apart want different ones.
        if silences >= SILENCES_MAX && !share.is_shared {
            share.turns.close();
            places.origins().retain(|_, known| !std::ptr::eq(known.as_ptr(), Arc::as_ptr(share)));
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.share.waiting.fetch_sub(1, Ordering::Relaxed);
        self.places.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use daypass_base::sim::waits;

    use super::*;

    const ROOM: Room = Room { all: 8, of_origin: 2, waiting: 2, waiting_in_all: 5 };

    /// Everybody who waits, of all and of one.
    fn waiting(places: &Places, share: &Share) -> (usize, usize) {
        (places.waiting.load(Ordering::Relaxed), share.waiting.load(Ordering::Relaxed))
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
        assert_eq!(waiting(&places, &fifth), (0, 0));
    }

    #[tokio::test]
    async fn who_waits_at_one_origin_holds_nothing_that_others_need() {
        let places = Places::new(Room { all: 2, of_origin: 1, ..ROOM });
        let (slow, other) = (places.share("slow"), places.share("other"));
        let held = places.take_now(&slow).unwrap();
        let mut waiting = std::pin::pin!(places.take(&slow));
        assert!(waits(&mut waiting));
        assert!(places.take_now(&other).is_some());
        drop(held);
        assert!(waiting.await.is_ok());
    }

    #[tokio::test]
    async fn whoever_finds_a_long_line_is_told_at_once() {
        let places = Places::new(Room { of_origin: 1, ..ROOM });
        let share = places.share("a");
        let place = places.take_now(&share).unwrap();
        let line = [places.wait(&share).unwrap(), places.wait(&share).unwrap()];
        assert_eq!(places.take(&share).await.err(), Some(NoPlace::Full { waiting: 2 }));
        assert!(places.take_now(&places.share("b")).is_some());
        drop(line);
        assert!(waits(&mut std::pin::pin!(places.take(&share))), "there is room to wait again");
        drop(place);
        assert!(places.take(&share).await.is_ok());
        assert_eq!(waiting(&places, &share), (0, 0));
    }

    /// Story: only the line of each origin had an end. A stranger who chose among ten origins had ten lines, and all requests of a server waited in them.
    #[tokio::test]
    async fn those_who_wait_for_many_origins_are_so_many_together_and_who_need_not_wait_goes_on() {
        let places = Places::new(Room { of_origin: 1, ..ROOM });
        let shares = ["a", "b", "c", "d"].map(|origin| places.share(origin));
        let mut held: Vec<_> = shares.iter().map(|share| places.take_now(share).unwrap()).collect();
        let mut lines: Vec<_> =
            shares.iter().take(2).flat_map(|share| [places.wait(share).unwrap(), places.wait(share).unwrap()]).collect();
        let mut last = Box::pin(places.take(&shares[2]));
        assert!(waits(&mut last), "two lines are full, and the third has room");
        assert_eq!(waiting(&places, &shares[2]), (5, 1));
        assert_eq!(places.take(&shares[2]).await.err(), Some(NoPlace::FullInAll { waiting: 5 }));
        assert_eq!(places.take(&shares[3]).await.err(), Some(NoPlace::FullInAll { waiting: 5 }));
        assert_eq!(waiting(&places, &shares[3]), (5, 0), "who is refused is not counted");
        assert!(places.take(&places.share("e")).await.is_ok(), "nobody is there: who need not wait is let on");
        drop(held.remove(2));
        assert!(last.await.is_ok());
        assert_eq!(waiting(&places, &shares[2]), (4, 0));
        lines.clear();
        assert!(waits(&mut std::pin::pin!(places.take(&shares[3]))));
        assert_eq!(waiting(&places, &shares[3]), (0, 0), "nor who has gone");
    }

    #[tokio::test]
    async fn who_has_a_turn_and_no_place_waits_as_well() {
        let places = Places::new(Room { all: 1, waiting_in_all: 1, ..ROOM });
        let [held, first, second] = ["a", "b", "c"].map(|origin| places.share(origin));
        let place = places.take_now(&held).unwrap();
        let mut waits_already = std::pin::pin!(places.take(&first));
        assert!(waits(&mut waits_already));
        assert_eq!(waiting(&places, &first), (1, 1));
        assert_eq!(places.take(&second).await.err(), Some(NoPlace::FullInAll { waiting: 1 }));
        drop(place);
        let place = waits_already.await.unwrap();
        assert_eq!(waiting(&places, &first), (0, 0));
        drop(place);
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
        assert!(waits(&mut waiting));
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
