//! Whose keys sign, and for which region: the SDK's default chain, a container-credentials endpoint that the server itself names, or
//! keys from the configuration.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::identity::IdentityCache;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorSettings};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use daypass_base::{Clock, Secret, Timestamp};

use super::http::Http;
use super::time::SdkClock;

/// Where nothing else says a region. Vault falls back to the same.
pub(crate) const REGION_FALLBACK: &str = "us-east-1";
/// The instance metadata either answers at once or is not there.
const METADATA_PATIENCE: Duration = Duration::from_secs(1);
/// Longest answer of a container-credentials endpoint, in bytes.
const ANSWER_MAX: usize = 64 * 1024;

/// A container-credentials endpoint, as `AWS_CONTAINER_CREDENTIALS_FULL_URI` names it.
#[derive(Debug, Clone)]
pub struct ContainerEndpoint {
    /// Its URL.
    pub url: String,
    /// What to send as `Authorization`, if anything.
    pub authorization: Option<Secret<String>>,
}

/// Where keys come from when the configuration has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The SDK's chain, or the endpoint that the server names.
    Own,
    /// The configuration: the chain is not asked at all.
    Configured,
}

/// Loads what clients start from.
pub(crate) async fn load(http: &Http, clock: &Arc<dyn Clock>, container: Option<&ContainerEndpoint>, source: Source) -> SdkConfig {
    let sdk_clock = SdkClock(Arc::clone(clock));
    let provider = ProviderConfig::without_region()
        .with_http_client(http.shared())
        .with_time_source(sdk_clock.clone())
        .with_sleep_impl(sdk_clock.clone());
    let region = region(&provider, clock, container.is_none() && source == Source::Own).await;
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.shared())
        .time_source(sdk_clock.clone())
        .sleep_impl(sdk_clock)
        // Kept in one place for all calls ([`super::keys`]), which knows when keys are renewed and what is in hand while that fails.
        .identity_cache(IdentityCache::no_cache())
        .region(region);
    let loader = match (source, container) {
        (Source::Configured, _) => loader.no_credentials(),
        (Source::Own, Some(endpoint)) => {
            let provider = Container { endpoint: endpoint.clone(), http: http.clone() };
            loader.credentials_provider(provider)
        }
        (Source::Own, None) => loader,
    };
    loader.load().await
}

/// Environment, profile, instance metadata where that may be there, and the fallback.
async fn region(provider: &ProviderConfig, clock: &Arc<dyn Clock>, ask_metadata: bool) -> Region {
    let said = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::builder().configure(provider).build());
    if let Some(region) = said.region().await {
        return region;
    }
    if ask_metadata && !region_is_indifferent() {
        let metadata = ImdsRegionProvider::builder().configure(provider).build();
        let found = tokio::select! {
            found = metadata.region() => found,
            () = clock.sleep(METADATA_PATIENCE) => None,
        };
        if let Some(region) = found {
            return region;
        }
    }
    Region::from_static(REGION_FALLBACK)
}

/// Whether asking the instance metadata would only cost time: the endpoint is given, or the identity is not the instance's.
fn region_is_indifferent() -> bool {
    let names = [
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_STS",
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    names.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// Credentials from an endpoint that the server names: the sandbox's, when it runs inside.
#[derive(Debug)]
struct Container {
    endpoint: ContainerEndpoint,
    http: Http,
}

/// The answer of a container-credentials endpoint.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    access_key_id: String,
    secret_access_key: Secret<String>,
    token: Secret<String>,
    expiration: Timestamp,
}

impl Container {
    async fn fetch(&self) -> Result<Credentials, CredentialsError> {
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_uri(self.endpoint.url.as_str()).map_err(CredentialsError::invalid_configuration)?;
        request.headers_mut().insert("accept", "application/json");
        if let Some(authorization) = &self.endpoint.authorization {
            // Goes to the endpoint that it is for.
            request.headers_mut().insert("authorization", authorization.expose().clone());
        }
        let settings =
            HttpConnectorSettings::builder().connect_timeout(Duration::from_secs(2)).read_timeout(Duration::from_secs(5)).build();
        let response = self.http.connector(&settings).call(request).await.map_err(CredentialsError::provider_error)?;
        let status = response.status();
        let body = ByteStream::new(response.into_body()).collect().await.map_err(CredentialsError::provider_error)?.into_bytes();
        if !status.is_success() || body.len() > ANSWER_MAX {
            let detail = format!("{} answered {} with {} bytes", self.endpoint.url, status.as_u16(), body.len());
            return Err(CredentialsError::provider_error(detail));
        }
        // The parser's own text could quote the body, so it is not kept.
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| {
            let place = (error.line(), error.column());
            CredentialsError::provider_error(format!("{} gave no credentials: not understood at {place:?}", self.endpoint.url))
        })?;
        let expiration = SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(answer.expiration.nanos()).unwrap_or(0));
        // The SDK keeps and wipes them from here on.
        let (secret, token) = (answer.secret_access_key.expose().clone(), answer.token.expose().clone());
        Ok(Credentials::new(answer.access_key_id, secret, Some(token), Some(expiration), "daypass container endpoint"))
    }
}

impl ProvideCredentials for Container {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.fetch())
    }
}
