//! Whether an answer reached its client.

use daypass_base::{Delivery, Fate};

use super::*;

/// Asks for `/receipt`, whose handler waits for the test, and gives back who waits to hear of its answer.
async fn asked(test: &Test, request: &str) -> (TcpStream, Delivery) {
    let mut stream = test.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    (stream, started(test).await)
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
    // Who asks for something else on the same connection has read the answer.
    let (mut asks, delivery) = asked(&test, &get("/receipt")).await;
    test.service.gate.notify_one();
    read_answer(&mut asks).await;
    asks.write_all(get("/").as_bytes()).await.unwrap();
    read_answer(&mut asks).await;
    assert_eq!(delivery.known().await, Fate::Delivered, "without a wait");
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
    let folder = tempfile::tempdir().unwrap();
    let issuer = tls::Issuer::new();
    issuer.write_pair(folder.path());
    let test = tls::start_tls(&Reloader::load(tls::files(folder.path())).unwrap()).await;
    let mut stream = tls::Client::of(&issuer).connect(&test).await.unwrap();
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

    let issuer = tls::Issuer::new();
    issuer.write_pair(folder.path());
    let test = tls::start_tls(&Reloader::load(tls::files(folder.path())).unwrap()).await;
    let mut stream = tls::Client::of(&issuer).connect(&test).await.unwrap();
    stream.write_all(get("/receipt").as_bytes()).await.unwrap();
    let delivery = started(&test).await;
    test.service.gate.notify_one();
    until_parked(&test).await;
    // Without TLS's goodbye, and with the answer unread.
    drop(stream);
    assert_eq!(test.advance_until(delivery.known()).await.0, Fate::Lost, "TLS");
}
