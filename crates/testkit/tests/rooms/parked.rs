//! Leases whose secrets could not be taken back in some quick tries.

use std::time::Duration;

use daypass_base::Clock;
use daypass_storage::{Backend, Batch};
use daypass_testkit::TestServer;
use serde_json::json;

use crate::lender::Book;
use crate::revoking::lender;

/// Story: after six failures, which are some minutes, nobody tried again: an outage of IAM that lasted longer kept keys of IAM users alive for good.
#[tokio::test]
async fn after_six_failures_a_lease_is_shown_to_people_and_tried_once_a_day() {
    let (server, book, _) = lender().await;
    let (keys, entries) = (server.keys().await, server.expiry_entries().await);
    let lease = server.put("numbers/lend", json!({ "ttl": "100s" })).await.ok().lease();
    book.refuse(1_000);
    server.seconds(100).await;
    for _ in 0..50 {
        server.seconds(600).await;
    }
    assert_eq!(book.tries(), 6);
    let parked = async |server: &TestServer| {
        let parked = server.get("sys/leases?type=irrevocable").await.ok();
        assert_eq!(parked["data"]["lease_count"], 1);
        assert_eq!(parked["data"]["leases"][0]["lease_id"], json!(lease));
        assert_eq!(parked.text("/data/leases/0/error"), "the counter is closed");
        assert_eq!(server.get("sys/leases/count?type=irrevocable").await.ok()["data"]["lease_count"], 1);
    };
    parked(&server).await;
    let server = server.restart().await;
    server.seconds(15 * 3600).await;
    assert_eq!(book.tries(), 6, "no day has passed");
    server.put("sys/leases/renew", json!({ "lease_id": lease })).await.refused(400);
    server.put("sys/leases/revoke", json!({ "lease_id": lease })).await.refused(400);
    assert_eq!(book.tries(), 7, "somebody asked");
    // It was parked some fifty minutes after its end, and each try is up to an hour later than a day, to the hour in which the clock goes on here.
    for (tries, hours) in [(8, 3), (9, 25)] {
        for _ in 0..hours {
            server.seconds(3600).await;
            parked(&server).await;
        }
        assert_eq!((book.tries(), server.expiry_entries().await), (tries, entries + 1), "once a day");
    }
    book.refuse(0);
    for _ in 0..25 {
        server.seconds(3600).await;
    }
    assert_eq!((book.tries(), book.out()), (10, vec![]));
    assert_eq!((server.keys().await, server.expiry_entries().await), (keys, entries));
    assert_eq!(server.get("sys/leases?type=irrevocable").await.ok()["data"]["lease_count"], 0);
}

/// A lease that is parked.
async fn parked(server: &TestServer, book: &Book) -> String {
    let lease = server.put("numbers/lend", json!({ "ttl": "100s" })).await.ok().lease();
    book.refuse(1_000);
    server.seconds(100).await;
    for _ in 0..10 {
        server.seconds(600).await;
    }
    assert_eq!(server.get("sys/leases/count?type=irrevocable").await.ok()["data"]["lease_count"], 1);
    lease
}

/// Who asks has it tried at once, and not twice a day from then on.
#[tokio::test]
async fn a_parked_lease_that_is_asked_for_by_hand_goes_at_once_or_is_tried_once_a_day_as_before() {
    let (server, book, _) = lender().await;
    let (keys, entries) = (server.keys().await, server.expiry_entries().await);
    let lease = parked(&server, &book).await;
    for _ in 0..3 {
        server.put("sys/leases/revoke", json!({ "lease_id": lease, "sync": false })).await.ok();
        for _ in 0..10 {
            server.seconds(600).await;
        }
    }
    assert_eq!((book.tries(), server.expiry_entries().await), (24, entries + 1));
    for _ in 0..25 {
        server.seconds(3600).await;
    }
    assert_eq!((book.tries(), server.expiry_entries().await), (25, entries + 1));
    book.refuse(0);
    server.put("sys/leases/revoke", json!({ "lease_id": lease })).await.ok();
    assert_eq!((book.out(), server.keys().await, server.expiry_entries().await), (vec![], keys, entries));
}

/// Leases that were parked before this was done have no entry that says when they are due.
#[tokio::test]
async fn a_parked_lease_without_an_entry_is_found_and_tried() {
    let (server, book, evil) = lender().await;
    let (keys, entries) = (server.keys().await, server.expiry_entries().await);
    parked(&server, &book).await;
    let all = evil.inner().due(0, server.clock().now() + Duration::from_hours(25), 100).await.unwrap();
    let of_leases = all.into_iter().filter(|entry| entry.id.starts_with(b"L"));
    evil.inner().commit(of_leases.fold(Batch::new(), Batch::not_due)).await.unwrap();
    assert_eq!(server.expiry_entries().await, entries);
    book.refuse(0);
    for _ in 0..54 {
        server.seconds(3600).await;
    }
    assert_eq!((book.out(), server.keys().await, server.expiry_entries().await), (vec![], keys, entries));
}
