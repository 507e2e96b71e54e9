//! The HTTP client that all SDK clients share: made when the first call needs it, pooled, with the proxy and trust settings of the
//! environment.
//!
//! Nothing here may read a file or open a connection before a call is made: from exec to serving takes a few milliseconds, and
//! a machine without a trust store can still reach a plain-text endpoint.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_async::rt::sleep::SharedAsyncSleep;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::time::SdkClock;

/// Idle connections are kept as long as AWS's front ends keep them, so that a mint seldom pays for a handshake.
const IDLE_MAX: Duration = Duration::from_secs(90);
/// More kinds of timeouts than this are never in use; the SDK has three.
const POOLS_MAX: usize = 16;

/// The way to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Way {
    /// Plain HTTP to this machine or to a link-local address: credentials endpoints, metadata, the sandbox. Never through a proxy.
    Local,
    /// TLS to this machine. Never through a proxy.
    LocalTls,
    /// Everything else, through the proxy that the environment names for it.
    World,
}

type Key = (Way, Option<Duration>, Option<Duration>);

/// The shared client. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    pools: Arc<Mutex<HashMap<Key, SharedHttpConnector>>>,
    clock: SdkClock,
}

impl Http {
    pub(crate) fn new(clock: SdkClock) -> Self {
        Self { pools: Arc::default(), clock }
    }

    pub(crate) fn shared(&self) -> SharedHttpClient {
        SharedHttpClient::new(self.clone())
    }

    /// A connector with these time limits.
    pub(crate) fn connector(&self, settings: &HttpConnectorSettings) -> SharedHttpConnector {
        SharedHttpConnector::new(Routed { http: self.clone(), settings: settings.clone() })
    }

    fn pool(&self, way: Way, settings: &HttpConnectorSettings) -> Result<SharedHttpConnector, String> {
        let key = (way, settings.connect_timeout(), settings.read_timeout());
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&key) {
            return Ok(pool.clone());
        }
        let pool = self.open(way, settings)?;
        if pools.len() >= POOLS_MAX {
            pools.clear();
        }
        pools.insert(key, pool.clone());
        Ok(pool)
    }

    fn open(&self, way: Way, settings: &HttpConnectorSettings) -> Result<SharedHttpConnector, String> {
        let builder = Connector::builder()
            .connector_settings(settings.clone())
            .sleep_impl(SharedAsyncSleep::new(self.clock.clone()))
            .pool_idle_timeout(IDLE_MAX);
        let tls = |proxy: ProxyConfig| {
            let context = TlsContext::builder()
                .with_trust_store(TrustStore::empty().with_pem_certificate(pem(&certificates()?)))
                .build()
                .map_err(|error| error.to_string())?;
            let builder = builder.clone().proxy_config(proxy).tls_provider(Provider::Rustls(CryptoMode::AwsLc));
            Ok::<_, String>(builder.tls_context(context).build())
        };
        Ok(SharedHttpConnector::new(match way {
            Way::Local => builder.proxy_config(ProxyConfig::disabled()).build_http(),
            Way::LocalTls => tls(ProxyConfig::disabled())?,
            Way::World => tls(ProxyConfig::from_env())?,
        }))
    }
}

impl HttpClient for Http {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.connector(settings)
    }
}

/// Looks at each request's host before it takes a pool.
#[derive(Debug)]
struct Routed {
    http: Http,
    settings: HttpConnectorSettings,
}

impl HttpConnector for Routed {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match self.http.pool(way(request.uri()), &self.settings) {
            Ok(pool) => pool.call(request),
            Err(detail) => HttpConnectorFuture::ready(Err(ConnectorError::user(detail.into()))),
        }
    }
}

/// Decides the way from a URI.
pub(super) fn way(uri: &str) -> Way {
    let (scheme, rest) = uri.split_once("://").unwrap_or(("https", uri));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    match (is_local(host), scheme.eq_ignore_ascii_case("http")) {
        (true, true) => Way::Local,
        (true, false) => Way::LocalTls,
        (false, _) => Way::World,
    }
}

/// This machine, link-local addresses, and AWS's own local addresses in IPv6.
fn is_local(host: &str) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => v4.is_loopback() || v4.is_link_local(),
        Ok(IpAddr::V6(v6)) => v6.is_loopback() || v6.is_unicast_link_local() || v6.segments().starts_with(&[0xfd00, 0xec2]),
        Err(_a_name) => false,
    }
}

/// The certificates to trust: `AWS_CA_BUNDLE` alone where it is set, as in AWS's own tools, else the system's (`SSL_CERT_FILE`,
/// `SSL_CERT_DIR`, else where the system keeps them). What does not parse is left out, because the SDK would panic on it.
pub(super) fn certificates() -> Result<Vec<CertificateDer<'static>>, String> {
    let (certificates, place) = match std::env::var("AWS_CA_BUNDLE").ok().filter(|path| !path.is_empty()) {
        Some(path) => {
            let place = format!("the file {path:?} (AWS_CA_BUNDLE)");
            let pem = CertificateDer::pem_file_iter(&path).map_err(|error| format!("{place} cannot be read: {error}"))?;
            (pem.filter_map(Result::ok).collect(), place)
        }
        None => (rustls_native_certs::load_native_certs().certs, "the system's trust store (SSL_CERT_FILE, SSL_CERT_DIR)".to_owned()),
    };
    let sound: Vec<CertificateDer<'static>> =
        certificates.into_iter().filter(|certificate| rustls::RootCertStore::empty().add(certificate.clone()).is_ok()).collect();
    if sound.is_empty() {
        return Err(format!("no CA certificate is to be had from {place}: install the ca-certificates package or set SSL_CERT_FILE"));
    }
    Ok(sound)
}

fn pem(certificates: &[CertificateDer<'static>]) -> String {
    let mut out = String::new();
    for certificate in certificates {
        out.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = data_encoding::BASE64.encode(certificate);
        for line in text.as_bytes().chunks(64) {
            out.push_str(std::str::from_utf8(line).unwrap_or_default());
            out.push('\n');
        }
        out.push_str("-----END CERTIFICATE-----\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_never_go_through_a_proxy() {
        for (uri, expected) in [
            ("http://169.254.170.2/v2/credentials/x", Way::Local),
            ("http://169.254.169.254/latest/api/token", Way::Local),
            ("http://127.0.0.1:4566/", Way::Local),
            ("http://localhost:4566", Way::Local),
            ("http://[::1]:80/x", Way::Local),
            ("http://[fd00:ec2::254]/x", Way::Local),
            ("https://127.0.0.1:8443/", Way::LocalTls),
            ("https://sts.eu-west-1.amazonaws.com/", Way::World),
            ("http://sts.example/", Way::World),
            ("https://localhost.example/", Way::World),
            ("http://user@10.0.0.1/", Way::World),
        ] {
            assert_eq!(way(uri), expected, "{uri}");
        }
    }

    #[test]
    fn a_pool_is_opened_once_for_one_kind_of_timeouts() {
        let http = Http::new(SdkClock(Arc::new(daypass_base::SystemClock::new())));
        let settings = HttpConnectorSettings::builder().connect_timeout(Duration::from_secs(1)).build();
        assert!(http.pool(Way::Local, &settings).is_ok());
        assert!(http.pool(Way::Local, &settings).is_ok());
        assert_eq!(http.pools.lock().unwrap().len(), 1);
    }
}
