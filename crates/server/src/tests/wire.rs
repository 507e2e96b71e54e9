//! Requests as clients write them: kept alive, slow, odd and broken.

use proptest::prelude::*;

use super::*;

#[tokio::test]
async fn a_connection_is_kept_and_taken_up_again_after_it_was_parked() {
    let test = start(Limits::default()).await;
    let mut stream = test.connect().await;
    for round in 0..5 {
        stream.write_all(get(&format!("/{round}")).as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(&format!("GET /{round} ")), "{answer}");
        if round > 1 {
            for _ in 0..10 {
                test.clock.advance(Duration::from_secs(1));
                settle().await;
            }
        }
    }
    assert_eq!(test.service.started.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn requests_sent_at_once_are_answered_in_order() {
    let test = start(Limits::default()).await;
    let answer = test.exchange(get("/1") + &get("/2") + &get_and_close("/3")).await;
    let places: Vec<_> = ["GET /1", "GET /2", "GET /3"].iter().map(|text| answer.find(text).unwrap()).collect();
    assert!(places.is_sorted(), "{answer}");
}

#[tokio::test]
async fn half_a_request_is_cut_after_the_header_timeout() {
    let test = start(Limits::default()).await;
    let mut stream = test.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    settle().await;
    let begin = test.clock.elapsed();
    // One more byte each second: a slow trickle buys no time.
    let mut seconds = 0;
    loop {
        test.clock.advance(Duration::from_secs(1));
        settle().await;
        seconds += 1;
        let mut nothing = [0];
        tokio::select! {
            biased;
            read = stream.read(&mut nothing) => break assert_eq!(read.unwrap_or(0), 0, "closed without an answer"),
            () = settle() => {}
        }
        let _closed = stream.write_all(b"o").await;
        assert!(seconds < 100, "never cut");
    }
    assert!(test.clock.elapsed().saturating_sub(begin) >= Duration::from_secs(9), "cut too early");
    assert_eq!(test.service.started.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn silent_connections_are_cut_each_after_its_own_time() {
    let test = start(Limits::default()).await;
    let mut silent = test.connect().await;
    settle().await;
    let (_, took) = test.advance_until(read_all(&mut silent)).await;
    assert!(took >= Duration::from_secs(10) && took < Duration::from_mins(1), "no first request: {took:?}");
    let mut idle = test.connect().await;
    idle.write_all(get("/").as_bytes()).await.unwrap();
    read_answer(&mut idle).await;
    let (_, took) = test.advance_until(read_all(&mut idle)).await;
    assert!(took >= Duration::from_secs(299), "no second request: {took:?}");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_cut() {
    let test = start(Limits::default()).await;
    let mut stream = test.connect().await;
    stream.write_all(get("/large").as_bytes()).await.unwrap();
    test.started(1).await;
    for _ in 0..320 {
        settle().await;
        test.clock.advance(Duration::from_secs(1));
    }
    settle().await;
    let (answer, _) = test.advance_until(read_all(&mut stream)).await;
    assert!(answer.len() < 8 * 1024 * 1024, "{} bytes", answer.len());
}

#[tokio::test]
async fn odd_methods_and_paths_reach_the_service_as_sent() {
    let test = start(Limits::default()).await;
    for method in ["LIST", "PATCH", "PUT", "DELETE", "PROPFIND"] {
        let request = format!("{method} /v1/sys/mounts HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        assert!(test.exchange(request).await.contains(&format!("{method} /v1/sys/mounts")));
    }
    for path in ["/v1/a%2Fb", "/v1/%ff%00", "/v1/a//b/../c", "/v1/secret/käse", "/v1/a?list=true&x=%zz", "/v1/{{a}}", "/v1/a|b"] {
        assert!(test.exchange(get_and_close(path)).await.contains(&format!("GET {path} ")), "{path}");
    }
    let raw = [b"GET /v1/\xff\xfe HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".as_slice()].concat();
    assert!(test.exchange(raw).await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn head_has_the_length_but_no_body() {
    let test = start(Limits::default()).await;
    let answer = test.exchange("HEAD /abc HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
    assert!(answer.contains("content-length: 10\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    let empty = test.exchange(get_and_close("/empty")).await;
    assert!(empty.starts_with("HTTP/1.1 204") && empty.ends_with("\r\n\r\n"), "{empty}");
}

#[tokio::test]
async fn a_stream_arrives_whole() {
    let test = start(Limits::default()).await;
    let answer = test.exchange(get_and_close("/stream")).await;
    assert!(answer.contains("transfer-encoding: chunked") && answer.contains("one ") && answer.contains("three"), "{answer}");
    assert!(answer.ends_with("0\r\n\r\n"), "{answer}");
}

/// Story: a snapshot that was given up looked whole to every client: a job that kept it had a backup that was none.
#[tokio::test]
async fn a_stream_that_is_broken_off_has_no_end() {
    let test = start(Limits::default()).await;
    let answer = test.exchange(get_and_close("/broken")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn long_headers_are_refused() {
    let test = start(Limits { header_bytes: 16 * 1024, ..Limits::default() }).await;
    let long = |bytes| format!("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nX-Long: {}\r\n\r\n", "x".repeat(bytes));
    assert!(test.exchange(long(12 * 1024)).await.starts_with("HTTP/1.1 200"));
    assert!(test.exchange(long(20 * 1024)).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_next_request_is_served() {
    let test = start(Limits::default()).await;
    assert!(test.exchange(get_and_close("/panic")).await.starts_with("HTTP/1.1 500"));
    assert!(test.exchange(get_and_close("/")).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_that_closes_its_sending_half_gets_its_answer() {
    let test = start(Limits::default()).await;
    let mut stream = test.connect().await;
    stream.write_all(get("/slow").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    test.started(1).await;
    settle().await;
    test.service.gate.notify_one();
    assert!(read_all(&mut stream).await.ends_with("at last"));
}

#[tokio::test]
async fn a_unix_socket_is_served() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("daypass.sock");
    let listener = Listener::unix(&path, listener::UnixAccess::default()).await.unwrap();
    let test = serve(Bound { listener, tls: None, limits: Limits::default() }, SocketAddr::from(([0, 0, 0, 0], 0)));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(get_and_close("/over/unix").as_bytes()).await.unwrap();
    assert!(read_all(&mut stream).await.contains("GET /over/unix"));
    assert_eq!(test.service.seen.lock()[0].peer, Peer::Unix);
    assert_eq!(test.server.shutdown(Duration::ZERO).await, 0);
    assert!(!path.exists());
}

/// Sends `bytes` in one go, and returns what came back until the server closed the connection, and how long that took on the clock.
async fn until_closed(test: &Test, bytes: &[u8]) -> (String, Duration) {
    let mut stream = test.connect().await;
    stream.write_all(bytes).await.unwrap();
    test.advance_until(read_all(&mut stream)).await
}

/// Story: half a head that came together with the request before it did not count as read. The connection stayed idle, was parked with
/// those bytes, woke at once because of them, and so for ever, without a pause in which its thread could have served anybody else.
#[tokio::test]
async fn half_a_head_behind_a_request_is_cut_after_the_header_timeout() {
    let test = start(Limits::default()).await;
    let post = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n{}";
    for half in ["G", "GET / HTTP/1.1\r\nHo", "\r", "\r\n\r\nG", "PRI * HTTP/"] {
        for whole in [get("/"), post.to_owned(), get("/") + post] {
            let (answer, took) = until_closed(&test, (whole + half).as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("HTTP/1.1 4"), "{half:?}: {answer}");
            assert!(took >= Duration::from_secs(10) && took < Duration::from_mins(1), "{half:?}: {took:?}");
        }
    }
    assert!(test.exchange(get_and_close("/")).await.starts_with("HTTP/1.1 200"), "everybody else is served");
}

#[tokio::test]
async fn half_a_head_behind_a_request_may_become_a_whole_one() {
    let test = start(Limits::default()).await;
    let mut stream = test.connect().await;
    stream.write_all((get("/1") + "GET /2 HT").as_bytes()).await.unwrap();
    assert!(read_answer(&mut stream).await.ends_with("GET /1 "));
    for piece in ["TP/1.1\r\nHo", "st: test\r\n", "\r\nGET /3", " HTTP/1.1\r\n\r\n"] {
        for _ in 0..4 {
            settle().await;
            test.clock.advance(Duration::from_millis(500));
        }
        stream.write_all(piece.as_bytes()).await.unwrap();
    }
    assert!(read_answer(&mut stream).await.ends_with("GET /2 "));
    assert!(read_answer(&mut stream).await.ends_with("GET /3 "));
}

/// RFC 9112, 2.2: a server ignores an empty line where a request should begin; old clients send one behind a body.
#[tokio::test]
async fn empty_lines_behind_a_request_leave_a_connection_as_idle_as_it_was() {
    let test = start(Limits::default()).await;
    let post = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n{}";
    for lines in ["\r\n", "\n", "\r\n\r\n\n"] {
        let (answer, took) = until_closed(&test, format!("{post}{lines}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("HTTP/1.1 4"), "{lines:?}: {answer}");
        assert!(took >= Duration::from_secs(299) && took < Duration::from_secs(310), "{lines:?}: {took:?}");
        let mut stream = test.connect().await;
        stream.write_all(post.as_bytes()).await.unwrap();
        assert!(read_answer(&mut stream).await.ends_with("POST / {}"));
        for _ in 0..10 {
            // In a packet of their own, before and after parking.
            stream.write_all(lines.as_bytes()).await.unwrap();
            settle().await;
            test.clock.advance(Duration::from_secs(5));
        }
        stream.write_all((lines.to_owned() + &get("/next")).as_bytes()).await.unwrap();
        assert!(read_answer(&mut stream).await.ends_with("GET /next "), "{lines:?}");
        let begin = test.clock.elapsed();
        let idle = async {
            loop {
                settle().await;
                test.clock.advance(Duration::from_secs(5));
                if stream.write_all(lines.as_bytes()).await.is_err() {
                    return test.clock.elapsed().saturating_sub(begin);
                }
            }
        };
        assert!(idle.await < Duration::from_secs(320), "empty lines buy no time");
    }
}

/// What follows a request in the same packet, in every way that a client may then fall silent or go.
#[tokio::test]
async fn leftovers_end_with_their_client_and_with_the_server() {
    let test = start(Limits::default()).await;
    for leftover in ["", "\r\n", "G", "\r\nG", "GARBAGE\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut half_closed = test.connect().await;
        half_closed.write_all((get("/") + leftover).as_bytes()).await.unwrap();
        half_closed.shutdown().await.unwrap();
        assert!(read_all(&mut half_closed).await.starts_with("HTTP/1.1 200"), "{leftover:?}");
        for parked in [false, true] {
            let mut gone = test.connect().await;
            gone.write_all((get("/") + leftover).as_bytes()).await.unwrap();
            read_answer(&mut gone).await;
            if parked {
                test.clock.advance(Duration::from_secs(1));
                settle().await;
            }
        }
        let mut slow = test.connect().await;
        slow.write_all((get("/slow") + leftover).as_bytes()).await.unwrap();
        let count = test.service.started.load(Ordering::SeqCst);
        test.started(count).await;
        settle().await;
        test.service.gate.notify_one();
        assert!(read_answer(&mut slow).await.ends_with("at last"), "{leftover:?}");
    }
    let mut left = Vec::new();
    for leftover in ["", "\r\n", "G"] {
        let mut stream = test.connect().await;
        stream.write_all((get("/") + leftover).as_bytes()).await.unwrap();
        read_answer(&mut stream).await;
        left.push(stream);
    }
    test.clock.advance(Duration::from_secs(1));
    settle().await;
    let ending = tokio::spawn(test.server.shutdown(Duration::from_secs(30)));
    while !ending.is_finished() {
        settle().await;
        test.clock.advance(Duration::from_secs(1));
    }
    for stream in &mut left {
        assert_eq!(read_all(stream).await, "");
    }
    assert_eq!(ending.await.unwrap(), 0, "half a head is cut before the server's grace ends");
}

/// Bytes that look a little like HTTP.
fn nonsense() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        Just(b"GET / HTTP/1.1\r\n".to_vec()),
        Just(b"POST /x HTTP/1.1\r\nHost: a\r\n".to_vec()),
        Just(b"Content-Length: 99999999999999999999\r\n".to_vec()),
        Just(b"Content-Length: 5\r\n".to_vec()),
        Just(b"Content-Length: -1\r\n".to_vec()),
        Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        Just(b"Expect: 100-continue\r\n".to_vec()),
        Just(b"fffffffffffffffff\r\n".to_vec()),
        Just(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\r\n\r\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..64),
    ];
    prop::collection::vec(pieces, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nonsense_never_stops_the_server(bytes in nonsense()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let test = start(Limits { linger: Duration::ZERO, ..Limits::default() }).await;
            let mut stream = test.connect().await;
            let _closed_early = stream.write_all(&bytes).await;
            let _closed_early = stream.shutdown().await;
            let (answer, _) = test.advance_until(read_all(&mut stream)).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1."), "{answer}");
            assert!(test.exchange(get_and_close("/")).await.starts_with("HTTP/1.1 200"));
        });
    }

    #[test]
    fn nonsense_behind_a_request_never_stops_the_server(bytes in nonsense(), parked in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let limits = Limits { linger: Duration::ZERO, idle_timeout: Duration::from_mins(1), ..Limits::default() };
            let test = start(limits).await;
            let mut stream = test.connect().await;
            stream.write_all(&[get("/").as_bytes(), &bytes].concat()).await.unwrap();
            if parked {
                read_answer(&mut stream).await;
                test.clock.advance(Duration::from_secs(1));
                settle().await;
                let _closed_early = stream.write_all(&bytes).await;
            }
            // It stays open and silent: the server ends it.
            let (_, took) = test.advance_until(read_all(&mut stream)).await;
            assert!(took <= Duration::from_secs(100), "{took:?}");
            assert!(test.exchange(get_and_close("/")).await.starts_with("HTTP/1.1 200"));
        });
    }
}
