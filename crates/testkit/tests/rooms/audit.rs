//! Audit: what stands in the records, that nothing happens without one, and what is never in one.

use std::path::PathBuf;

use daypass_core::{Harm, Limits, OwnFile, OwnFiles};
use daypass_testkit::{Answer, Setup, TestServer, doors};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::full::over_evil;

/// A server that writes to a file.
struct Audited {
    server: TestServer,
    folder: TempDir,
}

impl Audited {
    /// With one device, `file/`, of these options besides the path.
    async fn start(options: Value) -> Self {
        Self::over(TestServer::start().await, options).await
    }

    /// With limits of its own.
    async fn within(limits: Limits) -> Self {
        Self::over(Setup::default().limits(limits).start().await, json!({})).await
    }

    async fn over(server: TestServer, options: Value) -> Self {
        let audited = Self { server, folder: tempfile::tempdir().unwrap() };
        audited.enable("file", options).await.ok();
        audited
    }

    /// Enables a device whose file is named after it.
    async fn enable(&self, name: &str, mut options: Value) -> Answer {
        options["file_path"] = self.path(name).display().to_string().into();
        self.server.put(&format!("sys/audit/{name}"), json!({ "type": "file", "options": options })).await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        self.text(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The two records of the last request: before it was processed, and before it was answered.
    fn last(&self) -> [Value; 2] {
        let lines = self.lines("file");
        let [.., request, response] = lines.as_slice() else { panic!("fewer than two records") };
        assert_eq!((&request["type"], &response["type"]), (&json!("request"), &json!("response")));
        assert_eq!(request["request"]["id"], response["request"]["id"]);
        [request.clone(), response.clone()]
    }

    /// A value as a device writes it.
    async fn hash(&self, name: &str, input: &str) -> String {
        self.server.put(&format!("sys/audit-hash/{name}"), json!({ "input": input })).await.ok().text("/data/hash")
    }

    /// A device that can never write, enabled all the same.
    async fn enable_full(&self) {
        let device = json!({ "type": "file", "options": { "file_path": "/dev/full", "skip_test": "true" } });
        self.server.put("sys/audit/full", device).await.ok();
    }
}

const REQUEST_LOST: &str = "internal error: no audit device took the record of this request, so it was not carried out";
const ANSWER_LOST: &str = "internal error: no audit device took the record of the answer, so it is withheld";

#[tokio::test]
async fn a_request_and_its_answer_are_on_record_under_one_id() {
    let audited = Audited::start(json!({})).await;
    let answer = audited.server.get("sys/mounts").await.ok();
    let [request, response] = audited.last();
    assert_eq!(request["request"]["id"], answer["request_id"]);
    assert_eq!((&request["request"]["operation"], &request["request"]["path"]), (&json!("read"), &json!("sys/mounts")));
    assert_eq!(request["auth"]["policy_results"]["allowed"], true);
    assert_eq!(request["auth"]["policies"], json!(["root"]));
    assert_eq!(request["request"]["client_token"], audited.hash("file", audited.server.root()).await);
    assert_eq!(response["response"]["mount_type"], "system");
    assert!(response["response"]["data"].is_object());
}

#[tokio::test]
async fn refusals_are_on_record_whoever_was_refused() {
    let audited = Audited::start(json!({})).await;
    let server = &audited.server;
    let weak = server.token(json!({ "policies": ["default"] })).await;
    assert_eq!(server.get("sys/mounts").token(&weak).await.status, 403);
    let [request, response] = audited.last();
    assert_eq!(request["auth"]["policy_results"]["allowed"], false);
    assert!(request["error"].as_str().unwrap().contains("permission denied"), "{request}");
    assert_eq!(request["auth"]["policies"], json!(["default"]));
    assert_eq!(response["error"], request["error"]);
    for (request, known) in [(server.get("secret/x").token("hvs.unknown"), false), (server.get("secret/x").nobody(), false)] {
        assert_eq!(request.await.status, 403);
        let [request, _] = audited.last();
        assert_eq!(request["auth"]["policy_results"]["allowed"], known, "{request}");
        assert!(!request["error"].as_str().unwrap().is_empty());
    }
    assert!(!audited.text("file").contains("hvs.unknown"));
}

#[tokio::test]
async fn without_a_record_no_engine_runs_and_nothing_is_minted() {
    let audited = Audited::start(json!({})).await;
    let server = &audited.server;
    server.mount_aws("aws").await;
    server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
    audited.enable_full().await;
    server.get("aws/sts/deploy").await.ok();
    let minted = server.aws().made().len();
    assert_eq!(server.delete("sys/audit/file").await.refused(500), ANSWER_LOST);
    for request in [server.get("aws/sts/deploy"), server.put("kv/a", json!({ "x": "y" })), server.delete("aws/roles/deploy")] {
        assert_eq!(request.await.refused(500), REQUEST_LOST);
    }
    assert_eq!(server.get("aws/sts/deploy").nobody().await.refused(500), REQUEST_LOST, "refusals are answered no other way");
    assert_eq!(server.aws().made().len(), minted);
    assert_eq!(server.get("sys/health").await.status, 200, "whether the server is up is no secret");
}

/// Story: anybody could make a server write 80 MB into its log by 1.5 MB of empty strings, which fills disks and the queue that all records wait in, and hash half a
/// million texts for it.
#[tokio::test]
async fn what_nobody_authorised_takes_little_room_on_record() {
    let audited = Audited::start(json!({})).await;
    let server = &audited.server;
    let before = audited.text("file").len();
    let (empty, long) = (json!({ "a": vec![json!(vec![""; 10_000]); 49] }), json!({ "n".repeat(1 << 20): 1 }));
    for body in [&empty, &long] {
        assert_eq!(server.put("secret/x", body.clone()).nobody().await.status, 403);
        for line in audited.last() {
            assert_eq!((line["request"].get("data"), &line["request"]["data_elided"]["bytes"]), (None, &json!(body.to_string().len())));
        }
    }
    assert!(audited.text("file").len() - before < 8_000, "{} bytes", audited.text("file").len() - before);
    // Somebody who has the body can tell that it was this.
    let small = json!({ "list": vec!["x"; 100], "name": "y" });
    assert_eq!(server.put("secret/x", small.clone()).token("hvs.unknown").await.status, 403);
    let [request, response] = audited.last();
    assert_eq!(request["request"]["data_elided"]["hmac"], audited.hash("file", &small.to_string()).await);
    assert_eq!(response["request"]["data_elided"], request["request"]["data_elided"]);
    // What is usual is there as ever.
    assert_eq!(server.put("secret/x", json!({ "name": "y" })).nobody().await.status, 403);
    let [request, response] = audited.last();
    let name = audited.hash("file", "y").await;
    assert_eq!((&request["request"]["data"]["name"], &response["request"]["data"]["name"]), (&json!(name), &json!(name)));
}

/// Who presents no token is served by logins alone, which need a handful of values. None is carried out whose values are not all on record.
#[tokio::test]
async fn a_login_that_takes_too_much_room_on_record_is_refused() {
    let audited = Audited::start(json!({})).await;
    let server = &audited.server;
    server.put("sys/auth/userpass", json!({ "type": "userpass" })).await.ok();
    server.put("auth/userpass/users/u", json!({ "password": "right" })).await.ok();
    let login = |values: usize| {
        let body = json!({ "password": "right", "more": vec!["x"; values] });
        server.put("auth/userpass/login/u", body).nobody()
    };
    login(1).await.ok();
    let [request, response] = audited.last();
    assert!(request["request"]["data"].is_object() && response["request"]["data"].is_object());
    login(1_000).await.ok();
    let [request, response] = audited.last();
    assert_eq!(request["request"]["data"]["more"].as_array().map(Vec::len), Some(1_000), "it was carried out, so it is there whole");
    assert!(response["request"]["data"].is_null() && response["request"]["data_elided"].is_object(), "once is enough");
    let text = "the data of this request takes more than 131072 bytes in the audit log, where each text is a hash of 79 bytes: that is the limit for requests \
                without a valid token, send fewer values and shorter names";
    assert_eq!(login(2_000).await.refused(400), text);
    let [request, response] = audited.last();
    assert_eq!((&request["error"], &response["error"]), (&json!(text), &json!(text)));
    assert!(request["request"]["data"].is_null() && request["request"]["data_elided"].is_object());
    assert_eq!(response["response"].get("auth"), None);
    server.delete("sys/audit/file").await.ok();
    login(2_000).await.ok();
}

/// A secret of ten thousand keys and a megabyte is usual enough.
#[tokio::test]
async fn large_writes_and_answers_of_known_callers_are_on_record_whole() {
    let audited = Audited::start(json!({})).await;
    let server = &audited.server;
    server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
    let secret: Value =
        (0..10_000).map(|number| (format!("key-{number:05}"), Value::from("v".repeat(90)))).collect::<serde_json::Map<_, _>>().into();
    server.put("kv/large", secret).await.ok();
    let [request, response] = audited.last();
    assert_eq!(request["request"]["data"].as_object().map(serde_json::Map::len), Some(10_000));
    assert!(response["request"]["data_elided"].is_object(), "once is enough");
    server.get("kv/large").await.ok();
    let [_, response] = audited.last();
    assert_eq!(response["response"]["data"].as_object().map(serde_json::Map::len), Some(10_000));
    server.get("sys/internal/specs/openapi").await.ok();
    let [_, response] = audited.last();
    assert!(response["response"]["data"]["paths"].is_object());
}

/// One record must not take the queue for itself. A request is refused before it is carried out; an answer is sent, since what it tells of is done.
#[tokio::test]
async fn beyond_the_limit_a_request_is_refused_and_an_answer_is_summed_up() {
    let audited = Audited::within(Limits { audit_data_bytes: 16 << 10, audit_stranger_data_bytes: 8 << 10, ..Limits::default() }).await;
    let server = &audited.server;
    audited.enable("short", json!({ "elide_list_responses": "true" })).await.ok();
    server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
    let refused = server.put("kv/a", json!({ "list": vec!["x"; 300] })).await;
    assert!(refused.refused(400).starts_with("the data of this request takes more than 16384 bytes in the audit log"), "{refused:?}");
    assert!(audited.last()[0]["error"].as_str().unwrap().contains("16384 bytes"));
    server.get("kv/a").await.refused(404);
    for number in 0..300 {
        server.put(&format!("kv/name-{number}"), json!({ "x": "y" })).await.ok();
    }
    assert_eq!(server.list("kv").await.ok()["data"]["keys"].as_array().map(Vec::len), Some(300));
    let [_, response] = audited.last();
    assert!(response["response"]["data"].is_null() && response["response"]["data_elided"]["bytes"].is_u64(), "{response}");
    assert_eq!(audited.lines("short").pop().unwrap()["response"]["data"]["keys"], json!(300));
    // What is public is large as well.
    server.mount_aws("aws").await;
    server.put("sys/mounts/aws/tune", json!({ "listing_visibility": "unauth" })).await.ok();
    assert_eq!(server.get("sys/internal/specs/openapi").nobody().await.status, 200);
    let [_, response] = audited.last();
    assert!(response["response"]["data_elided"].is_object(), "{response}");
}

/// Their answers wait for the record; their work does not.
#[tokio::test]
async fn what_is_declared_safe_writes_nothing() {
    let (server, evil) = over_evil(Setup::default()).await;
    server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
    server.put("sys/mounts/kv2", json!({ "type": "kv", "options": { "version": "2" } })).await.ok();
    let safe: Vec<_> = doors(&server).into_iter().filter(|door| door.safe).collect();
    assert!(safe.len() >= 10, "{}", safe.len());
    for door in safe {
        let ask = || async { door.ask(&server).await.await };
        // Whatever a first call of a mount makes is there now.
        ask().await;
        let before = evil.calls().writes;
        ask().await;
        assert_eq!(evil.calls().writes, before, "{} {}", door.operation, door.path);
    }
}

#[tokio::test]
async fn what_is_safe_and_on_no_record_is_not_answered() {
    let audited = Audited::start(json!({})).await;
    let server = &audited.server;
    server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
    server.put("kv/a", json!({ "x": "y" })).await.ok();
    audited.enable_full().await;
    assert_eq!(server.get("kv/a").await.ok().text("/data/x"), "y");
    assert_eq!(server.delete("sys/audit/file").await.refused(500), ANSWER_LOST);
    for request in [server.get("kv/a"), server.list("kv"), server.get("auth/token/lookup-self"), server.get("sys/policies/acl/default")] {
        let answer = request.await;
        assert_eq!(answer.body.get("data"), None);
        assert_eq!(answer.refused(500), REQUEST_LOST);
    }
}

#[tokio::test]
async fn one_device_that_works_is_enough() {
    let audited = Audited::start(json!({})).await;
    audited.enable_full().await;
    audited.server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
    audited.server.put("kv/a", json!({ "x": "y" })).await.ok();
    assert_eq!(audited.last()[0]["request"]["path"], "kv/a");
    let health = audited.server.core().audit_health();
    let (file, full) = (&health[0], &health[1]);
    assert_eq!((file.path.as_str(), file.sink.failed, file.sink.failing), ("file/", 0, false));
    assert_eq!(file.sink.accepted, u64::try_from(audited.lines("file").len()).unwrap());
    assert_eq!((full.path.as_str(), full.sink.accepted, full.sink.failing), ("full/", 0, true));
    assert!(file.sink.space.is_some() && full.sink.space.is_none());
}

#[tokio::test]
async fn a_device_that_fails_its_first_record_is_not_enabled() {
    let audited = Audited::start(json!({})).await;
    let device = json!({ "type": "file", "options": { "file_path": "/dev/full" } });
    let refused = audited.server.put("sys/audit/full", device).await;
    assert!(refused.refused(400).starts_with("audit backend failed test message: the line was not written: No space left"));
    assert_eq!(audited.server.get("sys/audit").await.ok()["data"].as_object().unwrap().len(), 1);
    let device = json!({ "type": "socket", "options": { "address": "127.0.0.1:1" } });
    let refused = audited.server.put("sys/audit/socket", device).await;
    assert!(refused.refused(400).contains("no connection to \"127.0.0.1:1\""), "{}", refused.refused(400));
}

#[tokio::test]
async fn a_mint_names_key_role_session_and_login_in_clear_and_never_a_secret() {
    let audited = Audited::start(json!({})).await;
    let server = &audited.server;
    server.mount_aws("aws").await;
    server.policy("deploy", r#"path "aws/sts/deploy" { capabilities = ["read", "update"] }"#).await;
    server.put("sys/auth/approle", json!({ "type": "approle" })).await.ok();
    server.put("auth/approle/role/jenkins", json!({ "token_policies": "deploy" })).await.ok();
    let role_id = server.get("auth/approle/role/jenkins/role-id").await.ok().text("/data/role_id");
    let metadata = json!({ "metadata": r#"{"job":"release"}"# });
    let secret_id = server.put("auth/approle/role/jenkins/secret-id", metadata).await.ok().text("/data/secret_id");
    let login = json!({ "role_id": role_id, "secret_id": secret_id });
    let token = server.put("auth/approle/login", login).nobody().await.ok().token();
    let minted = server.put("aws/sts/deploy", json!({ "role_session_name": "build-42" })).token(&token).await.ok();
    let [_, response] = audited.last();
    let key_id = minted.text("/data/access_key");
    assert!(key_id.starts_with("ASIA"));
    let facts = json!({
        "access_key_id": key_id, "credential_type": "assumed_role",
        "role_arn": "arn:aws:iam::111111111111:role/deploy", "session_name": "build-42",
        "claim/job": "release", "claim/role_name": "jenkins",
    });
    assert_eq!(response["response"]["facts"], facts);
    assert_eq!(response["auth"]["metadata"], json!({ "job": "release", "role_name": "jenkins" }));
    assert_eq!(response["response"]["secret"]["lease_id"], minted["lease_id"]);
    for secret in ["secret_key", "session_token", "security_token"] {
        let value = minted.text(&format!("/data/{secret}"));
        assert_eq!(response["response"]["data"][secret], audited.hash("file", &value).await);
        assert!(!audited.text("file").contains(&value), "{secret} stands in the log");
    }
    // A child's own metadata is its maker's word; the claims of the login are named all the same.
    server.policy("deploy", r#"path "a*" { capabilities = ["read", "update"] }"#).await;
    let child = server.put("auth/token/create", json!({ "meta": { "job": "forged" } })).token(&token).await.ok().token();
    server.get("aws/sts/deploy").token(&child).await.ok();
    let [_, response] = audited.last();
    assert_eq!(response["response"]["facts"]["claim/job"], json!("release"));
    // Wrapped, too: whoever unwraps it later, the record says what was made.
    let wrapped = server.get("aws/sts/deploy").token(&token).wrap("60s").await.ok();
    let [_, response] = audited.last();
    assert!(response["response"]["facts"]["access_key_id"].as_str().unwrap().starts_with("ASIA"));
    assert_eq!(response["response"]["wrap_info"]["token"], audited.hash("file", &wrapped.wrapped()).await);
    for secret in [&token, &secret_id, &wrapped.wrapped()] {
        assert!(!audited.text("file").contains(secret.as_str()));
    }
    assert!(!audited.text("file").contains("fake-secret") && !audited.text("file").contains("fake-session-token"));
}

#[tokio::test]
async fn each_device_has_its_own_salt_and_keeps_it() {
    let audited = Audited::start(json!({})).await;
    audited.enable("other", json!({})).await.ok();
    let (one, two) = (audited.hash("file", "hello").await, audited.hash("other", "hello").await);
    assert_ne!(one, two);
    audited.server.put("cubbyhole/x", json!({ "word": "hello" })).await.ok();
    assert_eq!(audited.last()[0]["request"]["data"]["word"], one);
    assert!(audited.text("other").contains(&two) && !audited.text("other").contains(&one));
    let Audited { server, folder } = audited;
    let audited = Audited { server: server.restart().await, folder };
    assert_eq!(audited.hash("file", "hello").await, one, "the same after a restart, or old logs could not be searched");
    assert_eq!(audited.hash("other", "hello").await, two);
    assert_eq!(audited.server.put("sys/audit-hash/none", json!({ "input": "x" })).await.refused(400), "unknown audit backend \"none/\"");
}

#[tokio::test]
async fn keys_that_the_mount_names_stay_clear_where_they_are_nearest_at_any_depth() {
    let audited = Audited::start(json!({})).await;
    let server = &audited.server;
    server.put("sys/mounts/kv", json!({ "type": "kv", "options": { "version": "2" } })).await.ok();
    let tune = json!({ "audit_non_hmac_request_keys": ["build", "list"], "audit_non_hmac_response_keys": ["owner"] });
    server.put("sys/mounts/kv/tune", tune).await.ok();
    let data = json!({ "build": "17", "owner": "me", "list": ["a", { "build": "18", "deep": "x" }], "number": 5 });
    server.put("kv/data/a", json!({ "data": data })).await.ok();
    let hash = async |text: &str| audited.hash("file", text).await;
    let [request, _] = audited.last();
    let expected =
        json!({ "build": "17", "owner": hash("me").await, "list": ["a", { "build": "18", "deep": hash("x").await }], "number": 5 });
    assert_eq!(request["request"]["data"]["data"], expected);
    server.get("kv/data/a").await.ok();
    let [_, response] = audited.last();
    let data = &response["response"]["data"]["data"];
    assert_eq!((&data["owner"], &data["build"], &data["number"]), (&json!("me"), &json!(hash("17").await), &json!(5)));
}

#[tokio::test]
async fn request_headers_are_written_as_configured() {
    let audited = Audited::start(json!({})).await;
    let server = &audited.server;
    server.put("sys/config/auditing/request-headers/X-Team", json!({ "hmac": true })).await.ok();
    server.put("sys/config/auditing/request-headers/X-Build", json!({})).await.ok();
    let ask = || {
        let ask = server.get("sys/mounts").header("X-Team", "red").header("X-Build", "17").header("User-Agent", "terraform");
        ask.header("X-Correlation-Id", "c-1").header("X-Other", "none")
    };
    ask().await.ok();
    let headers = json!({ "user-agent": ["terraform"], "x-build": ["17"], "x-correlation-id": ["c-1"], "x-team": [audited.hash("file", "red").await] });
    assert_eq!(
        audited.lines("file").iter().rev().find(|line| line["request"]["path"] == "sys/mounts").unwrap()["request"]["headers"],
        headers
    );
    server.delete("sys/config/auditing/request-headers/x-build").await.ok();
    ask().await.ok();
    assert_eq!(audited.last()[0]["request"]["headers"].get("x-build"), None);
}

#[tokio::test]
async fn options_of_a_device_are_followed() {
    let audited = Audited::start(json!({})).await;
    let server = &audited.server;
    audited.enable("short", json!({ "elide_list_responses": "true", "hmac_accessor": "false" })).await.ok();
    audited.enable("raw", json!({ "log_raw": "true" })).await.ok();
    audited.enable("xml", json!({ "format": "jsonx" })).await.ok();
    server.put("sys/policies/acl/a", json!({ "policy": "# nothing" })).await.ok();
    let accessor = server.get("auth/token/lookup-self").await.ok().text("/data/accessor");
    let listed = server.list("sys/policies/acl").await.ok()["data"]["keys"].as_array().unwrap().len();
    let short = audited.lines("short").pop().unwrap();
    assert_eq!(short["response"]["data"]["keys"], json!(listed));
    assert_eq!(short["request"]["client_token_accessor"], accessor);
    assert!(short["request"]["client_token"].as_str().unwrap().starts_with("hmac-sha256:"));
    let raw = audited.lines("raw").pop().unwrap();
    assert_eq!(raw["request"]["client_token"], server.root());
    assert!(raw["response"]["data"]["keys"].as_array().unwrap().contains(&json!("default")));
    assert_eq!(audited.last()[0]["request"]["client_token_accessor"], audited.hash("file", &accessor).await);
    let xml = audited.text("xml");
    assert!(xml.lines().all(|line| line.contains("<json:object name=\"request\">") && line.ends_with("</json:string>")), "{xml}");
    assert!(!xml.contains(server.root()));
    assert!(xml.contains("<json:string name=\"path\">sys/policies/acl"), "{xml}");
    let prefix = audited.enable("prefixed", json!({ "prefix": "@cee: " })).await;
    let text = "audit prefixing is not enabled in configuration, audit prefixing may not be configured for file sinks";
    assert_eq!(prefix.refused(400), text);
}

#[tokio::test]
async fn devices_are_changed_one_after_the_other() {
    let audited = Audited::start(json!({})).await;
    let enabled: Vec<Answer> = {
        let asks: Vec<_> = (0..8)
            .map(|number| {
                let options = json!({ "file_path": audited.path(&number.to_string()).display().to_string() });
                let ask = audited.server.put(&format!("sys/audit/at-once-{number}"), json!({ "type": "file", "options": options }));
                tokio::spawn(async move { ask.await })
            })
            .collect();
        let mut answers = Vec::new();
        for ask in asks {
            answers.push(ask.await.unwrap());
        }
        answers
    };
    assert!(enabled.iter().all(|answer| answer.status == 204));
    let Audited { server, folder: _folder } = audited;
    let server = server.restart().await;
    assert_eq!(server.get("sys/audit").await.ok()["data"].as_object().unwrap().len(), 9, "a device was lost on the way to the store");
}

/// Story: whether two devices share a file was decided by the option `file_path` alone. Two with the older `path` were refused for files of their own, a
/// file next to a socket too, and one file under two spellings was taken.
#[tokio::test]
async fn devices_share_no_file_however_it_is_said() {
    let audited = Audited::start(json!({})).await;
    let enable = |name: &str, option: &str, path: String| {
        audited.server.put(&format!("sys/audit/{name}"), json!({ "type": "file", "options": { option: path } }))
    };
    let at = |name: &str| audited.path(name).display().to_string();
    enable("b", "path", at("b")).await.ok();
    enable("c", "path", at("c")).await.ok();
    let folder = audited.folder.path().display();
    for (option, path) in
        [("path", at("file")), ("file_path", at("b")), ("path", format!("{folder}/./c")), ("file_path", format!("{folder}//x/../file"))]
    {
        let refused = enable("d", option, path.clone()).await;
        assert_eq!(refused.refused(400), "file_path already in use: invalid configuration", "{option} {path}");
    }
    enable("d", "path", at("d")).await.ok();
}

/// Story: a device whose volume was mounted a second too late was gone until the next start: no list and no metric had it, and its log had ended. And one that
/// was enabled in its place came back with the next start, with the file that had been given up.
#[tokio::test]
async fn a_device_that_does_not_open_at_the_start_is_one_that_fails_until_it_does() {
    let audited = Audited::start(json!({})).await;
    let folder = audited.folder.path().join("later");
    std::fs::create_dir(&folder).unwrap();
    let enable = |server: &TestServer, path: String| server.put("sys/audit/b", json!({ "type": "file", "options": { "file_path": path } }));
    enable(&audited.server, folder.join("b").display().to_string()).await.ok();
    std::fs::remove_dir_all(&folder).unwrap();
    let server = audited.server.restart().await;
    assert_eq!(server.get("sys/audit").await.ok()["data"]["b/"]["type"], "file");
    server.put("sys/audit-hash/b", json!({ "input": "x" })).await.ok();
    let failing = async |server: &TestServer| {
        let text = server.get("sys/metrics?format=prometheus").await.ok().body.to_string();
        text.contains(r#"daypass_audit_failing{device=\"b/\"} 1"#)
    };
    assert!(failing(&server).await);
    std::fs::create_dir(&folder).unwrap();
    server.get("sys/mounts").await.ok();
    assert!(std::fs::read_to_string(folder.join("b")).unwrap().contains("sys/mounts"), "it goes on by itself");
    assert!(!failing(&server).await);
    std::fs::remove_dir_all(&folder).unwrap();
    let server = server.restart().await;
    let wanted = audited.folder.path().join("b").display().to_string();
    assert_eq!(enable(&server, wanted.clone()).await.refused(400), "path already in use: invalid configuration");
    server.delete("sys/audit/b").await.ok();
    enable(&server, wanted.clone()).await.ok();
    std::fs::create_dir(&folder).unwrap();
    let server = server.restart().await;
    assert_eq!(server.get("sys/audit").await.ok()["data"]["b/"]["options"]["file_path"], wanted);
}

/// Story: a device was enabled on the server's own key file and wrote behind the key. The server did not start any more, and nothing had warned.
#[tokio::test]
async fn no_device_is_enabled_on_a_file_that_the_server_lives_on() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("seal.key");
    let files = OwnFiles::new(vec![OwnFile { path: key.clone(), what: "seal key", harm: Harm::Fatal }]);
    let server = Setup::default().key_file(&key).own_files(files).start().await;
    let before = std::fs::read(&key).unwrap();
    for option in ["file_path", "path"] {
        let device = json!({ "type": "file", "options": { option: key.display().to_string() } });
        let answer = server.put("sys/audit/a", device).await;
        assert!(answer.refused(400).contains("is the seal key of this server"), "{answer:?}");
    }
    assert_eq!(std::fs::read(&key).unwrap(), before);
    assert!(server.get("sys/audit").await.ok()["data"].as_object().unwrap().is_empty());
    server.restart().await.get("sys/mounts").await.ok();
}
