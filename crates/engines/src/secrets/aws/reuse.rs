//! Credentials that are handed out again for a while, and callers who wait for one that is being made already.
//!
//! Packer's `vault()` and other readers read one field at a time: with a `reuse_window` the fields they get belong together, and AWS is
//! asked once. A credential is kept in memory alone and never longer than its window; the number kept is bounded.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{AssumeRole, Credential, Skew};
use daypass_sdk::{Cx, Error, Kind, Moment, Result, Seconds};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::ours::Ours;
use crate::secrets::revoked::Revoked;

/// Most credentials that a mount keeps. When all places are taken by credentials that are still good, others are made but not kept.
const KEPT_MAX: usize = 10_000;
/// About how much memory they may take: session policies and tags may come from callers.
const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A credential with its session token, and what is small of [`Same`].
const CREDENTIAL_BYTES: usize = 3 * 1024;

/// What makes two requests the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Same {
    /// Who asks; `None` where the role shares its credentials.
    pub(super) caller: Option<[u8; 16]>,
    /// Name of the daypass role; empty for the role on the way.
    pub(super) role: String,
    /// Generation and version of its row: what was made under another one is not handed out again.
    pub(super) written: (String, u64),
    /// The version of `config/root`.
    pub(super) config: u64,
    /// What is asked of AWS; a session name that was made for this request alone is left out.
    pub(super) input: AssumeRole,
}

impl Same {
    /// About how much memory it takes, with its credential.
    fn bytes(&self) -> usize {
        let AssumeRole { policy, policy_arns, tags, transitive_tag_keys, .. } = &self.input;
        let texts = policy.iter().chain(policy_arns).chain(transitive_tag_keys).chain(tags.iter().flat_map(|(key, value)| [key, value]));
        CREDENTIAL_BYTES + texts.map(|text| text.len() + size_of::<String>()).sum::<usize>()
    }
}

/// How long a credential is good for others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    length: Seconds,
    min_ttl: Seconds,
}

impl Window {
    /// For the role on the way: as long as it lasts, but for ten minutes.
    pub(super) const HOP: Self = Self { length: WINDOW_MAX, min_ttl: Seconds(600) };

    /// The window of a role; `None` when it hands out nothing again. Without `reuse_min_ttl` a credential must have half of its life left.
    pub(super) fn of(ours: &Ours, lifetime: Seconds) -> Option<Self> {
        let length = ours.reuse_window.set()?;
        Some(Self { length, min_ttl: ours.reuse_min_ttl.set().unwrap_or(Seconds(lifetime.0 / 2)) })
    }

    fn is_open(self, minted: &Minted, now: Moment) -> bool {
        minted.age(now) < self.length.duration() && minted.left(now) >= self.min_ttl.duration()
    }
}

/// A credential, and when and under which name it was made.
#[derive(Debug)]
pub(super) struct Minted {
    at: Moment,
    pub(super) credential: Credential,
    /// How long AWS took it from then on.
    life: Duration,
    pub(super) session_name: String,
}

impl Minted {
    /// Made now. Whoever made it knows AWS's clock.
    pub(super) fn now(cx: &Cx, credential: Credential, clock: Skew, session_name: String) -> Self {
        let at = cx.clock.moment();
        Self { at, life: credential.expiration.since(clock.theirs(at.wall)), credential, session_name }
    }

    /// How long ago it was made, whoever sets this machine's clock.
    pub(super) fn age(&self, now: Moment) -> Duration {
        now.since(self.at)
    }

    /// For how long AWS takes it yet. Whoever sets this machine's clock changes nothing about that.
    pub(super) fn left(&self, now: Moment) -> Duration {
        self.life.saturating_sub(self.age(now))
    }
}

type Place = Arc<OnceCell<Result<Arc<Minted>, Shared>>>;

/// A failure that several callers get.
struct Shared {
    kind: Kind,
    message: String,
    retry_after: Seconds,
    cause: Option<Cause>,
}

/// What was behind it, for the log of each of them.
#[derive(Debug, Clone)]
struct Cause(Arc<dyn std::error::Error + Send + Sync>);

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl Shared {
    fn of(error: Error) -> Self {
        let Error { kind, message, retry_after, source, .. } = error;
        Self { kind, message, retry_after, cause: source.map(|source| Cause(Arc::from(source))) }
    }

    fn error(&self) -> Error {
        let error = Error::new(self.kind, self.message.clone()).retry_after(self.retry_after);
        match &self.cause {
            Some(cause) => error.because(cause.clone()),
            None => error,
        }
    }
}

#[derive(Default)]
struct Places {
    all: HashMap<Same, Place>,
    bytes: usize,
}

impl Places {
    fn put(&mut self, same: Same, place: &Place) {
        let bytes = same.bytes();
        if self.all.insert(same, Arc::clone(place)).is_none() {
            self.bytes += bytes;
        }
    }

    fn has_room_for(&self, same: &Same) -> bool {
        self.all.len() < KEPT_MAX && self.bytes + same.bytes() <= KEPT_BYTES_MAX
    }

    fn remove_if(&mut self, same: &Same, goes: impl Fn(&Place) -> bool) {
        if self.all.get(same).is_some_and(goes) && self.all.remove(same).is_some() {
            self.bytes = self.bytes.saturating_sub(same.bytes());
        }
    }

    fn retain(&mut self, stays: impl Fn(&Same, &Place) -> bool) {
        self.all.retain(|same, place| stays(same, place));
        self.bytes = self.all.keys().map(Same::bytes).sum();
    }
}

/// The credentials that a mount keeps.
#[derive(Default)]
pub(super) struct Kept {
    places: Mutex<Places>,
    revoked: Arc<Revoked>,
}

impl Kept {
    /// Nothing yet; and never what was ended.
    pub(super) fn beside(revoked: Arc<Revoked>) -> Self {
        Self { places: Mutex::default(), revoked }
    }

    /// The kept credential, or the one that `make` makes: once, however many ask at the same moment. A failure goes to all who waited for
    /// it; who asks later tries anew. When the one who makes it goes away, the next who waits takes over.
    pub(super) async fn get<F>(&self, cx: &Cx, same: Same, window: Window, make: impl FnOnce() -> F + Send) -> Result<Arc<Minted>>
    where
        F: Future<Output = Result<Minted>> + Send,
    {
        let Some(place) = self.place(cx, &same, window) else { return make().await.map(Arc::new) };
        let made = place.get_or_init(|| async { make().await.map(Arc::new).map_err(Shared::of) }).await;
        match made {
            Ok(minted) => Ok(Arc::clone(minted)),
            Err(failure) => {
                self.leave(&same, &place);
                Err(failure.error())
            }
        }
    }

    /// The place for these requests: one with a good credential, one where a credential is being made, or a new one. `None` when there is
    /// no room for another.
    fn place(&self, cx: &Cx, same: &Same, window: Window) -> Option<Place> {
        let now = cx.clock.moment();
        let mut places = self.places.lock();
        if let Some(place) = places.all.get(same) {
            let good = match place.get() {
                None => true,
                Some(Ok(minted)) => window.is_open(minted, now) && !self.revoked.ended(&same.input, minted.credential.expiration),
                Some(Err(_)) => false,
            };
            if good {
                return Some(Arc::clone(place));
            }
        } else if !places.has_room_for(same) {
            // What is over in any case goes; the windows of other roles are not known here, and do not matter for that.
            places.retain(|_, place| is_of_use(place, |minted| !minted.left(now).is_zero()));
            if !places.has_room_for(same) {
                return None;
            }
        }
        let place = Place::default();
        places.put(same.clone(), &place);
        Some(place)
    }

    /// Gives a place up, unless another has taken it over.
    fn leave(&self, same: &Same, place: &Place) {
        self.places.lock().remove_if(same, |held| Arc::ptr_eq(held, place));
    }

    /// Forgets a credential that AWS does not know any more, unless another has taken its place.
    pub(super) fn give_up(&self, same: &Same, dead: &Arc<Minted>) {
        self.places.lock().remove_if(same, |place| matches!(place.get(), Some(Ok(minted)) if Arc::ptr_eq(minted, dead)));
    }

    /// Forgets what nobody can be handed any more. Called once a minute, so that a credential does not stay in memory for long.
    pub(super) fn tidy(&self, now: Moment) {
        let is_good = |minted: &Minted| !minted.left(now).is_zero() && minted.age(now) < WINDOW_MAX.duration();
        self.places.lock().retain(|_, place| is_of_use(place, is_good));
    }

    /// Forgets what was made for a role: it was written or deleted.
    pub(super) fn forget(&self, role: &str) {
        self.places.lock().retain(|same, _| same.role != role);
    }

    /// Forgets everything: the configuration may have changed.
    pub(super) fn clear(&self) {
        *self.places.lock() = Places::default();
    }
}

/// Whether a place has a good credential, or somebody who makes one: all of those were cut off where only the table has it still. Asked under the
/// lock, under which alone others get hold of it.
fn is_of_use(place: &Place, is_good: impl Fn(&Minted) -> bool) -> bool {
    match place.get() {
        None => Arc::strong_count(place) > 1,
        Some(Ok(minted)) => is_good(minted),
        Some(Err(_)) => false,
    }
}

/// Longest window that a role can set: a credential of STS lives 36 hours at most.
pub(super) const WINDOW_MAX: Seconds = Seconds(36 * 3600);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use daypass_base::Secret;

    use super::*;
    use crate::testing::Bench;

    fn cx() -> Cx {
        let aws = super::super::Aws::new(Arc::new(daypass_aws::FakeAws::new(Arc::new(daypass_base::sim::SimClock::default()))));
        Bench::new(aws, "aws/", "aws").cx("sts/r", daypass_sdk::Operation::Read)
    }

    fn same(number: u8) -> Same {
        Same { caller: Some([number; 16]), role: "r".to_owned(), written: (String::new(), 1), config: 0, input: AssumeRole::default() }
    }

    async fn minted(cx: &Cx, asked: &AtomicUsize) -> Result<Minted> {
        let number = asked.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        let credential = Credential {
            access_key_id: format!("ASIA{number}"),
            secret_access_key: Secret::from("s"),
            session_token: Secret::from("t"),
            expiration: cx.clock.now() + Seconds(3600),
            arn: None,
        };
        Ok(Minted::now(cx, credential, Skew::default(), String::new()))
    }

    const WINDOW: Window = Window { length: Seconds(120), min_ttl: Seconds(900) };

    #[tokio::test]
    async fn those_who_ask_while_a_credential_is_being_made_wait_for_it() {
        let (cx, kept, asked) = (cx(), Arc::new(Kept::default()), Arc::new(AtomicUsize::new(0)));
        let readers: Vec<_> = (0..1000)
            .map(|_| {
                let (cx, kept, asked) = (cx.clone(), Arc::clone(&kept), Arc::clone(&asked));
                tokio::spawn(async move { kept.get(&cx, same(1), WINDOW, || minted(&cx, &asked)).await.unwrap() })
            })
            .collect();
        for reader in readers {
            assert_eq!(reader.await.unwrap().credential.access_key_id, "ASIA0");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn when_the_one_who_makes_it_goes_away_another_takes_over() {
        let (cx, kept, asked) = (cx(), Arc::new(Kept::default()), Arc::new(AtomicUsize::new(0)));
        let first = {
            let (cx, kept) = (cx.clone(), Arc::clone(&kept));
            tokio::spawn(async move { kept.get(&cx, same(1), WINDOW, std::future::pending::<Result<Minted>>).await.map(drop) })
        };
        tokio::task::yield_now().await;
        let second = {
            let (cx, kept, asked) = (cx.clone(), Arc::clone(&kept), Arc::clone(&asked));
            tokio::spawn(async move { kept.get(&cx, same(1), WINDOW, || minted(&cx, &asked)).await.unwrap() })
        };
        tokio::task::yield_now().await;
        first.abort();
        assert_eq!(second.await.unwrap().credential.access_key_id, "ASIA0");
    }

    #[tokio::test]
    async fn no_more_than_so_many_are_kept() {
        let (cx, kept, asked) = (cx(), Kept::default(), AtomicUsize::new(0));
        for number in 0..=KEPT_MAX {
            let same = Same { role: number.to_string(), ..same(1) };
            kept.get(&cx, same, WINDOW, || minted(&cx, &asked)).await.unwrap();
        }
        assert_eq!(kept.places.lock().all.len(), KEPT_MAX);
        let last = Same { role: KEPT_MAX.to_string(), ..same(1) };
        kept.get(&cx, last, WINDOW, || minted(&cx, &asked)).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), KEPT_MAX + 2, "what finds no place is made each time");
        let now = cx.clock.moment();
        kept.tidy(Moment { elapsed: now.elapsed + Duration::from_hours(1), ..now });
        assert!(kept.places.lock().all.is_empty());
    }

    /// Story: what was cut off at its request's time limit left an empty place for good. One caller with many session names, while AWS did not answer,
    /// took them all, and the three reads of one Packer build got three different keys.
    #[tokio::test]
    async fn what_was_cut_off_takes_no_place_from_others() {
        let (cx, kept, asked) = (cx(), Kept::default(), AtomicUsize::new(0));
        let cut_off = async |name: &str| {
            let same = Same { role: name.to_owned(), ..same(1) };
            let mut making = Box::pin(kept.get(&cx, same, WINDOW, std::future::pending::<Result<Minted>>));
            std::future::poll_fn(|context| std::task::Poll::Ready(making.as_mut().poll(context).is_ready())).await
        };
        for number in 0..KEPT_MAX - 1 {
            assert!(!cut_off(&number.to_string()).await);
        }
        // One is being made still.
        let waiting = Same { role: "waiting".to_owned(), ..same(1) };
        let mut making = Box::pin(kept.get(&cx, waiting.clone(), WINDOW, std::future::pending::<Result<Minted>>));
        assert!(!std::future::poll_fn(|context| std::task::Poll::Ready(making.as_mut().poll(context).is_ready())).await);
        for _ in 0..3 {
            kept.get(&cx, same(1), WINDOW, || minted(&cx, &asked)).await.unwrap();
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert!(!cut_off("one more").await);
        kept.tidy(cx.clock.moment());
        let places: Vec<Same> = kept.places.lock().all.keys().cloned().collect();
        assert!(places.len() == 2 && places.contains(&waiting) && places.contains(&same(1)), "{places:?}");
    }

    /// Story: ten thousand credentials were kept however large their session policies and tags were, a quarter of a gigabyte and more.
    #[tokio::test]
    async fn what_is_kept_takes_no_more_than_its_room() {
        let (cx, kept, asked) = (cx(), Kept::default(), AtomicUsize::new(0));
        for number in 0..8 {
            // Of 9.6 MB as texts are weighed, and quick to hash.
            let input = AssumeRole { policy_arns: vec![String::new(); 400_000], ..AssumeRole::default() };
            let same = Same { role: number.to_string(), input, ..same(1) };
            kept.get(&cx, same, WINDOW, || minted(&cx, &asked)).await.unwrap();
        }
        let (count, bytes) = {
            let places = kept.places.lock();
            (places.all.len(), places.bytes)
        };
        assert!(count == 6 && bytes <= KEPT_BYTES_MAX, "{count} of {bytes} bytes");
        for number in 0..8 {
            kept.forget(&number.to_string());
        }
        assert_eq!(kept.places.lock().bytes, 0);
    }
}
