//! What a mount is tuned to: slashes at the end of paths, headers in and out, who sees it.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Engine, Factory, Operation, Reply, Result, Room};
use daypass_testkit::{Setup, TestServer};
use serde_json::{Value, json};

/// Answers with the path and the headers that it sees, and sets one itself.
struct Mirror;

/// No fields.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Anything {}

async fn show(_: Arc<Mirror>, cx: Cx, _: Anything) -> Result<Reply> {
    let mut reply = Reply::json(json!({ "path": cx.request.path, "below": cx.request.below, "headers": cx.request.headers }));
    reply.headers = vec![("x-mirror", "here".to_owned()), ("x-other", "there".to_owned())];
    Ok(reply)
}

impl Engine for Mirror {
    const SUMMARY: &'static str = "Shows what it sees.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        vec![Endpoint::at(["{path..?}"]).summary("Anything.").on(Operation::Read, show).on(Operation::Update, show)]
    }
}

async fn mirror(config: Value) -> TestServer {
    let setup = Setup::default().engine(|| {
        let room = Arc::new(Room::<Mirror>::new());
        Factory {
            kind: "mirror",
            auth: false,
            summary: "Shows what it sees",
            built_from: &[],
            build: Box::new(move |_: &_| Ok(room.mount(Mirror))),
        }
    });
    let server = setup.start().await;
    server.put("sys/mounts/mirror", json!({ "type": "mirror", "config": config })).await.ok();
    server
}

#[tokio::test]
async fn a_mount_can_cut_the_slash_off_written_paths() {
    let server = mirror(json!({})).await;
    assert_eq!(server.put("mirror/a/", json!({})).await.refused(400), "cannot write to a path ending in '/'");
    server.put("sys/mounts/mirror/tune", json!({ "trim_request_trailing_slashes": true })).await.ok();
    assert_eq!(server.get("sys/mounts/mirror").await.ok()["data"]["config"]["trim_request_trailing_slashes"], json!(true));
    assert_eq!(server.put("mirror/a/b/", json!({})).await.ok()["data"]["path"], json!("mirror/a/b"));
    assert_eq!(server.get("mirror/a/b/").await.ok()["data"]["path"], json!("mirror/a/b/"), "reads keep it");
    // Policy judges the path that is written, not the one that was sent.
    server.policy("p", r#"path "mirror/open" { capabilities = ["update"] } path "mirror/shut/" { capabilities = ["update"] }"#).await;
    let token = server.token(json!({ "policies": ["p"] })).await;
    server.put("mirror/open/", json!({})).token(&token).await.ok();
    server.put("mirror/shut/", json!({})).token(&token).await.refused(403);
    server.put("sys/mounts/mirror/tune", json!({ "trim_request_trailing_slashes": false })).await.ok();
    server.put("mirror/a/", json!({})).await.refused(400);
}

#[tokio::test]
async fn an_engine_sees_the_headers_that_its_mount_passes_on_but_never_a_token() {
    let server = mirror(json!({ "passthrough_request_headers": ["X-Build", "x-vault-token", "Authorization"] })).await;
    let seen = server.get("mirror/x").header("x-build", "42").header("x-else", "1").header("authorization", "Basic abc").await.ok();
    assert_eq!(seen["data"]["headers"], json!({ "x-build": "42", "authorization": "Basic abc" }));
    let bearer = format!("Bearer {}", server.root());
    let seen = server.get("mirror/x").nobody().header("authorization", &bearer).await.ok();
    assert_eq!(seen["data"]["headers"], json!({}), "a bearer token is a token");
    server.put("sys/mounts/mirror/tune", json!({ "passthrough_request_headers": "" })).await.ok();
    assert_eq!(server.get("mirror/x").header("x-build", "42").await.ok()["data"]["headers"], json!({}));
}

#[tokio::test]
async fn an_engine_sets_the_headers_that_its_mount_allows() {
    let server = mirror(json!({})).await;
    let names = async |server: &TestServer| {
        let answer = server.get("mirror/x").await.ok();
        answer.headers.iter().map(|(name, _)| *name).filter(|name| name.starts_with("x-")).collect::<Vec<_>>()
    };
    assert!(names(&server).await.is_empty());
    server.put("sys/mounts/mirror/tune", json!({ "allowed_response_headers": ["X-Mirror"] })).await.ok();
    assert_eq!(names(&server).await, ["x-mirror"]);
}

#[tokio::test]
async fn strangers_see_the_mounts_that_are_listed_to_all() {
    let server = mirror(json!({ "listing_visibility": "unauth" })).await;
    let listed = async |server: &TestServer| {
        let answer = server.get("sys/internal/ui/mounts").nobody().await.ok();
        answer["data"]["secret"].clone()
    };
    assert_eq!(listed(&server).await, json!({ "mirror/": { "type": "mirror", "description": "", "options": {} } }));
    for hidden in ["hidden", ""] {
        server.put("sys/mounts/mirror/tune", json!({ "listing_visibility": hidden })).await.ok();
        assert_eq!(listed(&server).await, json!({}));
    }
    assert_eq!(
        server.put("sys/mounts/mirror/tune", json!({ "listing_visibility": "all" })).await.refused(400),
        "invalid listing_visibility all"
    );
}

#[tokio::test]
async fn only_kv_has_versions() {
    let server = mirror(json!({})).await;
    let mount = |kind: &str, version: &str| {
        server.put(&format!("sys/mounts/{kind}-{version}"), json!({ "type": kind, "options": { "version": version } }))
    };
    assert_eq!(mount("aws", "2").await.refused(400), "secrets engine \"aws\" does not allow setting a version");
    mount("aws", "").await.ok();
    mount("kv", "2").await.ok();
    mount("kv-v2", "1").await.ok();
    assert_eq!(server.get("sys/mounts/kv-v2-1").await.ok()["data"]["options"], json!({ "version": "2" }), "the name of the type wins");
}
