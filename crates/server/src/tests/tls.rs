//! TLS: versions, protocols, reload, client certificates.

use std::path::Path;

use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::tls::{ClientCertificates, MinVersion, TlsError};

/// An issuer, and certificates from it.
pub(super) struct Issuer(pub(super) CertifiedIssuer<'static, KeyPair>);

impl Issuer {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn issue(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate, key)
    }

    /// Writes a new pair to `cert.pem` and `key.pem`, and returns the certificate.
    pub(super) fn write_pair(&self, into: &Path) -> CertificateDer<'static> {
        let (certificate, key) = self.issue();
        std::fs::write(into.join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(into.join("key.pem"), key.serialize_pem()).unwrap();
        certificate.der().clone()
    }
}

pub(super) fn files(root: &Path) -> TlsFiles {
    TlsFiles {
        certificate: root.join("cert.pem"),
        key: root.join("key.pem"),
        client_certificates: ClientCertificates::Ignore,
        min_version: MinVersion::Tls12,
    }
}

pub(super) async fn start_tls(reloader: &Arc<Reloader>) -> Test {
    let listener = Listener::tcp(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.tcp_address().unwrap();
    serve(Bound { listener, tls: Some(Arc::clone(reloader)), limits: Limits::default() }, address)
}

pub(super) static TLS12_ALONE: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS12];

pub(super) struct Client<'a> {
    pub(super) issuer: &'a Issuer,
    pub(super) own: Option<(rcgen::Certificate, KeyPair)>,
    pub(super) protocols: &'a [&'a [u8]],
    pub(super) versions: &'static [&'static rustls::SupportedProtocolVersion],
}

impl<'a> Client<'a> {
    pub(super) fn of(issuer: &'a Issuer) -> Self {
        Self { issuer, own: None, protocols: &[], versions: rustls::ALL_VERSIONS }
    }

    pub(super) async fn connect(self, test: &Test) -> std::io::Result<TlsStream<TcpStream>> {
        self.shake(test.connect().await).await
    }

    async fn shake<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(self, socket: T) -> std::io::Result<TlsStream<T>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(self.versions).unwrap().with_root_certificates(roots);
        let mut config = match self.own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        };
        config.alpn_protocols = self.protocols.iter().map(|name| name.to_vec()).collect();
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), socket).await
    }
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

pub(super) async fn ask(mut stream: TlsStream<TcpStream>) -> String {
    stream.write_all(get_and_close("/tls").as_bytes()).await.unwrap();
    read_all(&mut stream).await
}

#[tokio::test]
async fn certificates_are_read_again_and_a_broken_pair_leaves_the_old_one() {
    let root = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    let first = issuer.write_pair(root.path());
    let reloader = Reloader::load(files(root.path())).unwrap();
    let test = start_tls(&reloader).await;
    let mut kept = Client::of(&issuer).connect(&test).await.unwrap();
    assert_eq!(shown(&kept), first);
    let second = issuer.write_pair(root.path());
    assert_eq!(shown(&Client::of(&issuer).connect(&test).await.unwrap()), first, "files alone change nothing");
    reloader.reload().unwrap();
    assert_eq!(shown(&Client::of(&issuer).connect(&test).await.unwrap()), second);
    kept.write_all(get("/").as_bytes()).await.unwrap();
    assert!(read_answer(&mut kept).await.starts_with("HTTP/1.1 200"), "an older connection goes on");
    let other_key = issuer.issue().1.serialize_pem();
    for (file, content) in
        [("key.pem", other_key.as_str()), ("key.pem", "nonsense"), ("cert.pem", ""), ("cert.pem", "-----BEGIN CERTIFICATE-----")]
    {
        std::fs::write(root.path().join(file), content).unwrap();
        let error = reloader.reload().unwrap_err().to_string();
        assert!(error.contains(file), "{error}");
        assert_eq!(shown(&Client::of(&issuer).connect(&test).await.unwrap()), second);
    }
    std::fs::remove_file(root.path().join("cert.pem")).unwrap();
    assert!(matches!(reloader.reload(), Err(TlsError::File { .. })));
    let third = issuer.write_pair(root.path());
    reloader.reload().unwrap();
    let stream = Client::of(&issuer).connect(&test).await.unwrap();
    assert_eq!(shown(&stream), third);
    assert!(ask(stream).await.contains("GET /tls"));
    assert_eq!(test.service.seen.lock().last().unwrap().tls.as_ref().unwrap().server_name.as_deref(), Some("localhost"));
}

#[tokio::test]
async fn a_unix_socket_is_served_over_tls_and_waits_for_the_first_byte() {
    let root = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    issuer.write_pair(root.path());
    let path = root.path().join("daypass.sock");
    let listener = Listener::unix(&path, listener::UnixAccess::default()).await.unwrap();
    let tls = Some(Reloader::load(files(root.path())).unwrap());
    let test = serve(Bound { listener, tls, limits: Limits::default() }, SocketAddr::from(([127, 0, 0, 1], 0)));
    let socket = UnixStream::connect(&path).await.unwrap();
    settle().await;
    assert_eq!(test.counts.open(), 1);
    let mut stream = Client::of(&issuer).shake(socket).await.unwrap();
    stream.write_all(get_and_close("/tls").as_bytes()).await.unwrap();
    assert!(read_all(&mut stream).await.contains("GET /tls"));
}

#[tokio::test]
async fn the_oldest_version_is_as_configured() {
    let root = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    issuer.write_pair(root.path());
    for (min_version, welcome) in [(MinVersion::Tls12, true), (MinVersion::Tls13, false)] {
        let reloader = Reloader::load(TlsFiles { min_version, ..files(root.path()) }).unwrap();
        let test = start_tls(&reloader).await;
        let old = Client { versions: &TLS12_ALONE, ..Client::of(&issuer) };
        assert_eq!(old.connect(&test).await.is_ok(), welcome, "{min_version:?}");
        assert!(Client::of(&issuer).connect(&test).await.is_ok());
    }
}

#[tokio::test]
async fn http2_serves_many_requests_at_once_and_ends_gracefully() {
    let root = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    issuer.write_pair(root.path());
    let test = start_tls(&Reloader::load(files(root.path())).unwrap()).await;
    let stream = Client { protocols: &[b"h2", b"http/1.1"], ..Client::of(&issuer) }.connect(&test).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = |method: &str, path: &str, body: Vec<u8>| {
        let uri = format!("https://localhost{path}");
        let request = http::Request::builder().method(method).uri(uri).body(http_body_util::Full::<Bytes>::from(body)).unwrap();
        sender.send_request(request)
    };
    let slow = tokio::spawn(request("GET", "/slow", Vec::new()));
    let body_of = async |answer: http::Response<hyper::body::Incoming>| {
        let bytes = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    let answer = request("LIST", "/v1/x", b"body".to_vec()).await.unwrap();
    assert!(body_of(answer).await.starts_with("LIST https://localhost/v1/x body"));
    let answer = request("HEAD", "/v1/x", Vec::new()).await.unwrap();
    assert!(answer.headers().contains_key("content-length"));
    assert_eq!(body_of(answer).await, "");
    let empty = request("GET", "/empty", Vec::new()).await.unwrap();
    assert_eq!((empty.status(), body_of(empty).await.as_str()), (StatusCode::NO_CONTENT, ""));
    let large = request("POST", "/v1/x", vec![b'x'; 33 * 1024 * 1024]).await.unwrap();
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    // More than all timeouts: a request in flight keeps the connection.
    for _ in 0..20 {
        settle().await;
        test.clock.advance(Duration::from_mins(1));
    }
    assert!(!slow.is_finished());
    let ending = tokio::spawn(test.server.shutdown(Duration::from_secs(30)));
    settle().await;
    test.service.gate.notify_one();
    assert_eq!(body_of(slow.await.unwrap().unwrap()).await, "at last");
    assert_eq!(ending.await.unwrap(), 0);
    let _gone = connection.await.unwrap();
}

#[tokio::test]
async fn an_idle_http2_connection_is_cut() {
    let root = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    issuer.write_pair(root.path());
    let test = start_tls(&Reloader::load(files(root.path())).unwrap()).await;
    let stream = Client { protocols: &[b"h2"], ..Client::of(&issuer) }.connect(&test).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("https://localhost/").body(http_body_util::Empty::<Bytes>::new()).unwrap();
    sender.send_request(request).await.unwrap();
    settle().await;
    let (_, took) = test.advance_until(connection).await;
    assert!(took >= Duration::from_secs(299) && took < Duration::from_secs(310), "{took:?}");
}

/// Story: an answer that waits for the client's window counted as a request at work, which has no time limit here.
#[tokio::test]
async fn an_http2_client_that_takes_no_answer_is_cut() {
    let root = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    issuer.write_pair(root.path());
    let test = start_tls(&Reloader::load(files(root.path())).unwrap()).await;
    let stream = Client { protocols: &[b"h2"], ..Client::of(&issuer) }.connect(&test).await.unwrap();
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(0);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("https://localhost/large").body(http_body_util::Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    settle().await;
    let (_, took) = test.advance_until(connection).await;
    assert!(took >= Duration::from_secs(299) && took < Duration::from_secs(310), "{took:?}");
    drop(answer);
}

#[tokio::test]
async fn leftovers_and_empty_lines_over_tls_are_handled_as_in_the_clear() {
    let root = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    issuer.write_pair(root.path());
    let test = start_tls(&Reloader::load(files(root.path())).unwrap()).await;
    for (leftover, at_least, below) in [("G", 10, 60), ("\r\n", 299, 310), ("\r\nGET /", 10, 60)] {
        let mut stream = Client::of(&issuer).connect(&test).await.unwrap();
        stream.write_all((get("/") + leftover).as_bytes()).await.unwrap();
        let (answer, took) = test.advance_until(read_all(&mut stream)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{leftover:?}: {answer}");
        assert!(took >= Duration::from_secs(at_least) && took < Duration::from_secs(below), "{leftover:?}: {took:?}");
    }
}

/// Half a TLS record wakes a parked connection and says nothing: it is parked again, and its time goes on.
#[tokio::test]
async fn half_a_tls_record_wakes_a_parked_connection_without_buying_time() {
    let root = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    issuer.write_pair(root.path());
    let test = start_tls(&Reloader::load(files(root.path())).unwrap()).await;
    let mut stream = Client::of(&issuer).connect(&test).await.unwrap();
    stream.write_all(get("/").as_bytes()).await.unwrap();
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    let begin = test.clock.elapsed();
    let (mut socket, _) = stream.into_inner();
    // A record of 4096 bytes begins, and a byte of it comes each ten seconds.
    socket.write_all(&[23, 3, 3, 16, 0]).await.unwrap();
    while socket.write_all(&[0]).await.is_ok() {
        for _ in 0..2 {
            settle().await;
            test.clock.advance(Duration::from_secs(5));
        }
    }
    let took = test.clock.elapsed().saturating_sub(begin);
    assert!(took >= Duration::from_secs(299) && took < Duration::from_secs(340), "{took:?}");
    assert!(ask(Client::of(&issuer).connect(&test).await.unwrap()).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn client_certificates_are_handled_as_configured() {
    let root = tempfile::tempdir().unwrap();
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    issuer.write_pair(root.path());
    let issuers = root.path().join("ca.pem");
    std::fs::write(&issuers, issuer.0.pem()).unwrap();
    let ways = [
        (ClientCertificates::Ignore, [Some(0), Some(0), Some(0)]),
        (ClientCertificates::Ask, [Some(0), Some(1), Some(1)]),
        (ClientCertificates::Verify { issuers: issuers.clone() }, [Some(0), Some(1), None]),
        (ClientCertificates::Require { issuers }, [None, Some(1), None]),
    ];
    for (client_certificates, expected) in ways {
        let what = format!("{client_certificates:?}");
        let test = start_tls(&Reloader::load(TlsFiles { client_certificates, ..files(root.path()) }).unwrap()).await;
        for (own, expected) in [None, Some(issuer.issue()), Some(stranger.issue())].into_iter().zip(expected) {
            // TLS 1.3 clients learn of a refusal only when they read.
            let answer = match (Client { own, ..Client::of(&issuer) }).connect(&test).await {
                Ok(mut stream) => {
                    let _refused = stream.write_all(get_and_close("/").as_bytes()).await;
                    read_all(&mut stream).await
                }
                Err(_) => String::new(),
            };
            let seen = test.service.seen.lock().pop().map(|request| request.tls.unwrap().client_chain.len());
            assert_eq!(seen, expected, "{what}");
            assert_eq!(answer.starts_with("HTTP/1.1 200"), expected.is_some(), "{what}: {answer}");
        }
    }
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_told_so_and_silence_is_cut() {
    let root = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    issuer.write_pair(root.path());
    let test = start_tls(&Reloader::load(files(root.path())).unwrap()).await;
    // What is not read of a request would bring a reset, which takes the answer from many clients.
    let mut stream = test.connect().await;
    stream.write_all((get("/") + &get("/")).as_bytes()).await.unwrap();
    assert!(read_answer(&mut stream).await.ends_with("\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"));
    stream.write_all(get("/").as_bytes()).await.unwrap();
    settle().await;
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "an end and no reset");
    drop(stream);
    test.exchange(b"\x16\x03\x01\x00\x05hello").await;
    let mut silent = test.connect().await;
    settle().await;
    let (_, took) = test.advance_until(read_all(&mut silent)).await;
    assert!(took >= Duration::from_secs(10), "{took:?}");
    assert_eq!(test.service.started.load(Ordering::SeqCst), 0);
}

/// Story: an encrypted key in the old form of PEM, whose mark is a header within the section, was told as broken base64.
#[test]
fn an_encrypted_key_is_called_so_in_both_forms() {
    let folder = tempfile::tempdir().unwrap();
    Issuer::new().write_pair(folder.path());
    for text in [
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00112233445566778899AABBCCDDEEFF\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    ] {
        std::fs::write(folder.path().join("key.pem"), text).unwrap();
        let said = Reloader::load(files(folder.path())).unwrap_err().to_string();
        assert!(said.contains("key.pem: the private key in it is encrypted") && said.contains("openssl pkey"), "{said}");
    }
}

/// Story: on a socket of both families a client of IPv4 had an address of IPv6, `::ffff:127.0.0.1`, in the audit log and wherever else it was named.
#[tokio::test]
async fn a_client_of_ipv4_keeps_its_address_on_a_socket_of_both_families() {
    let listener = Listener::everywhere(0).await.unwrap();
    let client = tokio::net::TcpStream::connect(("127.0.0.1", listener.tcp_address().unwrap().port())).await.unwrap();
    let (_socket, peer) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
    assert_eq!(peer, Peer::Tcp(client.local_addr().unwrap()));
}
