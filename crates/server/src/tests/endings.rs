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
