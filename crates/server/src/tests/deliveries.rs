//! Whether an answer reached its client.

use daypass_base::{Delivery, Fate};

use super::http2::Http2;
use super::*;

/// Asks for `/receipt`, whose handler waits for the test, and gives back who waits to hear of its answer.
async fn asked(test: &Test, request: &str) -> (TcpStream, Delivery) {
    let mut stream = test.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    (stream, started(test).await)
}

/// A server with TLS, and a client of it that speaks these protocols.
async fn over_tls(protocols: &[&[u8]]) -> (Test, tokio_rustls::client::TlsStream<TcpStream>) {
    let folder = tempfile::tempdir().unwrap();
    let issuer = tls::Issuer::new();
    issuer.write_pair(folder.path());
    let test = tls::start_tls(&Reloader::load(tls::files(folder.path())).unwrap()).await;
    let stream = tls::Client { protocols, ..tls::Client::of(&issuer) }.connect(&test).await.unwrap();
    (test, stream)
}

/// Waits until the handler of `/receipt` runs. Each call gives a delivery that no call before gave.
async fn started(test: &Test) -> Delivery {
    loop {
        if let Some(delivery) = test.service.deliveries.lock().pop() {
            return delivery;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_answer_that_the_client_takes_in_is_delivered_whether_it_goes_on_or_closes() {
    let test = start(Limits::default()).await;
    let (mut stays, delivery) = asked(&test, &get("/receipt")).await;
    test.service.gate.notify_one();
    assert!(read_answer(&mut stays).await.ends_with("keys"));
    assert_eq!(delivery.fate(), Fate::OnItsWay, "it is looked at a moment later");
    assert_eq!(test.advance_until(delivery.known()).await.0, Fate::Delivered);
    let (mut asks, delivery) = asked(&test, &get("/receipt")).await;
    test.service.gate.notify_one();
    read_answer(&mut asks).await;
    asks.write_all(get("/").as_bytes()).await.unwrap();
    read_answer(&mut asks).await;
    assert_eq!(test.advance_until(delivery.known()).await.0, Fate::Delivered);
    // Who closes on the same machine, and has left nothing unread, has read the answer.
    let (mut closes, delivery) = asked(&test, &get("/receipt")).await;
    test.service.gate.notify_one();
    read_answer(&mut closes).await;
    drop(closes);
    settle().await;
    test.clock.advance(Duration::from_millis(10));
    assert_eq!(delivery.known().await, Fate::Delivered, "with hardly a wait");
    let (mut closes, delivery) = asked(&test, &get_and_close("/receipt")).await;
    test.service.gate.notify_one();
    assert!(test.advance_until(read_all(&mut closes)).await.0.ends_with("keys"));
    drop(closes);
    assert_eq!(test.advance_until(delivery.known()).await.0, Fate::Delivered);
    // A client that has said all it has to say still reads.
    let (mut listens, delivery) = asked(&test, &get("/receipt")).await;
    listens.shutdown().await.unwrap();
    settle().await;
    test.service.gate.notify_one();
    assert!(test.advance_until(read_all(&mut listens)).await.0.ends_with("keys"));
    assert_eq!(test.advance_until(delivery.known()).await.0, Fate::Delivered);
}

/// TLS says goodbye: to a client that has closed already that brings a reset, which says nothing about the answer.
#[tokio::test]
async fn an_answer_over_tls_is_delivered_to_a_client_that_closes_at_once() {
    let (test, mut stream) = over_tls(&[]).await;
    stream.write_all(get("/receipt").as_bytes()).await.unwrap();
    let delivery = started(&test).await;
    test.service.gate.notify_one();
    assert!(read_answer(&mut stream).await.ends_with("keys"));
    drop(stream);
    settle().await;
    assert_eq!(test.advance_until(delivery.known()).await.0, Fate::Delivered);
}

/// Story: a client hung up two milliseconds after its request. Its socket still took the answer, so the server believed that somebody had it.
#[tokio::test]
async fn an_answer_for_a_client_that_has_hung_up_is_lost_though_its_socket_takes_it() {
    let test = start(Limits::default()).await;
    let (stream, delivery) = asked(&test, &get("/receipt")).await;
    drop(stream);
    settle().await;
    test.service.gate.notify_one();
    assert_eq!(test.advance_until(delivery.known()).await.0, Fate::Lost);
    // With a reset in place of a goodbye.
    let (stream, delivery) = asked(&test, &get("/receipt")).await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    settle().await;
    test.service.gate.notify_one();
    assert_eq!(test.advance_until(delivery.known()).await.0, Fate::Lost);
    // One that dies with the answer in its machine's hands.
    let (stream, delivery) = asked(&test, &get("/receipt")).await;
    test.service.gate.notify_one();
    stream.readable().await.unwrap();
    settle().await;
    assert_eq!(delivery.fate(), Fate::OnItsWay);
    drop(stream);
    assert_eq!(test.advance_until(delivery.known()).await.0, Fate::Lost);
    assert_eq!(test.server.shutdown(Duration::from_secs(30)).await, 0);
}

/// Long enough for an idle connection to be parked, and not for an answer to be given up.
async fn until_parked(test: &Test) {
    for _ in 0..2 {
        settle().await;
        test.clock.advance(Limits::default().park_after);
    }
    settle().await;
}

/// Story: a tenth of a second after such an answer its connection was parked. Whoever waited there for its next byte took the reset of a client that
/// died from the socket and threw it away, so the answer counted as delivered, and nobody could open the server any more.
#[tokio::test]
async fn an_answer_for_a_client_that_dies_when_its_connection_is_parked_is_lost() {
    let test = start(Limits::default()).await;
    let (stream, delivery) = asked(&test, &get("/receipt")).await;
    test.service.gate.notify_one();
    stream.readable().await.unwrap();
    until_parked(&test).await;
    drop(stream);
    assert_eq!(test.advance_until(delivery.known()).await.0, Fate::Lost, "TCP");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("daypass.sock");
    let listener = Listener::unix(&path, listener::UnixAccess::default()).await.unwrap();
    let test = serve(Bound { listener, tls: None, limits: Limits::default() }, SocketAddr::from(([0, 0, 0, 0], 0)));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(get("/receipt").as_bytes()).await.unwrap();
    let delivery = started(&test).await;
    test.service.gate.notify_one();
    stream.readable().await.unwrap();
    until_parked(&test).await;
    drop(stream);
    assert_eq!(test.advance_until(delivery.known()).await.0, Fate::Lost, "unix");

    let (test, mut stream) = over_tls(&[]).await;
    stream.write_all(get("/receipt").as_bytes()).await.unwrap();
    let delivery = started(&test).await;
    test.service.gate.notify_one();
    until_parked(&test).await;
    // Without TLS's goodbye, and with the answer unread.
    drop(stream);
    assert_eq!(test.advance_until(delivery.known()).await.0, Fate::Lost, "TLS");
}

/// Story: a client sent its next request, or closed its sending half, before the answer was there, and died without having read it. What it had
/// said was taken for its word that it has the answer.
#[tokio::test]
async fn what_a_client_said_before_the_answer_does_not_say_that_it_has_it() {
    let test = start(Limits::default()).await;
    let (mut stream, pipelined) = asked(&test, &get("/receipt")).await;
    stream.write_all(get("/").as_bytes()).await.unwrap();
    settle().await;
    test.service.gate.notify_one();
    test.started(2).await;
    until_parked(&test).await;
    assert_eq!(pipelined.fate(), Fate::OnItsWay);
    drop(stream);
    assert_eq!(test.advance_until(pipelined.known()).await.0, Fate::Lost);

    let (mut stream, half_closed) = asked(&test, &get("/receipt")).await;
    stream.shutdown().await.unwrap();
    settle().await;
    test.service.gate.notify_one();
    stream.readable().await.unwrap();
    until_parked(&test).await;
    assert_eq!(half_closed.fate(), Fate::OnItsWay);
    drop(stream);
    assert_eq!(test.advance_until(half_closed.known()).await.0, Fate::Lost);
}

/// Story: a server was restarted a second after a rekey. Nobody waited for what became of the answer, so the old shares were back.
#[tokio::test]
async fn the_end_of_the_server_waits_for_what_becomes_of_an_answer() {
    let test = start(Limits::default()).await;
    let (mut stays, delivery) = asked(&test, &get("/receipt")).await;
    test.service.gate.notify_one();
    read_answer(&mut stays).await;
    let ending = tokio::spawn(test.server.shutdown(Duration::from_secs(30)));
    while !ending.is_finished() {
        settle().await;
        test.clock.advance(Duration::from_millis(500));
    }
    assert_eq!((ending.await.unwrap(), delivery.fate()), (0, Fate::Delivered));
}

/// Asks for `/receipt`, whose answer is four bytes long, over HTTP/2, and grants `window` bytes of it.
async fn asked_over_http2(window: u8) -> (Test, Http2, Delivery) {
    let (test, stream) = over_tls(&[b"h2"]).await;
    let mut client = Http2::speak(stream, u32::from(window)).await;
    client.ask(1, "/receipt").await;
    let delivery = started(&test).await;
    test.service.gate.notify_one();
    (test, client, delivery)
}

#[tokio::test]
async fn an_answer_over_http2_is_delivered_to_a_client_that_stays_and_to_one_that_closes() {
    for (window, closes) in [(4, false), (4, true), (255, false), (255, true)] {
        let (test, mut client, delivery) = asked_over_http2(window).await;
        client.read(4).await;
        let stays = (!closes).then_some(client);
        assert_eq!(test.advance_until(delivery.known()).await.0, Fate::Delivered, "{window} {closes}");
        drop(stays);
    }
}

/// Story: over HTTP/2 an answer waited for the client's window, and the flush that sent its head counted for all of it.
#[tokio::test]
async fn an_answer_over_http2_that_waits_for_the_window_of_its_client_is_not_delivered() {
    for window in [0, 1, 3] {
        for gives_up in [true, false] {
            let (test, mut client, delivery) = asked_over_http2(window).await;
            client.read(usize::from(window)).await;
            for _ in 0..20 {
                test.clock.advance(Duration::from_secs(1));
                settle().await;
            }
            assert_eq!(delivery.fate(), Fate::OnItsWay, "{window}");
            if gives_up {
                client.give_up(1).await;
                assert_eq!(delivery.known().await, Fate::Lost, "{window}");
            } else if window > 0 {
                // The window opens at last.
                client.send(8, 0, 1, &[0, 0, 0, 4]).await;
                client.read(4 - usize::from(window)).await;
                assert_eq!(test.advance_until(delivery.known()).await.0, Fate::Delivered, "{window}");
            } else {
                drop(client);
                assert_eq!(test.advance_until(delivery.known()).await.0, Fate::Lost);
            }
        }
    }
}

/// Story: a proxy sends the requests of all its clients over one connection. When one of them gave its own up, the answer to another counted as lost.
#[tokio::test]
async fn what_becomes_of_a_later_stream_says_nothing_about_the_answer() {
    let (test, mut client, delivery) = asked_over_http2(255).await;
    client.read(4).await;
    client.ask(3, "/").await;
    client.give_up(3).await;
    assert_eq!(test.advance_until(delivery.known()).await.0, Fate::Delivered);
}

#[tokio::test]
async fn an_answer_over_http2_that_its_client_gives_up_while_it_is_on_its_way_is_lost() {
    let (test, mut client, delivery) = asked_over_http2(255).await;
    client.read(4).await;
    assert_eq!(delivery.fate(), Fate::OnItsWay);
    client.give_up(1).await;
    assert_eq!(test.advance_until(delivery.known()).await.0, Fate::Lost);
    let (test, client, delivery) = asked_over_http2(255).await;
    settle().await;
    drop(client);
    assert_eq!(test.advance_until(delivery.known()).await.0, Fate::Lost, "it dies with all of it unread");
}
