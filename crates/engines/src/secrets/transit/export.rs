//! `export/`: key material in clear, where the key was made for it; public keys and their certificates.

use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der};
use aws_lc_rs::signature::EcdsaKeyPair;
use data_encoding::BASE64;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result, Secret, reveal};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::key::{Key, Version};
use super::key_type::KeyType;
use super::{Transit, material, pem, rows};

/// What to export.
#[derive(Deserialize, JsonSchema)]
struct Params {
    /// `encryption-key`, `signing-key`, `hmac-key`, `public-key` or `certificate-chain`.
    #[serde(rename = "type")]
    export_type: String,
    /// Name of the key.
    name: String,
    /// One version, or `latest`; all that may be used unless given.
    #[serde(default)]
    version: String,
}

/// What of a version is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Certificates,
    Encryption,
    Hmac,
    Public,
    Signing,
}

pub(super) fn endpoint() -> Endpoint<Transit> {
    Endpoint::at(["export/{type}/{name}", "export/{type}/{name}/{version}"])
        .summary("Export a key.")
        .help("Only keys that were made exportable show more than their public half.")
        .on(Operation::Read, export)
}

/// Errors: `BadRequest`, and `NotFound` without such a key.
async fn export(transit: Arc<Transit>, cx: Cx, params: Params) -> Result<Reply> {
    let part = match params.export_type.as_str() {
        "certificate-chain" => Part::Certificates,
        "encryption-key" => Part::Encryption,
        "hmac-key" => Part::Hmac,
        "public-key" => Part::Public,
        "signing-key" => Part::Signing,
        known @ "cmac-key" => return Err(Error::bad_request(format!("export type {known} is not available"))),
        other => return Err(Error::bad_request(format!("invalid export type: {other}"))),
    };
    let loaded = rows::load(&transit, &cx, &params.name).await?.ok_or_else(Error::not_found)?;
    let key = &loaded.key;
    let key_type = key.key_type;
    match part {
        Part::Encryption | Part::Hmac | Part::Signing if !key.exportable => {
            return Err(Error::bad_request("private key material is not exportable"));
        }
        Part::Encryption if !key_type.encrypts() => return Err(Error::bad_request("encryption not supported for the key")),
        Part::Certificates if !key_type.signs() => {
            return Err(Error::bad_request("certificate chain not supported for keys that do not support signing"));
        }
        Part::Signing if !key_type.signs() => return Err(Error::bad_request("signing not supported for the key")),
        Part::Public if !key_type.is_asymmetric() => {
            return Err(Error::bad_request(format!("unknown key type {} for export type public-key", key_type.name())));
        }
        _ => {}
    }
    let mut keys = Map::new();
    for (number, version) in versions(key, &params.version)? {
        keys.insert(number.to_string(), reveal(&shown(key, version, part)?));
    }
    let data = [("name", params.name.into()), ("type", key_type.name().into()), ("keys", Value::Object(keys))];
    Ok(Reply::data(data.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}

/// The versions that a request means, as far as they may be used. Errors: `BadRequest`.
pub(super) fn versions<'a>(key: &'a Key, wanted: &str) -> Result<Vec<(u64, &'a Version)>> {
    if wanted.is_empty() {
        let usable = key.versions.range(key.min_decryption..);
        return Ok(usable.map(|(number, version)| (*number, version)).collect());
    }
    let number = if wanted == "latest" {
        key.latest
    } else {
        wanted.parse().map_err(|error| Error::bad_request("invalid key version").because(error))?
    };
    if number < key.min_decryption {
        return Err(Error::bad_request("version for export is below minimum decryption version"));
    }
    let version = key.versions.get(&number).ok_or_else(|| Error::bad_request("version does not exist or cannot be found"))?;
    Ok(vec![(number, version)])
}

/// A version as text. What comes out goes into the answer: the key was made exportable, or it is the public half.
fn shown(key: &Key, version: &Version, part: Part) -> Result<Secret<String>> {
    let secret = version.secret.expose();
    let text = match (part, key.key_type) {
        (Part::Certificates, _) if version.chain.is_empty() => {
            return Err(Error::bad_request("selected key version does not have a certificate chain imported"));
        }
        (Part::Certificates, _) => version.chain.clone(),
        (Part::Public, _) => key.public_text(version, None)?,
        (Part::Hmac, _) => BASE64.encode(version.hmac_key.expose()),
        _ if secret.is_empty() => return Err(Error::bad_request("only the public half of this version is known")),
        (_, KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096) => {
            let inside = pem::inside_pkcs8(secret).ok_or_else(|| Error::internal("a stored RSA key is no PKCS#8"))?;
            pem::write("RSA PRIVATE KEY", inside)
        }
        (_, KeyType::EcdsaP256 | KeyType::EcdsaP384 | KeyType::EcdsaP521) => {
            let (curve, ..) = material::ecdsa(key.key_type)?;
            let broken = |error| Error::internal("a stored key is not readable").because(error);
            let unwritable = |error| Error::internal("a key could not be written").because(error);
            let pair = EcdsaKeyPair::from_pkcs8(curve, secret).map_err(broken)?;
            let der: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().map_err(unwritable)?;
            pem::write("EC PRIVATE KEY", der.as_ref())
        }
        // Go keeps seed and public key together.
        (_, KeyType::Ed25519) if !key.derived => BASE64.encode(&Zeroizing::new([secret.as_slice(), &version.public].concat())),
        _ => BASE64.encode(secret),
    };
    Ok(Secret::new(text))
}
