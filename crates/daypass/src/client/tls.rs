//! TLS to the server: whom to trust, and how to show who we are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use daypass_dial::Roots;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::Trouble;

/// What flags and environment say about TLS.
#[derive(Debug, Default)]
pub(crate) struct Tls {
    /// PEM file of authorities to trust instead of the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// Directory of such files.
    pub(crate) ca_dir: Option<PathBuf>,
    /// Such a file's content.
    pub(crate) ca_bytes: Option<String>,
    /// PEM file of our own certificate.
    pub(crate) client_cert: Option<PathBuf>,
    /// PEM file of its key.
    pub(crate) client_key: Option<PathBuf>,
    /// Name that the server's certificate must have, in place of the address's host.
    pub(crate) server_name: Option<String>,
    /// Take any certificate. Whoever sits between reads everything.
    pub(crate) skip_verify: bool,
}

impl Tls {
    /// The settings as rustls wants them. Fails when a file cannot be read or holds no certificate.
    pub(crate) fn client_config(&self) -> Result<Arc<ClientConfig>, Trouble> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Trouble::new(format!("tls: {error}")))?;
        let verifier: Arc<dyn ServerCertVerifier> = if self.skip_verify {
            Arc::new(TrustAnyone(provider.signature_verification_algorithms))
        } else {
            daypass_dial::verifier(&provider, self.roots()?)
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match (&self.client_cert, &self.client_key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| Trouble::new(format!("tls: client certificate: {error}")))?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => {
                return Err(Trouble::new("both client cert and client key must be provided".to_owned())
                    .hint("give -client-cert together with -client-key, or set VAULT_CLIENT_CERT and VAULT_CLIENT_KEY"));
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The name to check the certificate against.
    pub(crate) fn name(&self, host: &str) -> Result<ServerName<'static>, Trouble> {
        let name = self.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned()).map_err(|error| Trouble::new(format!("tls: invalid server name {name:?}: {error}")))
    }

    fn roots(&self) -> Result<Roots, Trouble> {
        let mut found = Vec::new();
        if let Some(file) = &self.ca_file {
            found = certificates(file)?;
        } else if let Some(text) = &self.ca_bytes {
            found = CertificateDer::pem_slice_iter(text.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|error| Trouble::new(format!("VAULT_CACERT_BYTES holds no PEM certificate: {error}")))?;
        } else if let Some(dir) = &self.ca_dir {
            let entries = std::fs::read_dir(dir).map_err(|error| unreadable(dir, &error))?;
            for entry in entries.flatten().filter(|entry| entry.path().is_file()) {
                // Keys and read-me files lie beside certificates; the directory as a whole must hold one.
                found.extend(certificates(&entry.path()).unwrap_or_default());
            }
        } else {
            // Single bad files in the system's store are common and harmless; none at all is reported below.
            let mut authorities = RootCertStore::empty();
            authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return trusted(Roots::of_authorities(authorities));
        }
        let mut roots = Roots::default();
        for certificate in found {
            // What the library cannot read vouches for nobody; the others may be what is needed.
            let _unread = roots.name(certificate);
        }
        trusted(roots)
    }
}

/// Errors: there is nobody to trust.
fn trusted(roots: Roots) -> Result<Roots, Trouble> {
    if roots.is_empty() {
        return Err(Trouble::new("tls: no certificate authority to trust".to_owned())
            .hint("name the server's authority with -ca-cert or VAULT_CACERT"));
    }
    Ok(roots)
}

/// What a failed handshake means, in words, and what to do.
pub(crate) fn explain(error: &std::io::Error, url: &str) -> Trouble {
    let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return Trouble::new(error.to_string());
    };
    match cause {
        rustls::Error::InvalidMessage(_) => Trouble::new("http: server gave HTTP response to HTTPS client".to_owned())
            .hint(format!("this server speaks plain HTTP: export VAULT_ADDR={}", plain_origin(url))),
        rustls::Error::InvalidCertificate(problem) => {
            Trouble::new(format!("tls: failed to verify certificate: x509: {}", certificate_words(problem))).hint(
                "name the authority that signed it, or itself, with -ca-cert or VAULT_CACERT, and the name in it with -tls-server-name",
            )
        }
        other => Trouble::new(format!("tls: {other}")),
    }
}

fn certificate_words(problem: &CertificateError) -> String {
    match problem {
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } | CertificateError::NotValidYet => {
            "certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::Other(other) => other.to_string(),
        other => other.to_string(),
    }
}

fn plain_origin(url: &str) -> String {
    let rest = url.strip_prefix("https://").unwrap_or(url);
    format!("http://{}", rest.split('/').next().unwrap_or(rest))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let found: Vec<_> =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<_, _>>).map_err(|error| unreadable(file, &error))?;
    if found.is_empty() {
        return Err(Trouble::new(format!("tls: {} holds no PEM certificate", file.display())));
    }
    Ok(found)
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Trouble {
    Trouble::new(format!("tls: cannot read {}: {error}", path.display()))
}

/// Checks signatures, as TLS needs, but trusts every name and issuer: `-tls-skip-verify`.
#[derive(Debug)]
struct TrustAnyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
