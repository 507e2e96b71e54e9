//! A whole fake without HTTP for the tests of all services, and the tests of authentication.

use daypass_base::sim::{SeededEntropy, SimClock};
use http_body_util::BodyExt;
use std::time::Duration;

use super::*;
use crate::control::{Effect, Rule};
use crate::sigv4::percent_encode;
use crate::sigv4::tests::{Signer, request};
use crate::world::World;

pub(crate) const STAGING: &str = "arn:aws:iam::111111111111:role/ecr-staging";

/// The fake with a clock that stands still.
pub(crate) struct Fake {
    pub(crate) cloud: Cloud,
    pub(crate) clock: SimClock,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self::with(&World::default())
    }

    pub(crate) fn from_json(world: &serde_json::Value) -> Self {
        Self::with(&World::from_json(&world.to_string()).unwrap())
    }

    pub(crate) fn with(world: &World) -> Self {
        let clock = SimClock::default();
        let entropy = Arc::new(SeededEntropy::new(42));
        let state = world.build(entropy.as_ref(), clock.now(), 3600).unwrap();
        let cloud = Cloud::new(state, Sealer::new(entropy).unwrap(), Arc::new(clock.clone()), Control::default(), 900);
        Self { cloud, clock }
    }

    /// Credentials of a role as the container endpoint would give them out.
    pub(crate) fn task(&self) -> Signer {
        let (_, credential) = crate::sts::service_session(
            &self.cloud,
            "arn:aws:iam::999999999999:role/jenkins-task",
            "ecs-tasks.amazonaws.com",
            "task-1",
            self.clock.now(),
            900,
        )
        .unwrap();
        Signer::new(&credential.key_id, credential.secret.expose(), Some(credential.token.expose()), "sts")
    }

    #[expect(clippy::unused_self, reason = "reads like its sibling, `task`")]
    pub(crate) fn root(&self, service: &str) -> Signer {
        Signer::new("AKIADAYPASSSANDBOX22", "sandbox/only/never/a/real/secret/key/000", None, service)
    }

    /// Status and body of a query-protocol call.
    pub(crate) async fn call(&self, signer: &Signer, params: &[(&str, &str)]) -> (u16, String) {
        let version = match signer.service.as_str() {
            "ec2" => "2016-11-15",
            "iam" => "2010-05-08",
            _ => "2011-06-15",
        };
        let pairs = params.iter().copied().chain([("Version", version)]);
        let body = pairs.map(|(name, value)| format!("{}={}", percent_encode(name), percent_encode(value))).collect::<Vec<_>>().join("&");
        self.send(&signer.post(&body, None, self.clock.now())).await
    }

    pub(crate) async fn json(&self, signer: &Signer, target: &str, body: &str) -> (u16, serde_json::Value) {
        let (status, text) = self.send(&signer.post(body, Some(target), self.clock.now())).await;
        (status, serde_json::from_str(&text).unwrap())
    }

    pub(crate) async fn send(&self, request: &Request) -> (u16, String) {
        match self.cloud.answer(request).await {
            Outcome::Reply(reply) => read(reply).await,
            Outcome::Drop => (0, String::new()),
        }
    }
}

pub(crate) async fn read(reply: Reply) -> (u16, String) {
    let status = reply.status().as_u16();
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// The text of the first element with this name, entities undone.
pub(crate) fn field(xml: &str, tag: &str) -> String {
    let rest = xml.split_once(&format!("<{tag}>")).unwrap_or_else(|| panic!("no {tag} in {xml}")).1;
    quick_xml::escape::unescape(rest.split_once(&format!("</{tag}>")).unwrap().0).unwrap().into_owned()
}

/// The credentials in an answer.
pub(crate) fn credentials(xml: &str, service: &str) -> Signer {
    Signer::new(&field(xml, "AccessKeyId"), &field(xml, "SecretAccessKey"), Some(&field(xml, "SessionToken")), service)
}

/// Asserts a refusal with this code whose message has this part.
pub(crate) fn refused((status, body): &(u16, String), expected: u16, code: &str, part: &str) {
    assert_eq!((*status, field(body, "Code").as_str()), (expected, code), "{body}");
    assert!(field(body, "Message").contains(part), "{part:?} is not in {body}");
}

const WHO: [(&str, &str); 1] = [("Action", "GetCallerIdentity")];

#[tokio::test]
async fn callers_are_who_their_keys_say() {
    let fake = Fake::new();
    let (status, body) = fake.call(&fake.task(), &WHO).await;
    assert_eq!((status, field(&body, "Arn").as_str()), (200, "arn:aws:sts::999999999999:assumed-role/jenkins-task/task-1"));
    assert!(field(&body, "UserId").ends_with(":task-1"));
    let (_, body) = fake.call(&fake.root("sts"), &WHO).await;
    assert_eq!(field(&body, "Arn"), "arn:aws:iam::999999999999:user/daypass-root");
}

#[tokio::test]
async fn wrong_keys_and_tokens_are_refused_as_aws_does() {
    let fake = Fake::new();
    let good = fake.task();
    refused(
        &fake.call(&Signer { secret: "x".to_owned(), ..good.clone() }, &WHO).await,
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated",
    );
    refused(
        &fake.call(&Signer { token: None, ..good.clone() }, &WHO).await,
        403,
        "InvalidClientTokenId",
        "security token included in the request is invalid",
    );
    refused(&fake.call(&Signer { token: Some("FwoG".to_owned()), ..good.clone() }, &WHO).await, 403, "InvalidClientTokenId", "");
    refused(&fake.call(&Signer { token: fake.task().token, ..good.clone() }, &WHO).await, 403, "InvalidClientTokenId", "");
    refused(&fake.call(&Signer::new("AKIAIOSFODNN7EXAMPLE", "x", None, "sts"), &WHO).await, 403, "InvalidClientTokenId", "");
    let with_token = Signer { token: good.token.clone(), ..fake.root("sts") };
    refused(&fake.call(&with_token, &WHO).await, 403, "InvalidClientTokenId", "");
    refused(
        &fake.send(&request("POST", "/", "", &[("host", "h")], "Action=GetCallerIdentity&Version=2011-06-15")).await,
        403,
        "MissingAuthenticationToken",
        "Request is missing Authentication Token",
    );
    let (status, body) = fake
        .json(
            &Signer { secret: "x".to_owned(), service: "ecr".to_owned(), ..good.clone() },
            "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
            "{}",
        )
        .await;
    assert_eq!((status, body["__type"].as_str()), (400, Some("InvalidSignatureException")));
    fake.clock.advance(Duration::from_secs(899));
    assert_eq!(fake.call(&good, &WHO).await.0, 200);
    fake.clock.advance(Duration::from_secs(1));
    refused(&fake.call(&good, &WHO).await, 403, "ExpiredToken", "The security token included in the request is expired");
}

#[tokio::test]
async fn scopes_must_exist_and_fit_the_host() {
    let fake = Fake::new();
    let good = fake.task();
    refused(
        &fake.call(&Signer { region: "mars".to_owned(), ..good.clone() }, &WHO).await,
        403,
        "SignatureDoesNotMatch",
        "Credential should be scoped to a valid region, not 'mars'. ",
    );
    refused(&fake.call(&Signer { service: "s3".to_owned(), ..good.clone() }, &WHO).await, 400, "InvalidAction", "not 's3'");
    assert_eq!(fake.call(&Signer { region: "eu-central-1".to_owned(), ..good.clone() }, &WHO).await.0, 200);
    for (host, service, region, good) in [
        ("sts.amazonaws.com", "sts", "us-east-1", true),
        ("sts.amazonaws.com", "sts", "eu-west-1", false),
        ("sts.eu-west-1.amazonaws.com:443", "sts", "eu-west-1", true),
        ("api.ecr.eu-west-1.amazonaws.com", "ecr", "eu-west-1", true),
        ("iam.amazonaws.com", "sts", "us-east-1", false),
        ("sts.cn-north-1.amazonaws.com.cn", "sts", "cn-north-1", true),
        ("localhost", "sts", "ap-southeast-2", true),
    ] {
        let mut request = fake.task().post("", None, fake.clock.now());
        request.host = host.to_owned();
        let mut presented = sigv4::read(&request).unwrap().unwrap();
        (presented.region, presented.service) = (region.to_owned(), service.to_owned());
        assert_eq!(check_scope(&request, &presented, Service::named(service).unwrap()).is_ok(), good, "{host} {service} {region}");
    }
    for (text, good) in [
        ("us-east-1", true),
        ("us-gov-west-1", true),
        ("us-east", false),
        ("", false),
        ("US-EAST-1", false),
        ("us--1", false),
        ("us-east-12", false),
    ] {
        assert_eq!(is_region(text), good, "{text}");
    }
}

#[tokio::test]
async fn unknown_actions_and_versions_are_refused() {
    let fake = Fake::new();
    refused(
        &fake.call(&fake.task(), &[("Action", "Dance")]).await,
        400,
        "InvalidAction",
        "Could not find operation Dance for version 2011-06-15",
    );
    refused(
        &fake.call(&fake.root("iam"), &[("Action", "Dance")]).await,
        400,
        "InvalidAction",
        "Could not find operation Dance for version 2010-05-08",
    );
    refused(&fake.call(&fake.task(), &[("A", "b")]).await, 400, "MissingAction", "");
    let old = fake.task().post("Action=GetCallerIdentity&Version=2009-01-01", None, fake.clock.now());
    refused(&fake.send(&old).await, 400, "InvalidAction", "for version 2009-01-01");
}

#[tokio::test]
async fn disturbances_hit_the_calls_that_they_name() {
    let fake = Fake::new();
    let rule = |effect, milliseconds| Rule {
        service: Some("sts".to_owned()),
        action: Some("GetCallerIdentity".to_owned()),
        effect,
        times: Some(1),
        rate: None,
        milliseconds,
    };
    for effect in [Effect::Throttle, Effect::Unavailable, Effect::InternalFailure, Effect::Drop] {
        fake.cloud.control.add(rule(effect, 0)).unwrap();
    }
    refused(&fake.call(&fake.task(), &WHO).await, 400, "Throttling", "Rate exceeded");
    refused(&fake.call(&fake.task(), &WHO).await, 503, "ServiceUnavailable", "");
    refused(&fake.call(&fake.task(), &WHO).await, 500, "InternalFailure", "");
    assert_eq!(fake.call(&fake.task(), &WHO).await.0, 0);
    fake.cloud.control.add(rule(Effect::Delay, 250)).unwrap();
    let task = fake.task();
    let waiting = fake.call(&task, &WHO);
    let (answer, ()) = tokio::join!(waiting, async { fake.clock.advance(Duration::from_millis(250)) });
    assert_eq!(answer.0, 200);
    let errors: Vec<_> = fake.cloud.control.calls().into_iter().map(|call| call.error).collect();
    assert_eq!(errors, [Some("Throttling".to_owned()), Some("ServiceUnavailable".to_owned()), Some("InternalFailure".to_owned()), None]);
}

#[test]
fn request_ids_look_like_random_uuids() {
    assert_eq!(request_id(&[0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
}

#[tokio::test]
async fn caches_stay_bounded() {
    let fake = Fake::new();
    for number in 0..CACHE_MAX + 10 {
        let session = Arc::new(Session::begin(
            &fake.cloud.sealer,
            "111111111111",
            Bearer::User { user: String::new(), user_id: String::new() },
            fake.clock.now(),
            fake.clock.now(),
        ));
        let credential = session.credential(&fake.cloud.sealer).unwrap();
        fake.cloud.session(&credential.key_id, credential.token.expose()).unwrap();
        let presented =
            sigv4::read(&Signer::new(&format!("K{number}"), "s", None, "sts").post("", None, fake.clock.now())).unwrap().unwrap();
        fake.cloud.signing_key(&presented, String::new);
    }
    assert!(fake.cloud.sessions.lock().len() <= CACHE_MAX && fake.cloud.signing_keys.lock().len() <= CACHE_MAX);
}

mod ecr {
    use super::*;
    use data_encoding::BASE64;
    use serde_json::json;

    const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";

    async fn staging(fake: &Fake, service: &str) -> Signer {
        let (_, body) = fake.call(&fake.task(), &[("Action", "AssumeRole"), ("RoleArn", STAGING), ("RoleSessionName", "build-1")]).await;
        credentials(&body, service)
    }

    async fn verify(fake: &Fake, query: &str, header: &str) -> (u16, Option<String>) {
        let reply = crate::ecr::verify(&fake.cloud, &request("GET", "/_sandbox/ecr/verify", query, &[("authorization", header)], ""));
        let account = reply.headers().get("x-account").map(|value| value.to_str().unwrap().to_owned());
        (read(reply).await.0, account)
    }

    #[tokio::test]
    async fn passwords_are_given_and_verified_until_they_expire() {
        let fake = Fake::new();
        let (status, body) = fake.json(&staging(&fake, "ecr").await, TARGET, "{}").await;
        let data = &body["authorizationData"][0];
        assert_eq!((status, data["proxyEndpoint"].as_str()), (200, Some("https://111111111111.dkr.ecr.us-east-1.amazonaws.com")));
        assert_eq!(data["expiresAt"], fake.clock.now().seconds() + 43_200);
        let header = format!("Basic {}", data["authorizationToken"].as_str().unwrap());
        assert_eq!(verify(&fake, "", &header).await, (200, Some("111111111111".to_owned())));
        assert_eq!(verify(&fake, "account=111111111111&action=ecr:PutImage&repository=app", &header).await.0, 200);
        assert_eq!(verify(&fake, "account=222222222222", &header).await.0, 403);
        assert_eq!(verify(&fake, "action=iam:GetUser", &header).await.0, 403);
        for bad in [
            "",
            "Basic",
            "Basic !!",
            "Bearer x",
            &format!("Basic {}", BASE64.encode(b"AWS:secret")),
            &format!("Basic {}", BASE64.encode(b"root:secret")),
        ] {
            assert_eq!(verify(&fake, "", bad).await.0, 401, "{bad}");
        }
        fake.clock.advance(Duration::from_hours(12));
        assert_eq!(verify(&fake, "", &header).await.0, 401);
    }

    #[tokio::test]
    async fn permission_is_needed_and_errors_are_json() {
        let fake = Fake::new();
        let (status, body) = fake.json(&Signer { service: "ecr".to_owned(), ..fake.task() }, TARGET, "{}").await;
        assert_eq!((status, body["__type"].as_str()), (400, Some("AccessDeniedException")));
        assert_eq!(
            body["message"],
            "User: arn:aws:sts::999999999999:assumed-role/jenkins-task/task-1 is not authorized to perform: ecr:GetAuthorizationToken on resource: * because no identity-based policy allows the ecr:GetAuthorizationToken action"
        );
        let signer = staging(&fake, "ecr").await;
        for (target, body, code) in [
            ("X.DescribeRepositories", "{}", "UnknownOperationException"),
            (TARGET, "{", "SerializationException"),
            (TARGET, r#"{"registryIds":["1"]}"#, "InvalidParameterException"),
        ] {
            let (status, answer) = fake.json(&signer, target, body).await;
            assert_eq!((status, answer["__type"].as_str()), (400, Some(code)));
        }
        let (_, answer) = fake.json(&signer, TARGET, &json!({"registryIds": ["222222222222"]}).to_string()).await;
        assert!(answer["authorizationData"][0]["proxyEndpoint"].as_str().unwrap().contains("222222222222"));
        let (status, answer) = fake.json(&fake.root("ecr-public"), "SpencerFrontendService.GetAuthorizationToken", "{}").await;
        assert!(status == 200 && answer["authorizationData"]["authorizationToken"].is_string());
        let task = Signer { service: "ecr-public".to_owned(), ..fake.task() };
        let (_, answer) = fake.json(&task, "SpencerFrontendService.GetAuthorizationToken", "{}").await;
        assert_eq!(answer["__type"], "AccessDeniedException");
    }
}
