//! Rows of engines that do not open any more: the regular work goes on behind them, and lists show the others.

use std::sync::Arc;

use daypass_aws::Holding;
use daypass_storage::{Backend, Key, MemoryBackend, Space};
use daypass_testkit::{Setup, TestServer};
use serde_json::{Value, json};

use crate::revoking::damage;

async fn server() -> (TestServer, Arc<MemoryBackend>) {
    let store = Arc::new(MemoryBackend::new());
    let server = Setup::default().over(Arc::clone(&store) as Arc<dyn Backend>).start().await;
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    server.put("aws/config/root", json!({ "access_key": "AKIAROOT", "secret_key": "root-secret" })).await.ok();
    (server, store)
}

/// The rows whose keys have this in them, in order.
async fn rows(server: &TestServer, part: &str) -> Vec<Vec<u8>> {
    let all = server.rows(Space::Config).await.into_iter().map(|(key, _)| key);
    all.filter(|key| String::from_utf8_lossy(key).contains(part)).collect()
}

async fn damage_first(server: &TestServer, store: &MemoryBackend, part: &str) {
    let first = rows(server, part).await.remove(0);
    damage(store, Key::new(Space::Config, first)).await;
}

async fn minutes(server: &TestServer, minutes: u64) {
    for _ in 0..minutes {
        server.seconds(60).await;
    }
}

/// Story: one damaged note stopped the regular work of its mount in front of it: no IAM user whose making had broken off was deleted any more, and
/// config/parked-users answered "internal error".
#[tokio::test]
async fn a_damaged_note_keeps_no_other_user_from_being_deleted() {
    let (server, store) = server().await;
    server.put("aws/roles/ci", json!({ "credential_type": "iam_user" })).await.ok();
    for _ in 0..3 {
        server.aws().fail("CreateAccessKey", "", 0);
        server.aws().fail_often("ListGroupsForUser", "", 0, 2);
        assert!(server.get("aws/creds/ci").await.status >= 400);
    }
    assert_eq!((server.aws().users().len(), rows(&server, "/wal/").await.len()), (3, 3));
    damage_first(&server, &store, "/wal/").await;
    // Nor does what says whose the user is, where it is that user's own.
    for row in rows(&server, "/users/").await {
        damage(&*store, Key::new(Space::Config, row)).await;
    }
    server.aws().fail_often("DeleteUser", "AccessDenied", 403, 14);
    minutes(&server, 55).await;
    assert_eq!(server.aws().users().len(), 3);
    assert_eq!(server.list("aws/config/parked-users").await.ok().body["data"]["keys"].as_array().unwrap().len(), 2);
    server.aws().forgive();
    minutes(&server, 60).await;
    assert_eq!((server.aws().users().len(), rows(&server, "/wal/").await.len()), (1, 1), "that of the damaged one");
    // Nor the mount from being removed.
    server.delete("sys/mounts/aws").await.ok();
}

/// Story: one damaged static role kept all those behind it from being rotated, and as each rotation looks whether another role has the key that makes room, those before it
/// as well. No static role could be written any more.
#[tokio::test]
async fn a_damaged_static_role_keeps_no_other_from_being_rotated() {
    let (server, store) = server().await;
    let write = async |name: &str, user: &str| {
        let role = json!({ "username": user, "rotation_period": "1h" });
        server.put(&format!("aws/static-roles/{name}"), role).await
    };
    for name in ["a", "b", "c"] {
        server.aws().add_user(name);
        write(name, name).await.ok();
    }
    let first = rows(&server, "/static-roles/b").await.remove(0);
    damage(&*store, Key::new(Space::Config, first)).await;
    let key = async |name: &str| server.get(&format!("aws/static-creds/{name}")).await.ok().text("/data/access_key");
    for _ in 0..3 {
        let before = (key("a").await, key("c").await);
        minutes(&server, 61).await;
        let now = (key("a").await, key("c").await);
        assert!(before.0 != now.0 && before.1 != now.1);
    }
    let has = |name: &str| server.aws().holdings(name).iter().filter(|holding| matches!(holding, Holding::AccessKey(_))).count();
    assert_eq!(["a", "b", "c"].map(has), [2, 1, 2], "nobody touched the key of the damaged one");
    // The way out: its user gets another role.
    write("again", "b").await.ok();
    key("again").await;
}

/// Story: one damaged role, or secret id, kept all expired secret ids behind it.
#[tokio::test]
async fn a_damaged_secret_id_or_role_keeps_no_other_from_being_tidied() {
    let (server, store) = server().await;
    server.put("sys/auth/approle", json!({ "type": "approle" })).await.ok();
    for name in ["a", "b"] {
        server.put(&format!("auth/approle/role/{name}"), json!({ "secret_id_ttl": "10m" })).await.ok();
        for _ in 0..3 {
            server.put(&format!("auth/approle/role/{name}/secret-id"), Value::Null).await.ok();
        }
    }
    assert_eq!(rows(&server, "/secret/").await.len(), 6);
    damage_first(&server, &store, "/role/").await;
    // One of each: of those of the damaged role nobody knows.
    for at in [0, 5] {
        let row = rows(&server, "/secret/").await.remove(at);
        damage(&*store, Key::new(Space::Config, row)).await;
    }
    server.seconds(601).await;
    server.put("auth/approle/tidy/secret-id", Value::Null).await.ok();
    minutes(&server, 2).await;
    assert_eq!(rows(&server, "/secret/").await.len(), 3 + 1, "those of the damaged role, and the damaged one");
}
