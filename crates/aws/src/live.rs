//! The AWS calls as AWS's SDK makes them.
//!
//! Nothing is read or connected before the first call: making a [`LiveAws`] costs nothing. Clients are kept per [`Target`].

mod http;
mod iam;
mod identity;
mod sort;
mod time;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_sts::types::{PolicyDescriptorType, Tag};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use daypass_base::{BoxFuture, Clock, Seconds, Secret, Timestamp};

use crate::api::{AssumeRole, Aws, Call, Credential, FederationToken, Identity, Result, SessionToken, StsEndpoint, Target};
use crate::{AwsError, ErrorKind};

use http::Http;
pub use identity::ContainerEndpoint;
use identity::Source;
use sort::sorted;
use time::SdkClock;

/// Clients are kept for this many configurations; the one unused for longest goes first.
const CLIENTS_MAX: usize = 64;
/// Calls under way at one moment; more wait, within their deadlines. STS itself throttles an account well below this.
const CALLS_MAX: usize = 512;
/// One attempt may take this long; then the next one starts.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);
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
}

/// AWS itself. Cheap to make; share it with an `Arc`.
pub struct LiveAws {
    clock: Arc<dyn Clock>,
    settings: Settings,
    http: Http,
    /// Loaded once each: with the server's own identity, and without any.
    own: tokio::sync::Mutex<Option<Arc<SdkConfig>>>,
    bare: tokio::sync::Mutex<Option<Arc<SdkConfig>>>,
    clients: Mutex<Vec<(Target, Arc<Clients>)>>,
    places: tokio::sync::Semaphore,
}

/// SDK clients of one target.
struct Clients {
    sts: Vec<aws_sdk_sts::Client>,
    iam: aws_sdk_iam::Client,
    /// The STS endpoint that answered last.
    good: AtomicUsize,
}

impl LiveAws {
    /// AWS as `settings` and the environment say it is to be reached.
    pub fn new(clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let http = Http::new(SdkClock(Arc::clone(&clock)));
        Self {
            clock,
            settings,
            http,
            own: tokio::sync::Mutex::default(),
            bare: tokio::sync::Mutex::default(),
            clients: Mutex::default(),
            places: tokio::sync::Semaphore::new(CALLS_MAX),
        }
    }

    async fn base(&self, source: Source) -> Arc<SdkConfig> {
        let kept = match source {
            Source::Own => &self.own,
            Source::Configured => &self.bare,
        };
        let mut kept = kept.lock().await;
        if let Some(config) = kept.as_ref() {
            return Arc::clone(config);
        }
        let loading = Box::pin(identity::load(&self.http, &self.clock, self.settings.container.as_ref(), source));
        let config = Arc::new(loading.await);
        *kept = Some(Arc::clone(&config));
        config
    }

    async fn clients(&self, target: &Target) -> Arc<Clients> {
        if let Some(clients) = self.kept(target) {
            return clients;
        }
        let source = if target.keys.is_some() { Source::Configured } else { Source::Own };
        let base = self.base(source).await;
        let clients = Arc::new(self.make(target, &base));
        let mut all = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= CLIENTS_MAX {
            all.remove(0);
        }
        all.push((target.clone(), Arc::clone(&clients)));
        clients
    }

    /// The clients of a target, moved to the end of the list: used last.
    fn kept(&self, target: &Target) -> Option<Arc<Clients>> {
        let mut all = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|(known, _)| known == target)?;
        let entry = all.remove(at);
        let clients = Arc::clone(&entry.1);
        all.push(entry);
        Some(clients)
    }

    fn make(&self, target: &Target, base: &SdkConfig) -> Clients {
        let mut base = base.to_builder();
        if let Some(keys) = &target.keys {
            // To the signer.
            let secret = keys.secret_access_key.expose().clone();
            let session = target.session_token.as_ref().map(|token| token.expose().clone());
            let credentials = Credentials::new(keys.access_key_id.clone(), secret, session, None, "config/root");
            base = base.credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(credentials));
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
        let base = base.into_builder().timeout_config(timeouts.build()).build();
        let sts = |endpoint: Option<&StsEndpoint>| {
            let mut config = aws_sdk_sts::config::Builder::from(&base);
            if let Some(url) = endpoint.map(|endpoint| &endpoint.url).or(self.settings.endpoint.as_ref()) {
                config = config.endpoint_url(url);
            }
            if let Some(region) = endpoint.and_then(|endpoint| endpoint.region.clone()) {
                config = config.region(Region::new(region));
            }
            aws_sdk_sts::Client::from_conf(config.build())
        };
        let mut iam = aws_sdk_iam::config::Builder::from(&base);
        if let Some(url) = target.iam_endpoint.as_ref().or(self.settings.endpoint.as_ref()) {
            iam = iam.endpoint_url(url);
        }
        let sts =
            if target.sts_endpoints.is_empty() { vec![sts(None)] } else { target.sts_endpoints.iter().map(|e| sts(Some(e))).collect() };
        Clients { sts, iam: aws_sdk_iam::Client::from_conf(iam.build()), good: AtomicUsize::new(0) }
    }

    /// Forgets the server's own identity, so that the next call looks for it anew.
    async fn forget_own_identity(&self) {
        *self.own.lock().await = None;
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).retain(|(target, _)| target.keys.is_some());
    }

    /// Runs an STS call within its deadline: on the endpoint that answered last, then on the others; and once more with a fresh
    /// identity when AWS says that the one in hand is over.
    async fn sts<T, F, Fut>(&self, call: Call<'_>, make: F) -> Result<T>
    where
        F: Fn(aws_sdk_sts::Client) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let all = async {
            let first = self.sts_once(call, &make).await;
            match first {
                Err(error) if error.kind == ErrorKind::ExpiredIdentity && call.target.keys.is_none() => {
                    self.forget_own_identity().await;
                    self.sts_once(call, &make).await
                }
                other => other,
            }
        };
        self.within(call.deadline, all).await
    }

    async fn sts_once<T, F, Fut>(&self, call: Call<'_>, make: &F) -> Result<T>
    where
        F: Fn(aws_sdk_sts::Client) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let clients = self.clients(call.target).await;
        let start = clients.good.load(Ordering::Relaxed);
        let mut last = AwsError::unreachable("no STS endpoint is configured");
        for step in 0..clients.sts.len() {
            let at = (start + step) % clients.sts.len().max(1);
            let Some(client) = clients.sts.get(at) else { break };
            // Boxed: the SDK's futures are tens of kilobytes large, and this one would be held twice.
            match Box::pin(make(client.clone())).await {
                Err(error) if error.kind == ErrorKind::Unreachable => {
                    tracing::warn!(%error, endpoint = at, "an STS endpoint does not answer");
                    last = error;
                }
                answer => {
                    clients.good.store(at, Ordering::Relaxed);
                    return answer;
                }
            }
        }
        if clients.sts.len() > 1 {
            last.message = format!("could not obtain sts client: none of {} endpoints answers; {}", clients.sts.len(), last.message);
        }
        Err(last)
    }

    /// Runs an IAM call within its deadline.
    async fn iam<T, F, Fut>(&self, call: Call<'_>, make: F) -> Result<T>
    where
        F: FnOnce(aws_sdk_iam::Client) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        self.within(call.deadline, async { make(self.clients(call.target).await.iam.clone()).await }).await
    }

    async fn within<T>(&self, deadline: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        let placed = async {
            let _place = self.places.acquire().await.map_err(AwsError::unreachable)?;
            work.await
        };
        tokio::select! {
            biased;
            done = placed => done,
            () = self.clock.sleep(deadline) => {
                Err(AwsError::unreachable(format!("AWS gave no answer within the {deadline:?} left for this request")))
            }
        }
    }
}

impl Aws for LiveAws {
    fn assume_role<'a>(&'a self, call: Call<'a>, input: AssumeRole) -> BoxFuture<'a, Result<Credential>> {
        Box::pin(async move {
            input.check()?;
            let input = &input;
            self.sts(call, |client| async move {
                let tags = input.tags.iter().map(|(key, value)| tag(key, value)).collect::<Result<Vec<_>>>()?;
                let request = client
                    .assume_role()
                    .role_arn(&input.role_arn)
                    .role_session_name(&input.session_name)
                    .duration_seconds(seconds(input.duration))
                    .set_policy(input.policy.clone())
                    .set_policy_arns(policy_arns(&input.policy_arns))
                    .set_external_id(input.external_id.clone())
                    .set_source_identity(input.source_identity.clone())
                    .set_tags((!tags.is_empty()).then_some(tags));
                let answer = request.send().await.map_err(|error| sorted(&error))?;
                let arn = answer.assumed_role_user.map(|user| user.arn);
                credential(answer.credentials, arn)
            })
            .await
        })
    }

    fn get_federation_token<'a>(&'a self, call: Call<'a>, input: FederationToken) -> BoxFuture<'a, Result<Credential>> {
        Box::pin(async move {
            input.check()?;
            let input = &input;
            self.sts(call, |client| async move {
                let request = client
                    .get_federation_token()
                    .name(&input.name)
                    .duration_seconds(seconds(input.duration))
                    .set_policy(input.policy.clone())
                    .set_policy_arns(policy_arns(&input.policy_arns));
                let answer = request.send().await.map_err(|error| sorted(&error))?;
                let arn = answer.federated_user.map(|user| user.arn);
                credential(answer.credentials, arn)
            })
            .await
        })
    }

    fn get_session_token<'a>(&'a self, call: Call<'a>, input: SessionToken) -> BoxFuture<'a, Result<Credential>> {
        Box::pin(async move {
            input.check()?;
            let input = &input;
            self.sts(call, |client| async move {
                let request = client
                    .get_session_token()
                    .duration_seconds(seconds(input.duration))
                    .set_serial_number(input.serial_number.clone())
                    .set_token_code(input.token_code.clone());
                let answer = request.send().await.map_err(|error| sorted(&error))?;
                credential(answer.credentials, None)
            })
            .await
        })
    }

    fn get_caller_identity<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<Identity>> {
        Box::pin(self.sts(call, |client| async move {
            let answer = client.get_caller_identity().send().await.map_err(|error| sorted(&error))?;
            Ok(Identity {
                account: answer.account.unwrap_or_default(),
                arn: answer.arn.unwrap_or_default(),
                user_id: answer.user_id.unwrap_or_default(),
            })
        }))
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

    fn forget(&self, target: &Target) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| known != target);
    }
}

/// AWS takes whole seconds in 32 bits; what does not fit is far over every limit of AWS's.
fn seconds(duration: Seconds) -> i32 {
    i32::try_from(duration.0).unwrap_or(i32::MAX)
}

fn tag(key: &str, value: &str) -> Result<Tag> {
    Tag::builder().key(key).value(value).build().map_err(AwsError::unreachable)
}

fn policy_arns(arns: &[String]) -> Option<Vec<PolicyDescriptorType>> {
    if arns.is_empty() {
        return None;
    }
    Some(arns.iter().map(|arn| PolicyDescriptorType::builder().arn(arn).build()).collect())
}

fn credential(answer: Option<aws_sdk_sts::types::Credentials>, arn: Option<String>) -> Result<Credential> {
    let answer = answer.ok_or_else(|| AwsError::answered(Some("SerializationError"), Some("the answer has no credentials"), 200, None))?;
    let nanos = i64::try_from(answer.expiration.as_nanos()).unwrap_or(i64::MAX);
    Ok(Credential {
        access_key_id: answer.access_key_id,
        secret_access_key: Secret::new(answer.secret_access_key),
        session_token: Secret::new(answer.session_token),
        expiration: Timestamp::from_nanos(nanos),
        arn,
    })
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
