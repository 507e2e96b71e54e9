//! Instance identity documents: what AWS says of an instance, once its signature is verified. Pure.
//!
//! A document is read as JSON without a second meaning. Its region says which of AWS's certificates can have signed it: a region's key
//! says nothing of other regions' instances.

use aws_lc_rs::signature::{RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};
use data_encoding::BASE64;
use daypass_base::Brief;
use daypass_idp::strict;
use daypass_sdk::Timestamp;
use serde_json::{Map, Value};

use super::certificates::{Kind, Trusted};
use super::cms::Signed;
use crate::auth::aws::arn::is_account;

/// What is known of an instance by its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::auth::aws) struct Document {
    pub(in crate::auth::aws) account: String,
    pub(in crate::auth::aws) ami: String,
    pub(in crate::auth::aws) instance: String,
    /// When the instance was last started.
    pub(in crate::auth::aws) pending: Timestamp,
    pub(in crate::auth::aws) region: String,
}

/// How a document is handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::auth::aws) enum Proof {
    /// The document, and its signature by RSA with SHA-256.
    Identity { document: Vec<u8>, signature: Vec<u8> },
    /// A PKCS#7 message with the document inside.
    Pkcs7(Vec<u8>),
}

impl Proof {
    /// Reads the base64 of a PKCS#7 message, as the metadata service gives it. Errors: what is wrong.
    pub(in crate::auth::aws) fn of_pkcs7(text: &str) -> Result<Self, String> {
        if text.contains("-----") {
            return Err("pkcs7 is the text between the lines BEGIN PKCS7 and END PKCS7, without them".to_owned());
        }
        decoded("pkcs7", text).map(Self::Pkcs7)
    }

    /// Reads the base64 of a document and of its signature. Errors: Vault's texts.
    pub(in crate::auth::aws) fn of_identity(document: &str, signature: &str) -> Result<Self, String> {
        let failed = |what: &str| format!("failed to base64 decode {what}");
        let whose = "the SHA256 RSA signature of the instance identity document";
        Ok(Self::Identity {
            document: decoded("identity", document).map_err(|_why| failed("the instance identity document"))?,
            signature: decoded("signature", signature).map_err(|_why| failed(whose))?,
        })
    }

    /// Which certificates can verify it.
    pub(in crate::auth::aws) fn kind(&self) -> Kind {
        match self {
            Self::Identity { .. } => Kind::Identity,
            Self::Pkcs7(_) => Kind::Pkcs7,
        }
    }

    /// The document, once one of these keys made the signature. Errors: why it is none.
    pub(in crate::auth::aws) fn verified(&self, trusted: &Trusted) -> Result<Document, String> {
        let (document, is_by): (Document, IsBy<'_>) = match self {
            Self::Identity { document, signature } => {
                let is_by = |key: &[u8]| {
                    UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, key).verify(document, signature).is_ok()
                };
                (Document::read(document)?, Box::new(is_by))
            }
            Self::Pkcs7(message) => {
                let signed = Signed::read(message)?;
                (Document::read(&signed.content)?, Box::new(move |key| signed.is_by(key)))
            }
        };
        let keys: Vec<&[u8]> = trusted.keys(self.kind(), &document.region).collect();
        if keys.is_empty() {
            return Err(format!(
                "no certificate for the region {:?} is known: write AWS's to config/certificate/<name> with type={}",
                Brief(&document.region),
                self.kind().name()
            ));
        }
        if !keys.iter().any(|key| is_by(key)) {
            return Err(format!("no certificate that is known for the region {:?} made its signature", Brief(&document.region)));
        }
        Ok(document)
    }
}

/// Whether a key made the signature.
type IsBy<'a> = Box<dyn Fn(&[u8]) -> bool + 'a>;

/// Strict base64, but for line breaks.
fn decoded(field: &str, text: &str) -> Result<Vec<u8>, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("{field} has {} bytes; at most {TEXT_BYTES_MAX} are allowed", text.len()));
    }
    let text: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    let bytes = BASE64.decode(&text).map_err(|_quotes| format!("{field} is no base64"))?;
    if bytes.is_empty() { Err(format!("{field} is empty")) } else { Ok(bytes) }
}

impl Document {
    /// Reads a document. Errors: what is wrong with it.
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let map = strict::object(bytes).map_err(|why| format!("the document is not read: {why}"))?;
        let document = Self {
            account: text(&map, "accountId")?,
            ami: text(&map, "imageId")?,
            instance: text(&map, "instanceId")?,
            pending: text(&map, "pendingTime")?.parse().map_err(|_quotes| "pendingTime of the document is no time".to_owned())?,
            region: text(&map, "region")?,
        };
        if !is_account(&document.account) {
            return Err("accountId of the document has not twelve digits".to_owned());
        }
        if !is_id("i-", &document.instance) || !is_id("ami-", &document.ami) {
            return Err("instanceId or imageId of the document is none".to_owned());
        }
        if !is_region(&document.region) {
            return Err("region of the document is none".to_owned());
        }
        Ok(document)
    }
}

fn text(map: &Map<String, Value>, name: &str) -> Result<String, String> {
    map.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("the document has no {name}"))
}

/// Whether this is an id of AWS's: `i-0123456789abcdef0`.
pub(in crate::auth::aws) fn is_id(prefix: &str, text: &str) -> bool {
    let digits = text.strip_prefix(prefix).unwrap_or_default();
    (8..=32).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
}

/// Whether this may stand in the name of a host.
pub(in crate::auth::aws) fn is_region(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (4..=32).contains(&text.len()) && text.bytes().all(plain) && text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
}

/// Longest text of a field: ten times what AWS's documents need.
const TEXT_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
