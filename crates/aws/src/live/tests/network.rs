//! Proxies and trust: what the environment says about the way to AWS.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use daypass_base::SystemClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::{calls, child, sandbox};

/// A name that only the proxy below can reach.
const HOST: &str = "sts.sandbox.test";

/// TLS in front of the sandbox. Gives the address and the certificate of its CA.
async fn tls(to: SocketAddr) -> (SocketAddr, String) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec![HOST.to_owned(), "localhost".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate.der().clone()], key.into()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut onward = TcpStream::connect(to).await.unwrap();
                let _closed = copy_bidirectional(&mut stream, &mut onward).await;
            });
        }
    });
    (address, ca.pem())
}

/// A proxy that leads every `CONNECT` to one address, and the first lines that it was sent.
async fn proxy(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::clone(&lines);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                head.push(byte);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            seen.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
            tokio::spawn(async move {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let mut onward = TcpStream::connect(to).await.unwrap();
                let _closed = copy_bidirectional(&mut stream, &mut onward).await;
            });
        }
    });
    (address, lines)
}

fn environment(endpoint: &str) -> Vec<(String, String)> {
    [
        ("AWS_ACCESS_KEY_ID", "AKIADAYPASSSANDBOX22"),
        ("AWS_SECRET_ACCESS_KEY", "sandbox/only/never/a/real/secret/key/000"),
        ("AWS_REGION", "us-east-1"),
        ("DAYPASS_TEST_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", endpoint),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

#[tokio::test]
async fn certificates_come_from_ssl_cert_file_or_aws_ca_bundle() {
    let sandbox = sandbox(Arc::new(SystemClock::new())).await;
    let (address, ca) = tls(sandbox.address()).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    // What is no certificate is left out; the SDK would have panicked on it.
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(file.path(), format!("{broken}{ca}")).unwrap();
    for name in ["SSL_CERT_FILE", "AWS_CA_BUNDLE"] {
        let mut environment = environment(&format!("https://localhost:{}", address.port()));
        environment.push((name.to_owned(), file.path().display().to_string()));
        child("child_asks_who_it_is", environment).await;
    }
    assert_eq!(calls(&sandbox, "GetCallerIdentity"), 2);
}

#[tokio::test]
async fn https_goes_through_the_proxy_and_local_addresses_do_not() {
    let sandbox = sandbox(Arc::new(SystemClock::new())).await;
    let (address, ca) = tls(sandbox.address()).await;
    let (proxy, lines) = proxy(address).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), ca).unwrap();
    let through = [("HTTPS_PROXY", format!("http://{proxy}")), ("HTTP_PROXY", format!("http://{proxy}"))];
    let through = through.map(|(name, value)| (name.to_owned(), value));
    let mut far = environment(&format!("https://{HOST}"));
    far.push(("SSL_CERT_FILE".to_owned(), file.path().display().to_string()));
    far.extend(through.clone());
    child("child_asks_who_it_is", far).await;
    assert_eq!(*lines.lock().unwrap(), [format!("CONNECT {HOST}:443 HTTP/1.1")]);
    let mut near = environment(&sandbox.url());
    near.extend(through);
    child("child_asks_who_it_is", near).await;
    assert_eq!(lines.lock().unwrap().len(), 1, "the second call went straight there");
    assert_eq!(calls(&sandbox, "GetCallerIdentity"), 2);
}
