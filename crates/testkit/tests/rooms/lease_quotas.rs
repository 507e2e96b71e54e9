//! Lease-count quotas: exact under load, through revocation, expiry and restarts, and silent about what they do not count.

use daypass_testkit::TestServer;
use serde_json::{Value, json};

use crate::lender;

const BORROW: &str = "lend/lend";

async fn quota(server: &TestServer, name: &str, path: &str, max: u32) {
    server.put(&format!("sys/quotas/lease-count/{name}"), json!({ "path": path, "max_leases": max })).await.ok();
    server.work().await;
}

async fn counter(server: &TestServer, name: &str) -> i64 {
    server.get(&format!("sys/quotas/lease-count/{name}")).await.ok().number("/data/counter")
}

#[tokio::test]
async fn a_lease_too_many_is_refused_and_its_secret_is_taken_back() {
    let (setup, book) = lender::setup();
    let server = setup.start().await;
    server.put("sys/mounts/lend", json!({ "type": "lender" })).await.ok();
    quota(&server, "few", "lend/", 2).await;
    let first = server.get(BORROW).await.ok().lease();
    server.get(BORROW).await.ok();
    let refused = server.get(BORROW).await;
    let text = format!("1 error occurred:\n\t* request path \"{BORROW}\": lease count quota exceeded\n\n");
    assert_eq!(refused.refused(429), text);
    assert_eq!((book.out().len(), book.lent()), (2, 3), "what the third one got was taken back");
    assert_eq!(counter(&server, "few").await, 2);
    server.put("sys/leases/revoke", json!({ "lease_id": first })).await.ok();
    assert_eq!(counter(&server, "few").await, 1);
    server.put("sys/leases/revoke", json!({ "lease_id": first })).await.ok();
    assert_eq!(counter(&server, "few").await, 1, "revoking it twice makes no room");
    server.get(BORROW).await.ok();
    assert_eq!(counter(&server, "few").await, 2);
    server.put("sys/leases/revoke-prefix/lend", json!({})).await.ok();
    assert_eq!((counter(&server, "few").await, book.out()), (0, lender::NOTHING.to_vec()));
    let metrics = server.get("sys/metrics?format=prometheus").await.ok();
    let metrics = metrics.body.as_str().unwrap();
    assert!(metrics.contains("vault_quota_lease_count_violation 1\n") && metrics.contains("vault_quota_lease_count_max{name=\"few\"} 2\n"));
}

#[tokio::test]
async fn tokens_count_until_they_end_and_a_restart_counts_anew() {
    let server = TestServer::start().await;
    server.put("sys/auth/up", json!({ "type": "userpass" })).await.ok();
    server.put("auth/up/users/bob", json!({ "password": "right", "token_ttl": "1h" })).await.ok();
    let log_in = |server: &TestServer| server.put("auth/up/login/bob", json!({ "password": "right" })).nobody();
    log_in(&server).await.ok();
    log_in(&server).await.ok();
    quota(&server, "bob", "auth/up/login/bob", 3).await;
    assert_eq!(counter(&server, "bob").await, 2, "what was there before counts too");
    log_in(&server).await.ok();
    assert!(log_in(&server).await.refused(429).contains("\"auth/up/login/bob\": lease count quota exceeded"));
    server.token(json!({ "ttl": "1h" })).await;
    server.put("auth/up/users/bob", json!({ "token_type": "batch" })).await.ok();
    log_in(&server).await.ok();
    assert_eq!(counter(&server, "bob").await, 3, "batch tokens are stored nowhere");
    server.put("auth/up/users/bob", json!({ "token_type": "service" })).await.ok();
    let server = server.restart().await;
    server.work().await;
    assert_eq!(counter(&server, "bob").await, 3);
    assert_eq!(log_in(&server).await.status, 429);
    for _ in 0..4 {
        server.seconds(3_600).await;
    }
    assert_eq!(counter(&server, "bob").await, 0);
    log_in(&server).await.ok();
}

#[tokio::test]
async fn the_longest_path_decides_and_every_quota_counts_what_is_below_its_own() {
    let (setup, _book) = lender::setup();
    let server = setup.start().await;
    server.put("sys/mounts/lend", json!({ "type": "lender" })).await.ok();
    quota(&server, "mount", "lend/", 1).await;
    quota(&server, "path", BORROW, 2).await;
    server.get(BORROW).await.ok();
    server.get(BORROW).await.ok();
    assert_eq!((counter(&server, "mount").await, counter(&server, "path").await), (2, 2));
    assert_eq!(server.get(BORROW).await.status, 429);
    quota(&server, "path", BORROW, 3).await;
    assert_eq!(counter(&server, "path").await, 2);
    server.get(BORROW).await.ok();
    assert_eq!(server.delete("sys/quotas/lease-count/path").await.status, 204);
    assert_eq!(server.get(BORROW).await.status, 429, "now the quota of the mount is the closest");
    assert_eq!(server.list("sys/quotas/lease-count").await.ok()["data"]["keys"], json!(["mount"]));
    let shown = server.get("sys/quotas/lease-count/mount").await.ok();
    let expected = json!({
        "type": "lease-count", "name": "mount", "path": "lend/", "role": "", "max_leases": 1, "counter": 3, "inheritable": false
    });
    assert_eq!(shown["data"], expected);
    server.put("sys/remount", json!({ "from": "lend", "to": "loan" })).await.ok();
    server.work().await;
    assert_eq!(server.get("sys/quotas/lease-count/mount").await.ok().text("/data/path"), "loan/");
    server.delete("sys/mounts/loan").await.ok();
    assert_eq!(server.get("sys/quotas/lease-count/mount").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_logins_at_once_get_no_lease_too_many() {
    let server = TestServer::start().await;
    quota(&server, "tokens", "auth/token/create", 7).await;
    let make = || tokio::spawn(server.put("auth/token/create", json!({ "ttl": "1h" })).into_future());
    let asked: Vec<_> = (0..64).map(|_| make()).collect();
    let mut made = Vec::new();
    for answer in asked {
        let answer = answer.await.unwrap();
        match answer.status {
            200 => made.push(answer.token()),
            _ => assert!(answer.refused(429).ends_with("lease count quota exceeded\n\n")),
        }
    }
    assert_eq!((made.len(), counter(&server, "tokens").await), (7, 7));
    // Everybody revokes everything, at the same moment.
    let revoke = |token: &String| tokio::spawn(server.put("auth/token/revoke", json!({ "token": token })).into_future());
    let asked: Vec<_> = (0..8).flat_map(|_| made.iter().map(revoke).collect::<Vec<_>>()).collect();
    for answer in asked {
        answer.await.unwrap();
    }
    assert_eq!(counter(&server, "tokens").await, 0);
}

#[tokio::test]
async fn leases_of_sts_credentials_are_not_counted() {
    let server = TestServer::start().await;
    server.mount_aws("aws").await;
    quota(&server, "aws", "aws/", 1).await;
    for _ in 0..3 {
        server.get("aws/sts/deploy").await.ok();
    }
    assert_eq!(counter(&server, "aws").await, 0);
}

#[tokio::test]
async fn a_quota_that_makes_no_sense_is_refused() {
    let server = TestServer::start().await;
    let write = |body: Value| server.put("sys/quotas/lease-count/q", body);
    assert_eq!(write(json!({ "max_leases": 0 })).await.refused(400), "'max_leases' is invalid");
    assert_eq!(write(json!({ "max_leases": 5, "path": "nowhere/" })).await.refused(400), "invalid mount path \"nowhere/\"");
    assert!(write(json!({ "max_leases": 5, "path": "auth/token", "role": "r" })).await.refused(400).contains("cannot be for a role"));
    assert!(write(json!({ "max_leases": 5 })).await.refused(400).contains("needs the path of a mount"));
    write(json!({ "max_leases": 5, "path": "auth/token" })).await.ok();
    let like = server.put("sys/quotas/lease-count/other", json!({ "max_leases": 6, "path": "auth/token/*" })).await;
    assert_eq!(like.refused(400), "quota rule with similar properties exists under the name \"q\"");
    assert_eq!(server.get("sys/quotas/lease-count/nobody").await.status, 404);
    assert_eq!(server.list("sys/quotas/rate-limit").await.status, 404, "they are no rate limits");
}
