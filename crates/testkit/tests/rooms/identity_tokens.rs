//! Identity tokens of mounts: the documents by which others verify them, the keys that sign them, and whom they are about.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Engine, Factory, Json, Operation, Result, Room, Seconds};
use daypass_testkit::{Setup, TestServer};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

const KEYS: &str = "identity/oidc/plugins/.well-known/keys";
const DISCOVERY: &str = "identity/oidc/plugins/.well-known/openid-configuration";

/// An engine that shows its own tokens, which no real one does.
struct Boaster;

/// What to show.
#[derive(Deserialize, JsonSchema)]
struct Shown {
    /// Whom the token is for.
    audience: String,
    /// How long it is good, in seconds or as a duration.
    ttl: Seconds,
}

impl Engine for Boaster {
    const SUMMARY: &'static str = "Shows its identity tokens.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        vec![Endpoint::at(["token"]).summary("Show an identity token.").on(Operation::Update, show)]
    }
}

async fn show(_: Arc<Boaster>, cx: Cx, params: Shown) -> Result<Json<Value>> {
    let token = cx.identity_token(&params.audience, params.ttl).await?;
    Ok(Json(json!({ "token": token.expose() })))
}

fn setup() -> Setup {
    Setup::default().engine(|| {
        let room = Arc::new(Room::<Boaster>::new());
        let build = move |_: &_| Ok(room.mount(Boaster));
        Factory { kind: "boaster", auth: false, summary: "Shows its identity tokens", built_from: &[], build: Box::new(build) }
    })
}

async fn server() -> TestServer {
    let server = setup().start().await;
    server.put("sys/mounts/proud", json!({ "type": "boaster" })).await.ok();
    // Quick to make.
    server.put("identity/oidc/key/default", json!({ "algorithm": "ES256", "rotation_period": "1h", "verification_ttl": "90m" })).await.ok();
    server
}

async fn told(server: &TestServer, audience: &str, ttl: &str) -> (Value, Value) {
    let answer = server.put("proud/token", json!({ "audience": audience, "ttl": ttl })).await.ok();
    let token = answer.text("/data/token");
    let part = |at: usize| {
        let part = token.split('.').nth(at).unwrap();
        serde_json::from_slice(&data_encoding::BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
    };
    assert_eq!(token.split('.').count(), 3);
    (part(0), part(1))
}

async fn published(server: &TestServer) -> Vec<String> {
    let body = server.get(KEYS).nobody().await.ok().body;
    body["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// Lets the regular work go on until the keys are others; making them takes real time.
async fn until_others(server: &TestServer, before: &[String]) -> Vec<String> {
    for _ in 0..10_000 {
        server.work().await;
        let now = published(server).await;
        if now != before {
            return now;
        }
        tokio::task::spawn_blocking(std::thread::yield_now).await.unwrap();
    }
    panic!("the keys are still {before:?}");
}

#[tokio::test]
async fn strangers_read_the_documents_and_nothing_else() {
    let server = server().await;
    let found = server.get(DISCOVERY).nobody().await.ok().body;
    assert_eq!(
        found,
        json!({
            "issuer": "http://127.0.0.1:8200/v1/identity/oidc/plugins",
            "jwks_uri": "http://127.0.0.1:8200/v1/identity/oidc/plugins/.well-known/keys",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"],
        })
    );
    let keys = server.get(KEYS).nobody().await.ok().body;
    let key = &keys["keys"][0];
    assert_eq!((&key["use"], &key["kty"], &key["crv"], &key["alg"]), (&json!("sig"), &json!("EC"), &json!("P-256"), &json!("ES256")));
    assert!(!keys.to_string().contains("\"d\"") && !keys.to_string().contains("private"));
    for path in ["identity/oidc/config", "identity/oidc/key/default"] {
        assert_eq!(server.get(path).nobody().await.refused(403), "permission denied");
    }
    assert_eq!(server.list("identity/oidc/key").nobody().await.refused(403), "permission denied");
}

#[tokio::test]
async fn the_issuer_is_the_servers_address_unless_another_is_set() {
    let server = server().await;
    assert_eq!(server.get("identity/oidc/config").await.ok().text("/data/issuer"), "");
    let written = server.put("identity/oidc/config", json!({ "issuer": "https://vault.example.com" })).await.ok();
    assert!(written.text("/warnings/0").starts_with("If \"issuer\" is set explicitly"));
    assert_eq!(server.get("identity/oidc/config").await.ok().text("/data/issuer"), "https://vault.example.com");
    let issuer = "https://vault.example.com/v1/identity/oidc/plugins";
    assert_eq!(server.get(DISCOVERY).nobody().await.ok().text("/issuer"), issuer);
    assert_eq!(told(&server, "a", "10m").await.1["iss"], issuer);
    let refused = server.put("identity/oidc/config", json!({ "issuer": "https://vault.example.com/path" })).await;
    assert!(refused.refused(400).starts_with("invalid issuer, which must include only a scheme, host, and optional port"));
    assert_eq!(server.put("identity/oidc/config", json!({ "issuer": "" })).await.status, 204);
    assert!(server.get(DISCOVERY).nobody().await.ok().text("/issuer").starts_with("http://127.0.0.1:8200/"));
}

#[tokio::test]
async fn a_token_is_about_its_mount_whatever_the_engine_asks() {
    let server = server().await;
    let accessor = server.get("sys/mounts/proud").await.ok().text("/data/accessor");
    let (header, claims) = told(&server, "sts.amazonaws.com", "10m").await;
    assert_eq!((&header["alg"], header["kid"].as_str().unwrap()), (&json!("ES256"), published(&server).await[0].as_str()));
    let now = daypass_base_seconds(&server);
    assert_eq!(
        claims,
        json!({
            "aud": ["sts.amazonaws.com"], "exp": now + 600, "iat": now, "nbf": now,
            "iss": "http://127.0.0.1:8200/v1/identity/oidc/plugins",
            "sub": format!("plugin-identity:root:secret:{accessor}"),
            "vaultproject.io": {
                "accessor": accessor, "class": "secret", "local": false, "namespace_id": "root", "namespace_path": "", "path": "proud/",
                "plugin": "boaster", "version": "v1.21.4+builtin.vault",
            },
        })
    );
    // It ends before its key is forgotten.
    assert_eq!(told(&server, "a", "100h").await.1["exp"], json!(now + 5_400));
    for audience in ["", "a\nb"] {
        assert!(server.put("proud/token", json!({ "audience": audience, "ttl": 60 })).await.refused(400).contains("audience"));
    }
    // It follows the mount.
    server.put("sys/remount", json!({ "from": "proud", "to": "moved" })).await.ok();
    server.work().await;
    let moved = server.put("moved/token", json!({ "audience": "a", "ttl": 60 })).await.ok();
    let claims = moved.text("/data/token").split('.').nth(1).map(str::to_owned).unwrap();
    let claims: Value = serde_json::from_slice(&data_encoding::BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap()).unwrap();
    assert_eq!(
        (&claims["sub"], &claims["vaultproject.io"]["path"]),
        (&json!(format!("plugin-identity:root:secret:{accessor}")), &json!("moved/"))
    );
}

fn daypass_base_seconds(server: &TestServer) -> i64 {
    daypass_sdk::Clock::now(server.clock()).seconds()
}

#[tokio::test]
async fn the_default_key_is_there_from_the_start_and_made_when_it_is_first_wanted() {
    let server = setup().start().await;
    server.put("sys/mounts/proud", json!({ "type": "boaster" })).await.ok();
    let key = server.get("identity/oidc/key/default").await.ok();
    assert_eq!(
        key["data"],
        json!({ "algorithm": "RS256", "allowed_client_ids": ["*"], "rotation_period": 86_400, "verification_ttl": 86_400 })
    );
    assert_eq!(server.list("identity/oidc/key").await.ok()["data"]["keys"], json!(["default"]));
    assert!(published(&server).await.is_empty());
    let (header, _) = told(&server, "a", "10m").await;
    assert_eq!(header["alg"], "RS256");
    let keys = published(&server).await;
    assert_eq!((keys.len(), keys[0].as_str()), (2, header["kid"].as_str().unwrap()));
    assert_eq!(server.delete("identity/oidc/key/default").await.refused(400), "deletion of key \"default\" not allowed");
}

#[tokio::test]
async fn keys_change_places_by_the_clock_and_none_is_forgotten_too_soon() {
    let server = server().await;
    let first = published(&server).await;
    assert_eq!(first.len(), 2, "what signs, and what signs next");
    server.seconds(3_540).await;
    assert_eq!(published(&server).await, first);
    server.seconds(61).await;
    let second = until_others(&server, &first).await;
    assert_eq!((&second[0], &second[2]), (&first[1], &first[0]), "the next one signs; the last one is still known");
    assert_eq!(told(&server, "a", "10m").await.0["kid"], second[0].as_str());
    // After a long outage it is rotated once, and what nobody can need any more is gone.
    server.seconds(50 * 3_600).await;
    let third = until_others(&server, &second).await;
    let third = if third.len() == 3 && third[0] == second[1] { third } else { until_others(&server, &third).await };
    assert_eq!((third.len(), &third[0], &third[2]), (3, &second[1], &second[0]));
}

#[tokio::test]
async fn a_key_that_leaked_is_gone_at_once() {
    let server = server().await;
    let before = published(&server).await;
    server.put("identity/oidc/key/default/rotate", json!({ "verification_ttl": "0s" })).await.ok();
    let after = published(&server).await;
    assert!(after.len() == 2 && after[0] == before[1] && !after.contains(&before[0]), "{before:?} {after:?}");
    let refused = server.put("identity/oidc/key/default/rotate", json!({ "verification_ttl": "100h" })).await;
    assert_eq!(refused.refused(400), "verification_ttl cannot be longer than 10x rotation_period");
    assert_eq!(server.put("identity/oidc/key/none/rotate", json!({})).await.refused(400), "no named key found at \"none\"");
}

#[tokio::test]
async fn a_mount_signs_by_the_key_that_it_names() {
    let server = server().await;
    for (body, text) in [
        (json!({ "algorithm": "HS256" }), "unknown signing algorithm \"HS256\""),
        (json!({ "rotation_period": "30s" }), "rotation_period must be at least one minute"),
        (json!({ "rotation_period": "1h", "verification_ttl": "11h" }), "verification_ttl cannot be longer than 10x rotation_period"),
    ] {
        assert_eq!(server.put("identity/oidc/key/mine", body).await.refused(400), text);
    }
    assert_eq!(server.get("identity/oidc/key/mine").await.status, 404);
    server.put("sys/mounts/proud/tune", json!({ "identity_token_key": "mine" })).await.ok();
    let refused = server.put("proud/token", json!({ "audience": "a", "ttl": 60 })).await;
    assert_eq!(refused.refused(400), "no named key found at \"mine\"");
    server.put("identity/oidc/key/mine", json!({ "algorithm": "EdDSA", "allowed_client_ids": "a,b" })).await.ok();
    let shown = server.get("identity/oidc/key/mine").await.ok();
    assert_eq!(shown["data"]["allowed_client_ids"], json!(["a", "b"]));
    assert_eq!(told(&server, "a", "10m").await.0["alg"], "EdDSA");
    let refused = server.delete("identity/oidc/key/mine").await;
    assert!(refused.refused(400).contains("referenced by these mounts: proud/"));
    // Another algorithm: what signed before is still known.
    let before = published(&server).await.len();
    server.put("identity/oidc/key/mine", json!({ "algorithm": "ES384" })).await.ok();
    assert_eq!(published(&server).await.len(), before + 1);
    assert_eq!(told(&server, "a", "10m").await.0["alg"], "ES384");
    server.put("sys/mounts/proud/tune", json!({ "identity_token_key": "default" })).await.ok();
    server.delete("identity/oidc/key/mine").await.ok();
    assert_eq!(server.list("identity/oidc/key").await.ok()["data"]["keys"], json!(["default"]));
    assert_eq!(told(&server, "a", "10m").await.0["alg"], "ES256");
}

#[tokio::test]
async fn keys_outlive_a_crash_and_are_the_same_on_every_node() {
    let server = server().await;
    let (header, _) = told(&server, "a", "10m").await;
    let other = server.beside().await;
    assert_eq!(published(&other).await, published(&server).await);
    let before = published(&server).await;
    server.put("identity/oidc/key/default/rotate", json!({})).await.ok();
    assert_eq!(published(&other).await[0], before[1]);
    assert_eq!(told(&other, "a", "10m").await.0["kid"], before[1].as_str());
    let server = server.restart().await;
    assert!(published(&server).await.contains(&header["kid"].as_str().unwrap().to_owned()));
    server.core().seal().await;
    assert_eq!(server.get(KEYS).nobody().await.status, 503);
    server.unseal().await;
    assert_eq!(told(&server, "a", "10m").await.0["kid"], before[1].as_str());
}

#[tokio::test]
async fn nothing_that_is_not_there_answers() {
    let server = server().await;
    for path in ["identity/oidc/role/x", "identity/oidc/token/x", "identity/oidc/provider/default", "identity/oidc/.well-known/keys"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
}
