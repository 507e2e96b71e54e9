//! The live client against listeners on loopback.

use std::net::SocketAddr;

use daypass_base::sim::SimClock;
use daypass_base::{Secret, SystemClock};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::{Trust, Url};

fn live() -> LiveIdp {
    LiveIdp::new(Arc::new(SystemClock::new()))
}

fn ask(url: &str, trust: Trust) -> Ask {
    Ask { url: Url::parse(url).unwrap(), payload: Payload::Nothing, proof: Proof::Nothing, trust, deadline: Duration::from_secs(20) }
}

/// Reads one request to its end (a form has a length) and gives it back.
async fn one_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let (mut text, mut chunk) = (String::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut chunk).await.unwrap_or(0);
        text.push_str(&String::from_utf8_lossy(&chunk[..read]));
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ").map(|n| n.parse().unwrap()));
            if body.len() >= length.unwrap_or(0) || read == 0 {
                return text;
            }
        }
    }
}

async fn answer(stream: &mut (impl AsyncWrite + Unpin), text: &[u8]) {
    let _may_have_hung_up = stream.write_all(text).await;
    let _may_have_hung_up = stream.shutdown().await;
}

/// Answers one request with this, and gives the request.
async fn serve(text: &'static [u8]) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = one_request(&mut stream).await;
        answer(&mut stream, text).await;
        request
    });
    (address, task)
}

#[tokio::test]
async fn an_answer_is_read_whole() {
    let (address, task) = serve(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}").await;
    let answer = live().ask(ask(&format!("http://{address}/keys?x=1"), Trust::System)).await.unwrap();
    assert_eq!((answer.status, answer.content_type.as_str(), &answer.body[..]), (200, "application/json", &b"{}"[..]));
    let request = task.await.unwrap();
    assert!(request.starts_with("GET /keys?x=1 HTTP/1.1\r\n") && request.contains(&format!("host: {address}")), "{request}");
}

#[tokio::test]
async fn a_form_is_sent_with_its_proof() {
    let (address, task) = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let form = vec![("code", Secret::from("a b&c")), ("grant_type", Secret::from("authorization_code"))];
    let mut wanted = ask(&format!("http://{address}/token"), Trust::System);
    (wanted.payload, wanted.proof) = (Payload::Form(form), Proof::Basic("us er".to_owned(), Secret::from("p:w")));
    live().ask(wanted).await.unwrap();
    let request = task.await.unwrap();
    assert!(request.ends_with("\r\n\r\ncode=a%20b%26c&grant_type=authorization_code"), "{request}");
    let basic = data_encoding::BASE64.encode(b"us%20er:p%3Aw");
    assert!(request.contains(&format!("authorization: Basic {basic}\r\n")), "{request}");
}

#[tokio::test]
async fn bytes_are_sent_as_what_they_are() {
    let (address, task) = serve(b"HTTP/1.1 200 OK\r\ncontent-type: application/ocsp-response\r\ncontent-length: 2\r\n\r\n\x30\x00").await;
    let mut wanted = ask(&format!("http://{address}/ocsp"), Trust::System);
    wanted.payload = Payload::Bytes { kind: "application/ocsp-request", wanted: "application/ocsp-response", bytes: b"abc".to_vec() };
    assert_eq!(&live().ask(wanted).await.unwrap().body[..], [0x30, 0]);
    let request = task.await.unwrap();
    assert!(request.starts_with("POST /ocsp HTTP/1.1\r\n") && request.ends_with("\r\n\r\nabc"), "{request}");
    for header in ["content-type: application/ocsp-request\r\n", "accept: application/ocsp-response\r\n", "content-length: 3\r\n"] {
        assert!(request.contains(header), "{request}");
    }
}

#[tokio::test]
async fn a_name_that_leads_back_to_this_machine_is_not_followed() {
    let (address, _task) = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    // `localhost` stands for any name that a stranger's certificate may have for it.
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let to = format!("http://localhost:{}/", address.port()).parse().unwrap();
    let refusal = dial::abroad(&clock, &to).await.map(drop).unwrap_err();
    assert_eq!(refusal, "its name has no address outside of this machine and its link");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (address, _task) = serve(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n").await;
    let error = live().ask(ask(&format!("http://{address}/"), Trust::System)).await.unwrap_err();
    assert_eq!(error, IdpError::Redirected { host: address.to_string(), status: 302 });
}

#[tokio::test]
async fn a_redirect_is_told_whatever_becomes_of_its_body() {
    let (address, _task) = serve(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 9\r\n\r\nhalf").await;
    let error = live().ask(ask(&format!("http://{address}/"), Trust::System)).await.unwrap_err();
    assert_eq!(error, IdpError::Redirected { host: address.to_string(), status: 302 });
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let long: &'static [u8] = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b' '; ANSWER_MAX + 1]].concat().leak();
    let (address, _task) = serve(long).await;
    let error = live().ask(ask(&format!("http://{address}/"), Trust::System)).await.unwrap_err();
    assert!(error.to_string().contains("longer than 524288 bytes"), "{error}");
}

#[tokio::test]
async fn a_silent_provider_costs_no_more_than_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let clock = SimClock::default();
    let idp = LiveIdp::new(Arc::new(clock.clone()));
    let wanted = ask(&format!("http://{}/", listener.local_addr().unwrap()), Trust::System);
    let error = clock.while_passing(idp.ask(wanted)).await.unwrap_err();
    assert!(error.to_string().contains("no answer within 20s"), "{error}");
}

#[tokio::test]
async fn a_server_is_trusted_by_the_configured_certificate_alone() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                one_request(&mut stream).await;
                answer(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
            }
        }
    });
    let idp = live();
    let with = |trust| ask(&format!("https://localhost:{port}/"), trust);
    assert_eq!(idp.ask(with(Trust::Only(made.cert.pem()))).await.unwrap().status, 200);
    assert!(matches!(idp.ask(with(Trust::Only(other.cert.pem()))).await, Err(IdpError::Unreachable { .. })));
    let error = idp.ask(with(Trust::Only("nonsense".to_owned()))).await.unwrap_err();
    assert_eq!(error.to_string(), "the configured CA certificates cannot be used: there is no PEM block CERTIFICATE");
}

/// Story: all calls shared one number of places, so a provider that did not answer held up the logins at all the others.
#[tokio::test]
async fn a_provider_that_hangs_leaves_places_to_the_others() {
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (live, url) = (Arc::new(live()), format!("http://{}/keys", slow.local_addr().unwrap()));
    let mut hanging = tokio::task::JoinSet::new();
    for _ in 0..2 * ROOM.all {
        let (live, url) = (Arc::clone(&live), url.clone());
        hanging.spawn(async move { live.ask(ask(&url, Trust::System)).await });
    }
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let (address, _task) = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(live.ask(ask(&format!("http://{address}/keys"), Trust::System)).await.unwrap().status, 200);
    assert!(hanging.try_join_next().is_none());
}

/// Story: so many could wait for an API server that hung as a server has requests, or nearly; and those who found no place, or no turn in their time, were told
/// what those are told whom a provider does not know.
#[tokio::test]
async fn whoever_finds_no_turn_is_told_so_and_leaves_the_others_alone() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let clock = SimClock::default();
    let idp = Arc::new(LiveIdp::new(Arc::new(clock.clone())));
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..=ROOM.of_origin + ROOM.waiting {
        let (idp, ask) = (Arc::clone(&idp), ask(&url, Trust::System));
        asking.spawn(async move { idp.ask(ask).await.unwrap_err() });
    }
    let refused = asking.join_next().await.unwrap().unwrap();
    assert!(matches!(&refused, IdpError::Crowded { detail, .. } if detail.starts_with("256 calls to it wait already")), "{refused}");
    let (other, _task) = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    idp.ask(ask(&format!("http://{other}/"), Trust::System)).await.unwrap();
    let told = clock.while_passing(asking.join_all()).await;
    let unasked = told
        .iter()
        .filter(|error| matches!(error, IdpError::Crowded { detail, slow: true, .. } if detail.contains("did not come within 20s")));
    let unanswered = told.iter().filter(|error| matches!(error, IdpError::Unreachable { .. }));
    assert_eq!((unasked.count(), unanswered.count()), (ROOM.waiting, ROOM.of_origin), "{told:?}");
}

#[test]
fn calls_leave_most_requests_to_others() {
    assert!(ROOM.calls() <= daypass_base::Limits::default().requests / 8, "{ROOM:?}");
}
