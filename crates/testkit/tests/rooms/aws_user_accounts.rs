//! IAM users of one name: in two accounts, and one after the other in the same. The real client against the strict fake, where accounts matter.

use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{Aws, Call, Iam, LiveAws, Settings, StaticKeys, Target};
use daypass_base::{Clock, Secret, SystemClock, SystemEntropy};
use daypass_sandbox::{Effect, Options, Rule, Running, World};
use daypass_sdk::Timestamp;
use daypass_testkit::{Answer, Setup, TestServer};
use serde_json::{Value, json};

const ONE: &str = "111111111111";
const TWO: &str = "222222222222";

/// A server whose users have the same name each time.
struct Accounts {
    server: Arc<TestServer>,
    aws: Arc<LiveAws>,
    sandbox: Running,
}

/// The key of an account's administrator.
fn admin(account: &str) -> StaticKeys {
    let (access_key_id, secret) = (format!("AKIADMIN{account}"), format!("only/for/tests/never/a/secret/{account}"));
    StaticKeys { access_key_id, secret_access_key: Secret::from(secret.as_str()) }
}

fn world() -> World {
    let account = |id: &str| {
        let admin = admin(id);
        let keys = json!([{ "id": admin.access_key_id, "secret": admin.secret_access_key.expose() }]);
        json!({ "id": id, "users": [{ "name": "admin", "keys": keys, "attached": ["arn:aws:iam::aws:policy/AdministratorAccess"] }] })
    };
    World::from_json(&json!({ "region": "us-east-1", "accounts": [account(ONE), account(TWO)] }).to_string()).unwrap()
}

async fn accounts() -> Accounts {
    let setup = Setup::default();
    // HTTP answers carry the machine's date, and signatures are corrected by it: the simulation has to begin there.
    setup.clock().jump_to(Timestamp::from_seconds(SystemClock::new().now().seconds()));
    let clock: Arc<dyn Clock> = Arc::new(setup.clock());
    let options = Options { world: world(), ..Options::default() };
    let sandbox = daypass_sandbox::start(options, Arc::clone(&clock), Arc::new(SystemEntropy)).await.unwrap();
    let settings = Settings { endpoint: Some(sandbox.url()), ..Settings::default() };
    let aws = Arc::new(LiveAws::new(clock, settings));
    let server = setup.aws(Arc::clone(&aws) as Arc<dyn Aws>).start().await;
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    server.put("aws/roles/up", json!({ "credential_type": "iam_user" })).await.ok();
    Accounts { server: Arc::new(server), aws, sandbox }
}

impl Accounts {
    /// From now on config/root leads to this account.
    async fn lead_to(&self, account: &str) {
        let key = admin(account);
        let root = json!({
            "access_key": key.access_key_id, "secret_key": key.secret_access_key.expose(), "username_template": "ci-{{ .PolicyName }}",
        });
        self.server.put("aws/config/root", root).await.ok();
    }

    async fn minted(&self) -> Answer {
        self.server.get("aws/creds/up").await.ok()
    }

    async fn revoke(&self, minted: &Answer) -> Answer {
        self.server.put("sys/leases/revoke", json!({ "lease_id": minted.lease(), "sync": true })).await
    }

    /// Whether the key that was handed out works.
    async fn works(&self, minted: &Answer) -> bool {
        let (access_key_id, secret) = (minted.text("/data/access_key"), minted.text("/data/secret_key"));
        let keys = StaticKeys { access_key_id, secret_access_key: Secret::from(secret.as_str()) };
        let target = Target { keys: Some(keys), ..Target::default() };
        self.aws.get_caller_identity(Call::usual(&target, Duration::from_secs(10))).await.is_ok()
    }

    /// What somebody does by hand in IAM.
    async fn delete_by_hand(&self, account: &str, minted: &Answer) {
        let target = Target { keys: Some(admin(account)), ..Target::default() };
        let call = Call::usual(&target, Duration::from_secs(10));
        let key = daypass_aws::Holding::AccessKey(minted.text("/data/access_key"));
        self.aws.remove_user_holding(call, "ci-up", &key).await.unwrap();
        self.aws.delete_user(call, "ci-up").await.unwrap();
    }

    async fn users(&self, account: &str) -> usize {
        let target = Target { keys: Some(admin(account)), ..Target::default() };
        let call = Call::usual(&target, Duration::from_secs(10));
        usize::from(self.aws.get_user(call, Some("ci-up")).await.is_ok())
    }

    async fn rows(&self) -> usize {
        self.server.keys().await.into_iter().filter(|key| key.contains("/users/") || key.contains("/wal/")).count()
    }
}

/// A lease of each account, and config/root leads to the first one again.
async fn leased_in_both() -> (Accounts, Answer, Answer) {
    let it = accounts().await;
    it.lead_to(ONE).await;
    let first = it.minted().await;
    it.lead_to(TWO).await;
    let second = it.minted().await;
    it.lead_to(ONE).await;
    (it, first, second)
}

/// Story: config/root led to another account for a while, where the next build got a user of the same name. Revoking the first lease then
/// said that it was done, and the key went on working.
#[tokio::test]
async fn a_user_goes_although_another_account_had_one_of_its_name_since() {
    let (it, first, second) = leased_in_both().await;
    it.revoke(&first).await.ok();
    assert_eq!((it.users(ONE).await, it.users(TWO).await), (0, 1));
    assert!(!it.works(&first).await && it.works(&second).await);
    it.lead_to(TWO).await;
    it.revoke(&second).await.ok();
    assert_eq!((it.users(TWO).await, it.rows().await), (0, 0));
}

/// Story: the same, and the second lease was revoked while config/root led to the first account: the user of the first, which a build was
/// working with, was deleted, and the second's lived on with nobody to know it.
#[tokio::test]
async fn revoking_a_lease_deletes_no_user_of_another_account() {
    let (it, first, second) = leased_in_both().await;
    let refused = it.revoke(&second).await;
    let elsewhere =
        format!("IAM user \"ci-up\" was made in account {TWO}, and config/root leads to account {ONE} now: let it lead there again");
    assert!(refused.refused(400).contains(&elsewhere), "{}", refused.body);
    assert!(it.works(&first).await && it.works(&second).await);
    // Nor does its end, until config/root leads there again.
    it.revoke(&first).await.ok();
    it.server.seconds(61).await;
    it.revoke(&second).await.refused(400);
    it.server.put("sys/leases/lookup", json!({ "lease_id": second.lease() })).await.ok();
    it.lead_to(TWO).await;
    it.revoke(&second).await.ok();
    assert_eq!((it.users(ONE).await, it.users(TWO).await, it.rows().await), (0, 0, 0));
}

/// Story: a user that was made anew in IAM under the name of a leased one was deleted with the lease.
#[tokio::test]
async fn a_user_that_has_another_id_is_not_the_one_of_the_lease() {
    let it = accounts().await;
    it.lead_to(ONE).await;
    let first = it.minted().await;
    let target = Target { keys: Some(admin(ONE)), ..Target::default() };
    let call = Call::usual(&target, Duration::from_secs(10));
    it.delete_by_hand(ONE, &first).await;
    it.aws.create_user(call, &daypass_aws::NewUser { name: "ci-up".into(), ..daypass_aws::NewUser::default() }).await.unwrap();
    it.revoke(&first).await.ok();
    assert_eq!((it.users(ONE).await, it.rows().await), (1, 0));
    assert_eq!(it.server.put("sys/leases/lookup", json!({ "lease_id": first.lease() })).await.refused(400), "invalid lease");
    // While somebody has the name, nobody here gets it; that leaves nothing behind.
    assert!(it.server.get("aws/creds/up").await.refused(400).contains("EntityAlreadyExists"));
    assert_eq!(it.server.put("aws/config/parked-users/ci-up", Value::Null).await.status, 400);
    assert_eq!(it.rows().await, 0);
}

/// Story: deletions had places of their own for their calls, and mints at an STS that hung held those of the two calls before: who has the name, and which
/// account is asked. So nothing was taken back while they waited.
#[tokio::test]
async fn a_lease_is_revoked_while_mints_hold_every_place() {
    let it = accounts().await;
    it.lead_to(ONE).await;
    let deleted = it.minted().await;
    let role = json!({ "credential_type": "assumed_role", "role_arns": format!("arn:aws:iam::{ONE}:role/hung") });
    it.server.put("aws/roles/hung", role).await.ok();
    it.delete_by_hand(ONE, &deleted).await;
    it.server.seconds(61).await;
    let hang = Rule {
        service: None,
        action: Some("AssumeRole".to_owned()),
        effect: Effect::Delay,
        times: None,
        rate: None,
        milliseconds: 600_000,
    };
    it.sandbox.control().add(hang).unwrap();
    let mut hanging = tokio::task::JoinSet::new();
    for _ in 0..5 {
        for _ in 0..100 {
            let server = Arc::clone(&it.server);
            hanging.spawn(async move { server.get("aws/sts/hung").await });
        }
        // Until all of them have come as far as they come while time stands still: a listener has 128 connections wait, and the kernel drops the rest.
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
    }
    let clock = it.server.clock().clone();
    let target = Target { keys: Some(admin(ONE)), ..Target::default() };
    let usual = it.aws.get_caller_identity(Call::usual(&target, Duration::from_secs(1)));
    let unsent = clock.while_passing(usual).await.unwrap_err();
    assert!(unsent.message.contains("not sent"), "{unsent}");
    let began = clock.elapsed();
    clock.while_passing(it.revoke(&deleted)).await.ok();
    let took = clock.elapsed().saturating_sub(began);
    assert!(took < Duration::from_secs(5) && hanging.try_join_next().is_none(), "{took:?}");
    assert_eq!(it.rows().await, 0);
}
