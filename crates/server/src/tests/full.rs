//! All connections are taken: who makes room, and who does not.

use std::net::Ipv4Addr;

use tokio::net::TcpSocket;

use super::http2::{Http2, client};
use super::limits::start_http2;
use super::tls::Client;
use super::*;

impl Test {
    /// From another address of this machine.
    async fn connect_from(&self, last: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0))).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    async fn later(&self, seconds: u64) {
        settle().await;
        self.clock.advance(Duration::from_secs(seconds));
        settle().await;
    }
}

/// Asks and is answered on a connection that stays open.
async fn ask(stream: &mut TcpStream) {
    stream.write_all(get("/").as_bytes()).await.unwrap();
    assert!(read_answer(stream).await.starts_with("HTTP/1.1 200"));
}

async fn is_open(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    tokio::select! {
        biased;
        _ = stream.read(&mut byte) => false,
        () = settle() => true,
    }
}

fn few(connections: usize) -> Limits {
    Limits { connections, ..Limits::default() }
}

/// Story: whoever opened ten thousand connections, sent a request on each and another one every five minutes had all of them. Nobody else was let in, and
/// neither the log nor a figure said so.
#[tokio::test]
async fn one_that_is_idle_for_longest_makes_room_for_a_new_one() {
    let test = start(few(3)).await;
    let mut idle = Vec::new();
    for _ in 0..3 {
        let mut stream = test.connect().await;
        ask(&mut stream).await;
        idle.push(stream);
        test.later(2).await;
    }
    assert_eq!(test.counts.open(), 3);
    ask(&mut idle[0]).await;
    test.later(2).await;
    let mut new = test.connect().await;
    ask(&mut new).await;
    assert_eq!((test.counts.open(), test.counts.closed_for_others()), (3, 1));
    assert!(!is_open(&mut idle[1]).await, "idle for longest");
    ask(&mut idle[0]).await;
    ask(&mut idle[2]).await;
}

#[tokio::test]
async fn one_of_the_address_that_has_most_makes_room_and_one_that_never_spoke_as_well() {
    let test = start(few(4)).await;
    let mut honest = test.connect_from(2).await;
    ask(&mut honest).await;
    test.later(100).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(test.connect_from(3).await);
        test.later(2).await;
    }
    let mut new = test.connect_from(4).await;
    ask(&mut new).await;
    assert!(!is_open(&mut others[0]).await && is_open(&mut others[1]).await);
    ask(&mut honest).await;
}

/// A request that is being answered, one of a moment ago, and half a head that came just now are left alone. The client waits for whoever ends first.
#[tokio::test]
async fn nobody_who_is_served_makes_room() {
    let test = start(few(2)).await;
    let mut busy = test.connect().await;
    busy.write_all(get("/slow").as_bytes()).await.unwrap();
    test.started(1).await;
    test.later(60).await;
    let mut half = test.connect().await;
    half.write_all(b"GET /").await.unwrap();
    settle().await;
    let mut new = test.connect().await;
    new.write_all(get_and_close("/new").as_bytes()).await.unwrap();
    test.later(1).await;
    assert_eq!((test.service.started.load(Ordering::SeqCst), test.counts.closed_for_others()), (1, 0));
    half.write_all(b" HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    assert!(read_answer(&mut half).await.ends_with("GET / "));
    let (answer, took) = test.advance_until(read_all(&mut new)).await;
    assert!(answer.ends_with("GET /new ") && took < Duration::from_secs(3), "{took:?}: {answer}");
    assert!(!is_open(&mut half).await);
    test.service.gate.notify_one();
    assert!(read_answer(&mut busy).await.ends_with("at last"));
}

/// Where nobody is idle, half a head that does not go on makes room before its time is up; so does an answer that nobody takes.
#[tokio::test]
async fn one_that_does_not_go_on_makes_room_where_nobody_is_idle() {
    let test = start(few(2)).await;
    let mut half = test.connect().await;
    half.write_all(b"GET /").await.unwrap();
    let mut unread = test.connect().await;
    unread.write_all(get("/large").as_bytes()).await.unwrap();
    test.started(1).await;
    test.later(6).await;
    let mut served = Vec::new();
    for _ in 0..2 {
        let mut new = test.connect().await;
        new.write_all(get("/slow").as_bytes()).await.unwrap();
        test.later(1).await;
        served.push(new);
    }
    test.started(3).await;
    assert_eq!(test.counts.closed_for_others(), 2);
}

/// Story: a request was under way from its head on. Ten thousand connections with a byte of a body each could not be spared for half a minute, and with two
/// streams in turn over HTTP/2 for ever; each further one of them took the place of an idle client.
#[tokio::test]
async fn a_body_that_does_not_come_makes_room_and_one_that_goes_on_does_not() {
    let test = start(few(2)).await;
    let mut halves = Vec::new();
    for _ in 0..2 {
        let mut half = test.connect().await;
        half.write_all(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1032\r\n\r\n{").await.unwrap();
        halves.push(half);
    }
    test.later(4).await;
    halves[1].write_all(&[b'{'; 1024]).await.unwrap();
    test.later(2).await;
    let mut new = test.connect().await;
    test.later(1).await;
    assert_eq!(test.counts.closed_for_others(), 1);
    ask(&mut new).await;
    assert!(!is_open(&mut halves[0]).await && test.service.started.load(Ordering::SeqCst) == 1, "nothing of it is begun");
    halves[1].write_all(b"at last").await.unwrap();
    assert!(read_answer(&mut halves[1]).await.ends_with("{{at last"));
}

/// Begins a request whose body is to have seven bytes.
async fn begin(stream: &mut TcpStream) {
    stream.write_all(b"POST /v1/sys/seal-status HTTP/1.1\r\nHost: test\r\nContent-Length: 7\r\n\r\n").await.unwrap();
}

/// Story: a byte of a body now and then was a body that goes on. 2,900 small packets a second held ten thousand connections, of whoever had the same address
/// as everybody else behind a balancer as well.
#[tokio::test]
async fn a_body_that_comes_byte_by_byte_makes_room() {
    let test = start(few(2)).await;
    let mut halves = [test.connect().await, test.connect().await];
    for half in &mut halves {
        begin(half).await;
    }
    for _ in 0..2 {
        test.later(3).await;
        for half in &mut halves {
            half.write_all(b"{").await.unwrap();
        }
    }
    settle().await;
    let mut new = test.connect().await;
    ask(&mut new).await;
    assert_eq!(test.counts.closed_for_others(), 1);
}

#[tokio::test]
async fn bodies_that_do_not_come_over_http2_make_room_where_no_request_is_beside_them() {
    let (test, issuer) = start_http2(few(2)).await;
    let mut busy = client(&test, &issuer).await;
    busy.ask(1, "/slow").await;
    busy.begin_post(3).await;
    test.started(1).await;
    let mut stuck = client(&test, &issuer).await;
    for stream in [1, 3] {
        stuck.begin_post(stream).await;
        settle().await;
    }
    test.later(6).await;
    let new = test.connect().await;
    test.later(1).await;
    assert_eq!((test.counts.closed_for_others(), test.service.started.load(Ordering::SeqCst)), (1, 1));
    assert!(!stuck.is_open().await && busy.is_open().await);
    test.service.gate.notify_one();
    busy.read("at last".len()).await;
    drop(new);
}

/// Story: whoever had said the first byte of a handshake, or had just come through it, counted as one that says nothing.
#[tokio::test]
async fn a_handshake_is_left_alone_for_as_long_as_half_a_head() {
    let (test, issuer) = start_http2(few(1)).await;
    let mut shaking = test.connect().await;
    shaking.write_all(&[22, 3, 1]).await.unwrap();
    test.later(3).await;
    let silent = test.connect().await;
    test.later(1).await;
    assert_eq!(test.counts.closed_for_others(), 0);
    test.later(2).await;
    assert_eq!(test.counts.closed_for_others(), 1, "it has not gone on for six seconds");
    test.later(2).await;
    let client = Client { protocols: &[b"h2"], ..Client::of(&issuer) }.connect(&test).await.unwrap();
    assert_eq!(test.counts.closed_for_others(), 2, "one that says nothing is closed at once");
    let mut client = Http2::speak(client, 1 << 16).await;
    client.ask(1, "/").await;
    client.read("GET https://localhost/ ".len()).await;
    drop((shaking, silent));
}

#[tokio::test]
async fn an_idle_connection_over_http2_makes_room_and_one_with_a_request_does_not() {
    let (test, issuer) = start_http2(few(2)).await;
    let mut busy = client(&test, &issuer).await;
    busy.ask(1, "/slow").await;
    test.started(1).await;
    let mut idle = client(&test, &issuer).await;
    idle.ask(1, "/").await;
    idle.read("GET https://localhost/ ".len()).await;
    test.later(2).await;
    let mut new = client(&test, &issuer).await;
    new.ask(1, "/").await;
    new.read("GET https://localhost/ ".len()).await;
    assert_eq!(test.counts.closed_for_others(), 1);
    test.service.gate.notify_one();
    busy.read("at last".len()).await;
}
