//! Whose keys sign a call: kept until shortly before they end, and fetched by one caller at a time.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::identity::Identity;
use daypass_base::BoxFuture;

use super::sort::causes;
use super::time::SdkClock;
use super::web::Web;
use crate::AwsError;
use crate::api::{Credential, Result};

/// Keys that tell no end are looked for again after this time, as the SDK does: a profile may have been written anew.
const LIFE_DEFAULT: Duration = Duration::from_mins(15);
/// Keys that AWS refuses are replaced before their time when they are older, so at most this often; and their source is asked no more often while it has
/// no others, or does not answer.
const LIFE_MIN: Duration = Duration::from_secs(10);
/// Time to replace them while there are some: whoever was refused waits for it, or whoever could go on with those in hand.
const REPLACED_WITHIN: Duration = Duration::from_secs(3);
/// Keys are asked for again this long before they end, so that an outage of their source does not become ours at once; those that live shorter than twice that
/// when half of their life is over.
const RENEWED_BEFORE: Duration = Duration::from_mins(5);

/// The keys of one identity.
pub(super) struct Keys {
    provider: Provider,
    clock: SdkClock,
    kept: Mutex<Option<Kept>>,
    /// Held by the caller that fetches. Has when the last fetch failed, on the monotonic clock, and why, for those who waited.
    fetching: tokio::sync::Mutex<Option<(Duration, AwsError)>>,
}

/// Where keys come from.
enum Provider {
    /// The SDK's chain, an endpoint, or the configuration; `None` has no keys.
    Sdk(Option<SharedCredentialsProvider>),
    /// A role that trusts the server's own tokens.
    Web(Box<Web>),
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// Keys in hand.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) identity: Identity,
    /// When, on the monotonic clock.
    fetched: Duration,
    /// From here on they are fetched again.
    stale: SystemTime,
    /// From here on AWS refuses them.
    end: SystemTime,
}

impl Keys {
    pub(super) fn new(provider: Option<SharedCredentialsProvider>, clock: SdkClock) -> Arc<Self> {
        Self::from(Provider::Sdk(provider), clock)
    }

    pub(super) fn of_web(web: Web, clock: SdkClock) -> Arc<Self> {
        Self::from(Provider::Web(Box::new(web)), clock)
    }

    fn from(provider: Provider, clock: SdkClock) -> Arc<Self> {
        Arc::new(Self { provider, clock, kept: Mutex::default(), fetching: tokio::sync::Mutex::default() })
    }

    /// The identity to sign with. Errors: `NoIdentity`.
    pub(super) async fn identity(&self) -> Result<Identity> {
        Ok(self.current().await?.identity)
    }

    /// The same, with when it was fetched.
    pub(super) async fn current(&self) -> Result<Kept> {
        if let Some(kept) = self.kept().filter(|kept| self.clock.now() < kept.stale) {
            return Ok(kept);
        }
        let asked = self.clock.0.elapsed();
        let mut failed = match self.fetching.try_lock() {
            Ok(fetching) => fetching,
            // Somebody renews them: nobody else waits for that while those in hand are good.
            Err(_) => match self.kept().filter(|kept| self.clock.now() < kept.end) {
                Some(kept) => return Ok(kept),
                None => self.fetching.lock().await,
            },
        };
        if let Some(kept) = self.kept().filter(|kept| self.clock.now() < kept.stale) {
            return Ok(kept);
        }
        let in_hand = || self.kept().filter(|kept| self.clock.now() < kept.end);
        let failed_just_now = failed.as_ref().is_some_and(|(at, _)| self.since(*at) < LIFE_MIN);
        if let Some(kept) = in_hand().filter(|_| failed_just_now) {
            return Ok(kept);
        }
        // Those who waited for a fetch that failed share its failure instead of failing one after the other.
        if let Some((_, error)) = failed.as_ref().filter(|(at, _)| *at > asked) {
            return Err(error.clone());
        }
        let fetched = if in_hand().is_some() { self.fetch_soon().await } else { self.fetch().await };
        match fetched {
            Ok(kept) => {
                *failed = None;
                self.keep(&kept);
                Ok(kept)
            }
            Err(error) => {
                *failed = Some((self.clock.0.elapsed(), error.clone()));
                let Some(kept) = in_hand() else { return Err(error) };
                tracing::warn!(%error, "the server's AWS identity could not be renewed yet; the one in hand is used until its end");
                Ok(kept)
            }
        }
    }

    /// Whether there are other keys now than those that AWS refused, which may be why it did: a policy on their role can have ended their session, and AWS
    /// tells that like any other refusal.
    pub(super) async fn replaced(&self, refused: &Kept) -> bool {
        if self.since(refused.fetched) < LIFE_MIN {
            return false;
        }
        let in_line = self.clock.0.sleep(REPLACED_WITHIN);
        let Some(mut failed) = sooner(self.fetching.lock(), in_line).await else { return false };
        if let Some(kept) = self.kept().filter(|kept| kept.fetched > refused.fetched) {
            return kept.differs(refused);
        }
        if failed.as_ref().is_some_and(|(at, _)| self.since(*at) < LIFE_MIN) {
            return false;
        }
        match self.fetch_soon().await {
            Ok(kept) => {
                *failed = None;
                self.keep(&kept);
                kept.differs(refused)
            }
            Err(error) => {
                tracing::warn!(%error, "the server's AWS identity was refused and could not be replaced yet");
                *failed = Some((self.clock.0.elapsed(), error));
                false
            }
        }
    }

    fn since(&self, then: Duration) -> Duration {
        self.clock.0.elapsed().saturating_sub(then)
    }

    fn kept(&self) -> Option<Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, kept: &Kept) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept.clone());
    }

    /// Which STS endpoint answered last, where a session is made there: the calls that it signs go to the same ones. Else a number of its own.
    pub(super) fn good(&self) -> Arc<AtomicUsize> {
        match &self.provider {
            Provider::Sdk(_) => Arc::default(),
            Provider::Web(web) => Arc::clone(&web.good),
        }
    }

    /// The same keys for calls that the SDK makes.
    pub(super) fn shared(self: &Arc<Self>) -> SharedCredentialsProvider {
        SharedCredentialsProvider::new(Shared(Arc::clone(self)))
    }

    /// As [`Self::fetch`], for somebody who does not wait for long.
    async fn fetch_soon(&self) -> Result<Kept> {
        let time_up = || AwsError::no_identity(format!("its source gave no answer within {REPLACED_WITHIN:?}"));
        sooner(self.fetch(), self.clock.0.sleep(REPLACED_WITHIN)).await.unwrap_or_else(|| Err(time_up()))
    }

    /// Boxed: the futures of both are large, and seldom needed.
    fn fetch(&self) -> BoxFuture<'_, Result<Kept>> {
        Box::pin(async {
            let credentials = match &self.provider {
                Provider::Sdk(Some(provider)) => {
                    provider.provide_credentials().await.map_err(|error| AwsError::no_identity(causes(&error)))?
                }
                Provider::Sdk(None) => return Err(AwsError::no_identity("no source of credentials is configured")),
                Provider::Web(web) => session(&web.fetch().await?),
            };
            Ok(self.dated(credentials))
        })
    }

    /// Keys that were fetched just now, and until when they are used.
    fn dated(&self, credentials: Credentials) -> Kept {
        let (now, expiry) = (self.clock.now(), credentials.expiry());
        let end = expiry.unwrap_or_else(|| now + LIFE_DEFAULT);
        let before = expiry.map_or(Duration::ZERO, |end| RENEWED_BEFORE.min(end.duration_since(now).unwrap_or_default() / 2));
        let stale = end.checked_sub(before).unwrap_or(end);
        let mut kept = Kept { identity: Identity::from(credentials), fetched: self.clock.0.elapsed(), stale, end };
        // A container's or an instance's are the same until there are others, which may be at any moment from then on.
        if let Some(same) = self.kept().filter(|old| old.end == kept.end && !old.differs(&kept)) {
            kept.stale = same.stale;
        }
        kept.stale = kept.stale.max(now + LIFE_MIN).min(end);
        kept
    }
}

/// A session as keys.
fn session(session: &Credential) -> Credentials {
    let end = SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(session.expiration.nanos()).unwrap_or(0));
    // The SDK keeps and wipes them from here on.
    let (secret, token) = (session.secret_access_key.expose().clone(), session.session_token.expose().clone());
    Credentials::new(session.access_key_id.clone(), secret, Some(token), Some(end), "web identity")
}

/// The keys in hand, as the SDK asks for them.
#[derive(Debug)]
struct Shared(Arc<Keys>);

impl ProvideCredentials for Shared {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let identity = self.0.identity().await.map_err(CredentialsError::provider_error)?;
            identity.data::<Credentials>().cloned().ok_or_else(|| CredentialsError::unhandled("the session is no pair of keys"))
        })
    }
}

/// What work comes to, unless time is up before.
async fn sooner<T>(work: impl Future<Output = T>, time_up: BoxFuture<'_, ()>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = time_up => None,
    }
}

impl Kept {
    /// A container's or an instance's session is the same until it is old, however often it is asked for.
    fn differs(&self, other: &Self) -> bool {
        let id = |kept: &Self| kept.identity.data::<Credentials>().map(|keys| keys.access_key_id().to_owned());
        id(self) != id(other)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use daypass_base::Clock;
    use daypass_base::sim::SimClock;

    use super::*;

    /// What a source of keys does when it is asked.
    #[derive(Debug, Clone)]
    enum Does {
        Fail,
        Give(Credentials),
        Hang,
    }

    /// Does one after the other, and the last one again and again; and how often it was asked.
    #[derive(Debug, Clone, Default)]
    struct Source(Arc<Mutex<(VecDeque<Does>, usize)>>);

    impl ProvideCredentials for Source {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let mut state = self.0.lock().unwrap();
            state.1 += 1;
            let next = if state.0.len() > 1 { state.0.pop_front() } else { state.0.front().cloned() };
            future::ProvideCredentials::new(async {
                match next.unwrap() {
                    Does::Fail => Err(CredentialsError::provider_error("no answer")),
                    Does::Give(keys) => Ok(keys),
                    Does::Hang => std::future::pending().await,
                }
            })
        }
    }

    struct Scene {
        clock: SimClock,
        source: Source,
        keys: Arc<Keys>,
    }

    impl Scene {
        fn new() -> Self {
            let clock = SimClock::default();
            let source = Source::default();
            let provider = SharedCredentialsProvider::new(source.clone());
            let keys = Keys::new(Some(provider), SdkClock(Arc::new(clock.clone())));
            Self { clock, source, keys }
        }

        /// From now on.
        fn script(&self, does: impl Into<VecDeque<Does>>) {
            self.source.0.lock().unwrap().0 = does.into();
        }

        /// A session that lives so long from now on.
        fn session(&self, id: &str, seconds: u64) -> Does {
            let end = SdkClock(Arc::new(self.clock.clone())).now() + Duration::from_secs(seconds);
            Does::Give(Credentials::new(id, "s", Some("t".to_owned()), Some(end), "test"))
        }

        /// So many seconds later: whose keys sign, and how often the source was asked since the start.
        async fn after(&self, seconds: u64) -> (String, usize) {
            self.clock.advance(Duration::from_secs(seconds));
            let identity = self.clock.while_passing(self.keys.identity()).await.unwrap();
            let id = identity.data::<Credentials>().unwrap().access_key_id().to_owned();
            (id, self.source.0.lock().unwrap().1)
        }
    }

    fn is(id: &str, asked: usize) -> (String, usize) {
        (id.to_owned(), asked)
    }

    /// Story: the session of an ECS task was renewed ten seconds before its end. An agent that was restarted in these ten seconds, or answered with the session that
    /// it had still, left the server without an identity.
    #[tokio::test]
    async fn a_session_of_a_container_is_renewed_five_minutes_before_its_end() {
        let scene = Scene::new();
        let old = scene.session("old", 3_600);
        scene.script([old.clone(), Does::Fail, old, scene.session("new", 9_000)]);
        assert_eq!(scene.after(0).await, is("old", 1));
        assert_eq!(scene.after(3_299).await, is("old", 1));
        // The source fails, then it has the old one still.
        for asked in [2, 3] {
            assert_eq!(scene.after(1).await, is("old", asked), "what is in hand is good");
            assert_eq!(scene.after(9).await, is("old", asked), "and the source is left in peace for ten seconds");
        }
        assert_eq!(scene.after(1).await, is("new", 4));
        assert_eq!(scene.after(5_378).await, is("new", 4));
    }

    #[tokio::test]
    async fn nobody_waits_long_for_a_source_that_hangs_while_there_are_keys() {
        let scene = Scene::new();
        scene.script([scene.session("old", 3_600), Does::Hang]);
        assert_eq!(scene.after(0).await, is("old", 1));
        for asked in [2, 3] {
            scene.clock.advance(Duration::from_secs(if asked == 2 { 3_300 } else { 10 }));
            let began = scene.clock.elapsed();
            assert_eq!(scene.after(0).await, is("old", asked));
            let waited = scene.clock.elapsed().saturating_sub(began).as_secs();
            assert_eq!(waited, 3);
            assert_eq!(scene.after(1).await, is("old", asked), "the next one does not wait at all");
        }
        scene.clock.advance(Duration::from_mins(5));
        let (clock, keys) = (&scene.clock, &scene.keys);
        let late =
            tokio::select! { biased; _ = keys.identity() => false, () = clock.while_passing(clock.sleep(Duration::from_secs(5))) => true };
        assert!(late, "without keys there is nothing else to do");
    }

    #[tokio::test]
    async fn a_short_session_is_renewed_when_half_of_it_is_over() {
        let scene = Scene::new();
        let first = scene.session("first", 60);
        scene.script([first, scene.session("second", 90)]);
        assert_eq!(scene.after(0).await, is("first", 1));
        assert_eq!(scene.after(29).await, is("first", 1));
        assert_eq!(scene.after(1).await, is("second", 2));
        // One that is shorter than that is used until its end, and one without an end for a while.
        scene.script([scene.session("third", 70), Does::Give(Credentials::new("last", "s", None, None, "test"))]);
        assert_eq!(scene.after(60).await, is("third", 3));
        assert_eq!(scene.after(9).await, is("third", 3));
        assert_eq!(scene.after(1).await, is("last", 4));
        assert_eq!(scene.after(899).await, is("last", 4));
        assert_eq!(scene.after(1).await, is("last", 5));
    }
}
