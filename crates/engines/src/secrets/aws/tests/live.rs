//! The engine over the live client and the strict fake of AWS: the main story, and what goes wrong in it.

use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{ContainerEndpoint, LiveAws, Settings};
use daypass_base::{Clock, SystemClock, SystemEntropy};
use daypass_sandbox::{Effect, Options, Rule, Running};
use daypass_sdk::{LeaseInfo, Operation, Outcome, Seconds, Secret, Timestamp};
use serde_json::{Value, json};

use super::{Aws, Bench, Placeholder, error};

const STAGING: &str = "arn:aws:iam::111111111111:role/ecr-staging";

/// A mount whose server runs as the sandbox's task role. Everything shares the bench's clock.
async fn bench() -> (Bench, Running) {
    let mut bench = Bench::new(Placeholder, "cdp/aws/staging/", "aws");
    // HTTP answers carry the machine's date, and the SDK corrects its signatures by it: the simulation has to begin there.
    bench.clock.jump_to(Timestamp::from_seconds(SystemClock::new().now().seconds()));
    let clock: Arc<dyn Clock> = Arc::new(bench.clock.clone());
    let sandbox = daypass_sandbox::start(Options::default(), Arc::clone(&clock), Arc::new(SystemEntropy)).await.unwrap();
    let variable = |name: &str| sandbox.environment().into_iter().find(|(key, _)| key == name).unwrap().1;
    let container = ContainerEndpoint {
        url: variable("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        authorization: Some(Secret::new(variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"))),
    };
    let settings = Settings { endpoint: Some(sandbox.url()), container: Some(container), ..Settings::default() };
    let aws = Aws::new(Arc::new(LiveAws::new(clock, settings)));
    bench.mounted = Arc::new(daypass_sdk::Room::<Aws>::new()).mount(aws);
    for (role, arn) in [("ecr-staging", STAGING), ("locked", "arn:aws:iam::111111111111:role/locked")] {
        let answer = bench.call("PUT", &format!("roles/{role}"), json!({"credential_type": "assumed_role", "role_arns": arn})).await;
        assert_eq!(answer.status, 204);
    }
    (bench, sandbox)
}

#[tokio::test]
async fn the_story_works_with_no_key_configured_anywhere() {
    let (bench, sandbox) = bench().await;
    let answer = bench.call("PUT", "sts/ecr-staging", json!({"ttl": "60m"})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let data = &answer.body["data"];
    assert!(data["access_key"].as_str().unwrap().starts_with("ASIA"));
    assert!(data["arn"].as_str().unwrap().starts_with("arn:aws:sts::111111111111:assumed-role/ecr-staging/vault-token-ecr-staging-"));
    assert_eq!((&data["ttl"], &answer.body["lease_duration"], &answer.body["renewable"]), (&json!(3600), &json!(3600), &json!(false)));
    assert_eq!(data["security_token"], data["session_token"]);
    let made = sandbox.control().calls();
    assert_eq!(made.last().unwrap().role_arn.as_deref(), Some(STAGING));
}

#[tokio::test]
async fn a_refusal_and_the_chaining_cap_come_back_as_awss_text() {
    let (bench, _sandbox) = bench().await;
    let answer = bench.call("GET", "sts/locked", Value::Null).await;
    assert_eq!(answer.status, 400);
    assert!(error(&answer).starts_with("Error assuming role: AccessDenied: User: arn:aws:sts::999999999999:assumed-role/jenkins-task/"));
    assert!(error(&answer).contains("\n\tstatus code: 403, request id: "), "{answer:?}");
    let answer = bench.call("PUT", "sts/ecr-staging", json!({"ttl": "2h"})).await;
    assert_eq!(answer.status, 400);
    assert!(error(&answer).starts_with("Error assuming role: ValidationError: The requested DurationSeconds exceeds"), "{answer:?}");
    assert!(error(&answer).contains("the server itself is arn:aws:sts::999999999999:assumed-role/jenkins-task/"), "{answer:?}");
}

#[tokio::test]
async fn a_task_role_that_lives_20_seconds_keeps_working() {
    let (bench, sandbox) = bench().await;
    sandbox.control().set_endpoint_lifetime(Duration::from_secs(20));
    for _ in 0..4 {
        let answer = bench.call("GET", "sts/ecr-staging", Value::Null).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        bench.advance(25);
    }
}

#[tokio::test]
async fn an_outage_is_told_and_ends() {
    let (bench, sandbox) = bench().await;
    bench.call("PUT", "config/root", json!({"max_retries": 0})).await;
    let effect =
        |effect| Rule { service: None, action: Some("AssumeRole".to_owned()), effect, times: Some(1), rate: None, milliseconds: 0 };
    sandbox.control().add(effect(Effect::Drop)).unwrap();
    let answer = bench.call("GET", "sts/ecr-staging", Value::Null).await;
    assert!(answer.status == 400 && error(&answer).starts_with("Error assuming role: RequestError: send request failed"), "{answer:?}");
    sandbox.control().add(effect(Effect::Throttle)).unwrap();
    let answer = bench.call("GET", "sts/ecr-staging", Value::Null).await;
    assert!(answer.status == 502 && error(&answer).starts_with("Error assuming role: Throttling: "), "{answer:?}");
    assert_eq!(bench.call("GET", "sts/ecr-staging", Value::Null).await.status, 200);
}

/// Story: groups and policies were listed first and the key last, and went in that order. Where one of the calls failed, the key lived on without what
/// denied something.
#[tokio::test]
async fn a_user_is_taken_apart_with_its_keys_first() {
    let (bench, sandbox) = bench().await;
    let root = json!({ "access_key": "AKIADAYPASSSANDBOX22", "secret_key": "sandbox/only/never/a/real/secret/key/000", "region": "us-east-1",
        "max_retries": 0 });
    assert_eq!(bench.call("PUT", "config/root", root).await.status, 204);
    let policy = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Deny", "Action": "iam:*", "Resource": "*" }] }).to_string();
    let role = json!({ "credential_type": "iam_user", "policy_arns": "arn:aws:iam::aws:policy/AdministratorAccess", "iam_groups": "deployers",
        "policy_document": policy });
    assert_eq!(bench.call("PUT", "roles/ci", role).await.status, 204);
    let found = bench.mounted.find("creds/ci").unwrap();
    let input = daypass_sdk::Input { captures: found.captures.clone(), ..Default::default() };
    let cx = || bench.cx("creds/ci", Operation::Read);
    let Outcome::Leased(made) = bench.mounted.run(&found, cx(), Operation::Read, input).await.unwrap().outcome else { panic!("no lease") };
    let (internal, issued, terms) = (made.internal.clone().unwrap(), bench.clock.now(), made.terms);
    let lease = || LeaseInfo { id: "x".into(), internal: internal.clone(), issued, terms, increment: Seconds::ZERO };
    let takes_off = |action: &str| ["Delete", "Detach", "Remove"].iter().any(|verb| action.starts_with(verb));
    let asked = || sandbox.control().calls().into_iter().map(|call| call.action).filter(|action| takes_off(action)).collect::<Vec<_>>();

    let refused = Rule {
        service: None,
        action: Some("DetachUserPolicy".to_owned()),
        effect: Effect::Throttle,
        times: None,
        rate: None,
        milliseconds: 0,
    };
    sandbox.control().add(refused).unwrap();
    bench.mounted.revoke(cx(), lease()).await.unwrap_err();
    assert_eq!(asked(), ["DeleteAccessKey", "DetachUserPolicy"]);
    sandbox.control().clear();
    bench.mounted.revoke(cx(), lease()).await.unwrap();
    let rest = ["DeleteAccessKey", "DetachUserPolicy", "DeleteUserPolicy", "RemoveUserFromGroup", "DeleteUser"];
    assert_eq!(asked().split_off(2), rest);
}

/// The six digits of now, as an authenticator shows them (RFC 6238).
fn digits(seed: &[u8], now: Timestamp) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, seed);
    let tag = aws_lc_rs::hmac::sign(&key, &now.seconds().div_euclid(30).to_be_bytes());
    let at = usize::from(tag.as_ref()[19] & 0x0f);
    let number = u32::from_be_bytes(tag.as_ref()[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

/// A mount with keys of an IAM user that has an MFA device.
async fn user_with_mfa() -> (Bench, Running) {
    let mut bench = Bench::new(Placeholder, "aws/", "aws");
    bench.clock.jump_to(Timestamp::from_seconds(SystemClock::new().now().seconds()));
    let clock: Arc<dyn Clock> = Arc::new(bench.clock.clone());
    let all = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": "*" }] });
    let user = json!({ "name": "ops", "policies": { "all": all },
        "keys": [{ "id": "AKIADAYPASSSANDBOXMF", "secret": "sandbox/only/never/a/real/secret/key/mfa" }],
        "mfa": [{ "serial": "arn:aws:iam::123456789012:mfa/ops", "seed": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" }] });
    let world = json!({ "region": "us-east-1", "accounts": [{ "id": "123456789012", "users": [user] }] }).to_string();
    let options = Options { world: daypass_sandbox::World::from_json(&world).unwrap(), ..Options::default() };
    let sandbox = daypass_sandbox::start(options, Arc::clone(&clock), Arc::new(SystemEntropy)).await.unwrap();
    let settings = Settings { endpoint: Some(sandbox.url()), ..Settings::default() };
    let aws = Aws::new(Arc::new(LiveAws::new(clock, settings)));
    bench.mounted = Arc::new(daypass_sdk::Room::<Aws>::new()).mount(aws);
    let root =
        json!({ "access_key": "AKIADAYPASSSANDBOXMF", "secret_key": "sandbox/only/never/a/real/secret/key/mfa", "region": "us-east-1" });
    assert_eq!(bench.call("PUT", "config/root", root).await.status, 204);
    (bench, sandbox)
}

#[tokio::test]
async fn a_session_token_takes_the_digits_of_the_mfa_device_and_no_others() {
    let (bench, _sandbox) = user_with_mfa().await;
    let role = json!({ "credential_type": "session_token", "mfa_serial_number": "arn:aws:iam::123456789012:mfa/ops" });
    assert_eq!(bench.call("PUT", "roles/ops", role).await.status, 204);
    let right = digits(b"12345678901234567890", bench.clock.now());
    let wrong = if right == "000000" { "000001" } else { "000000" };
    let answer = bench.call("PUT", "creds/ops", json!({ "mfa_code": wrong })).await;
    assert!(answer.status == 400 && error(&answer).starts_with("Error generating STS keys: AccessDenied: "), "{answer:?}");
    let answer = bench.call("PUT", "creds/ops", json!({ "mfa_code": right, "ttl": "20m" })).await;
    assert_eq!((answer.status, &answer.body["data"]["ttl"]), (200, &json!(1200)), "{answer:?}");
    assert!(answer.body["data"]["session_token"].is_string() && answer.body["data"].get("security_token").is_none());
}

#[tokio::test]
async fn a_federated_user_is_named_within_32_characters_and_needs_a_policy() {
    let (bench, sandbox) = user_with_mfa().await;
    assert_eq!(bench.call("PUT", "roles/fed", json!({ "credential_type": "federation_token" })).await.status, 204);
    assert!(error(&bench.call("GET", "sts/fed", Value::Null).await).starts_with("must specify at least one of policy_arns"));
    let policy = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "s3:*", "Resource": "*" }] }).to_string();
    bench.call("PUT", "roles/fed", json!({ "credential_type": "federation_token", "policy_document": policy })).await;
    let answer = bench.call("GET", "sts/fed", Value::Null).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["data"]["security_token"], answer.body["data"]["session_token"]);
    assert_eq!(sandbox.control().calls().iter().filter(|call| call.action == "GetFederationToken").count(), 1);
    // The legacy policy gives both kinds, each at its own door.
    assert_eq!(bench.call("PUT", "roles/old", json!({ "policy": policy })).await.status, 200);
    assert_eq!(bench.call("GET", "sts/old", Value::Null).await.status, 200);
    let user = bench.call("GET", "creds/old", Value::Null).await;
    assert!(user.status == 200 && user.body["data"]["session_token"].is_null(), "{user:?}");
}
