//! Transit through the whole pipeline: who may make keys, what lies in the store, and what outlives a restart.

use std::time::Duration;

use data_encoding::BASE64;
use daypass_storage::Space;
use daypass_testkit::TestServer;
use serde_json::{Value, json};

const HELLO: &str = "aGVsbG8=";

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.put("sys/mounts/transit", json!({ "type": "transit" })).await.ok();
    server
}

#[tokio::test]
async fn only_who_may_create_makes_a_key_by_encrypting() {
    let server = server().await;
    server.policy("user", r#"path "transit/encrypt/*" { capabilities = ["update"] }"#).await;
    server.policy("maker", r#"path "transit/encrypt/*" { capabilities = ["create"] }"#).await;
    let user = server.token(json!({ "policies": ["user"] })).await;
    let maker = server.token(json!({ "policies": ["maker"] })).await;
    let encrypt = || server.put("transit/encrypt/app", json!({ "plaintext": HELLO }));
    encrypt().token(&user).await.refused(403);
    encrypt().token(&maker).await.ok();
    encrypt().token(&user).await.ok();
    encrypt().token(&maker).await.refused(403);
}

#[tokio::test]
async fn keys_outlive_a_restart_and_never_lie_in_clear() {
    let server = server().await;
    server.put("transit/keys/app", json!({ "exportable": true })).await.ok();
    let ciphertext = server.put("transit/encrypt/app", json!({ "plaintext": HELLO })).await.ok().text("/data/ciphertext");
    let exported = server.get("transit/export/encryption-key/app").await.ok().text("/data/keys/1");
    for (_, value) in server.rows(Space::Config).await {
        assert!(!String::from_utf8_lossy(&value).contains(&exported), "a key lies in the store in clear");
    }
    let server = server.restart().await;
    let opened = server.put("transit/decrypt/app", json!({ "ciphertext": ciphertext })).await.ok();
    assert_eq!(opened.text("/data/plaintext"), HELLO);
}

#[tokio::test]
async fn a_failed_batch_is_answered_as_a_whole() {
    let server = server().await;
    let batch = json!([{ "plaintext": HELLO, "reference": "a" }, { "plaintext": "***" }]);
    let answer = server.put("transit/encrypt/app", json!({ "batch_input": batch })).await;
    assert_eq!((answer.status, answer["request_id"].as_str().map(str::len)), (400, Some(36)));
    assert_eq!(answer["data"]["batch_results"][1]["error"], "illegal base64 data at input byte 0");
}

#[tokio::test]
async fn a_wrapped_data_key_comes_out_once() {
    let server = server().await;
    server.put("transit/keys/app", json!({})).await.ok();
    let wrapped = server.put("transit/datakey/plaintext/app", json!({})).wrap("60s").await.ok();
    assert_eq!(wrapped["data"], Value::Null);
    let opened = server.put("sys/wrapping/unwrap", json!({ "token": wrapped.wrapped() })).await.ok();
    assert_eq!(opened.text("/data/plaintext").len(), 44);
}

#[tokio::test]
async fn keys_rotate_by_themselves() {
    let server = server().await;
    server.put("transit/keys/app", json!({ "auto_rotate_period": "1h" })).await.ok();
    // The first look, then one when the hour is over and the next look has come.
    for _ in 0..3 {
        server.advance(Duration::from_mins(61)).await;
        server.work().await;
    }
    assert!(server.get("transit/keys/app").await.ok().number("/data/latest_version") >= 2);
}

/// Such an answer has a status of its own and is none that wrapping knows; once it was sent in clear although wrapping was asked for.
#[tokio::test]
async fn a_failed_batch_is_wrapped_when_that_is_asked_for() {
    let server = server().await;
    let ciphertext = server.put("transit/encrypt/app", json!({ "plaintext": HELLO })).await.ok().text("/data/ciphertext");
    let batch = json!({ "batch_input": [{ "ciphertext": ciphertext }, { "ciphertext": "junk" }] });
    let wrapped = server.put("transit/decrypt/app", batch).wrap("60s").await.ok();
    assert_eq!(wrapped["data"], Value::Null);
    let opened = server.put("sys/wrapping/unwrap", json!({ "token": wrapped.wrapped() })).await.ok();
    assert_eq!(opened.text("/data/batch_results/0/plaintext"), HELLO);
}

/// Story: whoever might restore a key could stop the server for good, with a backup that says how large its next version is.
#[tokio::test]
async fn a_made_up_backup_does_not_outlive_its_request() {
    let server = server().await;
    let body = json!({ "type": "hmac", "auto_rotate_period": "1h", "exportable": true, "allow_plaintext_backup": true });
    server.put("transit/keys/app", body).await.ok();
    let backup = server.get("transit/backup/app").await.ok().text("/data/backup");
    let mut read: Value = serde_json::from_slice(&BASE64.decode(backup.as_bytes()).unwrap()).unwrap();
    read["key"]["key_size"] = json!(1_u64 << 62);
    read["key"]["versions"]["1"]["created"] = json!("2020-01-01T00:00:00Z");
    let answer = server.put("transit/restore/other", json!({ "backup": BASE64.encode(read.to_string().as_bytes()) })).await;
    let said = answer.refused(400);
    assert!(said.contains("invalid key size 4611686018427387904 for HMAC key"), "{said}");
    server.put("transit/restore/twin", json!({ "backup": backup })).await.ok();
    let server = server.restart().await;
    for _ in 0..3 {
        server.advance(Duration::from_mins(61)).await;
        server.work().await;
    }
    assert!(server.get("transit/keys/twin").await.ok().number("/data/latest_version") >= 2);
    server.get("transit/keys/other").await.refused(404);
}

/// Sends what the recording's scenario sends and compares all of each answer.
#[tokio::test]
async fn recorded_answers_come_back() {
    let recorded: Value = serde_json::from_str(include_str!("../../recorded/transit-basics.json")).unwrap();
    let server = TestServer::start().await;
    let mut saved: Vec<(&str, String)> = vec![("id", "t".to_owned())];
    let steps = recorded["steps"].as_array().unwrap();
    let bodies = bodies();
    assert_eq!(steps.len(), bodies.len(), "as many bodies as steps");
    for (number, (step, (body, save))) in steps.iter().zip(bodies).enumerate() {
        let (method, path) = step["do"].as_str().unwrap().split_once(' ').unwrap();
        let filled = |text: String| saved.iter().fold(text, |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value));
        let body: Value = serde_json::from_str(&filled(body.to_string())).unwrap();
        let answer = server.ask(method, &filled(path.to_owned())).json(&body).await;
        if let Some(name) = save {
            let names = ["ciphertext", "hmac", "signature"];
            let value = names.into_iter().map(|field| answer.text(&format!("/data/{field}"))).find(|text| !text.is_empty());
            saved.push((name, value.unwrap()));
        }
        let empty = step["body"] == json!({ "$empty": true });
        let expected = if empty { Value::Null } else { step["body"].clone() };
        let mut got = answer.body.clone();
        mask(&mut got, &expected);
        assert_eq!((json!(answer.status), &got), (step["status"].clone(), &expected), "step {number}: {}", step["do"]);
    }
}

/// What the steps of the recording send, and under which name the scenario keeps what comes back.
fn bodies() -> Vec<(Value, Option<&'static str>)> {
    let plain = |body: Value| (body, None);
    vec![
        plain(json!({ "type": "transit" })),
        plain(Value::Null),
        plain(json!({})),
        plain(Value::Null),
        (json!({ "plaintext": HELLO }), Some("c")),
        plain(json!({ "ciphertext": "{{c}}" })),
        plain(json!({})),
        plain(Value::Null),
        plain(json!({ "ciphertext": "{{c}}" })),
        plain(json!({ "plaintext": "not base64!" })),
        plain(json!({})),
        plain(json!({ "ciphertext": "vault:v9:AAAA" })),
        plain(json!({ "ciphertext": "junk" })),
        plain(json!({ "ciphertext": "{{c}}" })),
        plain(json!({ "batch_input": [{ "plaintext": HELLO }, { "plaintext": "***" }] })),
        (json!({ "input": HELLO }), Some("h")),
        plain(json!({ "input": HELLO, "hmac": "{{h}}" })),
        plain(json!({ "type": "ed25519" })),
        (json!({ "input": HELLO }), Some("s")),
        plain(json!({ "input": HELLO, "signature": "{{s}}" })),
        plain(json!({ "input": "aGVsbG8h", "signature": "{{s}}" })),
        plain(json!({})),
        plain(json!({ "format": "hex" })),
        plain(json!({ "input": HELLO })),
        plain(json!({ "type": "rot13" })),
        plain(Value::Null),
        plain(Value::Null),
        plain(json!({ "deletion_allowed": true })),
        plain(Value::Null),
        plain(Value::Null),
    ]
}

/// Puts the recording's placeholder where a value differs from run to run, if the value is of the form that the placeholder tells.
fn mask(got: &mut Value, expected: &Value) {
    match (got, expected) {
        (Value::Object(got), Value::Object(expected)) => {
            for (name, value) in got {
                mask(value, expected.get(name).unwrap_or(&Value::Null));
            }
        }
        (Value::Array(got), Value::Array(expected)) => got.iter_mut().zip(expected).for_each(|(got, expected)| mask(got, expected)),
        (got, Value::String(placeholder)) => {
            let text = got.as_str().unwrap_or_default();
            let fits = match placeholder.as_str() {
                "<unix time>" => got.as_i64().is_some_and(|seconds| seconds > 1_000_000_000),
                "<time>" => text.len() >= 20 && text.ends_with('Z'),
                "<uuid>" => text.len() == 36,
                "<string of 44>" => text.len() == 44,
                "<secret>" => text.len() == 32,
                opaque => opaque.strip_suffix("<opaque>").is_some_and(|prefix| text.starts_with(prefix) && text.len() > prefix.len() + 20),
            };
            if fits {
                *got = placeholder.as_str().into();
            }
        }
        _ => {}
    }
}
