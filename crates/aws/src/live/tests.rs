//! The live client against the strict fake of AWS, over loopback. Waiting is simulated where the wait is long.

use std::sync::Arc;
use std::time::Duration;

use daypass_base::sim::SimClock;
use daypass_base::{Clock, Seconds, Secret, SystemClock, SystemEntropy};
use daypass_sandbox::{Effect, Options, Rule, Running};

use super::identity::Source;
use super::{ContainerEndpoint, LiveAws, Settings};
use crate::{
    AssumeRole, Aws, Call, ErrorKind, FederationToken, Iam, NewUser, SessionToken, StaticKeys, StsEndpoint, Target, WebIdentity, WebTokens,
};

const STAGING: &str = "arn:aws:iam::111111111111:role/ecr-staging";
const LOCKED: &str = "arn:aws:iam::111111111111:role/locked";

async fn sandbox(clock: Arc<dyn Clock>) -> Running {
    daypass_sandbox::start(Options::default(), clock, Arc::new(SystemEntropy)).await.unwrap()
}

fn variable(sandbox: &Running, name: &str) -> String {
    sandbox.environment().into_iter().find(|(key, _)| key == name).unwrap().1
}

/// A client whose own identity is the sandbox's task role.
fn task(sandbox: &Running, clock: Arc<dyn Clock>) -> LiveAws {
    LiveAws::new(clock, Settings { endpoint: Some(sandbox.url()), container: Some(container(sandbox)), ..Settings::default() })
}

fn container(sandbox: &Running) -> ContainerEndpoint {
    ContainerEndpoint {
        url: variable(sandbox, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        authorization: Some(Secret::new(variable(sandbox, "AWS_CONTAINER_AUTHORIZATION_TOKEN"))),
    }
}

fn call(target: &Target) -> Call<'_> {
    Call::usual(target, Duration::from_secs(30))
}

fn wanted(role: &str) -> AssumeRole {
    let (role_arn, session_name) = (role.to_owned(), "build-42".to_owned());
    AssumeRole { role_arn, session_name, duration: Seconds(900), ..AssumeRole::default() }
}

fn root_keys() -> StaticKeys {
    let secret_access_key = Secret::from("sandbox/only/never/a/real/secret/key/000");
    StaticKeys { access_key_id: "AKIADAYPASSSANDBOX22".to_owned(), secret_access_key }
}

fn rule(action: &str, effect: Effect, times: Option<u64>) -> Rule {
    Rule { service: None, action: Some(action.to_owned()), effect, times, rate: None, milliseconds: 0 }
}

fn calls(sandbox: &Running, action: &str) -> usize {
    sandbox.control().calls().iter().filter(|call| call.action == action).count()
}

#[tokio::test]
async fn the_task_role_assumes_a_role_of_another_account() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let sandbox = sandbox(Arc::clone(&clock)).await;
    let aws = task(&sandbox, Arc::clone(&clock));
    let target = Target::default();
    let input = AssumeRole { tags: [("team".to_owned(), "build".to_owned())].into(), ..wanted(STAGING) };
    let made = aws.assume_role(call(&target), input).await.unwrap();
    assert!(made.access_key_id.starts_with("ASIA") && !made.session_token.is_empty() && !made.secret_access_key.is_empty());
    assert_eq!(made.arn.as_deref(), Some("arn:aws:sts::111111111111:assumed-role/ecr-staging/build-42"));
    let left = made.expiration.since(clock.now());
    assert!(left > Duration::from_secs(890) && left <= Duration::from_mins(15), "{left:?}");
    let own = aws.get_caller_identity(call(&target)).await.unwrap();
    assert!(own.arn.starts_with("arn:aws:sts::999999999999:assumed-role/jenkins-task/"), "{}", own.arn);
    assert_eq!(own.account, "999999999999");
}

#[tokio::test]
async fn a_denial_fails_at_once_with_awss_text_and_request_id() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let sandbox = sandbox(Arc::clone(&clock)).await;
    let aws = task(&sandbox, clock);
    let error = aws.assume_role(call(&Target::default()), wanted(LOCKED)).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str(), error.status), (ErrorKind::Denied, "AccessDenied", Some(403)));
    assert!(error.message.contains("is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::111111111111:role/locked"));
    let id = error.request_id.clone().unwrap();
    assert!(error.sdk_text().ends_with(&format!("\n\tstatus code: 403, request id: {id}")), "{error}");
    assert_eq!(calls(&sandbox, "AssumeRole"), 1, "denials are not repeated");
}

/// Story: AWS made the user and its answer was lost; the SDK asked again, was told that the user exists, and nobody knew whose it was.
#[tokio::test]
async fn a_user_and_a_key_are_asked_for_again_only_where_aws_says_that_it_did_nothing() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let sandbox = sandbox(Arc::clone(&clock)).await;
    let aws = task(&sandbox, clock);
    let target = Target { keys: Some(root_keys()), ..Target::default() };
    let user = NewUser { name: "ci".to_owned(), ..NewUser::default() };
    // What is dropped is not counted by the sandbox; a second attempt would be.
    for (action, effect, counted) in [
        ("CreateUser", Effect::Drop, 0),
        ("CreateUser", Effect::Unavailable, 1),
        ("CreateUser", Effect::Throttle, 2),
        ("CreateAccessKey", Effect::Drop, 0),
        ("CreateAccessKey", Effect::Truncate, 1),
        ("CreateAccessKey", Effect::Throttle, 2),
    ] {
        let before = calls(&sandbox, action);
        sandbox.control().add(rule(action, effect, Some(1))).unwrap();
        let failed = match action {
            "CreateUser" => aws.create_user(call(&target), &user).await.err(),
            _ => aws.create_access_key(call(&target), "ci").await.err(),
        };
        assert_eq!(calls(&sandbox, action) - before, counted, "{action} {effect:?}");
        assert_eq!(failed.map(|error| error.kind), (counted < 2).then_some(ErrorKind::Unreachable), "{action} {effect:?}");
    }
    assert_eq!(aws.get_user(call(&target), Some("ci")).await.unwrap().account, "999999999999");
    // And no more often than the configuration says.
    let once = Target { max_retries: Some(0), ..target };
    sandbox.control().add(rule("CreateAccessKey", Effect::Throttle, Some(1))).unwrap();
    assert_eq!(aws.create_access_key(call(&once), "ci").await.unwrap_err().kind, ErrorKind::Throttled);
}

#[tokio::test]
async fn chained_roles_are_capped_at_an_hour() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let sandbox = sandbox(Arc::clone(&clock)).await;
    let aws = task(&sandbox, clock);
    let input = AssumeRole { duration: Seconds(7200), ..wanted(STAGING) };
    let error = aws.assume_role(call(&Target::default()), input).await.unwrap_err();
    assert_eq!((error.kind, error.status), (ErrorKind::Malformed, Some(400)));
    assert!(error.sdk_text().starts_with("ValidationError: The requested DurationSeconds exceeds the "), "{error}");
}

#[tokio::test]
async fn an_identity_that_lives_20_seconds_is_fetched_again() {
    let clock = SimClock::at(SystemClock::new().now());
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let sandbox = sandbox(Arc::clone(&shared)).await;
    sandbox.control().set_endpoint_lifetime(Duration::from_secs(20));
    let aws = task(&sandbox, shared);
    let target = Target::default();
    let mut keys = Vec::new();
    for step in [0, 1, 24, 25] {
        clock.advance(Duration::from_secs(step));
        aws.assume_role(call(&target), wanted(STAGING)).await.unwrap();
        keys.push(sandbox.control().calls().last().unwrap().access_key_id.clone().unwrap());
    }
    assert_eq!(keys[0], keys[1], "kept while it is good");
    assert!(keys[1] != keys[2] && keys[2] != keys[3], "fetched again after its end: {keys:?}");
}

/// Story: the SDK kept the server's session for calls to IAM once more, until ten seconds before its end.
#[tokio::test]
async fn a_call_to_iam_is_signed_by_the_session_that_all_others_have() {
    let clock = SimClock::at(SystemClock::new().now());
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let sandbox = sandbox(Arc::clone(&shared)).await;
    sandbox.control().set_endpoint_lifetime(Duration::from_hours(1));
    let aws = task(&sandbox, shared);
    let target = Target::default();
    let signed_by = || sandbox.control().calls().last().unwrap().access_key_id.clone().unwrap();
    aws.get_caller_identity(call(&target)).await.unwrap();
    let first = signed_by();
    // The task role may not ask that; who asked is known.
    aws.list_group_policies(call(&target), "deployers").await.unwrap_err();
    assert_eq!(signed_by(), first);
    clock.advance(Duration::from_mins(56));
    aws.list_group_policies(call(&target), "deployers").await.unwrap_err();
    let second = signed_by();
    assert_ne!(second, first);
    aws.get_caller_identity(call(&target)).await.unwrap();
    assert_eq!(signed_by(), second);
}

#[tokio::test]
async fn an_identity_that_is_over_for_aws_is_looked_for_again_within_the_call() {
    let clock = SimClock::at(SystemClock::new().now());
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let sandbox = sandbox(Arc::clone(&shared)).await;
    // The client's clock stands still, so that it takes its credentials for good when AWS does not any more.
    let aws = task(&sandbox, Arc::new(SimClock::at(clock.now())));
    let target = Target::default();
    sandbox.control().set_endpoint_lifetime(Duration::from_mins(1));
    aws.assume_role(call(&target), wanted(STAGING)).await.unwrap();
    clock.advance(Duration::from_secs(90));
    aws.assume_role(call(&target), wanted(STAGING)).await.unwrap();
    assert_eq!(calls(&sandbox, "AssumeRole"), 3, "refused once, then made with a new identity");
}

#[tokio::test]
async fn throttling_and_failures_are_retried() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let sandbox = sandbox(Arc::clone(&clock)).await;
    let aws = task(&sandbox, clock);
    let target = Target { max_retries: Some(3), ..Target::default() };
    sandbox.control().add(rule("AssumeRole", Effect::Throttle, Some(1))).unwrap();
    sandbox.control().add(rule("AssumeRole", Effect::Unavailable, Some(1))).unwrap();
    aws.assume_role(call(&target), wanted(STAGING)).await.unwrap();
    assert_eq!(calls(&sandbox, "AssumeRole"), 3);
    sandbox.control().add(rule("AssumeRole", Effect::Throttle, None)).unwrap();
    let target = Target { max_retries: Some(0), ..Target::default() };
    let error = aws.assume_role(call(&target), wanted(STAGING)).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Throttled, "Throttling"));
    assert_eq!(calls(&sandbox, "AssumeRole"), 4, "no retries were wanted");
}

#[tokio::test]
async fn an_outage_is_unreachable_and_ends_with_the_deadline() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let sandbox = sandbox(Arc::clone(&clock)).await;
    let aws = task(&sandbox, Arc::clone(&clock));
    let nobody = StsEndpoint { url: "http://127.0.0.1:1".to_owned(), region: None };
    let target = Target { sts_endpoints: vec![nobody], max_retries: Some(0), ..Target::default() };
    let error = aws.assume_role(call(&target), wanted(STAGING)).await.unwrap_err();
    assert_eq!((error.kind, error.status), (ErrorKind::Unreachable, None));
    assert!(error.sdk_text().starts_with("RequestError: send request failed\ncaused by: "), "{error}");

    sandbox.control().add(Rule { milliseconds: 60_000, ..rule("AssumeRole", Effect::Delay, None) }).unwrap();
    let target = Target::default();
    let hurried = Call::usual(&target, Duration::from_millis(200));
    let error = aws.assume_role(hurried, wanted(STAGING)).await.unwrap_err();
    assert!(error.kind == ErrorKind::Unreachable && error.message.contains("within the 200ms left"), "{error}");
}

#[tokio::test]
async fn the_next_endpoint_is_tried_and_kept() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let sandbox = sandbox(Arc::clone(&clock)).await;
    let aws = task(&sandbox, clock);
    let endpoint = |url: String, region: &str| StsEndpoint { url, region: Some(region.to_owned()) };
    let endpoints = vec![endpoint("http://127.0.0.1:1".to_owned(), "eu-west-1"), endpoint(sandbox.url(), "us-east-1")];
    let target = Target { sts_endpoints: endpoints, max_retries: Some(0), ..Target::default() };
    aws.assume_role(call(&target), wanted(STAGING)).await.unwrap();
    let clients = aws.clients(&target).await;
    assert_eq!(clients.good.load(std::sync::atomic::Ordering::Relaxed), 1);
    let dead = vec![endpoint("http://127.0.0.1:1".to_owned(), "a"), endpoint("http://127.0.0.1:2".to_owned(), "b")];
    let target = Target { sts_endpoints: dead, max_retries: Some(0), ..Target::default() };
    let error = aws.assume_role(call(&target), wanted(STAGING)).await.unwrap_err();
    assert!(error.message.starts_with("could not obtain sts client: none of 2 endpoints answers"), "{error}");
}

#[tokio::test]
async fn an_iam_users_keys_give_federation_and_session_tokens() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let sandbox = sandbox(Arc::clone(&clock)).await;
    let aws = LiveAws::new(clock, Settings { endpoint: Some(sandbox.url()), ..Settings::default() });
    let target = Target { region: Some("us-east-1".to_owned()), keys: Some(root_keys()), ..Target::default() };
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;
    let input =
        FederationToken { name: "ci".to_owned(), duration: Seconds(900), policy: Some(policy.to_owned()), ..FederationToken::default() };
    let made = aws.get_federation_token(call(&target), input).await.unwrap();
    assert_eq!(made.arn.as_deref(), Some("arn:aws:sts::999999999999:federated-user/ci"));
    let made = aws.get_session_token(call(&target), SessionToken { duration: Seconds(900), ..SessionToken::default() }).await.unwrap();
    assert!(made.arn.is_none() && made.access_key_id.starts_with("ASIA"));
    let attached = aws.list_attached_group_policies(call(&target), "deployers").await.unwrap();
    assert_eq!(attached, ["arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPowerUser"]);
    assert_eq!(aws.list_group_policies(call(&target), "deployers").await.unwrap(), Vec::<String>::new());
    let error = aws.list_group_policies(call(&target), "nobody").await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::NotFound, "NoSuchEntity"));
}

#[tokio::test]
async fn wrong_keys_are_denied_and_forgotten_with_their_configuration() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let sandbox = sandbox(Arc::clone(&clock)).await;
    let aws = LiveAws::new(clock, Settings { endpoint: Some(sandbox.url()), ..Settings::default() });
    let keys = StaticKeys { secret_access_key: Secret::from("wrong"), ..root_keys() };
    let target = Target { keys: Some(keys), ..Target::default() };
    let error = aws.get_caller_identity(call(&target)).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Denied, "SignatureDoesNotMatch"));
    assert!(aws.clients.find(&target).is_some());
    aws.forget(&target);
    assert!(aws.clients.find(&target).is_none());
}

#[tokio::test]
async fn clients_are_bounded() {
    let aws = LiveAws::new(Arc::new(SystemClock::new()), Settings::default());
    for number in 0..(super::CLIENTS_MAX + 10) {
        let target = Target { region: Some(format!("r-{number}")), keys: Some(root_keys()), ..Target::default() };
        aws.clients(&target).await;
    }
    assert_eq!(aws.clients.count(), super::CLIENTS_MAX);
}

/// Story: each client had one for IAM, which is most of what it costs, although hardly a mount calls IAM.
#[tokio::test]
async fn a_client_for_iam_is_made_when_iam_is_called() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let sandbox = sandbox(Arc::clone(&clock)).await;
    let aws = task(&sandbox, clock);
    let target = Target { keys: Some(root_keys()), ..Target::default() };
    aws.get_caller_identity(call(&target)).await.unwrap();
    assert!(aws.clients(&target).await.iam.get().is_none());
    aws.list_group_policies(call(&target), "deployers").await.unwrap();
    assert!(aws.clients(&target).await.iam.get().is_some());
}

/// Makes no token.
struct NoTokens;

impl WebTokens for NoTokens {
    fn token(&self) -> daypass_base::BoxFuture<'_, Result<Secret<String>, String>> {
        Box::pin(std::future::ready(Err("none".to_owned())))
    }
}

/// Story: of more mounts by web identity than clients are kept each mint met a client that was new, and so asked STS for two sessions: the server's own and
/// the caller's.
#[tokio::test]
async fn a_session_by_web_identity_outlives_its_client() {
    let aws = LiveAws::new(Arc::new(SystemClock::new()), Settings::default());
    let of_mount = |number: usize| {
        let (role_arn, session_name) = (STAGING.to_owned(), "daypass".to_owned());
        let identity = WebIdentity { role_arn, session_name, name: number.to_string(), tokens: Arc::new(NoTokens) };
        Target { web_identity: Some(identity), ..Target::default() }
    };
    let first = aws.clients(&of_mount(0)).await;
    for number in 1..=super::CLIENTS_MAX {
        aws.clients(&of_mount(number)).await;
    }
    let again = aws.clients(&of_mount(0)).await;
    assert!(!Arc::ptr_eq(&first, &again) && Arc::ptr_eq(&first.keys, &again.keys));
    // AWS does not know the session any more. A caller who had the old client has seen nothing of the new one.
    aws.forget_own_identity(&of_mount(0), &again).await;
    let anew = aws.clients(&of_mount(0)).await;
    assert!(!Arc::ptr_eq(&again.keys, &anew.keys));
    aws.forget_own_identity(&of_mount(0), &first).await;
    assert!(Arc::ptr_eq(&anew.keys, &aws.clients(&of_mount(0)).await.keys));
    // The configuration was replaced.
    aws.forget(&of_mount(0));
    assert!(!Arc::ptr_eq(&anew.keys, &aws.clients(&of_mount(0)).await.keys));
    for number in 0..super::SESSIONS_MAX + 10 {
        aws.clients(&of_mount(number)).await;
    }
    assert_eq!(aws.sessions.count(), super::SESSIONS_MAX);
}

mod endpoints;
mod forwards;
mod logins;
mod network;
mod places;
mod steady;
mod web;

/// Runs one of the tests below in a process of its own, whose environment is `environment` alone.
async fn child(test: &str, environment: Vec<(String, String)>) {
    let home = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("live::tests::{test}"), "--nocapture"]).env_clear().env("HOME", home.path());
    command.env("DAYPASS_TEST_CHILD", "1").envs(environment);
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn in_child() -> bool {
    std::env::var_os("DAYPASS_TEST_CHILD").is_some()
}

#[tokio::test]
async fn the_environment_of_a_container_is_enough() {
    let sandbox = sandbox(Arc::new(SystemClock::new())).await;
    child("child_assumes_a_role", sandbox.environment()).await;
    assert_eq!(calls(&sandbox, "AssumeRole"), 1);
}

#[tokio::test]
async fn the_metadata_of_an_instance_is_enough_for_identity_and_region() {
    let sandbox = sandbox(Arc::new(SystemClock::new())).await;
    let environment = vec![
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT".to_owned(), sandbox.url()),
        ("DAYPASS_TEST_STS".to_owned(), sandbox.url()),
        ("DAYPASS_TEST_REGION".to_owned(), variable(&sandbox, "AWS_REGION")),
    ];
    child("child_assumes_a_role", environment).await;
    assert_eq!(calls(&sandbox, "AssumeRole"), 1);
}

#[tokio::test]
async fn keys_in_a_profile_are_found() {
    let sandbox = sandbox(Arc::new(SystemClock::new())).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let keys = "[ci]\naws_access_key_id = AKIADAYPASSSANDBOX22\naws_secret_access_key = sandbox/only/never/a/real/secret/key/000\n";
    std::fs::write(file.path(), keys).unwrap();
    let environment = vec![
        ("AWS_PROFILE".to_owned(), "ci".to_owned()),
        ("AWS_SHARED_CREDENTIALS_FILE".to_owned(), file.path().display().to_string()),
        ("AWS_ENDPOINT_URL_STS".to_owned(), sandbox.url()),
        ("AWS_DEFAULT_REGION".to_owned(), "eu-west-1".to_owned()),
        ("DAYPASS_TEST_REGION".to_owned(), "eu-west-1".to_owned()),
    ];
    child("child_asks_who_it_is", environment).await;
    assert_eq!(calls(&sandbox, "GetCallerIdentity"), 1);
}

#[tokio::test]
async fn without_an_identity_the_error_says_what_to_do() {
    child("child_has_no_identity", vec![("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned())]).await;
}

#[tokio::test]
async fn a_missing_ca_bundle_is_named() {
    let environment = vec![("AWS_CA_BUNDLE".to_owned(), "/nowhere/ca.pem".to_owned())];
    child("child_has_no_trust", environment).await;
}

#[tokio::test]
async fn child_assumes_a_role() {
    if !in_child() {
        return;
    }
    let aws = LiveAws::new(Arc::new(SystemClock::new()), Settings::default());
    let endpoint = std::env::var("DAYPASS_TEST_STS").ok().map(|url| StsEndpoint { url, region: None });
    let target = Target { sts_endpoints: endpoint.into_iter().collect(), ..Target::default() };
    let made = aws.assume_role(call(&target), wanted(STAGING)).await.unwrap();
    assert!(made.arn.unwrap().ends_with("assumed-role/ecr-staging/build-42"));
    if let Ok(region) = std::env::var("DAYPASS_TEST_REGION") {
        assert_eq!(aws.base(Source::Own).await.config.region().unwrap().as_ref(), region);
    }
}

#[tokio::test]
async fn child_asks_who_it_is() {
    if !in_child() {
        return;
    }
    let aws = LiveAws::new(Arc::new(SystemClock::new()), Settings::default());
    let own = aws.get_caller_identity(call(&Target::default())).await.unwrap();
    assert_eq!(own.arn, "arn:aws:iam::999999999999:user/daypass-root");
    assert_eq!(aws.base(Source::Own).await.config.region().unwrap().as_ref(), std::env::var("DAYPASS_TEST_REGION").unwrap());
}

#[tokio::test]
async fn child_has_no_identity() {
    if !in_child() {
        return;
    }
    let aws =
        LiveAws::new(Arc::new(SystemClock::new()), Settings { endpoint: Some("http://127.0.0.1:1".to_owned()), ..Settings::default() });
    let error = aws.get_caller_identity(call(&Target::default())).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::NoIdentity, "NoCredentialProviders"), "{error}");
    assert_eq!(aws.base(Source::Own).await.config.region().unwrap().as_ref(), "us-east-1");
}

#[tokio::test]
async fn child_has_no_trust() {
    if !in_child() {
        return;
    }
    let endpoint = Some("https://127.0.0.1:1".to_owned());
    let aws = LiveAws::new(Arc::new(SystemClock::new()), Settings { endpoint, ..Settings::default() });
    let target = Target { keys: Some(root_keys()), ..Target::default() };
    let error = aws.get_caller_identity(call(&target)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.message.contains("/nowhere/ca.pem") && error.message.contains("AWS_CA_BUNDLE"), "{error}");
}
