//! Logins with an IAM identity: who gets in, and everything that must not.

use data_encoding::BASE64;
use daypass_aws::{Gate, Made, PrincipalKind, SignedForm};
use daypass_testkit::{Answer, TestServer};
use serde_json::{Value, json};

const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";
const ROLE: &str = "arn:aws:iam::123456789012:role/ci";
const SESSION: &str = "arn:aws:sts::123456789012:assumed-role/ci/build-7";
const ID: &str = "AROAREALLY";

trait Is {
    fn is(&self, status: u16);
}

impl Is for Answer {
    fn is(&self, status: u16) {
        assert_eq!(self.status, status, "{:?}", self.body);
    }
}

/// A signed request as a client would hand it in, before it is encoded.
#[derive(Clone)]
pub(crate) struct Signed {
    method: &'static str,
    url: String,
    body: String,
    headers: Vec<(String, Value)>,
}

/// What the simulated clock says at its start, as signatures have it.
const STAMP: &str = "20260102T030405Z";

fn authorization(region: &str, headers: &str, digit: &str) -> String {
    format!("AWS4-HMAC-SHA256 Credential=ASIA1/20260102/{region}/sts/aws4_request, SignedHeaders={headers}, Signature={}", digit.repeat(64))
}

/// Signed for the global endpoint; `digit` makes signatures differ.
pub(crate) fn signed(digit: &str) -> Signed {
    let covers = "content-length;content-type;host;x-amz-date;x-amz-security-token;x-vault-aws-iam-server-id";
    let headers = [
        ("Authorization", json!([authorization("us-east-1", covers, digit)])),
        ("Content-Length", json!(["43"])),
        ("Content-Type", json!(["application/x-www-form-urlencoded; charset=utf-8"])),
        ("User-Agent", json!(["aws-sdk-go/1.x"])),
        ("X-Amz-Date", json!([STAMP])),
        ("X-Amz-Security-Token", json!(["token"])),
        ("X-Vault-Aws-Iam-Server-Id", json!(["vault.example.com"])),
    ];
    Signed {
        method: "POST",
        url: "https://sts.amazonaws.com/".to_owned(),
        body: BODY.to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value)).to_vec(),
    }
}

impl Signed {
    fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    fn url(mut self, url: &str) -> Self {
        url.clone_into(&mut self.url);
        self
    }

    fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self.set("Content-Length", body.len().to_string())
    }

    /// The headers as JSON text, in their order, each as often as it is there.
    fn header_text(&self) -> String {
        let pairs: Vec<String> = self.headers.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
        format!("{{{}}}", pairs.join(","))
    }

    pub(crate) fn fields(&self, role: &str) -> Value {
        let encode = |text: &str| BASE64.encode(text.as_bytes());
        json!({
            "role": role, "iam_http_request_method": self.method, "iam_request_url": encode(&self.url),
            "iam_request_body": encode(&self.body), "iam_request_headers": encode(&self.header_text()),
        })
    }
}

/// A server with the method mounted, a role that binds an IAM role, and a stranger who is that role.
async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.put("sys/auth/aws", json!({ "type": "aws" })).await.is(204);
    server.aws().add_principal(ROLE, ID);
    server.put("auth/aws/role/ci", json!({ "bound_iam_principal_arn": ROLE, "token_policies": "deploy" })).await.is(204);
    server.aws().stranger_is(SESSION, &format!("{ID}:build-7"));
    server
}

async fn login(server: &TestServer, signed: &Signed) -> Answer {
    server.put("auth/aws/login", signed.fields("ci")).nobody().await
}

fn error(answer: &Answer) -> String {
    assert_eq!(answer.status, 400, "{:?}", answer.body);
    answer.text("/errors/0")
}

fn forwarded(server: &TestServer) -> Vec<(String, daypass_aws::SignedIdentity)> {
    let made = server.aws().made().into_iter();
    made.filter_map(|made| if let Made::Forwarded(url, signed) = made { Some((url, signed)) } else { None }).collect()
}

#[tokio::test]
async fn a_role_of_the_right_account_logs_in() {
    let server = server().await;
    let answer = login(&server, &signed("a")).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let role_id = server.get("auth/aws/role/ci").await.text("/data/role_id");
    let auth = &answer.body["auth"];
    assert_eq!(auth["metadata"], json!({ "account_id": "123456789012", "auth_type": "iam", "role_id": role_id }));
    assert_eq!(auth["policies"], json!(["default", "deploy"]));
    let token = auth["client_token"].as_str().unwrap();
    let own = server.get("auth/token/lookup-self").token(token).await;
    assert_eq!(own.text("/data/display_name"), "aws-ci/build-7");
    let (url, sent) = forwarded(&server).pop().unwrap();
    assert_eq!((url.as_str(), sent.host.as_str()), ("https://sts.amazonaws.com", "sts.amazonaws.com"));
    assert_eq!(sent.form, SignedForm::Post(BODY.to_owned()));
    let names: Vec<&str> = sent.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["authorization", "content-type", "x-amz-date", "x-amz-security-token", "x-vault-aws-iam-server-id"]);
}

#[tokio::test]
async fn headers_may_be_text_json_or_an_object_and_the_role_may_be_left_out() {
    let server = server().await;
    for (digit, form) in ["b", "c", "d"].into_iter().zip(0..) {
        let signed = signed(digit);
        let mut fields = signed.fields("");
        fields["iam_request_headers"] = match form {
            0 => json!(signed.header_text()),
            1 => serde_json::from_str(&signed.header_text()).unwrap(),
            _ => json!(signed.headers.iter().map(|(name, value)| (name.clone(), value[0].clone())).collect::<serde_json::Map<_, _>>()),
        };
        let answer = server.put("auth/aws/login", fields).nobody().await;
        assert_eq!(answer.status, 200, "{form}: {:?}", answer.body);
    }
}

#[tokio::test]
async fn a_regional_signature_goes_to_its_own_region() {
    let server = server().await;
    let covers = "content-type;host;x-amz-date";
    let regional = signed("a").url("https://sts.eu-west-1.amazonaws.com/").set("Authorization", authorization("eu-west-1", covers, "a"));
    assert_eq!(login(&server, &regional).await.status, 200);
    assert_eq!(forwarded(&server).pop().unwrap().0, "https://sts.eu-west-1.amazonaws.com");
    let crossed = regional.clone().set("Authorization", authorization("us-east-1", covers, "b"));
    assert!(error(&login(&server, &crossed).await).contains("is for the region us-east-1 but the host"));
    server.put("auth/aws/config/client", json!({ "sts_endpoint": "https://sts.internal.example" })).await.is(204);
    assert_eq!(login(&server, &regional.clone().set("Authorization", authorization("eu-west-1", covers, "c"))).await.status, 200);
    assert_eq!(forwarded(&server).pop().unwrap().0, "https://sts.internal.example");
    server.put("auth/aws/config/client", json!({ "use_sts_region_from_client": true })).await.is(204);
    assert_eq!(login(&server, &regional.set("Authorization", authorization("eu-west-1", covers, "d"))).await.status, 200);
    assert_eq!(forwarded(&server).pop().unwrap().0, "https://sts.eu-west-1.amazonaws.com");
}

#[tokio::test]
async fn nothing_but_sts_is_ever_asked() {
    let server = server().await;
    let with_host = |host: &str| signed("a").set("Host", json!([host]));
    let mut twice = with_host("sts.amazonaws.com");
    twice.headers.push(("host".to_owned(), json!("evil.example")));
    for (what, attack, text) in [
        ("another host", signed("a").url("https://evil.example/"), "is not one of STS's"),
        ("STS as a part of a name", signed("a").url("https://sts.amazonaws.com.evil.example/"), "is not one of STS's"),
        ("user information", signed("a").url("https://sts.amazonaws.com@evil.example/"), "error parsing iam_request_url"),
        ("a port", signed("a").url("https://sts.amazonaws.com:8443/"), "is not one of STS's"),
        ("the metadata service", signed("a").url("http://169.254.169.254/"), "is not one of STS's"),
        ("host and URL differ", with_host("evil.example"), "is not the host of iam_request_url"),
        ("the other way round", with_host("sts.amazonaws.com").url("https://evil.example/"), "is not the host of iam_request_url"),
        ("two hosts", twice, "the header host is there twice"),
        ("two hosts in a list", signed("a").set("Host", json!(["sts.amazonaws.com", "evil.example"])), "has 2 values"),
        ("a line break", with_host("sts.amazonaws.com\r\nHost: evil.example"), "characters that no header may have"),
        ("a path", signed("a").url("https://sts.amazonaws.com/other"), "invalid request"),
        ("another scheme", signed("a").url("file://sts.amazonaws.com/"), "error parsing iam_request_url"),
        ("a region that is none", signed("a").set("Authorization", authorization("evil.example", "host", "a")), "no name of a region"),
    ] {
        let said = error(&login(&server, &attack).await);
        assert!(said.contains(text), "{what}: {said}");
    }
    assert!(forwarded(&server).is_empty());
}

#[tokio::test]
async fn only_one_get_caller_identity_is_sent_on() {
    let server = server().await;
    let get =
        |query: &str| Signed { method: "GET", ..signed("a").url(&format!("https://sts.amazonaws.com/?{query}")).without("Content-Length") };
    let banned = |name: &str| signed("a").set(name, "x").set("Authorization", authorization("us-east-1", &format!("host;{name}"), "a"));
    for (what, attack, text) in [
        ("a query with POST", signed("a").url("https://sts.amazonaws.com/?Action=AssumeRole"), "invalid request"),
        ("another action", signed("a").body("Action=AssumeRole&Version=2011-06-15"), "iam request body is invalid"),
        ("two actions", signed("a").body("Action=GetCallerIdentity&Action=GetCallerIdentity"), "iam request body is invalid"),
        ("a further key", signed("a").body(&format!("{BODY}&RoleArn=x")), "iam request body is invalid"),
        ("an encoded action", signed("a").body("%41ction=AssumeRole&Action=GetCallerIdentity"), "iam request body is invalid"),
        ("no action", get("Version=2011-06-15"), "no action found in request"),
        ("two actions in a query", get("Action=GetCallerIdentity&Action=GetCallerIdentity"), "found multiple actions"),
        ("an encoded second action", get("Action=GetCallerIdentity&%41ction=AssumeRole"), "found multiple actions"),
        ("another action in a query", get("Action=AssumeRole"), "unexpected action parameter, AssumeRole"),
        ("a further parameter", get("Action=GetCallerIdentity&RoleArn=x"), "is unknown, or there twice"),
        ("a further x-amz parameter", get("Action=GetCallerIdentity&X-Amz-Target=x"), "invalid request header: X-Amz-Target"),
        ("a further x-amz header", signed("a").set("x-amz-target", "x"), "invalid request header: X-Amz-Target"),
        ("another length", signed("a").set("Content-Length", "1"), "is not the length of iam_request_body"),
        ("another type of body", signed("a").set("Content-Type", "application/json"), "the header content-type has a value"),
        ("an answer in JSON", banned("accept").set("accept", "application/json"), "the header accept has a value"),
        ("chunks", banned("transfer-encoding"), "the header transfer-encoding has a value"),
        ("a compressed body", banned("content-encoding"), "the header content-encoding has a value"),
        ("a signed header that is not there", signed("a").without("X-Amz-Security-Token"), "\"x-amz-security-token\" is signed but not"),
        ("no signature", signed("a").without("Authorization"), "missing Authorization header"),
        ("no date", signed("a").without("X-Amz-Date"), "missing or malformed X-Amz-Date"),
        ("a header over the limit", signed("a").set("X-Amz-User-Agent", "x".repeat(20_000)), "at most 16384 are allowed"),
        ("a body over the limit", signed("a").body(&"x".repeat(5_000)), "failed to base64 decode iam_request_body"),
    ] {
        let said = error(&login(&server, &attack).await);
        assert!(said.contains(text), "{what}: {said}");
    }
    assert!(forwarded(&server).is_empty());
}

#[tokio::test]
async fn a_signed_get_is_sent_on_as_it_is() {
    let server = server().await;
    let query = format!(
        "Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ASIA1%2F20260102%2Fus-east-1%2Fsts%2Faws4_request\
         &X-Amz-Date={STAMP}&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature={}",
        "e".repeat(64)
    );
    let url = format!("https://sts.amazonaws.com/?{query}");
    let presigned = Signed { method: "GET", url, body: String::new(), headers: vec![("Host".to_owned(), json!("sts.amazonaws.com"))] };
    assert_eq!(login(&server, &presigned).await.status, 200);
    let SignedForm::Get(sent) = forwarded(&server).pop().unwrap().1.form else { panic!("a GET was handed in") };
    assert_eq!(sent.expose(), &query);
    let both = Signed { headers: signed("a").headers, ..presigned };
    assert!(error(&login(&server, &both.without("Content-Length")).await).contains("signed twice"));
}

/// Story: a header beside a presigned query said that it was signed now. The signature does not cover it, so who had captured a login could
/// bring it again and again, and choose when this server forgets having seen it.
#[tokio::test]
async fn a_header_that_is_not_signed_does_not_say_when_a_query_was() {
    let server = server().await;
    let presigned = |signed: &str| Signed {
        method: "GET",
        url: format!(
            "https://sts.amazonaws.com/?Action=GetCallerIdentity&X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=ASIA1%2F20260102%2Fus-east-1%2Fsts%2Faws4_request&X-Amz-Date={STAMP}&X-Amz-SignedHeaders={signed}&X-Amz-Signature={}",
            "e".repeat(64)
        ),
        body: String::new(),
        headers: vec![("Host".to_owned(), json!("sts.amazonaws.com"))],
    };
    server.seconds(901).await;
    let now = "20260102T031906Z";
    assert!(error(&login(&server, &presigned("host").set("x-amz-date", now)).await).contains("the header X-Amz-Date is not signed"));
    assert!(error(&login(&server, &presigned("host%3Bx-amz-date").set("x-amz-date", now)).await).contains("at most 900 s are allowed"));
    assert!(error(&login(&server, &presigned("host")).await).contains("at most 900 s are allowed"));
    assert!(forwarded(&server).is_empty());
}

#[tokio::test]
async fn what_is_missing_is_said_as_vault_says_it() {
    let server = server().await;
    let full = signed("a").fields("ci");
    let without = |name: &str| {
        let mut fields = full.clone();
        fields.as_object_mut().unwrap().remove(name);
        fields
    };
    let with = |name: &str, value: &str| {
        let mut fields = full.clone();
        fields[name] = json!(value);
        fields
    };
    for (fields, text) in [
        (json!({ "role": "ci" }), "didn't supply required authentication values"),
        (with("pkcs7", "x"), "supplied auth values for both ec2 and iam auth types"),
        (without("iam_request_url"), "supplied some of the auth values for the iam auth type but not all"),
        (json!({ "identity": "x" }), "supplied some of the auth values for the ec2 auth type but not all"),
        (with("iam_http_request_method", ""), "missing iam_http_request_method"),
        (with("iam_http_request_method", "PUT"), "invalid iam_http_request_method; currently only 'GET' and 'POST' are supported"),
        (with("iam_request_url", ""), "missing iam_request_url"),
        (with("iam_request_url", "%%"), "failed to base64 decode iam_request_url"),
        (with("iam_request_url", "YWJj"), "error parsing iam_request_url"),
        (without("iam_request_body"), "missing iam_request_body which is required for POST requests"),
        (with("iam_request_body", "%%"), "failed to base64 decode iam_request_body"),
        (with("role", "other"), "entry for role other not found"),
    ] {
        let said = error(&server.put("auth/aws/login", fields).nobody().await);
        assert!(said.starts_with(text), "{said}");
    }
}

#[tokio::test]
async fn the_server_id_must_be_there_equal_and_signed() {
    let server = server().await;
    server.put("auth/aws/config/client", json!({ "iam_server_id_header_value": "vault.example.com" })).await.is(204);
    let name = "X-Vault-AWS-IAM-Server-ID";
    for (attack, text) in [
        (signed("a").without(name), "missing header \"X-Vault-AWS-IAM-Server-ID\""),
        (signed("a").set(name, "other"), "expected \"vault.example.com\" but got \"other\""),
        (signed("a").set("Authorization", authorization("us-east-1", "host;x-amz-date", "a")), "vault header wasn't signed"),
        (signed("a").without("Authorization"), "missing Authorization header"),
    ] {
        assert_eq!(error(&login(&server, &attack).await), format!("error validating {name} header: {text}"));
    }
    assert_eq!(login(&server, &signed("a")).await.status, 200);
}

#[tokio::test]
async fn a_signature_serves_one_login() {
    let server = server().await;
    let ask = |from: &str, signed: &Signed| server.put("auth/aws/login", signed.fields("ci")).nobody().from(from);
    assert_eq!(ask("10.0.0.1", &signed("a")).await.status, 200);
    assert_eq!(ask("10.0.0.1", &signed("a")).await.status, 200, "jobs that start together sign the same");
    assert!(error(&ask("10.0.0.2", &signed("a")).await).contains("used for a login already"));
    server.seconds(60).await;
    assert!(error(&ask("10.0.0.1", &signed("a")).await).contains("used for a login already"));
    assert_eq!(ask("10.0.0.2", &signed("b")).await.status, 200);
    server.put("auth/aws/config/client", json!({ "allow_signature_reuse": true })).await.is(204);
    assert_eq!(ask("10.0.0.2", &signed("a")).await.status, 200);
}

/// Story: each mount remembered its own signatures, so whoever captured a login used it again at a second mount.
#[tokio::test]
async fn a_signature_serves_one_login_at_all_mounts_together() {
    let server = server().await;
    server.put("sys/auth/aws-two", json!({ "type": "aws" })).await.is(204);
    server.put("auth/aws-two/role/ci", json!({ "bound_iam_principal_arn": ROLE, "token_policies": "deploy" })).await.is(204);
    let ask = |mount: &str, from: &str| server.put(&format!("auth/{mount}/login"), signed("a").fields("ci")).nobody().from(from);
    assert_eq!(ask("aws", "10.0.0.1").await.status, 200);
    assert!(error(&ask("aws-two", "10.0.0.2").await).contains("used for a login already"));
    assert_eq!(ask("aws-two", "10.0.0.1").await.status, 200, "the first address has its moment there too");
    server.seconds(60).await;
    assert!(error(&ask("aws-two", "10.0.0.1").await).contains("used for a login already"));
}

#[tokio::test]
async fn a_login_that_fails_uses_no_signature_up() {
    let server = server().await;
    server.aws().stranger_is("arn:aws:sts::999999999999:assumed-role/ci/x", "AROAOTHER:x");
    let from = |address: &str| server.put("auth/aws/login", signed("a").fields("ci")).nobody().from(address);
    assert_eq!(from("10.0.0.2").await.status, 400);
    server.aws().stranger_is(SESSION, &format!("{ID}:build-7"));
    assert_eq!(from("10.0.0.1").await.status, 200);
}

/// Story: whoever had captured a signature could use it up from anywhere: the networks of the role were looked at after that.
#[tokio::test]
async fn a_login_from_outside_the_bound_networks_uses_no_signature_up() {
    let server = server().await;
    server.put("auth/aws/role/ci", json!({ "token_bound_cidrs": "10.0.0.0/8" })).await.is(204);
    let from = |address: &str| server.put("auth/aws/login", signed("a").fields("ci")).nobody().from(address);
    from("192.0.2.1").await.is(403);
    from("10.0.0.1").await.is(200);
}

#[tokio::test]
async fn a_signature_of_another_time_is_refused() {
    let server = server().await;
    for stamp in ["20260102T024904Z", "20260102T031906Z", "20250102T030405Z"] {
        assert!(error(&login(&server, &signed("a").set("X-Amz-Date", stamp)).await).contains("away from this server's time"), "{stamp}");
    }
    server.seconds(901).await;
    assert!(error(&login(&server, &signed("a")).await).contains("at most 900 s are allowed"));
    assert!(forwarded(&server).is_empty());
}

#[tokio::test]
async fn the_same_name_in_another_account_is_somebody_else() {
    let server = server().await;
    let put = |name: &'static str, body: Value| server.put(&format!("auth/aws/role/{name}"), body);
    put("by-name", json!({ "bound_iam_principal_arn": ROLE, "resolve_aws_unique_ids": false })).await.is(204);
    put("by-star", json!({ "bound_iam_principal_arn": "arn:aws:iam::123456789012:role/*" })).await.is(204);
    // The very role logs in first, so that what is kept of it could be mistaken for the others.
    for (digit, name) in ["1", "2", "3"].into_iter().zip(["ci", "by-name", "by-star"]) {
        assert_eq!(server.put("auth/aws/login", signed(digit).fields(name)).nobody().await.status, 200, "{name}");
    }
    for (arn, user_id) in [
        ("arn:aws:sts::999999999999:assumed-role/ci/build-7", "AROAOTHER:build-7"),
        ("arn:aws:sts::999999999999:assumed-role/ci/build-7", "AROAREALLY:build-7"),
        ("arn:aws-cn:sts::123456789012:assumed-role/ci/build-7", "AROAREALLY:build-7"),
        ("arn:aws:iam::123456789012:user/ci", "AIDAOTHER"),
    ] {
        server.aws().stranger_is(arn, user_id);
        for name in ["ci", "by-name", "by-star"] {
            let said = error(&server.put("auth/aws/login", signed("4").fields(name)).nobody().await);
            assert_eq!(said, format!("IAM Principal {arn:?} does not belong to the role {name:?}"));
        }
    }
    // Made anew under its name: only the role that says names are enough lets it in.
    server.aws().stranger_is(SESSION, "AROANEW:build-7");
    server.aws().add_principal(ROLE, "AROANEW");
    for (digit, name, fits) in [("5", "ci", false), ("6", "by-name", true), ("7", "by-star", true)] {
        assert_eq!(server.put("auth/aws/login", signed(digit).fields(name)).nobody().await.status == 200, fits, "{name}");
    }
}

#[tokio::test]
async fn a_star_is_compared_with_the_whole_arn() {
    let server = server().await;
    server.aws().add_principal("arn:aws:iam::123456789012:role/team/ci-app", "AROATEAM");
    server.aws().stranger_is("arn:aws:sts::123456789012:assumed-role/ci-app/s", "AROATEAM:s");
    let patterns = [
        ("arn:aws:iam::123456789012:role/team/*", true),
        ("arn:aws:iam::123456789012:role/*", true),
        ("arn:aws:iam::123456789012:*", true),
        ("arn:aws:iam::123456789012:role/ci-*", false),
        ("arn:aws:iam::123456789012:user/*", false),
        ("arn:aws:iam::999999999999:role/*", false),
    ];
    for (digit, (pattern, fits)) in (1..).zip(patterns) {
        server.put("auth/aws/role/star", json!({ "bound_iam_principal_arn": pattern })).await.is(204);
        let answer = server.put("auth/aws/login", signed(&digit.to_string()).fields("star")).nobody().await;
        assert_eq!(answer.status == 200, fits, "{pattern}: {:?}", answer.body);
    }
    for bad in ["*", "arn:aws:iam::*:role/ci", "arn:aws:iam::1234*", "arn:aws:iam::123456789012:role/*/ci"] {
        assert_eq!(server.put("auth/aws/role/bad", json!({ "bound_iam_principal_arn": bad })).await.status, 400, "{bad}");
    }
    // Without a path, a name is enough where names are.
    let canonical = json!({ "bound_iam_principal_arn": "arn:aws:iam::123456789012:role/ci-app", "resolve_aws_unique_ids": false });
    server.put("auth/aws/role/named", canonical).await.is(204);
    assert_eq!(server.put("auth/aws/login", signed("9").fields("named")).nobody().await.status, 200);
}

#[tokio::test]
async fn who_is_neither_user_nor_role_session_is_nobody() {
    let server = server().await;
    for (arn, user_id) in [
        ("arn:aws:iam::123456789012:root", "123456789012"),
        ("arn:aws:sts::123456789012:federated-user/bob", "123456789012:bob"),
        ("arn:aws:iam::123456789012:role/ci", ID),
        ("arn:aws:sts::123456789012:assumed-role/ci/build-7", ID),
        ("arn:aws:sts::123456789012:assumed-role/ci/build-7", "AROAREALLY:build-8"),
        ("arn:aws:iam::123456789012:user/ci", "AROAREALLY:build-7"),
        ("nonsense", "x"),
    ] {
        server.aws().stranger_is(arn, user_id);
        assert!(error(&login(&server, &signed("a")).await).starts_with("error parsing arn"), "{arn} {user_id}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_stss_says_nothing() {
    let server = server().await;
    let good = "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::123456789012:assumed-role/ci/b</Arn><UserId>AROAREALLY:b\
                </UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";
    for (status, kind, body, text) in [
        (200, "application/json", good, "body of GetCallerIdentity is invalid"),
        (200, "text/xml", "{}", "body of GetCallerIdentity is invalid"),
        (200, "text/xml", "garbage", "body of GetCallerIdentity is invalid"),
        (302, "text/xml", good, "received error code 302 from STS: UnknownError: "),
        (
            403,
            "text/xml",
            "<ErrorResponse><Error><Code>ExpiredToken</Code><Message>It is over.</Message></Error></ErrorResponse>",
            "received error code 403 from STS: ExpiredToken: It is over.",
        ),
    ] {
        server.aws().says_to_strangers(status, kind, body);
        assert_eq!(error(&login(&server, &signed("a")).await), format!("error making upstream request: {text}"));
    }
}

#[tokio::test]
async fn a_login_that_finds_too_many_waiting_is_told_when_to_come_back() {
    let server = server().await;
    server.aws().is_crowded();
    let answer = login(&server, &signed("a")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("5")));
    assert_eq!(answer.text("/errors/0"), "error making upstream request: 128 calls to it wait already");
}

#[tokio::test]
async fn principals_of_other_accounts_are_looked_up_with_the_role_for_their_account() {
    let server = server().await;
    let foreign = "arn:aws:iam::222222222222:role/ci";
    server.aws().add_principal(foreign, "AROAFOREIGN");
    let write = || server.put("auth/aws/role/foreign", json!({ "bound_iam_principal_arn": foreign }));
    assert!(error(&write().await).starts_with(&format!("unable to resolve ARN {foreign:?} to internal ID: IAM tells of {ROLE:?} instead")));
    let sts = json!({ "sts_role": "arn:aws:iam::222222222222:role/reads-iam", "external_id": "x-1" });
    server.put("auth/aws/config/sts/222222222222", sts.clone()).await.is(204);
    assert_eq!(server.get("auth/aws/config/sts/222222222222").await.body["data"], sts);
    write().await.is(204);
    assert_eq!(server.get("auth/aws/role/foreign").await.body["data"]["bound_iam_principal_id"], json!(["AROAFOREIGN"]));
    let asked = Made::Principal("222222222222".to_owned(), PrincipalKind::Role, "ci".to_owned());
    assert_eq!(server.aws().made().pop(), Some(asked));
    server.aws().stranger_is("arn:aws:sts::222222222222:assumed-role/ci/s", "AROAFOREIGN:s");
    assert_eq!(server.put("auth/aws/login", signed("1").fields("foreign")).nobody().await.status, 200);
    assert_eq!(server.put("auth/aws/login", signed("2").fields("ci")).nobody().await.status, 400);
}

#[tokio::test]
async fn renewal_looks_at_the_binding_again() {
    let server = server().await;
    let token = login(&server, &signed("a")).await.text("/auth/client_token");
    let renew = || server.put("auth/token/renew-self", json!({})).token(&token);
    assert_eq!(renew().await.status, 200);
    server.aws().add_principal("arn:aws:iam::123456789012:role/other", "AROAOTHER");
    server.put("auth/aws/role/ci", json!({ "bound_iam_principal_arn": "arn:aws:iam::123456789012:role/other" })).await.is(204);
    assert!(renew().await.text("/errors/0").contains("does not belong to the role \"ci\""));
    server.delete("auth/aws/role/ci").await.is(204);
    assert!(renew().await.text("/errors/0").contains("entry for role ci not found"));
}

/// Story: for a moment AWS could not be asked. The renewal was answered 400, which clients take for good: builds gave up tokens that had half of their life
/// left.
#[tokio::test]
async fn a_renewal_that_iam_cannot_be_asked_about_is_not_refused_for_good() {
    let server = server().await;
    let star = "arn:aws:iam::123456789012:role/*";
    server.put("auth/aws/role/star", json!({ "bound_iam_principal_arn": star })).await.is(204);
    let token = server.put("auth/aws/login", signed("a").fields("star")).nobody().await.text("/auth/client_token");
    let renew = || server.put("auth/token/renew-self", json!({})).token(&token);
    let sts = json!({ "sts_role": "arn:aws:iam::123456789012:role/reads-iam" });
    // This also makes it look the ARN up again.
    server.put("auth/aws/config/sts/123456789012", sts).await.is(204);
    for action in ["GetPrincipal", "AssumeRole"] {
        for (gate, status, why) in
            [(Gate::Throttle, 502, "Throttling: Rate exceeded"), (Gate::Cut, 500, "RequestError: send request failed")]
        {
            server.aws().guard(move |asked| if asked == action { gate } else { Gate::Open });
            let answer = renew().await;
            let told = answer.refused(status);
            assert!(told.contains("error looking up full ARN of entity") && told.contains(why), "{action}: {told}");
            assert_eq!(server.put("auth/aws/login", signed("b").fields("star")).nobody().await.status, status, "{action}");
        }
    }
    server.aws().unguard();
    server.aws().refuse("ExpiredToken", "The security token included in the request is expired", 403);
    assert!(renew().await.refused(500).contains("ExpiredToken"), "the server's own credentials say nothing of the token");
    renew().await.is(200);
    // That there is no such principal any more is an answer.
    server.aws().remove_principal(ROLE);
    server.seconds(601).await;
    assert!(error(&renew().await).contains("NoSuchEntity"));
}

#[tokio::test]
async fn batch_tokens_write_nothing_and_names_follow_the_configuration() {
    let server = server().await;
    server.put("auth/aws/role/ci", json!({ "token_type": "batch" })).await.is(204);
    let metadata =
        json!({ "iam_alias": "canonical_arn", "iam_metadata": "default,canonical_arn,client_arn,client_user_id,inferred_hostname" });
    server.put("auth/aws/config/identity", metadata).await.is(204);
    let answer = login(&server, &signed("a")).await;
    let auth = &answer.body["auth"];
    assert_eq!((&auth["token_type"], &auth["metadata"]["canonical_arn"]), (&json!("batch"), &json!(ROLE)));
    assert_eq!((&auth["metadata"]["client_arn"], &auth["metadata"]["client_user_id"]), (&json!(SESSION), &json!(ID)));
    let first = auth["entity_id"].clone();
    server.put("auth/aws/config/identity", json!({ "iam_alias": "unique_id" })).await.is(204);
    assert_ne!(login(&server, &signed("b")).await.body["auth"]["entity_id"], first);
    let bad = server.put("auth/aws/config/identity", json!({ "iam_alias": "x" })).await;
    assert_eq!(error(&bad), "iam_alias of \"x\" not in set of allowed values: [role_id unique_id canonical_arn full_arn]");
}

#[tokio::test]
async fn roles_are_read_as_vault_shows_them_and_contradictions_are_refused() {
    let server = server().await;
    let read = server.get("auth/aws/role/CI").await;
    let data = &read.body["data"];
    assert_eq!(
        (&data["bound_iam_principal_id"], &data["bound_ec2_instance_id"], &data["bound_ami_id"]),
        (&json!([ID]), &Value::Null, &json!([]))
    );
    assert_eq!((&data["auth_type"], &data["resolve_aws_unique_ids"], &data["token_ttl"]), (&json!("iam"), &json!(true), &json!(0)));
    assert_eq!(server.list("auth/aws/roles").await.body["data"]["keys"], json!(["ci"]));
    for (name, body, text) in [
        ("x", json!({}), "at least one bound parameter should be specified on the role"),
        ("x", json!({ "auth_type": "x" }), "unrecognized auth_type: x"),
        ("x", json!({ "bound_ami_id": "ami-1" }), "specified bound_ami_id but not specifying ec2 auth_type or inferring ec2_instance"),
        ("x", json!({ "bound_region": "eu-west-1" }), "specified bound_region but not specifying ec2 auth_type"),
        ("x", json!({ "inferred_entity_type": "x", "inferred_aws_region": "eu-west-1" }), "specified invalid inferred_entity_type: x"),
        ("x", json!({ "inferred_entity_type": "ec2_instance" }), "specified inferred_entity_type but not inferred_aws_region"),
        ("x", json!({ "inferred_aws_region": "eu-west-1" }), "specified inferred_aws_region but not inferred_entity_type"),
        ("x", json!({ "role_tag": "t", "bound_iam_principal_arn": ROLE }), "tried to enable role_tag when not using ec2 auth method"),
        ("ci", json!({ "auth_type": "ec2" }), "changing auth_type on a role is not allowed"),
        ("ci", json!({ "resolve_aws_unique_ids": false }), "changing resolve_aws_unique_ids from true to false is not allowed"),
        ("x", json!({ "bound_iam_principal_arn": "arn:aws:iam::123456789012:role/gone" }), "unable to resolve ARN"),
        ("x", json!({ "bound_iam_principal_arn": "arn:aws:iam::123456789012:root" }), "unable to resolve ARN"),
    ] {
        assert!(error(&server.put(&format!("auth/aws/role/{name}"), body).await).starts_with(text), "{text}");
    }
    server.put("auth/aws/role/ec2", json!({ "auth_type": "ec2", "bound_ami_id": "ami-1" })).await.is(204);
    assert_eq!(error(&server.put("auth/aws/login", signed("a").fields("ec2")).nobody().await), "auth method iam not allowed for role ec2");
}

#[tokio::test]
async fn the_configuration_never_shows_its_secret() {
    let server = server().await;
    assert_eq!(server.get("auth/aws/config/client").await.status, 404);
    let unset = error(&server.put("auth/aws/config/rotate-root", json!({})).await);
    assert_eq!(unset, "can't update client config because it's unset");
    server.put("auth/aws/config/client", json!({ "access_key": "AKIA1", "secret_key": "very-secret", "max_retries": 3 })).await.is(204);
    let read = server.get("auth/aws/config/client").await;
    assert_eq!((&read.body["data"]["access_key"], &read.body["data"]["max_retries"]), (&json!("AKIA1"), &json!(3)));
    assert!(!read.body.to_string().contains("very-secret") && read.body["data"].get("allow_signature_reuse").is_none());
    assert_eq!(server.put("auth/aws/config/client", json!({ "sts_endpoint": "sts.example" })).await.status, 400);
    server.delete("auth/aws/config/client").await.is(204);
    assert_eq!(server.get("auth/aws/config/client").await.status, 404);
}

/// Story: a quota of a role was passed by a login that spelled it otherwise, and by one that left it out, where STS tells it only later. Now the latter
/// counts by the strictest quota of a role that the mount has, since it may be for any.
#[tokio::test]
async fn no_quota_of_a_role_is_passed_by_another_spelling_or_without_the_role() {
    let server = server().await;
    for (role, rate) in [("ci", 2), ("web", 4)] {
        server
            .put(&format!("sys/quotas/rate-limit/{role}"), json!({ "path": "auth/aws", "role": role, "rate": rate, "interval": "1h" }))
            .await
            .ok();
    }
    let login = async |fields: Value| server.put("auth/aws/login", fields).nobody().await.status;
    let mut seen = Vec::new();
    for fields in [json!({ "role": "CI" }), json!({}), json!({ "role": "ci" }), json!({ "role": "" }), json!({ "role": "Web" })] {
        seen.push(login(fields).await);
    }
    assert_eq!(seen, [400, 400, 429, 429, 400]);
    assert_eq!(login(json!({ "role": "of-no-quota" })).await, 400);
}
