//! One STS endpoint: where it is, for which region its calls are signed, and by how much its clock differs from ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_sdk_sts::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use aws_smithy_types::endpoint::Endpoint as Resolved;
use aws_types::service_config::ServiceConfigKey;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, Uri};
use http_body_util::Full;

use super::identity::REGION_FALLBACK;
use super::places::Door;
use super::sort::causes;
use super::wire::{Answer, Wire};
use crate::Skew;

/// What calls are: forms.
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
/// Who asks, as CloudTrail shows it.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("daypass/", env!("CARGO_PKG_VERSION")));
/// Clocks further apart than this are why AWS refuses a signature; it allows five minutes.
const SKEW_MIN: Duration = Duration::from_mins(4);
/// Codes under which AWS refuses a signature whose time is wrong.
const SKEW_CODES: [&str; 6] = [
    "AccessDeniedException",
    "AuthFailure",
    "InvalidSignatureException",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
];

/// An STS endpoint.
pub(super) struct Endpoint {
    uri: Uri,
    host: HeaderValue,
    url: String,
    region: String,
    service: String,
    pub(super) wire: Arc<Wire>,
    /// The places of its origin.
    pub(super) door: Door,
    corrects: bool,
    /// Milliseconds to add to our time when signing.
    skew: AtomicI64,
}

impl Endpoint {
    /// Asks the SDK's own rules: partitions, regions, FIPS, dual stack, and what the environment and the profile name. `url` and
    /// `region` are the configuration's. Errors: what the rules say against it.
    pub(super) async fn resolve(
        base: &SdkConfig,
        url: Option<&str>,
        region: Option<&str>,
        reach: impl FnOnce(&Uri) -> (Arc<Wire>, Door),
    ) -> Result<Self, String> {
        let region = region.or_else(|| base.region().map(AsRef::as_ref)).unwrap_or(REGION_FALLBACK);
        let params = Params::builder()
            .region(region)
            .use_fips(base.use_fips().unwrap_or_default())
            .use_dual_stack(base.use_dual_stack().unwrap_or_default())
            .set_endpoint(url.map(str::to_owned).or_else(|| said(base)))
            .build()
            .map_err(|error| causes(&error))?;
        let resolver = DefaultResolver::new();
        let resolved = resolver.resolve_endpoint(&params).await.map_err(|error| causes(error.as_ref()))?;
        Self::new(&resolved, region, base, reach)
    }

    fn new(resolved: &Resolved, region: &str, base: &SdkConfig, reach: impl FnOnce(&Uri) -> (Arc<Wire>, Door)) -> Result<Self, String> {
        let url = resolved.url();
        let uri: Uri = url.parse().map_err(|error| format!("the endpoint {url:?} is no URL: {error}"))?;
        let (Some(_scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(format!("the endpoint {url:?} is no URL: it has no scheme or no host"));
        };
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        let host = HeaderValue::from_str(host).map_err(|error| error.to_string())?;
        let scheme = resolved.auth_schemes().iter().find(|scheme| scheme.name() == "sigv4");
        let signing = |name: &str| scheme.and_then(|scheme| scheme.get(name)?.as_string().map(str::to_owned));
        let (wire, door) = reach(&uri);
        Ok(Self {
            host,
            url: uri.to_string(),
            region: signing("signingRegion").unwrap_or_else(|| region.to_owned()),
            service: signing("signingName").unwrap_or_else(|| "sts".to_owned()),
            wire,
            door,
            corrects: !base.disable_clock_skew_correction().unwrap_or_default(),
            skew: AtomicI64::new(0),
            uri,
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The signed request. Errors: what the signer says; it has nothing against requests of ours.
    pub(super) fn request(&self, identity: &Identity, now: SystemTime, body: &Bytes) -> Result<Request<Full<Bytes>>, String> {
        let params = v4::SigningParams::builder()
            .identity(identity)
            .region(&self.region)
            .name(&self.service)
            .time(self.signing_time(now))
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let mut request = self.bare(body);
        let headers = request.headers_mut();
        let signed = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()));
        let signable = SignableRequest::new("POST", self.url.as_str(), signed, SignableBody::Bytes(body)).map_err(|e| causes(&e))?;
        let (instructions, _signature) = sign(signable, &params).map_err(|error| causes(&error))?.into_parts();
        let (signatures, _no_parameters) = instructions.into_parts();
        for header in signatures {
            let mut value = HeaderValue::from_str(header.value()).map_err(|error| error.to_string())?;
            value.set_sensitive(header.sensitive() || header.name().eq_ignore_ascii_case(AUTHORIZATION.as_str()));
            headers.insert(HeaderName::from_static(header.name()), value);
        }
        headers.insert(USER_AGENT, AGENT);
        Ok(request)
    }

    /// A request that nobody signs: what it says is its own proof.
    pub(super) fn unsigned(&self, body: &Bytes) -> Request<Full<Bytes>> {
        let mut request = self.bare(body);
        request.headers_mut().insert(USER_AGENT, AGENT);
        request
    }

    fn bare(&self, body: &Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.reserve(6);
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, FORM);
        request
    }

    /// Looks at AWS's clock.
    pub(super) fn notice(&self, answer: &Answer, asked: SystemTime, now: SystemTime) {
        if let Some(theirs) = answer.headers.get(DATE).and_then(date) {
            self.wire.notice(theirs, millis(asked), millis(now));
        }
    }

    /// By how much AWS's clock differs, where ours may be corrected by it.
    pub(super) fn clock_skew(&self) -> Option<Skew> {
        self.wire.skew().filter(|_| self.corrects)
    }

    fn signing_time(&self, now: SystemTime) -> SystemTime {
        let skew = self.skew.load(Ordering::Relaxed);
        let by = Duration::from_millis(skew.unsigned_abs());
        if skew < 0 { now.checked_sub(by) } else { now.checked_add(by) }.unwrap_or(now)
    }

    /// Takes AWS's clock for ours when a signature was refused and the clocks are far apart. Says whether signing again may help.
    pub(super) fn adjust(&self, code: &str, answer: &Answer, now: SystemTime) -> bool {
        if !self.corrects || !SKEW_CODES.contains(&code) {
            return false;
        }
        let Some(theirs) = answer.headers.get(DATE).and_then(date) else { return false };
        let (ours, signed) = (millis(now), millis(self.signing_time(now)));
        if theirs.abs_diff(signed) < u64::try_from(SKEW_MIN.as_millis()).unwrap_or(u64::MAX) {
            return false;
        }
        tracing::warn!(endpoint = %self.url, milliseconds = theirs - ours, "AWS's clock differs from this machine's; signing by AWS's");
        self.skew.store(theirs - ours, Ordering::Relaxed);
        true
    }
}

/// The endpoint that the environment or the profile names for STS, as the SDK's own clients read it.
fn said(base: &SdkConfig) -> Option<String> {
    let general = || base.endpoint_url().map(str::to_owned);
    if base.get_origin("endpoint_url").is_client_config() {
        return general();
    }
    let key = ServiceConfigKey::builder().service_id("STS").env("AWS_ENDPOINT_URL").profile("endpoint_url").build().ok()?;
    base.service_config().and_then(|said| said.load_config(key)).or_else(general)
}

/// A date of HTTP's, in milliseconds since 1970.
pub(super) fn date(value: &HeaderValue) -> Option<i64> {
    DateTime::from_str(value.to_str().ok()?, Format::HttpDate).ok()?.to_millis().ok()
}

pub(super) fn millis(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or_default()
}
