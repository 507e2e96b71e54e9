//! Mounts that are moved while requests are under way, by engines that fail, and by processes that die: a mount is here or there, and what it lent is
//! taken back.

use std::sync::Arc;
use std::time::Duration;

use daypass_storage::evil::{EvilBackend, Fault, Step};
use daypass_storage::{Backend, MemoryBackend};
use daypass_testkit::{Answer, Setup, TestServer};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::full::over_evil;
use crate::identity::House;
use crate::lender::{self, NOTHING};

/// A write that is under way for twenty seconds.
const SLOW: Fault = Fault::Delay(Duration::from_secs(20));

fn begin_move(server: &TestServer, from: &str, to: &str) -> JoinHandle<Answer> {
    tokio::spawn(server.put("sys/remount", json!({ "from": from, "to": to })).into_future())
}

async fn status(server: &TestServer, moved: &Answer) -> String {
    let path = format!("sys/remount/status/{}", moved.text("/data/migration_id"));
    server.get(&path).await.ok().text("/data/migration_info/status")
}

/// A mount with something stored, and something lent for ten hours.
async fn mount_and_lend(server: &TestServer, path: &str) {
    server.put(&format!("sys/mounts/{path}"), json!({ "type": "lender" })).await.ok();
    server.put(&format!("{path}/note/x"), json!({ "text": "kept" })).await.ok();
    server.put(&format!("{path}/lend"), json!({ "ttl": "10h" })).await.ok();
}

async fn has_mount(server: &TestServer, path: &str) -> bool {
    server.get(&format!("{path}/note/x")).await.status == 200
}

/// Story: what a request had made at a mount that was moved meanwhile got a lease below the old path. Removing the mount at its new path looked
/// only below that; the lease stayed, and revoking it later said success while the secret lived on.
#[tokio::test]
async fn a_mount_is_moved_once_the_requests_that_came_before_are_answered() {
    let (setup, book) = lender::setup();
    let (server, evil) = over_evil(setup).await;
    let before = server.keys().await.len();
    server.put("sys/mounts/old", json!({ "type": "lender" })).await.ok();
    server.put("old/note/x", json!({ "text": "kept" })).await.ok();
    evil.at_next_write(SLOW);
    let late = tokio::spawn(server.put("old/lend", json!({ "ttl": "10h" })).into_future());
    server.seconds(1).await;
    let moving = begin_move(&server, "old", "new");
    server.seconds(1).await;
    assert!(!moving.is_finished());
    // Closed as one that is being removed is, and nobody takes either place meanwhile.
    assert_eq!(server.get("old/note/x").await.refused(404), "no handler for route \"old/note/x\". route entry not found.");
    server.get("new/note/x").await.refused(404);
    for path in ["sys/mounts/old", "sys/mounts/new", "sys/mounts/new/below"] {
        server.put(path, json!({ "type": "kv" })).await.refused(400);
    }
    server.put("sys/remount", json!({ "from": "old", "to": "other" })).await.refused(400);
    assert!(server.delete("sys/mounts/old").await.refused(400).contains("is just being moved to \"new/\""));
    server.seconds(19).await;
    server.work().await;
    let lease = late.await.unwrap().ok().lease();
    assert_eq!(status(&server, &moving.await.unwrap().ok()).await, "success");
    assert_eq!(book.out(), NOTHING);
    server.put("sys/leases/lookup", json!({ "lease_id": lease })).await.refused(400);
    assert_eq!(server.get("new/note/x").await.ok().text("/data/text"), "kept");
    server.delete("sys/mounts/new").await.ok();
    server.seconds(36 * 3600 + 1).await;
    // What is remembered of moves.
    assert_eq!(server.keys().await.len(), before + 1);
}

/// Story: as above; the token of a login that was under way outlived the auth method.
#[tokio::test]
async fn a_login_under_way_ends_with_the_move_of_its_method() {
    let setup = Setup::default();
    let evil = Arc::new(EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(setup.clock())));
    let house = House::of(setup.over(Arc::clone(&evil) as Arc<dyn Backend>)).await;
    evil.at_next_write(SLOW);
    let login = tokio::spawn(house.put("auth/gate/login", json!({ "name": "ann" })).nobody().into_future());
    house.seconds(1).await;
    let moving = begin_move(&house, "auth/gate", "auth/door");
    house.seconds(1).await;
    assert_eq!(house.enter(json!({ "name": "ann" })).await.status, 403, "it is closed");
    house.seconds(19).await;
    house.work().await;
    moving.await.unwrap().ok();
    let token = login.await.unwrap().ok().token();
    assert_eq!(house.status_of(&token).await, 403);
    house.put("auth/door/login", json!({ "name": "ann" })).nobody().await.ok();
}

/// Story: a move ended with its request: the mount of a client that had gone away, or of an AWS that did not answer, was moved or not as it came.
#[tokio::test]
async fn a_move_goes_on_without_its_client_and_is_undone_when_secrets_cannot_be_taken_back_in_time() {
    let (setup, book) = lender::setup();
    let server = setup.start().await;
    mount_and_lend(&server, "old").await;
    book.hang(1);
    let moving = begin_move(&server, "old", "new");
    server.work().await;
    server.seconds(80).await;
    assert!(!moving.is_finished());
    server.seconds(2).await;
    let moved = moving.await.unwrap().ok();
    assert_eq!(status(&server, &moved).await, "in-progress");
    server.seconds(9).await;
    assert_eq!(status(&server, &moved).await, "failure");
    assert!(has_mount(&server, "old").await);
    server.put("old/lend", json!({ "ttl": "10h" })).await.ok();
    book.busy_mount("old", Duration::from_secs(5));
    let moving = begin_move(&server, "old", "new");
    server.work().await;
    moving.abort();
    server.work().await;
    assert!(!has_mount(&server, "old").await && !has_mount(&server, "new").await);
    server.seconds(6).await;
    server.work().await;
    assert!(has_mount(&server, "new").await);
    assert_eq!(book.out(), NOTHING);
}

/// Story: the rate limits of a moved mount were moved by a commit of their own: a kill in between left the mount without them. And a crash while a
/// mount is closed for its move must not look like a removal.
#[tokio::test]
async fn a_move_that_is_cut_short_anywhere_leaves_one_mount_with_its_limits_and_nothing_lent() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::Fail, Fault::LoseAnswer, Fault::Full] {
        let mut struck = true;
        let mut write = 0;
        while struck {
            write += 1;
            struck = is_cut_short(fault, write).await;
        }
        assert!(write > 5, "the move has that many writes: {write}");
    }
}

/// Whether the fault struck at that write of the move.
async fn is_cut_short(fault: Fault, write: u64) -> bool {
    let store = Arc::new(MemoryBackend::new());
    let (setup, book) = lender::setup();
    let evil = Arc::new(EvilBackend::new(Arc::clone(&store), Arc::new(setup.clock())));
    let server = setup.over(Arc::clone(&evil) as Arc<dyn Backend>).start().await;
    mount_and_lend(&server, "old").await;
    server.put("old/lend", json!({ "ttl": "10h" })).await.ok();
    server.put("sys/quotas/rate-limit/q", json!({ "path": "old", "rate": 1000 })).await.ok();
    evil.at(Step::Write(evil.calls().writes + write), fault);
    let moved = server.put("sys/remount", json!({ "from": "old", "to": "new" })).await;
    let struck = evil.calls().struck > 0;
    let server = server.restart_over(store as Arc<dyn Backend>).await;
    let what = format!("{fault:?} at write {write}: {moved:?}");
    let (old, new) = (has_mount(&server, "old").await, has_mount(&server, "new").await);
    assert!(old != new, "it is in one place; {what}");
    assert!(new || moved.status != 200, "{what}");
    if new && moved.status == 200 {
        assert_eq!(status(&server, &moved).await, "success");
    }
    let at = if new { "new" } else { "old" };
    let quota = server.get("sys/quotas/rate-limit/q").await.ok();
    assert_eq!(quota.text("/data/path"), format!("{at}/"), "{what}");
    server.put(&format!("{at}/lend"), json!({ "ttl": "10h" })).await.ok();
    server.delete(&format!("sys/mounts/{at}")).await.ok();
    assert_eq!(book.out(), NOTHING, "{what}");
    assert_eq!(server.get("sys/quotas/rate-limit/q").await.status, 404, "{what}");
    for path in ["old", "new"] {
        server.put(&format!("sys/mounts/{path}"), json!({ "type": "kv" })).await.ok();
    }
    struck
}

/// A seal ends a move half-way; whoever unseals the server finds the mount open.
#[tokio::test]
async fn a_move_that_a_seal_ends_is_undone_by_the_unseal() {
    let (setup, book) = lender::setup();
    let server = setup.start().await;
    mount_and_lend(&server, "old").await;
    book.hang(1);
    let moving = begin_move(&server, "old", "new");
    server.work().await;
    assert!(!has_mount(&server, "old").await);
    server.core().seal().await;
    let server = server.restart().await;
    assert!(moving.await.unwrap().status >= 500);
    assert!(has_mount(&server, "old").await);
    server.put("sys/remount", json!({ "from": "old", "to": "new" })).await.ok();
    assert_eq!((book.out(), has_mount(&server, "new").await), (NOTHING.to_vec(), true));
}

/// Story: a mount whose move had failed, and could not be undone at that moment, stayed closed for as long as revocation was paused.
#[tokio::test]
async fn moves_that_could_not_be_undone_are_undone_later_also_during_a_pause() {
    let (setup, book) = lender::setup();
    let (server, evil) = over_evil(setup).await;
    for path in ["one", "two"] {
        mount_and_lend(&server, path).await;
    }
    book.hang(2);
    let moving = [begin_move(&server, "one", "new"), begin_move(&server, "two", "other")];
    server.seconds(1).await;
    evil.at_next_write(Fault::Full);
    server.seconds(82).await;
    for moved in moving {
        moved.await.unwrap().ok();
    }
    server.seconds(9).await;
    evil.heal();
    server.put("sys/storage/revocation", json!({ "paused": true })).await.ok();
    assert!(!has_mount(&server, "one").await && !has_mount(&server, "two").await);
    for _ in 0..4 {
        server.seconds(60).await;
    }
    assert!(has_mount(&server, "one").await && has_mount(&server, "two").await);
}
