//! The way to a provider: the trust that is asked for, the proxy that the environment names for hosts elsewhere, and no detour to this machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daypass_base::Clock;
use daypass_dial::{ClientConfig, Line, Opened, Peer, Reader, Refused, Roots, SystemTrust, proxy_of};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::TcpStream;

use super::{LiveIdp, causes, shortened};
use crate::url::is_at_home;
use crate::{Ask, IdpError, Result, Trust};

/// Time to connect.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Certificates of one configured text.
const CERTIFICATES_MAX: usize = 1_000;

impl LiveIdp {
    /// Connects.
    pub(super) async fn open(&self, ask: &Ask) -> Result<Line> {
        let url = &ask.url;
        let opening = async {
            let proxy = if url.is_local() { None } else { proxy_of(url.uri())? };
            let opened = if proxy.is_none() && !url.is_secure() && !url.is_local() {
                abroad(&self.clock, url.uri()).await.map_err(Refused::Nobody)?
            } else {
                daypass_dial::open(url.uri(), proxy, CONNECT_MAX, &Asked { system: &self.system, trust: &ask.trust }).await?
            };
            Line::start(opened).await
        };
        opening.await.map_err(|refused| match refused {
            Refused::Settings(text) => IdpError::Settings(text),
            Refused::Nobody(detail) => IdpError::Unreachable { host: url.host().to_owned(), detail: shortened(&detail) },
        })
    }
}

/// The trust of one call.
struct Asked<'a> {
    system: &'a SystemTrust,
    trust: &'a Trust,
}

impl daypass_dial::Trust for Asked<'_> {
    async fn tls(&self, peer: Peer) -> Result<Arc<ClientConfig>, String> {
        match (peer, self.trust) {
            // The way to the proxy is the system's business, whatever the provider's own certificate is signed by.
            (Peer::Proxy, _) | (Peer::Origin, Trust::System) => self.system.tls(peer).await,
            (Peer::Origin, Trust::Only(pem)) => daypass_dial::client_config(roots_of(pem)?),
            (Peer::Origin, Trust::Also(pem)) => {
                let mut roots = roots_of(pem)?;
                // Without a system's store there are those that were named.
                roots.extend(daypass_dial::system_roots().await.unwrap_or_default());
                daypass_dial::client_config(roots)
            }
        }
    }
}

/// A connection over plain TCP to elsewhere. A name that leads to this machine or its link is refused, whoever answers for it: the URL may stand in
/// a stranger's certificate.
pub(super) async fn abroad(clock: &Arc<dyn Clock>, to: &Uri) -> Result<Opened, String> {
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
        done = connected => done.map(|stream| Opened { stream: Box::new(TokioIo::new(stream)), reader: Reader::Origin }),
        () = clock.sleep(CONNECT_MAX) => Err(format!("no connection within {CONNECT_MAX:?}")),
    }
}

fn roots_of(pem: &str) -> Result<Roots, String> {
    let refuse = |why: String| format!("the configured CA certificates cannot be used: {why}");
    let mut roots = Roots::default();
    for (number, certificate) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
        if number >= CERTIFICATES_MAX {
            return Err(refuse(format!("there are more than {CERTIFICATES_MAX}")));
        }
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots.name(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    if roots.is_empty() { Err(refuse("there is no PEM block CERTIFICATE".to_owned())) } else { Ok(roots) }
}
