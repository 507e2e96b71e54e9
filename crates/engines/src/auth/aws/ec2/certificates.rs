//! `config/certificate/`: whose signatures on instance identity documents are believed, besides AWS's own.
//!
//! AWS's certificates come with the program as far as two copies of its documentation agree on them ([`BUILT_IN`]); each counts for its
//! regions alone. Operators add the others, and those count for every region. A certificate stands for its key: its time says nothing here.

use std::sync::{Arc, OnceLock};

use data_encoding::BASE64;
use daypass_base::Brief;
use daypass_sdk::{Cx, Endpoint, Error, Json, Keys, Operation, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::auth::aws::AwsAuth;
use crate::readable::readable;

/// What a certificate verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::auth::aws) enum Kind {
    Identity,
    Pkcs7,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Pkcs7 => "pkcs7",
        }
    }

    /// The weakest key that is taken: AWS's signatures of the first kind are made with keys of 1024 bits, so they have to be.
    fn bits_min(self) -> usize {
        match self {
            Self::Identity => 1024,
            Self::Pkcs7 => 2048,
        }
    }
}

/// What is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Certificate {
    aws_public_cert: String,
    r#type: Kind,
}

/// A key of AWS's.
struct BuiltIn {
    kind: Kind,
    regions: Vec<&'static str>,
    key: Vec<u8>,
}

/// The keys that are believed.
#[derive(Debug, Default)]
pub(in crate::auth::aws) struct Trusted {
    configured: Vec<(Kind, Vec<u8>)>,
}

impl Trusted {
    /// AWS's, and those of the configuration.
    pub(in crate::auth::aws) async fn find(cx: &Cx, kind: Kind) -> Result<Self> {
        let names = cx.store.list_page(ROWS, None, CERTIFICATES_MAX).await?;
        let rows: Vec<String> = names.iter().map(|name| row(name)).collect();
        let mut configured = Vec::new();
        // A key that cannot be read is believed no more; the others are.
        for (_, (stored, _)) in readable(cx, &rows, cx.store.get_each_json::<Certificate>(&rows).await?) {
            if stored.r#type == kind {
                configured.extend(key_of(&stored.aws_public_cert, kind).map(|key| (kind, key)));
            }
        }
        Ok(Self { configured })
    }

    /// A key alone, for those that test documents.
    pub(in crate::auth::aws) fn of_key(kind: Kind, key: Vec<u8>) -> Self {
        Self { configured: vec![(kind, key)] }
    }

    /// The keys, as PKCS#1 has them, that can have signed for a region.
    pub(super) fn keys<'a>(&'a self, kind: Kind, region: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let own =
            built_in().iter().filter(move |known| known.kind == kind && known.regions.contains(&region)).map(|known| known.key.as_slice());
        let configured = self.configured.iter().filter(move |(known, _)| *known == kind).map(|(_, key)| key.as_slice());
        own.chain(configured)
    }
}

fn built_in() -> &'static [BuiltIn] {
    static KNOWN: OnceLock<Vec<BuiltIn>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let mut all = Vec::new();
        for (kind, text) in BUILT_IN {
            for block in text.split("\n# ").skip(1) {
                let Some((regions, pem)) = block.split_once('\n') else { continue };
                if let Ok(key) = key_of(pem, kind) {
                    all.push(BuiltIn { kind, regions: regions.split(' ').collect(), key });
                }
            }
        }
        all
    })
}

/// The RSA key of the one certificate in a PEM text, as PKCS#1 has it. Errors: Vault's text, or what is wrong with the key.
fn key_of(pem: &str, kind: Kind) -> std::result::Result<Vec<u8>, String> {
    let unread = || "invalid certificate; failed to decode and parse certificate".to_owned();
    let body = pem.trim().strip_prefix("-----BEGIN CERTIFICATE-----").and_then(|rest| rest.strip_suffix("-----END CERTIFICATE-----"));
    let body: String = body.ok_or_else(unread)?.chars().filter(|character| !character.is_ascii_whitespace()).collect();
    let der = BASE64.decode(body.as_bytes()).map_err(|_quotes| unread())?;
    let (rest, certificate) = X509Certificate::from_der(&der).map_err(|_quotes| unread())?;
    if !rest.is_empty() {
        return Err(unread());
    }
    let info = certificate.public_key();
    match info.parsed() {
        Ok(PublicKey::RSA(key)) if (kind.bits_min()..=8192).contains(&key.key_size()) => Ok(info.subject_public_key.data.as_ref().to_vec()),
        Ok(PublicKey::RSA(key)) => Err(format!(
            "invalid certificate; its RSA key has {} bits: with type={} {} to 8192 are taken",
            key.key_size(),
            kind.name(),
            kind.bits_min()
        )),
        Ok(PublicKey::DSA(_)) => {
            Err("invalid certificate; its key is of DSA, which is not supported: write AWS's RSA-2048 certificate of the \
             region, and let its instances send /latest/dynamic/instance-identity/rsa2048"
                .to_owned())
        }
        _ => Err("invalid certificate; its key is not of RSA".to_owned()),
    }
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

/// Which certificate.
#[derive(Deserialize, JsonSchema)]
struct NameParams {
    /// Name of the certificate. Example: `eu-west-2`.
    name: String,
}

/// The fields of a certificate.
#[derive(Deserialize, JsonSchema)]
struct Fields {
    /// Name of the certificate. Example: `eu-west-2`.
    name: String,
    /// The certificate in PEM, or that in base64.
    aws_public_cert: Option<String>,
    /// What it verifies: `pkcs7` or `identity`. Example: `pkcs7`.
    r#type: Option<String>,
}

pub(super) fn list_endpoint() -> Endpoint<AwsAuth> {
    Endpoint::at(["config/certificates/?"])
        .summary("List the certificates of instance documents that were added.")
        .on(Operation::List, list)
}

pub(super) fn endpoint() -> Endpoint<AwsAuth> {
    Endpoint::at(["config/certificate/{name}"])
        .summary("A certificate that verifies instance identity documents, besides AWS's that are built in.")
        .help(HELP)
        .exists(exists)
        .on(Operation::Read, read)
        .on(Operation::Update, write)
        .on(Operation::Delete, delete)
}

async fn list(_: Arc<AwsAuth>, cx: Cx, _: NoParams) -> Result<Keys> {
    Ok(Keys(cx.list(ROWS).await?))
}

async fn exists(_: Arc<AwsAuth>, cx: Cx, params: NameParams) -> Result<bool> {
    Ok(cx.store.get(&row(&params.name)).await?.is_some())
}

async fn read(_: Arc<AwsAuth>, cx: Cx, params: NameParams) -> Result<Json<Value>> {
    let found: Certificate = cx.store.get_json(&row(&params.name)).await?.ok_or_else(Error::not_found)?;
    Ok(Json(json!({ "aws_public_cert": found.aws_public_cert, "type": found.r#type })))
}

/// Fails with `BadRequest` for what is no certificate that can verify anything.
async fn write(_: Arc<AwsAuth>, cx: Cx, fields: Fields) -> Result<()> {
    if fields.name.len() > NAME_BYTES_MAX {
        return Err(Error::bad_request(format!("the name of the certificate is longer than {NAME_BYTES_MAX} bytes")));
    }
    let wanted = match fields.r#type.map(|kind| kind.to_lowercase()).as_deref() {
        Some("identity") => Some(Kind::Identity),
        Some("pkcs7") => Some(Kind::Pkcs7),
        Some(other) => return Err(Error::bad_request(format!("invalid certificate type {:?}", Brief(other)))),
        None => None,
    };
    let text = fields.aws_public_cert.ok_or_else(|| Error::bad_request("missing aws_public_cert"))?;
    if text.len() > TEXT_BYTES_MAX {
        return Err(Error::bad_request(format!("aws_public_cert has {} bytes; at most {TEXT_BYTES_MAX} are allowed", text.len())));
    }
    let pem = BASE64.decode(text.trim().as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or(text);
    if pem.is_empty() {
        return Err(Error::bad_request("invalid aws_public_cert"));
    }
    let is_new = cx.store.get(&row(&fields.name)).await?.is_none();
    if is_new && cx.store.list_page(ROWS, None, CERTIFICATES_MAX).await?.len() >= CERTIFICATES_MAX {
        return Err(Error::bad_request(format!("there are {CERTIFICATES_MAX} certificates, which is the limit: delete one first")));
    }
    let decide = |stored: Option<Certificate>| {
        let kind = wanted.or(stored.map(|stored| stored.r#type)).unwrap_or(Kind::Pkcs7);
        key_of(&pem, kind).map_err(Error::bad_request)?;
        Ok(Certificate { aws_public_cert: pem.clone(), r#type: kind })
    };
    cx.store.change(&row(&fields.name), decide).await.map(drop)
}

async fn delete(_: Arc<AwsAuth>, cx: Cx, params: NameParams) -> Result<()> {
    cx.store.delete(&row(&params.name)).await
}

fn row(name: &str) -> String {
    format!("{ROWS}{name}")
}

const ROWS: &str = "config/certificate/";
const BUILT_IN: [(Kind, &str); 2] = [(Kind::Identity, include_str!("identity.pem")), (Kind::Pkcs7, include_str!("rsa2048.pem"))];
/// All of them may be tried for one login: a millisecond of work.
const CERTIFICATES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 512;
const TEXT_BYTES_MAX: usize = 16 * 1024;
const HELP: &str = "AWS signs instance identity documents with a key for each region. Certificates of many regions are built in; those of the
others are added here: the RSA certificate with type=identity for identity and signature, the RSA-2048 certificate with type=pkcs7 for pkcs7.
Documents that are signed with DSA (/latest/dynamic/instance-identity/pkcs7) are not supported: instances send .../rsa2048 instead.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_is_read_and_counts_for_its_regions_alone() {
        let count = |kind: Kind| built_in().iter().filter(|known| known.kind == kind).count();
        assert_eq!((count(Kind::Identity), count(Kind::Pkcs7)), (10, 11));
        let trusted = Trusted::default();
        let keys = |kind: Kind, region: &str| trusted.keys(kind, region).count();
        for region in ["us-east-1", "eu-west-1", "eu-central-1", "us-west-2"] {
            assert_eq!((keys(Kind::Identity, region), keys(Kind::Pkcs7, region)), (1, 1), "{region}");
        }
        assert_eq!((keys(Kind::Identity, "eu-west-3"), keys(Kind::Pkcs7, "eu-west-3")), (1, 0));
        assert_eq!((keys(Kind::Identity, "mars-1"), keys(Kind::Pkcs7, "us")), (0, 0));
    }

    #[test]
    fn what_verifies_nothing_is_refused() {
        let pem = BUILT_IN[0].1.split_once("-----BEGIN").map(|(_, rest)| format!("-----BEGIN{rest}")).unwrap();
        let first = pem.split_once("\n\n").unwrap().0;
        assert!(key_of(first, Kind::Identity).is_ok());
        assert!(key_of(first, Kind::Pkcs7).unwrap_err().contains("has 1024 bits"));
        for bad in ["", "x", &pem, &first.replace("MII", "MIJ"), "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"] {
            assert!(key_of(bad, Kind::Identity).unwrap_err().contains("failed to decode and parse certificate"), "{bad}");
        }
    }
}
