//! The AWS calls for real: IAM's as AWS's SDK makes them, STS's signed by its signer and sent by us (`sts`).
//!
//! Nothing is read or connected before the first call: making a [`LiveAws`] costs nothing. Clients are kept per [`Target`].

mod ec2;
mod ecr;
mod endpoint;
mod forward;
mod http;
mod iam;
mod identity;
mod kept;
mod keys;
mod login;
mod places;
mod plain;
mod query;
mod retry;
mod roles;
mod signed;
mod signin;
mod sort;
mod sts;
mod time;
mod web;
mod wire;

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use daypass_base::{BoxFuture, Clock, Entropy, Seconds, SystemEntropy};

use crate::api::{AssumeRole, Aws, Call, Credential, FederationToken, Identity, Purpose, Result, SessionToken, StsEndpoint, Target};
use crate::{AwsError, Partition, Skew};

use self::http::Http;
use endpoint::Endpoint;
pub use identity::ContainerEndpoint;
use identity::{REGION_FALLBACK, Source};
use kept::Kept;
use keys::Keys;
pub use login::LoginRequest;
use places::{Door, Queues, Told};
use retry::Retries;
use sort::sorted;
use time::SdkClock;
use web::Web;
use wire::{Tls, Wire};

/// Clients are kept for this many targets, which are configurations of mounts and sessions of roles on the way: 4 KiB each, and 21 more once IAM was called.
const CLIENTS_MAX: usize = 512;
/// Sessions by web identity are kept for this many targets, longer than their clients: some 6 KiB each.
const SESSIONS_MAX: usize = 1_024;
/// One attempt may take this long; then the next one starts.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);
/// Origins to which connections are kept.
const WIRES_MAX: usize = 64;
/// What the SDK allows where nobody says how often to try.
const SDK_ATTEMPTS: u32 = 3;
/// Pages of one IAM list: 100 entries each, far over IAM's own limits for a group.
const PAGES_MAX: usize = 20;

/// What the server itself says about AWS, over the environment.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Calls go here where the target names no endpoint: the sandbox.
    pub endpoint: Option<String>,
    /// The server's own identity comes from here instead of the SDK's default chain.
    pub container: Option<ContainerEndpoint>,
    /// Region where the target names none.
    pub region: Option<String>,
    /// Shortest session that is asked for; AWS's 900 seconds unless the sandbox takes shorter ones.
    pub session_min: Option<Seconds>,
}

/// AWS itself. Cheap to make; share it with an `Arc`.
pub struct LiveAws {
    clock: Arc<dyn Clock>,
    settings: Settings,
    http: Http,
    /// Loaded once each: with the server's own identity, and without any.
    own: tokio::sync::Mutex<Option<Arc<Base>>>,
    bare: tokio::sync::Mutex<Option<Arc<Base>>>,
    clients: Kept<Arc<Clients>>,
    /// Those by web identity.
    sessions: Kept<Arc<Keys>>,
    wires: Mutex<HashMap<String, Arc<Wire>>>,
    tls: Tls,
    retries: Arc<Retries>,
    queues: Queues,
    forwards: forward::Forwards,
}

/// What all targets with keys of the same source start from.
struct Base {
    config: SdkConfig,
    keys: Arc<Keys>,
}

/// What calls of one target need.
struct Clients {
    /// Where STS is; an endpoint that the rules forbid says so when it is asked.
    sts: Arc<[std::result::Result<Endpoint, String>]>,
    keys: Arc<Keys>,
    /// How often an STS call is made again; `None`: for [`sts::RETRIES_MAX`].
    retries: Option<u32>,
    /// Made when it is first asked for: it is the most of what clients cost, and most targets never call IAM.
    iam: OnceLock<aws_sdk_iam::Client>,
    iam_base: SdkConfig,
    /// Where IAM is, if somebody says so.
    iam_url: Option<String>,
    iam_door: Door,
    /// The STS endpoint that answered last.
    good: Arc<AtomicUsize>,
}

impl LiveAws {
    /// AWS as `settings` and the environment say it is to be reached.
    pub fn new(clock: Arc<dyn Clock>, settings: Settings) -> Self {
        Self::drawing(clock, Arc::new(SystemEntropy), settings)
    }

    /// As [`Self::new`], with the lots for waits drawn from `entropy`.
    pub fn drawing(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, settings: Settings) -> Self {
        let http = Http::new(SdkClock(Arc::clone(&clock)));
        Self {
            retries: Arc::new(Retries::new(Arc::clone(&clock), entropy)),
            wires: Mutex::default(),
            tls: Tls::default(),
            clock,
            settings,
            http,
            own: tokio::sync::Mutex::default(),
            bare: tokio::sync::Mutex::default(),
            clients: Kept::new(CLIENTS_MAX),
            sessions: Kept::new(SESSIONS_MAX),
            queues: Queues::new(),
            forwards: forward::Forwards::default(),
        }
    }

    async fn base(&self, source: Source) -> Arc<Base> {
        let kept = match source {
            Source::Own => &self.own,
            Source::Configured => &self.bare,
        };
        let mut kept = kept.lock().await;
        if let Some(config) = kept.as_ref() {
            return Arc::clone(config);
        }
        let loading = Box::pin(identity::load(&self.http, &self.clock, self.settings.container.as_ref(), source));
        let mut config = loading.await;
        let provider = config.credentials_provider();
        let has_keys = provider.is_some();
        let keys = Keys::new(provider, SdkClock(Arc::clone(&self.clock)));
        if has_keys {
            config = config.into_builder().credentials_provider(keys.shared()).build();
        }
        let base = Arc::new(Base { config, keys });
        *kept = Some(Arc::clone(&base));
        base
    }

    async fn clients(&self, target: &Target) -> Arc<Clients> {
        if let Some(clients) = self.clients.find(target) {
            return clients;
        }
        let source = if target.is_own() { Source::Own } else { Source::Configured };
        let base = self.base(source).await;
        let clients = self.make(target, &base).await;
        self.clients.keep(target, Arc::new(clients))
    }

    async fn make(&self, target: &Target, base: &Base) -> Clients {
        let mut keys = Arc::clone(&base.keys);
        let mut base = base.config.to_builder();
        if let Some(configured) = &target.keys {
            // To the signer.
            let secret = configured.secret_access_key.expose().clone();
            let token = target.session_token.as_ref().map(|token| token.expose().clone());
            let credentials = Credentials::new(configured.access_key_id.clone(), secret, token, None, "config/root");
            let provider = aws_credential_types::provider::SharedCredentialsProvider::new(credentials);
            keys = Keys::new(Some(provider.clone()), SdkClock(Arc::clone(&self.clock)));
            base = base.credentials_provider(provider);
        }
        if let Some(region) = target.region.as_ref().or(self.settings.region.as_ref()) {
            base = base.region(Region::new(region.clone()));
        }
        if let Some(retries) = target.max_retries {
            base = base.retry_config(RetryConfig::standard().with_max_attempts(retries.saturating_add(1)));
        }
        let mut timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_MAX);
        let base = base.build();
        if let Some(configured) = base.timeout_config() {
            timeouts.set_connect_timeout(configured.connect_timeout()).set_read_timeout(configured.read_timeout());
        }
        let mut base = base.into_builder().timeout_config(timeouts.build()).build();
        let (sts, most) = (self.sts_endpoints(target, &base).await, retries(target, &base));
        if let Some(web) = Web::of(target, &sts, &self.clock, &self.retries, most) {
            keys = self
                .sessions
                .find(target)
                .unwrap_or_else(|| self.sessions.keep(target, Keys::of_web(web, SdkClock(Arc::clone(&self.clock)))));
            base = base.into_builder().credentials_provider(keys.shared()).build();
        }
        let url = target.iam_endpoint.as_ref().or(self.settings.endpoint.as_ref());
        // Where nobody says where it is, it is at one place for a whole partition.
        let partition = || Partition::of_region(base.region().map_or(REGION_FALLBACK, AsRef::as_ref));
        let name = url.map_or_else(|| format!("IAM of {}", partition().name()), |url| places::origin_of(url));
        let (iam_url, iam_door) = (url.cloned(), self.queues.door(name));
        let good = keys.good();
        Clients { sts, keys, retries: most, iam: OnceLock::new(), iam_base: base, iam_url, iam_door, good }
    }

    async fn sts_endpoints(&self, target: &Target, base: &SdkConfig) -> Arc<[std::result::Result<Endpoint, String>]> {
        let own = StsEndpoint { url: String::new(), region: None };
        let wanted = if target.sts_endpoints.is_empty() { std::slice::from_ref(&own) } else { &target.sts_endpoints };
        let mut all = Vec::new();
        for endpoint in wanted {
            let url = Some(endpoint.url.as_str()).filter(|url| !url.is_empty()).or(self.settings.endpoint.as_deref());
            let reach = |uri: &::http::Uri| (self.wire(uri), self.queues.door(places::origin(uri)));
            all.push(Endpoint::resolve(base, url, endpoint.region.as_deref(), reach).await);
        }
        all.into()
    }

    /// The connections to an origin, shared by all targets.
    fn wire(&self, url: &::http::Uri) -> Arc<Wire> {
        let origin = places::origin(url);
        let mut wires = self.wires.lock().unwrap_or_else(PoisonError::into_inner);
        if wires.len() >= WIRES_MAX && !wires.contains_key(&origin) {
            // Those in use go on; they are merely shared no more.
            wires.clear();
        }
        Arc::clone(wires.entry(origin).or_insert_with(|| self.new_wire(url)))
    }

    /// Connections to an origin that are shared with nobody yet.
    fn new_wire(&self, url: &::http::Uri) -> Arc<Wire> {
        Arc::new(Wire::new(url.clone(), self.tls.clone(), Arc::clone(&self.clock)))
    }

    /// Forgets the server's own identity, so that the next call looks for it anew; unless another call did so since `used` was taken.
    async fn forget_own_identity(&self, target: &Target, used: &Arc<Clients>) {
        if target.web_identity.is_some() {
            // The session of this target alone.
            self.clients.forget_if(target, |clients| Arc::ptr_eq(clients, used));
            self.sessions.forget_if(target, |keys| Arc::ptr_eq(keys, &used.keys));
            return;
        }
        let mut own = self.own.lock().await;
        if self.clients.find(target).is_some_and(|kept| Arc::ptr_eq(&kept, used)) {
            *own = None;
            self.clients.retain(|target| !target.is_own());
        }
    }

    /// Runs an IAM call within its deadline. Where AWS does not know, or no more, who made it, the next call looks for the identity anew: this one
    /// cannot be made twice.
    async fn iam<T, F, Fut>(&self, call: Call<'_>, make: F) -> Result<T>
    where
        F: FnOnce(aws_sdk_iam::Client) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        self.iam_to(call.purpose, call, make).await
    }

    /// The same for an action that takes something back, or that one such needs, whatever the call is for.
    async fn iam_back<T, F, Fut>(&self, call: Call<'_>, make: F) -> Result<T>
    where
        F: FnOnce(aws_sdk_iam::Client) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        self.iam_to(Purpose::TakeBack, call, make).await
    }

    async fn iam_to<T, F, Fut>(&self, purpose: Purpose, call: Call<'_>, make: F) -> Result<T>
    where
        F: FnOnce(aws_sdk_iam::Client) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let told = Told::default();
        let made = async {
            let clients = self.clients(call.target).await;
            let _place = self.queues.through(&clients.iam_door, purpose, &told).await?;
            let answer = make(clients.iam()).await;
            if answer.as_ref().err().is_some_and(AwsError::identity_is_lost) && call.target.keys.is_none() {
                self.forget_own_identity(call.target, &clients).await;
            }
            answer
        };
        self.within(call.deadline, &told, pin!(made)).await
    }

    /// Work that lies in its place already: handed over by value it would be kept twice, and a mint is copied through the caches often enough.
    async fn until<T>(&self, deadline: Duration, work: Pin<&mut impl Future<Output = Result<T>>>) -> Result<T> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.clock.sleep(deadline) => {
                Err(AwsError::unreachable(format!("AWS gave no answer within the {deadline:?} left for this request")))
            }
        }
    }
}

impl Clients {
    fn iam(&self) -> aws_sdk_iam::Client {
        let made = self.iam.get_or_init(|| {
            let config = aws_sdk_iam::config::Builder::from(&self.iam_base);
            let config = if let Some(url) = &self.iam_url { config.endpoint_url(url) } else { config };
            aws_sdk_iam::Client::from_conf(config.build())
        });
        made.clone()
    }
}

impl Aws for LiveAws {
    fn assume_role<'a>(&'a self, call: Call<'a>, input: AssumeRole) -> BoxFuture<'a, Result<Credential>> {
        Box::pin(async move { self.call_assume_role(call, &input).await })
    }

    fn get_federation_token<'a>(&'a self, call: Call<'a>, input: FederationToken) -> BoxFuture<'a, Result<Credential>> {
        Box::pin(async move { self.call_get_federation_token(call, &input).await })
    }

    fn get_session_token<'a>(&'a self, call: Call<'a>, input: SessionToken) -> BoxFuture<'a, Result<Credential>> {
        Box::pin(async move { self.call_get_session_token(call, &input).await })
    }

    fn get_caller_identity<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<Identity>> {
        Box::pin(self.call_get_caller_identity(call))
    }

    fn list_attached_group_policies<'a>(&'a self, call: Call<'a>, group: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(self.iam(call, move |client| async move {
            let (mut arns, mut marker) = (Vec::new(), None);
            for _ in 0..PAGES_MAX {
                let request = client.list_attached_group_policies().group_name(group).set_marker(marker);
                let page = request.send().await.map_err(|error| sorted(&error))?;
                arns.extend(page.attached_policies.unwrap_or_default().into_iter().filter_map(|policy| policy.policy_arn));
                marker = page.marker.filter(|_| page.is_truncated);
                if marker.is_none() {
                    break;
                }
            }
            Ok(arns)
        }))
    }

    fn list_group_policies<'a>(&'a self, call: Call<'a>, group: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(self.iam(call, move |client| async move {
            let (mut names, mut marker) = (Vec::new(), None);
            for _ in 0..PAGES_MAX {
                let request = client.list_group_policies().group_name(group).set_marker(marker);
                let page = request.send().await.map_err(|error| sorted(&error))?;
                names.extend(page.policy_names);
                marker = page.marker.filter(|_| page.is_truncated);
                if marker.is_none() {
                    break;
                }
            }
            Ok(names)
        }))
    }

    fn get_group_policy<'a>(&'a self, call: Call<'a>, group: &'a str, policy: &'a str) -> BoxFuture<'a, Result<String>> {
        Box::pin(self.iam(call, move |client| async move {
            let request = client.get_group_policy().group_name(group).policy_name(policy);
            let answer = request.send().await.map_err(|error| sorted(&error))?;
            Ok(percent_decoded(&answer.policy_document))
        }))
    }

    fn skew(&self, target: &Target) -> Option<Skew> {
        let clients = self.clients.find(target)?;
        let answered = clients.sts.get(clients.good.load(std::sync::atomic::Ordering::Relaxed))?;
        answered.as_ref().ok()?.clock_skew()
    }

    fn forget(&self, target: &Target) {
        self.clients.forget_if(target, |_| true);
        self.sessions.forget_if(target, |_| true);
    }
}

/// How often an STS call is made again: as the configuration says, else as the environment or the profile says, else for as long as it is worth
/// it ([`sts::RETRIES_MAX`]). The SDK does not tell its own default from the same number chosen on purpose, but the variable does.
fn retries(target: &Target, base: &SdkConfig) -> Option<u32> {
    let chosen = base.retry_config().map_or(SDK_ATTEMPTS, RetryConfig::max_attempts);
    let named = std::env::var_os("AWS_MAX_ATTEMPTS").is_some_and(|value| !value.is_empty());
    target.max_retries.or_else(|| (named || chosen != SDK_ATTEMPTS).then(|| chosen.saturating_sub(1)))
}

/// IAM answers policy documents percent-encoded (RFC 3986); what is no escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        if let Some((high, low)) = escaped {
            out.push(high * 16 + low);
            rest = after.get(2..).unwrap_or_default();
        } else {
            out.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests;
