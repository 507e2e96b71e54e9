//! How we speak TLS to others, and whom the system trusts.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;

use crate::{Peer, Trust};

/// The trust of the system, read with the first handshake and then kept.
#[derive(Default)]
pub struct SystemTrust(OnceCell<Arc<ClientConfig>>);

impl Trust for SystemTrust {
    async fn tls(&self, _peer: Peer) -> Result<Arc<ClientConfig>, String> {
        self.0.get_or_try_init(|| async { client_config(system_roots().await?) }).await.cloned()
    }
}

/// TLS 1.2 and 1.3 with HTTP/1.1 inside, to servers that these authorities vouch for. Connections that share it resume each other's sessions.
///
/// # Errors
/// The library supports none of the versions.
pub fn client_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The authorities that the system trusts: `SSL_CERT_FILE` and `SSL_CERT_DIR`, else where the system keeps them. Read off the runtime, for it is
/// hundreds of files on some systems.
///
/// # Errors
/// There are none.
pub async fn system_roots() -> Result<RootCertStore, String> {
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await.map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let text = "no CA certificate is to be had from the system's trust store (SSL_CERT_FILE, SSL_CERT_DIR): install the ca-certificates \
                    package or set SSL_CERT_FILE";
        return Err(text.to_owned());
    }
    Ok(roots)
}
