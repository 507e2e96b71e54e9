//! `byok-export/`: a key, wrapped for another server under that server's wrapping key, in the form that `import` takes.

use std::sync::Arc;

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::rsa::{OaepAlgorithm, OaepPublicEncryptingKey, PublicEncryptingKey};
use aws_lc_rs::signature::Ed25519KeyPair;
use data_encoding::BASE64;
use daypass_sdk::{Cx, Endpoint, Entropy, Error, Operation, Reply, Result, Secret};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::key::Version;
use super::key_type::KeyType;
use super::work::Place;
use super::{Transit, export, import, rows};

/// What to export, and for whom.
#[derive(Deserialize, JsonSchema)]
struct Params {
    /// Name of the RSA-4096 key that wraps: the other server's wrapping key, imported here by its public half.
    destination: String,
    /// Name of the key to export; it must be exportable.
    source: String,
    /// One version, or `latest`; all that may be used unless given.
    #[serde(default)]
    version: String,
    /// Hash of RSA-OAEP: `SHA256` (the default), `SHA1`, `SHA384` or `SHA512`.
    #[serde(default)]
    hash: String,
}

pub(super) fn endpoint() -> Endpoint<Transit> {
    Endpoint::at(["byok-export/{destination}/{source}", "byok-export/{destination}/{source}/{version}"])
        .summary("Export a key, wrapped for another server.")
        .help("The answer is what keys/<name>/import of the server takes whose wrapping key the destination is.")
        .on(Operation::Read, export)
}

/// Errors: `BadRequest`, and `NotFound` without such keys.
async fn export(transit: Arc<Transit>, cx: Cx, params: Params) -> Result<Reply> {
    let hash = import::oaep(&params.hash)?;
    let destination = rows::load(&transit, &cx, &params.destination).await?.ok_or_else(Error::not_found)?;
    let source = rows::load(&transit, &cx, &params.source).await?.ok_or_else(Error::not_found)?;
    if destination.key.key_type != KeyType::Rsa4096 {
        let name = destination.key.key_type.name();
        return Err(Error::bad_request(format!("the destination is a key of type {name}; wrapping keys are of type rsa-4096")));
    }
    if !source.key.exportable {
        return Err(Error::bad_request("private key material is not exportable"));
    }
    let key_type = source.key.key_type;
    let name = key_type.name();
    let numbers: Vec<u64> = export::versions(&source.key, &params.version)?.into_iter().map(|(number, _)| number).collect();
    let entropy = Arc::clone(&cx.entropy);
    let one = move |number: u64| {
        let public = &destination.key.version(destination.key.latest)?.public;
        let material = portable(key_type, source.key.version(number)?)?;
        Ok((number.to_string(), Value::from(BASE64.encode(&wrap(public, hash, &material, &*entropy)?))))
    };
    let keys: Map<String, Value> = transit.work.each(Place::OffTheRuntime, numbers, one).await?.into_iter().collect::<Result<_>>()?;
    let data = [("name", params.source.into()), ("type", name.into()), ("keys", Value::Object(keys))];
    Ok(Reply::data(data.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}

/// Key material as an import wants it: ed25519 as PKCS#8 too.
fn portable(key_type: KeyType, version: &Version) -> Result<Secret<Vec<u8>>> {
    let broken = |error| Error::internal("a stored key is not readable").because(error);
    let unwritable = |error| Error::internal("a key could not be written").because(error);
    // Into the wrapping.
    let secret = version.secret.expose();
    if secret.is_empty() {
        return Err(Error::bad_request("only the public half of this version is known"));
    }
    if key_type != KeyType::Ed25519 {
        return Ok(version.secret.clone());
    }
    let pair = Ed25519KeyPair::from_seed_unchecked(secret).map_err(broken)?;
    Ok(Secret::new(pair.to_pkcs8v1().map_err(unwritable)?.as_ref().to_vec()))
}

fn wrap(public: &[u8], hash: &'static OaepAlgorithm, material: &Secret<Vec<u8>>, entropy: &dyn Entropy) -> Result<Vec<u8>> {
    let broken = |error| Error::internal("a stored public key is not readable").because(error);
    let failed = |error| Error::internal("a key could not be wrapped").because(error);
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(public).map_err(broken)?).map_err(failed)?;
    let ephemeral = Secret::new(entropy.bytes::<32>());
    // Both into their wrappings: the key under an ephemeral one, that one under the destination.
    let (ephemeral, material) = (ephemeral.expose(), material.expose());
    let mut out = vec![0; key.ciphertext_size()];
    key.encrypt(hash, ephemeral, &mut out, None).map_err(failed)?;
    let mut body = vec![0; material.len() + PADDING_BYTES_MAX];
    let body = AesKek::new(&AES_256, ephemeral).and_then(|kek| kek.wrap_with_padding(material, &mut body)).map_err(failed)?;
    out.extend_from_slice(body);
    Ok(out)
}

/// Bytes by which AES-KWP makes a key longer, at most.
const PADDING_BYTES_MAX: usize = 15;
