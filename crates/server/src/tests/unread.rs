//! Clients that do not read their answers: what these take is bounded, and the time that they have for it.

use http_body_util::{BodyExt, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::http2::Http2;
use super::limits::start_http2;
use super::tls::{Client, Issuer};
use super::*;

/// `/large` has 8 MiB: there is room for one of them, and not for two.
fn room_for_one() -> Limits {
    Limits { body_bytes: 5 << 20, all_bodies_bytes: 0, ..Limits::default() }
}

/// A client on a connection of its own that grants so many bytes of each answer, and more as it reads.
async fn speak(test: &Test, issuer: &Issuer, window: u32) -> SendRequest<Empty<Bytes>> {
    let stream = Client { protocols: &[b"h2"], ..Client::of(issuer) }.connect(test).await.unwrap();
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.initial_stream_window_size(window).handshake(TokioIo::new(stream)).await.unwrap();
    drop(tokio::spawn(connection));
    sender
}

async fn ask(sender: &mut SendRequest<Empty<Bytes>>, path: &str) -> (u16, Incoming) {
    sender.ready().await.unwrap();
    let request = http::Request::get(format!("https://localhost{path}")).body(Empty::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    (answer.status().as_u16(), answer.into_body())
}

async fn whole(answer: Incoming) -> Bytes {
    answer.collect().await.unwrap().to_bytes()
}

/// Story: a client granted no bytes, asked for large answers on a hundred streams and left them there. Each handler had ended and given back what
/// counted it, so nothing bounded the answers: one connection took four hundred MB.
#[tokio::test]
async fn answers_over_http2_that_wait_for_their_client_share_the_room() {
    let (test, issuer) = start_http2(room_for_one()).await;
    for window in [0, 1, 70_000] {
        let mut greedy = speak(&test, &issuer, window).await;
        let (status, held) = ask(&mut greedy, "/large").await;
        assert_eq!(status, 200);
        settle().await;
        let mut other = speak(&test, &issuer, 1 << 20).await;
        let (status, refused) = ask(&mut other, "/large").await;
        assert_eq!((status, whole(refused).await), (503, Bytes::from(r#"{"errors":["overloaded, try again later"]}"#)));
        let (status, small) = ask(&mut other, "/small").await;
        assert_eq!(
            (status, whole(small).await),
            (200, Bytes::from("GET https://localhost/small ")),
            "a small one has its room from the start"
        );
        if window > 1 {
            assert_eq!(whole(held).await.len(), 8 << 20, "it comes when it is wanted");
        } else {
            drop(held);
        }
        settle().await;
        let (status, answer) = ask(&mut other, "/large").await;
        assert_eq!((status, whole(answer).await.len()), (200, 8 << 20), "there is room again");
    }
}

/// Story: a byte was enough to have HTTP take an answer from us and keep it, so a small one counted as sent.
#[tokio::test]
async fn small_answers_that_wait_for_their_client_are_counted_as_well() {
    let (test, issuer) = start_http2(Limits { body_bytes: 64 << 10, all_bodies_bytes: 0, ..Limits::default() }).await;
    let mut greedy = speak(&test, &issuer, 1).await;
    let mut held = Vec::new();
    let mut refused = Vec::new();
    loop {
        let (status, answer) = ask(&mut greedy, "/small").await;
        settle().await;
        match status {
            200 => held.push(answer),
            // Where there is no room for words there are none.
            _ if answer.is_end_stream() => break,
            _ => refused.push(answer),
        }
        assert!(held.len() + refused.len() < 40, "nothing bounds them");
    }
    assert!(held.len() >= 16, "{}", held.len());
    let mut other = speak(&test, &issuer, 1).await;
    assert_eq!(ask(&mut other, "/small").await.0, 200, "what others took is not this connection's");
    for answer in held {
        assert_eq!(whole(answer).await, "GET https://localhost/small ");
    }
    for answer in refused {
        assert_eq!(whole(answer).await, "no room");
    }
    settle().await;
    assert_eq!(ask(&mut greedy, "/small").await.0, 200);
}

/// Ten thousand connections with an answer of thirty MB each are as bad as one with as many streams.
#[tokio::test]
async fn large_answers_over_http1_share_the_room_and_small_ones_need_none() {
    let test = start(room_for_one()).await;
    let mut greedy = test.connect().await;
    greedy.write_all(get("/large").as_bytes()).await.unwrap();
    test.started(1).await;
    settle().await;
    let refused = test.exchange(get_and_close("/large")).await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1\r\n"), "{refused}");
    assert!(refused.ends_with(r#"{"errors":["overloaded, try again later"]}"#), "{refused}");
    assert!(test.exchange(get_and_close("/small")).await.starts_with("HTTP/1.1 200"));
    assert!(read_answer(&mut greedy).await.len() > 8 << 20);
    settle().await;
    assert!(test.exchange(get_and_close("/large")).await.len() > 8 << 20, "there is room again");
}

/// Reads what comes until the server closes, for at most so many seconds of the clock, in each of which `each` may say something. Returns after how many it closed.
async fn closes_within(test: &Test, client: &mut Http2, seconds: u64, mut each: impl AsyncFnMut(&mut Http2, u64)) -> Option<u64> {
    for second in 1..=seconds {
        test.clock.advance(Duration::from_secs(1));
        settle().await;
        let mut some = [0; 4096];
        loop {
            tokio::select! {
                biased;
                read = client.0.read(&mut some) => if read.unwrap_or(0) == 0 { return Some(second) },
                () = settle() => break,
            }
        }
        each(client, second).await;
    }
    None
}

/// Story: a client that took nothing of its answers had all the time that it wanted: it sent a ping a minute, and whatever was written to it, the answer
/// to a ping too, was taken for a sign that it reads. A small request a minute would have served as well.
#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up_whatever_else_its_client_does() {
    for window in [0, 1] {
        for asks in [false, true] {
            let (test, issuer) = start_http2(room_for_one()).await;
            let stream = Client { protocols: &[b"h2"], ..Client::of(&issuer) }.connect(&test).await.unwrap();
            let mut client = Http2::speak(stream, window).await;
            client.ask(1, "/large").await;
            test.started(1).await;
            let mut stream = 1;
            let closed = closes_within(&test, &mut client, 400, async |client, second| {
                if second % 60 == 59 && asks {
                    stream += 2;
                    client.ask(stream, "/empty").await;
                } else if second % 60 == 59 {
                    client.send(6, 0, 0, &[0; 8]).await;
                }
            });
            let closed = closed.await;
            assert!(closed.is_some_and(|after| (299..=302).contains(&after)), "{window} {asks}: {closed:?}");
            let mut other = speak(&test, &issuer, 1 << 20).await;
            settle().await;
            let (status, answer) = ask(&mut other, "/large").await;
            assert_eq!((status, whole(answer).await.len()), (200, 8 << 20), "what it held is given back");
        }
    }
}

/// Reads an answer, and lets some time pass after each so many bytes. Returns how much it was when it ended or was broken off, and how long that took.
async fn read_slowly(test: &Test, answer: &mut Incoming, bytes: usize, pause: impl Fn(usize) -> u64) -> (usize, Duration) {
    let begin = test.clock.elapsed();
    let mut read = 0;
    while let Some(Ok(frame)) = answer.frame().await {
        let before = read / bytes;
        read += frame.into_data().map_or(0, |data| data.len());
        if read / bytes > before {
            settle().await;
            test.clock.advance(Duration::from_secs(pause(read / bytes)));
            settle().await;
        }
    }
    (read, test.clock.elapsed().saturating_sub(begin))
}

/// Some minutes may pass between two looks of a client that reads on.
#[tokio::test]
async fn a_client_that_reads_slowly_gets_all_of_its_answer() {
    let (test, issuer) = start_http2(Limits::default()).await;
    let mut sender = speak(&test, &issuer, 1 << 20).await;
    let (_, mut answer) = ask(&mut sender, "/large").await;
    let (read, took) = read_slowly(&test, &mut answer, 1 << 20, |mib| if mib == 3 { 250 } else { 20 }).await;
    assert_eq!((read, took.as_secs()), (8 << 20, 390));
}

/// Story: 64 KiB each five minutes were enough to have an answer of 8 MiB, and the room that all have together with it, for half a day.
#[tokio::test]
async fn an_answer_that_takes_the_room_of_all_has_to_be_read_within_minutes() {
    let (test, issuer) = start_http2(room_for_one()).await;
    let mut slow = speak(&test, &issuer, 64 << 10).await;
    let (status, mut answer) = ask(&mut slow, "/large").await;
    assert_eq!(status, 200);
    let (read, took) = read_slowly(&test, &mut answer, 64 << 10, |_| 10).await;
    // 300 s, and one for each 64 KiB.
    assert!((428..=450).contains(&took.as_secs()) && read < 4 << 20, "{read} bytes in {took:?}");
    let mut other = speak(&test, &issuer, 1 << 20).await;
    let (status, answer) = ask(&mut other, "/large").await;
    assert_eq!((status, whole(answer).await.len()), (200, 8 << 20), "what it held is given back");
}

async fn gone(test: &Test) {
    while !test.service.finished.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
}

/// Story: an answer that goes on and is not read was in flight for ever, with its connection and all that it came from.
#[tokio::test]
async fn a_stream_that_nobody_reads_ends_and_one_that_is_read_goes_on() {
    let test = start(Limits::default()).await;
    let mut unread = test.connect().await;
    unread.write_all(get("/flood").as_bytes()).await.unwrap();
    let ((), took) = test.advance_until(gone(&test)).await;
    assert!((299..=310).contains(&took.as_secs()), "{took:?}");

    let (test, issuer) = start_http2(Limits::default()).await;
    let mut sender = speak(&test, &issuer, 1 << 20).await;
    let (_, unread) = ask(&mut sender, "/flood").await;
    let ((), took) = test.advance_until(gone(&test)).await;
    assert!((299..=310).contains(&took.as_secs()), "{took:?}");
    drop(unread);

    let mut sender = speak(&test, &issuer, 1 << 20).await;
    test.service.finished.store(false, Ordering::SeqCst);
    let (_, mut read) = ask(&mut sender, "/flood").await;
    for _ in 0..30 {
        let mut bytes = 0;
        while bytes < 1 << 20 {
            bytes += read.frame().await.unwrap().unwrap().into_data().map_or(0, |data| data.len());
        }
        test.clock.advance(Duration::from_mins(1));
        settle().await;
    }
    assert!(!test.service.finished.load(Ordering::SeqCst), "half an hour later");
}

/// Story: whoever took a backup and stopped reading it kept the server from stopping for half a minute.
#[tokio::test]
async fn a_stream_that_nobody_reads_does_not_hold_up_the_end_of_the_server() {
    let test = start(Limits::default()).await;
    let mut unread = test.connect().await;
    unread.write_all(get("/flood").as_bytes()).await.unwrap();
    for _ in 0..5 {
        settle().await;
        test.clock.advance(Duration::from_secs(1));
    }
    let begin = test.clock.elapsed();
    let ending = tokio::spawn(test.server.shutdown(Duration::from_secs(30)));
    while !ending.is_finished() {
        settle().await;
        test.clock.advance(Duration::from_millis(500));
    }
    assert_eq!(ending.await.unwrap(), 0);
    let took = test.clock.elapsed().saturating_sub(begin);
    assert!(took <= Duration::from_secs(5), "{took:?}");
}
