//! Certificates of clients: what a resumed session brings along, and how much of a chain is taken.

use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::TlsConnector;

use super::tls::{Issuer, TLS12_ALONE, ask, files, start_tls};
use super::*;
use crate::tls::ClientCertificates;

/// A client that remembers its sessions and shows its certificate so many times over.
fn client(issuer: &Issuer, copies: usize, versions: &'static [&'static rustls::SupportedProtocolVersion]) -> (TlsConnector, Vec<u8>) {
    let (certificate, key) = issuer.issue();
    let mut roots = RootCertStore::empty();
    roots.add(issuer.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap().with_root_certificates(roots);
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let chain: Vec<CertificateDer<'static>> = std::iter::repeat_n(certificate.der().clone(), copies).collect();
    let config = builder.with_client_auth_cert(chain, key).unwrap();
    (TlsConnector::from(Arc::new(config)), certificate.der().to_vec())
}

/// Asks once. Gives the kind of handshake, and the certificate that the service saw.
async fn visit(connector: &TlsConnector, test: &Test) -> (HandshakeKind, Option<Vec<u8>>) {
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), test.connect().await).await.unwrap();
    let kind = stream.get_ref().1.handshake_kind().unwrap();
    assert!(ask(stream).await.starts_with("HTTP/1.1 200"));
    let request = test.service.seen.lock().pop().unwrap();
    (kind, request.tls.unwrap().client_chain.own().map(<[u8]>::to_vec))
}

#[tokio::test]
async fn a_resumed_session_brings_the_certificate_of_its_first_handshake() {
    for versions in [rustls::ALL_VERSIONS, &TLS12_ALONE] {
        let root = tempfile::tempdir().unwrap();
        let issuer = Issuer::new();
        issuer.write_pair(root.path());
        let reloader = Reloader::load(TlsFiles { client_certificates: ClientCertificates::Ask, ..files(root.path()) }).unwrap();
        let test = start_tls(&reloader).await;
        let (connector, own) = client(&issuer, 1, versions);
        assert_eq!(visit(&connector, &test).await, (HandshakeKind::Full, Some(own.clone())));
        assert_eq!(visit(&connector, &test).await, (HandshakeKind::Resumed, Some(own.clone())));
        // Sessions do not outlive the rules that they were made under.
        reloader.reload().unwrap();
        assert_eq!(visit(&connector, &test).await, (HandshakeKind::Full, Some(own)));
    }
}

#[tokio::test]
async fn a_client_with_more_certificates_than_anybody_needs_is_cut_off() {
    let root = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    issuer.write_pair(root.path());
    let reloader = Reloader::load(TlsFiles { client_certificates: ClientCertificates::Ask, ..files(root.path()) }).unwrap();
    let test = start_tls(&reloader).await;
    let (connector, own) = client(&issuer, 10, rustls::ALL_VERSIONS);
    assert_eq!(visit(&connector, &test).await.1, Some(own));
    let (connector, _) = client(&issuer, 11, rustls::ALL_VERSIONS);
    // The handshake is over for the client before the server has looked.
    if let Ok(mut stream) = connector.connect(ServerName::try_from("localhost").unwrap(), test.connect().await).await {
        let _cut_off = stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        let mut answer = Vec::new();
        let _cut_off = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    }
    assert!(test.service.seen.lock().is_empty());
}
