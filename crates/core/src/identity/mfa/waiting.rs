//! Logins whose second factor has not come yet: in memory, bounded, for five minutes, good once.
//!
//! What waits is what an auth method proved. No token, no lease and no row is made of it before its factor was verified.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use daypass_base::Seconds;
use daypass_sdk::{Error, Kind, Login, Result};
use parking_lot::Mutex;

use crate::weight;

/// A login that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) login: Login,
    /// The mount that proved it, by accessor.
    pub(crate) mount_accessor: String,
    /// Where it was proved, below the mount: `login/bob`. The mount may be elsewhere by the time it is finished.
    pub(crate) below: String,
    /// The answer with the token is to be wrapped, as the login asked.
    pub(crate) wrap_ttl: Option<Seconds>,
    /// Whose login it is.
    pub(crate) entity_id: String,
}

/// All of them.
#[derive(Clone, Default)]
pub(crate) struct WaitingRoom {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    logins: HashMap<String, Place>,
    bytes: usize,
}

struct Place {
    waiting: Waiting,
    bytes: usize,
    until: Duration,
}

/// A login that was taken out to be judged: nobody else can take it meanwhile. It goes back when this is dropped, for what is left of its
/// time, unless it was finished.
pub(crate) struct Taken {
    room: WaitingRoom,
    id: String,
    place: Option<Place>,
}

impl WaitingRoom {
    /// Lets a login wait under an id that nobody can guess. Who has many of them waiting loses the oldest. Errors: `TooMany` when all logins
    /// together are too many.
    pub(crate) fn add(&self, id: &str, waiting: Waiting, now: Duration) -> Result<()> {
        let bytes = bytes(&waiting);
        let mut state = self.state.lock();
        state.forget_ended(now);
        let mut own: Vec<(Duration, String)> = state
            .logins
            .iter()
            .filter(|(_, place)| place.waiting.entity_id == waiting.entity_id)
            .map(|(id, place)| (place.until, id.clone()))
            .collect();
        own.sort_unstable();
        for (_, oldest) in own.iter().take((own.len() + 1).saturating_sub(OF_ONE_MAX)) {
            state.remove(oldest);
        }
        if state.logins.len() >= LOGINS_MAX || state.bytes + bytes > BYTES_MAX {
            let text =
                format!("{LOGINS_MAX} logins or {BYTES_MAX} bytes of them wait for a second factor, which is the limit: try again later");
            return Err(Error::new(Kind::TooMany, text));
        }
        state.put(id.to_owned(), Place { waiting, bytes, until: now + LIFETIME });
        Ok(())
    }

    /// Forgets logins whose time is over, also where none is added any more.
    pub(crate) fn tidy(&self, now: Duration) {
        self.state.lock().forget_ended(now);
    }

    /// Takes a login out to be judged. `None`: none waits under this id any more, or somebody else judges it.
    pub(crate) fn take(&self, id: &str, now: Duration) -> Option<Taken> {
        let mut state = self.state.lock();
        let place = state.remove(id).filter(|place| now < place.until)?;
        Some(Taken { room: self.clone(), id: id.to_owned(), place: Some(place) })
    }
}

impl State {
    fn put(&mut self, id: String, place: Place) {
        self.bytes += place.bytes;
        self.logins.insert(id, place);
    }

    fn remove(&mut self, id: &str) -> Option<Place> {
        let place = self.logins.remove(id)?;
        self.bytes = self.bytes.saturating_sub(place.bytes);
        Some(place)
    }

    fn forget_ended(&mut self, now: Duration) {
        let gone: Vec<String> = self.logins.iter().filter(|(_, place)| now >= place.until).map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.remove(&id);
        }
    }
}

impl Taken {
    pub(crate) fn waiting(&self) -> Option<&Waiting> {
        self.place.as_ref().map(|place| &place.waiting)
    }

    /// Its factor is verified: it waits no more.
    pub(crate) fn finish(mut self) -> Option<Waiting> {
        self.place.take().map(|place| place.waiting)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.room.state.lock().put(std::mem::take(&mut self.id), place);
        }
    }
}

/// About what a login takes in memory.
fn bytes(waiting: &Waiting) -> usize {
    let Waiting { login, mount_accessor, below, entity_id, .. } = waiting;
    let lists = weight::texts(login.policies.iter().chain(&login.groups).chain(&login.bound_cidrs));
    let internal = login.internal.as_ref().map_or(0, |value| 4 * value.to_string().len());
    let texts = login.display_name.len() + login.alias.len() + mount_accessor.len() + below.len() + entity_id.len();
    size_of::<Place>() + lists + weight::pairs(&login.metadata) + internal + texts
}

const LIFETIME: Duration = Duration::from_mins(5);
const LOGINS_MAX: usize = 16_384;
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Logins of one entity that wait at one time.
const OF_ONE_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(entity: &str, policies: usize) -> Waiting {
        Waiting {
            login: Login { policies: vec!["p".repeat(1000); policies], ..Login::default() },
            mount_accessor: "auth_userpass_1".to_owned(),
            below: "login/bob".to_owned(),
            wrap_ttl: None,
            entity_id: entity.to_owned(),
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_login_waits_five_minutes_and_is_good_once() {
        let room = WaitingRoom::default();
        room.add("1", of("e", 1), at(0)).unwrap();
        let taken = room.take("1", at(299)).unwrap();
        assert!(room.take("1", at(299)).is_none(), "it is being judged");
        drop(taken);
        assert!(room.take("1", at(299)).unwrap().finish().is_some());
        assert!(room.take("1", at(299)).is_none(), "it is finished");
        room.add("2", of("e", 1), at(0)).unwrap();
        assert!(room.take("2", at(300)).is_none());
        room.add("3", of("e", 1), at(0)).unwrap();
        room.tidy(at(300));
        assert_eq!(room.state.lock().bytes, 0);
    }

    #[test]
    fn judging_does_not_make_it_wait_longer() {
        let room = WaitingRoom::default();
        room.add("1", of("e", 1), at(0)).unwrap();
        for second in 1..=4 {
            drop(room.take("1", at(second * 60)).unwrap());
        }
        assert!(room.take("1", at(300)).is_none());
    }

    #[test]
    fn whoever_has_many_waiting_loses_his_own_oldest() {
        let room = WaitingRoom::default();
        room.add("other", of("other", 1), at(0)).unwrap();
        for n in 0..20 {
            room.add(&n.to_string(), of("e", 1), at(n)).unwrap();
        }
        assert_eq!(room.state.lock().logins.len(), 1 + OF_ONE_MAX);
        assert!(room.take("11", at(20)).is_none() && room.take("12", at(20)).is_some() && room.take("other", at(20)).is_some());
    }

    #[test]
    fn all_together_are_bounded_by_number_and_bytes_and_time_makes_room() {
        let room = WaitingRoom::default();
        for n in 0..LOGINS_MAX {
            room.add(&n.to_string(), of(&n.to_string(), 0), at(0)).unwrap();
        }
        assert_eq!(room.add("more", of("more", 0), at(1)).unwrap_err().kind, Kind::TooMany);
        assert!(room.add("more", of("more", 0), at(300)).is_ok());
        let large = WaitingRoom::default();
        let taken = (0..100).take_while(|n| large.add(&n.to_string(), of(&n.to_string(), 1000), at(0)).is_ok()).count();
        assert!((30..34).contains(&taken), "{taken} logins of a megabyte");
    }
}
