//! The key of an AWS login mount is replaced: by whom, when, and what is left when something goes wrong. Deaths are in `aws_killed.rs`.

use std::time::Duration;

use daypass_aws::Holding;
use daypass_testkit::TestServer;
use serde_json::{Value, json};

const USER: &str = "root-of-the-logins";
const ROTATE: &str = "auth/aws/config/rotate-root";
const CLIENT: &str = "auth/aws/config/client";

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.put("sys/auth/aws", json!({ "type": "aws" })).await.ok();
    server.aws().add_user(USER);
    let key = server.aws().add_key(USER).unwrap();
    server.put(CLIENT, json!({ "access_key": key.id, "secret_key": key.secret.expose() })).await.ok();
    server
}

async fn minutes(server: &TestServer, minutes: u64) {
    for _ in 0..minutes {
        server.seconds(60).await;
    }
}

async fn seconds(server: &TestServer, seconds: u64) {
    for _ in 0..seconds {
        server.seconds(1).await;
    }
}

async fn key(server: &TestServer) -> String {
    server.get(CLIENT).await.ok().text("/data/access_key")
}

fn keys(server: &TestServer) -> Vec<Holding> {
    server.aws().holdings(USER)
}

fn only(id: &str) -> [Holding; 1] {
    [Holding::AccessKey(id.to_owned())]
}

async fn notes(server: &TestServer) -> usize {
    server.keys().await.iter().filter(|key| key.contains("/wal/")).count()
}

/// A key that was made, and that nobody heard of.
async fn one_that_nobody_knows(server: &TestServer) {
    server.aws().fail("CreateAccessKey", "", 0);
    let lost = server.put(ROTATE, Value::Null).await;
    assert!(lost.refused(500).contains("error calling CreateAccessKey: "), "{}", lost.body);
    assert_eq!((keys(server).len(), notes(server).await), (2, 1));
}

#[tokio::test]
async fn the_key_is_replaced_and_nobody_sees_the_new_secret() {
    let server = server().await;
    let first = key(&server).await;
    let answer = server.put(ROTATE, Value::Null).await.ok();
    let second = answer.text("/data/access_key");
    assert_ne!(second, first);
    assert_eq!(answer.body["data"], json!({ "access_key": second }));
    assert!(!answer.body.to_string().contains("secret-of-"), "{}", answer.body);
    assert_eq!((key(&server).await, keys(&server).as_slice()), (second.clone(), only(&second).as_slice()));
    assert_eq!(notes(&server).await, 0);
    // The new secret is the one that is used: the fake knows what the old key signs for dead.
    server.put(ROTATE, Value::Null).await.ok();
    assert_ne!(key(&server).await, second);
}

#[tokio::test]
async fn only_who_may_write_there_replaces_the_key() {
    let server = server().await;
    let first = key(&server).await;
    server.policy("reader", r#"path "auth/aws/*" { capabilities = ["read"] }"#).await;
    server.policy("rotator", r#"path "auth/aws/config/rotate-root" { capabilities = ["update"] }"#).await;
    let reader = server.token(json!({ "policies": ["reader"] })).await;
    server.put(ROTATE, Value::Null).token(&reader).await.refused(403);
    server.put(ROTATE, Value::Null).nobody().await.refused(403);
    assert_eq!(key(&server).await, first);
    let rotator = server.token(json!({ "policies": ["rotator"] })).await;
    server.put(ROTATE, Value::Null).token(&rotator).await.ok();
    assert_ne!(key(&server).await, first);
}

#[tokio::test]
async fn a_mount_without_a_key_says_what_is_missing() {
    let server = TestServer::start().await;
    server.put("sys/auth/aws", json!({ "type": "aws" })).await.ok();
    let said = async || server.put(ROTATE, Value::Null).await.refused(400).to_owned();
    assert_eq!(said().await, "can't update client config because it's unset");
    server.put(CLIENT, json!({ "max_retries": 3 })).await.ok();
    assert_eq!(said().await, "can't update access_key because it's unset");
    server.put(CLIENT, json!({ "access_key": "AKIA1" })).await.ok();
    assert_eq!(said().await, "can't update secret_key because it's unset");
    let federation =
        json!({ "access_key": "", "identity_token_audience": "sts.amazonaws.com", "role_arn": "arn:aws:iam::111111111111:role/x" });
    server.put(CLIENT, federation).await.ok();
    let refused = said().await;
    assert!(refused.starts_with("can't update access_key because it's unset: config/client has identity_token_audience"), "{refused}");
    assert!(server.aws().made().is_empty(), "AWS was not asked");
}

/// Story: a write put the configuration as it had read it back over the new key, whose predecessor was deleted already.
#[tokio::test]
async fn a_write_at_the_same_moment_never_brings_an_old_key_back() {
    let server = server().await;
    let first = key(&server).await;
    minutes(&server, 1).await;
    server.aws().keys_settle_after(Duration::from_secs(10));
    let write = async {
        seconds(&server, 4).await;
        server.put(CLIENT, json!({ "max_retries": 5 })).await.ok();
        seconds(&server, 20).await;
    };
    let (refused, ()) = tokio::join!(server.put(ROTATE, Value::Null), write);
    assert!(refused.status >= 400, "{}", refused.body);
    let shown = server.get(CLIENT).await.ok();
    assert_eq!((shown.text("/data/access_key"), shown.number("/data/max_retries")), (first.clone(), 5));
    assert_eq!((keys(&server).as_slice(), notes(&server).await), (only(&first).as_slice(), 0));
    // And a configuration that is deleted meanwhile stays deleted.
    let delete = async {
        seconds(&server, 4).await;
        server.delete(CLIENT).await.ok();
        seconds(&server, 20).await;
    };
    let (refused, ()) = tokio::join!(server.put(ROTATE, Value::Null), delete);
    assert!(refused.status >= 400, "{}", refused.body);
    assert_eq!(server.get(CLIENT).await.status, 404);
    minutes(&server, 8).await;
    assert_eq!((keys(&server).as_slice(), notes(&server).await), (only(&first).as_slice(), 0));
}

#[tokio::test]
async fn a_new_key_that_aws_never_accepts_is_deleted_and_the_old_one_stays() {
    let server = server().await;
    let first = key(&server).await;
    minutes(&server, 61).await;
    server.aws().keys_settle_after(Duration::from_hours(1));
    let (refused, ()) = tokio::join!(server.put(ROTATE, Value::Null), seconds(&server, 40));
    assert!(refused.refused(500).contains("the old one stays in force"), "{}", refused.body);
    assert_eq!((key(&server).await, keys(&server).as_slice()), (first.clone(), only(&first).as_slice()));
}

#[tokio::test]
async fn an_old_key_that_is_not_deleted_at_once_is_deleted_later() {
    let server = server().await;
    server.aws().fail("DeleteAccessKey", "ServiceFailure", 500);
    let refused = server.put(ROTATE, Value::Null).await;
    assert!(refused.refused(500).contains("error deleting old access key: "), "{}", refused.body);
    assert_eq!(keys(&server).len(), 2);
    minutes(&server, 3).await;
    assert_eq!((keys(&server).as_slice(), notes(&server).await), (only(&key(&server).await).as_slice(), 0));
}

#[tokio::test]
async fn a_key_that_nobody_knows_is_deleted_by_the_regular_work() {
    let server = server().await;
    let first = key(&server).await;
    one_that_nobody_knows(&server).await;
    minutes(&server, 7).await;
    assert_eq!((keys(&server).as_slice(), notes(&server).await), (only(&first).as_slice(), 0));
    assert_eq!(key(&server).await, first);
}

#[tokio::test]
async fn a_key_that_nobody_knows_goes_with_the_mount() {
    let server = server().await;
    let first = key(&server).await;
    one_that_nobody_knows(&server).await;
    server.delete("sys/auth/aws").await.ok();
    assert_eq!((keys(&server).as_slice(), notes(&server).await), (only(&first).as_slice(), 0));
}

/// Story: the configuration went, and with it the only key that may delete the one before it.
#[tokio::test]
async fn an_old_key_is_deleted_before_the_configuration_that_can() {
    let server = server().await;
    server.aws().fail("DeleteAccessKey", "ServiceFailure", 500);
    server.put(ROTATE, Value::Null).await.refused(500);
    let second = key(&server).await;
    server.delete(CLIENT).await.ok();
    assert_eq!((keys(&server).as_slice(), notes(&server).await), (only(&second).as_slice(), 0));
    assert_eq!(server.get(CLIENT).await.status, 404);
}

#[tokio::test]
async fn the_key_replaces_itself_every_period_unless_that_is_switched_off() {
    let server = server().await;
    let first = key(&server).await;
    server.put(CLIENT, json!({ "rotation_period": "1h" })).await.ok();
    minutes(&server, 59).await;
    assert_eq!(key(&server).await, first);
    minutes(&server, 2).await;
    let second = key(&server).await;
    assert_ne!(second, first);
    assert_eq!(keys(&server), only(&second));
    server.put(CLIENT, json!({ "disable_automated_rotation": true })).await.ok();
    minutes(&server, 120).await;
    assert_eq!(key(&server).await, second);
    server.put(CLIENT, json!({ "disable_automated_rotation": false })).await.ok();
    minutes(&server, 2).await;
    assert_ne!(key(&server).await, second);
}

/// The clock of a test begins on a Friday, 2026-01-02T03:04:05Z.
#[tokio::test]
async fn the_key_replaces_itself_when_its_cron_line_says() {
    let server = server().await;
    let first = key(&server).await;
    server.put(CLIENT, json!({ "rotation_schedule": "30 4 * * *", "rotation_window": "1h" })).await.ok();
    let shown = server.get(CLIENT).await.ok();
    assert_eq!((shown.text("/data/rotation_schedule"), shown.number("/data/rotation_window")), ("30 4 * * *".to_owned(), 3600));
    minutes(&server, 85).await;
    assert_eq!(key(&server).await, first);
    // A refusal is tried again within the window.
    server.aws().fail("CreateAccessKey", "AccessDenied", 403);
    minutes(&server, 4).await;
    assert_ne!(key(&server).await, first);
    for (fields, said) in [
        (json!({ "rotation_schedule": "", "rotation_period": "10s" }), "rotation_period is too short"),
        (json!({ "rotation_schedule": "* *" }), "invalid rotation_schedule \"* *\": it has 2 fields"),
        (json!({ "rotation_schedule": "@daily", "rotation_period": 60 }), "mutually exclusive fields"),
        (json!({ "access_key": "", "secret_key": "" }), "need an access_key and a secret_key"),
    ] {
        let refused = server.put(CLIENT, fields).await;
        assert!(refused.refused(400).contains(said), "{}", refused.body);
    }
}

/// Story: keys of another user were written while the key before was still to be deleted. They could not delete it, and nobody had tried with those that
/// could.
#[tokio::test]
async fn a_key_that_is_written_comes_after_what_the_one_before_has_to_delete() {
    let server = server().await;
    let other = json!({ "access_key": "AKIAOTHER", "secret_key": "other-secret" });
    server.aws().fail("DeleteAccessKey", "ServiceFailure", 500);
    server.put(ROTATE, Value::Null).await.refused(500);
    let second = key(&server).await;
    assert_eq!(keys(&server).len(), 2);
    let written = server.put(CLIENT, other.clone()).await.ok();
    assert!(written.body.get("warnings").is_none_or(Value::is_null), "{}", written.body);
    assert_eq!((keys(&server).as_slice(), notes(&server).await), (only(&second).as_slice(), 0));
}

#[tokio::test]
async fn who_writes_another_key_is_told_what_is_left_and_nothing_is_forgotten() {
    let server = server().await;
    server.aws().fail_often("DeleteAccessKey", "ServiceFailure", 500, 2);
    server.put(ROTATE, Value::Null).await.refused(500);
    let warned = server.put(CLIENT, json!({ "access_key": "AKIAOTHER", "secret_key": "other-secret" })).await.ok();
    assert!(warned.text("/warnings/0").contains("could not be yet (1)"), "{}", warned.body);
    let identity = daypass_aws::Identity {
        account: "222222222222".to_owned(),
        arn: "arn:aws:iam::222222222222:user/other".to_owned(),
        user_id: "AIDAOTHER".to_owned(),
    };
    server.aws().set_identity(Ok(identity));
    server.aws().remove_user(USER);
    minutes(&server, 90).await;
    assert_eq!(notes(&server).await, 1);
}
