//! The engine over the live client and the strict fake of AWS: the main story, and what goes wrong in it.

use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{ContainerEndpoint, LiveAws, Settings};
use daypass_base::{Clock, SystemClock, SystemEntropy};
use daypass_sandbox::{Effect, Options, Rule, Running};
use daypass_sdk::{Secret, Timestamp};
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
