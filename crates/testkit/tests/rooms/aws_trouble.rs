//! Minting while AWS is in trouble: the whole server, the real client, and the strict fake of AWS over loopback, on one simulated clock.

use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{ContainerEndpoint, LiveAws, Settings};
use daypass_base::sim::SeededEntropy;
use daypass_base::{Clock, Secret, SystemClock};
use daypass_sandbox::{Effect, Options, Rule, Running};
use daypass_testkit::{Setup, TestServer};
use serde_json::json;

const CALLERS: usize = 20;

async fn server() -> (Arc<TestServer>, Running) {
    let setup = Setup::default();
    let clock = setup.clock();
    // Answers of AWS carry the machine's date, by which signatures are put right.
    clock.jump_to(SystemClock::new().now());
    let shared: Arc<dyn Clock> = Arc::new(clock);
    let sandbox = daypass_sandbox::start(Options::default(), Arc::clone(&shared), Arc::new(SeededEntropy::new(21))).await.unwrap();
    let variable = |name: &str| sandbox.environment().into_iter().find(|(key, _)| key == name).unwrap().1;
    let container = ContainerEndpoint {
        url: variable("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        authorization: Some(Secret::new(variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"))),
    };
    let settings = Settings { endpoint: Some(sandbox.url()), container: Some(container), ..Settings::default() };
    let aws = Arc::new(LiveAws::drawing(shared, Arc::new(SeededEntropy::new(22)), settings));
    let server = setup.aws(aws).start().await;
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    for role in ["ecr-staging", "locked"] {
        let arn = format!("arn:aws:iam::111111111111:role/{role}");
        server.put(&format!("aws/roles/{role}"), json!({ "credential_type": "assumed_role", "role_arns": arn })).await.ok();
    }
    (Arc::new(server), sandbox)
}

fn calls(sandbox: &Running) -> Vec<Option<String>> {
    let all = sandbox.control().calls();
    all.into_iter().filter(|call| call.action == "AssumeRole").map(|call| call.error).collect()
}

#[tokio::test]
async fn half_of_the_calls_throttled_and_five_seconds_for_the_rest_fail_no_caller() {
    let (server, sandbox) = server().await;
    let rule = |effect, rate, milliseconds| Rule {
        service: Some("sts".to_owned()),
        action: Some("AssumeRole".to_owned()),
        effect,
        times: None,
        rate,
        milliseconds,
    };
    sandbox.control().add(rule(Effect::Throttle, Some(0.5), 0)).unwrap();
    sandbox.control().add(rule(Effect::Delay, None, 5_000)).unwrap();
    let clock = server.clock().clone();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { server.get("aws/sts/ecr-staging").await })
        })
        .collect();
    let all = async {
        for caller in callers {
            let answer = caller.await.unwrap();
            assert_eq!(answer.status, 200, "{:?}", answer.body);
        }
    };
    clock.while_passing(all).await;
    let made = calls(&sandbox);
    let refused = made.iter().filter(|error| error.is_some()).count();
    assert_eq!(made.len() - refused, CALLERS, "each caller has one credential");
    assert!(refused > 0 && refused < 3 * CALLERS, "retries are bounded: {refused}");
}

/// Story: STS was asked again until the request's own 90 seconds were over. Vault's clients give up after 60, and nobody was told that AWS throttled;
/// and they ask three times within those 60.
#[tokio::test]
async fn who_is_throttled_all_the_time_is_told_before_clients_give_up() {
    let (server, sandbox) = server().await;
    let throttle = Rule {
        service: Some("sts".to_owned()),
        action: Some("AssumeRole".to_owned()),
        effect: Effect::Throttle,
        times: None,
        rate: None,
        milliseconds: 0,
    };
    sandbox.control().add(throttle).unwrap();
    let clock = server.clock().clone();
    let began = clock.elapsed();
    let answer = clock.while_passing(server.get("aws/sts/ecr-staging").into_future()).await;
    let took = clock.elapsed().saturating_sub(began).as_secs();
    assert!(answer.refused(502).contains("Error assuming role: Throttling"), "{:?}", answer.body);
    assert!((10..=18).contains(&took), "{took}");
}

/// Story: all calls to AWS shared 512 places. Requests to a mount whose STS did not answer held each of them for ten seconds, and mints of every other mount
/// waited in one line with them.
#[tokio::test]
async fn an_sts_that_hangs_holds_up_no_other_mount() {
    let (server, _sandbox) = server().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    server.put("sys/mounts/hole", json!({ "type": "aws" })).await.ok();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    server.put("hole/config/root", json!({ "sts_endpoint": endpoint, "sts_region": "us-east-1" })).await.ok();
    let arn = "arn:aws:iam::111111111111:role/h";
    server.put("hole/roles/h", json!({ "credential_type": "assumed_role", "role_arns": arn })).await.ok();
    // So that the server's own identity is there.
    server.get("aws/sts/ecr-staging").await.ok();
    let mut hanging = tokio::task::JoinSet::new();
    for _ in 0..700 {
        let server = Arc::clone(&server);
        hanging.spawn(async move { server.get("hole/sts/h").await });
    }
    // Until all of them have come as far as they come while time stands still.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    let clock = server.clock().clone();
    let began = clock.elapsed();
    clock.while_passing(server.get("aws/sts/ecr-staging").into_future()).await.ok();
    let took = clock.elapsed().saturating_sub(began);
    // After 3.1 s the first of them give up, since nobody takes their connections.
    assert!(took < Duration::from_secs(3) && hanging.try_join_next().is_none(), "{took:?}");
}

/// Story: a mint that found a full line at an STS that hung was told 400, which clients do not try again, and the fallback of its mount was not asked.
#[tokio::test]
async fn a_mint_that_finds_a_full_line_goes_to_the_fallback_or_may_come_again() {
    let (server, sandbox) = server().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut root = json!({ "sts_endpoint": format!("http://{}", silent.local_addr().unwrap()), "sts_region": "us-east-1" });
    for mount in ["hole", "wise"] {
        server.put(&format!("sys/mounts/{mount}"), json!({ "type": "aws" })).await.ok();
        server.put(&format!("{mount}/config/root"), root.clone()).await.ok();
        let role = json!({ "credential_type": "assumed_role", "role_arns": "arn:aws:iam::111111111111:role/ecr-staging" });
        server.put(&format!("{mount}/roles/h"), role).await.ok();
        root["sts_fallback_endpoints"] = json!(sandbox.url());
        root["sts_fallback_regions"] = json!("us-east-1");
    }
    // So that the server's own identity is there.
    server.get("aws/sts/ecr-staging").await.ok();
    let mut hanging = tokio::task::JoinSet::new();
    for _ in 0..=384 + 640 {
        let server = Arc::clone(&server);
        hanging.spawn(async move { server.get("hole/sts/h").await });
    }
    // Time stands still, so only one that found the line full is answered.
    let refused = hanging.join_next().await.unwrap().unwrap();
    assert!(refused.refused(502).contains("not sent: 640 calls to it wait already: try again in a few seconds"), "{}", refused.body);
    server.get("wise/sts/h").await.ok();
    assert!(hanging.try_join_next().is_none(), "no time went by");
}

/// Story: an operator revoked a build's token and then ended its role's sessions. The build's mint had waited for AWS meanwhile: it was answered after both, with a
/// session that was younger than the ban.
#[tokio::test]
async fn a_mint_that_outlasts_its_token_is_not_handed_out() {
    let (server, sandbox) = server().await;
    let rule = Rule {
        service: None,
        action: Some("AssumeRole".to_owned()),
        effect: Effect::Delay,
        times: Some(2),
        rate: None,
        milliseconds: 5_000,
    };
    sandbox.control().add(rule).unwrap();
    server.policy("mint", r#"path "aws/sts/*" { capabilities = ["read"] } path "auth/token/create" { capabilities = ["update"] }"#).await;
    let parent = server.token(json!({ "policies": ["mint"] })).await;
    let batch = server.put("auth/token/create", json!({ "type": "batch", "policies": ["mint"] })).token(&parent).await.ok().token();
    let minting: Vec<_> = [&parent, &batch].map(|token| tokio::spawn(server.get("aws/sts/ecr-staging").token(token).into_future())).into();
    // Until both wait for AWS, while time stands still.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    server.put("auth/token/revoke", json!({ "token": parent })).await.ok();
    let clock = server.clock().clone();
    for minting in minting {
        let answer = clock.while_passing(minting).await.unwrap();
        assert_eq!(answer.refused(400), "the token ended before its secret was handed out");
    }
    assert_eq!(calls(&sandbox), [None, None], "AWS made both");
}

#[tokio::test]
async fn a_refusal_is_told_at_once() {
    let (server, sandbox) = server().await;
    let answer = server.get("aws/sts/locked").await;
    assert_eq!(answer.status, 400, "{:?}", answer.body);
    assert_eq!(calls(&sandbox), [Some("AccessDenied".to_owned())], "asked once");
}
