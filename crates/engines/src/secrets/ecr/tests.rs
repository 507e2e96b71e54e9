//! The engine over the live client and the strict fake of AWS; what happens over time is told in the rooms of the testkit.

use std::sync::Arc;

use daypass_aws::{ContainerEndpoint, LiveAws, Login, Logins, Settings, Skew};
use daypass_base::sim::waits;
use daypass_base::{Clock, SystemClock, SystemEntropy};
use daypass_sandbox::{Effect, Options, Rule, Running};
use daypass_sdk::{Endpoint, Engine, Operation, Room, Seconds, Secret, Timestamp};
use serde_json::{Value, json};

use super::Ecr;
use super::config_root::Config;
use super::held::{Got, Handed, Held, Want};
use super::role::Role;
use crate::secrets::revoked::Revoked;
use crate::testing::{Answer, Bench};

const STAGING: &str = "arn:aws:iam::111111111111:role/ecr-staging";

/// Stands in while the clock of the bench is taken for the client.
struct Placeholder;

impl Engine for Placeholder {
    const SUMMARY: &'static str = "";
    fn endpoints() -> Vec<Endpoint<Self>> {
        Vec::new()
    }
}

/// A mount whose server runs as the sandbox's task role. Everything shares the bench's clock.
async fn bench() -> (Bench, Running) {
    let mut bench = Bench::new(Placeholder, "ecr/", "ecr");
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
    bench.mounted = Arc::new(Room::<Ecr>::new()).mount(Ecr::beside(Arc::new(LiveAws::new(clock, settings)), Arc::default()));
    (bench, sandbox)
}

async fn write(bench: &Bench, path: &str, fields: Value) {
    let answer = bench.call("PUT", path, fields).await;
    assert_eq!(answer.status, 204, "{answer:?}");
}

fn error(answer: &Answer) -> &str {
    answer.body["errors"][0].as_str().unwrap_or_default()
}

fn calls(sandbox: &Running, action: &str) -> usize {
    sandbox.control().calls().iter().filter(|call| call.action == action && call.error.is_none()).count()
}

#[tokio::test]
async fn a_role_gives_a_login_to_its_accounts_registry_with_no_key_configured_anywhere() {
    let (bench, sandbox) = bench().await;
    write(&bench, "roles/app", json!({ "role_arn": STAGING })).await;
    let answer = bench.call("GET", "creds/app", Value::Null).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let data = &answer.body["data"];
    assert_eq!((&data["username"], &data["ttl"]), (&json!("AWS"), &json!(43_200)));
    assert_eq!(data["registry"], "111111111111.dkr.ecr.us-east-1.amazonaws.com");
    assert_eq!(data["proxy_endpoint"], "https://111111111111.dkr.ecr.us-east-1.amazonaws.com");
    assert!(data["password"].as_str().unwrap().len() > 100 && data.get("registries").is_none());
    assert_eq!(
        sandbox.control().calls().last().unwrap().caller.as_deref(),
        Some("arn:aws:sts::111111111111:assumed-role/ecr-staging/daypass-ecr-app")
    );
    for _ in 0..5 {
        assert_eq!(bench.call("GET", "creds/app", Value::Null).await.body["data"]["password"], data["password"]);
    }
    assert_eq!((calls(&sandbox, "AssumeRole"), calls(&sandbox, "GetAuthorizationToken")), (1, 1));
}

#[tokio::test]
async fn several_registries_and_other_partitions_have_their_own_names() {
    let (bench, _sandbox) = bench().await;
    let registries = ["222222222222", "111111111111"];
    write(&bench, "roles/both", json!({ "role_arn": STAGING, "registries": registries.join(","), "region": "eu-west-1" })).await;
    let data = bench.call("GET", "creds/both", Value::Null).await.body["data"].clone();
    assert_eq!(data["registry"], "222222222222.dkr.ecr.eu-west-1.amazonaws.com");
    let hosts: Vec<&str> = data["registries"].as_array().unwrap().iter().map(|one| one["registry"].as_str().unwrap()).collect();
    assert_eq!(hosts, ["222222222222.dkr.ecr.eu-west-1.amazonaws.com", "111111111111.dkr.ecr.eu-west-1.amazonaws.com"]);
    let text = bench.call("GET", "creds/both?format=dockerconfigjson", Value::Null).await.body["data"]["dockerconfigjson"].clone();
    let config: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    let login = &config["auths"][hosts[1]];
    let pair = data_encoding::BASE64.decode(login["auth"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(String::from_utf8(pair).unwrap(), format!("AWS:{}", login["password"].as_str().unwrap()));
    write(&bench, "config/root", json!({ "region": "cn-north-1", "access_key": "AKIADAYPASSSANDBOX22", "secret_key": KEY })).await;
    write(&bench, "roles/own", json!({})).await;
    let data = bench.call("GET", "creds/own", Value::Null).await.body["data"].clone();
    assert_eq!(data["registry"], "999999999999.dkr.ecr.cn-north-1.amazonaws.com.cn");
}

const KEY: &str = "sandbox/only/never/a/real/secret/key/000";

#[tokio::test]
async fn the_public_registry_is_one_for_all() {
    let (bench, _sandbox) = bench().await;
    write(&bench, "roles/public", json!({ "role_arn": STAGING, "public": true })).await;
    write(&bench, "config/root", json!({ "region": "eu-west-1" })).await;
    let answer = bench.call("GET", "creds/public", Value::Null).await;
    assert_eq!((answer.status, &answer.body["data"]["registry"]), (200, &json!("public.ecr.aws")), "{answer:?}");
}

#[tokio::test]
async fn throttles_are_tried_again_and_refusals_come_back_as_awss_text() {
    let (bench, sandbox) = bench().await;
    write(&bench, "roles/app", json!({ "role_arn": STAGING })).await;
    let rule =
        |effect, times| Rule { service: Some("ecr".to_owned()), action: None, effect, times: Some(times), rate: None, milliseconds: 0 };
    sandbox.control().add(rule(Effect::Throttle, 2)).unwrap();
    // The pauses between attempts are simulated.
    let answer = bench.clock.while_passing(bench.call("GET", "creds/app", Value::Null)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    write(&bench, "roles/own", json!({})).await;
    let answer = bench.call("GET", "creds/own", Value::Null).await;
    assert_eq!(answer.status, 400);
    assert!(
        error(&answer).starts_with("Error getting a login from ECR: AccessDeniedException: User: arn:aws:sts::999999999999"),
        "{answer:?}"
    );
    write(&bench, "roles/locked", json!({ "role_arn": "arn:aws:iam::111111111111:role/locked" })).await;
    let answer = bench.call("GET", "creds/locked", Value::Null).await;
    assert!(error(&answer).starts_with("Error assuming role: AccessDenied: "), "{answer:?}");
}

#[tokio::test]
async fn a_role_that_cannot_work_is_refused_with_all_its_faults() {
    let (bench, _sandbox) = bench().await;
    for (fields, told) in [
        (json!({ "role_arn": "ecr-push" }), "names no partition of AWS"),
        (json!({ "role_arn": "arn:aws:iam::1:role/x" }), "is no ARN of an IAM role"),
        (json!({ "role_arn": STAGING, "region": "cn-north-1" }), "region cn-north-1 is not in the partition aws of role_arn"),
        (json!({ "region": "eu/west" }), "is no name of a region"),
        (json!({ "external_id": "x" }), "set role_arn too; external_id has 1 characters"),
        (json!({ "registries": "12" }), "registries has \"12\": an AWS account number has 12 digits"),
        (json!({ "public": true, "region": "eu-west-1" }), "has no ECR Public"),
        (json!({ "public": true, "registries": "111111111111" }), "ECR Public has one for all"),
        (json!({ "min_ttl": "12h" }), "min_ttl 43200s is over the limit of 39600s"),
        (json!({ "registries": "111111111111", "registry_ids": "111111111111" }), "the same field"),
    ] {
        let answer = bench.call("PUT", "roles/app", fields.clone()).await;
        assert!(answer.status == 400 && error(&answer).contains(told), "{fields}: {answer:?}");
    }
    assert_eq!(bench.call("GET", "roles/app", Value::Null).await.status, 404);
    let answer = bench.call("GET", "creds/app", Value::Null).await;
    assert_eq!((answer.status, error(&answer)), (400, "Role \"app\" not found: write it to ecr/roles/app first"));
    assert_eq!(bench.call("PUT", "config/root", json!({ "access_key": "AKIA" })).await.status, 400);
}

/// Story: one reader wanted a login of ten hours while AWS hung, and all readers of the role waited with it, although a login that was good enough for them lay in
/// memory.
#[tokio::test]
async fn whoever_a_kept_login_is_good_enough_for_waits_for_nobody() {
    let (bench, _sandbox) = bench().await;
    let cx = bench.cx("creds/app", Operation::Read);
    let plan = Role::default().plan(&cx, "app", &Config::default());
    let (held, revoked) = (Held::default(), Revoked::default());
    let want = |hours: u64| Want { role: "app", plan: &plan, clock: cx.clock.as_ref(), at_least: Seconds(hours * 3600) };
    let got = || {
        let login =
            Login { password: Secret::from("p"), proxy_endpoint: "https://r".to_owned(), expires: bench.clock.now() + Seconds(12 * 3600) };
        Got::new(Logins { access_key_id: "A".to_owned(), logins: vec![login] }, None, bench.clock.moment(), Skew::default())
    };
    let first = held.login(want(1), &revoked, async { Ok(got()) }).await;
    assert!(matches!(first, Ok(Handed::First(_))));
    bench.advance(4 * 3600);
    let mut long = Box::pin(held.login(want(10), &revoked, std::future::pending()));
    let mut longer = Box::pin(held.login(want(11), &revoked, async { Ok(got()) }));
    assert!(waits(&mut long) && waits(&mut longer));
    assert!(!waits(&mut Box::pin(held.login(want(8), &revoked, std::future::pending()))));
    // Who gives up lets the next one ask.
    drop(long);
    assert!(matches!(longer.await, Ok(Handed::First(_))));
    assert!(!waits(&mut Box::pin(held.login(want(10), &revoked, std::future::pending()))));
}
