//! Opens connections: TCP, TLS with the trust that is asked for, and the proxy that the environment names for hosts elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daypass_base::Clock;

use http::Uri;
use hyper::rt::{Read, Write};
use hyper::service::Service;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::TcpStream;

use super::{LiveIdp, causes};
use crate::url::is_at_home;
use crate::{Ask, IdpError, Result, Trust};

/// Time to connect.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Certificates of one configured text.
const CERTIFICATES_MAX: usize = 1_000;

/// What carries the bytes.
pub(super) trait Stream: Read + Write + Send + Unpin {}
impl<S: Read + Write + Send + Unpin> Stream for S {}

impl LiveIdp {
    /// Connects. With the proxy, if the connection ends there and not at the host.
    pub(super) async fn open(&self, ask: &Ask) -> Result<(Box<dyn Stream>, Option<Intercept>)> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_MAX));
        let to = ask.url.uri().clone();
        let unreachable = |detail| IdpError::Unreachable { host: ask.url.host().to_owned(), detail };
        let proxy = if ask.url.is_local() { None } else { Matcher::from_env().intercept(&to) };
        proxy.as_ref().map(check).transpose()?;
        if !ask.url.is_secure() {
            return match proxy {
                Some(proxy) => {
                    let system = self.tls(&Trust::System).await?;
                    let stream = opened(HttpsConnector::from((tcp, system)), proxy.uri().clone()).await.map_err(unreachable)?;
                    Ok((stream, Some(proxy)))
                }
                None if ask.url.is_local() => Ok((opened(tcp, to).await.map_err(unreachable)?, None)),
                None => Ok((abroad(&self.clock, &to).await.map_err(unreachable)?, None)),
            };
        }
        let tls = self.tls(&ask.trust).await?;
        let Some(proxy) = proxy else { return Ok((opened(HttpsConnector::from((tcp, tls)), to).await.map_err(unreachable)?, None)) };
        // The way to the proxy is the system's business, whatever the provider's own certificate is signed by.
        let mut tunnel = Tunnel::new(proxy.uri().clone(), HttpsConnector::from((tcp, self.tls(&Trust::System).await?)));
        if let Some(value) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(value.clone());
        }
        Ok((opened(HttpsConnector::from((tunnel, tls)), to).await.map_err(unreachable)?, None))
    }

    async fn tls(&self, trust: &Trust) -> Result<Arc<rustls::ClientConfig>> {
        match trust {
            Trust::Also(pem) => {
                let mut roots = roots_of(pem)?;
                // Without a system's store there are those that were named.
                roots.roots.extend(system_roots().unwrap_or_else(|_none| RootCertStore::empty()).roots);
                client_config(roots)
            }
            Trust::Only(pem) => client_config(roots_of(pem)?),
            Trust::System => self.system.get_or_try_init(|| async { client_config(system_roots()?) }).await.cloned(),
        }
    }
}

/// A connection over plain TCP to elsewhere. A name that leads to this machine or its link is refused, whoever answers for it: the URL may stand in
/// a stranger's certificate.
pub(super) async fn abroad(clock: &Arc<dyn Clock>, to: &Uri) -> Result<Box<dyn Stream>, String> {
    let (host, port) = (to.host().unwrap_or_default(), to.port_u16().unwrap_or(80));
    let connected = async {
        let found =
            tokio::net::lookup_host((host.trim_start_matches('[').trim_end_matches(']'), port)).await.map_err(|error| causes(&error))?;
        let addresses: Vec<SocketAddr> = found.filter(|address| !is_at_home(address.ip())).take(ADDRESSES_MAX).collect();
        if addresses.is_empty() {
            return Err("its name has no address outside of this machine and its link".to_owned());
        }
        TcpStream::connect(addresses.as_slice()).await.map_err(|error| causes(&error))
    };
    tokio::select! {
        biased;
        done = connected => done.map(|stream| Box::new(TokioIo::new(stream)) as Box<dyn Stream>),
        () = clock.sleep(CONNECT_MAX) => Err(format!("no connection within {CONNECT_MAX:?}")),
    }
}

fn check(proxy: &Intercept) -> Result<()> {
    match proxy.uri().scheme_str() {
        Some("http" | "https") => Ok(()),
        other => {
            let scheme = other.unwrap_or_default();
            Err(IdpError::Settings(format!("proxy scheme {scheme:?} is not supported: name an http:// or https:// proxy")))
        }
    }
}

async fn opened<C>(connector: C, to: Uri) -> Result<Box<dyn Stream>, String>
where
    TowerToHyperService<C>: Service<Uri, Response: Stream + 'static, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    match TowerToHyperService::new(connector).call(to).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(causes(error.into().as_ref())),
    }
}

fn client_config(roots: RootCertStore) -> Result<Arc<rustls::ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| IdpError::Settings(error.to_string()))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn roots_of(pem: &str) -> Result<RootCertStore> {
    let refuse = |why: String| IdpError::Settings(format!("the configured CA certificates cannot be used: {why}"));
    let mut roots = RootCertStore::empty();
    for (number, certificate) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
        if number >= CERTIFICATES_MAX {
            return Err(refuse(format!("there are more than {CERTIFICATES_MAX}")));
        }
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    if roots.is_empty() { Err(refuse("there is no PEM block CERTIFICATE".to_owned())) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let text = "no CA certificate is to be had from the system's trust store (SSL_CERT_FILE, SSL_CERT_DIR): install the ca-certificates \
                    package or set SSL_CERT_FILE";
        return Err(IdpError::Settings(text.to_owned()));
    }
    Ok(roots)
}
