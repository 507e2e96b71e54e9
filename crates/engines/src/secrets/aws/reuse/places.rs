//! The table behind [`super::Kept`]: a place for each credential that is kept or being made, who has taken how much of the table, and which window
//! closes next. It waits for nobody; each step but those that go over a whole table costs the same however full it is.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::SHA256_OUTPUT_LEN;
use daypass_base::Rare;
use daypass_sdk::Moment;
use tokio::sync::OnceCell;

use super::{Minted, Same, Shared, Window};

/// How often it is warned of credentials that found no place.
const WARNED_EVERY: Duration = Duration::from_mins(5);

/// A credential, or whoever makes it.
pub(super) type Place = Arc<OnceCell<Result<Arc<Minted>, Shared>>>;

/// A hash of who a place is for.
pub(super) type Holder = [u8; SHA256_OUTPUT_LEN];

/// So many places, and about so many bytes of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) places: usize,
    pub(super) bytes: usize,
}

impl Amount {
    fn has_room_for(self, bytes: usize, most: Self) -> bool {
        self.places < most.places && self.bytes.saturating_add(bytes) <= most.bytes
    }

    fn add(&mut self, bytes: usize) {
        self.places += 1;
        self.bytes += bytes;
    }

    #[cfg(test)]
    fn with(self, other: Self) -> Self {
        Self { places: self.places + other.places, bytes: self.bytes + other.bytes }
    }

    fn subtract(&mut self, bytes: usize) {
        self.places = self.places.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// How much there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) all: Amount,
    /// Of one holder.
    pub(super) of_one: Amount,
}

/// What one holder has.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    all: Amount,
    /// That part of it whose credentials are being made: it makes room for nothing.
    making: Amount,
}

struct Held {
    place: Place,
    window: Window,
    holder: Holder,
    bytes: usize,
    /// Where it stands among those that close; `None` while its credential is being made.
    closes: Option<Spot>,
}

/// When, on the monotonic clock, and a number.
type Spot = (Duration, u64);

pub(super) struct Places {
    room: Room,
    all: HashMap<Arc<Same>, Held>,
    /// Those with a credential, by when their window closes.
    closing: BTreeMap<Spot, Arc<Same>>,
    /// The same by whose they are, those that were made first before others.
    aging: BTreeMap<(Holder, u64), Arc<Same>>,
    taken: Amount,
    of_each: HashMap<Holder, Share>,
    numbered: u64,
    /// Warnings of credentials that found no place.
    short: Rare,
}

impl Places {
    pub(super) fn new(room: Room) -> Self {
        let (all, closing, aging, of_each) = (HashMap::new(), BTreeMap::new(), BTreeMap::new(), HashMap::new());
        Self { room, all, closing, aging, taken: Amount::default(), of_each, numbered: 0, short: Rare::default() }
    }

    pub(super) fn find(&self, same: &Same) -> Option<&Place> {
        self.all.get(same).map(|held| &held.place)
    }

    /// A new place. Those of its holder that were made first make room where there is none: whoever reads field by field reads soon, so that theirs are read, and
    /// this one's may be not. `None`, and nothing is dropped, when that is not enough.
    pub(super) fn put(&mut self, same: &Same, holder: Holder, window: Window) -> Option<Place> {
        let bytes = same.bytes();
        self.remove(same);
        if !self.could_have_room_for(bytes, &holder) {
            return None;
        }
        while !self.has_room_for(bytes, &holder) {
            if !self.drop_oldest_of(&holder) {
                return None;
            }
        }
        self.taken.add(bytes);
        let share = self.of_each.entry(holder).or_default();
        share.all.add(bytes);
        share.making.add(bytes);
        let place = Place::default();
        let held = Held { place: Arc::clone(&place), window, holder, bytes, closes: None };
        self.all.insert(Arc::new(same.clone()), held);
        Some(place)
    }

    /// Notes when the window of a credential closes that was made just now, unless another has taken its place.
    pub(super) fn made(&mut self, same: &Same, place: &Place, minted: &Minted) {
        let Some((same, _)) = self.all.get_key_value(same) else { return };
        let same = Arc::clone(same);
        let Some(held) = self.all.get_mut(&same).filter(|held| Arc::ptr_eq(&held.place, place)) else { return };
        let spot = (minted.at.elapsed.saturating_add(held.window.open_for(minted.life)), self.numbered);
        self.numbered += 1;
        if let Some(old) = held.closes.replace(spot) {
            self.closing.remove(&old);
            self.aging.remove(&(held.holder, old.1));
        } else if let Some(share) = self.of_each.get_mut(&held.holder) {
            share.making.subtract(held.bytes);
        }
        self.aging.insert((held.holder, spot.1), Arc::clone(&same));
        self.closing.insert(spot, same);
    }

    pub(super) fn remove(&mut self, same: &Same) {
        let Some(held) = self.all.remove(same) else { return };
        if let Some(spot) = held.closes {
            self.closing.remove(&spot);
            self.aging.remove(&(held.holder, spot.1));
        }
        self.taken.subtract(held.bytes);
        if let Some(share) = self.of_each.get_mut(&held.holder) {
            share.all.subtract(held.bytes);
            if held.closes.is_none() {
                share.making.subtract(held.bytes);
            }
            if share.all == Amount::default() {
                self.of_each.remove(&held.holder);
            }
        }
    }

    pub(super) fn remove_if(&mut self, same: &Same, goes: impl Fn(&Place) -> bool) {
        if self.find(same).is_some_and(goes) {
            self.remove(same);
        }
    }

    /// Gives up the place of a request that was cut off, unless somebody else waits for it: asked under the lock, under which alone others get
    /// hold of a place.
    pub(super) fn leave(&mut self, same: &Same, place: Place) {
        let left = Arc::as_ptr(&place);
        drop(place);
        self.remove_if(same, |held| Arc::as_ptr(held) == left && held.get().is_none() && Arc::strong_count(held) == 1);
    }

    /// Drops those whose window is over by the monotonic clock. What is made later closes later, but for windows of different length: each place is
    /// looked at once.
    pub(super) fn sweep(&mut self, now: Duration) {
        while let Some((spot, same)) = self.closing.first_key_value()
            && spot.0 <= now
        {
            let same = Arc::clone(same);
            self.remove(&same);
        }
    }

    fn of(&self, holder: &Holder) -> Share {
        self.of_each.get(holder).copied().unwrap_or_default()
    }

    fn has_room_for(&self, bytes: usize, holder: &Holder) -> bool {
        self.taken.has_room_for(bytes, self.room.all) && self.of(holder).all.has_room_for(bytes, self.room.of_one)
    }

    /// Whether there would be room if this holder had nothing but what is being made.
    fn could_have_room_for(&self, bytes: usize, holder: &Holder) -> bool {
        let Share { all, making } = self.of(holder);
        let left = |taken: usize, all: usize, making: usize| taken.saturating_sub(all).saturating_add(making);
        let stays =
            Amount { places: left(self.taken.places, all.places, making.places), bytes: left(self.taken.bytes, all.bytes, making.bytes) };
        stays.has_room_for(bytes, self.room.all) && making.has_room_for(bytes, self.room.of_one)
    }

    /// Drops the one of a holder that was made first. Says whether there was one.
    fn drop_oldest_of(&mut self, holder: &Holder) -> bool {
        let oldest = self.aging.range((*holder, 0)..=(*holder, u64::MAX)).next().map(|(_, same)| Arc::clone(same));
        let Some(same) = oldest else { return false };
        self.remove(&same);
        true
    }

    /// Drops those whose window is over by either clock. Goes over the whole table.
    pub(super) fn tidy(&mut self, now: Moment) {
        self.retain(|_, held| match held.place.get() {
            None => true,
            Some(Ok(minted)) => held.window.is_open(minted, now),
            Some(Err(_)) => false,
        });
    }

    /// Drops those of a role. Goes over the whole table.
    pub(super) fn forget(&mut self, role: &str) {
        self.retain(|same, _| same.role != role);
    }

    pub(super) fn clear(&mut self) {
        self.retain(|_, _| false);
    }

    fn retain(&mut self, stays: impl Fn(&Same, &Held) -> bool) {
        let gone: Vec<Arc<Same>> = self.all.iter().filter(|(same, held)| !stays(same, held)).map(|(same, _)| Arc::clone(same)).collect();
        for same in gone {
            self.remove(&same);
        }
    }

    /// Notes that a credential found no place. How many since the last warning, when another is due.
    pub(super) fn refuse(&self, now: Duration) -> Option<u64> {
        self.short.may_tell(now, WARNED_EVERY).map(|left_out| left_out + 1)
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> Amount {
        let counted = Amount { places: self.all.len(), bytes: self.all.values().map(|held| held.bytes).sum() };
        let of_each = self
            .of_each
            .values()
            .fold(Share::default(), |sum, one| Share { all: sum.all.with(one.all), making: sum.making.with(one.making) });
        let unmade = self.all.values().filter(|held| held.closes.is_none()).map(|held| held.bytes);
        let making = unmade.fold(Amount::default(), |sum, bytes| sum.with(Amount { places: 1, bytes }));
        assert_eq!((self.taken, of_each.all, of_each.making), (counted, counted, making), "what is counted is what there is");
        assert!(self.closing.iter().all(|(spot, same)| self.all[same].closes == Some(*spot)), "what closes is there");
        assert!(self.aging.iter().all(|((holder, number), same)| {
            let held = &self.all[same];
            held.holder == *holder && held.closes.is_some_and(|spot| spot.1 == *number)
        }));
        assert_eq!(self.aging.len(), self.closing.len());
        counted
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = &Same> {
        self.all.keys().map(Arc::as_ref)
    }
}
