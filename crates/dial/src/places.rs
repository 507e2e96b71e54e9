//! Places for calls: so many in all, and fewer for each origin, so that one that does not answer leaves some to the others. A call waits for a place of its
//! origin first: whoever waits there holds nothing that others need.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

/// Origins that are told apart at one moment; the calls to any more of them have the places of one.
const ORIGINS_MAX: usize = 256;
/// What stands for those. No origin is called so.
const OTHERS: &str = "";

/// The places of all calls.
pub struct Places {
    all: Semaphore,
    all_max: usize,
    of_origin_max: usize,
    /// Those that somebody calls, wants to call, or will call again.
    origins: Mutex<HashMap<String, Weak<Share>>>,
}

/// The places of one origin, the same for all who hold it. Whoever calls an origin often keeps it, so that a call looks nothing up.
pub struct Share(Semaphore);

/// A place that was taken; it is free again when this is dropped.
pub struct Place<'a> {
    _all: SemaphorePermit<'a>,
    _of_origin: SemaphorePermit<'a>,
}

impl Places {
    /// So many at one moment, and those of them to one origin. More wait.
    pub fn new(all: usize, of_origin: usize) -> Self {
        Self { all: Semaphore::new(all), all_max: all, of_origin_max: of_origin, origins: Mutex::default() }
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
        let share = Arc::new(Share(Semaphore::new(self.of_origin_max)));
        origins.insert(origin.to_owned(), Arc::downgrade(&share));
        share
    }

    /// A place for a call to this origin, if there is one now.
    pub fn take_now<'a>(&'a self, share: &'a Share) -> Option<Place<'a>> {
        let of_origin = share.0.try_acquire().ok()?;
        Some(Place { _all: self.all.try_acquire().ok()?, _of_origin: of_origin })
    }

    /// A place for a call to this origin, once there is one.
    pub async fn take<'a>(&'a self, share: &'a Share) -> Result<Place<'a>, AcquireError> {
        let of_origin = share.0.acquire().await?;
        Ok(Place { _all: self.all.acquire().await?, _of_origin: of_origin })
    }

    /// How many calls may be under way at one moment.
    pub fn all_max(&self) -> usize {
        self.all_max
    }

    /// Those of them to one origin.
    pub fn of_origin_max(&self) -> usize {
        self.of_origin_max
    }

    fn origins(&self) -> MutexGuard<'_, HashMap<String, Weak<Share>>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_its_share_and_all_have_theirs() {
        let places = Places::new(8, 2);
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
    }

    #[tokio::test]
    async fn who_waits_at_one_origin_holds_nothing_that_others_need() {
        let places = Places::new(2, 1);
        let (slow, other) = (places.share("slow"), places.share("other"));
        let held = places.take_now(&slow).unwrap();
        let mut waiting = std::pin::pin!(places.take(&slow));
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("there is no place"),
            () = std::future::ready(()) => {}
        }
        assert!(places.take_now(&other).is_some());
        drop(held);
        assert!(waiting.await.is_ok());
    }

    #[test]
    fn origins_are_told_apart_up_to_a_limit_and_nothing_stays_of_those_that_nobody_calls() {
        let places = Places::new(8, 2);
        let shares: Vec<_> = (0..ORIGINS_MAX + 50).map(|number| places.share(&number.to_string())).collect();
        assert_eq!(places.origins().len(), ORIGINS_MAX + 1);
        assert!(Arc::ptr_eq(&shares[3], &places.share("3")) && !Arc::ptr_eq(&shares[3], &shares[4]));
        assert!(Arc::ptr_eq(&shares[ORIGINS_MAX], &shares[ORIGINS_MAX + 49]), "the rest have the places of one");
        drop(shares);
        let again = places.share("new");
        assert!(places.origins().len() == 1 && Arc::ptr_eq(&again, &places.share("new")));
    }
}
