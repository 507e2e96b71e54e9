//! Opens connections: TCP, TLS, and the proxy that the environment names.

use std::sync::Arc;
use std::time::Duration;

use daypass_base::causes;
use http::{HeaderValue, Uri};
use hyper::rt::{Read, Write};
use hyper::service::Service;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::service::TowerToHyperService;
use rustls::ClientConfig;

/// What carries the bytes.
pub trait Stream: Read + Write + Send + Unpin {}
impl<S: Read + Write + Send + Unpin> Stream for S {}

/// An open connection, and how to speak on it.
pub struct Opened {
    /// The bytes.
    pub stream: Box<dyn Stream>,
    /// Who reads them.
    pub reader: Reader,
}

/// Who reads the requests on a connection.
pub enum Reader {
    /// The origin itself, or a proxy that sees nothing but ciphertext.
    Origin,
    /// A proxy: it wants whole URLs, and this about us.
    Proxy(Option<HeaderValue>),
}

/// Why there is no connection.
#[derive(Debug)]
pub enum Refused {
    /// The settings allow none; asking again does not help.
    Settings(String),
    /// Nobody answers there now.
    Nobody(String),
}

/// Whose certificate is to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The host that the URL names.
    Origin,
    /// The proxy on the way to it.
    Proxy,
}

/// Says who vouches for servers. It is asked when a certificate is to be judged, and not before.
pub trait Trust: Sync {
    /// The settings for handshakes with `peer`, or what is wrong with the configuration.
    fn tls(&self, peer: Peer) -> impl Future<Output = Result<Arc<ClientConfig>, String>> + Send;
}

/// A proxy that we know how to speak to.
pub struct Proxy {
    found: Intercept,
    secure: bool,
}

/// The proxy that the environment names for an origin (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`), if any. Callers ask for origins
/// elsewhere; nothing stands between two programs of one machine.
///
/// # Errors
/// [`Refused::Settings`]: it is neither an HTTP nor an HTTPS proxy.
pub fn proxy_of(to: &Uri) -> Result<Option<Proxy>, Refused> {
    found_by(&Matcher::from_env(), to)
}

fn found_by(environment: &Matcher, to: &Uri) -> Result<Option<Proxy>, Refused> {
    let Some(found) = environment.intercept(to) else { return Ok(None) };
    let secure = match found.uri().scheme_str() {
        Some("http") => false,
        Some("https") => true,
        other => {
            let scheme = other.unwrap_or_default();
            return Err(Refused::Settings(format!("proxy scheme {scheme:?} is not supported: name an http:// or https:// proxy")));
        }
    };
    Ok(Some(Proxy { found, secure }))
}

/// Opens a connection to the origin of `to`. Connecting the socket takes `connect_max` at most; the caller limits the whole.
///
/// # Errors
/// [`Refused`], with what the system or the peer said.
pub async fn open(to: &Uri, proxy: Option<Proxy>, connect_max: Duration, trust: &impl Trust) -> Result<Opened, Refused> {
    let tcp = tcp(connect_max);
    let tls = async |peer| trust.tls(peer).await.map_err(Refused::Settings);
    let secure = to.scheme() == Some(&http::uri::Scheme::HTTPS);
    let stream = match (&proxy, secure) {
        (None, false) => connected(tcp, to.clone()).await?,
        (None, true) => connected(HttpsConnector::from((tcp, tls(Peer::Origin).await?)), to.clone()).await?,
        (Some(proxy), false) => {
            let at = proxy.found.uri().clone();
            let stream = if proxy.secure {
                connected(HttpsConnector::from((tcp, tls(Peer::Proxy).await?)), at).await?
            } else {
                connected(tcp, at).await?
            };
            return Ok(Opened { stream, reader: Reader::Proxy(proxy.found.basic_auth().cloned()) });
        }
        (Some(proxy), true) => {
            let to_proxy = HttpsConnector::from((tcp, tls(Peer::Proxy).await?));
            let mut tunnel = Tunnel::new(proxy.found.uri().clone(), to_proxy);
            if let Some(value) = proxy.found.basic_auth() {
                tunnel = tunnel.with_auth(value.clone());
            }
            connected(HttpsConnector::from((tunnel, tls(Peer::Origin).await?)), to.clone()).await?
        }
    };
    Ok(Opened { stream, reader: Reader::Origin })
}

fn tcp(connect_max: Duration) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect_max));
    tcp
}

async fn connected<C>(connector: C, to: Uri) -> Result<Box<dyn Stream>, Refused>
where
    TowerToHyperService<C>: Service<Uri, Response: Stream + 'static, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    match TowerToHyperService::new(connector).call(to).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(Refused::Nobody(causes(error.into().as_ref()))),
    }
}

#[cfg(test)]
mod tests;
