//! Policies: in force at once, judged as written, and explained.

use daypass_testkit::{Answer, TestServer};
use serde_json::{Value, json};

pub(crate) const REFUSED: &str = "1 error occurred:\n\t* permission denied\n\n";

/// A server with a KV mount at `kv/`, and a token with the policy `p`.
pub(crate) async fn with_policy(text: &str) -> (TestServer, String) {
    let server = TestServer::start().await;
    server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
    server.put("kv/a", json!({ "x": 1 })).await.ok();
    server.policy("p", text).await;
    let token = server.token(json!({ "policies": ["p"] })).await;
    (server, token)
}

pub(crate) async fn explained(server: &TestServer, body: Value) -> Answer {
    server.put("sys/policies/explain", body).await.ok()
}

#[tokio::test]
async fn a_policy_is_in_force_for_the_next_request_and_so_is_its_end() {
    let (server, token) = with_policy(r#"path "kv/*" { capabilities = ["read"] }"#).await;
    for round in 0..3 {
        server.get("kv/a").token(&token).await.ok();
        server.policy("p", r#"path "kv/*" { capabilities = ["list"] }"#).await;
        assert_eq!(server.get("kv/a").token(&token).await.refused(403), REFUSED, "round {round}");
        server.list("kv").token(&token).await.ok();
        server.delete("sys/policies/acl/p").await.ok();
        assert_eq!(server.list("kv").token(&token).await.refused(403), REFUSED, "round {round}");
        server.policy("p", r#"path "kv/*" { capabilities = ["read"] }"#).await;
    }
    let server = server.restart().await;
    server.get("kv/a").token(&token).await.ok();
}

#[tokio::test]
async fn a_policy_that_does_not_parse_changes_nothing() {
    let (server, token) = with_policy(r#"path "kv/*" { capabilities = ["read"] }"#).await;
    let keys = server.keys().await;
    for text in
        [r#"path "kv/*" { capabilities = ["fly"] }"#, "path \"kv/*\" {", r#"path "a/+*" { capabilities = ["read"] }"#, "pth \"x\" {}"]
    {
        let refused = server.put("sys/policies/acl/p", json!({ "policy": text })).await;
        assert!(refused.refused(400).starts_with("failed to parse policy: "), "{text}");
        server.get("kv/a").token(&token).await.ok();
    }
    assert_eq!(server.keys().await, keys);
}

#[tokio::test]
async fn the_policies_of_the_core_stay() {
    let server = TestServer::start().await;
    for name in ["root", "ROOT", "response-wrapping", "control-group"] {
        let low = name.to_lowercase();
        let text = r#"path "*" { capabilities = ["sudo"] }"#;
        let refused = server.put(&format!("sys/policies/acl/{name}"), json!({ "policy": text })).await;
        assert_eq!(refused.refused(400), format!("cannot update {low:?} policy"));
        assert_eq!(server.delete(&format!("sys/policies/acl/{name}")).await.refused(400), format!("cannot delete {low:?} policy"));
    }
    assert_eq!(server.delete("sys/policies/acl/default").await.refused(400), "cannot delete default policy");
    let listed = server.list("sys/policies/acl").await.ok();
    assert_eq!(listed["data"]["keys"], json!(["default", "root"]));
}

#[tokio::test]
async fn create_and_update_are_told_apart_by_what_exists() {
    let (server, token) = with_policy(r#"path "auth/token/roles/*" { capabilities = ["create"] }"#).await;
    let write = || server.put("auth/token/roles/r", json!({ "orphan": true })).token(&token);
    write().await.ok();
    assert_eq!(write().await.refused(403), REFUSED);
    server.policy("p", r#"path "auth/token/roles/*" { capabilities = ["update"] }"#).await;
    write().await.ok();
    server.delete("auth/token/roles/r").await.ok();
    assert_eq!(write().await.refused(403), REFUSED);
}

#[tokio::test]
async fn parameters_are_judged_in_bodies_and_queries_alike() {
    let (server, token) = with_policy(
        r#"path "aws/sts/deploy" { capabilities = ["read", "update"] allowed_parameters = { "ttl" = ["15m", "900*"] "role_arn" = [] } }"#,
    )
    .await;
    server.mount_aws("aws").await;
    server.get("aws/sts/deploy").token(&token).await.ok();
    server.get("aws/sts/deploy?ttl=15m&role_arn=").token(&token).await.ok();
    server.put("aws/sts/deploy", json!({ "TTL": "900s" })).token(&token).await.ok();
    for query in ["ttl=1h", "ttl=15m&role_session_name=x"] {
        assert_eq!(server.get(&format!("aws/sts/deploy?{query}")).token(&token).await.refused(403), REFUSED, "{query}");
    }
    for body in [json!({ "ttl": "1h" }), json!({ "ttl": 900 }), json!({ "ttl": ["15m", "1h"] }), json!({ "ttl": null })] {
        assert_eq!(server.put("aws/sts/deploy", body.clone()).token(&token).await.refused(403), REFUSED, "{body}");
    }
}

#[tokio::test]
async fn wrapping_limits_hold_for_every_operation() {
    let (server, token) =
        with_policy(r#"path "kv/*" { capabilities = ["read", "list"] min_wrapping_ttl = "1m" max_wrapping_ttl = "5m" }"#).await;
    for (ttl, status) in [("59s", 403), ("60s", 200), ("300", 200), ("301s", 403)] {
        assert_eq!(server.get("kv/a").token(&token).wrap(ttl).await.status, status, "{ttl}");
        assert_eq!(server.list("kv").token(&token).wrap(ttl).await.status, status, "{ttl}");
    }
    assert_eq!(server.get("kv/a").token(&token).await.refused(403), REFUSED);
}

#[tokio::test]
async fn strangers_cannot_tell_what_exists_from_what_is_forbidden() {
    let (server, token) = with_policy(r#"path "kv/only" { capabilities = ["read"] }"#).await;
    for path in ["kv/a", "kv/none", "none/a", "sys/mounts", "sys/none", "auth/none/login2", "sys/policies/acl/p", "sys/policies/acl/none"] {
        for method in ["GET", "PUT", "DELETE", "LIST", "PATCH"] {
            let answer = server.ask(method, path).header("content-type", "application/merge-patch+json").token(&token).await;
            assert_eq!(answer.refused(403), REFUSED, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn an_explanation_names_the_rule_its_line_and_who_lost() {
    let (server, _) = with_policy("path \"kv/*\" { capabilities = [\"list\"] }\n\npath \"kv/+\" { capabilities = [\"read\"] }").await;
    server.policy("q", r#"path "kv/+" { capabilities = ["update"] }"#).await;
    let yes = explained(&server, json!({ "policies": "p,q,gone", "path": "v1/kv/a" })).await;
    assert_eq!((yes["data"]["allowed"].clone(), yes.text("/data/rule/pattern")), (json!(true), "kv/+".to_owned()));
    assert_eq!(yes["data"]["rule"]["policies"][0], json!({ "policy": "p", "line": 3, "capabilities": ["read"] }));
    assert_eq!(yes["data"]["rule"]["policies"][1]["policy"], "q");
    assert_eq!(yes["data"]["others"][0]["pattern"], "kv/*");
    assert_eq!(yes.text("/data/others/0/lost_because"), "it ends in *, the other does not");
    assert_eq!(yes["data"]["missing_policies"], json!(["gone"]));
    let no = explained(&server, json!({ "policies": ["p"], "path": "kv/a", "operation": "delete" })).await;
    assert_eq!(no.text("/data/reason"), "denied by \"kv/+\" of policy p: capability \"delete\" is not granted");
    let nothing = explained(&server, json!({ "policies": ["p"], "path": "sys/mounts" })).await;
    assert_eq!(
        (nothing["data"]["rule"].clone(), nothing.text("/data/remark")),
        (Value::Null, "what no pattern covers is denied".to_owned())
    );
    let root = explained(&server, json!({ "token": server.root(), "path": "sys/raw/x", "operation": "delete" })).await;
    assert_eq!(root.text("/data/reason"), "allowed: the token is root");
}

#[tokio::test]
async fn an_explanation_and_the_judge_never_differ() {
    let text = r#"
        path "sys/mounts" { capabilities = ["read"] }
        path "sys/audit" { capabilities = ["read", "sudo"] }
        path "sys/leases/lookup/*" { capabilities = ["list"] }
        path "auth/token/accessors" { capabilities = ["list"] }
        path "kv/*" { capabilities = ["read", "list", "update"] denied_parameters = { "x" = ["no"] } }
        path "kv/wrapped" { capabilities = ["read"] max_wrapping_ttl = "1m" }
        path "kv/never" { capabilities = ["deny"] }"#;
    let (server, token) = with_policy(text).await;
    let accessor = server.get("auth/token/lookup-self").token(&token).await.status;
    assert_eq!(accessor, 200);
    for path in ["sys/mounts", "sys/audit", "sys/leases/lookup/x", "auth/token/accessors", "kv/a", "kv/wrapped", "kv/never", "none/x"] {
        for (method, operation) in [("GET", "read"), ("LIST", "list"), ("PUT", "update"), ("DELETE", "delete")] {
            for value in ["yes", "no"] {
                let body = if method == "PUT" { json!({ "x": value }) } else { Value::Null };
                let asked = json!({ "path": path, "operation": operation, "parameters": body });
                let said = server.put("sys/policies/explain-self", asked).token(&token).await.ok();
                let done = server.ask(method, path).json(&body).token(&token).await;
                let refused = done.status == 403 && done.body["errors"][0] == REFUSED;
                assert_eq!(said["data"]["allowed"], json!(!refused), "{method} {path}: {} but {done:?}", said.body);
            }
        }
    }
    let said = explained(&server, json!({ "token": token, "path": "sys/leases/lookup/x", "operation": "list" })).await;
    assert!(said.text("/data/reason").ends_with("capability \"sudo\" is not granted"), "{:?}", said.body);
    let wrapped = explained(&server, json!({ "token": token, "path": "kv/wrapped", "wrap_ttl": "30s" })).await;
    assert_eq!(wrapped["data"]["allowed"], true);
}

#[tokio::test]
async fn others_are_explained_only_to_who_may_ask() {
    let (server, token) = with_policy(r#"path "kv/*" { capabilities = ["read"] }"#).await;
    let other = server.token(json!({ "policies": ["p"] })).await;
    let ask = |body: Value| server.put("sys/policies/explain", body).token(&token);
    assert_eq!(ask(json!({ "token": other, "path": "kv/a" })).await.refused(403), REFUSED);
    assert_eq!(ask(json!({ "policies": ["default"], "path": "kv/a" })).await.refused(403), REFUSED);
    assert_eq!(server.put("sys/policies/explain-self", json!({ "path": "kv/a" })).nobody().await.status, 403);
    assert_eq!(server.put("sys/policies/explain-self", json!({ "path": "kv/a" })).token("made-up").await.status, 403);
    server.policy("p", r#"path "sys/policies/explain" { capabilities = ["update"] }"#).await;
    ask(json!({ "token": other, "path": "kv/a" })).await.ok();
    for body in
        [json!({ "path": "kv/a" }), json!({ "path": "kv/a", "token": other, "accessor": "x" }), json!({ "token": other, "path": "" })]
    {
        ask(body).await.refused(400);
    }
    assert!(ask(json!({ "token": other, "path": "kv/a", "operation": "fly" })).await.refused(400).contains("none of create"));
    assert_eq!(ask(json!({ "token": "made-up", "path": "kv/a" })).await.refused(400).trim(), "1 error occurred:\n\t* invalid token");
}

/// Story: `explain-self` looked the token up itself, and so answered one that is bound to other networks than the caller's.
#[tokio::test]
async fn the_own_rights_are_explained_only_where_the_token_may_be_used() {
    let (server, _) = with_policy(r#"path "kv/*" { capabilities = ["read"] }"#).await;
    server.put("auth/token/roles/bound", json!({ "token_bound_cidrs": "127.0.0.0/8", "allowed_policies": "p" })).await.ok();
    for kind in ["service", "batch"] {
        let made = server.put("auth/token/create/bound", json!({ "type": kind, "policies": ["p"], "ttl": "1h" })).await.ok();
        let ask = || server.put("sys/policies/explain-self", json!({ "path": "kv/a" })).token(&made.token());
        assert_eq!(ask().await.ok()["data"]["allowed"], true, "{kind}");
        for elsewhere in ["192.0.2.7", "a unix socket"] {
            ask().from(elsewhere).await.refused(403);
        }
    }
}

#[tokio::test]
async fn an_explanation_of_the_own_rights_tells_no_more_than_trying_would() {
    let (server, token) = with_policy(r#"path "other/*" { capabilities = ["read"] }"#).await;
    let ask = |path: &str| server.put("sys/policies/explain-self", json!({ "path": path })).token(&token);
    // A path that exists, is protected for root and forbidden reads as one that does not exist.
    let (exists, none) = (ask("sys/audit").await.ok(), ask("sys/nothing").await.ok());
    assert_eq!(exists["data"]["reason"], none["data"]["reason"]);
}

#[tokio::test]
async fn every_path_that_is_protected_for_root_asks_for_sudo_and_no_other_does() {
    let all_but_sudo = r#"path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }"#;
    let (server, token) = with_policy(all_but_sudo).await;
    let status = async |method: &str, path: &str| server.ask(method, path).json(&json!({})).token(&token).await;
    for (method, path) in [
        ("GET", "sys/auth/token"),
        ("GET", "sys/auth/token/tune"),
        ("PUT", "sys/auth/token/tune"),
        ("PUT", "sys/auth/up"),
        ("DELETE", "sys/auth/up"),
        ("PUT", "sys/remount"),
        ("GET", "sys/audit"),
        ("PUT", "sys/audit/file"),
        ("DELETE", "sys/audit/file"),
        ("GET", "sys/raw/core/mounts"),
        ("PUT", "sys/rotate"),
        ("GET", "sys/config/cors"),
        ("PUT", "sys/config/cors"),
        ("GET", "sys/config/auditing/request-headers"),
        ("PUT", "sys/config/auditing/request-headers/x"),
        ("LIST", "sys/config/ui/headers"),
        ("PUT", "sys/config/ui/headers/x"),
        ("GET", "sys/plugins/catalog/secret/kv"),
        ("PUT", "sys/revoke-prefix/kv"),
        ("PUT", "sys/revoke-force/kv"),
        ("PUT", "sys/leases/revoke-prefix/kv"),
        ("PUT", "sys/leases/revoke-force/kv"),
        ("LIST", "sys/leases/lookup"),
        ("LIST", "sys/leases/lookup/kv"),
        ("GET", "sys/leases?type=irrevocable"),
        ("PUT", "sys/seal"),
        ("PUT", "sys/step-down"),
        ("LIST", "auth/token/accessors"),
        ("PUT", "auth/token/revoke-orphan"),
    ] {
        assert_eq!(status(method, path).await.refused(403), REFUSED, "{method} {path}");
    }
    for (method, path) in [
        ("GET", "sys/auth"),
        ("GET", "sys/mounts"),
        ("PUT", "sys/mounts/other"),
        ("GET", "sys/mounts/kv/tune"),
        ("LIST", "sys/policies/acl"),
        ("PUT", "sys/policies/acl/p2"),
        ("PUT", "sys/leases/lookup"),
        ("PUT", "sys/leases/renew"),
        ("PUT", "sys/leases/revoke"),
        ("GET", "sys/host-info"),
        ("GET", "sys/config/state/sanitized"),
        ("PUT", "auth/token/create"),
        ("PUT", "auth/token/create-orphan"),
        ("PUT", "auth/token/revoke-accessor"),
    ] {
        let answer = status(method, path).await;
        assert_ne!(answer.status, 403, "{method} {path}: {}", answer.body);
    }
}

/// Story: what `default` says of its owner was arranged anew with thousands of rules for each caller. It is laid over what all share now: each
/// caller sees its own entity, whatever else the policies say of that very path.
#[tokio::test]
async fn callers_share_large_policies_and_keep_what_is_their_own() {
    let server = TestServer::start().await;
    server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
    server.put("sys/auth/userpass", json!({ "type": "userpass" })).await.ok();
    let mut large: String = (0..3_000).map(|number| format!("path \"kv/team{number}/*\" {{ capabilities = [\"read\"] }}\n")).collect();
    large.push_str("path \"kv/{{identity.entity.metadata.team}}/own\" { capabilities = [\"update\"] }\n");
    large.push_str("path \"kv/team7/own\" { capabilities = [\"list\"] }\n");
    server.policy("large", &large).await;
    let mut tokens = Vec::new();
    for (name, team) in [("ann", "team7"), ("bob", "team8")] {
        server.put(&format!("auth/userpass/users/{name}"), json!({ "password": "x", "token_policies": "large" })).await.ok();
        let login = server.put(&format!("auth/userpass/login/{name}"), json!({ "password": "x" })).nobody().await.ok();
        let id = login.text("/auth/entity_id");
        server.put(&format!("identity/entity/id/{id}"), json!({ "metadata": { "team": team } })).await.ok();
        tokens.push((login.token(), id));
    }
    let rights = async |token: &str, path: &str| {
        let answer = server.put("sys/capabilities", json!({ "token": token, "path": path })).await.ok();
        answer["data"]["capabilities"].clone()
    };
    for round in 0..2 {
        let [(ann, ann_id), (bob, bob_id)] = &tokens[..] else { panic!("two") };
        assert_eq!(rights(ann, "kv/team7/own").await, json!(["list", "update"]), "both stanzas of one pattern count");
        assert_eq!(rights(bob, "kv/team7/own").await, json!(["list"]));
        assert_eq!(rights(bob, "kv/team8/own").await, json!(["update"]));
        assert_eq!(rights(ann, "kv/team8/own").await, json!(["read"]));
        for (token, own, other) in [(ann, ann_id, bob_id), (bob, bob_id, ann_id)] {
            server.get(&format!("identity/entity/id/{own}")).token(token).await.ok();
            assert_eq!(server.get(&format!("identity/entity/id/{other}")).token(token).await.refused(403), REFUSED);
        }
        // What is kept is made anew.
        server.policy("another", &format!("path \"x/{round}\" {{ capabilities = [\"read\"] }}")).await;
    }
}

/// Story: the least numbers of characters were added up unchecked. A policy whose sum went around was taken, and whoever asked for a password by it took all
/// of the server's memory.
#[tokio::test]
async fn a_password_policy_that_wants_more_than_there_is_room_for_is_refused() {
    let server = TestServer::start().await;
    let rule = |least: i64| format!("rule \"charset\" {{ charset = \"ab\" min-chars = {least} }}\n");
    for rules in [vec![21], vec![i64::MAX, i64::MAX, 6], vec![10, 11]] {
        let policy: String = rules.iter().map(|least| rule(*least)).collect();
        let refused = server.put("sys/policies/password/p", json!({ "policy": format!("length = 20\n{policy}") })).await;
        assert!(refused.refused(400).contains("specified rules require at least"), "{rules:?}");
    }
    server.get("sys/policies/password/p/generate").await.refused(404);
}
