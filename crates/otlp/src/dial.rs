//! Opens connections to the collector: TCP, TLS with the system's trust, and the proxy that the environment names for hosts elsewhere.

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
use rustls::RootCertStore;

use crate::Endpoint;

/// Time to connect.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// What carries the bytes.
pub(crate) trait Stream: Read + Write + Send + Unpin {}
impl<S: Read + Write + Send + Unpin> Stream for S {}

/// Who reads what is sent on a connection.
pub(crate) enum Reader {
    /// The collector, or a proxy that sees nothing but ciphertext.
    Collector,
    /// A proxy: it wants whole URLs, and this about us.
    Proxy(Option<HeaderValue>),
}

/// Opens connections to one collector.
pub(crate) struct Dialer {
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Dialer {
    pub(crate) fn new() -> Self {
        Self { tls: None }
    }

    /// A connection, or why there is none.
    pub(crate) async fn open(&mut self, endpoint: &Endpoint) -> Result<(Box<dyn Stream>, Reader), String> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_MAX));
        let to = endpoint.uri().clone();
        let proxy = if endpoint.is_local() { None } else { Matcher::from_env().intercept(&to) };
        proxy.as_ref().map(check).transpose()?;
        let stream = match (proxy, endpoint.is_secure()) {
            (None, false) => opened(tcp, to).await?,
            (None, true) => opened(HttpsConnector::from((tcp, self.tls().await?)), to).await?,
            (Some(proxy), false) => {
                let stream = opened(HttpsConnector::from((tcp, self.tls().await?)), proxy.uri().clone()).await?;
                return Ok((stream, Reader::Proxy(proxy.basic_auth().cloned())));
            }
            (Some(proxy), true) => {
                let tls = self.tls().await?;
                let mut tunnel = Tunnel::new(proxy.uri().clone(), HttpsConnector::from((tcp, Arc::clone(&tls))));
                if let Some(value) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(value.clone());
                }
                opened(HttpsConnector::from((tunnel, tls)), to).await?
            }
        };
        Ok((stream, Reader::Collector))
    }

    /// The system's trust, read once, off the runtime: it is hundreds of files on some systems.
    async fn tls(&mut self) -> Result<Arc<rustls::ClientConfig>, String> {
        if let Some(config) = &self.tls {
            return Ok(Arc::clone(config));
        }
        let config = tokio::task::spawn_blocking(client_config).await.map_err(|error| error.to_string())??;
        Ok(Arc::clone(self.tls.insert(Arc::new(config))))
    }
}

fn check(proxy: &Intercept) -> Result<(), String> {
    match proxy.uri().scheme_str() {
        Some("http" | "https") => Ok(()),
        other => Err(format!("proxy scheme {:?} is not supported: name an http:// or https:// proxy", other.unwrap_or_default())),
    }
}

async fn opened<C>(connector: C, to: Uri) -> Result<Box<dyn Stream>, String>
where
    TowerToHyperService<C>: Service<Uri, Response: Stream + 'static, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    match TowerToHyperService::new(connector).call(to).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(daypass_base::causes(error.into().as_ref())),
    }
}

fn client_config() -> Result<rustls::ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("no CA certificate is to be had from the system's trust store (SSL_CERT_FILE, SSL_CERT_DIR)".to_owned());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
