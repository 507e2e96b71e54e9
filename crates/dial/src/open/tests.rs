use super::*;
use crate::{Broken, Line, Roots};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const WAIT: Duration = Duration::from_secs(5);

/// Whoever is asked about a certificate here is wrong.
struct Nobody;

impl Trust for Nobody {
    async fn tls(&self, peer: Peer) -> Result<Arc<ClientConfig>, String> {
        Err(format!("asked about the certificate of {peer:?}"))
    }
}

/// Trusts no authority, but that is seen in the handshake only.
struct Strict;

impl Trust for Strict {
    async fn tls(&self, _peer: Peer) -> Result<Arc<ClientConfig>, String> {
        crate::client_config(Roots::default())
    }
}

/// Takes one connection, reads until it holds `end`, says `answer`, closes, and tells what it read.
async fn peer(end: &'static str, answer: &'static str) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(end) {
            assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "the connection ended before {end:?}");
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(seen).unwrap()
    });
    (address, seen)
}

fn get(url: &str) -> Request<Full<Bytes>> {
    Request::get(url).header("host", "collector.example").body(Full::default()).unwrap()
}

fn through(proxy: &str, to: &Uri) -> Result<Option<Proxy>, Refused> {
    found_by(&Matcher::builder().all(proxy).no("near.example").build(), to)
}

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

#[tokio::test]
async fn an_origin_is_sent_the_path_and_its_answer_is_read_whole() {
    let (address, seen) = peer("\r\n\r\n", HELLO).await;
    let url = format!("http://{address}/v1/traces?a=b");
    let opened = open(&url.parse().unwrap(), None, WAIT, &Nobody).await.unwrap();
    let mut line = Line::start(opened).await.unwrap();
    assert!(line.is_open().await);
    assert_eq!(line.exchange(get(&url), 5).await.unwrap().body(), "hello");
    assert!(seen.await.unwrap().starts_with("GET /v1/traces?a=b HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_proxy_of_plain_text_is_sent_the_whole_url_and_our_name() {
    let (address, seen) = peer("\r\n\r\n", HELLO).await;
    let to: Uri = "http://collector.example/v1/traces".parse().unwrap();
    let proxy = through(&format!("http://ci:secret@{address}"), &to).unwrap();
    let mut line = Line::start(open(&to, proxy, WAIT, &Nobody).await.unwrap()).await.unwrap();
    assert_eq!(line.exchange(get("http://collector.example/v1/traces"), 100).await.unwrap().status(), StatusCode::OK);
    let seen = seen.await.unwrap();
    assert!(seen.starts_with("GET http://collector.example/v1/traces HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("proxy-authorization: Basic Y2k6c2VjcmV0\r\n"), "{seen}");
}

#[tokio::test]
async fn to_a_tls_origin_a_proxy_is_asked_for_a_tunnel_and_its_refusal_is_told() {
    let (address, seen) = peer("\r\n\r\n", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
    let to: Uri = "https://collector.example/v1/traces".parse().unwrap();
    let proxy = through(&format!("http://ci:secret@{address}"), &to).unwrap();
    let refused = open(&to, proxy, WAIT, &Strict).await.err().unwrap();
    assert!(matches!(&refused, Refused::Nobody(text) if text.contains("authorization")), "{refused:?}");
    let seen = seen.await.unwrap();
    assert!(seen.starts_with("CONNECT collector.example:443 HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("Proxy-Authorization: Basic Y2k6c2VjcmV0\r\n"), "{seen}");
    assert!(!seen.contains("/v1/traces"), "a proxy sees no more than the host: {seen}");
}

#[test]
fn hosts_that_the_environment_excepts_have_no_proxy_and_other_proxies_are_refused() {
    let near: Uri = "http://near.example/".parse().unwrap();
    assert!(through("http://proxy.example:3128", &near).unwrap().is_none());
    let far: Uri = "http://far.example/".parse().unwrap();
    let refused = through("socks5://proxy.example:1080", &far).err().unwrap();
    assert!(matches!(&refused, Refused::Settings(text) if text.contains("\"socks5\"")), "{refused:?}");
}

#[tokio::test]
async fn what_is_wrong_with_the_trust_is_no_matter_of_asking_again() {
    let refused = open(&"https://127.0.0.1:1/".parse().unwrap(), None, WAIT, &Nobody).await.err().unwrap();
    assert!(matches!(&refused, Refused::Settings(text) if text.contains("Origin")), "{refused:?}");
    let refused = open(&"http://127.0.0.1:1/".parse().unwrap(), None, WAIT, &Nobody).await.err().unwrap();
    assert!(matches!(&refused, Refused::Nobody(text) if text.contains("refused")), "{refused:?}");
}

#[tokio::test]
async fn an_answer_over_the_limit_is_told_by_its_status_and_a_closed_connection_is_lost() {
    let (address, _) = peer("\r\n\r\n", "HTTP/1.1 302 Found\r\ncontent-length: 5\r\n\r\nhello").await;
    let url = format!("http://{address}/");
    let to: Uri = url.parse().unwrap();
    let mut line = Line::start(open(&to, None, WAIT, &Nobody).await.unwrap()).await.unwrap();
    assert_eq!(line.exchange(get(&url), 4).await.unwrap_err(), Broken::TooLong { status: StatusCode::FOUND, max: 4 });

    let (address, seen) = peer("\r\n\r\n", "").await;
    let url = format!("http://{address}/");
    let mut line = Line::start(open(&url.parse().unwrap(), None, WAIT, &Nobody).await.unwrap()).await.unwrap();
    assert!(matches!(line.exchange(get(&url), 100).await.unwrap_err(), Broken::Lost(_)));
    seen.await.unwrap();
    assert!(!line.is_open().await);
}
