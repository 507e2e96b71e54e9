//! Logins, and setting one up for a build server.

use super::*;

/// Story: with a password and no user name, the login asked for the user whose name is empty.
#[test]
fn a_login_by_name_needs_the_name_also_where_the_password_was_given() {
    let server = Server::start(&[]);
    let ran = run(&server, &["login", "-method=userpass", "password=x"]);
    assert!(ran.code == 2 && ran.err.contains("'username' must be specified"), "{}", ran.err);
    assert!(server.seen().is_empty());
}

/// Story: `login -method=aws` with keys as Vault documents it signed as whoever was at hand, and sent the keys to the server as fields of the login.
#[test]
fn a_login_signs_with_the_keys_that_are_given_and_sends_none() {
    const LOGIN: Route = ("PUT /v1/auth/aws/login", 200, r#"{"auth":{"client_token":"hvs.t","policies":[]}}"#);
    let server = Server::start(&[LOGIN]);
    let home = tempfile::tempdir().unwrap();
    let secret = home.path().join("secret");
    std::fs::write(&secret, "not/for/the/server\n").unwrap();
    let file = format!("aws_secret_access_key=@{}", secret.display());
    let ambient = [
        ("VAULT_ADDR", server.address.as_str()),
        ("AWS_ACCESS_KEY_ID", "AKIASOMEBODYELSE"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    let login =
        |more: &[&str]| run_as("daypass", home.path(), &ambient, &[&["login", "-method=aws", "role=ci", "-token-only"], more].concat(), "");
    let keys = [
        "aws_access_key_id=AKIAGIVEN",
        &file,
        "aws_security_token=session",
        "header_value=vault.example.com",
        "log_level=debug",
        "pin=4711",
    ];
    let ran = login(&keys);
    assert_eq!((ran.code, ran.out.as_str()), (0, "hvs.t"), "{}", ran.err);
    assert!(ran.err.contains("no such field: pin\n") && !ran.err.contains("4711"), "{}", ran.err);
    let sent = server.seen();
    let [sent] = sent.as_slice() else { panic!("one request: {sent:?}") };
    let body = sent.strip_prefix("PUT /v1/auth/aws/login ").and_then(|rest| rest.strip_suffix(" []")).unwrap();
    let body: serde_json::Map<String, serde_json::Value> = serde_json::from_str(body).unwrap();
    let names: Vec<&str> = body.keys().map(String::as_str).collect();
    assert_eq!(names, ["role", "iam_http_request_method", "iam_request_url", "iam_request_body", "iam_request_headers"]);
    let headers = data_encoding::BASE64.decode(body["iam_request_headers"].as_str().unwrap().as_bytes()).unwrap();
    let headers: serde_json::Value = serde_json::from_slice(&headers).unwrap();
    // The session's token is for STS, which wants it signed or not.
    assert_eq!(headers["x-amz-security-token"][0], "session");
    let proof = headers["authorization"][0].as_str().unwrap();
    assert!(proof.contains("Credential=AKIAGIVEN/") && proof.contains("x-vault-aws-iam-server-id"), "{proof}");
    assert!(!headers.to_string().contains("not/for/the/server") && !sent.contains("not/for/the/server"), "{headers}");
    // Half of a key is not made whole by what is at hand.
    for half in [&["aws_access_key_id=AKIAGIVEN"][..], &[&file], &["aws_security_token=session"]] {
        let ran = login(half);
        assert!(ran.code == 2 && ran.err.contains("are given together"), "{half:?}: {}", ran.err);
    }
    assert_eq!(server.seen().len(), 1);
}

/// Story: a setup that the server refused halfway left a mount behind and did not say so.
#[test]
fn a_setup_that_is_refused_halfway_names_the_mount_that_it_made() {
    const REFUSED: (&str, u16, &str) = ("PUT /v1/auth/github/config", 400, r#"{"errors":["error checking oidc discovery URL"]}"#);
    let setup = ["auth", "setup", "github", "-org=acme"];
    let server = Server::start(&[("GET /v1/sys/auth", 200, r#"{"data":{}}"#), ("POST /v1/sys/auth/github", 204, ""), REFUSED]);
    let ran = run(&server, &setup);
    assert!(
        ran.code == 2 && ran.err.contains("hint: auth/github/ was enabled and stays") && ran.err.contains("auth disable github"),
        "{}",
        ran.err
    );
    let server = Server::start(&[("GET /v1/sys/auth", 200, r#"{"data":{"github/":{"type":"jwt"}}}"#), REFUSED]);
    let ran = run(&server, &setup);
    assert!(ran.code == 2 && !ran.err.contains("was enabled"), "{}", ran.err);
}

/// Story: `auth setup` for a second project wrote over the role and the issuer of the first one without a word.
#[test]
fn a_setup_writes_over_its_own_role_and_over_no_other_projects() {
    const MOUNTS: Route = ("GET /v1/sys/auth", 200, r#"{"data":{"github/":{"type":"jwt"}}}"#);
    const CONFIG: Route =
        ("GET /v1/auth/github/config", 200, r#"{"data":{"oidc_discovery_url":"https://token.actions.githubusercontent.com"}}"#);
    const ROLE: Route = (
        "GET /v1/auth/github/role/ci",
        200,
        r#"{"data":{"bound_claims":{"repository":"acme/app","repository_owner":["acme"]},"bound_audiences":["https://github.com/acme"],"user_claim":"repository"}}"#,
    );
    const WRITES: [Route; 2] = [("PUT /v1/auth/github/config", 204, ""), ("PUT /v1/auth/github/role/ci", 204, "")];
    let server = Server::start(&[MOUNTS, CONFIG, ROLE, WRITES[0], WRITES[1]]);
    let written = || server.seen().iter().filter(|line| line.starts_with("PUT")).count();
    let setup = |more: &[&str]| run(&server, &[&["auth", "setup", "github", "-org=acme"], more].concat());
    let ran = setup(&["-project=other"]);
    assert_eq!((ran.code, ran.out.as_str(), written()), (2, "", 0), "{}", ran.err);
    assert!(ran.err.contains("role/ci is there and lets in others: bound_claims is") && ran.err.contains("-role=NAME"), "{}", ran.err);
    let ran = setup(&["-project=app", "-url=https://github.acme.example"]);
    assert!(
        ran.code == 2 && ran.err.contains("auth/github/ takes the tokens of https://token") && ran.err.contains("-path=NAME"),
        "{}",
        ran.err
    );
    assert_eq!(written(), 0);
    // The same again is none of that, and who wants it says so.
    let ran = setup(&["-project=app", "-policies=more"]);
    assert_eq!((ran.code, written()), (0, 1), "{}", ran.err);
    assert!(ran.out.contains("  auth/github/config stays as it is\n") && !ran.out.contains("auth enable"), "{}", ran.out);
    assert_eq!((setup(&["-project=other", "-replace"]).code, written()), (0, 3));
    assert_eq!((setup(&["-project=other", "-dry-run"]).code, written()), (0, 3));
}

/// Story: a second project's setup wrote over all of the mount's configuration, and the same setup again over what somebody had added to its role.
#[test]
fn a_setup_takes_nothing_away_that_somebody_added() {
    const MOUNTS: Route = ("GET /v1/sys/auth", 200, r#"{"data":{"github/":{"type":"oidc"}}}"#);
    const CONFIG: Route = (
        "GET /v1/auth/github/config",
        200,
        r#"{"data":{"oidc_discovery_url":"https://token.actions.githubusercontent.com","bound_issuer":"https://token.actions.githubusercontent.com/","default_role":"people"}}"#,
    );
    const ROLE: Route = (
        "GET /v1/auth/github/role/ci",
        200,
        r#"{"data":{"bound_claims":{"repository":"acme/app","repository_owner":"acme"},"bound_audiences":["https://github.com/acme"],"user_claim":"repository","token_policies":["deploy","extra"],"token_ttl":3600}}"#,
    );
    const WRITES: [Route; 3] =
        [("PUT /v1/auth/github/config", 204, ""), ("PUT /v1/auth/github/role/ci", 204, ""), ("PUT /v1/auth/github/role/other", 204, "")];
    let server = Server::start(&[MOUNTS, CONFIG, ROLE, WRITES[0], WRITES[1], WRITES[2]]);
    let written = || server.seen().into_iter().filter(|line| line.starts_with("PUT")).map(|line| line[8..].to_owned()).collect::<Vec<_>>();
    let setup = |more: &[&str]| run(&server, &[&["auth", "setup", "github", "-org=acme"], more].concat());
    let ran = setup(&["-project=other", "-role=other"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let [only] = written().try_into().unwrap();
    assert!(only.starts_with("auth/github/role/other "), "{only}");
    let ran = setup(&["-project=app", "-policies=deploy"]);
    assert_eq!((ran.code, ran.out.as_str(), written().len()), (2, "", 1));
    assert!(ran.err.contains("role/ci is there and has what would be lost: token_policies extra, token_ttl\n"), "{}", ran.err);
    assert!(ran.err.contains("hint: -replace writes over it"), "{}", ran.err);
    // With authorities the configuration is written anew.
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("ca.pem");
    std::fs::write(&pem, "PEM").unwrap();
    let authorities = format!("-issuer-ca={}", pem.display());
    let ran = setup(&["-project=other", "-role=other", &authorities]);
    assert!(ran.code == 2 && ran.err.contains("config is there and has what would be lost: bound_issuer, default_role\n"), "{}", ran.err);
    assert_eq!((setup(&["-project=other", "-role=other", &authorities, "-replace"]).code, written().len()), (0, 3));
}
