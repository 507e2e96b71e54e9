//! Keys of an OIDC issuer, read from the issuer itself as AWS does: discovery, then the key set. Sources: OpenID Connect Discovery 1.0, RFC 7517.
//!
//! Issuers on this machine alone, over plain HTTP: the sandbox is no way out of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daypass_base::Clock;
use http::header::HOST;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::jwt::{Jwk, VerifyingKey};

/// Time for both documents.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a document.
const DOCUMENT_MAX: usize = 256 * 1024;
/// Keys of an issuer.
pub(crate) const KEYS_MAX: usize = 100;

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
pub(crate) struct KeySet {
    keys: Vec<Value>,
}

impl KeySet {
    /// Keys of kinds that are not known here are left out, as RFC 7517 wants. Says what is wrong with the others.
    pub(crate) fn verifying(self) -> Result<Vec<VerifyingKey>, String> {
        if self.keys.len() > KEYS_MAX {
            return Err(format!("the key set has {} keys, over the limit of {KEYS_MAX}", self.keys.len()));
        }
        let usable = self.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok()).filter(Jwk::is_supported);
        usable.map(|key| VerifyingKey::from_jwk(&key)).collect()
    }
}

/// Whether keys are read from an issuer at this address: it is on this machine.
pub(crate) fn is_reachable(issuer: &str) -> bool {
    issuer.parse::<Uri>().is_ok_and(|uri| loopback(&uri).is_some())
}

/// The keys that an issuer publishes now. Says what went wrong.
pub(crate) async fn keys(issuer: &str, clock: &Arc<dyn Clock>) -> Result<Vec<VerifyingKey>, String> {
    let read = async {
        let found: Discovery = document(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))).await?;
        if found.issuer.trim_end_matches('/') != issuer.trim_end_matches('/') {
            return Err(format!("{issuer} calls itself {}", found.issuer));
        }
        document::<KeySet>(&found.jwks_uri).await?.verifying()
    };
    tokio::select! {
        read = read => read,
        () = clock.sleep(PATIENCE) => Err(format!("{issuer} did not answer within {PATIENCE:?}")),
    }
}

async fn document<T: serde::de::DeserializeOwned>(url: &str) -> Result<T, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
    let address = loopback(&uri).ok_or_else(|| format!("{url} is not on this machine, or not plain HTTP"))?;
    let told = |error: &dyn std::fmt::Display| format!("{url}: {error}");
    let stream = TcpStream::connect(&address).await.map_err(|error| told(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| told(&error))?;
    let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str())).header(HOST, &address);
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| told(&error))?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(|error| told(&error))?;
        if !response.status().is_success() {
            return Err(told(&response.status()));
        }
        let body = Limited::new(response.into_body(), DOCUMENT_MAX).collect().await.map_err(|error| told(&error))?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| told(&error))
    };
    // The connection is driven by whoever waits for its answer, and is over with it.
    let (mut connection, mut answered) = (std::pin::pin!(connection), std::pin::pin!(answered));
    tokio::select! {
        biased;
        answer = &mut answered => answer,
        ended = &mut connection => match ended {
            Ok(()) => answered.await,
            Err(error) => Err(told(&error)),
        },
    }
}

/// Host and port, where the host is this machine and the scheme is `http`.
fn loopback(uri: &Uri) -> Option<String> {
    let host = uri.host().filter(|_| uri.scheme_str() == Some("http"))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let here = host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    here.then(|| format!("{host}:{}", uri.port_u16().unwrap_or(80)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked() {
        for here in ["http://127.0.0.1:8200/v1/identity/oidc/plugins", "http://localhost", "http://[::1]:1/x"] {
            assert!(is_reachable(here), "{here}");
        }
        for elsewhere in ["https://127.0.0.1", "http://10.0.0.1/x", "http://127.0.0.1.example.com", "http://example.com", "x", ""] {
            assert!(!is_reachable(elsewhere), "{elsewhere}");
        }
    }

    #[tokio::test]
    async fn an_issuer_that_is_not_there_is_said_to_be() {
        let clock: Arc<dyn Clock> = Arc::new(daypass_base::sim::SimClock::default());
        let error = keys("http://127.0.0.1:1/none", &clock).await.unwrap_err();
        assert!(error.starts_with("http://127.0.0.1:1/none/.well-known/openid-configuration: "), "{error}");
        assert!(keys("https://example.com", &clock).await.unwrap_err().contains("is not on this machine"));
    }
}
