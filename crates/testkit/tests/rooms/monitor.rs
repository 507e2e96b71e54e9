//! Following the log, and setting how much is logged.

use std::time::Duration;

use bytes::Bytes;
use daypass_core::log::Level;
use daypass_testkit::TestServer;
use serde_json::json;
use tokio::sync::mpsc::Receiver;

async fn line(lines: &mut Receiver<Bytes>) -> String {
    lines.recv().await.map(|line| String::from_utf8_lossy(&line).into_owned()).unwrap_or_default()
}

/// Lets the monitor's task come to its next wait.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_monitor_hears_its_level_for_longer_than_any_request_may_take() {
    let server = TestServer::start().await;
    let mut lines = server.get("sys/monitor?log_level=debug").stream(200).await;
    let mut as_json = server.get("sys/monitor?log_format=json&log_level=warn").stream(200).await;
    server.log().tell(Level::Debug, "detail");
    server.log().tell(Level::Trace, "too much");
    server.log().tell(Level::Error, "trouble");
    assert!(line(&mut lines).await.ends_with("[DEBUG] core: detail\n"));
    assert!(line(&mut lines).await.ends_with("[ERROR] core: trouble\n"));
    let entry: serde_json::Value = serde_json::from_str(&line(&mut as_json).await).unwrap();
    assert_eq!((&entry["@level"], &entry["@message"]), (&json!("error"), &json!("trouble")));
    for _ in 0..40 {
        server.seconds(5).await;
    }
    server.log().tell(Level::Info, "still there");
    assert!(line(&mut lines).await.ends_with("core: still there\n"));
    drop((lines, as_json));
    settle().await;
    assert!(!server.log().is_followed(), "nothing is put together for readers that have gone");
}

#[tokio::test]
async fn a_monitor_ends_with_its_token_and_with_the_seal() {
    let server = TestServer::start().await;
    let revoked = server.operator().await;
    let ending = server.token(json!({ "policies": ["everything"], "ttl": "60s" })).await;
    let mut of_revoked = server.get("sys/monitor").token(&revoked).stream(200).await;
    let mut of_ending = server.get("sys/monitor").token(&ending).stream(200).await;
    let mut of_root = server.get("sys/monitor").stream(200).await;
    settle().await;
    server.put("auth/token/revoke", json!({ "token": revoked })).await.ok();
    server.seconds(6).await;
    assert_eq!(line(&mut of_revoked).await, "");
    server.log().tell(Level::Warn, "here");
    assert!(line(&mut of_ending).await.ends_with("here\n"));
    for _ in 0..12 {
        server.seconds(5).await;
    }
    assert_eq!(line(&mut of_ending).await, "");
    assert!(line(&mut of_root).await.ends_with("here\n"));
    server.put("sys/seal", json!({})).await.ok();
    assert_eq!(line(&mut of_root).await, "");
    assert!(!server.log().is_followed());
}

#[tokio::test]
async fn a_monitor_ends_with_the_right_to_it() {
    let server = TestServer::start().await;
    server.policy("follows", r#"path "sys/monitor" { capabilities = ["read"] }"#).await;
    let token = server.token(json!({ "policies": ["follows"] })).await;
    let mut lines = server.get("sys/monitor").token(&token).stream(200).await;
    settle().await;
    server.seconds(6).await;
    server.log().tell(Level::Warn, "here");
    assert!(line(&mut lines).await.ends_with("here\n"));
    server.policy("follows", r#"path "sys/monitor" { capabilities = ["deny"] }"#).await;
    server.seconds(6).await;
    assert_eq!(line(&mut lines).await, "");
}

#[tokio::test]
async fn monitors_are_bounded_and_end_when_the_server_stops() {
    let server = TestServer::start().await;
    let mut all = Vec::new();
    for _ in 0..8 {
        all.push(server.get("sys/monitor").stream(200).await);
    }
    let full = server.get("sys/monitor").await;
    assert!(full.refused(429).starts_with("8 monitors follow the log already"), "{:?}", full.body);
    drop(all.pop());
    settle().await;
    all.push(server.get("sys/monitor").stream(200).await);
    server.core().end_streams().await;
    for mut lines in all {
        assert_eq!(tokio::time::timeout(Duration::from_secs(5), line(&mut lines)).await.unwrap(), "");
    }
    assert_eq!(server.get("sys/monitor").await.status, 503, "none begins while the server stops");
}

#[tokio::test]
async fn a_monitor_needs_a_right_and_words_that_exist() {
    let server = TestServer::start().await;
    assert_eq!(server.get("sys/monitor?log_level=loud").await.refused(400), "unknown log level");
    assert!(server.get("sys/monitor?log_format=xml").await.refused(400).contains("unknown log format \"xml\""));
    assert_eq!(server.get("sys/monitor").nobody().await.status, 403);
    let nobody = server.token(json!({ "policies": ["default"] })).await;
    assert_eq!(server.get("sys/monitor").token(&nobody).await.status, 403);
    assert!(!server.log().is_followed());
    let wrapped = server.get("sys/monitor").wrap("60s").stream(200).await;
    drop(wrapped);
}

#[tokio::test]
async fn loggers_are_set_alone_or_together_and_go_back_to_the_start() {
    let server = TestServer::start().await;
    assert_eq!(server.get("sys/loggers").await.ok()["data"], json!({ "audit": "info", "core": "info", "expiry": "info" }));
    assert_eq!(server.put("sys/loggers/core", json!({ "level": "trace" })).await.status, 204);
    assert_eq!(server.get("sys/loggers/core").await.ok()["data"], json!({ "core": "trace" }));
    assert_eq!(server.put("sys/loggers", json!({ "level": "WARN" })).await.status, 204);
    assert_eq!(server.delete("sys/loggers/expiry").await.status, 204);
    assert_eq!(server.get("sys/loggers").await.ok()["data"], json!({ "audit": "warn", "core": "warn", "expiry": "info" }));
    assert_eq!(server.delete("sys/loggers").await.status, 204);
    assert_eq!(server.get("sys/loggers/audit").await.ok()["data"], json!({ "audit": "info" }));
    assert_eq!(server.get("sys/loggers/nobody").await.refused(400), "logger \"nobody\" not found");
    assert_eq!(server.put("sys/loggers/nobody", json!({ "level": "info" })).await.refused(400), "logger \"nobody\" not found");
    assert_eq!(server.delete("sys/loggers/nobody").await.refused(400), "logger \"nobody\" not found");
    assert_eq!(server.put("sys/loggers", json!({ "level": "loud" })).await.refused(400), "invalid level provided: unknown log level: loud");
    assert_eq!(server.put("sys/loggers/core", json!({ "level": "" })).await.refused(400), "level is empty");
    assert_eq!(server.put("sys/loggers/core", json!({})).await.refused(400), "level is required");
}
