//! The keys of a configuration: fixed ones, or key sets that are fetched, held in memory and renewed.
//!
//! A set is fetched by one caller at a time. It is renewed when it is [`RENEW_AFTER`] old, and when a token names a key that it lacks, but
//! never twice within [`PAUSE`], so that made-up key ids cannot make us flood a provider. Keys that the provider drops are gone with the
//! next renewal. While a provider is down its known keys go on, until they are [`STALE_MAX`] old.
//!
//! Whoever needs a set that is being fetched waits for that fetch and shares its outcome: nobody waits for two. Of those who wait there are
//! never more than [`WAITERS_MAX`]: tokens with made-up key ids cost a stranger nothing, and a provider that hangs must not fill the server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use daypass_base::Brief;
use daypass_idp::oidc::{self, Provider};
use daypass_idp::{Idp, IdpError, Trust, Url};
use daypass_sdk::{Clock, Cx, Error};
use parking_lot::RwLock;
use tokio::sync::{Mutex, Semaphore};

use crate::auth::crowded;
use crate::auth::jose::key::{self, Key, Proven};
use crate::auth::jose::token::Token;

/// A set of this age is renewed by the next login.
pub(super) const RENEW_AFTER: Duration = Duration::from_mins(10);
/// A set of this age is of no use any more.
pub(super) const STALE_MAX: Duration = Duration::from_hours(12);
/// Time from the end of a fetch to the next one of the same set.
pub(super) const PAUSE: Duration = Duration::from_secs(10);
/// Logins at one moment that wait for the fetch of one set, with the one that fetches. Many jobs may start in the second after a restart; the
/// server answers thousands at once.
pub(super) const WAITERS_MAX: usize = 256;
/// Longest fetch, discovery and keys together.
const FETCH_MAX: Duration = Duration::from_secs(10);

/// Where the keys of a configuration come from.
pub(super) enum Source {
    Fetched(Vec<KeySet>),
    Fixed(Vec<Key>),
}

/// A key set that is fetched.
pub(super) struct KeySet {
    place: Place,
    trust: Trust,
    held: RwLock<Option<Arc<Held>>>,
    /// When a fetch last ended, and what came of it if that failed. Whoever holds this fetches.
    fetching: Mutex<Last>,
    /// One for each login that waits for `fetching` or holds it.
    places: Semaphore,
}

/// Where a key set is.
pub(super) enum Place {
    /// Where the provider says, which calls itself this.
    Discovery(String),
    Url(String),
}

/// A key set as it was fetched.
pub(super) struct Held {
    keys: Vec<Key>,
    /// What the provider said of itself.
    pub(super) provider: Option<Provider>,
    at: Duration,
}

/// Why there are no keys, or none that verified a token.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// Too many wait for them already.
    Crowded(String),
    Other(String),
}

#[derive(Default)]
struct Last {
    /// When it ended: those who waited for it come after that and may not try again at once.
    at: Option<Duration>,
    failure: Option<Trouble>,
}

/// A fetch under way. Its end is noted whatever becomes of it, also when its caller gives up.
struct Fetch<'a> {
    last: &'a mut Last,
    clock: &'a dyn Clock,
}

impl<'a> Fetch<'a> {
    fn begin(last: &'a mut Last, clock: &'a dyn Clock) -> Self {
        // What a caller who gives up leaves behind.
        last.failure = Some(Trouble::Other("the last fetch of the issuer's keys was not finished".to_owned()));
        Self { last, clock }
    }
}

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        self.last.at = Some(self.clock.elapsed());
    }
}

impl Source {
    /// Says that one of the keys verified this token. Errors: why none did.
    pub(super) async fn verify(&self, cx: &Cx, idp: &dyn Idp, token: &Token<'_>) -> Result<Proven, Trouble> {
        let sets = match self {
            Self::Fixed(keys) => {
                let none = || Trouble::Other("no known key successfully validated the token signature".to_owned());
                return key::verify(keys, token).ok_or_else(none);
            }
            Self::Fetched(sets) => sets,
        };
        let (mut seen, mut troubles) = (Vec::new(), Vec::new());
        for set in sets {
            match set.current(cx, idp).await {
                Ok(held) => {
                    if let Some(proven) = key::verify(&held.keys, token) {
                        return Ok(proven);
                    }
                    seen.push((set, held));
                }
                Err(trouble) => troubles.push(trouble),
            }
        }
        for (set, held) in seen {
            match set.newer_than(cx, idp, Some(held.as_ref())).await {
                Ok(newer) => {
                    if let Some(proven) = key::verify(&newer.keys, token) {
                        return Ok(proven);
                    }
                }
                Err(trouble) => troubles.push(trouble),
            }
        }
        let text = "failed to verify id token signature";
        let text = match &token.key_id {
            Some(id) => format!("{text}: no key {:?} of the issuer signed it", Brief(id)),
            None => text.to_owned(),
        };
        let text = troubles.iter().fold(text, |text, trouble| format!("{text}; {trouble}"));
        let is_crowded = troubles.iter().any(|trouble| matches!(trouble, Trouble::Crowded(_)));
        Err(if is_crowded { Trouble::Crowded(text) } else { Trouble::Other(text) })
    }

    /// What the provider says of itself: fetched at most every [`RENEW_AFTER`].
    pub(super) async fn provider(&self, cx: &Cx, idp: &dyn Idp) -> Result<Provider, Trouble> {
        let none = || Trouble::Other("there is no discovery document".to_owned());
        let Self::Fetched(sets) = self else { return Err(none()) };
        let set = sets.first().ok_or_else(none)?;
        set.current(cx, idp).await?.provider.clone().ok_or_else(none)
    }
}

impl KeySet {
    pub(super) fn new(place: Place, trust: Trust) -> Self {
        Self { place, trust, held: RwLock::default(), fetching: Mutex::default(), places: Semaphore::new(WAITERS_MAX) }
    }

    /// The set, fetched when there is none yet, renewed when it is old.
    pub(super) async fn current(&self, cx: &Cx, idp: &dyn Idp) -> Result<Arc<Held>, Trouble> {
        let Some(held) = self.held.read().clone() else { return self.newer_than(cx, idp, None).await };
        let age = cx.clock.elapsed().saturating_sub(held.at);
        if age < RENEW_AFTER {
            return Ok(held);
        }
        // One login renews it; the others go on with what there is.
        if let Ok(mut last) = self.fetching.try_lock()
            && last.may_try(cx.clock.elapsed())
        {
            match self.fetch(cx, idp, &mut last).await {
                Ok(renewed) => return Ok(renewed),
                Err(trouble) => tracing::warn!(mount = cx.mount.path, age = age.as_secs(), %trouble, "a key set cannot be renewed"),
            }
        }
        if age < STALE_MAX {
            return Ok(held);
        }
        let hours = STALE_MAX.as_secs() / 3600;
        let text = format!("the issuer's keys are too old: for more than {hours} hours none could be fetched from {}", self.place.name());
        Err(Trouble::Other(text))
    }

    /// A set that was fetched after this one: by somebody else meanwhile, or now. Errors: the failure of the fetch that was waited for, or
    /// that too many wait already.
    async fn newer_than(&self, cx: &Cx, idp: &dyn Idp, seen: Option<&Held>) -> Result<Arc<Held>, Trouble> {
        let _place = self.places.try_acquire().map_err(|_full| {
            let name = self.place.name();
            Trouble::Crowded(format!("{WAITERS_MAX} logins wait for the issuer's keys from {name} already: try again in a few seconds"))
        })?;
        let mut last = self.fetching.lock().await;
        if let Some(held) = self.held.read().clone().filter(|held| seen.is_none_or(|seen| held.at > seen.at)) {
            return Ok(held);
        }
        if !last.may_try(cx.clock.elapsed()) {
            let wait = format!("the issuer's keys were fetched less than {} seconds ago", PAUSE.as_secs());
            return Err(last.failure.clone().unwrap_or(Trouble::Other(wait)));
        }
        self.fetch(cx, idp, &mut last).await
    }

    /// Fetches the set, whatever there is.
    pub(super) async fn check(&self, cx: &Cx, idp: &dyn Idp) -> Result<Arc<Held>, Trouble> {
        self.fetch(cx, idp, &mut *self.fetching.lock().await).await
    }

    async fn fetch(&self, cx: &Cx, idp: &dyn Idp, last: &mut Last) -> Result<Arc<Held>, Trouble> {
        let fetch = Fetch::begin(last, &*cx.clock);
        match self.fetched(cx, idp).await {
            Ok(held) => {
                let held = Arc::new(held);
                fetch.last.failure = None;
                *self.held.write() = Some(Arc::clone(&held));
                Ok(held)
            }
            Err(trouble) => {
                fetch.last.failure = Some(trouble.clone());
                Err(trouble)
            }
        }
    }

    async fn fetched(&self, cx: &Cx, idp: &dyn Idp) -> Result<Held, Trouble> {
        let (begun, longest) = (cx.clock.elapsed(), cx.request.deadline.min(FETCH_MAX));
        let left = || longest.saturating_sub(cx.clock.elapsed().saturating_sub(begun));
        let failed = |error: IdpError| match error {
            IdpError::Crowded { .. } => Trouble::Crowded(error.to_string()),
            other => Trouble::Other(other.to_string()),
        };
        let (url, provider) = match &self.place {
            Place::Url(url) => (Url::parse(url).map_err(Trouble::Other)?, None),
            Place::Discovery(issuer) => {
                let provider = oidc::discover(idp, issuer, &self.trust, left()).await.map_err(failed)?;
                (provider.keys.clone(), Some(provider))
            }
        };
        let body = oidc::keys(idp, &url, &self.trust, left()).await.map_err(failed)?;
        let unusable = |why| Trouble::Other(format!("the key set of {} cannot be used: {why}", url.host()));
        let keys = key::read_set(&body).map_err(unusable)?;
        Ok(Held { keys, provider, at: cx.clock.elapsed() })
    }
}

impl Trouble {
    /// What a login is told; that it may come again, where that helps.
    pub(super) fn told(&self, error: Error) -> Error {
        match self {
            Self::Crowded(_) => crowded::later(error),
            Self::Other(_) => error,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Crowded(text) | Self::Other(text)) = self;
        f.write_str(text)
    }
}

impl Place {
    fn name(&self) -> &str {
        match self {
            Self::Discovery(name) | Self::Url(name) => name,
        }
    }
}

impl Last {
    fn may_try(&self, now: Duration) -> bool {
        self.at.is_none_or(|at| now.saturating_sub(at) >= PAUSE)
    }
}
