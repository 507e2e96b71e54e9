//! What AWS's SDKs fetch by themselves, and the way into the console: the same credentials as `sts/`, in other clothes.

use daypass_aws::Made;
use daypass_base::Seconds;
use daypass_testkit::TestServer;
use serde_json::{Value, json};

const CONTAINER: &str = "aws/container/deploy";

async fn aws() -> TestServer {
    let server = TestServer::start().await;
    server.mount_aws("aws").await;
    server
}

/// A token that may read one path.
async fn reader(server: &TestServer, path: &str) -> String {
    server.policy("reader", &format!("path \"{path}\" {{ capabilities = [\"read\"] }}")).await;
    server.token(json!({ "policies": ["reader"], "no_default_policy": true })).await
}

#[tokio::test]
async fn an_sdk_with_nothing_but_a_token_gets_a_credential_it_can_read() {
    let server = aws().await;
    let token = reader(&server, CONTAINER).await;
    let (keys, entries) = (server.keys().await, server.expiry_entries().await);
    let given = server.get(CONTAINER).nobody().header("authorization", &token).await.ok();
    assert_eq!(
        given.body,
        json!({
            "AccessKeyId": "ASIAFAKE000000000001",
            "AccountId": "111111111111",
            "Expiration": "2026-01-02T04:04:05Z",
            "RoleArn": "arn:aws:iam::111111111111:role/deploy",
            "SecretAccessKey": "fake-secret-1",
            "Token": "fake-session-token-1",
        })
    );
    assert_eq!((server.keys().await, server.expiry_entries().await), (keys, entries));
    for value in [format!("Bearer {token}"), format!(" {token} ")] {
        server.get(CONTAINER).nobody().header("authorization", &value).await.ok();
    }
    let shorter = server.get(&format!("{CONTAINER}?ttl=15m")).token(&token).await.ok();
    assert_eq!(shorter.text("/Expiration"), "2026-01-02T03:19:05Z");
}

#[tokio::test]
async fn refusals_have_the_keys_that_sdks_read() {
    let server = aws().await;
    let token = reader(&server, "aws/container/*").await;
    let told = |answer: &daypass_testkit::Answer| (answer.status, answer.text("/code"), answer.text("/message"));
    let denied = (403, "AccessDenied".to_owned(), "permission denied".to_owned());
    assert_eq!(told(&server.get(CONTAINER).nobody().await), denied);
    assert_eq!(told(&server.get("aws/container/other").token(&server.token(json!({ "policies": ["default"] })).await).await).0, 403);
    for wrong in ["hvs.wrong", "Basic aHZzLndyb25n", "", "AWS4-HMAC-SHA256 Credential=x"] {
        let answer = server.get(CONTAINER).nobody().header("authorization", wrong).await;
        assert!(answer.status == 403 && answer.text("/code") == "AccessDenied", "{wrong:?}: {}", answer.body);
    }
    let unknown = server.get("aws/container/nobody").nobody().header("authorization", &token).await;
    assert_eq!(told(&unknown), (400, "InvalidRequest".to_owned(), "Role \"nobody\" not found".to_owned()));
    server.aws().refuse("Throttling", "Rate exceeded", 400);
    assert_eq!(told(&server.get(CONTAINER).token(&token).await).1, "Throttling");
    assert!(server.get(CONTAINER).token(&token).wrap("60s").await.refused(400).contains("cannot be wrapped"));
    server.put("aws/roles/user", json!({ "credential_type": "iam_user" })).await.ok();
    assert!(server.get("aws/container/user").token(&token).await.refused(400).contains("gives STS credentials alone"));
    assert!(server.aws().users().is_empty());
}

#[tokio::test]
async fn elsewhere_a_token_is_taken_only_with_bearer_before_it() {
    let server = aws().await;
    let root = server.root().to_owned();
    for path in ["aws/sts/deploy", "auth/token/lookup-self", "sys/mounts", "aws/roles/deploy"] {
        let answer = server.get(path).nobody().header("authorization", &root).await;
        assert!(answer.status == 403 && answer["code"] == Value::Null, "{path}: {}", answer.body);
        server.get(path).nobody().header("authorization", &format!("Bearer {root}")).await.ok();
    }
    // What comes in X-Vault-Token is never replaced.
    assert_eq!(server.get(CONTAINER).token("hvs.wrong").header("authorization", &root).await.status, 403);
}

#[tokio::test]
async fn the_record_says_what_was_minted_and_holds_no_secret() {
    let server = aws().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit");
    server.put("sys/audit/file", json!({ "type": "file", "options": { "file_path": file.display().to_string() } })).await.ok();
    let token = reader(&server, "aws/*").await;
    server.get(CONTAINER).nobody().header("authorization", &token).await.ok();
    let url = server.get("aws/console/deploy").token(&token).await.ok().text("/data/url");
    let text = std::fs::read_to_string(&file).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [.., container, _, console] = records.as_slice() else { panic!("too few records") };
    assert_eq!((&container["request"]["path"], &container["type"]), (&json!(CONTAINER), &json!("response")));
    assert!(container["response"].to_string().contains("\"access_key_id\":\"ASIAFAKE000000000001\""), "{}", container["response"]);
    assert!(console["response"].to_string().contains("https://console.aws.amazon.com/"), "{}", console["response"]);
    for secret in [&token, "fake-secret-1", "fake-session-token-1", "fake-secret-2", "fake-session-token-2", &url, "fake-signin-token"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_url_opens_the_console_of_the_roles_own_partition() {
    let server = aws().await;
    for (partition, endpoint, home) in [
        ("aws", "https://signin.aws.amazon.com/federation", "https://console.aws.amazon.com/"),
        ("aws-cn", "https://signin.amazonaws.cn/federation", "https://console.amazonaws.cn/"),
        ("aws-us-gov", "https://signin.amazonaws-us-gov.com/federation", "https://console.amazonaws-us-gov.com/"),
        ("aws-eusc", "https://eusc-de-east-1.signin.amazonaws-eusc.eu/federation", "https://eusc-de-east-1.console.amazonaws-eusc.eu/"),
    ] {
        let role = json!({ "credential_type": "assumed_role", "role_arns": format!("arn:{partition}:iam::111111111111:role/ops") });
        server.put("aws/roles/ops", role).await.ok();
        let visit = server.put("aws/console/ops", json!({ "ttl": "30m", "issuer": "https://intranet.example/aws" })).await.ok();
        assert_eq!((visit.number("/lease_duration"), visit.text("/data/destination")), (1800, home.to_owned()), "{}", visit.body);
        assert!(visit.text("/data/url").starts_with(endpoint) && visit["data"].get("secret_key").is_none(), "{}", visit.body);
        assert_eq!(visit.text("/data/expires_at"), "2026-01-02T03:34:05Z");
        let Some(Made::ConsoleVisit(asked)) = server.aws().made().pop() else { panic!("the sign-in endpoint was asked last") };
        assert_eq!((asked.endpoint.as_str(), asked.issuer.as_str(), asked.duration), (endpoint, "https://intranet.example/aws", None));
    }
}

/// Story: a role that gives an hour at most opened the console for twelve. Lease and ledger told of the credential's hour, so that `daypass whois` said of a session
/// that somebody worked in that it was over.
#[tokio::test]
async fn a_console_session_lasts_as_long_as_its_role_allows_and_is_told_whole() {
    let server = aws().await;
    let role =
        |most: &str| json!({ "credential_type": "assumed_role", "role_arns": "arn:aws:iam::111111111111:role/ops", "max_sts_ttl": most });
    server.put("aws/roles/hour", role("1h")).await.ok();
    server.put("aws/roles/long", role("4h")).await.ok();
    server.put("sys/mounts/aws/tune", json!({ "max_lease_ttl": "2h" })).await.ok();
    for (name, asked, told) in [
        ("hour", "12h", "session_duration 43200s is over max_sts_ttl 3600s of role \"hour\""),
        ("hour", "3601", "session_duration 3601s is over max_sts_ttl 3600s of role \"hour\""),
        ("deploy", "3h", "session_duration 10800s is over max_lease_ttl 7200s of the mount"),
    ] {
        let answer = server.put(&format!("aws/console/{name}"), json!({ "ttl": "15m", "session_duration": asked })).await;
        assert!(answer.refused(400).contains(told), "{}", answer.body);
    }
    assert!(server.aws().made().is_empty());
    let visit = server.put("aws/console/long", json!({ "ttl": "15m", "session_duration": "4h" })).await.ok();
    assert_eq!((visit.number("/data/ttl"), visit.number("/lease_duration")), (14_400, 7_200), "the mount's leases have its longest");
    assert_eq!(visit.text("/data/expires_at"), "2026-01-02T07:04:05Z");
    let Some(Made::ConsoleVisit(asked)) = server.aws().made().pop() else { panic!("the sign-in endpoint was asked last") };
    assert_eq!(asked.duration, Some(Seconds(14_400)));
    server.seconds(3_600).await;
    let known = server.get(&format!("sys/mints/{}", asked.session)).await.ok();
    assert_eq!((known["data"]["live"].clone(), known.number("/data/ttl")), (json!(true), 10_800), "{known:?}");
    assert_eq!(known.text("/data/facts/session_duration"), "14400");
    // Where the credential lasts longer, so does what it is good for.
    let visit = server.put("aws/console/hour", json!({ "ttl": "1h", "session_duration": "30m" })).await.ok();
    assert_eq!((visit.number("/data/ttl"), visit.number("/lease_duration")), (3_600, 3_600));
}

#[tokio::test]
async fn what_the_console_would_not_take_is_refused_before_aws_is_asked() {
    let server = aws().await;
    server.put("aws/roles/mfa", json!({ "credential_type": "session_token" })).await.ok();
    for (path, fields, told) in [
        ("deploy", json!({ "destination": "https://evil.example/" }), "destination must be a path"),
        ("deploy", json!({ "issuer": "http://intranet.example" }), "issuer must be a https:// URL"),
        ("deploy", json!({ "session_duration": "5m" }), "session_duration 300s is not within AWS's limits"),
        ("mfa", json!({}), "must be of type assumed_role or federation_token"),
        ("nobody", json!({}), "Role \"nobody\" not found"),
    ] {
        let answer = server.put(&format!("aws/console/{path}"), fields).await;
        assert!(answer.refused(400).contains(told), "{}", answer.body);
    }
    assert!(server.aws().made().is_empty(), "{:?}", server.aws().made());
    server.aws().refuse_login("SigninRefused", "no", 400);
    let answer = server.put("aws/console/deploy", json!({ "session_duration": "1h" })).await;
    assert!(answer.refused(400).contains("leave session_duration out"), "{}", answer.body);
}
