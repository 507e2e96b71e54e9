//! Clients that want too much: each is held to its limit, and nobody else notices.

use hyper_util::rt::{TokioExecutor, TokioIo};

use super::tls::{Client, Issuer, files};
use super::*;

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
    let root = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    issuer.write_pair(root.path());
    let listener = Listener::tcp(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.tcp_address().unwrap();
    let limits = Limits { streams: 8, ..Limits::default() };
    let test = serve(Bound { listener, tls: Some(Reloader::load(files(root.path())).unwrap()), limits }, address);
    for looked_at in [true, false] {
        let attacker = Client { protocols: &[b"h2"], ..Client::of(&issuer) }.connect(&test).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(attacker)).await.unwrap();
        drop(tokio::spawn(connection));
        let before = test.service.started.load(Ordering::SeqCst);
        for number in 1..=500 {
            if sender.ready().await.is_err() {
                break;
            }
            let request = http::Request::get("https://localhost/slow").body(http_body_util::Empty::<Bytes>::new()).unwrap();
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
