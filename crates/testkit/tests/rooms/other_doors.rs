//! One thing behind several paths, of which Vault has not all: what a policy says of Vault's holds at ours.

use daypass_testkit::TestServer;
use serde_json::{Value, json};

use crate::policies::{REFUSED, explained};

async fn with(policy: &str) -> (TestServer, String) {
    let server = TestServer::start().await;
    server.mount_aws("aws").await;
    let role = json!({ "credential_type": "assumed_role", "role_arns": "arn:aws:iam::111111111111:role/prod" });
    server.put("aws/roles/prod", role).await.ok();
    server.policy("p", policy).await;
    let token = server.token(json!({ "policies": ["p"] })).await;
    (server, token)
}

async fn capabilities(server: &TestServer, token: &str, path: &str) -> Value {
    server.put("sys/capabilities", json!({ "token": token, "path": path })).await.ok()["data"]["capabilities"].clone()
}

/// Story: who may use all of a mount but the role `prod` got prod's keys at `aws/container/prod`, and its console at `aws/console/prod`: the policy was
/// written for Vault, which has neither.
#[tokio::test]
async fn a_denied_role_is_denied_at_every_door() {
    for denied in ["aws/sts/prod", "aws/creds/prod", "aws/sts/PROD", "aws/creds/+"] {
        let text = format!("path \"aws/*\" {{ capabilities = [\"read\", \"update\"] }} path {denied:?} {{ capabilities = [\"deny\"] }}");
        let (server, token) = with(&text).await;
        for door in ["container", "console"] {
            let path = format!("aws/{door}/prod");
            assert_eq!(server.get(&path).token(&token).await.status, 403, "{path}, {denied}");
            assert_eq!(capabilities(&server, &token, &path).await, json!(["deny"]), "{path}, {denied}");
            assert_eq!(capabilities(&server, &token, &format!("/{path}")).await, json!(["deny"]), "{path}, {denied}");
            let why = explained(&server, json!({ "token": token, "path": path })).await;
            assert_eq!((&why["data"]["allowed"], why.text("/data/rule/pattern")), (&json!(false), denied.to_owned()));
            assert!(why.text("/data/reason").contains("because it is another way to \"aws/"), "{}", why.body);
        }
        assert_eq!(server.put("aws/console/prod", json!({})).token(&token).await.refused(403), REFUSED);
        assert!(server.aws().made().is_empty(), "{denied}");
        server.get("aws/roles/prod").token(&token).await.ok();
        if !denied.ends_with('+') {
            server.get("aws/container/deploy").token(&token).await.ok();
            server.get("aws/console/deploy").token(&token).await.ok();
            assert_eq!(capabilities(&server, &token, "aws/container/deploy").await, json!(["read", "update"]));
        }
    }
}

/// Story: who may have prod's credentials for a quarter of an hour had them for as long as the role allows at `aws/container/prod`, and for any of its
/// IAM roles.
#[tokio::test]
async fn what_a_policy_demands_at_one_door_it_demands_at_all() {
    let (server, token) = with(
        r#"path "aws/*" { capabilities = ["read", "update"] }
        path "aws/sts/prod" { capabilities = ["read"] allowed_parameters = { "ttl" = ["15m"] } required_parameters = ["ttl"] }"#,
    )
    .await;
    for door in ["sts", "container", "console"] {
        let ask = async |query: &str| server.get(&format!("aws/{door}/prod{query}")).token(&token).await.status;
        assert_eq!(ask("?ttl=15m").await, 200, "{door}");
        for query in ["", "?ttl=1h", "?ttl=15m&role_arn=arn:aws:iam::111111111111:role/prod", "?ttl=15m&session_duration=12h"] {
            assert_eq!(ask(query).await, 403, "{door}{query}");
        }
    }
    // Which page is opened is nothing that the policy could have meant.
    server.get("aws/console/prod?ttl=15m&destination=/ecr").token(&token).await.ok();
    server.get("aws/container/deploy").token(&token).await.ok();
}

/// A mount that is denied as a whole, but for one door of one role, is as open as it was.
#[tokio::test]
async fn a_door_that_is_granted_out_of_a_denied_mount_stays_open() {
    let (server, token) = with(r#"path "aws/*" { capabilities = ["deny"] } path "aws/container/deploy" { capabilities = ["read"] }"#).await;
    server.get("aws/container/deploy").token(&token).await.ok();
    assert_eq!(server.get("aws/console/deploy").token(&token).await.refused(403), REFUSED);
    assert_eq!(capabilities(&server, &token, "aws/container/deploy").await, json!(["read"]));
}

/// Story: an operator's helper may do all in `sys/` but take the store away or exchange its key, as Vault calls it. Under the other names it could.
#[tokio::test]
async fn a_snapshot_and_a_rotation_are_denied_under_both_names() {
    for (denied, doors) in [
        ("sys/storage/raft/*", ["GET sys/storage/snapshot", "POST sys/storage/snapshot", "POST sys/storage/snapshot-force"]),
        (
            "sys/storage/snapshot*",
            ["GET sys/storage/raft/snapshot", "POST sys/storage/raft/snapshot", "POST sys/storage/raft/snapshot-force"],
        ),
        ("sys/rotate", ["PUT sys/rotate/keyring", "PUT sys/rotate", "PUT sys/rotate/"]),
        ("sys/rotate/config", ["PUT sys/rotate/keyring/config", "GET sys/rotate/keyring/config", "GET sys/rotate/config"]),
        ("sys/rotate/keyring", ["PUT sys/rotate", "PUT sys/rotate/keyring", "PUT sys/rotate/keyring/"]),
    ] {
        let all = r#"path "sys/*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }"#;
        let (server, token) = with(&format!("{all} path {denied:?} {{ capabilities = [\"deny\"] }}")).await;
        for door in doors {
            let (method, path) = door.split_once(' ').unwrap();
            assert_eq!(server.ask(method, path).json(&json!({})).token(&token).await.refused(403), REFUSED, "{door}, {denied}");
            assert_eq!(capabilities(&server, &token, path).await, json!(["deny"]), "{door}, {denied}");
        }
        server.get("sys/key-status").token(&token).await.ok();
    }
    let (server, token) = with(r#"path "sys/storage/raft/snapshot" { capabilities = ["read"] }"#).await;
    assert_eq!(server.get("sys/storage/raft/snapshot").token(&token).download().await.0.status, 200);
    assert_eq!(server.get("sys/storage/snapshot").token(&token).await.refused(403), REFUSED, "a grant is for its own path");
}

/// Story: who may read all of a mount, but no more than list the role `prod` at Vault's two doors, had its keys at `aws/container/prod` and its console at
/// `aws/console/prod`; who may do all in `sys/`, but only read at `sys/storage/raft/snapshot`, put a snapshot back at `sys/storage/snapshot`. Beside a path
/// denies counted and demands, and a right that a narrower rule lacks did not.
#[tokio::test]
async fn a_right_that_is_taken_away_at_one_door_is_taken_away_at_all() {
    let all = r#"path "aws/*" { capabilities = ["read", "update"] }"#;
    let (server, token) = with(&format!(
        r#"{all} path "aws/sts/prod" {{ capabilities = ["list"] }} path "aws/creds/prod" {{ capabilities = ["list"] }}
        path "aws/sts/deploy" {{ capabilities = ["update"] }}"#
    ))
    .await;
    for door in ["sts", "creds", "container", "console"] {
        let path = format!("aws/{door}/prod");
        assert_eq!(server.get(&path).token(&token).await.status, 403, "{path}");
        if door.starts_with("con") {
            assert_eq!(capabilities(&server, &token, &path).await, json!(["deny"]), "{path}");
            let why = explained(&server, json!({ "token": token, "path": path })).await;
            assert!(why.text("/data/reason").contains("because it is another way to \"aws/sts/prod\""), "{}", why.body);
        }
    }
    assert_eq!(server.put("aws/console/prod", json!({})).token(&token).await.refused(403), REFUSED);
    assert!(server.aws().made().is_empty());
    // Either right mints there.
    server.get("aws/container/deploy").token(&token).await.ok();
    server.get("aws/console/deploy").token(&token).await.ok();

    let all = r#"path "sys/*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }"#;
    let (server, token) = with(&format!(
        r#"{all} path "sys/storage/raft/snapshot" {{ capabilities = ["read", "sudo"] }} path "sys/rotate" {{ capabilities = ["read"] }}
        path "sys/storage/snapshot-force" {{ capabilities = ["update"] }}"#
    ))
    .await;
    for path in
        ["storage/raft/snapshot", "storage/snapshot", "rotate", "rotate/keyring", "storage/snapshot-force", "storage/raft/snapshot-force"]
    {
        assert_eq!(server.put(&format!("sys/{path}"), json!({})).token(&token).await.refused(403), REFUSED, "{path}");
    }
    assert_eq!(capabilities(&server, &token, "sys/storage/snapshot").await, json!(["read", "sudo"]));
    assert_eq!(server.get("sys/storage/snapshot").token(&token).download().await.0.status, 200);
    // Who has one right under one name and one under the other has both: neither rule is about the other path.
    let (server, token) =
        with(r#"path "sys/storage/raft/snapshot" { capabilities = ["update"] } path "sys/storage/snapshot" { capabilities = ["read"] }"#)
            .await;
    assert_eq!(server.get("sys/storage/snapshot").token(&token).download().await.0.status, 200);
    assert_ne!(server.put("sys/storage/raft/snapshot", json!({})).token(&token).await.status, 403);
}

/// Story: a policy that works on Vault grants all in `sys/` and, at `sys/rotate/*`, no more than writing: `sys/rotate/config` is meant. `vault operator rotate` was refused,
/// because daypass has `sys/rotate/keyring` for the same, which that rule is about.
#[tokio::test]
async fn a_wildcard_beside_vaults_own_path_takes_nothing_from_it() {
    let all = r#"path "sys/*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }"#;
    let (server, token) = with(&format!(r#"{all} path "sys/rotate/*" {{ capabilities = ["update"] }}"#)).await;
    server.put("sys/rotate", json!({})).token(&token).await.ok();
    assert_eq!(server.put("sys/rotate/keyring", json!({})).token(&token).await.refused(403), REFUSED);
    let granted = json!(["create", "delete", "list", "read", "sudo", "update"]);
    assert_eq!(capabilities(&server, &token, "sys/rotate").await, granted);
    // Denies and demands count both ways, whatever they are written with.
    let (server, token) = with(&format!(r#"{all} path "sys/rotate/*" {{ capabilities = ["deny"] }}"#)).await;
    assert_eq!(server.put("sys/rotate", json!({})).token(&token).await.refused(403), REFUSED);
}
