//! Whose keys sign an STS call: kept until shortly before they end, and fetched by one caller at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::identity::Identity;
use daypass_base::BoxFuture;

use super::identity::IDENTITY_BUFFER;
use super::sort::causes;
use super::time::SdkClock;
use super::web::Web;
use crate::AwsError;
use crate::api::{Credential, Result};

/// Keys that tell no end are looked for again after this time, as the SDK does: a profile may have been written anew.
const LIFE_DEFAULT: Duration = Duration::from_mins(15);
/// Keys that AWS refuses are replaced before their time when they are older, so at most this often.
const LIFE_MIN: Duration = Duration::from_secs(10);
/// Time to replace them: whoever was refused waits for it.
const REPLACED_WITHIN: Duration = Duration::from_secs(3);
/// Sessions by web identity are asked for again this long before they end.
const WEB_BUFFER: Duration = Duration::from_mins(5);

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
        // Those who waited for a fetch that failed share its failure instead of failing one after the other.
        if let Some((_, error)) = failed.as_ref().filter(|(at, _)| *at > asked) {
            return Err(error.clone());
        }
        match self.fetch().await {
            Ok(kept) => {
                *failed = None;
                self.keep(&kept);
                Ok(kept)
            }
            Err(error) => {
                if let Some(kept) = self.kept().filter(|kept| self.clock.now() < kept.end) {
                    tracing::warn!(%error, "the server's AWS identity could not be renewed yet; the one in hand is used until its end");
                    return Ok(kept);
                }
                *failed = Some((self.clock.0.elapsed(), error.clone()));
                Err(error)
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
        let time_up = || AwsError::no_identity(format!("its source gave no answer within {REPLACED_WITHIN:?}"));
        let fetched = sooner(self.fetch(), self.clock.0.sleep(REPLACED_WITHIN)).await.unwrap_or_else(|| Err(time_up()));
        match fetched {
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

    async fn fetch(&self) -> Result<Kept> {
        let provider = match &self.provider {
            Provider::Sdk(Some(provider)) => provider,
            Provider::Sdk(None) => return Err(AwsError::no_identity("no source of credentials is configured")),
            Provider::Web(web) => return Ok(self.session(&web.fetch().await?)),
        };
        // Boxed: the chain's future is large, and seldom needed.
        let credentials = Box::pin(provider.provide_credentials()).await.map_err(|error| AwsError::no_identity(causes(&error)))?;
        let end = credentials.expiry().unwrap_or_else(|| self.clock.now() + LIFE_DEFAULT);
        let stale = if credentials.expiry().is_some() { end.checked_sub(IDENTITY_BUFFER).unwrap_or(end) } else { end };
        Ok(Kept { identity: Identity::from(credentials), fetched: self.clock.0.elapsed(), stale, end })
    }

    /// A session as keys. It is replaced well before its end, so that an outage of STS's does not become ours at once.
    fn session(&self, session: &Credential) -> Kept {
        let end = SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(session.expiration.nanos()).unwrap_or(0));
        let life = end.duration_since(self.clock.now()).unwrap_or_default();
        let stale = end.checked_sub(WEB_BUFFER.min(life / 2)).unwrap_or(end);
        // The SDK keeps and wipes them from here on.
        let (secret, token) = (session.secret_access_key.expose().clone(), session.session_token.expose().clone());
        let credentials = Credentials::new(session.access_key_id.clone(), secret, Some(token), Some(end), "web identity");
        Kept { identity: Identity::from(credentials), fetched: self.clock.0.elapsed(), stale, end }
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
