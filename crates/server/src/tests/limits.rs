//! Clients that want too much: each is held to its limit, and nobody else notices.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::{BodyExt, Empty};
use hyper::body::Frame;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinHandle;

use super::tls::{Client, Issuer, files};
use super::*;

/// A server over TLS, and who vouches for it.
pub(super) async fn start_http2(limits: Limits) -> (Test, Issuer) {
    let root = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    issuer.write_pair(root.path());
    let listener = Listener::tcp(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.tcp_address().unwrap();
    let bound = Bound { listener, tls: Some(Reloader::load(files(root.path())).unwrap()), limits };
    (serve(bound, address), issuer)
}

/// A client on a connection of its own.
async fn speak_http2<B>(test: &Test, issuer: &Issuer) -> SendRequest<B>
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = Client { protocols: &[b"h2"], ..Client::of(issuer) }.connect(test).await.unwrap();
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    drop(tokio::spawn(connection));
    sender
}

/// A body that comes when the test says so; dropping the sender ends it.
struct Coming(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Coming {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// A request whose body does not come yet, with so many headers of one byte each.
fn begun(headers: usize) -> (mpsc::Sender<Bytes>, http::Request<Coming>) {
    begun_at("/body", headers)
}

fn begun_at(path: &str, headers: usize) -> (mpsc::Sender<Bytes>, http::Request<Coming>) {
    let (sender, pieces) = mpsc::channel(1);
    let mut request = http::Request::post(format!("https://localhost{path}")).body(Coming(pieces)).unwrap();
    for _ in 0..headers {
        request.headers_mut().append("via", http::HeaderValue::from_static(""));
    }
    (sender, request)
}

/// Story: HPACK writes `via: ""` as one byte, of which a map of headers made seventy. Nobody counted headers over HTTP/2, and each of 128 requests on a
/// connection held 1800 of them until its body had come or half a minute had passed: strangers took the server's memory.
#[tokio::test]
async fn too_many_headers_are_refused_over_http2_as_well() {
    let (test, issuer) = start_http2(Limits { headers: 20, ..Limits::default() }).await;
    let mut sender = speak_http2(&test, &issuer).await;
    let (body, request) = begun(20);
    let answer = sender.send_request(request);
    drop(body);
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    // Before anything of its body came.
    let (_body, request) = begun(21);
    let refused = sender.send_request(request).await.unwrap();
    assert_eq!(refused.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert!(refused.into_body().collect().await.unwrap().to_bytes().is_empty());
    assert_eq!(test.service.seen.lock().len(), 1);
}

/// All connections together have twice a body, of which requests that wait for theirs have a quarter.
fn little_room() -> Limits {
    Limits { body_bytes: 256 << 10, all_bodies_bytes: 0, ..Limits::default() }
}

/// A request that waits for its body, and its answer to come.
type Waiting = (mpsc::Sender<Bytes>, JoinHandle<hyper::Result<http::Response<hyper::body::Incoming>>>);

/// Begins so many requests, of which some are refused. Returns those that wait, and the number of the others.
async fn begin(
    test: &Test,
    client: &mut SendRequest<Coming>,
    count: usize,
    begun: impl Fn() -> (mpsc::Sender<Bytes>, http::Request<Coming>),
) -> (Vec<Waiting>, usize) {
    let all: Vec<Waiting> =
        std::iter::repeat_with(&begun).take(count).map(|(body, request)| (body, tokio::spawn(client.send_request(request)))).collect();
    // Requests are taken in the order in which they come.
    let (body, last) = begun();
    drop(body);
    let _answered = client.send_request(last).await.unwrap();
    settle().await;
    let (refused, waiting): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, answer)| answer.is_finished());
    let refusals = refused.len();
    for (_body, answer) in refused {
        assert_eq!(answer.await.unwrap().unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    let seen = std::mem::take(&mut *test.service.seen.lock());
    let mut refused = seen.iter().filter(|request| request.body == RequestBody::NoRoom);
    assert!(refused.all(|request| request.uri == "/"), "nothing is kept of those");
    (waiting, refusals)
}

/// Sends the bodies, and all of them are answered.
async fn finish(waiting: Vec<Waiting>) {
    for (body, answer) in waiting {
        body.send(Bytes::from("at last")).await.unwrap();
        drop(body);
        let answer = answer.await.unwrap().unwrap();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(text.starts_with(b"POST https://localhost/") && text.ends_with(b" at last"), "{text:?}");
    }
}

/// Story: bodies of up to 64 KiB were not counted, as if a connection had one of them at a time. Over HTTP/2 it has 128, and their heads.
#[tokio::test]
async fn requests_of_one_connection_that_wait_for_their_bodies_share_its_room() {
    let (test, issuer) = start_http2(little_room()).await;
    let mut greedy = speak_http2(&test, &issuer).await;
    let (waiting, refused) = begin(&test, &mut greedy, 60, || begun(0)).await;
    assert!((16..=44).contains(&waiting.len()), "{} wait, {refused} are refused", waiting.len());
    finish(waiting).await;
    let (again, _) = begin(&test, &mut greedy, 16, || begun(0)).await;
    assert_eq!(again.len(), 16, "there is room again");
    finish(again).await;
}

/// Story: strangers' requests took all the room that connections have together. A client that had ten requests under way on its connection, as Terraform's
/// has, found room for three.
#[tokio::test]
async fn a_connection_has_room_for_a_dozen_small_requests_whatever_others_hold() {
    let (test, issuer) = start_http2(little_room()).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut greedy = speak_http2(&test, &issuer).await;
        let (waiting, refused) = begin(&test, &mut greedy, 80, || begun(0)).await;
        assert!(refused > 20, "{refused}");
        others.push((greedy, waiting));
    }
    let mut honest = speak_http2(&test, &issuer).await;
    let (waiting, _) = begin(&test, &mut honest, 12, || {
        let (body, mut request) = begun_at("/v1/aws/creds/deploy-to-production?ttl=15m", 0);
        let token = format!("hvs.{}", "x".repeat(90));
        for (name, value) in [("x-vault-token", token.as_str()), ("x-vault-request", "true"), ("x-vault-namespace", "team/a")] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        for (name, value) in
            [("user-agent", "Terraform/1.9.0 (+https://www.terraform.io) terraform-provider-vault/4.4.0"), ("accept-encoding", "gzip")]
        {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        (body, request)
    })
    .await;
    assert_eq!(waiting.len(), 12);
    finish(waiting).await;
    // Nor do requests that wait take the place of bodies and answers.
    let mut client = speak_http2(&test, &issuer).await;
    let (body, request) = begun(0);
    let answer = client.send_request(request);
    body.send(Bytes::from(vec![b'x'; 200 << 10])).await.unwrap();
    drop(body);
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.into_body().collect().await.unwrap().to_bytes().len() > 200 << 10);
}

/// Story: the answer to a path that is too long comes when its body has come, and until then it was held for nothing: 128 of them on a connection, of 60 KiB each.
#[tokio::test]
async fn long_paths_of_requests_that_wait_for_their_bodies_are_counted() {
    let (test, issuer) = start_http2(little_room()).await;
    let mut greedy = speak_http2(&test, &issuer).await;
    let long = format!("/{}", "x".repeat(50 << 10));
    let (waiting, refused) = begin(&test, &mut greedy, 10, || begun_at(&long, 0)).await;
    assert_eq!((waiting.len(), refused), (4, 6));
    finish(waiting).await;
}

/// A client that sends a byte each second of what it promised, at both ends of the promise.
#[tokio::test]
async fn slow_clients_are_cut_off_and_others_are_served_meanwhile() {
    let test = start(Limits::default()).await;
    let mut slow = Vec::new();
    for promise in ["GET /slow-head HTTP/1.1\r\nX-Long: ", "POST /slow-body HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"] {
        for _ in 0..50 {
            let mut stream = test.connect().await;
            stream.write_all(promise.as_bytes()).await.unwrap();
            slow.push(stream);
        }
    }
    for _ in 0..31 {
        settle().await;
        assert!(test.exchange(get_and_close("/")).await.starts_with("HTTP/1.1 200"), "everybody else is served");
        for stream in &mut slow {
            let _closed = stream.write_all(b"x").await;
        }
        test.clock.advance(Duration::from_secs(1));
    }
    settle().await;
    let (heads, bodies) = slow.split_at_mut(50);
    for stream in heads {
        assert_eq!(read_all(stream).await, "", "half a head is closed without an answer");
    }
    for stream in bodies {
        let answer = read_all(stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    let seen = test.service.seen.lock();
    let slow_bodies = seen.iter().filter(|request| request.body == RequestBody::TooSlow).count();
    assert_eq!(slow_bodies, 50, "each of them was told that its body did not come in time");
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let test = start(Limits { headers: 20, ..Limits::default() }).await;
    let with = |count| {
        let more: String = (0..count).map(|number| format!("X-{number}: 1\r\n")).collect();
        format!("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{more}\r\n")
    };
    assert!(test.exchange(with(18)).await.starts_with("HTTP/1.1 200"));
    assert!(test.exchange(with(19)).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_length_that_is_a_lie_harms_nobody() {
    let test = start(Limits { body_bytes: 1 << 20, ..Limits::default() }).await;
    // More than is allowed is refused at once; more than will come is waited for, but not for long.
    let huge = test.exchange("POST / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\nx").await;
    assert!(huge.is_empty() || huge.starts_with("HTTP/1.1 4"), "{huge}");
    let over = test.exchange("POST / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\nx").await;
    assert!(over.starts_with("HTTP/1.1 413"), "{over}");
    let mut short = test.connect().await;
    short.write_all(b"POST / HTTP/1.1\r\nContent-Length: 1048576\r\n\r\nx").await.unwrap();
    short.shutdown().await.unwrap();
    let _answer = read_all(&mut short).await;
    assert!(matches!(test.service.seen.lock().last().unwrap().body, RequestBody::Broken(_)));
    // What is sent beyond the length is the next request, and it is none.
    let smuggled = test.exchange("POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nxGARBAGE\r\n\r\n").await;
    assert_eq!((smuggled.matches("HTTP/1.1 200").count(), smuggled.matches("HTTP/1.1 400").count()), (1, 1), "{smuggled}");
    for both in ["Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "Content-Length: 3\r\nTransfer-Encoding: gzip\r\n\r\nabc"] {
        let answer = test.exchange(format!("POST / HTTP/1.1\r\n{both}")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{both:?}: {answer}");
    }
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_told_to_come_again() {
    let test = start(Limits { requests: 2, ..Limits::default() }).await;
    let mut running = Vec::new();
    for _ in 0..2 {
        let mut stream = test.connect().await;
        stream.write_all(get_and_close("/slow").as_bytes()).await.unwrap();
        running.push(stream);
    }
    test.started(2).await;
    assert!(test.exchange(get_and_close("/")).await.ends_with("no room"));
    // The turn of a client that went away is still taken: its request runs to its end.
    drop(running.pop());
    settle().await;
    assert!(test.exchange(get_and_close("/")).await.ends_with("no room"));
    test.service.gate.notify_waiters();
    settle().await;
    assert!(test.exchange(get_and_close("/")).await.starts_with("HTTP/1.1 200"));
    assert!(read_all(&mut running[0]).await.ends_with("at last"));
}

/// The "rapid reset" attack: a stream that is reset at once is over for HTTP/2, but its request runs on. Resets that come before the
/// server has looked at the stream end the connection; those that come after leave requests behind, and these are bounded.
#[tokio::test]
async fn a_flood_of_reset_streams_is_bounded_and_others_are_served_meanwhile() {
    let (test, issuer) = start_http2(Limits { streams: 8, ..Limits::default() }).await;
    for looked_at in [true, false] {
        let mut sender = speak_http2(&test, &issuer).await;
        let before = test.service.started.load(Ordering::SeqCst);
        for number in 1..=500 {
            if sender.ready().await.is_err() {
                break;
            }
            let request = http::Request::get("https://localhost/slow").body(Empty::<Bytes>::new()).unwrap();
            let answer = sender.send_request(request);
            // Sent, and taken back.
            tokio::select! {
                biased;
                _ = answer => {}
                () = async { if looked_at { test.started(before + number).await } else { settle().await } } => {}
            }
        }
        settle().await;
        let started = test.service.started.load(Ordering::SeqCst) - before;
        let running = started - test.service.seen.lock().len();
        assert!(running <= 8, "{running} requests of one connection run");
        assert!(started == 500 || !looked_at, "{started} of 500 started");
        let other = Client::of(&issuer).connect(&test).await.unwrap();
        assert!(super::tls::ask(other).await.starts_with("HTTP/1.1 200"), "another client is served");
        test.service.gate.notify_waiters();
        test.service.seen.lock().clear();
    }
}
