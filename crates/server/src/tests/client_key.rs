//! Certificates of clients that webpki does not read.

use rcgen::{CertificateParams, CustomExtension, KeyPair, SigningKey};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::TlsConnector;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::tls::{Issuer, TLS12_ALONE, files, start_tls};
use super::*;
use crate::tls::ClientCertificates;

/// With certificate policies that are critical, which some company authorities make.
fn with_critical_policies(issuer: &Issuer, key: &KeyPair) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(vec!["runner".to_owned()]).unwrap();
    let mut policies = CustomExtension::from_oid_content(&[2, 5, 29, 32], vec![0x30, 0x06, 0x30, 0x04, 0x06, 0x02, 0x2a, 0x03]);
    policies.set_criticality(true);
    params.custom_extensions = vec![policies];
    params.signed_by(key, &issuer.0).unwrap().der().clone()
}

/// Of version 1, which has no extensions.
fn of_version_1(key: &KeyPair) -> CertificateDer<'static> {
    let modern = CertificateParams::new(Vec::new()).unwrap().self_signed(key).unwrap();
    let (_, parsed) = X509Certificate::from_der(modern.der()).unwrap();
    let algorithm = sequence(0x30, &[&[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]]);
    let year = |year: &str| sequence(0x17, &[format!("{year}0101000000Z").as_bytes()]);
    let validity = sequence(0x30, &[&year("20"), &year("40")]);
    let (subject, key_info) = (parsed.subject().as_raw(), parsed.public_key().raw);
    let signed = sequence(0x30, &[&[0x02, 0x01, 0x01], &algorithm, subject, &validity, subject, key_info]);
    let mut signature = vec![0];
    signature.extend(key.sign(&signed).unwrap());
    sequence(0x30, &[&signed, &algorithm, &sequence(0x03, &[&signature])]).into()
}

fn sequence(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match (high, low) {
        (0, 0..0x80) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head, content].concat()
}

/// What the server answers to a client with this certificate and key; empty where it breaks off.
async fn answer(test: &Test, issuer: &Issuer, own: &CertificateDer<'static>, key: &KeyPair, old: bool) -> String {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(PrivateKeyDer::try_from(key.serialize_der()).unwrap()).unwrap();
    let own = SingleCertAndKey::from(CertifiedKey::new(vec![own.clone()], key));
    let mut roots = RootCertStore::empty();
    roots.add(issuer.0.der().clone()).unwrap();
    let versions = if old { TLS12_ALONE.as_slice() } else { rustls::ALL_VERSIONS };
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let config = builder.with_root_certificates(roots).with_client_cert_resolver(Arc::new(own));
    let name = ServerName::try_from("localhost").unwrap();
    match TlsConnector::from(Arc::new(config)).connect(name, test.connect().await).await {
        Ok(mut stream) => {
            // TLS 1.3 clients learn of a refusal only when they read.
            let _refused = stream.write_all(get_and_close("/").as_bytes()).await;
            read_all(&mut stream).await
        }
        Err(_) => String::new(),
    }
}

/// Story: runners showed the certificates of their company to whatever asked, and had no connection to this server at all, also for requests that need no
/// certificate. Neither they nor the log learnt why.
#[tokio::test]
async fn a_certificate_that_cannot_be_judged_costs_no_connection() {
    let root = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    issuer.write_pair(root.path());
    let reloader = Reloader::load(TlsFiles { client_certificates: ClientCertificates::Ask, ..files(root.path()) }).unwrap();
    let test = start_tls(&reloader).await;
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    for own in [with_critical_policies(&issuer, &key), of_version_1(&key)] {
        for old in [false, true] {
            assert!(answer(&test, &issuer, &own, &key, old).await.starts_with("HTTP/1.1 200"), "{old} {own:?}");
            let shown = test.service.seen.lock().pop().unwrap().tls.unwrap().client_chain.clone();
            assert_eq!(shown.own(), Some(own.as_ref()));
            assert_eq!(answer(&test, &issuer, &own, &other, old).await, "", "nobody passes for it without its key");
            assert!(test.service.seen.lock().is_empty());
        }
    }
}

#[tokio::test]
async fn what_is_no_certificate_at_all_has_no_key_to_hold() {
    let root = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    issuer.write_pair(root.path());
    let reloader = Reloader::load(TlsFiles { client_certificates: ClientCertificates::Ask, ..files(root.path()) }).unwrap();
    let test = start_tls(&reloader).await;
    let key = KeyPair::generate().unwrap();
    for own in [b"nonsense".to_vec(), vec![0x30, 0x82, 0xff, 0xff], vec![0x30, 0x00]] {
        for old in [false, true] {
            assert_eq!(answer(&test, &issuer, &own.clone().into(), &key, old).await, "");
        }
    }
}
