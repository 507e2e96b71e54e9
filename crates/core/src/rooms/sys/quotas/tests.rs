//! Quotas through the whole pipeline.

use std::time::Duration;

use serde_json::{Value, json};

use crate::rooms::sys::tests::Server;

async fn server() -> Server {
    let server = Server::start().await;
    assert_eq!(server.ask("POST", "sys/mounts/a", json!({ "type": "lender" })).await.0, 204);
    server
}

async fn set(server: &Server, name: &str, fields: Value) {
    assert_eq!(server.ask("POST", &format!("sys/quotas/rate-limit/{name}"), fields).await, (204, Value::Null));
}

async fn status(server: &Server, path: &str) -> u16 {
    server.ask("GET", path, Value::Null).await.0
}

#[tokio::test]
async fn who_goes_over_is_refused_before_anybody_looks_at_the_token() {
    let server = server().await;
    set(&server, "q", json!({ "path": "a", "rate": 1, "interval": "60s" })).await;
    assert_eq!(status(&server, "a/last").await, 200);
    let (code, answer) = server.ask_as(None, "GET", "a/last", Value::Null).await;
    assert_eq!((code, &answer["errors"][0]), (429, &json!("request path \"a/last\": rate limit quota exceeded")));
    server.clock.advance(Duration::from_mins(1));
    assert_eq!(status(&server, "a/last").await, 200);
}

#[tokio::test]
async fn writing_a_quota_starts_counting_anew_and_deleting_it_ends_it() {
    let server = server().await;
    for _ in 0..2 {
        set(&server, "q", json!({ "path": "a", "rate": 1, "interval": "600s" })).await;
        assert_eq!([status(&server, "a/last").await, status(&server, "a/last").await], [200, 429]);
    }
    assert_eq!(server.ask("DELETE", "sys/quotas/rate-limit/q", Value::Null).await.0, 204);
    assert_eq!(status(&server, "a/last").await, 200);
}

#[tokio::test]
async fn the_most_specific_quota_alone_counts() {
    let server = server().await;
    set(&server, "mount", json!({ "path": "a", "rate": 1, "interval": "600s" })).await;
    set(&server, "path", json!({ "path": "a/last", "rate": 3, "interval": "600s" })).await;
    let mut codes = Vec::new();
    for path in ["a/lend", "a/lend", "a/last", "a/last", "a/last", "a/last"] {
        codes.push(status(&server, path).await);
    }
    assert_eq!(codes, [200, 429, 200, 200, 200, 429]);
}

#[tokio::test]
async fn exempt_paths_are_never_counted() {
    let server = server().await;
    assert_eq!(server.ask("POST", "sys/quotas/config", json!({ "rate_limit_exempt_paths": "sys/*,a/last" })).await.0, 204);
    set(&server, "all", json!({ "rate": 1, "interval": "600s" })).await;
    assert_eq!([status(&server, "a/last").await, status(&server, "a/last").await], [200, 200]);
    assert_eq!([status(&server, "a/lend").await, status(&server, "a/lend").await], [200, 429]);
}

#[tokio::test]
async fn a_quota_goes_with_its_mount_and_outlives_a_seal() {
    let mut server = server().await;
    set(&server, "q", json!({ "path": "a", "rate": 1, "interval": "600s" })).await;
    server.core.seal().await;
    server.unseal().await;
    assert_eq!(server.ask("POST", "sys/remount", json!({ "from": "a", "to": "b" })).await.0, 200);
    assert_eq!(server.ask("GET", "sys/quotas/rate-limit/q", Value::Null).await.1["data"]["path"], "b/");
    assert_eq!(server.ask("DELETE", "sys/mounts/b", Value::Null).await.0, 204);
    assert_eq!(status(&server, "sys/quotas/rate-limit/q").await, 404);
}

#[tokio::test]
async fn a_quota_that_makes_no_sense_is_refused() {
    let server = server().await;
    for (fields, text) in [
        (json!({ "rate": 0 }), "'rate' is invalid"),
        (json!({ "rate": "NaN" }), "'rate' is invalid"),
        (json!({ "rate": 1, "path": "nowhere" }), "invalid mount path \"nowhere/\""),
        (json!({ "rate": 1, "inheritable": false }), "all global quotas must be inheritable"),
    ] {
        let (code, answer) = server.ask("POST", "sys/quotas/rate-limit/q", fields).await;
        assert_eq!((code, &answer["errors"][0]), (400, &json!(text)));
    }
}
