//! Bad input against the real binary: whatever is sent, the answer is a clear refusal; nothing panics, hangs or is half understood.
//!
//! What each kind of mistake is answered is Vault's text where Vault has one (recorded answers; `core/src/json.rs` says where not).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a failing test may panic")]

#[path = "bad_input/server.rs"]
mod server;

use daypass_base::Entropy;
use daypass_base::sim::SeededEntropy;
use serde_json::{Value, json};
use server::{Server, excerpt};

#[test]
fn a_body_that_is_no_json_object_is_named() {
    let server = Server::start();
    let deep = [format!("{{\"a\":{}", "[".repeat(400)), "[".repeat(200_000), "{\"a\":".repeat(100_000)];
    let mistakes: &[(&[u8], &str)] = &[
        (b"{", "failed to parse JSON input: EOF while parsing an object at line 1 column 1"),
        (b"{\"data\":{\"a\":1}", "EOF while parsing an object"),
        (b"[1]", "an object is wanted, got an array"),
        (b"\"x\"", "an object is wanted, got a string"),
        (b"{\"a\":1} x", "trailing characters at line 1 column 9"),
        (b"{\"a\":1,\"a\":2}", "duplicate key 'a' in object"),
        (b"{'a':1}", "key must be a string at line 1 column 2"),
        (b"{\"a\":1,}", "trailing comma"),
        (b"\x00\x01", "expected value at line 1 column 1"),
        (b"\xef\xbb\xbf{}", "expected value at line 1 column 1"),
        (b"{\"a\":\"\xff\"}", "invalid unicode code point"),
        (b"{\"a\":\"\\ud800\"}", "hex escape"),
        (b"{\"a\":1e999}", "number out of range"),
        (b"a=1&b=2", "expected value at line 1 column 1"),
        (deep[0].as_bytes(), "JSON input exceeds allowed nesting depth"),
        (deep[1].as_bytes(), "JSON input exceeds allowed nesting depth"),
        (deep[2].as_bytes(), "JSON input exceeds allowed nesting depth"),
    ];
    for (body, text) in mistakes {
        for path in ["secret/data/x", "sys/policies/acl/p", "auth/token/create"] {
            let answer = server.ask("POST", path, *body);
            assert_eq!(answer.status, 400, "{}: {answer:?}", excerpt(body));
            assert!(answer.errors().contains(text), "{}: {answer:?}", excerpt(body));
        }
    }
    server.is_unharmed();
}

#[test]
fn a_field_of_the_wrong_type_is_named() {
    let server = Server::start();
    for (path, body, text) in [
        ("auth/token/create", json!({"ttl": []}), "field \"ttl\": '' expected type 'string', got unconvertible type '[]interface {}'"),
        ("auth/token/create", json!({"ttl": "soon"}), "time: invalid duration \"soon\""),
        ("auth/token/create", json!({"ttl": -1}), "ttl must be positive"),
        ("auth/token/create", json!({"ttl": "99999999999999999999h"}), "time: invalid duration"),
        ("auth/token/create", json!({"num_uses": "many"}), "field \"num_uses\": cannot parse '' as int"),
        ("auth/token/create", json!({"num_uses": -5}), "number of uses cannot be negative"),
        ("auth/token/create", json!({"policies": {"a": 1}}), "field \"policies\""),
        ("secret/data/x", json!({"data": "text"}), "field \"data\": '' expected a map, got 'string'"),
        ("secret/data/x", json!({"data": {"a": 1}, "options": 5}), "field \"options\": '' expected a map"),
        ("secret/data/x", json!({"data": {"a": 1}, "options": {"cas": "x"}}), "error parsing check-and-set parameter"),
        ("secret/data/x", json!({}), "no data provided"),
        ("sys/mounts/m", json!({"type": "nonsense"}), "plugin not found in the catalog: nonsense"),
        ("sys/mounts/m", json!({"type": "kv", "config": 5}), "field \"config\""),
    ] {
        let answer = server.ask("POST", path, body.to_string());
        assert!(answer.status == 400 && answer.errors().contains(text), "{path} {body}: {answer:?}");
    }
    server.is_unharmed();
}

#[test]
fn an_unknown_field_is_a_warning() {
    let server = Server::start();
    for (path, body) in [
        ("secret/data/x", json!({"data": {"a": 1}, "nonsense": 1, "bogus": 2})),
        ("auth/token/create", json!({"ttl": "5m", "nonsense": 1, "bogus": 2})),
    ] {
        let answer = server.ask("POST", path, body.to_string());
        let value: Value = serde_json::from_str(&answer.body).unwrap();
        let warnings = value["warnings"].as_array().unwrap();
        assert!(
            answer.status == 200 && warnings.contains(&json!("Endpoint ignored these unrecognized parameters: [bogus nonsense]")),
            "{value}"
        );
    }
}

#[test]
fn a_body_over_the_limit_is_refused_whether_its_length_is_told_or_not() {
    let server = Server::start();
    let huge = [br#"{"data":{"a":""#.as_slice(), &vec![b'x'; 33 << 20], br#""}}"#].concat();
    let answer = server.ask("POST", "secret/data/x", huge);
    assert_eq!((answer.status, answer.errors().as_str()), (413, "http: request body too large"));
    let mut chunked =
        b"POST /v1/secret/data/x HTTP/1.1\r\nHost: x\r\nX-Vault-Token: root\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    for _ in 0..33 {
        chunked.extend(b"100000\r\n");
        chunked.extend(vec![b'x'; 1 << 20]);
        chunked.extend(b"\r\n");
    }
    let answer = String::from_utf8(server.raw(&chunked)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("{\"errors\":[\"http: request body too large\"]}\n"), "{answer}");
    // Below that limit, but over the one of a single text.
    let long = format!(r#"{{"data":{{"a":"{}"}}}}"#, "x".repeat(2 << 20));
    let answer = server.ask("POST", "secret/data/x", long);
    assert_eq!((answer.status, answer.errors().as_str()), (400, "JSON string value exceeds allowed length"));
    assert_eq!(server.ask("GET", "secret/data/x", "").status, 404, "nothing of it was stored");
    server.is_unharmed();
}

#[test]
fn a_bad_path_leads_nowhere() {
    let server = Server::start();
    let (long, many, over) =
        (format!("/v1/{}", "a".repeat(5000)), format!("/v1/{}", "a/".repeat(1001)), format!("/v1/{}", "a".repeat(70_000)));
    let query = format!("/v1/secret/data/x?{}", "a=1&".repeat(300));
    let uri = format!("/v1/secret/data/x?{}", "a".repeat(20_001));
    for (target, status, text) in [
        ("/", 404, ""),
        ("/v1/", 404, "no handler for route"),
        ("/v2/sys/health", 404, ""),
        ("//v1/sys/health", 307, ""),
        ("/v1/../../etc/passwd", 307, ""),
        ("/v1/secret/%2e%2e/sys/mounts", 400, "path cannot contain parent references"),
        ("/v1/secret/..%2f..%2fsys/mounts", 400, "path cannot contain parent references"),
        ("/v1/sys//mounts", 307, ""),
        ("/v1/sys/%2fmounts", 400, "path cannot contain empty segments"),
        ("/v1/%zz", 400, ""),
        ("/v1/%", 400, ""),
        ("/v1/secret/data/a%00b", 400, ""),
        ("/v1/secret/data/a%0ab", 400, ""),
        ("/v1/secret/data/%ff%fe", 400, "the path is not valid UTF-8"),
        ("/v1/nowhere/x", 404, "no handler for route \"nowhere/x\". route entry not found."),
        (&long, 414, "the path is 5004 bytes long, over the limit of 2048 bytes"),
        (&many, 400, "the path has 1004 segments, over the limit of 64"),
        (&uri, 414, "path and query are 20018 bytes long, over the limit of 16384 bytes"),
        ("/v1/secret/data/a%E2%80%8Bb", 400, ""),
        (&over, 431, ""),
        (&query, 400, "more than 256 query parameters"),
        ("/v1/secret/data/x?a=%zz", 400, "invalid URL escape in the value of the query parameter \"a\""),
        ("/v1/secret/data/x?version=abc", 400, "field \"version\": cannot parse '' as int"),
        ("/v1/secret/data/x?list=perhaps", 400, ""),
    ] {
        let answer = server.with_headers("GET", target, "", "");
        assert!(answer.status == status && answer.errors().contains(text), "{}: {answer:?}", excerpt(target.as_bytes()));
    }
    server.is_unharmed();
}

#[test]
fn a_bad_method_or_header_is_refused() {
    let server = Server::start();
    for (method, status) in
        [("BREW", 405), ("get", 405), ("TRACE", 405), ("CONNECT", 405), ("G@T", 400), ("PATCH", 400), (&"X".repeat(500), 405)]
    {
        assert_eq!(server.ask(method, "secret/data/x", "").status, status, "{method}");
    }
    let (large, token) = (format!("X-Large: {}\r\n", "x".repeat(100_000)), format!("Authorization: Bearer {}\r\n", "x".repeat(20_000)));
    for (headers, status, text) in [
        ("X-Vault-Wrap-TTL: soon\r\n", 400, "error parsing X-Vault-Wrap-TTL header: time: invalid duration \"soon\""),
        ("X-Vault-Wrap-TTL: -5\r\n", 400, "requested wrap ttl cannot be negative"),
        ("X-Vault-Policy-Override: perhaps\r\n", 400, "failed to parse X-Vault-Policy-Override header"),
        ("Content-Length: 5\r\n", 400, ""),
        ("Transfer-Encoding: gzip\r\n", 400, ""),
        (": nameless\r\n", 400, ""),
        (&large, 431, ""),
    ] {
        let answer = server.with_headers("GET", "/v1/sys/mounts", headers, "");
        assert!(answer.status == status && answer.errors().contains(text), "{}: {answer:?}", excerpt(headers.as_bytes()));
    }
    // A token that cannot be one is a wrong token, also when it is long: no parsing error tells it apart.
    for token in ["X-Vault-Token: hvs.\u{e9}\r\n", "X-Vault-Token: s.x\r\n", &token] {
        let request = format!("GET /v1/sys/mounts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{token}\r\n");
        let answer = String::from_utf8(server.raw(request.as_bytes())).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("permission denied"), "{answer}");
    }
    server.is_unharmed();
}

#[test]
fn a_bad_policy_is_refused_with_the_place() {
    let server = Server::start();
    let deep = format!("a = {}", "[".repeat(50_000));
    for (policy, text) in [
        ("path \"a\" {\n  capabilities = [\"read\"]\n", "At 3:1: object expected closing RBRACE got: EOF (the object begins at 1:10)"),
        ("path \"a\" {\n  capabilities = [\"read\"\n}\n", "At 3:1: error parsing list, expected comma or list end, got: RBRACE"),
        ("path \"a\" {\n\n  foo = 1\n}\n", "path \"a\": invalid key \"foo\" on line 3"),
        ("path \"a\" {\n  capabilities = [\"raed\"]\n}\n", "path \"a\": invalid capability \"raed\""),
        ("path \"a/+*\" {\n  capabilities = [\"read\"]\n}\n", "path \"a/+*\": invalid use of wildcards ('+*' is forbidden)"),
        ("\n\npath \"a", "At 3:6: literal not terminated"),
        ("path \"a\" {\n  # \u{0}\n}", "At 2:5: unexpected null character (0x00)"),
        ("{\"path\":", "At 1:9: expected: a value got: EOF"),
        (&deep, "nested deeper than 64 levels"),
        ("", "'policy' parameter not supplied or empty"),
    ] {
        let answer = server.ask("POST", "sys/policies/acl/p", json!({ "policy": policy }).to_string());
        assert!(answer.status == 400 && answer.errors().contains(text), "{}: {answer:?}", excerpt(policy.as_bytes()));
    }
    assert_eq!(server.ask("GET", "sys/policies/acl/p", "").status, 404, "nothing of them was stored");
    server.is_unharmed();
}

/// Valid requests with bytes changed, cut out or doubled, and plain noise. Most get a 400, some are still fine; each gets an end.
#[test]
fn noise_on_the_socket_harms_nobody() {
    let server = Server::start();
    let seed = std::env::var("DAYPASS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_123);
    let entropy: Box<dyn Entropy> = Box::new(SeededEntropy::new(seed));
    let below = |limit: usize| usize::try_from(entropy.below(limit as u64)).unwrap();
    let valid = b"POST /v1/secret/data/x?a=%20 HTTP/1.1\r\nHost: x\r\nX-Vault-Token: root\r\nX-Vault-Wrap-TTL: 5m\r\nContent-Length: 36\r\n\r\n{\"data\":{\"a\":[1,\"x\",null]},\"b\":1e5}\n";
    let greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    for round in 0..400 {
        let mut bytes = match round % 4 {
            0 => {
                let mut noise = vec![0; 1 + below(3000)];
                entropy.fill(&mut noise);
                noise
            }
            1 => greeting.to_vec(),
            _ => valid.to_vec(),
        };
        for _ in 0..=below(6) {
            let at = below(bytes.len());
            match below(4) {
                0 => bytes[at] = u8::try_from(below(256)).unwrap(),
                1 => bytes.truncate(at + 1),
                2 => drop(bytes.drain(at..bytes.len().min(at + 1 + below(9)))),
                _ => bytes.extend_from_within(at..),
            }
            if bytes.is_empty() {
                bytes.push(b'\n');
            }
        }
        let answer = server.raw(&bytes);
        let fine = answer.is_empty() || answer.starts_with(b"HTTP/1.1 ") && !answer.starts_with(b"HTTP/1.1 5") || round % 4 != 2;
        assert!(fine, "round {round} of seed {seed}: {} was answered {}", excerpt(&bytes), excerpt(&answer));
    }
    server.is_unharmed();
}

/// Every operation that the server declares, each field with each wrong value, and names that no one should give.
#[test]
fn no_declared_endpoint_stumbles_over_a_wrong_value() {
    let server = Server::start();
    let mut wire = server.connect();
    for (path, kind) in
        [("sys/mounts/aws", "aws"), ("sys/mounts/kv1", "kv"), ("sys/auth/approle", "approle"), ("sys/auth/userpass", "userpass")]
    {
        assert_eq!(wire.ask("POST", path, &json!({ "type": kind }).to_string()).status, 204, "{path}");
    }
    let document: Value = serde_json::from_str(&wire.ask("GET", "sys/internal/specs/openapi", "").body).unwrap();
    let mut paths: Vec<(&String, &Value)> =
        document["paths"].as_object().unwrap().iter().filter(|(path, _)| !ends_the_test(path)).collect();
    // Last, because it moves AWS's endpoints away from the sandbox.
    paths.sort_by_key(|(path, _)| path.ends_with("/config/root"));
    let mut asked = 0;
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_uppercase();
            if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str()) {
                continue;
            }
            let alone = [method.as_str()];
            let methods = if method == "GET" { &["GET", "LIST", "HELP", "HEAD"][..] } else { &alone };
            for (name, method) in NAMES.iter().flat_map(|name| methods.iter().map(move |method| (name, *method))) {
                let path = with_names(path, name);
                let body = if ["POST", "PUT", "PATCH"].contains(&method) { "{}" } else { "" };
                clear(&wire.ask(method, &path, body), method, &path, body);
                asked += 1;
            }
            let path = with_names(path, "x");
            for field in fields(&document, operation) {
                for value in values() {
                    let body = json!({ field: value }).to_string();
                    clear(&wire.ask(&method, &path, &body), &method, &path, &body);
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 5_000, "only {asked} requests: is the document whole?");
    server.is_unharmed();
}

/// An answer that says what it is. Only the upstream may fail; what went wrong inside is never all that is said.
fn clear(answer: &server::Answer, method: &str, path: &str, body: &str) {
    let what = || format!("{method} {path} {}: {answer:?}", excerpt(body.as_bytes()));
    assert!((200..600).contains(&answer.status), "{}", what());
    assert!(!answer.body.contains("internal error"), "{}", what());
    let told = method == "HEAD" || !answer.errors().is_empty() || [404, 405].contains(&answer.status);
    assert!(answer.status < 400 || told, "{}", what());
}

/// Paths that would seal the server or end root's token under the test, and the one whose answer never ends.
fn ends_the_test(path: &str) -> bool {
    ["sys/monitor", "sys/seal", "step-down", "rekey", "generate-root", "sys/rotate", "sys/init", "revoke", "sys/remount"]
        .iter()
        .any(|word| path.contains(word))
}

/// A path of the document with each `{name}` replaced.
fn with_names(path: &str, name: &str) -> String {
    let mut out = String::new();
    for (index, part) in path.trim_start_matches('/').split(['{', '}']).enumerate() {
        out.push_str(if index % 2 == 1 { name } else { part });
    }
    out
}

/// The fields that an operation takes in its body.
fn fields<'a>(document: &'a Value, operation: &'a Value) -> Vec<&'a String> {
    let content = operation["requestBody"]["content"].as_object();
    let schemas = content.into_iter().flat_map(|content| content.values()).map(|kind| &kind["schema"]);
    let resolved = schemas.map(|schema| match schema["$ref"].as_str() {
        Some(reference) => &document["components"]["schemas"][reference.rsplit('/').next().unwrap_or_default()],
        None => schema,
    });
    resolved.filter_map(|schema| schema["properties"].as_object()).flat_map(|properties| properties.keys()).collect()
}

fn values() -> Vec<Value> {
    let long = "x".repeat(5_000);
    vec![
        json!([]),
        json!([1, [2], {"a": null}]),
        json!({"": {"b": [1]}}),
        json!(-1),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e300),
        json!(true),
        json!(null),
        json!(""),
        json!(long),
        json!("\u{0}\u{1f4a9}{{x}}"),
        json!("../../x"),
        json!("18446744073709551616"),
        json!("-1h"),
        json!("path \"x\" {"),
        json!("a=b=c,,"),
    ]
}

const NAMES: [&str; 7] = ["x", "a/b", "%2e", "%F0%9F%92%A9", "%20", "+*", "{{identity.entity.id}}"];
