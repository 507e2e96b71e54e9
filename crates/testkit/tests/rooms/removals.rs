//! Mounts that are removed while engines hang, processes end and the store fails: each goes on by itself, and nothing it issued lives on by renewals.

use daypass_storage::Space;
use daypass_storage::evil::{Fault, Step};
use daypass_testkit::TestServer;
use serde_json::json;

use crate::full::over_evil;
use crate::lender::{self, NOTHING};

/// A mount that has lent something for ten hours.
async fn mount_and_lend(server: &TestServer, path: &str) -> String {
    server.put(&format!("sys/mounts/{path}"), json!({ "type": "lender" })).await.ok();
    server.put(&format!("{path}/lend"), json!({ "ttl": "10h" })).await.ok().lease()
}

/// Whether nothing keeps the place of a mount any more.
async fn is_free(server: &TestServer, path: &str) -> bool {
    let free = server.put(&format!("sys/mounts/{path}"), json!({ "type": "kv" })).await.status == 204;
    if free {
        server.delete(&format!("sys/mounts/{path}")).await.ok();
    }
    free
}

/// Story: one lock for all removals was held while AWS took secrets back. While one hung there, no other mount could be removed: its request was given up, and its
/// tokens and leases lived on.
#[tokio::test]
async fn a_removal_that_hangs_keeps_no_other_mount_from_being_removed() {
    let (setup, book) = lender::setup();
    let server = setup.start().await;
    mount_and_lend(&server, "team/old").await;
    mount_and_lend(&server, "team/new").await;
    book.hang_mount(Some("team/old"));
    let hanging = tokio::spawn(server.delete("sys/mounts/team/old").into_future());
    server.seconds(1).await;
    let other = tokio::spawn(server.delete("sys/mounts/team/new").into_future());
    server.seconds(1).await;
    assert_eq!((hanging.is_finished(), other.is_finished()), (false, true));
    other.await.unwrap().ok();
    assert_eq!((is_free(&server, "team/new").await, is_free(&server, "team/old").await, book.out().len()), (true, false, 1));
    // Who asks for the same removal again waits: two would be in each other's way.
    let again = tokio::spawn(server.delete("sys/mounts/team/old").into_future());
    server.seconds(1).await;
    assert!(!again.is_finished());
    hanging.abort();
    again.abort();
}

/// Story: interrupted removals had thirty seconds together, one behind the other from the front, and no line of the log said that they were over. Behind one that
/// hung at AWS none was ever reached: their mounts were in no list, and their tokens stayed good.
#[tokio::test]
async fn an_interrupted_removal_goes_on_while_an_earlier_one_hangs() {
    let (setup, book) = lender::setup();
    let server = setup.start().await;
    for path in ["team/old", "team/new"] {
        mount_and_lend(&server, path).await;
    }
    book.hang_mount(Some("team/"));
    let both = ["team/old", "team/new"].map(|path| tokio::spawn(server.delete(&format!("sys/mounts/{path}")).into_future()));
    server.seconds(1).await;
    for one in both {
        one.abort();
        assert!(one.await.unwrap_err().is_cancelled(), "both hang");
    }
    book.hang_mount(Some("team/old"));
    let server = server.restart().await;
    // Longer than one removal goes on.
    for _ in 0..2 {
        server.seconds(31).await;
    }
    assert_eq!((is_free(&server, "team/new").await, is_free(&server, "team/old").await, book.out().len()), (true, false, 1));
    // The one that hangs is not forgotten.
    book.hang_mount(None);
    for _ in 0..2 {
        server.seconds(300).await;
    }
    assert_eq!((is_free(&server, "team/old").await, book.out()), (true, NOTHING.to_vec()));
}

/// Story: what a mount had issued could be renewed after its removal was cut short, again and again, until the removal went on.
#[tokio::test]
async fn what_a_mount_issued_is_not_renewed_once_its_removal_has_begun() {
    let (setup, book) = lender::setup();
    let (server, evil) = over_evil(setup).await;
    server.put("sys/auth/people", json!({ "type": "userpass" })).await.ok();
    server.put("auth/people/users/joe", json!({ "password": "right" })).await.ok();
    let login = server.put("auth/people/login/joe", json!({ "password": "right" })).nobody().await.ok();
    let (token, accessor) = (login.token(), login.text("/auth/accessor"));
    let lease = mount_and_lend(&server, "team/numbers").await;
    let renew_token = async || server.put("auth/token/renew-self", json!({})).token(&token).await;
    let renew_accessor = async || server.put("auth/token/renew-accessor", json!({ "accessor": accessor })).await;
    let renew_lease = async || server.put("sys/leases/renew", json!({ "lease_id": lease })).await;
    for renewed in [renew_token().await, renew_accessor().await, renew_lease().await] {
        renewed.ok();
    }
    // The first write closes the mount.
    evil.at(Step::Write(evil.calls().writes + 2), Fault::Fail);
    server.delete("sys/auth/people").await.refused(500);
    book.refuse(1);
    server.delete("sys/mounts/team/numbers").await.refused(400);
    let tainted = |path: &str| format!("failed to renew entry: no handler for route \"{path}\". route entry is tainted.");
    assert_eq!(renew_token().await.refused(400), tainted("auth/people/login/joe"));
    assert_eq!(renew_accessor().await.refused(400), tainted("auth/people/login/joe"));
    assert_eq!(renew_lease().await.refused(400), tainted("team/numbers/lend"));
    // What is left goes by itself.
    server.seconds(300).await;
    server.seconds(1).await;
    assert_eq!((server.status_of(&token).await, book.out()), (403, NOTHING.to_vec()));
    assert!(server.rows(Space::Lease).await.iter().all(|(key, _)| key.starts_with(b"R")), "nothing but marks of prefixes");
}
