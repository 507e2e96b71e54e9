//! Bodies: within the limit, over it, too slow, too many.

use super::*;

const MIB: usize = 1024 * 1024;

fn post(length: usize) -> String {
    format!("POST /body HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_the_very_limit_is_whole_and_one_of_33_mib_is_refused_with_an_answer() {
    let test = start(Limits::default()).await;
    let mut stream = test.connect().await;
    stream.write_all(post(32 * MIB).as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; 32 * MIB]).await.unwrap();
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    // The client writes all of it before it reads, as most do.
    let mut stream = test.connect().await;
    stream.write_all(post(33 * MIB).as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; 33 * MIB]).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("connection: close"), "{answer}");
    assert!(answer.ends_with(&format!("over {}, read 0", 32 * MIB)), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_an_announced_length_is_read_up_to_the_limit() {
    let test = start(Limits { body_bytes: 3 * MIB, ..Limits::default() }).await;
    let mut stream = test.connect().await;
    stream.write_all(b"POST /body HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    for _ in 0..4 {
        stream.write_all(format!("{MIB:x}\r\n").as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; MIB]).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let read: usize = answer.rsplit("read ").next().unwrap().parse().unwrap();
    assert!((2 * MIB..=3 * MIB).contains(&read), "{read}");
}

#[tokio::test]
async fn bodies_arrive_whole_however_they_are_cut() {
    let test = start(Limits::default()).await;
    let mut stream = test.connect().await;
    stream.write_all(post(6).as_bytes()).await.unwrap();
    for piece in ["ab", "c", "def"] {
        settle().await;
        stream.write_all(piece.as_bytes()).await.unwrap();
    }
    assert!(read_answer(&mut stream).await.ends_with("POST /body abcdef"));
    stream.write_all(b"PUT /body HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").await.unwrap();
    assert!(read_answer(&mut stream).await.ends_with("PUT /body abcde"));
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let test = start(Limits::default()).await;
    let mut stream = test.connect().await;
    stream.write_all(b"POST /body HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n").await.unwrap();
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 100"));
    stream.write_all(b"ok").await.unwrap();
    assert!(read_answer(&mut stream).await.ends_with("POST /body ok"));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let test = start(Limits::default()).await;
    let mut stream = test.connect().await;
    stream.write_all((post(10) + "half").as_bytes()).await.unwrap();
    settle().await;
    let (answer, took) = test.advance_until(read_all(&mut stream)).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.ends_with("too slow"), "{answer}");
    assert!(took >= Duration::from_secs(30), "{took:?}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_told_apart_from_a_whole_one() {
    let test = start(Limits::default()).await;
    let answer = test.exchange("POST /body HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    let seen = test.service.seen.lock();
    assert!(matches!(seen[0].body, RequestBody::Broken(_)), "{seen:?}");
}

#[tokio::test]
async fn an_upload_is_read_while_it_comes_whatever_bodies_may_have() {
    let test = start(Limits { body_bytes: 1000, snapshot_bytes: 3 * MIB as u64, ..Limits::default() }).await;
    let head =
        |path: &str, bytes: usize| format!("POST {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {bytes}\r\n\r\n").into_bytes();
    let whole = [head("/upload", 2 * MIB), vec![b'x'; 2 * MIB]].concat();
    assert!(test.exchange(whole).await.ends_with(&format!("read {}", 2 * MIB)));
    let longer = [head("/upload", 4 * MIB), vec![b'x'; 4 * MIB]].concat();
    assert!(test.exchange(longer).await.contains("over the limit of 3145728 bytes"));
    let refused = [head("/not-read", 2 * MIB), vec![b'x'; 2 * MIB]].concat();
    assert!(test.exchange(refused).await.ends_with("not read"), "the answer comes though nobody reads the body");
}

#[tokio::test]
async fn an_upload_that_stands_still_is_given_up_and_one_that_crawls_too() {
    let test = start(Limits::default()).await;
    let mut stream = test.connect().await;
    stream.write_all(b"POST /upload HTTP/1.1\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\nhalf").await.unwrap();
    test.started(1).await;
    let (answer, took) = test.advance_until(read_all(&mut stream)).await;
    assert!(answer.contains("less than 64 KiB came in 30 seconds"), "{answer}");
    assert!(took >= Duration::from_secs(30), "{took:?}");
    let mut stream = test.connect().await;
    stream.write_all(b"POST /upload HTTP/1.1\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\nhalf").await.unwrap();
    test.started(2).await;
    stream.shutdown().await.unwrap();
    assert!(read_all(&mut stream).await.contains("broke off"));
}

/// The room is never below two bodies, and bodies have half of it.
fn room_for_one() -> Limits {
    Limits { body_bytes: MIB, all_bodies_bytes: 0, ..Limits::default() }
}

/// Clients that send so many bytes of a body that they announce, and wait.
async fn waiting(test: &Test, clients: usize, announced: usize, sent: usize) -> Vec<TcpStream> {
    let mut waiting = Vec::new();
    for _ in 0..clients {
        let mut stream = test.connect().await;
        stream.write_all(post(announced).as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; sent]).await.unwrap();
        waiting.push(stream);
    }
    settle().await;
    waiting
}

#[tokio::test]
async fn large_bodies_share_one_room_and_take_none_from_answers() {
    let test = start(room_for_one()).await;
    let mut first = waiting(&test, 1, MIB, MIB - 1).await;
    // Before anything of it is sent.
    let refused = test.exchange(post(MIB)).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(test.exchange(get_and_close("/small")).await.starts_with("HTTP/1.1 200"));
    assert!(test.exchange(get_and_close("/large")).await.len() > 8 << 20, "bodies do not take the room of answers");
    first[0].write_all(b"x").await.unwrap();
    assert!(read_answer(&mut first[0]).await.starts_with("HTTP/1.1 200"));
    let mut stream = test.connect().await;
    stream.write_all(post(MIB).as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; MIB]).await.unwrap();
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 200"), "there is room again");
}

/// Story: sixteen clients announced bodies of 32 MiB and sent nothing. For a kilobyte each half minute they had all the room there was, and everybody else
/// was told that the server is overloaded.
#[tokio::test]
async fn a_body_that_is_announced_and_does_not_come_takes_no_room() {
    let test = start(room_for_one()).await;
    for sent in [0, 1, 10_000] {
        let _nothing_comes = waiting(&test, 16, MIB, sent).await;
        let mut honest = waiting(&test, 1, MIB, MIB).await;
        assert!(read_answer(&mut honest[0]).await.starts_with("HTTP/1.1 200"), "{sent}");
    }
}

#[tokio::test]
async fn bodies_that_come_slowly_have_room_for_what_came_of_them() {
    let test = start(room_for_one()).await;
    let slow = waiting(&test, 2, 500_000, 200_000).await;
    assert_eq!(test.service.started.load(Ordering::SeqCst), 0, "both wait: there is room for twice what they sent");
    let refused = test.exchange(post(MIB)).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    for mut stream in slow {
        stream.write_all(&vec![b'x'; 300_000]).await.unwrap();
        assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    }
}
