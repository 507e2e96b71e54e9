//! Certificates from files, and reading them again while serving.
//!
//! A pair that does not load or does not match is refused as a whole; what was in force stays in force.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use daypass_base::Rare;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::client_key::AnyCertificate;

/// Where a listener's certificates are, and what it asks of clients.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// PEM: the server's certificate first, then its issuers. Vault's `tls_cert_file`.
    pub certificate: PathBuf,
    /// PEM: its private key, not encrypted. Vault's `tls_key_file`.
    pub key: PathBuf,
    /// Whether clients show certificates.
    pub client_certificates: ClientCertificates,
    /// The oldest version that is spoken. Vault's `tls_min_version`.
    pub min_version: MinVersion,
}

/// What is done about certificates of clients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// A client may show any; that it holds the key is proven, who vouches for it is left to the service (as Vault's cert method does).
    Ask,
    /// None is asked for. Vault's `tls_disable_client_certs`.
    #[default]
    Ignore,
    /// A client must show one that these issuers vouch for. Vault's `tls_require_and_verify_client_cert`.
    Require {
        /// PEM: the issuers. Vault's `tls_client_ca_file`.
        issuers: PathBuf,
    },
    /// A client that shows one must have it from these issuers.
    Verify {
        /// PEM: the issuers.
        issuers: PathBuf,
    },
}

/// The oldest version that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MinVersion {
    /// TLS 1.2, which is also the oldest that this program knows.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or holds no such thing.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The files do not fit together or cannot be used.
    #[error("{certificate} and {key} cannot be used together: {source}")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// The certificates of a listener, which can be read again. Handshakes from then on use the new ones; connections keep theirs.
#[derive(Debug)]
pub struct Reloader {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
    pub(crate) refusals: Rare,
}

impl Reloader {
    /// Reads the files for the first time.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let config = ArcSwap::from_pointee(read(&files)?);
        Ok(Arc::new(Self { files, config, refusals: Rare::default() }))
    }

    /// Reads the files again. On an error the old certificates stay in force.
    pub fn reload(&self) -> Result<(), TlsError> {
        match read(&self.files) {
            Ok(config) => {
                self.config.store(Arc::new(config));
                tracing::info!(certificate = %self.files.certificate.display(), "TLS certificate read again");
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the TLS certificate was not read again; the old one stays in force");
                Err(error)
            }
        }
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }
}

fn read(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = read_certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| no_key(&files.key, &error))?;
    let pair = |source| TlsError::Pair { certificate: files.certificate.clone(), key: files.key.clone(), source };
    let verifier = verifier(&files.client_certificates, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions(files.min_version)).map_err(pair)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn versions(min: MinVersion) -> &'static [&'static SupportedProtocolVersion] {
    match min {
        MinVersion::Tls12 => &VERSIONS,
        MinVersion::Tls13 => VERSIONS.split_at(1).0,
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError::File { path: path.to_owned(), reason };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() { Err(wrong("there is no PEM certificate in it".to_owned())) } else { Ok(certificates) }
}

/// The parser's own errors quote at most the label of a section, never what is in it.
fn no_key(path: &Path, error: &rustls_pki_types::pem::Error) -> TlsError {
    let reason = match error {
        _ if is_encrypted(path) => {
            "the private key in it is encrypted, and a server that starts by itself has nobody to ask for the passphrase: \
             decrypt it (openssl pkey -in KEY -out PLAIN), and let nobody but the server's user read the result"
                .to_owned()
        }
        rustls_pki_types::pem::Error::NoItemsFound => "there is no PEM private key in it that is not encrypted".to_owned(),
        other => other.to_string(),
    };
    TlsError::File { path: path.to_owned(), reason }
}

/// Whether a key has one of the two marks that PEM has for an encrypted one: the old one is a header within the section, which parsers take for broken base64.
fn is_encrypted(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(PEM_BYTES_MAX).read_to_end(&mut start));
    let marks: [&[u8]; 2] = [b"Proc-Type: 4,ENCRYPTED", b"-----BEGIN ENCRYPTED PRIVATE KEY-----"];
    read.is_ok() && start.split(|byte| *byte == b'\n').any(|line| marks.iter().any(|mark| line.trim_ascii().starts_with(mark)))
}

fn verifier(wanted: &ClientCertificates, provider: &Arc<CryptoProvider>) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let (issuers, required) = match wanted {
        ClientCertificates::Ignore => return Ok(None),
        ClientCertificates::Ask => return Ok(Some(Arc::new(AnyCertificate { algorithms: provider.signature_verification_algorithms }))),
        ClientCertificates::Require { issuers } => (issuers, true),
        ClientCertificates::Verify { issuers } => (issuers, false),
    };
    let wrong = |reason: String| TlsError::File { path: issuers.clone(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(issuers)? {
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    let verifier = builder.build().map_err(|error| wrong(error.to_string()))?;
    Ok(Some(verifier))
}

/// As far as a key's file is looked at for what is wrong with it.
const PEM_BYTES_MAX: u64 = 64 << 10;
/// Newest first.
static VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
/// HTTP/2 as ALPN names it.
pub(crate) const ALPN_HTTP2: &[u8] = b"h2";
