//! What user interfaces ask for, and what operators tell them: messages, plugins, counters.

use daypass_testkit::TestServer;
use serde_json::{Value, json};

fn message(title: &str, more: &Value) -> Value {
    let mut message = json!({ "title": title, "message": "aGVsbG8=", "start_time": "2020-01-01T00:00:00Z" });
    message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    message
}

async fn add(server: &TestServer, title: &str, more: Value) -> String {
    server.put("sys/config/ui/custom-messages", message(title, &more)).await.ok().text("/data/id")
}

#[tokio::test]
async fn messages_reach_whom_they_are_for_while_they_last() {
    let server = TestServer::start().await;
    for path in ["sys/internal/ui/authenticated-messages", "sys/internal/ui/unauthenticated-messages", "sys/config/ui/custom-messages"] {
        assert_eq!(server.list(path).await.status, 404, "{path}");
    }
    let users = add(&server, "for users", json!({ "type": "modal", "link": { "more": "https://example.com" } })).await;
    let everybody = add(&server, "for all", json!({ "authenticated": false, "options": { "a": 1 } })).await;
    add(&server, "later", json!({ "authenticated": false, "start_time": "2199-01-01T00:00:00Z" })).await;
    add(&server, "over", json!({ "authenticated": false, "end_time": "2020-01-02T00:00:00Z" })).await;
    let nobody = server.get("sys/internal/ui/unauthenticated-messages").nobody().await.ok();
    assert_eq!(nobody["data"]["keys"], json!([everybody]));
    assert_eq!(nobody.text(&format!("/data/key_info/{everybody}/message")), "aGVsbG8=");
    let own = server.token(json!({ "policies": ["default"], "no_default_policy": true })).await;
    let seen = server.get("sys/internal/ui/authenticated-messages").token(&own).await.ok();
    assert_eq!(seen["data"]["keys"], json!([users]));
    assert_eq!(seen.text(&format!("/data/key_info/{users}/link/more")), "https://example.com");
    assert_eq!(server.get("sys/internal/ui/authenticated-messages").nobody().await.status, 404);
    assert_eq!(server.list("sys/config/ui/custom-messages").await.ok()["data"]["keys"].as_array().unwrap().len(), 4);
    let active = server.list("sys/config/ui/custom-messages?active=true&authenticated=false&type=banner").await.ok();
    assert_eq!(active["data"]["keys"], json!([everybody]));
    assert_eq!(active.text(&format!("/data/key_info/{everybody}/title")), "for all");
}

#[tokio::test]
async fn a_message_is_shown_changed_and_removed() {
    let server = TestServer::start().await;
    let id = add(&server, "first", json!({})).await;
    let path = format!("sys/config/ui/custom-messages/{id}");
    let expected = json!({
        "id": id, "title": "first", "type": "banner", "authenticated": true, "message": "aGVsbG8=", "active": true,
        "start_time": "2020-01-01T00:00:00Z", "end_time": null, "link": null, "options": null,
    });
    assert_eq!(server.get(&path).await.ok()["data"], expected);
    let changed = server.put(&path, message("second", &json!({ "end_time": "2020-01-02T00:00:00Z" }))).await.ok();
    assert_eq!((&changed["data"]["active"], changed.text("/data/end_time")), (&json!(false), "2020-01-02T00:00:00Z".to_owned()));
    assert_eq!(server.get(&path).await.ok().text("/data/title"), "second");
    assert_eq!(server.delete(&path).await.status, 204);
    assert_eq!((server.get(&path).await.status, server.delete(&path).await.status), (404, 204));
    assert_eq!(server.put(&path, message("third", &json!({}))).await.status, 404);
}

#[tokio::test]
async fn a_message_that_makes_no_sense_is_refused_and_there_are_no_more_than_a_hundred() {
    let server = TestServer::start().await;
    let refusals = [
        (json!({ "title": "" }), "missing title parameter value"),
        (json!({ "message": "" }), "missing message parameter value"),
        (json!({ "message": "not base64!" }), "invalid message parameter value, must be base64 encoded"),
        (json!({ "start_time": "" }), "missing start_time parameter value"),
        (json!({ "type": "loud" }), "invalid type parameter value: \"loud\" is neither \"banner\" nor \"modal\""),
        (
            json!({ "link": { "a": "b", "c": "d" } }),
            "invalid number of elements in link parameter value; only a single element can be provided",
        ),
        (json!({ "link": { "a": "" } }), "missing url for \"a\" key in link parameter value"),
        (json!({ "title": "x".repeat(3000) }), "invalid title parameter value: 3000 bytes are over the limit of 2048 bytes"),
    ];
    for (more, text) in refusals {
        assert_eq!(server.put("sys/config/ui/custom-messages", message("t", &more)).await.refused(400), text);
    }
    for number in 0..100 {
        add(&server, &format!("number {number}"), json!({})).await;
    }
    let full = server.put("sys/config/ui/custom-messages", message("one more", &json!({}))).await;
    assert!(full.refused(400).contains("there are 100 messages already"), "{:?}", full.body);
}

#[tokio::test]
async fn engines_are_part_of_the_server_and_reloading_them_forgets_what_they_hold() {
    let server = TestServer::start().await;
    server.put("sys/mounts/kv", json!({ "type": "kv", "options": { "version": "2" } })).await.ok();
    server.put("kv/data/a", json!({ "data": { "b": "c" } })).await.ok();
    for body in [json!({ "plugin": "kv" }), json!({ "mounts": "kv/" }), json!({ "mounts": ["kv"], "scope": "global" })] {
        assert!(!server.put("sys/plugins/reload/backend", body).await.ok().text("/data/reload_id").is_empty());
    }
    server.put("sys/plugins/reload/secret/kv", Value::Null).await.ok();
    assert_eq!(server.get("kv/data/a").await.ok().text("/data/data/b"), "c");
    let refused = |body: Value| server.put("sys/plugins/reload/backend", body);
    assert_eq!(refused(json!({})).await.refused(400), "one of plugin or mounts must be provided");
    assert_eq!(refused(json!({ "plugin": "kv", "mounts": "kv" })).await.refused(400), "plugin and mounts cannot be set at the same time");
    assert_eq!(refused(json!({ "mounts": "nowhere" })).await.refused(400), "no mount at \"nowhere/\"");
    assert_eq!(refused(json!({ "plugin": "kv", "scope": "half" })).await.refused(400), "reload scope must be omitted or 'global'");
    assert_eq!(server.get("sys/plugins/pins/secret/kv").await.status, 404);
    assert!(server.put("sys/plugins/pins/secret/kv", json!({ "version": "v2" })).await.refused(400).contains("cannot be pinned"));
    assert_eq!(server.delete("sys/plugins/pins/secret/kv").await.status, 204);
}

#[tokio::test]
async fn clients_are_not_counted_and_it_says_so() {
    let server = TestServer::start().await;
    assert_eq!(server.get("sys/internal/counters/config").await.ok().text("/data/enabled"), "default-disabled");
    assert!(server.put("sys/internal/counters/config", json!({ "enabled": "enable" })).await.refused(400).contains("not counted"));
    assert_eq!(server.put("sys/internal/counters/config", json!({ "enabled": "disable", "retention_months": 6 })).await.status, 204);
    assert_eq!(server.get("sys/internal/counters/activity/export").await.status, 204);
}
