//! How we speak TLS to others, and whom we trust.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
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

/// Whom to trust. What somebody named is trusted as an authority and also as the certificate of a server itself; what the system names, as an
/// authority alone.
#[derive(Debug, Clone)]
pub struct Roots {
    authorities: RootCertStore,
    named: Vec<CertificateDer<'static>>,
}

impl Default for Roots {
    /// Nobody.
    fn default() -> Self {
        Self::of_authorities(RootCertStore::empty())
    }
}

impl Roots {
    /// These authorities, which nobody named one by one.
    #[must_use]
    pub fn of_authorities(authorities: RootCertStore) -> Self {
        Self { authorities, named: Vec::new() }
    }

    /// Trusts a certificate that the configuration, a flag or a variable names.
    ///
    /// # Errors
    /// It is no certificate.
    pub fn name(&mut self, certificate: CertificateDer<'static>) -> Result<(), Error> {
        self.authorities.add(certificate.clone())?;
        self.named.push(certificate);
        Ok(())
    }

    /// Trusts these as well.
    pub fn extend(&mut self, others: Self) {
        self.authorities.roots.extend(others.authorities.roots);
        self.named.extend(others.named);
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.authorities.is_empty()
    }
}

/// TLS 1.2 and 1.3 with HTTP/1.1 inside, to servers that these vouch for. Connections that share it resume each other's sessions.
///
/// # Errors
/// The library supports none of the versions.
pub fn client_config(roots: Roots) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = verifier(&provider, roots);
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Judges the certificates of servers as the library does, but takes one that was named for itself.
#[must_use]
pub fn verifier(provider: &CryptoProvider, roots: Roots) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Verifier { roots, algorithms: provider.signature_verification_algorithms })
}

/// The authorities that the system trusts: `SSL_CERT_FILE` and `SSL_CERT_DIR`, else where the system keeps them. Read off the runtime, for it is
/// hundreds of files on some systems.
///
/// # Errors
/// There are none.
pub async fn system_roots() -> Result<Roots, String> {
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await.map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let text = "no CA certificate is to be had from the system's trust store (SSL_CERT_FILE, SSL_CERT_DIR): install the ca-certificates \
                    package or set SSL_CERT_FILE";
        return Err(text.to_owned());
    }
    Ok(Roots::of_authorities(roots))
}

/// `openssl req -x509` makes certificates that say to be an authority's, and people serve them as they are. webpki takes no authority's certificate for a
/// server's, whoever trusts it; Vault's clients, curl and Python take it where it was named as trusted, and so does this.
#[derive(Debug)]
struct Verifier {
    roots: Roots,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(own)?;
        let vouched = verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots.authorities, between, now, self.algorithms.all);
        match (vouched, self.roots.named.contains(own)) {
            // Its dates were looked at before either is found: see `an_old_certificate_is_refused_though_it_was_named`.
            (Err(error), true) if is_authority(&error) || is_unknown(&error) => {}
            (Err(error), false) if is_authority(&error) => {
                return Err(CertificateError::Other(OtherError(Arc::new(NotNamed))).into());
            }
            (vouched, _) => vouched?,
        }
        verify_server_name(&parsed, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, own, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, own, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether all that is wrong is that the certificate says to be an authority's.
fn is_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// Whether all that is wrong is that no authority vouches for it: there is none of its issuer's name, or that one has another key.
fn is_unknown(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature))
}

/// The library shows the reasons of others for debugging, so that form has the words too.
struct NotNamed;

impl fmt::Display for NotNamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server shows an authority's certificate (CA:TRUE) that is not itself among those that were named as trusted")
    }
}

impl fmt::Debug for NotNamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for NotNamed {}

#[cfg(test)]
mod tests;
