//! One connection to the server: TCP or a socket file, through a proxy where the environment asks for one, in TLS where the address does.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::address::{Address, Scheme};
use super::sent::Sent;
use super::tls::{self, Tls};
use super::{Config, Trouble};

/// What carries the bytes.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An open connection.
pub(crate) struct Connection {
    /// Sends requests, one after the other.
    pub(crate) sender: SendRequest<Sent>,
    /// Whether the request line carries the whole URL, because a proxy reads it.
    pub(crate) absolute_form: bool,
    /// What the proxy wants to know about us, when it is the proxy that reads the request.
    pub(crate) proxy_authorization: Option<http::HeaderValue>,
}

/// Connects to `address`.
pub(crate) async fn open(config: &Config, address: &Address) -> Result<Connection, Trouble> {
    if let Scheme::Unix(path) = &address.scheme {
        let named = |error: io::Error| {
            Trouble::new(format!("dial unix {}: connect: {}", path.display(), plain(&error)))
                .hint("is the server running, and does its listener \"unix\" name this path?")
        };
        return handshake(Box::new(UnixStream::connect(path).await.map_err(named)?)).await;
    }
    let proxy = proxy_for(config, address)?;
    match (&address.scheme, proxy) {
        (Scheme::Https, Some(proxy)) => {
            let stream = tunnel(&proxy, address).await?;
            secure(stream, &config.tls, address).await
        }
        (Scheme::Https, None) => secure(Box::new(dial(&address.host, address.port).await?), &config.tls, address).await,
        (_, Some(proxy)) => {
            let (host, port) = place(&proxy)?;
            let mut connection = handshake(Box::new(dial(&host, port).await?)).await?;
            connection.absolute_form = true;
            connection.proxy_authorization = proxy.basic_auth().cloned();
            Ok(connection)
        }
        (_, None) => handshake(Box::new(dial(&address.host, address.port).await?)).await,
    }
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, Trouble> {
    let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut addresses: Vec<_> = match tokio::net::lookup_host((host, port)).await {
        Ok(found) => found.collect(),
        Err(error) => {
            return Err(
                Trouble::new(format!("dial tcp: lookup {host}: {}", plain(&error))).hint("check the host name in VAULT_ADDR or -address")
            );
        }
    };
    addresses.truncate(ADDRESSES_MAX);
    let mut last = Trouble::new(format!("dial tcp {shown}: no address found"));
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Small requests must not wait for each other's acknowledgement; a failure to say so costs only time.
                let _slower = stream.set_nodelay(true);
                keep_alive(&stream);
                return Ok(stream);
            }
            Err(error) => {
                last = Trouble::new(format!("dial tcp {address}: connect: {}", plain(&error)));
                if error.kind() == io::ErrorKind::ConnectionRefused {
                    last = last
                        .hint(format!("nothing listens at {shown}: is the server running? Set its address with VAULT_ADDR or -address"));
                }
            }
        }
    }
    Err(last)
}

/// A server that is gone without a word is noticed, however long its answer may take. As Go's dialer asks for; where the system does not, it is only noticed later.
fn keep_alive(stream: &TcpStream) {
    let _later = sockopt::set_socket_keepalive(stream, true)
        .and_then(|()| sockopt::set_tcp_keepidle(stream, Duration::from_secs(30)))
        .and_then(|()| sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15)))
        .and_then(|()| sockopt::set_tcp_keepcnt(stream, 4));
}

/// No host has more addresses than this worth trying.
const ADDRESSES_MAX: usize = 8;

async fn secure(stream: Box<dyn Stream>, settings: &Tls, address: &Address) -> Result<Connection, Trouble> {
    let connector = tokio_rustls::TlsConnector::from(settings.client_config()?);
    let name = settings.name(&address.host)?;
    let stream = connector.connect(name, stream).await.map_err(|error| tls::explain(&error, &address.url("")))?;
    handshake(Box::new(stream)).await
}

async fn handshake(stream: Box<dyn Stream>) -> Result<Connection, Trouble> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| Trouble::new(error.to_string()))?;
    // Owned by the runtime, which the client drops; its errors reach the request that waits on it.
    let _driver = tokio::spawn(async move {
        let _told_to_the_request = connection.await;
    });
    Ok(Connection { sender, absolute_form: false, proxy_authorization: None })
}

/// Asks an HTTP proxy to pass bytes on to `address`.
async fn tunnel(proxy: &Intercept, address: &Address) -> Result<Box<dyn Stream>, Trouble> {
    let (host, port) = place(proxy)?;
    let stream = dial(&host, port).await?;
    let failed = |why: &dyn std::fmt::Display| Trouble::new(format!("proxy {host}:{port}: {why}"));
    let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let _driver = tokio::spawn(async move {
        let _told_to_the_request = connection.with_upgrades().await;
    });
    let target = format!("{}:{}", address.authority.rsplit_once(':').map_or(&*address.authority, |(host, _)| host), address.port);
    let mut request = http::Request::connect(&target).header(http::header::HOST, &target);
    if let Some(value) = proxy.basic_auth() {
        request = request.header(http::header::PROXY_AUTHORIZATION, value);
    }
    let request = request.body(Empty::new()).map_err(|error| failed(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
    if !answer.status().is_success() {
        return Err(failed(&format!("CONNECT answered {}", answer.status())));
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(|error| failed(&error))?;
    Ok(Box::new(TokioIo::new(upgraded)))
}

/// The proxy that the settings name for this address. As in Go, this machine itself needs none unless one is named on purpose.
fn proxy_for(config: &Config, address: &Address) -> Result<Option<Intercept>, Trouble> {
    let matcher = match &config.proxy.always {
        Some(proxy) => Matcher::builder().all(proxy.clone()).build(),
        None if address.is_loopback() => return Ok(None),
        None => {
            let from = &config.proxy;
            let (http, https, except) = (from.http.clone(), from.https.clone(), from.except.clone());
            Matcher::builder().http(http.unwrap_or_default()).https(https.unwrap_or_default()).no(except.unwrap_or_default()).build()
        }
    };
    let url: http::Uri = address.url("/").parse().map_err(|error| Trouble::new(format!("invalid address: {error}")))?;
    Ok(matcher.intercept(&url))
}

fn place(proxy: &Intercept) -> Result<(String, u16), Trouble> {
    let url = proxy.uri();
    if url.scheme_str().is_some_and(|scheme| scheme != "http") {
        return Err(Trouble::new(format!("proxy scheme {:?} is not supported", url.scheme_str().unwrap_or_default()))
            .hint("name an http:// proxy in HTTPS_PROXY"));
    }
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    Ok((host, url.port_u16().unwrap_or(80)))
}

/// An operating system error without Rust's number after it, in Go's lower case.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_lowercase().to_string() + chars.as_str()).unwrap_or_default()
}
