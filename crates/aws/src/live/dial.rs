//! Opens connections for [`super::wire`]: TCP, TLS, and the proxy that the environment names.
//!
//! The settings are those of [`super::http`], where the SDK's own calls go: the same trust store, the same proxies, the same rule for
//! addresses of this machine. They are read when the first connection is opened, not before.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper::rt::{Read, Write};
use hyper::service::Service;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::service::TowerToHyperService;

use super::http::{Way, certificates, way};
use super::sort::causes;

/// What carries the bytes.
pub(super) trait Stream: Read + Write + Send + Unpin {}
impl<S: Read + Write + Send + Unpin> Stream for S {}

/// An open connection, and how to speak on it.
pub(super) struct Opened {
    pub(super) stream: Box<dyn Stream>,
    pub(super) reader: Reader,
}

/// Who reads the requests on a connection.
pub(super) enum Reader {
    /// The origin itself, or a proxy that sees nothing but ciphertext.
    Origin,
    /// A proxy: it wants whole URLs, and this about us.
    Proxy(Option<HeaderValue>),
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Refused {
    /// The settings allow none; asking again does not help.
    Settings(String),
    /// Nobody answers there now.
    Nobody(String),
}

/// Opens connections to one origin.
pub(super) struct Dialer {
    to: Uri,
    way: Way,
    tls: tokio::sync::OnceCell<Arc<rustls::ClientConfig>>,
}

impl Dialer {
    pub(super) fn new(to: Uri) -> Self {
        let way = way(&to.to_string());
        Self { to, way, tls: tokio::sync::OnceCell::new() }
    }

    /// Opens a connection. The caller limits the time.
    pub(super) async fn open(&self, connect_max: Duration) -> Result<Opened, Refused> {
        let tcp = tcp(connect_max);
        let secure = self.to.scheme() == Some(&http::uri::Scheme::HTTPS);
        let proxy = if self.way == Way::World { Matcher::from_env().intercept(&self.to) } else { None };
        match (proxy, secure) {
            (None, false) => opened(tcp, self.to.clone()).await,
            (None, true) => opened(HttpsConnector::from((tcp, self.tls().await?)), self.to.clone()).await,
            (Some(proxy), false) => {
                let mut through = self.to_proxy(tcp, &proxy).await?;
                through.reader = Reader::Proxy(proxy.basic_auth().cloned());
                Ok(through)
            }
            (Some(proxy), true) => self.tunnelled(tcp, &proxy).await,
        }
    }

    async fn to_proxy(&self, tcp: HttpConnector, proxy: &Intercept) -> Result<Opened, Refused> {
        match scheme(proxy)? {
            Proxy::Plain => opened(tcp, proxy.uri().clone()).await,
            Proxy::Tls => opened(HttpsConnector::from((tcp, self.tls().await?)), proxy.uri().clone()).await,
        }
    }

    async fn tunnelled(&self, tcp: HttpConnector, proxy: &Intercept) -> Result<Opened, Refused> {
        scheme(proxy)?;
        let tls = self.tls().await?;
        let mut tunnel = Tunnel::new(proxy.uri().clone(), HttpsConnector::from((tcp, Arc::clone(&tls))));
        if let Some(value) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(value.clone());
        }
        opened(HttpsConnector::from((tunnel, tls)), self.to.clone()).await
    }

    /// One configuration for all connections, so that later handshakes resume the session of the first.
    async fn tls(&self) -> Result<Arc<rustls::ClientConfig>, Refused> {
        self.tls.get_or_try_init(|| async { client_config().map(Arc::new).map_err(Refused::Settings) }).await.cloned()
    }
}

enum Proxy {
    Plain,
    Tls,
}

fn scheme(proxy: &Intercept) -> Result<Proxy, Refused> {
    match proxy.uri().scheme_str() {
        Some("http") => Ok(Proxy::Plain),
        Some("https") => Ok(Proxy::Tls),
        other => {
            let scheme = other.unwrap_or_default();
            Err(Refused::Settings(format!("proxy scheme {scheme:?} is not supported: name an http:// or https:// proxy")))
        }
    }
}

fn tcp(connect_max: Duration) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect_max));
    tcp
}

async fn opened<C>(connector: C, to: Uri) -> Result<Opened, Refused>
where
    TowerToHyperService<C>: Service<Uri, Response: Stream + 'static, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    match TowerToHyperService::new(connector).call(to).await {
        Ok(stream) => Ok(Opened { stream: Box::new(stream), reader: Reader::Origin }),
        Err(error) => Err(Refused::Nobody(causes(error.into().as_ref()))),
    }
}

fn client_config() -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(certificates()?);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
