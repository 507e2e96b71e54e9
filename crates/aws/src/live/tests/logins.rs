//! Registry logins, the console, and sessions shorter than AWS's: calls that go past the SDK's own clients.

use super::*;
use crate::{AuthorizationToken, ConsoleVisit, DescribeInstance, Ec2, Ecr, PUBLIC_REGISTRY, SignIn};

fn here() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

#[tokio::test]
async fn keys_of_the_target_log_in_to_registries() {
    let sandbox = sandbox(here()).await;
    let aws = task(&sandbox, here());
    let target = Target { keys: Some(root_keys()), region: Some("eu-west-1".to_owned()), ..Target::default() };
    let registry_ids = vec!["111111111111".to_owned(), "222222222222".to_owned()];
    let made =
        aws.get_authorization_token(call(&target), AuthorizationToken { registry_ids, ..AuthorizationToken::default() }).await.unwrap();
    assert_eq!(made.access_key_id, "AKIADAYPASSSANDBOX22");
    let hosts: Vec<&str> = made.logins.iter().map(|login| login.proxy_endpoint.as_str()).collect();
    assert_eq!(hosts, ["https://111111111111.dkr.ecr.eu-west-1.amazonaws.com", "https://222222222222.dkr.ecr.eu-west-1.amazonaws.com"]);
    assert!(made.logins.iter().all(|login| login.password.expose().len() > 100));
    let public = aws.get_authorization_token(call(&target), AuthorizationToken { public: true, ..AuthorizationToken::default() }).await;
    assert_eq!(public.unwrap().logins[0].proxy_endpoint, PUBLIC_REGISTRY);
}

#[tokio::test]
async fn a_login_without_an_answer_ends_with_the_deadline() {
    let clock = SimClock::at(SystemClock::new().now());
    let aws = LiveAws::new(Arc::new(clock), Settings { endpoint: Some("http://127.0.0.1:1".to_owned()), ..Settings::default() });
    let target = Target { keys: Some(root_keys()), max_retries: Some(0), ..Target::default() };
    let error = aws.get_authorization_token(call(&target), AuthorizationToken::default()).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Unreachable, "RequestError"));
}

#[tokio::test]
async fn a_roles_session_opens_the_console_and_a_users_does_not() {
    let sandbox = sandbox(here()).await;
    let aws = task(&sandbox, here());
    let target = Target::default();
    let visit = |session| ConsoleVisit {
        session,
        endpoint: "https://signin.aws.amazon.com/federation".to_owned(),
        destination: "https://console.aws.amazon.com/ecr/home?region=eu-west-1".to_owned(),
        issuer: String::new(),
        duration: None,
    };
    let session = aws.assume_role(call(&target), wanted(STAGING)).await.unwrap();
    let url = aws.sign_in(call(&target), visit(session.clone())).await.unwrap();
    let start = format!(
        "{}/federation?Action=login&Destination=https%3A%2F%2Fconsole.aws.amazon.com%2Fecr%2Fhome%3Fregion%3Deu-west-1&SigninToken=",
        sandbox.url()
    );
    assert!(url.expose().starts_with(&start), "{}", url.expose());
    let chained = ConsoleVisit { duration: Some(Seconds(3600)), ..visit(session) };
    let error = aws.sign_in(call(&target), chained).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.status), ("SigninRefused", Some(400)));
    let keys = Target { keys: Some(root_keys()), ..Target::default() };
    let user = aws.get_session_token(call(&keys), SessionToken { duration: Seconds(900), ..SessionToken::default() }).await.unwrap();
    assert_eq!(aws.sign_in(call(&keys), visit(user)).await.unwrap_err().code, "SigninRefused");
}

#[tokio::test]
async fn sessions_are_as_short_as_the_sandbox_allows() {
    let options = Options { session_min: Some(Duration::from_secs(20)), ..Options::default() };
    let sandbox = daypass_sandbox::start(options, here(), Arc::new(SystemEntropy)).await.unwrap();
    let mut aws = task(&sandbox, here());
    let short = |seconds| AssumeRole { duration: Seconds(seconds), ..wanted(STAGING) };
    let target = Target::default();
    assert!(aws.assume_role(call(&target), short(20)).await.unwrap_err().message.contains("minimum field value of 900"));
    aws.settings.session_min = Some(Seconds(20));
    let made = aws.assume_role(call(&target), short(20)).await.unwrap();
    assert!(made.expiration.since(here().now()) <= Duration::from_secs(20));
    assert!(aws.assume_role(call(&target), short(19)).await.unwrap_err().message.contains("minimum field value of 20"));
}

#[tokio::test]
async fn an_instance_is_described_where_it_is() {
    let sandbox = sandbox(here()).await;
    let seed = r#"{"id": "i-0123456789abcdef0", "region": "eu-west-1", "vpc": "vpc-1", "profile": "arn:aws:iam::999999999999:instance-profile/p",
                   "tags": {"VaultRole": "v1:a&b<c"}}"#;
    sandbox.set_instance("999999999999", serde_json::from_str(seed).unwrap()).unwrap();
    let aws = task(&sandbox, here());
    let target = Target { keys: Some(root_keys()), ..Target::default() };
    let wanted = DescribeInstance { id: "i-0123456789abcdef0", region: "eu-west-1", endpoint: None };
    let found = aws.describe_instance(call(&target), wanted).await.unwrap().unwrap();
    assert_eq!((found.state.as_str(), found.account.as_str(), found.vpc.as_str()), ("running", "999999999999", "vpc-1"));
    assert_eq!((found.tags["VaultRole"].as_str(), found.subnet.as_str()), ("v1:a&b<c", ""));
    let elsewhere = DescribeInstance { region: "us-east-1", ..wanted };
    let error = aws.describe_instance(call(&target), elsewhere).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::NotFound, "InvalidInstanceID.NotFound"));
    // The task role may not ask.
    let error = aws.describe_instance(call(&Target::default()), wanted).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Denied, "UnauthorizedOperation"));
}
