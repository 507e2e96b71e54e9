//! Whether an answer reached its client.

use daypass_base::{Delivery, Fate};

use super::*;

/// Asks for `/receipt`, whose handler waits for the test, and gives back who waits to hear of its answer.
async fn asked(test: &Test, request: &str) -> (TcpStream, Delivery) {
    let mut stream = test.connect().await;
    let before = test.service.deliveries.lock().len();
    stream.write_all(request.as_bytes()).await.unwrap();
    while test.service.deliveries.lock().len() <= before {
        tokio::task::yield_now().await;
    }
    let delivery = test.service.deliveries.lock().last().unwrap().clone();
    (stream, delivery)
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
    test.started(1).await;
    settle().await;
    let delivery = test.service.deliveries.lock().last().unwrap().clone();
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
