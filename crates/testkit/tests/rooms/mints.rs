//! The mint ledger: which caller got which access key, before and after a restart, and for how long that is known.

use std::time::Duration;

use daypass_testkit::TestServer;
use serde_json::json;

use crate::seal::stopped_and_started;

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.mount_aws("aws").await;
    server
}

async fn minted(server: &TestServer) -> String {
    server.get("aws/sts/deploy").await.ok().text("/data/access_key")
}

#[tokio::test]
async fn an_access_key_leads_to_the_caller_that_got_it() {
    let server = server().await;
    server.policy("ci", r#"path "aws/*" { capabilities = ["read"] }"#).await;
    server.put("sys/auth/approle", json!({ "type": "approle" })).await.ok();
    server.put("auth/approle/role/jenkins", json!({ "token_policies": "ci" })).await.ok();
    let role_id = server.get("auth/approle/role/jenkins/role-id").await.ok().text("/data/role_id");
    let secret = server.put("auth/approle/role/jenkins/secret-id", json!({ "metadata": "{\"job\":\"nightly\"}" })).await.ok();
    let login = json!({ "role_id": role_id, "secret_id": secret.text("/data/secret_id") });
    let token = server.put("auth/approle/login", login).nobody().await.ok().token();
    let answer = server.get("aws/sts/deploy").token(&token).from("10.1.2.3").await.ok();
    let key = answer.text("/data/access_key");
    let known = server.get(&format!("sys/mints/{key}")).await.ok();
    assert_eq!(known["data"]["claims"]["job"], json!("nightly"));
    assert_eq!((known.text("/data/display_name"), known.text("/data/path")), ("approle".into(), "aws/sts/deploy".into()));
    assert_eq!((known.text("/data/remote_address"), known.text("/data/lease_id")), ("10.1.2.3".into(), answer.lease()));
    assert_eq!((known["data"]["live"].clone(), known.number("/data/ttl")), (json!(true), 3600));
    assert!(known.text("/data/facts/session_name").starts_with("vault-approle-deploy-"), "{known:?}");
    assert!(!known.body.to_string().contains("fake-secret"), "{known:?}");
    assert_eq!(server.get("sys/mints/ASIANOBODY").await.status, 404);
    assert_eq!(
        server.get(&format!("sys/mints/{key}")).token(&token).await.status,
        403,
        "the key's owner may not ask unless policy lets it"
    );
}

#[tokio::test]
async fn the_ledger_survives_a_restart_and_fills_rows_of_many() {
    let server = server().await;
    let mut keys = Vec::new();
    for _ in 0..150 {
        keys.push(minted(&server).await);
    }
    // One for the writer to see that there is something, one for what gathers until then.
    server.seconds(1).await;
    server.seconds(1).await;
    let server = server.restart().await;
    keys.push(minted(&server).await);
    for key in [&keys[0], &keys[63], &keys[64], &keys[149], &keys[150]] {
        assert_eq!(server.get(&format!("sys/mints/{key}")).await.ok().text("/data/access_key_id"), **key);
    }
    server.seconds(1).await;
    let rows = server.keys().await.into_iter().filter(|key| key.contains("core/mints/rows/")).count();
    assert!((3..=5).contains(&rows), "{rows} rows hold 151 mints");
}

/// Story: what a sealed server still has to write is written a moment after the seal, and a server that was stopped within that moment did not wait.
#[tokio::test]
async fn mints_are_in_the_ledger_after_a_seal_and_a_stop() {
    let server = server().await;
    let key = minted(&server).await;
    server.put("sys/seal", json!({})).await.ok();
    let server = stopped_and_started(server).await;
    server.unseal().await;
    assert_eq!(server.get(&format!("sys/mints/{key}")).await.ok().text("/data/access_key_id"), key);
}

#[tokio::test]
async fn a_mint_is_forgotten_ninety_days_after_its_end() {
    let server = server().await;
    let key = minted(&server).await;
    server.seconds(3600).await;
    let over = server.get(&format!("sys/mints/{key}")).await.ok();
    assert_eq!((over["data"]["live"].clone(), over.number("/data/ttl")), (json!(false), 0));
    // Another row is begun, so that the first is whole.
    let server = server.restart().await;
    server.advance(Duration::from_hours(24 * 90 - 2)).await;
    server.seconds(1).await;
    server.get(&format!("sys/mints/{key}")).await.ok();
    server.advance(Duration::from_hours(4)).await;
    server.seconds(1).await;
    assert_eq!(server.get(&format!("sys/mints/{key}")).await.status, 404);
    assert_eq!(server.keys().await.into_iter().filter(|key| key.contains("core/mints/")).count(), 0);
}

/// Story: only the end that a lease had at first was looked at. After a renewal a key that works was not live, after a revocation a deleted
/// one was; and the ledger forgot keys that were leased still.
#[tokio::test]
async fn the_key_of_an_iam_user_is_live_while_its_lease_is() {
    let server = server().await;
    server.put("aws/roles/user", json!({ "credential_type": "iam_user" })).await.ok();
    server.put("aws/config/lease", json!({ "lease": "1h", "lease_max": "3000h" })).await.ok();
    server.put("sys/mounts/aws/tune", json!({ "max_lease_ttl": "3000h" })).await.ok();
    let answer = server.get("aws/creds/user").await.ok();
    let (key, lease) = (answer.text("/data/access_key"), answer.lease());
    let known = async || server.get(&format!("sys/mints/{key}")).await.ok();
    server.seconds(3_000).await;
    server.put("sys/leases/renew", json!({ "lease_id": lease, "increment": 3_600 })).await.ok();
    server.seconds(3_000).await;
    let renewed = known().await;
    assert_eq!((renewed["data"]["live"].clone(), renewed.number("/data/ttl")), (json!(true), 600), "{renewed:?}");
    // Far behind its first end and the retention: it is leased still.
    for _ in 0..100 {
        server.put("sys/leases/renew", json!({ "lease_id": lease, "increment": 25 * 3_600 })).await.ok();
        server.advance(Duration::from_hours(24)).await;
    }
    let server = server.restart().await;
    server.seconds(1).await;
    let known = async || server.get(&format!("sys/mints/{key}")).await.ok();
    assert_eq!(known().await["data"]["live"], json!(true));
    server.put("sys/leases/revoke", json!({ "lease_id": lease })).await.ok();
    let revoked = known().await;
    assert_eq!((revoked["data"]["live"].clone(), revoked.number("/data/ttl")), (json!(false), 0), "{revoked:?}");
}

#[tokio::test]
async fn a_credential_that_was_handed_out_again_shows_each_time() {
    let server = server().await;
    let role = json!({ "credential_type": "assumed_role", "role_arns": "arn:aws:iam::111111111111:role/x", "reuse_window": "2m" });
    server.put("aws/roles/shared", role).await.ok();
    let key = server.get("aws/sts/shared").await.ok().text("/data/access_key");
    server.seconds(2).await;
    assert_eq!(server.get("aws/sts/shared").await.ok().text("/data/access_key"), key);
    let known = server.get(&format!("sys/mints/{key}")).await.ok();
    let uses = known["data"]["uses"].as_array().unwrap();
    assert_eq!((uses.len(), uses[0]["facts"]["reused"].clone(), uses[1]["facts"].get("reused")), (2, json!("true"), None));
}
