//! Mounts: made, moved, tuned and removed, with what lies in them.

use std::sync::Arc;
use std::time::Duration;

use daypass_storage::evil::{EvilBackend, Fault};
use daypass_storage::{Backend, MemoryBackend};
use daypass_testkit::{Setup, TestServer};
use serde_json::json;

use crate::lender::{self, NOTHING};

#[tokio::test]
async fn a_removed_mount_leaves_nothing_and_a_new_one_in_its_place_sees_nothing_of_it() {
    let server = TestServer::start().await;
    let before = (server.keys().await, server.expiry_entries().await);
    for round in 0..3 {
        server.put("sys/mounts/team/kv", json!({ "type": "kv" })).await.ok();
        server.get("team/kv/a").await.refused(404);
        for name in ["a", "b/c", "b/d"] {
            server.put(&format!("team/kv/{name}"), json!({ "round": round })).await.ok();
        }
        server.delete("sys/mounts/team/kv").await.ok();
        assert_eq!(server.get("team/kv/a").await.refused(404), "no handler for route \"team/kv/a\". route entry not found.");
    }
    // A marker says until when leases of before are void: as long as an STS credential can live.
    server.seconds(36 * 3600 + 1).await;
    assert_eq!((server.keys().await, server.expiry_entries().await), before);
}

#[tokio::test]
async fn removing_a_mount_takes_back_what_it_lent() {
    let (setup, book) = lender::setup();
    let server = setup.start().await;
    let before = (server.keys().await, server.expiry_entries().await);
    server.put("sys/mounts/numbers", json!({ "type": "lender" })).await.ok();
    // More than are taken back at the same moment.
    for _ in 0..30 {
        server.put("numbers/lend", json!({ "ttl": "10h" })).await.ok();
    }
    assert_eq!(book.out().len(), 30);
    server.delete("sys/mounts/numbers").await.ok();
    assert_eq!(book.out(), NOTHING);
    assert_eq!(book.tries(), 30, "each once");
    server.seconds(36 * 3600 + 1).await;
    assert_eq!((server.keys().await, server.expiry_entries().await), before);
}

#[tokio::test]
async fn a_moved_mount_keeps_its_data_and_ends_its_leases() {
    let (setup, book) = lender::setup();
    let server = setup.start().await;
    server.put("sys/mounts/old", json!({ "type": "lender" })).await.ok();
    server.put("old/note/x", json!({ "text": "kept" })).await.ok();
    let lease = server.put("old/lend", json!({ "ttl": "1h" })).await.ok().lease();
    server.put("sys/remount", json!({ "from": "old", "to": "new/place" })).await.ok();
    server.work().await;
    assert_eq!(server.get("new/place/note/x").await.ok().text("/data/text"), "kept");
    server.get("old/note/x").await.refused(404);
    // As Vault: leases name the old path, so they end with the move.
    assert_eq!(book.out(), NOTHING);
    server.put("sys/leases/lookup", json!({ "lease_id": lease })).await.refused(400);
    let server = server.restart().await;
    assert_eq!(server.get("new/place/note/x").await.ok().text("/data/text"), "kept");
}

#[tokio::test]
async fn tuned_lifetimes_hold_for_the_next_lease_and_the_next_login() {
    let (setup, _) = lender::setup();
    let server = setup.start().await;
    server.put("sys/mounts/numbers", json!({ "type": "lender" })).await.ok();
    assert_eq!(server.get("numbers/lend").await.ok().number("/lease_duration"), 768 * 3600);
    server.put("sys/mounts/numbers/tune", json!({ "default_lease_ttl": "10m", "max_lease_ttl": "20m" })).await.ok();
    assert_eq!(server.get("numbers/lend").await.ok().number("/lease_duration"), 600);
    let capped = server.put("numbers/lend", json!({ "ttl": "2h" })).await.ok();
    assert_eq!(capped.number("/lease_duration"), 1200);
    assert!(capped.text("/warnings/0").contains("exceeded the effective max_ttl of \"20m\""), "{:?}", capped.body);
    server.put("sys/auth/up", json!({ "type": "userpass", "config": { "max_lease_ttl": "5m" } })).await.ok();
    server.put("auth/up/users/bob", json!({ "password": "a" })).await.ok();
    let login = server.put("auth/up/login/bob", json!({ "password": "a" })).nobody().await.ok();
    assert_eq!(login.number("/auth/lease_duration"), 300);
}

#[tokio::test]
async fn what_the_core_needs_cannot_be_removed_or_moved() {
    let server = TestServer::start().await;
    for path in ["sys", "cubbyhole", "identity"] {
        server.delete(&format!("sys/mounts/{path}")).await.refused(400);
        server.put("sys/remount", json!({ "from": path, "to": "elsewhere" })).await.refused(400);
    }
    server.delete("sys/auth/token").await.refused(400);
    for path in ["sys/x", "auth/x", "cubbyhole/x"] {
        server.put(&format!("sys/mounts/{path}"), json!({ "type": "kv" })).await.refused(400);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_mount_at_one_place_one_succeeds() {
    let server = TestServer::start().await;
    let keys = server.keys().await.len();
    let asked: Vec<_> = (0..16).map(|_| tokio::spawn(server.put("sys/mounts/kv", json!({ "type": "kv" })).into_future())).collect();
    let mut made = 0;
    for answer in asked {
        let answer = answer.await.unwrap();
        assert!(matches!(answer.status, 204 | 400), "{answer:?}");
        made += u32::from(answer.status == 204);
    }
    assert_eq!((made, server.keys().await.len()), (1, keys));
    server.put("kv/a", json!({ "x": 1 })).await.ok();
}

/// Seen: a request without a token read no configuration version, so that a node kept logging in by mounts that another had removed.
#[tokio::test]
async fn two_nodes_over_one_store_never_serve_an_old_mount_table() {
    let backend = Arc::new(MemoryBackend::new());
    let one = Setup::default().over(Arc::clone(&backend) as Arc<_>).start().await;
    let other = one.beside().await;
    one.put("sys/auth/up", json!({ "type": "userpass" })).await.ok();
    one.put("auth/up/users/bob", json!({ "password": "a" })).await.ok();
    let login = |server: &TestServer| server.put("auth/up/login/bob", json!({ "password": "a" })).nobody();
    let token = login(&other).await.ok().token();
    assert_eq!(one.status_of(&token).await, 200);
    one.delete("sys/auth/up").await.ok();
    assert_eq!(login(&other).await.status, 403, "nothing is there to log in to");
    one.policy("p", r#"path "kv/*" { capabilities = ["read"] }"#).await;
    one.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
    one.put("kv/a", json!({ "x": 1 })).await.ok();
    let reader = one.token(json!({ "policies": ["p"] })).await;
    other.get("kv/a").token(&reader).await.ok();
    one.delete("sys/policies/acl/p").await.ok();
    other.get("kv/a").token(&reader).await.refused(403);
    assert_eq!(other.put("sys/mounts/kv", json!({ "type": "kv" })).await.status, 400, "it knows of the mount");
}

/// Story: `sys/mounts/kv/x/tune` tuned the mount that `x` lies in, past a policy that denies `sys/mounts/kv/tune`.
#[tokio::test]
async fn a_path_below_a_mount_names_no_mount() {
    let server = TestServer::start().await;
    server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
    server.put("sys/auth/up", json!({ "type": "userpass" })).await.ok();
    for path in ["sys/mounts/kv/x/tune", "sys/auth/up/x/tune"] {
        server.put(path, json!({ "max_lease_ttl": "1h" })).await.refused(400);
        server.get(path).await.refused(400);
    }
    server.get("sys/mounts/kv/x").await.refused(400);
    server.put("sys/mounts/kv/tune", json!({ "max_lease_ttl": "1h" })).await.ok();
    server.get("sys/auth/up/tune").await.ok();
}

/// Story: a write to version 1 that was under way when the mount was upgraded came to the store after version 2 had taken everything over. It was
/// answered with success, could not be read, and came back at the next start, also where its secret had been deleted for good meanwhile. A deletion
/// that was under way deleted nothing.
#[tokio::test]
async fn version_2_of_a_mount_serves_once_the_requests_to_version_1_are_answered() {
    let setup = Setup::default();
    let evil = Arc::new(EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(setup.clock())));
    let server = setup.over(Arc::clone(&evil) as Arc<dyn Backend>).start().await;
    server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
    for name in ["old", "doomed"] {
        server.put(&format!("kv/{name}"), json!({ "n": 1 })).await.ok();
    }
    evil.at_next_write(Fault::Delay(Duration::from_secs(20)));
    let late = tokio::spawn(server.put("kv/late", json!({ "n": 2 })).into_future());
    server.seconds(1).await;
    evil.at_next_write(Fault::Delay(Duration::from_secs(20)));
    let deletion = tokio::spawn(server.delete("kv/doomed").into_future());
    server.seconds(1).await;
    for _ in 0..2 {
        server.put("sys/mounts/kv/tune", json!({ "options": { "version": "2" } })).await.ok();
    }
    let held = ["late", "doomed", "old"].map(|name| tokio::spawn(server.get(&format!("kv/data/{name}")).into_future()));
    let first = tokio::spawn(server.put("kv/data/new", json!({ "data": { "n": 3 } })).into_future());
    server.seconds(17).await;
    assert!(!late.is_finished() && !deletion.is_finished() && held.iter().all(|held| !held.is_finished()) && !first.is_finished());
    // Other mounts are not held up, and a setting of another kind changes no engine.
    server.put("cubbyhole/x", json!({ "n": 1 })).await.ok();
    server.put("sys/mounts/kv/tune", json!({ "max_lease_ttl": "1h" })).await.ok();
    server.seconds(3).await;
    server.seconds(1).await;
    late.await.unwrap().ok();
    deletion.await.unwrap().ok();
    let [late, doomed, old] = held;
    assert_eq!(late.await.unwrap().ok()["data"]["data"], json!({ "n": 2 }));
    assert_eq!(doomed.await.unwrap().status, 404);
    assert_eq!(old.await.unwrap().ok()["data"]["data"], json!({ "n": 1 }));
    first.await.unwrap().ok();
    server.delete("kv/metadata/late").await.ok();
    let server = server.restart().await;
    assert_eq!(server.list("kv/metadata").await.ok()["data"]["keys"], json!(["new", "old"]));
}

/// Story: a mount that was moved got a new engine beside the old one, at which requests were still under way; the limits of its roles counted from zero.
#[tokio::test]
async fn a_mount_that_is_moved_or_tuned_keeps_its_engine_and_what_that_counted() {
    let server = TestServer::start().await;
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    let role = json!({ "credential_type": "assumed_role", "role_arns": "arn:aws:iam::123456789012:role/ci", "limit_mints": 1 });
    server.put("aws/roles/ci", role).await.ok();
    server.get("aws/creds/ci").await.ok();
    server.get("aws/creds/ci").await.refused(429);
    server.put("sys/mounts/aws/tune", json!({ "options": { "team": "ci" } })).await.ok();
    server.get("aws/creds/ci").await.refused(429);
    server.put("sys/remount", json!({ "from": "aws", "to": "away" })).await.ok();
    server.get("away/creds/ci").await.refused(429);
}
