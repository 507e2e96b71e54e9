//! Certificates and lists from PEM.

use rustls_pki_types::pem::{Error, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

/// The certificates of a PEM text, in its order; none if there are none. Errors: what is wrong with it.
pub(super) fn certificates(text: &str) -> Result<Vec<Vec<u8>>, String> {
    if text.len() > CERTIFICATES_BYTES_MAX {
        return Err(format!("it has {} bytes; at most {CERTIFICATES_BYTES_MAX} are allowed", text.len()));
    }
    let found: Result<Vec<Vec<u8>>, Error> =
        CertificateDer::pem_slice_iter(text.as_bytes()).map(|one| one.map(|der| der.to_vec())).collect();
    let found = found.map_err(|error| error.to_string())?;
    if found.len() > CERTIFICATES_MAX {
        return Err(format!("it has {} certificates; at most {CERTIFICATES_MAX} are allowed", found.len()));
    }
    Ok(found)
}

/// The list in a PEM text, or in base64 without PEM's lines. Errors: what is wrong with it.
pub(super) fn list(text: &str) -> Result<Vec<u8>, String> {
    if text.contains("-----BEGIN") {
        return CertificateRevocationListDer::from_pem_slice(text.as_bytes()).map(|der| der.to_vec()).map_err(|error| error.to_string());
    }
    let text: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    data_encoding::BASE64.decode(&text).map_err(|_its_text_says_no_more| "it is neither PEM nor DER in base64".to_owned())
}

/// Longest text of certificates, in bytes.
const CERTIFICATES_BYTES_MAX: usize = 256 * 1024;
/// Certificates of one text.
const CERTIFICATES_MAX: usize = 64;
