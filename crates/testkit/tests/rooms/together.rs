//! Operators who write at the same moment: every write that is answered is there, and none is refused because of another.

use daypass_testkit::{Answer, Ask, Setup, TestServer};
use serde_json::{Value, json};

/// As many as Terraform sends at once, and some more.
const MANY: usize = 16;

/// On disk, where commits take a moment: whoever comes together reads the same state.
async fn server() -> TestServer {
    Setup::default().on_disk().start().await
}

/// Sends them all at the same moment.
async fn together(asks: impl IntoIterator<Item = Ask>) -> Vec<Answer> {
    let asked: Vec<_> = asks.into_iter().map(|ask| tokio::spawn(ask.into_future())).collect();
    let mut answers = Vec::new();
    for answer in asked {
        answers.push(answer.await.unwrap());
    }
    answers
}

/// The same, all of which must succeed.
async fn all_ok(asks: impl IntoIterator<Item = Ask>) -> Vec<Answer> {
    together(asks).await.into_iter().map(Answer::ok).collect()
}

async fn names(server: &TestServer, path: &str) -> usize {
    server.list(path).await.ok()["data"]["keys"].as_array().unwrap().len()
}

/// Story: both kinds of headers were read, changed and written without a look at who did the same. Of sixteen that were written at once one was
/// left, and all were answered that they were there.
#[tokio::test]
async fn headers_that_are_written_together_are_all_there() {
    let server = server().await;
    let audited = |n: usize| server.put(&format!("sys/config/auditing/request-headers/x-h{n}"), json!({ "hmac": n < MANY / 2 }));
    all_ok((0..MANY).map(audited)).await;
    let shown = server.get("sys/config/auditing/request-headers").await.ok();
    for n in 0..MANY {
        assert_eq!(shown["data"]["headers"][format!("x-h{n}")]["hmac"], json!(n < MANY / 2), "{n}");
    }
    all_ok((0..MANY).map(|n| server.put(&format!("sys/config/ui/headers/x-h{n}"), json!({ "values": ["v"] })))).await;
    assert_eq!(names(&server, "sys/config/ui/headers").await, MANY);
    let removed = (1..MANY).flat_map(|n| ["sys/config/ui/headers", "sys/config/auditing/request-headers"].map(|path| (path, n)));
    all_ok(removed.map(|(path, n)| server.delete(&format!("{path}/x-h{n}")))).await;
    assert_eq!(names(&server, "sys/config/ui/headers").await, 1);
    let shown = server.get("sys/config/auditing/request-headers").await.ok();
    assert!(shown["data"]["headers"].get("x-h0").is_some() && shown["data"]["headers"].get("x-h1").is_none());
}

/// Story: what one operator set of the rotation was set back by another who set something else.
#[tokio::test]
async fn settings_of_the_rotation_that_are_written_together_all_hold() {
    let server = server().await;
    let parts = [json!({ "enabled": false }), json!({ "interval": "48h" }), json!({ "max_operations": 2_000_000 })];
    all_ok(parts.map(|part| server.put("sys/rotate/config", part))).await;
    let shown = server.get("sys/rotate/config").await.ok();
    assert_eq!((&shown["data"]["enabled"], &shown["data"]["max_operations"]), (&json!(false), &json!(2_000_000)));
    assert_eq!(shown["data"]["interval"], "48h0m0s");
}

/// Story: Terraform writes ten things at a time. Of quotas that came together all but one were answered 500 `try again`.
#[tokio::test]
async fn quotas_that_are_written_together_are_all_there() {
    let server = server().await;
    all_ok((0..MANY).map(|n| server.put(&format!("sys/mounts/k{n}"), json!({ "type": "kv" })))).await;
    let rate = |n: usize| server.put(&format!("sys/quotas/rate-limit/q{n}"), json!({ "path": format!("k{n}"), "rate": 5 }));
    let count = |n: usize| server.put(&format!("sys/quotas/lease-count/q{n}"), json!({ "path": format!("k{n}"), "max_leases": 5 }));
    let config = [json!({ "enable_rate_limit_audit_logging": true }), json!({ "enable_rate_limit_response_headers": true })];
    let config = config.map(|fields| server.put("sys/quotas/config", fields));
    all_ok((0..MANY).map(rate).chain((0..MANY).map(count)).chain(config)).await;
    assert_eq!((names(&server, "sys/quotas/rate-limit").await, names(&server, "sys/quotas/lease-count").await), (MANY, MANY));
    let shown = server.get("sys/quotas/config").await.ok();
    for name in ["enable_rate_limit_audit_logging", "enable_rate_limit_response_headers"] {
        assert_eq!(shown["data"][name], true, "{name}");
    }
    let one_name = (0..MANY).map(|n| server.put("sys/quotas/rate-limit/q0", json!({ "path": "k0", "rate": n + 1 })));
    all_ok(one_name).await;
    all_ok((0..MANY).map(|n| server.delete(&format!("sys/quotas/rate-limit/q{n}")))).await;
    assert_eq!(server.list("sys/quotas/rate-limit").await.status, 404);
}

/// Story: these were read, changed and written without a look at who did the same: of what was set together one thing was left, and all were answered that
/// they were there.
#[tokio::test]
async fn configurations_of_engines_that_are_written_together_all_hold() {
    let server = server().await;
    for kind in ["aws", "github"] {
        server.put(&format!("sys/auth/{kind}"), json!({ "type": kind })).await.ok();
    }
    let written = async |path: &str, parts: Vec<Value>| {
        all_ok(parts.into_iter().map(|part| server.put(path, part))).await;
        server.get(path).await.ok()["data"].clone()
    };
    let parts = vec![
        json!({ "iam_alias": "unique_id" }),
        json!({ "ec2_alias": "instance_id" }),
        json!({ "iam_metadata": "client_arn" }),
        json!({ "ec2_metadata": "region" }),
    ];
    let whole = json!({
        "iam_alias": "unique_id", "ec2_alias": "instance_id", "iam_metadata": ["client_arn"], "ec2_metadata": ["region"],
    });
    assert_eq!(written("auth/aws/config/identity", parts).await, whole);
    let sts = |role: &str| json!({ "sts_role": format!("arn:aws:iam::111111111111:role/{role}") });
    server.put("auth/aws/config/sts/111111111111", sts("old")).await.ok();
    let shown = written("auth/aws/config/sts/111111111111", vec![sts("new"), json!({ "external_id": "x-1" })]).await;
    assert_eq!((&shown["sts_role"], &shown["external_id"]), (&sts("new")["sts_role"], &json!("x-1")));
    server.put("auth/github/config", json!({ "organization": "acme", "organization_id": 1 })).await.ok();
    let parts = vec![json!({ "token_ttl": "10m" }), json!({ "token_max_ttl": "20m" }), json!({ "token_policies": "p" })];
    let shown = written("auth/github/config", parts).await;
    assert_eq!((&shown["token_ttl"], &shown["token_max_ttl"], &shown["token_policies"]), (&json!(600), &json!(1200), &json!(["p"])));
    server.put("sys/mounts/transit", json!({ "type": "transit" })).await.ok();
    let shown = written("transit/config/keys", vec![json!({ "disable_upsert": true }), json!({})]).await;
    assert_eq!(shown["disable_upsert"], true, "whoever said nothing of it left it alone");
}

/// Story: moves of mounts met at the list of moves and at the quotas. A mount had moved, its move was answered 500, its quota stayed at the path of
/// before, and its status said `in-progress`.
#[tokio::test]
async fn mounts_that_are_moved_together_take_their_quotas_along_and_those_that_are_removed_leave_none() {
    let server = server().await;
    for n in 0..MANY {
        server.put(&format!("sys/mounts/k{n}"), json!({ "type": "kv" })).await.ok();
        server.put(&format!("sys/quotas/rate-limit/q{n}"), json!({ "path": format!("k{n}"), "rate": 1000 })).await.ok();
    }
    let moves = all_ok((0..MANY).map(|n| server.put("sys/remount", json!({ "from": format!("k{n}"), "to": format!("m{n}") })))).await;
    for moved in moves {
        let status = server.get(&format!("sys/remount/status/{}", moved.text("/data/migration_id"))).await.ok();
        assert_eq!(status.text("/data/migration_info/status"), "success");
    }
    for n in 0..MANY {
        let quota = server.get(&format!("sys/quotas/rate-limit/q{n}")).await.ok();
        assert_eq!(quota.text("/data/path"), format!("m{n}/"));
    }
    all_ok((0..MANY).map(|n| server.delete(&format!("sys/mounts/m{n}")))).await;
    assert_eq!(server.list("sys/quotas/rate-limit").await.status, 404);
}

#[tokio::test]
async fn fields_of_a_token_role_that_are_written_together_are_all_set() {
    let server = server().await;
    let parts = [
        json!({ "orphan": true }),
        json!({ "renewable": false }),
        json!({ "path_suffix": "suffix" }),
        json!({ "token_period": "1h", "period": "2h" }),
        json!({ "allowed_policies": "a,b" }),
    ];
    let answers = all_ok(parts.map(|part| server.put("auth/token/roles/r", part))).await;
    let warned = "Both 'token_period' and deprecated 'period' value supplied, ignoring the deprecated value";
    assert_eq!(answers[3]["warnings"], json!([warned]));
    let role = server.get("auth/token/roles/r").await.ok();
    assert_eq!((&role["data"]["orphan"], &role["data"]["renewable"]), (&json!(true), &json!(false)));
    assert_eq!((role.text("/data/path_suffix"), role.number("/data/token_period")), ("suffix".to_owned(), 3600));
    assert_eq!(role["data"]["allowed_policies"], json!(["a", "b"]));
}

#[tokio::test]
async fn a_message_and_cross_origin_rules_that_are_written_together_are_one_of_those_that_were_sent() {
    let server = server().await;
    let message = |title: String| json!({ "title": title, "message": "aGVsbG8=", "start_time": "2020-01-01T00:00:00Z" });
    let id = server.put("sys/config/ui/custom-messages", message("first".to_owned())).await.ok().text("/data/id");
    all_ok((0..MANY).map(|n| server.put(&format!("sys/config/ui/custom-messages/{id}"), message(format!("t{n}"))))).await;
    assert!(server.get(&format!("sys/config/ui/custom-messages/{id}")).await.ok().text("/data/title").starts_with('t'));
    all_ok((0..MANY).map(|n| server.put("sys/config/cors", json!({ "allowed_origins": format!("https://o{n}") })))).await;
    let shown = server.get("sys/config/cors").await.ok();
    // What is in force is what is stored.
    assert_eq!(server.restart().await.get("sys/config/cors").await.ok()["data"], shown["data"]);
}

/// Story: the name was looked up before the store was held. Of eight pipelines that made sure of the same entity one did, and seven were told that its
/// name was in use.
#[tokio::test]
async fn an_entity_and_a_group_of_one_name_are_made_once_and_changed_by_all_others() {
    let server = server().await;
    for kind in ["entity", "group"] {
        for path in [format!("identity/{kind}"), format!("identity/{kind}/name/other")] {
            let fields = |n: usize| {
                let name = if path.contains("name") { Value::Null } else { json!("same") };
                json!({ "name": name, "policies": format!("p{n}") })
            };
            let answers = all_ok((0..8).map(|n| server.put(&path, fields(n)))).await;
            let made = answers.iter().filter(|answer| !answer.text("/data/id").is_empty()).count();
            assert_eq!(made, 1, "{path}: whoever made it is told its id");
        }
        assert_eq!(names(&server, &format!("identity/{kind}/name")).await, 2);
        assert_eq!(names(&server, &format!("identity/{kind}/id")).await, 2);
    }
}

/// Story: an alias was renamed while somebody noted something about it. The note was written with the name of before, and the name was back.
#[tokio::test]
async fn an_alias_that_is_renamed_while_something_is_noted_about_it_is_both() {
    let server = server().await;
    server.put("sys/auth/up", json!({ "type": "userpass" })).await.ok();
    let accessor = server.get("sys/auth/up").await.ok().text("/data/accessor");
    let made = server.put("identity/entity-alias", json!({ "name": "ann", "mount_accessor": accessor })).await.ok();
    let path = format!("identity/entity-alias/id/{}", made.text("/data/id"));
    let entity = made.text("/data/canonical_id");
    for (name, note) in [("bob", "one"), ("carl", "two")] {
        let renamed = json!({ "name": name, "canonical_id": entity });
        let noted = json!({ "canonical_id": entity, "custom_metadata": { "note": note } });
        // Either may be the first.
        let parts = if name == "bob" { [renamed, noted] } else { [noted, renamed] };
        all_ok(parts.map(|part| server.put(&path, part))).await;
        let shown = server.get(&path).await.ok();
        assert_eq!((shown.text("/data/name"), shown.text("/data/custom_metadata/note")), (name.to_owned(), note.to_owned()));
    }
}

/// Story: of two audit devices that were enabled for one file at once the second was refused and stored all the same: it wrote from the next start on.
#[tokio::test]
async fn an_audit_device_that_is_refused_is_not_there_after_a_restart() {
    let (server, folder) = (server().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("audit.log").display().to_string();
    let enable = |name: &str| server.put(&format!("sys/audit/{name}"), json!({ "type": "file", "options": { "file_path": file } }));
    let answers = together([enable("a"), enable("b")]).await;
    let (good, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 204);
    assert_eq!((good.len(), refused[0].refused(400)), (1, "file_path already in use: invalid configuration"));
    let enabled = server.get("sys/audit").await.ok();
    let name = ["a", "b"].into_iter().find(|name| enabled["data"].get(format!("{name}/")).is_some()).unwrap();
    server.delete(&format!("sys/audit/{name}")).await.ok();
    assert_eq!(server.restart().await.get("sys/audit").await.ok()["data"], json!({}));
}
