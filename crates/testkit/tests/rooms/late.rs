//! Very much that comes due together: what it may hold up, and how late the server says that it is.

use std::time::Duration;

use daypass_base::Clock;
use daypass_storage::evil::{EvilBackend, Fault, Step};
use daypass_storage::{Backend, Batch, Due, MemoryBackend};
use daypass_testkit::TestServer;
use serde_json::{Value, json};

use crate::lender::NOTHING;
use crate::revoking::lender;

/// Time goes by, and what is due is not waited for.
async fn pass(server: &TestServer, seconds: u32) {
    for _ in 0..seconds * 10 {
        server.clock().advance(Duration::from_millis(100));
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }
}

/// A disk that takes its time.
fn slow_disk(evil: &EvilBackend<MemoryBackend>) {
    let written = evil.calls().writes;
    for write in 1..20_000 {
        evil.at(Step::Write(written + write), Fault::Delay(Duration::from_millis(100)));
    }
}

async fn figure(server: &TestServer, name: &str) -> u64 {
    let text = server.get("sys/metrics?format=prometheus").await.body.as_str().unwrap().to_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
}

const LEASE: &str = "daypass_expire_oldest_lease_seconds";
const TOKEN: &str = "daypass_expire_oldest_token_seconds";

/// Story: the worker looked at the first 512 entries alone. Whoever had more tokens end than it gets done kept every lease behind them alive, past its end and
/// its revocation.
#[tokio::test]
async fn tokens_that_end_together_keep_no_secret_alive() {
    let (server, book, evil) = lender().await;
    for _ in 0..1_300 {
        let token = server.token(json!({ "policies": ["default"], "ttl": "100s" })).await;
        server.put("cubbyhole/x", json!({ "y": "z" })).token(&token).await.ok();
    }
    server.put("numbers/lend", json!({ "ttl": "101s" })).await.ok();
    let revoked = server.put("numbers/lend", json!({ "ttl": "10h" })).await.ok().lease();
    // Each of these tokens costs some.
    slow_disk(&evil);
    server.clock().advance(Duration::from_secs(101));
    pass(&server, 5).await;
    assert_eq!(book.out().len(), 1, "the one whose time was over");
    assert_eq!((figure(&server, LEASE).await, figure(&server, TOKEN).await), (0, 6));
    let later = server.put("sys/leases/revoke", json!({ "lease_id": revoked, "sync": false })).into_future();
    let (later, ()) = tokio::join!(later, pass(&server, 5));
    assert_eq!((later.status, book.out()), (202, NOTHING.to_vec()));
    assert!(server.expiry_entries().await > 512, "the tokens are not done");
    evil.heal();
    pass(&server, 10).await;
    assert_eq!((server.expiry_entries().await, figure(&server, TOKEN).await), (0, 0));
}

/// Story: a wrapping token has a cubbyhole, so that each was revoked by itself, in three commits: a stock of wrapped secret ids that nobody fetched took
/// minutes to end.
#[tokio::test]
async fn wrapping_tokens_that_nobody_used_end_together() {
    let (server, _, evil) = lender().await;
    let before = (server.keys().await, server.expiry_entries().await);
    let mut tokens = Vec::new();
    for _ in 0..600 {
        tokens.push(server.put("sys/wrapping/wrap", json!({ "x": "y" })).wrap("100s").await.ok().wrapped());
    }
    for token in tokens.iter().step_by(60) {
        server.put("sys/wrapping/unwrap", json!({ "token": token })).await.ok();
    }
    let written = evil.calls().writes;
    server.seconds(101).await;
    assert_eq!((server.keys().await, server.expiry_entries().await), before);
    assert!(evil.calls().writes - written < 20, "{}", evil.calls().writes - written);
    let wrapped = server.put("sys/wrapping/wrap", json!({ "x": "y" })).wrap("100s").await.ok().wrapped();
    server.put("sys/leases/revoke-prefix/sys/wrapping/wrap", Value::Null).await.ok();
    server.put("sys/wrapping/unwrap", json!({ "token": wrapped })).await.refused(400);
    let (left, mark) = (server.keys().await, "Lease Rsys/wrapping/wrap");
    assert_eq!(left.into_iter().filter(|key| key != mark).collect::<Vec<_>>(), before.0, "the answer is gone with its token");
}

/// How late the worker is, while an engine does not answer.
#[tokio::test]
async fn a_lease_that_is_not_taken_back_says_for_how_long() {
    let (server, book, _) = lender().await;
    server.put("numbers/lend", json!({ "ttl": "100s" })).await.ok();
    book.hang(1);
    assert_eq!(figure(&server, LEASE).await, 0);
    server.clock().advance(Duration::from_secs(110));
    pass(&server, 5).await;
    assert_eq!((book.out().len(), figure(&server, LEASE).await), (1, 15));
    pass(&server, 120).await;
    assert_eq!((book.out(), figure(&server, LEASE).await), (NOTHING.to_vec(), 0));
}

/// Story: of a large backlog, what its engine would not come to was put off by up to a minute, and its age was counted from there. It never was a minute:
/// secrets lived on for many, the figure stayed low and the log said nothing.
#[tokio::test]
async fn a_backlog_of_a_slow_engine_says_for_how_long() {
    let (server, book, _) = lender().await;
    for _ in 0..900 {
        server.put("numbers/lend", json!({ "ttl": "100s" })).await.ok();
    }
    book.busy_mount("numbers", Duration::from_secs(4));
    server.clock().advance(Duration::from_secs(100));
    for seconds in [30, 60, 90, 120] {
        pass(&server, 30).await;
        let late = figure(&server, LEASE).await;
        assert!((seconds - 2..=seconds).contains(&late), "{late} s after {seconds} s");
    }
    assert!(book.out().len() > 600, "{}", book.out().len());
    book.busy_mount("numbers", Duration::from_millis(1));
    pass(&server, 150).await;
    assert_eq!((book.out(), figure(&server, LEASE).await), (NOTHING.to_vec(), 0));
}

/// Story: a lease was late until the worker had looked at all that was due twice, though it was taken back when it was met. After a long downtime the alarm
/// told of hours for as long as there was much to do.
#[tokio::test]
async fn what_was_taken_back_is_late_no_more() {
    let (server, book, evil) = lender().await;
    server.put("numbers/lend", json!({ "ttl": "100s" })).await.ok();
    let at = server.clock().now() + Duration::from_secs(101);
    // Behind it is much that is no secret: the marks of leases that were revoked.
    let marks: Vec<Due> =
        (0_u32..6_000).map(|mark| Due { shard: 0, at, id: [b"Mr".as_slice(), &mark.to_be_bytes()].concat().into() }).collect();
    for some in marks.chunks(500) {
        let batch = some.iter().cloned().fold(Batch::new(), Batch::due);
        evil.inner().commit(batch).await.unwrap();
    }
    slow_disk(&evil);
    server.clock().advance(Duration::from_hours(10));
    pass(&server, 1).await;
    assert_eq!(figure(&server, LEASE).await, 35_901);
    pass(&server, 19).await;
    assert!(server.expiry_entries().await > 3_000, "there is much to do yet");
    assert_eq!((book.out(), figure(&server, LEASE).await), (NOTHING.to_vec(), 0));
}
