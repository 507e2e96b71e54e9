//! The room through the whole pipeline, in memory: what recorded answers cannot show.

use std::sync::Arc;

use bytes::Bytes;
use daypass_base::BoxFuture;
use daypass_base::sim::{SeededEntropy, SimClock};
use daypass_sdk::{Cx, Endpoint, Engine, Error, Factory, Json, LeaseInfo, LeaseTerms, Leased, Operation, Result, Room, Seconds};
use daypass_storage::memory::MemoryBackend;
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{Body, Core, HttpRequest, Limits, SealKind, Settings, SystemTtls};

/// An engine that lends numbers and keeps a book of them.
struct Lender {
    book: Arc<Book>,
}

/// What became of what was lent; shared by all mounts of a test.
#[derive(Default)]
pub(super) struct Book {
    pub(super) returned: Mutex<Vec<Value>>,
    /// Nothing can be taken back.
    pub(super) strike: Mutex<bool>,
}

/// No fields.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Nothing {}

async fn lend(_: Arc<Lender>, cx: Cx, _: Nothing) -> Result<Leased> {
    let number = cx.entropy.below(1_000_000);
    cx.store.put_json("last", &number).await?;
    let terms = LeaseTerms { ttl: Seconds(600), max_ttl: Seconds(600), renewable: false };
    Ok(Leased::stored(json!({ "number": number }), terms, json!({ "number": number })))
}

async fn last(_: Arc<Lender>, cx: Cx, _: Nothing) -> Result<Json<Value>> {
    let last: Option<u64> = cx.store.get_json("last").await?;
    Ok(Json(json!({ "last": last })))
}

impl Engine for Lender {
    const SUMMARY: &'static str = "Lends numbers.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        vec![Endpoint::at(["lend"]).on(Operation::Read, lend), Endpoint::at(["last"]).on(Operation::Read, last)]
    }

    fn revoke(self: Arc<Self>, _cx: Cx, lease: LeaseInfo) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            if *self.book.strike.lock() {
                return Err(Error::failed("nobody is there to take it"));
            }
            self.book.returned.lock().push(lease.internal["number"].clone());
            Ok(())
        })
    }
}

/// A server in memory, with its root token.
pub(in crate::rooms) struct Server {
    pub(super) core: Core,
    pub(super) book: Arc<Book>,
    pub(in crate::rooms) clock: SimClock,
    root: String,
    share: Vec<daypass_barrier::Share>,
}

impl Server {
    pub(in crate::rooms) async fn start() -> Self {
        let book = Arc::<Book>::default();
        let lenders = Arc::clone(&book);
        let room = Arc::new(Room::<Lender>::new());
        let build = move |_: &_| Ok(room.mount(Lender { book: Arc::clone(&lenders) }));
        let factories = vec![Factory { kind: "lender", auth: false, summary: "", built_from: &[], build: Box::new(build) }];
        let settings = Settings {
            ttls: SystemTtls::default(),
            limits: Limits::default(),
            version: "1.21.4+daypass.test".to_owned(),
            build_date: String::new(),
            cluster_name: None,
            seal: SealKind::Shamir,
            audit_prefixing: daypass_audit::Prefixing::Refused,
            own_files: daypass_audit::OwnFiles::default(),
            api_addr: String::new(),
            sanitized: json!({}),
            metrics: crate::node::MetricsShown::default(),
            log: Arc::new(crate::log::Unwritten),
            traces: None,
            connections: Arc::default(),
        };
        let (clock, entropy) = (SimClock::default(), Arc::new(SeededEntropy::new(7)));
        let core = Core::new(Arc::new(MemoryBackend::new()), Arc::new(clock.clone()), entropy, settings, factories);
        let made = core.initialise(1, 1).await.unwrap();
        let mut server = Self { core, book, clock, root: made.root_token.expose().clone(), share: made.shares };
        server.unseal().await;
        server
    }

    pub(super) async fn unseal(&mut self) {
        assert!(self.core.unseal(self.share[0].clone()).await.unwrap());
    }

    pub(in crate::rooms) async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.ask_as(Some(&self.root), method, path, body).await
    }

    pub(in crate::rooms) async fn ask_as(&self, token: Option<&str>, method: &str, path: &str, body: Value) -> (u16, Value) {
        let mut headers = http::HeaderMap::new();
        if let Some(token) = token {
            headers.insert("x-vault-token", token.parse().unwrap());
        }
        self.send(headers, method, path, body).await
    }

    /// As root, with more headers.
    pub(in crate::rooms) async fn ask_with(&self, mut headers: http::HeaderMap, method: &str, path: &str, body: Value) -> (u16, Value) {
        headers.insert("x-vault-token", self.root.parse().unwrap());
        self.send(headers, method, path, body).await
    }

    async fn send(&self, headers: http::HeaderMap, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = HttpRequest {
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            uri: format!("/v1/{path}").parse().unwrap(),
            headers,
            body: Body::Read(body),
            peer: None,
            client_chain: None,
            opened: crate::http::Opened::default(),
        };
        let answer = self.core.handle(request).await;
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
    }
}

#[tokio::test]
async fn a_mount_cannot_be_made_below_or_above_another() {
    let server = Server::start().await;
    assert_eq!(server.ask("POST", "sys/mounts/a/b", json!({ "type": "lender" })).await.0, 204);
    for path in ["a", "a/b", "a/b/c"] {
        let (status, answer) = server.ask("POST", &format!("sys/mounts/{path}"), json!({ "type": "lender" })).await;
        assert_eq!((status, &answer["errors"][0]), (400, &json!("path is already in use at a/b/")), "{path}");
    }
    assert_eq!(server.ask("POST", "sys/mounts/a/bc", json!({ "type": "lender" })).await.0, 204);
}

#[tokio::test]
async fn mounts_and_their_settings_outlive_a_seal() {
    let mut server = Server::start().await;
    server.ask("POST", "sys/mounts/a", json!({ "type": "lender" })).await;
    server.ask("POST", "sys/mounts/a/tune", json!({ "description": "numbers", "max_lease_ttl": "1h" })).await;
    let before = server.ask("GET", "sys/mounts/a", Value::Null).await.1;
    server.core.seal().await;
    assert_eq!(server.ask("GET", "sys/mounts/a", Value::Null).await.0, 503);
    server.unseal().await;
    let after = server.ask("GET", "sys/mounts/a", Value::Null).await.1;
    assert_eq!(before["data"], after["data"]);
    assert_eq!(after["data"]["config"]["max_lease_ttl"], 3600);
}

#[tokio::test]
async fn a_moved_mount_keeps_its_data_and_loses_its_leases() {
    let server = Server::start().await;
    server.ask("POST", "sys/mounts/a", json!({ "type": "lender" })).await;
    let lent = server.ask("GET", "a/lend", Value::Null).await.1["data"]["number"].clone();
    let moved = server.ask("POST", "sys/remount", json!({ "from": "a", "to": "b/c" })).await.1;
    assert_eq!(*server.book.returned.lock(), std::slice::from_ref(&lent));
    let id = moved["data"]["migration_id"].as_str().unwrap();
    let status = server.ask("GET", &format!("sys/remount/status/{id}"), Value::Null).await.1;
    assert_eq!(status["data"]["migration_info"], json!({ "source_mount": "a/", "target_mount": "b/c/", "status": "success" }));
    assert_eq!(server.ask("GET", "b/c/last", Value::Null).await.1["data"]["last"], lent);
    assert_eq!(server.ask("GET", "a/last", Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_move_that_cannot_take_back_its_leases_does_not_happen() {
    let server = Server::start().await;
    server.ask("POST", "sys/mounts/a", json!({ "type": "lender" })).await;
    server.ask("GET", "a/lend", Value::Null).await;
    *server.book.strike.lock() = true;
    assert_eq!(server.ask("POST", "sys/remount", json!({ "from": "a", "to": "b" })).await.0, 400);
    assert_eq!(server.ask("GET", "a/last", Value::Null).await.0, 200);
    assert_eq!(server.ask("GET", "b/last", Value::Null).await.0, 404);
}

#[tokio::test]
async fn what_was_written_before_a_rotation_is_read_after_it_and_after_a_seal() {
    let mut server = Server::start().await;
    server.ask("POST", "sys/mounts/a", json!({ "type": "lender" })).await;
    let lent = server.ask("GET", "a/lend", Value::Null).await.1["data"]["number"].clone();
    let term = server.ask("GET", "sys/key-status", Value::Null).await.1["data"]["term"].as_u64().unwrap();
    assert_eq!(server.ask("POST", "sys/rotate", Value::Null).await.0, 204);
    assert_eq!(server.ask("GET", "sys/key-status", Value::Null).await.1["data"]["term"], term + 1);
    server.core.seal().await;
    server.unseal().await;
    assert_eq!(server.ask("GET", "a/last", Value::Null).await.1["data"]["last"], lent);
    assert_eq!(server.ask("GET", "sys/key-status", Value::Null).await.1["data"]["term"], term + 1);
}

#[tokio::test]
async fn the_mount_of_a_path_is_told_to_those_with_a_right_below_it_alone() {
    let server = Server::start().await;
    server.ask("POST", "sys/mounts/a", json!({ "type": "lender" })).await;
    server.ask("POST", "sys/mounts/b", json!({ "type": "lender" })).await;
    server.ask("PUT", "sys/policies/acl/p", json!({ "policy": "path \"a/team/*\" { capabilities = [\"read\"] }" })).await;
    let made = server.ask("POST", "auth/token/create", json!({ "policies": ["p"] })).await.1;
    let token = made["auth"]["client_token"].as_str().unwrap();
    assert_eq!(server.ask_as(Some(token), "GET", "sys/internal/ui/mounts/a/x", Value::Null).await.0, 200);
    let forbidden = server.ask_as(Some(token), "GET", "sys/internal/ui/mounts/b/x", Value::Null).await;
    let missing = server.ask_as(Some(token), "GET", "sys/internal/ui/mounts/c/x", Value::Null).await;
    assert_eq!((forbidden.0, missing.0), (403, 403));
    assert_eq!(forbidden.1["errors"][0].as_str().unwrap().replace("b/x", "c/x"), missing.1["errors"][0].as_str().unwrap());
    let mounts = server.ask_as(Some(token), "GET", "sys/internal/ui/mounts", Value::Null).await.1;
    let seen: Vec<&String> = mounts["data"]["secret"].as_object().unwrap().keys().collect();
    assert!(seen.contains(&&"a/".to_owned()) && !seen.contains(&&"b/".to_owned()), "{seen:?}");
    let stranger = server.ask_as(None, "GET", "sys/internal/ui/mounts", Value::Null).await.1;
    assert_eq!(stranger["data"], json!({ "auth": {}, "secret": {} }));
    let wrong = server.ask_as(Some("hvs.nonsense"), "GET", "sys/internal/ui/mounts", Value::Null).await;
    assert_eq!(wrong.0, 403);
}

#[tokio::test]
async fn the_openapi_document_names_every_mount() {
    let server = Server::start().await;
    server.ask("POST", "sys/mounts/a/b", json!({ "type": "lender" })).await;
    let document = server.ask("GET", "sys/internal/specs/openapi", Value::Null).await.1;
    let paths = document["paths"].as_object().unwrap();
    for path in ["/a/b/lend", "/sys/mounts/{path}/tune", "/auth/token/create"] {
        assert!(paths.contains_key(path), "{path}");
    }
}

#[tokio::test]
async fn removing_a_mount_takes_back_what_it_lent_and_erases_its_data() {
    let server = Server::start().await;
    server.ask("POST", "sys/mounts/a", json!({ "type": "lender" })).await;
    let lent = server.ask("GET", "a/lend", Value::Null).await.1["data"]["number"].clone();
    assert_eq!(server.ask("DELETE", "sys/mounts/a", Value::Null).await.0, 204);
    assert_eq!(*server.book.returned.lock(), [lent]);
    assert_eq!(server.ask("GET", "a/last", Value::Null).await.0, 404);
    server.ask("POST", "sys/mounts/a", json!({ "type": "lender" })).await;
    assert_eq!(server.ask("GET", "a/last", Value::Null).await.1["data"]["last"], Value::Null);
}

#[tokio::test]
async fn a_removal_that_fails_leaves_the_mount_closed_and_goes_on_when_asked_again() {
    let server = Server::start().await;
    server.ask("POST", "sys/mounts/a", json!({ "type": "lender" })).await;
    let lent = server.ask("GET", "a/lend", Value::Null).await.1["data"]["number"].clone();
    *server.book.strike.lock() = true;
    assert_eq!(server.ask("DELETE", "sys/mounts/a", Value::Null).await.0, 400);
    assert_eq!(server.ask("GET", "a/lend", Value::Null).await.0, 404);
    assert_eq!(server.ask("POST", "sys/mounts/a", json!({ "type": "lender" })).await.0, 400);
    *server.book.strike.lock() = false;
    assert_eq!(server.ask("DELETE", "sys/mounts/a", Value::Null).await.0, 204);
    assert_eq!(*server.book.returned.lock(), [lent]);
    assert_eq!(server.ask("POST", "sys/mounts/a", json!({ "type": "lender" })).await.0, 204);
}

#[tokio::test]
async fn a_removal_that_was_interrupted_is_finished_by_the_next_unseal() {
    let mut server = Server::start().await;
    server.ask("POST", "sys/mounts/a", json!({ "type": "lender" })).await;
    let lent = server.ask("GET", "a/lend", Value::Null).await.1["data"]["number"].clone();
    *server.book.strike.lock() = true;
    server.ask("DELETE", "sys/mounts/a", Value::Null).await;
    server.core.seal().await;
    *server.book.strike.lock() = false;
    server.unseal().await;
    // The regular work does it: an AWS that hangs must not hold up an unseal.
    while server.book.returned.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(*server.book.returned.lock(), [lent]);
    assert_eq!(server.ask("POST", "sys/mounts/a", json!({ "type": "lender" })).await.0, 204);
}

/// What a batch token had been lent outlived the revocation of the token that made it, to its own end.
#[tokio::test]
async fn what_a_batch_token_was_lent_hangs_on_the_token_that_made_it() {
    let server = Server::start().await;
    server.ask("POST", "sys/mounts/a", json!({ "type": "lender" })).await;
    server.ask("PUT", "sys/policies/acl/p", json!({ "policy": "path \"*\" { capabilities = [\"read\", \"update\"] }" })).await;
    let parent = server.ask("POST", "auth/token/create", json!({ "policies": ["p"] })).await.1;
    let parent = parent["auth"]["client_token"].as_str().unwrap();
    let batch = server.ask_as(Some(parent), "POST", "auth/token/create", json!({ "type": "batch", "ttl": "1h" })).await.1;
    let batch = batch["auth"]["client_token"].as_str().unwrap();
    let lent = server.ask_as(Some(batch), "GET", "a/lend", Value::Null).await.1;
    let lease = json!({ "lease_id": lent["lease_id"] });
    let before = server.ask("POST", "sys/leases/lookup", lease.clone()).await.1;
    assert!(before["data"]["ttl"].as_u64().unwrap() > 500);
    assert_eq!(server.ask("POST", "auth/token/revoke", json!({ "token": parent })).await.0, 204);
    // Due at once for the expiry worker, or taken back by it already.
    let after = server.ask("POST", "sys/leases/lookup", lease).await;
    assert!(after.0 == 400 || after.1["data"]["ttl"] == 0, "{after:?}");
}
