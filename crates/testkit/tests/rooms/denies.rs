//! What is denied is denied however it is asked for, and nothing else is.

use serde_json::json;

use crate::policies::{REFUSED, explained, with_policy};

/// Story: an operator's helper may write every policy, user and role but some, and reached those by other spellings of their names: in
/// capitals, or with a slash at the end (CVE-2026-89322). The handlers take all of them for one name.
#[tokio::test]
async fn another_spelling_of_a_denied_name_is_denied_too() {
    let (server, token) = with_policy(
        r#"path "sys/policies/acl/*" { capabilities = ["create", "read", "update", "delete"] }
        path "sys/policies/acl/admin" { capabilities = ["deny"] }
        path "sys/mounts/*" { capabilities = ["delete", "sudo"] }
        path "sys/mounts/kv" { capabilities = ["deny"] }
        path "auth/+/users/*" { capabilities = ["create", "update"] }
        path "auth/+/users/root-ops" { capabilities = ["deny"] }
        path "auth/approle/role/*" { capabilities = ["create", "update"] }
        path "auth/approle/role/prod/*" { capabilities = ["deny"] }
        path "identity/entity/name/*" { capabilities = ["create", "update", "read"] }
        path "identity/entity/name/boss" { capabilities = ["deny"] }"#,
    )
    .await;
    server.policy("admin", r#"path "kv/*" { capabilities = ["read"] }"#).await;
    for method in ["userpass", "approle"] {
        server.put(&format!("sys/auth/{method}"), json!({ "type": method })).await.ok();
    }
    server.put("auth/approle/role/prod", json!({ "token_policies": "admin" })).await.ok();
    server.put("identity/entity", json!({ "name": "boss" })).await.ok();
    let all = r#"path "*" { capabilities = ["sudo"] }"#;
    for path in ["sys/policies/acl/admin", "sys/policies/acl/Admin", "sys/policies/acl/ADMIN/", "sys/policies/acl/admin%2F"] {
        assert_eq!(server.put(path, json!({ "policy": all })).token(&token).await.refused(403), REFUSED, "{path}");
        assert_eq!(server.delete(path).token(&token).await.refused(403), REFUSED, "{path}");
    }
    for path in [
        "auth/userpass/users/Root-Ops",
        "auth/userpass/users/ROOT-OPS/",
        "auth/approle/role/PROD/secret-id",
        "auth/approle/role/Prod/secret-id/",
        "identity/entity/name/BOSS",
        "identity/entity/name/%20boss%20",
    ] {
        let asked = server.put(path, json!({ "password": "x", "policies": "admin" })).token(&token).await;
        assert_eq!(asked.refused(403), REFUSED, "{path}");
        let capabilities = server.put("sys/capabilities", json!({ "token": token, "path": path.replace("%20", " ") })).await.ok();
        assert_eq!(capabilities["data"]["capabilities"], json!(["deny"]), "{path}");
    }
    assert_eq!(server.delete("sys/mounts/kv/").token(&token).await.refused(403), REFUSED);
    server.get("kv/a").await.ok();
    // What is not denied goes on, however it is spelled.
    server.put("sys/policies/acl/Admins", json!({ "policy": all })).token(&token).await.ok();
    server.put("auth/userpass/users/Root", json!({ "password": "x" })).token(&token).await.ok();
    let why = explained(&server, json!({ "token": token, "path": "sys/policies/acl/Admin", "operation": "update" })).await;
    assert!(why.text("/data/rule/counts_because").starts_with("a deny counts for every spelling"), "{why:?}");
}

/// Story: who may write all users but only read `admin` set the password of `Admin`, which is the same user, and logged in as it; in the same way a policy was
/// replaced. A narrower grant was passed by another spelling as denies once were.
#[tokio::test]
async fn a_narrower_grant_is_passed_by_no_other_spelling() {
    let (server, token) = with_policy(
        r#"path "auth/userpass/users/*" { capabilities = ["create", "update", "read"] }
        path "auth/userpass/users/admin" { capabilities = ["read"] }
        path "auth/userpass/users/admin/*" { capabilities = ["read"] }
        path "auth/userpass/users/Named" { capabilities = ["delete"] }
        path "sys/policies/acl/*" { capabilities = ["read", "update", "delete"] }
        path "sys/policies/acl/adm" { capabilities = ["read"] }
        path "identity/entity/name/*" { capabilities = ["create", "update", "read"] }
        path "identity/entity/name/boss" { capabilities = ["read"] }
        path "kv/*" { capabilities = ["create", "read", "update"] }
        path "kv/key" { capabilities = ["read"] }"#,
    )
    .await;
    let text = r#"path "kv/*" { capabilities = ["read"] }"#;
    server.policy("adm", text).await;
    server.put("sys/auth/userpass", json!({ "type": "userpass" })).await.ok();
    for name in ["admin", "named", "ann"] {
        server.put(&format!("auth/userpass/users/{name}"), json!({ "password": "first" })).await.ok();
    }
    server.put("identity/entity", json!({ "name": "boss" })).await.ok();
    for (method, path) in [
        ("PUT", "auth/userpass/users/admin/password"),
        ("PUT", "auth/userpass/users/Admin/password"),
        ("PUT", "auth/userpass/users/ADMIN"),
        ("PUT", "auth/userpass/users/ADMIN/policies"),
        ("PUT", "sys/policies/acl/Adm"),
        ("DELETE", "sys/policies/acl/ADM"),
        ("DELETE", "sys/policies/acl/adm/"),
        ("PUT", "identity/entity/name/Boss"),
        ("PUT", "identity/entity/name/boss%20"),
    ] {
        let sent = json!({ "password": "second", "policy": r#"path "*" { capabilities = ["sudo"] }"# });
        assert_eq!(server.ask(method, path).json(&sent).token(&token).await.refused(403), REFUSED, "{method} {path}");
        let asked = json!({ "token": token, "path": path.replace("%20", " ") });
        let capabilities = server.put("sys/capabilities", asked).await.ok();
        assert_eq!(capabilities["data"]["capabilities"], json!(["read"]), "{path}");
    }
    assert_eq!(server.get("sys/policies/acl/adm").await.ok().text("/data/policy"), text);
    server.put("auth/userpass/login/admin", json!({ "password": "first" })).nobody().await.ok();
    let why = explained(&server, json!({ "token": token, "path": "sys/policies/acl/Adm", "operation": "update" })).await;
    assert_eq!((&why["data"]["allowed"], why.text("/data/rule/pattern")), (&json!(false), "sys/policies/acl/adm".to_owned()));
    // What is read may be read, what nothing narrower speaks of is granted, and so is what a rule names as it is spelled. In KV `Key` is another secret.
    server.get("sys/policies/acl/ADM").token(&token).await.ok();
    server.put("auth/userpass/users/Ann/password", json!({ "password": "second" })).token(&token).await.ok();
    server.delete("auth/userpass/users/Named").token(&token).await.ok();
    server.put("kv/Key", json!({ "x": 1 })).token(&token).await.ok();
    assert_eq!(server.put("kv/key", json!({ "x": 1 })).token(&token).await.refused(403), REFUSED);
}

/// Story: who may remove every mount but `kv` asked to remove `%2Fkv`: no policy denies `sys/mounts//kv`, and the handler drops the slash.
#[tokio::test]
async fn an_escaped_slash_leads_past_no_deny() {
    let (server, token) = with_policy(
        r#"path "sys/*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }
        path "sys/mounts/kv" { capabilities = ["deny"] }
        path "sys/mounts/kv/tune" { capabilities = ["deny"] }
        path "sys/auth/userpass" { capabilities = ["deny"] }
        path "sys/auth/userpass/tune" { capabilities = ["deny"] }
        path "sys/leases/revoke-prefix/*" { capabilities = ["deny"] }
        path "sys/policies/acl/admin" { capabilities = ["deny"] }"#,
    )
    .await;
    server.put("sys/auth/userpass", json!({ "type": "userpass" })).await.ok();
    for (method, path) in [
        ("DELETE", "sys/mounts/kv"),
        ("GET", "sys/mounts/kv/tune"),
        ("DELETE", "sys/auth/userpass"),
        ("PUT", "sys/auth/userpass/tune"),
        ("PUT", "sys/leases/revoke-prefix/kv"),
        ("DELETE", "sys/policies/acl/admin"),
    ] {
        assert_eq!(server.ask(method, path).json(&json!({})).token(&token).await.refused(403), REFUSED, "{method} {path}");
        // Before each segment and at the end: an escaped slash, beside a slash, or beside another that is escaped.
        let each = path.match_indices('/').flat_map(|(at, _)| {
            let (before, after) = path.split_at(at);
            ["/%2F", "%2F/", "%2f%2f"].map(|slashes| format!("{before}{slashes}{}", after.trim_start_matches('/')))
        });
        for spelled in each.chain([format!("{path}/%2F"), format!("%2F{path}")]) {
            for method in ["GET", "PUT", "DELETE", "LIST"] {
                let answer = server.ask(method, &spelled).json(&json!({ "type": "kv" })).token(&token).await;
                assert_eq!(answer.refused(400), "path cannot contain empty segments", "{method} {spelled}");
            }
            let asked = json!({ "token": token, "path": spelled.replace("%2F", "/").replace("%2f", "/") });
            let capabilities = server.put("sys/capabilities", asked).await.ok();
            assert_eq!(capabilities["data"]["capabilities"], json!(["deny"]), "{spelled}");
        }
    }
    server.get("kv/a").await.ok();
    assert!(server.get("sys/auth").await.ok()["data"]["userpass/"].is_object());
}

/// Story: who may read `kv/app` and not list what is below it was not allowed to read it either. What is one thing with its slash and
/// without stays denied both ways.
#[tokio::test]
async fn a_denied_folder_is_not_the_secret_of_the_same_name() {
    let (server, token) = with_policy(
        r#"path "kv/app" { capabilities = ["read"] }
        path "kv/app/" { capabilities = ["deny"] }
        path "kv/team/+" { capabilities = ["read", "list"] }
        path "kv/team/+/" { capabilities = ["deny"] }
        path "sys/*" { capabilities = ["read", "update", "delete", "sudo"] }
        path "sys/mounts/kv/" { capabilities = ["deny"] }
        path "sys/auth/userpass/" { capabilities = ["deny"] }
        path "sys/policies/acl/admin/" { capabilities = ["deny"] }
        path "sys/policy/admin/" { capabilities = ["deny"] }
        path "sys/policies/password/strong/" { capabilities = ["deny"] }
        path "sys/audit/file/" { capabilities = ["deny"] }
        path "sys/leases/revoke-prefix/kv/" { capabilities = ["deny"] }
        path "sys/leases/lookup/" { capabilities = ["deny"] }"#,
    )
    .await;
    for path in ["kv/app", "kv/team/a", "kv/team/a/b"] {
        server.put(path, json!({ "x": 1 })).await.ok();
    }
    for path in ["kv/app", "kv/team/a"] {
        server.get(path).token(&token).await.ok();
        assert_eq!(server.list(path).token(&token).await.refused(403), REFUSED, "{path}");
        assert_eq!(server.get(&format!("{path}/")).token(&token).await.refused(403), REFUSED, "{path}");
    }
    for (method, path) in [
        ("DELETE", "sys/mounts/kv"),
        ("DELETE", "sys/auth/userpass"),
        ("DELETE", "sys/policies/acl/admin"),
        ("DELETE", "sys/policy/Admin"),
        ("DELETE", "sys/policies/password/strong"),
        ("DELETE", "sys/audit/file"),
        ("PUT", "sys/leases/revoke-prefix/kv"),
    ] {
        for path in [path.to_owned(), format!("{path}/")] {
            assert_eq!(server.ask(method, &path).json(&json!({})).token(&token).await.refused(403), REFUSED, "{method} {path}");
        }
    }
    // Who may not list leases may look one up.
    assert_ne!(server.put("sys/leases/lookup", json!({ "lease_id": "kv/x" })).token(&token).await.status, 403);
}

/// Story: who may make tokens, but none with the policy `admin`, sent `Admin` or ` admin`, and the handler tidied that up.
#[tokio::test]
async fn a_denied_policy_cannot_be_given_under_another_spelling() {
    let text = |path: &str, field: &str| {
        format!("path {path:?} {{ capabilities = [\"create\", \"update\", \"sudo\"] denied_parameters = {{ {field:?} = [\"admin\"] }} }}\n")
    };
    let paths = [
        ("auth/token/create", "policies"),
        ("identity/entity", "policies"),
        ("auth/userpass/users/x", "token_policies"),
        ("auth/token/roles/r", "allowed_policies"),
        ("auth/github/map/users/octocat", "value"),
    ];
    let (server, token) = with_policy(&paths.map(|(path, field)| text(path, field)).concat()).await;
    for method in ["userpass", "github"] {
        server.put(&format!("sys/auth/{method}"), json!({ "type": method })).await.ok();
    }
    server.put("auth/userpass/users/x", json!({ "password": "x" })).await.ok();
    for (path, field) in paths {
        for sent in [json!(["Admin"]), json!([" admin"]), json!("ADMIN\t"), json!(["x", "aDMIN"])] {
            if field == "value" && sent.is_array() {
                continue;
            }
            assert_eq!(server.put(path, json!({ field: sent })).token(&token).await.refused(403), REFUSED, "{path} {sent}");
        }
        server.put(path, json!({ field: "other" })).token(&token).await.ok();
    }
    for (path, field) in paths.into_iter().filter(|(path, _)| *path != "auth/token/create") {
        assert_eq!(server.put(path, json!({ field: "x, Admin" })).token(&token).await.refused(403), REFUSED, "{path}");
    }
}

/// Story: `kv/*` may be listed, `kv/prod/*` is denied, and `LIST kv/prod` was answered: without its slash the path fits the first pattern
/// alone (CVE-2026-63131).
#[tokio::test]
async fn a_list_is_denied_where_what_it_lists_is() {
    for deny in ["kv/prod/*", "kv/+/*", "kv/PROD/*"] {
        let grant = if deny == "kv/+/*" { "kv/+" } else { "kv/*" };
        let (server, token) =
            with_policy(&format!("path {grant:?} {{ capabilities = [\"list\"] }}\npath {deny:?} {{ capabilities = [\"deny\"] }}")).await;
        server.put("kv/prod/x", json!({ "x": 1 })).await.ok();
        assert_eq!(server.list("kv/prod").token(&token).await.refused(403), REFUSED, "{deny}");
        let asked = server.put("sys/capabilities", json!({ "token": token, "path": "kv/prod/" })).await.ok();
        assert_eq!(asked["data"]["capabilities"], json!(["deny"]), "{deny}");
    }
}

/// Story: who may set up AppRole, but no secret ids that may be used without end, wrote their number of uses as `"0x0"`, as nothing or as null.
#[tokio::test]
async fn a_denied_number_cannot_be_set_under_another_spelling() {
    let (server, token) = with_policy(
        r#"path "auth/approle/role/*" {
            capabilities = ["create", "update"]
            denied_parameters = { "secret_id_num_uses" = [0], "token_ttl" = ["0"], "token_max_ttl" = [0, 900] }
        }"#,
    )
    .await;
    server.put("sys/auth/approle", json!({ "type": "approle" })).await.ok();
    let write =
        async |field: &str, sent: &serde_json::Value| server.put("auth/approle/role/ci", json!({ field: sent })).token(&token).await;
    for (field, spellings) in [
        ("secret_id_num_uses", [json!(0), json!("0x0"), json!("00"), json!("+0"), json!(""), json!(null), json!(false)]),
        ("token_max_ttl", [json!(900), json!("15m"), json!("900"), json!("+900"), json!("900s"), json!(900.5), json!("0d")]),
        ("token_ttl", [json!(0), json!("0"), json!("0s"), json!("00"), json!(""), json!("0h0m"), json!(0.5)]),
    ] {
        for sent in spellings {
            assert_eq!(write(field, &sent).await.refused(403), REFUSED, "{field} {sent}");
        }
        write(field, &json!(700)).await.ok();
        write(field, &json!("800")).await.ok();
    }
}
