//! Files with public keys, as people have them: armoured text, base64, or binary. For the command line, which sends base64.

use data_encoding::BASE64;
use pgp::composed::{Deserializable, SignedPublicKey};
use pgp::ser::Serialize;

use super::KEY_BYTES_MAX;

/// Why a file is no public key.
#[derive(Debug, thiserror::Error)]
pub enum ArmorError {
    /// The armour cannot be read.
    #[error("the armoured key cannot be read: {0}")]
    Armor(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Several keys where one is meant.
    #[error("more than one key found: export one key into each file")]
    Several,
    /// More than a key ever has.
    #[error(
        "the file has {0} bytes, over the limit of {FILE_BYTES_MAX}: export the key without photos and the signatures of others \
             (gpg --export --export-options export-minimal)"
    )]
    TooLarge(usize),
}

/// The base64 that the server takes, of a file in any of the three forms. Only armour is read here: the server judges the rest.
/// Errors: [`ArmorError`].
pub fn base64_of_file(bytes: &[u8]) -> Result<String, ArmorError> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(ArmorError::TooLarge(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map(str::trim).unwrap_or_default();
    if bytes.is_empty() || (text.is_empty() && std::str::from_utf8(bytes).is_ok()) {
        return Err(ArmorError::Empty);
    }
    if text.contains("-----BEGIN PGP") {
        return dearmoured(text);
    }
    let packed: String = text.split_ascii_whitespace().collect();
    if !packed.is_empty() && BASE64.decode(packed.as_bytes()).is_ok() {
        return Ok(packed);
    }
    Ok(BASE64.encode(bytes))
}

fn dearmoured(text: &str) -> Result<String, ArmorError> {
    let failed = |error: pgp::errors::Error| ArmorError::Armor(Box::new(error));
    let (mut keys, _) = SignedPublicKey::from_string_many(text).map_err(failed)?;
    let key = keys.next().ok_or(ArmorError::Empty)?.map_err(failed)?;
    if keys.next().is_some() || text.matches("-----BEGIN PGP").count() > 1 {
        return Err(ArmorError::Several);
    }
    let mut bytes = Vec::new();
    key.to_writer(&mut bytes).map_err(failed)?;
    Ok(BASE64.encode(&bytes))
}

/// Bytes of a file: a key in armour, with room for comments.
const FILE_BYTES_MAX: usize = 2 * KEY_BYTES_MAX;
