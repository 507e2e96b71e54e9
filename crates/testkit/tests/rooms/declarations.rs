//! Every endpoint that is declared, through the whole pipeline: without a token, with the wrong policy, and allowed; and what its
//! declaration must say. All of it comes from the declarations, so a new endpoint is covered by being declared.

use std::collections::BTreeSet;

use daypass_core::documents::Declarations;
use daypass_sdk::{Declared, DeclaredOperation, Form, Operation, Pattern, Shape};
use daypass_testkit::{ALWAYS, Answer, Door, TestServer, doors, every_mount};
use serde_json::{Value, json};

/// Endpoints that answer 403 to a caller whom policy allows, because they look further: operation, path, reason.
const REFUSE_THEMSELVES: [(&str, &str, &str); 1] =
    [("read", "sys/internal/ui/mounts/cubbyhole", "shows a mount to whom has rights below it, and the policy here gives none")];

/// Failures that Vault reports with status 500, as it was recorded: operation, path, text. Anything else that ends in 5xx is a bug.
const RECORDED_FAILURES: [(&str, &str, &str); 7] = [
    ("update", "auth/x-approle/login", "failed to determine alias name from login request"),
    ("read", "auth/x-approle/login", "failed to determine alias name from login request"),
    ("update", "auth/x-userpass/users/sample/password", "username does not exist"),
    ("update", "auth/x-userpass/users/sample/policies", "username does not exist"),
    ("update", "sys/config/cors", "at least one origin or the wildcard must be provided"),
    ("update", "sys/rekey/init", "invalid rekey seal configuration: shares must be at least one"),
    ("update", "x-aws/config/rotate-root", "no configuration found for config/root"),
];

/// Public endpoints that look at a token themselves and refuse a stranger as Vault does.
const REFUSE_STRANGERS: [(&str, &str); 5] = [
    ("auth/x-approle/login", "Vault answers 500 to a login without a role id"),
    ("sys/policies/explain-self", "explains the token that asks: without one there is nothing to explain"),
    ("sys/rekey/init", "Vault answers 500 to a seal without shares"),
    ("sys/internal/ui/mounts/", "says which mount serves a path, to whom may use it"),
    ("sys/internal/ui/namespaces", "Vault answers 500 `client token empty`"),
];

/// Endpoints that are about the token that is presented, where none is named: then no policy is asked.
const OWN_TOKEN: [(&str, &str); 1] = [("sys/wrapping/unwrap", "the wrapping token is the right to it, and no other token is one")];

/// Parameters of paths that a field of the body names in other words: parameter, field, the test that shows that the path decides.
const NAMED_TWICE: [(&str, &str, &str); 3] = [
    ("url_lease_id", "lease_id", "lease_admin: a_lease_that_the_path_names_is_the_one_that_is_meant"),
    ("urlalgorithm", "algorithm", "what_the_path_says_is_not_said_otherwise_by_the_body"),
    ("urlbytes", "bytes", "what_the_path_says_is_not_said_otherwise_by_the_body"),
];

/// Endpoints that say they are not there, to whoever may ask: path, reason.
const HIDDEN: [(&str, &str); 1] = [("sys/raw", "access to the raw store is not offered")];

/// Endpoints that no test here reaches. It stays empty.
const UNCOVERED: [&str; 0] = [];

/// Endpoints that change what other requests are answered: whoever comes next gets a new server.
const LEAVE_TRACES: [&str; 7] = ["sys/audit/", "sys/config/", "sys/generate-root", "sys/quotas/", "sys/rekey", "sys/seal", "sys/storage/"];

#[tokio::test]
async fn a_stranger_gets_nowhere_but_through_public_doors() {
    let server = every_mount().await;
    let mut wrong = Vec::new();
    for door in doors(&server) {
        let answer = door.ask(&server).await.nobody().await;
        let refuses = REFUSE_STRANGERS.iter().any(|(path, _)| door.path.starts_with(path));
        let fine = if door.public { refuses || (answer.status != 403 && answer.status < 500) } else { answer.status == 403 };
        if !fine {
            wrong.push(format!("{} {}: {}", door.operation, door.path, answer.status));
        }
        if server.get("sys/seal-status").nobody().await["sealed"] == true {
            server.unseal().await;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_token_of_another_policy_gets_nowhere_and_without_sudo_not_through_sudo_doors() {
    let server = every_mount().await;
    server
        .policy("elsewhere", r#"path "nothing/here" { capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"] }"#)
        .await;
    server.policy("all-but-sudo", r#"path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }"#).await;
    let elsewhere = server.token(json!({ "policies": ["elsewhere"], "no_default_policy": true })).await;
    let all_but_sudo = server.token(json!({ "policies": ["all-but-sudo"], "no_default_policy": true })).await;
    let mut wrong = Vec::new();
    for door in doors(&server).into_iter().filter(|door| !door.public) {
        for token in std::iter::once(&elsewhere).chain(door.sudo.then_some(&all_but_sudo)) {
            let answer = door.ask(&server).await.token(token).await;
            let own = OWN_TOKEN.iter().any(|(path, _)| *path == door.path);
            if answer.status != if own { 400 } else { 403 } {
                wrong.push(format!("{} {}: {}", door.operation, door.path, answer.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Story: with `X-Vault-Wrap-TTL` any stranger had a token, its cubbyhole and its index entries stored for as long as he liked, by asking what answers
/// anybody. Logins and wrapping tokens prove something before they are answered well; no other answer is put away for who shows no token.
#[tokio::test]
async fn no_public_door_stores_a_strangers_wish_to_have_it_wrapped() {
    let server = every_mount().await;
    let mut wrong = Vec::new();
    for door in doors(&server).into_iter().filter(|door| door.public) {
        let ask = door.ask(&server).await.nobody().wrap("60s");
        let before = (server.keys().await, server.expiry_entries().await);
        let answer = ask.await;
        if (server.keys().await, server.expiry_entries().await) != before
            || answer.body.get("wrap_info").is_some_and(|info| !info.is_null())
        {
            wrong.push(format!("{} {}: {}", door.operation, door.path, answer.status));
        }
        if server.get("sys/seal-status").nobody().await["sealed"] == true {
            server.unseal().await;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for path in ["sys/replication/status", "sys/internal/ui/mounts"] {
        server.get(path).nobody().await.ok();
        let answer = server.get(path).nobody().wrap("60s").await;
        assert!(answer.refused(400).starts_with("this path answers without a token"), "{answer:?}");
    }
    let begun = server.put("auth/x-jwt/oidc/auth_url", json!({})).nobody().wrap("60s").await;
    assert!(begun.refused(400).starts_with("this path answers without a token"), "refused before it is begun: {begun:?}");
}

/// Policies judge by the path. Where a body says the same thing in a field of the same name, the path's value is put in its place, for all
/// endpoints at one point. Where the field has another name, the handler decides, so each of these is shown.
#[tokio::test]
async fn what_the_path_says_is_not_said_otherwise_by_the_body() {
    let server = every_mount().await;
    let mut seen = BTreeSet::new();
    for Declarations { endpoints, .. } in server.core().declarations().unwrap() {
        for endpoint in &endpoints {
            let captured: BTreeSet<&str> = endpoint.patterns.iter().flat_map(Pattern::names).collect();
            for field in
                endpoint.operations.iter().flat_map(fields).map(|(field, _)| field).filter(|field| !captured.contains(field.as_str()))
            {
                let twice = |name: &&&str| name.strip_prefix("url").is_some_and(|bare| bare.trim_start_matches('_') == field);
                seen.extend(captured.iter().find(twice).map(|name| ((*name).to_owned(), field.clone())));
            }
        }
    }
    let known: BTreeSet<_> = NAMED_TWICE.iter().map(|(name, field, _)| ((*name).to_owned(), (*field).to_owned())).collect();
    assert_eq!(seen, known);
    server.put("x-transit/keys/k", json!({})).await.ok();
    let input = "YWJj";
    for (path, field, of_path, of_body) in [
        ("sys/tools/hash", "algorithm", "sha2-512", "sha2-224"),
        ("x-transit/hash", "algorithm", "sha2-512", "sha2-224"),
        ("x-transit/hmac/k", "algorithm", "sha2-512", "sha2-224"),
    ] {
        let answer = async |path: String, fields: Value| server.put(&path, fields).await.ok()["data"].clone();
        let both = answer(format!("{path}/{of_path}"), json!({ "input": input, field: of_body })).await;
        assert_eq!(both, answer(format!("{path}/{of_path}"), json!({ "input": input })).await, "{path}");
        assert_ne!(both, answer(path.to_owned(), json!({ "input": input, field: of_body })).await, "{path}");
    }
    for path in ["sys/tools/random/platform/5", "x-transit/random/platform/5", "x-transit/random/5"] {
        let random = server.put(path, json!({ "bytes": 50, "format": "hex" })).await.ok();
        assert_eq!(random.text("/data/random_bytes").len(), 10, "{path}");
    }
    // And of one name, at the point that serves all.
    let made = server.put("sys/policies/acl/one", json!({ "name": "other", "policy": "path \"x\" { capabilities = [\"read\"] }" })).await;
    assert!(made.status < 300, "{made:?}");
    assert_eq!((server.get("sys/policies/acl/one").await.status, server.get("sys/policies/acl/other").await.status), (200, 404));
}

/// Denies are looked for at the paths that an endpoint stands for. One that is misspelled would never be found.
#[tokio::test]
async fn what_an_endpoint_stands_for_is_there() {
    let server = every_mount().await;
    let mut standing = BTreeSet::new();
    for Declarations { endpoints, .. } in server.core().declarations().unwrap() {
        let known: BTreeSet<&str> = endpoints.iter().flat_map(|endpoint| &endpoint.patterns).map(Pattern::text).collect();
        for endpoint in endpoints.iter().filter(|endpoint| !endpoint.stands_for.is_empty()) {
            for own in &endpoint.patterns {
                standing.insert(own.text());
                let captured: BTreeSet<&str> = own.names().collect();
                for other in &endpoint.stands_for {
                    assert!(known.contains(other.text()), "{} stands for {}", own.text(), other.text());
                    assert!(other.names().all(|name| captured.contains(name)), "{} stands for {}", own.text(), other.text());
                }
            }
        }
    }
    assert!(
        ["console/{name@}", "container/{name@}", "storage/snapshot", "rotate"].into_iter().all(|path| standing.contains(path)),
        "{standing:?}"
    );
}

#[tokio::test]
async fn whoever_may_is_answered_as_documented() {
    let mut wrong = Vec::new();
    let mut server = every_mount().await;
    let document = server.get("sys/internal/specs/openapi").await.ok().body;
    let all = doors(&server);
    assert!(all.len() > 200, "only {} operations are declared", all.len());
    for door in all {
        let token = fitting(&server, &door).await;
        let answer = door.ask(&server).await.token(&token).await;
        let told = |why| format!("{} {}: {} {why}: {}", door.operation, door.path, answer.status, answer.body);
        wrong.extend(complaint(&door, &answer, &document).map(told));
        if door.operation.writes() && LEAVE_TRACES.iter().any(|path| door.path.starts_with(path)) {
            server = every_mount().await;
        }
    }
    assert!(wrong.is_empty() && UNCOVERED.is_empty(), "{wrong:#?}");
}

/// Story: each of the many errors that name what was sent repeated it whole, however long it was. Whoever writes the next one is told here.
#[tokio::test]
async fn no_error_and_no_warning_repeats_a_long_value() {
    let mut server = every_mount().await;
    let mut wrong = BTreeSet::new();
    let long = |character: &str| character.repeat(20_000);
    let values = [json!(long("x")), json!(long("\u{7f}")), json!([long("x")]), json!({ (long("x")): "x" })];
    for door in doors(&server).into_iter().filter(|door| matches!(door.operation, Operation::Create | Operation::Patch | Operation::Update))
    {
        for field in door.fields.iter().filter(|field| !door.pattern.contains(&format!("{{{field}"))) {
            for value in &values {
                let mut door = door.clone();
                door.body[field] = value.clone();
                let answer = door.ask(&server).await.await;
                let bytes = answer["errors"].to_string().len().max(answer["warnings"].to_string().len());
                if bytes > 4_000 {
                    wrong.insert(format!("{} {}: {field}: {bytes} bytes: {:.200}", door.operation, door.path, answer.body.to_string()));
                }
            }
        }
        if LEAVE_TRACES.iter().any(|path| door.path.starts_with(path)) {
            server = every_mount().await;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A token that may do this one thing and nothing else.
async fn fitting(server: &TestServer, door: &Door) -> String {
    let sudo = if door.sudo { ", \"sudo\"" } else { "" };
    let capabilities = match door.operation {
        Operation::Create | Operation::Update => "\"create\", \"update\"",
        Operation::Delete => "\"delete\"",
        Operation::Header | Operation::Help | Operation::Read => "\"read\"",
        Operation::List => "\"list\"",
        Operation::Patch => "\"patch\"",
    };
    server.policy("fitting", &format!("path \"{}\" {{ capabilities = [{capabilities}{sudo}] }}", door.path)).await;
    server.token(json!({ "policies": ["fitting"], "no_default_policy": true })).await
}

/// What is wrong with the answer to a caller who may, if anything is.
fn complaint(door: &Door, answer: &Answer, document: &Value) -> Option<String> {
    let refuses = REFUSE_THEMSELVES.iter().any(|(operation, path, _)| *operation == door.operation.name() && *path == door.path);
    if answer.status == 403 && !refuses {
        return Some("policy allows it".to_owned());
    }
    let recorded = RECORDED_FAILURES.iter().any(|(operation, path, text)| {
        *operation == door.operation.name() && *path == door.path && answer.text("/errors/0").contains(text)
    });
    if answer.status >= 500 && !recorded {
        return Some("no answer".to_owned());
    }
    let hidden = HIDDEN.iter().any(|(path, _)| door.path.starts_with(path));
    if answer.status == 404 && answer.text("/errors/0").contains("unsupported path") && !hidden {
        return Some("the path leads elsewhere".to_owned());
    }
    if answer.status == 405 && !door.always {
        return Some("the operation leads nowhere".to_owned());
    }
    let described = document.pointer(&format!("/paths/{}/{}", door.document_path.replace('/', "~1"), door.document_method()))?;
    let responses = described.get("responses").and_then(Value::as_object)?;
    if !responses.contains_key(&answer.status.to_string()) && !responses.contains_key("default") {
        return Some("the document does not know this status".to_owned());
    }
    if answer.status != 200 || door.operation == Operation::Header {
        return None;
    }
    let enveloped = answer.body.get("request_id").is_some() && answer.body.get("mount_type").is_some();
    match door.form {
        Form::Envelope if !enveloped => Some("there is no envelope: declare it `.bare()` or `.text(...)`".to_owned()),
        Form::AnyStatus | Form::Bare if enveloped => Some("it is declared bare and has an envelope".to_owned()),
        _ => None,
    }
}

#[tokio::test]
async fn every_declared_operation_is_in_the_document_under_a_name_of_its_own() {
    let server = every_mount().await;
    let document = server.get("sys/internal/specs/openapi").await.ok().body;
    let paths = document["paths"].as_object().unwrap();
    let mut missing = Vec::new();
    for door in doors(&server) {
        if paths.get(&door.document_path).and_then(|item| item.get(door.document_method())).is_none() {
            missing.push(format!("{} {}", door.document_method(), door.document_path));
        }
    }
    let reached: BTreeSet<(String, usize, Operation)> =
        doors(&server).into_iter().map(|door| (door.mount, door.endpoint, door.operation)).collect();
    for Declarations { mount, endpoints, always, .. } in server.core().declarations().unwrap() {
        for (number, endpoint) in endpoints.iter().enumerate() {
            let number = if always { ALWAYS + number } else { number };
            let hidden = endpoint.operations.iter().filter(|one| !reached.contains(&(mount.clone(), number, one.operation)));
            missing.extend(hidden.map(|one| format!("{} {mount}{} is hidden by others", one.operation, endpoint.patterns[0].text())));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    let mut names = BTreeSet::new();
    for (path, item) in paths {
        for operation in item.as_object().unwrap().values().filter_map(|operation| operation.get("operationId")) {
            assert!(names.insert(operation.as_str().unwrap()), "{path}: {operation} is the name of another operation too");
        }
    }
}

#[tokio::test]
async fn every_endpoint_and_every_field_says_what_it_is() {
    let server = every_mount().await;
    let mut wrong = Vec::new();
    for Declarations { mount, endpoints, .. } in server.core().declarations().unwrap() {
        for endpoint in endpoints {
            let name = format!("{mount}{}", endpoint.patterns[0].text());
            wrong.extend(silences(&endpoint).into_iter().map(|why| format!("{name}: {why}")));
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn silences(endpoint: &Declared) -> Vec<String> {
    let mut wrong = Vec::new();
    if endpoint.summary.trim().is_empty() {
        wrong.push("no summary".to_owned());
    }
    if endpoint.operations.is_empty() {
        wrong.push("no operation".to_owned());
    }
    for operation in &endpoint.operations {
        if operation.shape == Shape::Keys && !matches!(operation.operation, Operation::List | Operation::Read) {
            wrong.push(format!("{} answers with a list", operation.operation));
        }
        for (field, schema) in fields(operation) {
            let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
            if description.trim().is_empty() {
                wrong.push(format!("`{field}` has no description"));
            }
            if is_duration(&field) && !mentions(&schema, "x-daypass-unit") && !has_unit(description) {
                wrong.push(format!("`{field}` has no unit"));
            }
            if is_secret(&field) && !mentions(&schema, "x-daypass-sensitive") {
                wrong.push(format!("`{field}` is not marked as a secret"));
            }
        }
    }
    wrong
}

fn fields(operation: &DeclaredOperation) -> Vec<(String, Value)> {
    let fields = operation.fields.get("properties").and_then(Value::as_object).into_iter().flatten();
    fields.map(|(name, schema)| (name.clone(), schema.clone())).collect()
}

/// Whether the schema or one of its alternatives has the key.
fn mentions(schema: &Value, key: &str) -> bool {
    schema.get(key).is_some() || schema.get("anyOf").and_then(Value::as_array).is_some_and(|any| any.iter().any(|one| mentions(one, key)))
}

fn is_duration(field: &str) -> bool {
    ["ttl", "period", "duration", "increment", "interval", "safety_buffer"]
        .iter()
        .any(|end| field == *end || field.ends_with(&format!("_{end}")))
}

fn has_unit(description: &str) -> bool {
    ["second", "minute", "hour", "duration", "30m"].iter().any(|unit| description.to_lowercase().contains(unit))
}

fn is_secret(field: &str) -> bool {
    ["password", "secret_key", "secret_id", "client_token", "private_key", "mfa_code", "otp", "password_hash"].contains(&field)
}

#[tokio::test]
async fn help_is_there_for_every_mount_and_path_and_needs_a_token_but_no_policy() {
    let server = every_mount().await;
    let token = server.token(json!({ "policies": ["default"] })).await;
    for door in doors(&server) {
        let answer = server.get(&format!("{}?help=1", door.path.trim_end_matches('/'))).token(&token).await.ok();
        assert!(answer.text("/help").contains("## DESCRIPTION"), "{}", door.path);
        assert!(answer["openapi"]["paths"].as_object().is_some_and(|paths| !paths.is_empty()), "{}", door.path);
        assert_eq!(answer["see_also"], Value::Null);
    }
    for Declarations { mount, .. } in server.core().declarations().unwrap() {
        let page = server.get(&format!("{}?help=1", mount.trim_end_matches('/'))).token(&token).await.ok().text("/help");
        assert!(page.contains("## PATHS"), "{mount}");
        assert_eq!(server.get(&format!("{mount}?help=1")).nobody().await.refused(403), "permission denied");
    }
}

#[tokio::test]
async fn the_document_shows_the_mounts_that_the_caller_may_see() {
    let server = every_mount().await;
    server.policy("kv", r#"path "x-kv/*" { capabilities = ["read"] }"#).await;
    let token = server.token(json!({ "policies": ["kv"], "no_default_policy": true })).await;
    let seen = |document: &Value| -> Vec<String> { document["paths"].as_object().unwrap().keys().cloned().collect() };
    let nobody = server.get("sys/internal/specs/openapi").nobody().await.ok().body;
    assert!(seen(&nobody).is_empty());
    let own = server.get("sys/internal/specs/openapi").token(&token).await.ok().body;
    assert!(!seen(&own).is_empty() && seen(&own).iter().all(|path| path.starts_with("/x-kv/")), "{:?}", seen(&own));
    server.put("sys/mounts/x-kv/tune", json!({ "listing_visibility": "unauth" })).await.ok();
    assert!(!seen(&server.get("sys/internal/specs/openapi").nobody().await.ok().body).is_empty());
    let generic = server.get("sys/internal/specs/openapi?generic_mount_paths=true").token(&token).await.ok().body;
    assert!(seen(&generic).iter().all(|path| path.starts_with("/{x_kv_mount_path}/")), "{:?}", seen(&generic));
    assert_eq!(generic.pointer("/paths/~1{x_kv_mount_path}~1{path}/parameters/0/schema/default").unwrap(), "x-kv");
}
