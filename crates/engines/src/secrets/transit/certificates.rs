//! `keys/<name>/csr` and `keys/<name>/set-certificate`: certificates for keys that sign.
//!
//! The request takes over a template's subject and attributes as they are, byte for byte, and puts this key in. A chain is kept with the
//! version that its first certificate is for, and shown with it; nothing here trusts it.
//!
//! Source: Vault API, "Transit: sign CSR" and "set certificate chain"; RFC 2986, RFC 5280.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::prelude::FromDer;

use super::cache::Loaded;
use super::hashing::Hash;
use super::key::{Key, Version};
use super::key_type::KeyType;
use super::payload::Alphabet;
use super::rows::Step;
use super::signing::{self, How, Padding, Salt};
use super::work::Place;
use super::{Transit, material, pem, rows};

/// What to make a certificate request for.
#[derive(Deserialize, JsonSchema)]
struct RequestParams {
    /// Name of the key.
    name: String,
    /// Version of the key; the latest unless given.
    version: Option<i64>,
    /// A certificate request in PEM whose subject and extensions are taken over; without one the subject is empty.
    #[serde(default)]
    csr: String,
}

/// Certificates of a key.
#[derive(Deserialize, JsonSchema)]
struct ChainParams {
    /// Name of the key.
    name: String,
    /// Version of the key; the latest unless given.
    version: Option<i64>,
    /// The chain in PEM, at most 16 certificates: first the one for this key, then each with the one that issued it after it.
    #[serde(default)]
    certificate_chain: String,
}

pub(super) fn endpoints() -> Vec<Endpoint<Transit>> {
    vec![
        Endpoint::at(["keys/{name}/csr"])
            .summary("Make a certificate request for a key.")
            .help("Signed with the key itself: RSA as PKCS#1 v1.5 with SHA-256, curves with the hash of their length.")
            .on(Operation::Update, request),
        Endpoint::at(["keys/{name}/set-certificate"])
            .summary("Keep a certificate chain with a key.")
            .help("Reading the key shows it, and export/certificate-chain. It says whose the key is; nothing here is checked against it.")
            .on(Operation::Update, set_chain),
    ]
}

/// Errors: `BadRequest` with Vault's texts.
async fn request(transit: Arc<Transit>, cx: Cx, params: RequestParams) -> Result<Reply> {
    let key = rows::load(&transit, &cx, &params.name).await?.ok_or_else(|| missing(&params.name))?;
    certifiable(&key.key)?;
    let key_type = key.key.key_type.name();
    let template = Template::read(&params.csr)?;
    let failed = |error: Error| Error::bad_request(format!("could not create the csr: {error}")).because(error);
    let number = chosen(&key.key, params.version).map_err(failed)?.0;
    if key.key.version(number)?.is_bare() {
        return Err(failed(Error::bad_request("private key not imported for key version selected")));
    }
    let place = Place::of(&key, 1, params.csr.len());
    let csr = transit.work.run(place, move || signed_request(&key, number, &template)).await?;
    Ok(Reply::json(json!({ "name": params.name, "type": key_type, "csr": csr })))
}

/// Errors: `BadRequest` with Vault's texts, and for chains that are none.
async fn set_chain(transit: Arc<Transit>, cx: Cx, params: ChainParams) -> Result<Reply> {
    let found = rows::load(&transit, &cx, &params.name).await?.ok_or_else(|| missing(&params.name))?;
    certifiable(&found.key)?;
    let certificates = certificates(&params.certificate_chain)?;
    let failed = |error: Error| Error::bad_request(format!("failed to persist certificate chain: {error}")).because(error);
    let leaf = checked(&certificates, found.key.key_type).map_err(failed)?;
    let chain = stored(&certificates);
    rows::change(&transit.cache, &cx, &params.name, |key| {
        let mut key = key.ok_or_else(|| missing(&params.name))?;
        let number = match chosen(&key, params.version) {
            Ok((number, version)) if version.public == leaf && key.key_type == found.key.key_type => number,
            Ok(_) => return Err(failed(Error::bad_request("leaf certificate public key does not match the key version selected"))),
            Err(error) => {
                let text = format!("could not validate key match between leaf certificate key and key version in transit: {error}");
                return Err(failed(Error::bad_request(text)));
            }
        };
        if let Some(version) = key.versions.get_mut(&number) {
            version.chain.clone_from(&chain);
        }
        let kind = key.key_type.name();
        let answer = Reply::json(json!({ "name": params.name, "type": kind, "certificate-chain": params.certificate_chain }));
        Ok(Step::Store(Box::new(key), answer))
    })
    .await
}

fn missing(name: &str) -> Error {
    Error::bad_request(format!("key with provided name '{name}' not found"))
}

/// That certificates can be made for a key. Errors: `BadRequest`.
fn certifiable(key: &Key) -> Result<()> {
    if !key.key_type.signs() {
        return Err(Error::bad_request(format!("key type '{}' does not support signing", key.key_type.name())));
    }
    if key.derived {
        return Err(Error::bad_request("operation not supported on keys with derivation enabled"));
    }
    Ok(())
}

/// The version that a request means. Errors: `BadRequest` with Vault's text.
fn chosen(key: &Key, wanted: Option<i64>) -> Result<(u64, &Version)> {
    let number = wanted.map_or(Ok(key.latest), u64::try_from).unwrap_or(0);
    key.in_use(number).map(|version| (number, version))
}

/// What a request takes over, in DER.
struct Template {
    subject: Vec<u8>,
    attributes: Vec<u8>,
}

impl Template {
    /// Reads a certificate request; nothing from an empty text. Its key and its signature do not matter. Errors: `BadRequest`.
    fn read(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self { subject: pem::wrapped(SEQUENCE, &[]), attributes: pem::wrapped(ATTRIBUTES, &[]) });
        }
        let blocks = pem::blocks(text).filter(|blocks| !blocks.is_empty());
        let blocks = blocks.ok_or_else(|| Error::bad_request("could not decode PEM certificate request"))?;
        let der = blocks.into_iter().next().map(|(_, der)| der).unwrap_or_default();
        let refuse = |why: &str| Error::bad_request(format!("the csr is no certificate request: {why}"));
        let (rest, parsed) = X509CertificationRequest::from_der(&der).map_err(|error| refuse(&error.to_string()))?;
        if !rest.is_empty() {
            return Err(refuse("more follows after it"));
        }
        let info = &parsed.certification_request_info;
        let attributes = pem::after_elements(info.raw, 3).ok_or_else(|| refuse("it has no attributes"))?;
        let attributes = if attributes.is_empty() { pem::wrapped(ATTRIBUTES, &[]) } else { attributes.to_vec() };
        Ok(Self { subject: info.subject.as_raw().to_vec(), attributes })
    }
}

/// A certificate request in PEM (RFC 2986), signed with this version.
fn signed_request(key: &Loaded, number: u64, template: &Template) -> Result<String> {
    let key_type = key.key.key_type;
    let spki = spki(key_type, key.key.version(number)?);
    let version = [0x02, 0x01, 0x00];
    let info = pem::wrapped(SEQUENCE, &[&version, template.subject.as_slice(), &spki, &template.attributes]);
    let (hash, algorithm) = signature_algorithm(key_type);
    let how = How {
        hash: hash.map(|name| Hash::parse(name, "invalid hash algorithm")).transpose()?,
        prehashed: false,
        padding: Padding::Pkcs1,
        salt: Salt::Hash,
        alphabet: Alphabet::Standard,
        context: Vec::new(),
    };
    let material = key.material(number)?;
    let signature = signing::signature(key_type, &material, &info, &how)?;
    // No bits of the last byte are left over.
    let signature = pem::wrapped(BIT_STRING, &[&[0], signature.as_slice()]);
    Ok(pem::write("CERTIFICATE REQUEST", &pem::wrapped(SEQUENCE, &[&info, algorithm, &signature])))
}

/// The public half as X.509 writes it.
fn spki(key_type: KeyType, version: &Version) -> Vec<u8> {
    if key_type != KeyType::Ed25519 {
        return version.public.clone();
    }
    pem::wrapped(SEQUENCE, &[ED25519, &pem::wrapped(BIT_STRING, &[&[0], version.public.as_slice()])])
}

/// How a type of key signs certificates: the hash, and both as an X.509 algorithm identifier.
fn signature_algorithm(key_type: KeyType) -> (Option<&'static str>, &'static [u8]) {
    match key_type {
        KeyType::EcdsaP256 => (Some("sha2-256"), ECDSA_SHA256),
        KeyType::EcdsaP384 => (Some("sha2-384"), ECDSA_SHA384),
        KeyType::EcdsaP521 => (Some("sha2-512"), ECDSA_SHA512),
        KeyType::Ed25519 => (None, ED25519),
        _ => (Some("sha2-256"), RSA_SHA256),
    }
}

/// The certificates of a text, in DER; other blocks are passed over. Errors: `BadRequest` with Vault's texts.
fn certificates(text: &str) -> Result<Vec<Vec<u8>>> {
    let blocks = pem::blocks(text.trim()).ok_or_else(|| Error::bad_request("could not decode PEM block in certificate chain"))?;
    let certificates: Vec<Vec<u8>> = blocks.into_iter().filter(|(label, _)| label == "CERTIFICATE").map(|(_, der)| der).collect();
    if certificates.is_empty() {
        return Err(Error::bad_request("provided certificate chain did not contain any valid PEM certificate"));
    }
    if certificates.len() > CERTIFICATES_MAX {
        let count = certificates.len();
        return Err(Error::bad_request(format!("the certificate chain has {count} certificates, over the limit of {CERTIFICATES_MAX}")));
    }
    Ok(certificates)
}

/// The public key of the first certificate, as it is stored of a key. Errors: `BadRequest` where the chain is none, or for another type.
fn checked(chain: &[Vec<u8>], key_type: KeyType) -> Result<Vec<u8>> {
    let refuse = |error: String| Error::bad_request(format!("failed to parse certificate in certificate chain: {error}"));
    let parse = |der: &'_ Vec<u8>| -> Result<()> {
        let (rest, _) = X509Certificate::from_der(der).map_err(|error| refuse(error.to_string()))?;
        if rest.is_empty() { Ok(()) } else { Err(refuse("x509: trailing data".to_owned())) }
    };
    chain.iter().try_for_each(parse)?;
    let parsed: Vec<X509Certificate<'_>> = chain.iter().filter_map(|der| X509Certificate::from_der(der).ok()).map(|(_, it)| it).collect();
    let (leaf, issuers) = parsed.split_first().ok_or_else(|| refuse("there is none".to_owned()))?;
    if is_ca(leaf) == Some(true) {
        return Err(Error::bad_request("certificate in the first position is not a leaf certificate"));
    }
    if issuers.iter().any(|issuer| is_ca(issuer) == Some(false)) {
        return Err(Error::bad_request("provided certificate chain contains more than one leaf certificate"));
    }
    for (number, (certificate, issuer)) in parsed.iter().zip(issuers).enumerate() {
        issued(certificate, issuer, number + 1)?;
    }
    let (name, fits) = match leaf.public_key().algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.10045.2.1" => ("ECDSA", key_type.is_ecdsa()),
        "1.2.840.113549.1.1.1" => ("RSA", key_type.is_rsa()),
        "1.3.101.112" => ("Ed25519", key_type == KeyType::Ed25519),
        _ => ("unknown", false),
    };
    if !fits {
        return Err(Error::bad_request(format!(
            "could not validate key match between leaf certificate key and key version in transit: provided leaf certificate public key \
             algorithm '{name}' does not match the transit key type '{}'",
            key_type.name()
        )));
    }
    let other = |error| Error::bad_request("leaf certificate public key does not match the key version selected").because(error);
    material::public_spki(key_type, leaf.public_key().raw).map_err(other)
}

/// A chain as it is kept.
fn stored(certificates: &[Vec<u8>]) -> String {
    let texts: Vec<String> = certificates.iter().map(|der| pem::write("CERTIFICATE", der).trim_end().to_owned()).collect();
    texts.join("\n")
}

/// Whether what came from outside as a version's chain could have been kept here. Errors: `BadRequest`.
pub(super) fn check(key: &Key, version: &Version) -> Result<()> {
    if version.chain.is_empty() {
        return Ok(());
    }
    certifiable(key)?;
    let certificates = certificates(&version.chain)?;
    if checked(&certificates, key.key_type)? == version.public && stored(&certificates) == version.chain {
        return Ok(());
    }
    Err(Error::bad_request("a certificate chain is not that of its version"))
}

/// What a certificate says of itself, if anything.
fn is_ca(certificate: &X509Certificate<'_>) -> Option<bool> {
    certificate.basic_constraints().ok().flatten().map(|constraints| constraints.value.ca)
}

/// That one certificate was issued with the key of the next. Errors: `BadRequest`.
fn issued(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>, number: usize) -> Result<()> {
    let order = format!("certificate {number} of the chain was not issued by the one after it: start with the leaf, end with the root");
    if certificate.issuer().as_raw() != issuer.subject().as_raw() {
        return Err(Error::bad_request(order));
    }
    match certificate.verify_signature(Some(issuer.public_key())) {
        // Of an algorithm that is not known here nothing can be said.
        Ok(()) | Err(X509Error::SignatureUnsupportedAlgorithm) => Ok(()),
        Err(error) => Err(Error::bad_request(order).because(error)),
    }
}

/// For fuzzing: reads a text as both things that are read here.
pub(super) fn read(text: &str) {
    let _either = Template::read(text);
    if let Ok(chain) = certificates(text) {
        let _either = checked(&chain, KeyType::EcdsaP256);
    }
}

/// Certificates in a chain; the longest that are in use have 5.
const CERTIFICATES_MAX: usize = 16;
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
/// The attributes of a certificate request: context-specific, constructed, 0.
const ATTRIBUTES: u8 = 0xa0;
// Algorithm identifiers in DER (RFC 4055, RFC 5758, RFC 8410).
const RSA_SHA256: &[u8] = &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00];
const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_SHA384: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
const ECDSA_SHA512: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];
const ED25519: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];
