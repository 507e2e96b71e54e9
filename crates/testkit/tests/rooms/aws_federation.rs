//! The server proves itself to AWS by identity tokens: no key of AWS's anywhere. The real client against the strict fake, which reads the keys
//! from the server over HTTP as AWS does.

use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{Call, IamRoles, LiveAws, RolePolicy, Settings, StaticKeys, Target};
use daypass_base::{Clock, Secret, SystemClock, SystemEntropy};
use daypass_sandbox::{Effect, Options, Rule, Running, World};
use daypass_sdk::Timestamp;
use daypass_testkit::{Setup, TestServer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const DAYPASS: &str = "arn:aws:iam::999999999999:role/daypass";
const STRANGER: &str = "arn:aws:iam::999999999999:role/stranger";
const ADMIN_SECRET: &str = "operator/only/never/a/real/secret/key/00";
const DEPLOY: &str = "arn:aws:iam::111111111111:role/deploy";

/// A server that speaks HTTP at `issuer`, and its AWS, which trusts it.
struct Federated {
    server: Arc<TestServer>,
    sandbox: Running,
    issuer: String,
}

fn world(issuer: &str) -> World {
    let bare = issuer.strip_prefix("http://").unwrap();
    let trust = |subject: &str| {
        json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
            "Principal": { "Federated": format!("arn:aws:iam::999999999999:oidc-provider/{bare}") },
            "Condition": {
                "StringEquals": { (format!("{bare}:aud")): "sts.amazonaws.com" },
                "StringLike": { (format!("{bare}:sub")): subject },
            },
        }] })
    };
    let may = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": ["sts:AssumeRole", "ecr:GetAuthorizationToken"], "Resource": "*" }] });
    let deploy = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": { "AWS": DAYPASS } }] });
    let admin = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "iam:*", "Resource": "*" }] });
    let text = json!({ "region": "us-east-1", "accounts": [
        { "id": "999999999999",
          "users": [{ "name": "operator", "keys": [{ "id": "AKIAOPERATORSANDBOX2", "secret": ADMIN_SECRET }], "policies": { "all": admin } }],
          "oidc_providers": [{ "url": issuer, "audiences": ["sts.amazonaws.com", "other"] }],
          "roles": [
            { "name": "daypass", "trust": trust("plugin-identity:root:secret:*"), "policies": { "may": may } },
            { "name": "stranger", "trust": trust("plugin-identity:root:secret:of-another-mount"), "policies": { "may": may } }] },
        { "id": "111111111111", "roles": [{ "name": "deploy", "trust": deploy, "max_session_duration": 43200 }] },
    ] });
    World::from_json(&text.to_string()).unwrap()
}

async fn federated() -> Federated {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let issuer = format!("{origin}/v1/identity/oidc/plugins");
    let setup = Setup::default();
    // HTTP answers carry the machine's date, and signatures are corrected by it: the simulation has to begin there.
    setup.clock().jump_to(Timestamp::from_seconds(SystemClock::new().now().seconds()));
    let clock: Arc<dyn Clock> = Arc::new(setup.clock());
    let options = Options { world: world(&issuer), ..Options::default() };
    let sandbox = daypass_sandbox::start(options, Arc::clone(&clock), Arc::new(SystemEntropy)).await.unwrap();
    let settings = Settings { endpoint: Some(sandbox.url()), ..Settings::default() };
    let server = Arc::new(setup.aws(Arc::new(LiveAws::new(clock, settings))).start().await);
    tokio::spawn(serve(listener, Arc::clone(&server)));
    server.put("identity/oidc/config", json!({ "issuer": origin })).await.ok();
    // Quick to make; AWS takes it as well.
    server.put("identity/oidc/key/default", json!({ "algorithm": "ES256" })).await.ok();
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    server.put("aws/config/root", json!({ "identity_token_audience": "sts.amazonaws.com", "role_arn": DAYPASS })).await.ok();
    server.put("aws/roles/deploy", json!({ "credential_type": "assumed_role", "role_arns": DEPLOY, "max_sts_ttl": "12h" })).await.ok();
    Federated { server, sandbox, issuer }
}

/// The server's public documents over HTTP.
async fn serve(listener: TcpListener, server: Arc<TestServer>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && head.len() < 8_192 {
            let byte = stream.read_u8().await.unwrap();
            head.push(byte);
        }
        let path = String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().strip_prefix("/v1/").unwrap().to_owned();
        let answer = server.get(&path).nobody().await;
        let body = answer.body.to_string();
        let text = format!("HTTP/1.1 {} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", answer.status, body.len());
        stream.write_all(text.as_bytes()).await.unwrap();
    }
}

impl Federated {
    async fn mint(&self) -> daypass_testkit::Answer {
        self.server.put("aws/sts/deploy", json!({ "ttl": "15m" })).await
    }

    /// How often it was asked who the server is.
    fn introductions(&self) -> usize {
        self.sandbox.control().calls().iter().filter(|call| call.action == "AssumeRoleWithWebIdentity").count()
    }

    async fn configure(&self, fields: Value) {
        self.server.put("aws/config/root", fields).await.ok();
    }
}

#[tokio::test]
async fn a_credential_is_minted_with_no_key_of_awss_anywhere() {
    let it = federated().await;
    let minted = it.mint().await.ok();
    assert!(minted.text("/data/arn").starts_with("arn:aws:sts::111111111111:assumed-role/deploy/"));
    let calls = it.sandbox.control().calls();
    let accessor = it.server.get("sys/mounts/aws").await.ok().text("/data/accessor");
    assert_eq!((calls[0].action.as_str(), calls[0].role_arn.as_deref()), ("AssumeRoleWithWebIdentity", Some(DAYPASS)));
    assert_eq!(calls[0].session_name.as_deref(), Some(format!("daypass-{accessor}").as_str()));
    assert_eq!(calls[1].caller.as_deref(), Some(format!("arn:aws:sts::999999999999:assumed-role/daypass/daypass-{accessor}").as_str()));
    // Kept until shortly before its end, then made anew.
    for _ in 0..3 {
        it.server.seconds(1_000).await;
        it.mint().await.ok();
    }
    assert_eq!(it.introductions(), 1);
    it.server.seconds(400).await;
    it.mint().await.ok();
    assert_eq!(it.introductions(), 2);
    // After a night, or a clock that jumped.
    it.server.seconds(50_000).await;
    it.mint().await.ok();
    assert_eq!(it.introductions(), 3);
}

#[tokio::test]
async fn a_burst_at_the_start_makes_one_session() {
    let it = Arc::new(federated().await);
    let mints: Vec<_> = (0..30)
        .map(|_| {
            let it = Arc::clone(&it);
            tokio::spawn(async move { it.mint().await.status })
        })
        .collect();
    for mint in mints {
        assert_eq!(mint.await.unwrap(), 200);
    }
    assert_eq!(it.introductions(), 1);
}

#[tokio::test]
async fn the_one_hour_cap_of_chains_is_told_as_ever() {
    let it = federated().await;
    let refused = it.server.put("aws/sts/deploy", json!({ "ttl": "2h" })).await;
    assert!(refused.refused(400).contains("exceeds the 1 hour session limit for roles assumed by role chaining"), "{refused:?}");
}

#[tokio::test]
async fn throttles_and_outages_of_the_introduction_are_sat_out() {
    let it = federated().await;
    for effect in [Effect::Throttle, Effect::Drop, Effect::Unavailable] {
        let rule = Rule {
            service: None,
            action: Some("AssumeRoleWithWebIdentity".to_owned()),
            effect,
            times: Some(1),
            rate: None,
            milliseconds: 0,
        };
        it.sandbox.control().add(rule).unwrap();
    }
    // The waits between attempts are on the simulated clock. Small steps: limits on real connections are kept on the same clock.
    let minted = {
        let mut minting = std::pin::pin!(it.mint());
        loop {
            tokio::select! {
                minted = &mut minting => break minted,
                _given_way = tokio::task::spawn_blocking(std::thread::yield_now) => it.server.clock().advance(Duration::from_millis(1)),
            }
        }
    };
    assert_eq!(minted.status, 200, "{minted:?}");
    assert_eq!(it.sandbox.control().calls().iter().filter(|call| call.action == "AssumeRole" && call.error.is_none()).count(), 1);
}

/// Story: an operator ended the sessions of the server's own role (AWSRevokeOlderSessions). AWS says AccessDenied then, and the session was kept: every mint
/// failed for up to fifty-five minutes.
#[tokio::test]
async fn a_session_of_the_servers_own_that_a_policy_ended_is_replaced() {
    let it = federated().await;
    let admin = Target {
        keys: Some(StaticKeys { access_key_id: "AKIAOPERATORSANDBOX2".to_owned(), secret_access_key: Secret::from(ADMIN_SECRET) }),
        ..Target::default()
    };
    let aws = LiveAws::new(Arc::new(it.server.clock().clone()), Settings { endpoint: Some(it.sandbox.url()), ..Settings::default() });
    let write = async |name: &str, statement: Value| {
        let document = json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
        let policy = RolePolicy { role: "daypass".to_owned(), name: name.to_owned(), document };
        aws.put_role_policy(Call::usual(&admin, Duration::from_secs(10)), &policy).await.unwrap();
    };
    it.mint().await.ok();
    it.server.seconds(60).await;
    let before = json!({ "DateLessThan": { "aws:TokenIssueTime": it.server.clock().now().to_string() } });
    write("AWSRevokeOlderSessions", json!({ "Effect": "Deny", "Action": "*", "Resource": "*", "Condition": before })).await;
    it.mint().await.ok();
    assert_eq!(it.introductions(), 2);
    // A role that may not be assumed at all costs no session each time.
    write("no", json!({ "Effect": "Deny", "Action": "sts:AssumeRole", "Resource": "*" })).await;
    assert!(it.mint().await.refused(400).contains("AccessDenied"));
    assert_eq!(it.introductions(), 2, "the session is new: it is not that");
    it.server.seconds(11).await;
    for _ in 0..3 {
        assert!(it.mint().await.refused(400).contains("AccessDenied"));
    }
    assert_eq!(it.introductions(), 3, "once more, and not again");
}

#[tokio::test]
async fn rotated_keys_are_read_from_the_server_again() {
    let it = federated().await;
    it.mint().await.ok();
    for rotations in [1, 2, 3] {
        for _ in 0..rotations {
            it.server.put("identity/oidc/key/default/rotate", json!({ "verification_ttl": "0s" })).await.ok();
        }
        it.server.seconds(3_600).await;
        it.mint().await.ok();
    }
    assert_eq!(it.introductions(), 4);
}

#[tokio::test]
async fn what_aws_does_not_trust_is_told_with_what_it_was_for() {
    let it = federated().await;
    let told = async |text: &str| {
        let refused = it.mint().await;
        let message = refused.refused(400);
        assert!(message.contains(text) && message.contains("for the server's own identity"), "{message}");
        assert!(!message.contains("eyJ"), "no token is in it: {message}");
    };
    it.configure(json!({ "identity_token_audience": "elsewhere" })).await;
    told("InvalidIdentityToken: Incorrect token audience").await;
    it.configure(json!({ "identity_token_audience": "other" })).await;
    told("AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity").await;
    it.configure(json!({ "identity_token_audience": "sts.amazonaws.com", "role_arn": STRANGER })).await;
    told("AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity").await;
    it.configure(json!({ "role_arn": DAYPASS })).await;
    it.server.put("identity/oidc/config", json!({ "issuer": "https://vault.example.com" })).await.ok();
    told("InvalidIdentityToken: No OpenIDConnect provider found in your account for https://vault.example.com").await;
    it.server.put("identity/oidc/config", json!({ "issuer": it.issuer.split("/v1/").next().unwrap() })).await.ok();
    it.mint().await.ok();
    // The key of the mount is gone.
    it.server.put("sys/mounts/aws/tune", json!({ "identity_token_key": "none" })).await.ok();
    it.server.seconds(3_600).await;
    told("no identity token could be made: no named key found at \"none\"").await;
}

#[tokio::test]
async fn operators_are_shown_what_aws_has_to_know() {
    let it = federated().await;
    let accessor = it.server.get("sys/mounts/aws").await.ok().text("/data/accessor");
    let shown = it.server.get("aws/policy-for/deploy").await.ok();
    assert!(it.sandbox.control().calls().is_empty(), "AWS need not know the server yet");
    assert_eq!(shown["data"]["principal"], DAYPASS);
    assert_eq!(shown["data"]["oidc_provider"], json!({ "url": it.issuer, "client_id_list": ["sts.amazonaws.com"] }));
    let statement = &shown["data"]["trust_policies"][DAYPASS]["Statement"][0];
    let bare = it.issuer.strip_prefix("http://").unwrap();
    assert_eq!(
        statement["Condition"]["StringEquals"],
        json!({ (format!("{bare}:aud")): "sts.amazonaws.com", (format!("{bare}:sub")): format!("plugin-identity:root:secret:{accessor}") })
    );
    assert_eq!(shown["data"]["trust_policies"][DEPLOY]["Statement"][0]["Principal"]["AWS"], DAYPASS);

    let walked = it.server.put("aws/check/deploy", json!({})).await.ok();
    let steps = walked["data"]["steps"].as_array().unwrap();
    assert_eq!((&steps[0]["step"], &steps[0]["ok"]), (&json!("identity token"), &json!(true)), "{walked:?}");
    assert_eq!(steps[1]["ok"], Value::Null, "an issuer without https is remarked: {walked:?}");
    assert_eq!((&steps[2]["step"], &steps[2]["ok"]), (&json!("server identity"), &json!(true)), "{walked:?}");
    assert_eq!(walked["data"]["ok"], true, "{walked:?}");

    it.configure(json!({ "role_arn": STRANGER })).await;
    let walked = it.server.put("aws/check/deploy", json!({})).await.ok();
    let last = walked["data"]["steps"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["step"], &last["ok"]), (&json!("server identity"), &json!(false)));
    assert_eq!(last["mend"]["trust_policy"]["Statement"][0]["Action"], "sts:AssumeRoleWithWebIdentity");
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_refused_in_vaults_words() {
    let it = federated().await;
    let write = |fields| it.server.put("aws/config/root", fields);
    let keys = json!({ "access_key": "AKIAEXAMPLE", "secret_key": "s" });
    assert_eq!(write(keys).await.refused(400), "only one of 'access_key' or 'identity_token_audience' can be set");
    assert_eq!(write(json!({ "role_arn": "" })).await.refused(400), "missing required 'role_arn' when 'identity_token_audience' is set");
    assert!(write(json!({ "role_arn": "daypass" })).await.refused(400).contains("role_arn \"daypass\""));
    assert!(write(json!({ "identity_token_ttl": "5s" })).await.refused(400).contains("60 s at least"));
    assert!(write(json!({ "rotation_period": "1h" })).await.refused(400).contains("need an access_key and a secret_key"));
    let refused = it.server.put("aws/config/rotate-root", json!({})).await;
    assert!(refused.refused(400).starts_with("there is no key to rotate: config/root has identity_token_audience"), "{refused:?}");
    let shown = it.server.get("aws/config/root").await.ok();
    assert_eq!(
        (shown.text("/data/role_arn").as_str(), shown.text("/data/identity_token_audience").as_str()),
        (DAYPASS, "sts.amazonaws.com")
    );
    assert_eq!(shown["data"]["identity_token_ttl"], 0);
    // Without an audience the role has no meaning, which is said.
    let warned = write(json!({ "identity_token_audience": "" })).await.ok();
    assert!(warned.text("/warnings/0").starts_with("role_arn has no effect"), "{warned:?}");
}

#[tokio::test]
async fn registries_are_reached_in_the_same_way() {
    let it = federated().await;
    it.server.put("sys/mounts/ecr", json!({ "type": "ecr" })).await.ok();
    let config = json!({ "identity_token_audience": "sts.amazonaws.com", "role_arn": DAYPASS, "region": "us-east-1" });
    it.server.put("ecr/config/root", config).await.ok();
    it.server.put("ecr/roles/pull", json!({ "region": "us-east-1" })).await.ok();
    let login = it.server.get("ecr/creds/pull").await.ok();
    assert_eq!(login.text("/data/username"), "AWS", "{login:?}");
    assert_eq!(it.introductions(), 1);
    let refused = it.server.put("ecr/config/root", json!({ "access_key": "AKIA", "secret_key": "s" })).await;
    assert_eq!(refused.refused(400), "only one of 'access_key' or 'identity_token_audience' can be set");
}
