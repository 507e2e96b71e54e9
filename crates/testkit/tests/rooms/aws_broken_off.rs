//! Connections that break in the middle of an answer: AWS did what it was asked, and nobody knows it. The real client against the strict fake.

use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{Call, Iam, LiveAws, Settings, StaticKeys, Target};
use daypass_base::{Clock, Secret, SystemClock, SystemEntropy};
use daypass_sandbox::{Effect, Options, Rule, Running};
use daypass_sdk::Timestamp;
use daypass_testkit::{Setup, TestServer};
use serde_json::{Value, json};

const ROOT_USER: &str = "daypass-root";
const ROOT_KEY: &str = "AKIADAYPASSSANDBOX22";
const ROOT_SECRET: &str = "sandbox/only/never/a/real/secret/key/000";

struct Broken {
    server: TestServer,
    sandbox: Running,
    /// AWS as an administrator sees it.
    aws: Arc<LiveAws>,
    admin: Target,
}

async fn broken() -> Broken {
    let setup = Setup::default();
    setup.clock().jump_to(Timestamp::from_seconds(SystemClock::new().now().seconds()));
    let clock: Arc<dyn Clock> = Arc::new(setup.clock());
    let sandbox = daypass_sandbox::start(Options::default(), Arc::clone(&clock), Arc::new(SystemEntropy)).await.unwrap();
    let settings = Settings { endpoint: Some(sandbox.url()), ..Settings::default() };
    let aws = Arc::new(LiveAws::new(clock, settings));
    let server = setup.aws(Arc::clone(&aws) as Arc<dyn daypass_aws::Aws>).start().await;
    let admin = StaticKeys { access_key_id: ROOT_KEY.to_owned(), secret_access_key: Secret::from(ROOT_SECRET) };
    let admin = Target { keys: Some(admin), ..Target::default() };
    let it = Broken { server, sandbox, aws, admin };
    it.server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    it.server.put("sys/auth/aws", json!({ "type": "aws" })).await.ok();
    it
}

impl Broken {
    fn breaks(&self, action: &str) {
        let rule =
            Rule { service: None, action: Some(action.to_owned()), effect: Effect::Truncate, times: Some(1), rate: None, milliseconds: 0 };
        self.sandbox.control().add(rule).unwrap();
    }

    fn call(&self) -> Call<'_> {
        Call::usual(&self.admin, Duration::from_secs(10))
    }

    async fn keys(&self, user: &str) -> Vec<String> {
        self.aws.list_access_keys(self.call(), user).await.unwrap().into_iter().map(|key| key.id).collect()
    }

    async fn minutes(&self, minutes: u64) {
        for _ in 0..minutes {
            self.server.seconds(60).await;
        }
    }

    /// A user of its own that mounts work with, made by an administrator, and its key.
    async fn user(&self, name: &str) -> Value {
        let user = daypass_aws::NewUser { name: name.to_owned(), ..daypass_aws::NewUser::default() };
        self.aws.create_user(self.call(), &user).await.unwrap();
        let may = daypass_aws::UserGrant::Managed("arn:aws:iam::aws:policy/AdministratorAccess".to_owned());
        self.aws.grant_user(self.call(), name, &may).await.unwrap();
        let key = self.aws.create_access_key(self.call(), name).await.unwrap();
        json!({ "access_key": key.id, "secret_key": key.secret.expose() })
    }
}

/// Story: the answer that broke off had the status 200, which was read as "AWS refused": the note of what was made was thrown away.
#[tokio::test]
async fn a_user_whose_making_broke_off_is_deleted() {
    let it = broken().await;
    it.server.put("aws/config/root", json!({ "access_key": ROOT_KEY, "secret_key": ROOT_SECRET })).await.ok();
    it.server.put("aws/roles/ci", json!({ "credential_type": "iam_user" })).await.ok();
    it.breaks("CreateUser");
    let failed = it.server.get("aws/creds/ci").await;
    assert!(failed.status >= 400 && failed.body.to_string().contains("Error creating IAM user"), "{failed:?}");
    let made = it.sandbox.control().calls().into_iter().find(|call| call.action == "CreateUser").unwrap();
    assert_eq!(made.error, None, "AWS made it");
    it.minutes(7).await;
    let gone = it.aws.get_user(it.call(), made.user_name.as_deref()).await.unwrap_err();
    assert_eq!(gone.code, "NoSuchEntity");
    let answer = it.server.get("aws/creds/ci").await.ok();
    it.breaks("CreateAccessKey");
    assert!(it.server.get("aws/creds/ci").await.status >= 400);
    it.minutes(7).await;
    let users = it.sandbox.control().calls().into_iter().filter(|call| call.action == "CreateUser").filter_map(|call| call.user_name);
    let mut left = Vec::new();
    for user in users {
        if it.aws.get_user(it.call(), Some(&user)).await.is_ok() {
            left.push(user);
        }
    }
    let leased = it.server.get(&format!("sys/mints/{}", answer.text("/data/access_key"))).await.ok().text("/data/facts/user_name");
    assert_eq!(left, [leased]);
}

/// Story: as above; and as a user has two keys at most, the key that nobody knew made every later rotation fail.
#[tokio::test]
async fn a_root_key_whose_making_broke_off_is_deleted_and_can_be_replaced_then() {
    for (configuration, rotate) in
        [("aws/config/root", "aws/config/rotate-root"), ("auth/aws/config/client", "auth/aws/config/rotate-root")]
    {
        let it = broken().await;
        let key = it.user("mount").await;
        it.server.put(configuration, key.clone()).await.ok();
        it.breaks("CreateAccessKey");
        let failed = it.server.put(rotate, Value::Null).await;
        assert!(failed.status >= 400 && failed.body.to_string().contains("CreateAccessKey"), "{failed:?}");
        assert_eq!(it.keys("mount").await.len(), 2, "AWS made it");
        it.minutes(7).await;
        assert_eq!(it.keys("mount").await, [key["access_key"].as_str().unwrap()]);
        it.server.put(rotate, Value::Null).await.ok();
        assert_eq!(it.keys("mount").await.len(), 1);
    }
}

#[tokio::test]
async fn a_static_key_whose_making_broke_off_is_deleted() {
    let it = broken().await;
    it.server.put("aws/config/root", json!({ "access_key": ROOT_KEY, "secret_key": ROOT_SECRET })).await.ok();
    let by_hand = it.user("legacy").await;
    it.breaks("CreateAccessKey");
    let role = json!({ "username": "legacy", "rotation_period": "24h" });
    assert!(it.server.put("aws/static-roles/legacy", role.clone()).await.status >= 400);
    assert_eq!(it.keys("legacy").await.len(), 2);
    it.minutes(7).await;
    assert_eq!(it.keys("legacy").await, [by_hand["access_key"].as_str().unwrap()]);
    it.server.put("aws/static-roles/legacy", role).await.ok();
    assert!(it.keys("legacy").await.contains(&it.server.get("aws/static-creds/legacy").await.ok().text("/data/access_key")));
    assert_eq!(it.keys(ROOT_USER).await, [ROOT_KEY]);
}
