//! `sys/metrics` and its neighbours: what they show, that every line can be read, and that clients cannot make the figures many.

use std::collections::BTreeSet;

use daypass_core::{MetricsShown, Opened};
use daypass_testkit::{Answer, Setup, TestServer};
use serde_json::{Value, json};

/// The Prometheus text; an answer that is no JSON comes as a string.
async fn text(server: &TestServer) -> String {
    plain(&server.get("sys/metrics?format=prometheus").await.ok())
}

fn plain(answer: &Answer) -> String {
    answer.body.as_str().expect("a text").to_owned()
}

/// The value of a series, named with its labels.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn every_line_of_the_prometheus_text_parses_and_follows_its_type() {
    let server = TestServer::start().await;
    server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
    server.put("kv/a", json!({ "b": "c" })).await.ok();
    let text = text(&server).await;
    let (mut types, mut series) = (Vec::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram", "summary"].contains(&kind), "{line}");
            assert!(!types.contains(&name), "{name} is declared twice");
            types.push(name);
        } else if !line.starts_with("# HELP ") {
            let (name, number) = line.rsplit_once(' ').unwrap();
            number.parse::<f64>().unwrap();
            assert!(series.insert(name), "{name} is there twice");
            let bare = name.split('{').next().unwrap();
            assert!(bare.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit()), "{line}");
            assert!(bare.starts_with(types.last().unwrap()), "{line} is not below its type");
        }
    }
    assert!(series.len() > 30, "{text}");
}

#[tokio::test]
async fn the_counters_move() {
    let server = TestServer::start().await;
    let before = text(&server).await;
    server.token(json!({})).await;
    server.token(json!({ "type": "batch", "policies": ["default"] })).await;
    server.get("nowhere/at/all").await.refused(404);
    let after = text(&server).await;
    let grown = |series: &str| value(&after, series) - value(&before, series);
    assert!((grown("vault_token_creation{token_type=\"service\"}") - 1.0).abs() < 0.1);
    assert!((grown("vault_token_creation{token_type=\"batch\"}") - 1.0).abs() < 0.1);
    assert!((grown("vault_core_response_status_code{type=\"4xx\"}") - 1.0).abs() < 0.1);
    // Two tokens, the miss, and the first look at the metrics, which was not over while it looked.
    assert!((grown("vault_core_handle_request_count") - 4.0).abs() < 0.1);
    assert!(grown("vault_token_lookup") > 3.0);
    assert!((value(&after, "vault_core_in_flight_requests") - 1.0).abs() < 0.1, "{after}");
}

#[tokio::test]
async fn leases_and_audit_devices_have_their_figures() {
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let options = json!({ "file_path": folder.path().join("audit.log").display().to_string() });
    server.put("sys/audit/disk", json!({ "type": "file", "options": options })).await.ok();
    server.mount_aws("aws").await;
    server.get("aws/sts/deploy").await.ok();
    let text = text(&server).await;
    assert!((value(&text, "vault_secret_lease_creation{secret_engine=\"aws\"}") - 1.0).abs() < 0.1);
    assert!(value(&text, "daypass_audit_accepted{device=\"disk/\"}") > 1.0);
    assert!(value(&text, "daypass_audit_failing{device=\"disk/\"}") < 0.1);
}

#[tokio::test]
async fn what_clients_send_makes_no_new_series() {
    let server = TestServer::start().await;
    let names = |text: String| -> BTreeSet<String> { text.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect() };
    server.get("nowhere").await.refused(404);
    let _seen_once = text(&server).await;
    let before = names(text(&server).await);
    for number in 0..50 {
        server.get(&format!("made-up-{number}/path")).await.refused(404);
        server.get(&format!("auth/made-up-{number}/login")).nobody().await.refused(403);
    }
    assert_eq!(names(text(&server).await), before);
}

#[tokio::test]
async fn the_document_has_the_shape_of_vault_and_needs_the_right_to_read_it() {
    let server = TestServer::start().await;
    let body = server.get("sys/metrics").await.ok().body;
    for list in ["Gauges", "Points", "Counters", "Samples"] {
        assert!(body[list].is_array(), "{list}");
    }
    let named = |list: &str, name: &str| body[list].as_array().unwrap().iter().any(|one| one["Name"] == name);
    assert!(named("Gauges", "vault.core.unsealed") && named("Samples", "vault.core.handle_request"));
    assert!(body["Timestamp"].is_string());
    assert_eq!(server.get("sys/metrics?format=xml").await.refused(400), "metric response format \"xml\" unknown");
    let token = server.token(json!({ "policies": ["default"] })).await;
    server.get("sys/metrics").token(&token).await.refused(403);
    server.get("sys/metrics").nobody().await.refused(403);
    let asked = server.get("sys/metrics").header("accept", "text/plain;version=0.0.4").await.ok();
    assert!(plain(&asked).starts_with("# HELP "));
}

#[tokio::test]
async fn a_request_sees_itself_being_answered() {
    let server = TestServer::start().await;
    let body = server.get("sys/in-flight-req").await.ok().body;
    let all: Vec<&Value> = body.as_object().unwrap().values().collect();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["request_path"], "/v1/sys/in-flight-req");
    assert_eq!(all[0]["request_method"], "GET");
}

#[tokio::test]
async fn the_machine_is_described() {
    let server = TestServer::start().await;
    let body = server.get("sys/host-info").await.ok().body;
    let data = &body["data"];
    assert_eq!(server.get("sys/ha-status").await.ok()["nodes"][0]["hostname"], data["host"]["hostname"]);
    assert!(!data["cpu"].as_array().unwrap().is_empty() && !data["cpu_times"].as_array().unwrap().is_empty(), "{data}");
    assert!(data["memory"]["total"].as_u64().unwrap() > 0 && data["host"]["hostname"].is_string(), "{data}");
    assert!(data["disk"].is_array() && data["timestamp"].is_string(), "{data}");
}

#[tokio::test]
async fn there_are_no_flags_or_labels() {
    let server = TestServer::start().await;
    assert_eq!(server.get("sys/activation-flags").await.ok()["data"]["activated"], json!([]));
    server.list("sys/well-known").await.refused(404);
}

#[tokio::test]
async fn a_listener_may_let_metrics_be_read_without_a_token_and_nothing_else() {
    let server = TestServer::start().await;
    let metrics = Opened { metrics: true, ..Opened::default() };
    let in_flight = Opened { in_flight_requests: true, ..Opened::default() };
    assert!(plain(&server.get("sys/metrics?format=prometheus").over(metrics).nobody().await.ok()).contains("vault_core_unsealed 1"));
    server.get("sys/metrics").over(metrics).token("hvs.nobody").await.ok();
    server.get("sys/in-flight-req").over(in_flight).nobody().await.ok();
    assert_eq!(server.get("sys/metrics").nobody().await.status, 403);
    assert_eq!(server.get("sys/metrics").over(in_flight).nobody().await.status, 403);
    for path in ["sys/in-flight-req", "sys/metrics/", "sys/mounts", "sys/metrics?help=1"] {
        assert_eq!(server.get(path).over(metrics).nobody().await.status, 403, "{path}");
    }
    assert_eq!(server.put("sys/metrics", json!({})).over(metrics).nobody().await.status, 403);
}

/// Story: the alarms of docs/operations.md watch `vault_core_unsealed` and failing audit devices. A sealed server answered 503 to whoever read its metrics, and one
/// whose audit devices took nothing answered 500, so that nobody was alarmed.
#[tokio::test]
async fn open_metrics_are_heard_from_a_sealed_server_and_from_one_that_cannot_audit() {
    let server = TestServer::start().await;
    let metrics = Opened { metrics: true, ..Opened::default() };
    server
        .put("sys/audit/full", json!({ "type": "file", "options": { "file_path": "/dev/full", "skip_test": "true" } }))
        .await
        .refused(500);
    server.get("sys/mounts").await.refused(500);
    let look = async |server: &TestServer| plain(&server.get("sys/metrics?format=prometheus").over(metrics).nobody().await.ok());
    let mute = look(&server).await;
    assert!(
        (value(&mute, "vault_core_unsealed") - 1.0).abs() < 0.1
            && (value(&mute, "daypass_audit_failing{device=\"full/\"}") - 1.0).abs() < 0.1
    );
    assert!(value(&mute, "vault_audit_log_request_failure") > 0.9, "{mute}");
    let server = TestServer::start().await;
    server.put("sys/seal", json!({})).await.ok();
    let sealed = look(&server).await;
    assert!(value(&sealed, "vault_core_unsealed") < 0.1 && value(&sealed, "vault_core_active") < 0.1, "{sealed}");
    assert!(!sealed.contains("vault_token_"), "{sealed}");
    assert_eq!(server.get("sys/metrics").over(metrics).nobody().await.ok().body["Gauges"][0]["Value"], 0);
    assert_eq!(server.get("sys/metrics?format=xml").over(metrics).nobody().await.refused(400), "metric response format \"xml\" unknown");
    server.get("sys/metrics").nobody().await.refused(503);
}

#[tokio::test]
async fn metrics_have_the_name_that_the_configuration_gives_them_and_prometheus_can_be_switched_off() {
    let server = Setup::default().metrics(MetricsShown { prefix: "shop".to_owned(), prometheus: true }).start().await;
    assert!(text(&server).await.contains("\nshop_core_unsealed 1\n"));
    let server = Setup::default().metrics(MetricsShown { prometheus: false, ..MetricsShown::default() }).start().await;
    assert_eq!(server.get("sys/metrics?format=prometheus").await.refused(400), "prometheus is not enabled");
    server.get("sys/metrics").await.ok();
}

/// The dashboard that comes with the server asks for nothing that the server does not show.
#[tokio::test]
async fn every_figure_of_the_dashboard_is_there() {
    let server = TestServer::start().await;
    server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
    let text = text(&server).await;
    let dashboard: Value = serde_json::from_str(include_str!("../../../../docs/grafana-dashboard.json")).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut asked = 0;
    for target in targets {
        let expression = target["expr"].as_str().unwrap();
        for word in expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if word.starts_with("vault_") || word.starts_with("daypass_") {
                let shown = text.lines().any(|line| line.strip_prefix(word).is_some_and(|rest| rest.starts_with(['{', ' '])));
                let declared = text.lines().any(|line| line.starts_with(&format!("# TYPE {word} ")));
                assert!(shown || declared, "{word} of {expression:?} is not in\n{text}");
                asked += 1;
            }
        }
    }
    assert!(asked > 12, "{asked}");
}
