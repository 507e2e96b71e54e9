//! How a server ends, and how its clients do.

use super::*;

#[tokio::test]
async fn a_request_in_flight_is_finished_before_the_end() {
    let test = start(Limits::default()).await;
    let mut busy = test.connect().await;
    busy.write_all(get("/slow").as_bytes()).await.unwrap();
    let mut idle = test.connect().await;
    idle.write_all(get("/").as_bytes()).await.unwrap();
    read_answer(&mut idle).await;
    let mut parked = test.connect().await;
    test.started(2).await;
    let address = test.address;
    let ending = tokio::spawn(test.server.shutdown(Duration::from_secs(30)));
    assert_eq!(read_all(&mut idle).await, "", "idle connections end at once");
    assert_eq!(read_all(&mut parked).await, "", "and so do those that never spoke");
    assert!(TcpStream::connect(address).await.is_err(), "nobody is let in");
    assert!(!ending.is_finished());
    test.service.gate.notify_one();
    assert!(read_all(&mut busy).await.ends_with("at last"));
    assert_eq!(ending.await.unwrap(), 0);
}

#[tokio::test]
async fn what_outlasts_the_deadline_is_cut_off_and_counted() {
    let test = start(Limits::default()).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = test.connect().await;
        stream.write_all(get("/slow").as_bytes()).await.unwrap();
        streams.push(stream);
    }
    test.started(2).await;
    let ending = tokio::spawn(test.server.shutdown(Duration::from_secs(30)));
    while !ending.is_finished() {
        settle().await;
        test.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(ending.await.unwrap(), 2);
    for stream in &mut streams {
        assert_eq!(read_all(stream).await, "");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_its_request() {
    let test = start(Limits::default()).await;
    let mut stream = test.connect().await;
    stream.write_all(get("/slow").as_bytes()).await.unwrap();
    test.started(1).await;
    drop(stream);
    settle().await;
    assert!(!test.service.finished.load(Ordering::SeqCst));
    let ending = tokio::spawn(test.server.shutdown(Duration::from_secs(30)));
    settle().await;
    test.service.gate.notify_one();
    assert_eq!(ending.await.unwrap(), 0);
    assert!(test.service.finished.load(Ordering::SeqCst), "it was run to its end");
}

#[tokio::test]
async fn dropping_the_server_closes_its_port() {
    let test = start(Limits::default()).await;
    drop(test.server);
    settle().await;
    assert!(TcpStream::connect(test.address).await.is_err());
}

#[tokio::test]
async fn a_stream_goes_on_past_every_deadline_and_ends_soon_after_its_listener_left() {
    let test = start(Limits::default()).await;
    let mut listener = test.connect().await;
    listener.write_all(get("/endless").as_bytes()).await.unwrap();
    let mut head = [0; 1024];
    while !String::from_utf8_lossy(&head).contains("first") {
        assert!(listener.read(&mut head).await.unwrap() > 0);
    }
    for _ in 0..100 {
        test.clock.advance(Duration::from_secs(10));
        settle().await;
    }
    assert!(!test.service.finished.load(Ordering::SeqCst), "there is a listener");
    drop(listener);
    let gone = async {
        while !test.service.finished.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    };
    let ((), took) = test.advance_until(gone).await;
    assert!(took <= Duration::from_secs(10), "{took:?}");
}

/// Story: a body of which a byte came now and then held up every stop and restart for half a minute, with nobody let in meanwhile. So did half a head, and a
/// client of HTTP/2 that does not answer the goodbye.
#[tokio::test]
async fn what_has_not_come_holds_up_no_end() {
    let test = start(Limits::default()).await;
    let mut clients = Vec::new();
    for half in [
        "GET /half",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n{",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let mut stream = test.connect().await;
        stream.write_all(half.as_bytes()).await.unwrap();
        clients.push(stream);
    }
    settle().await;
    let clock = test.clock.clone();
    assert_eq!(ended_after(&clock, test.server).await, (0, 2));
    let (test, issuer) = super::limits::start_http2(Limits::default()).await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        let mut client = super::http2::client(&test, &issuer).await;
        client.ask(1, "/").await;
        client.read("GET https://localhost/ ".len()).await;
        silent.push(client);
    }
    let clock = test.clock.clone();
    assert_eq!(ended_after(&clock, test.server).await, (0, 2));
}

/// Stops the server: how many connections were cut off, and after how many seconds it had ended.
async fn ended_after(clock: &SimClock, server: Server) -> (usize, u64) {
    let began = clock.elapsed();
    let ending = tokio::spawn(server.shutdown(Duration::from_secs(30)));
    settle().await;
    while !ending.is_finished() {
        clock.advance(Duration::from_secs(1));
        settle().await;
    }
    (ending.await.unwrap(), clock.elapsed().saturating_sub(began).as_secs())
}

/// A request that is worked on is waited for, also when another one of its connection has not come.
#[tokio::test]
async fn what_is_being_answered_is_waited_for_though_a_body_beside_it_is_not() {
    let (test, issuer) = super::limits::start_http2(Limits::default()).await;
    let mut client = super::http2::client(&test, &issuer).await;
    client.ask(1, "/slow").await;
    test.started(1).await;
    // Another one, whose body is to come.
    client.begin_post(3).await;
    settle().await;
    let (clock, service) = (test.clock.clone(), Arc::clone(&test.service));
    let ending = tokio::spawn(test.server.shutdown(Duration::from_secs(30)));
    for _ in 0..10 {
        settle().await;
        clock.advance(Duration::from_secs(1));
    }
    assert!(!ending.is_finished());
    service.gate.notify_one();
    client.read("at last".len()).await;
    for _ in 0..2 {
        settle().await;
        assert!(!ending.is_finished(), "the client has a moment to take it");
        clock.advance(Duration::from_secs(1));
    }
    settle().await;
    assert!(ending.is_finished());
}

/// Story: a body that had not come cut its connection two seconds after the stop, and the answer that its client was taking beside it.
#[tokio::test]
async fn what_is_being_taken_is_waited_for_though_a_body_beside_it_is_not() {
    let (test, issuer) = super::limits::start_http2(Limits::default()).await;
    let mut client = super::http2::client(&test, &issuer).await;
    client.ask(1, "/large").await;
    test.started(1).await;
    client.begin_post(3).await;
    settle().await;
    let clock = test.clock.clone();
    let ending = tokio::spawn(test.server.shutdown(Duration::from_secs(30)));
    settle().await;
    // All connections begin with a window of 65,535 bytes.
    let mut bytes = (1 << 16) - 1;
    for _ in 0..8 {
        client.read(bytes).await;
        // Longer than the client would have if it took nothing.
        clock.advance(Duration::from_secs(3));
        settle().await;
        assert!(!ending.is_finished());
        client.grant(1, 1 << 20).await;
        bytes = 1 << 20;
    }
    client.read((1 << 20) - (1 << 16) + 1).await;
    for _ in 0..2 {
        clock.advance(Duration::from_secs(1));
        settle().await;
    }
    assert_eq!(ending.await.unwrap(), 0);
}
