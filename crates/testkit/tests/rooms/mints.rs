//! The mint ledger: which caller got which access key, before and after a restart, and for how long that is known.

use std::time::Duration;

use daypass_aws::Made;
use daypass_storage::evil::Fault;
use daypass_storage::{Key, Space};
use daypass_testkit::{Answer, Setup, TestServer};
use serde_json::json;

use crate::full::over_evil;
use crate::revoking::damage;
use crate::seal::stopped_and_started;

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.mount_aws("aws").await;
    server
}

async fn minted(server: &TestServer) -> String {
    server.get("aws/sts/deploy").await.ok().text("/data/access_key")
}

#[tokio::test]
async fn an_access_key_leads_to_the_caller_that_got_it() {
    let server = server().await;
    server.policy("ci", r#"path "aws/*" { capabilities = ["read"] }"#).await;
    server.put("sys/auth/approle", json!({ "type": "approle" })).await.ok();
    server.put("auth/approle/role/jenkins", json!({ "token_policies": "ci" })).await.ok();
    let role_id = server.get("auth/approle/role/jenkins/role-id").await.ok().text("/data/role_id");
    let secret = server.put("auth/approle/role/jenkins/secret-id", json!({ "metadata": "{\"job\":\"nightly\"}" })).await.ok();
    let login = json!({ "role_id": role_id, "secret_id": secret.text("/data/secret_id") });
    let token = server.put("auth/approle/login", login).nobody().await.ok().token();
    let answer = server.get("aws/sts/deploy").token(&token).from("10.1.2.3").await.ok();
    let key = answer.text("/data/access_key");
    let known = server.get(&format!("sys/mints/{key}")).await.ok();
    assert_eq!(known["data"]["claims"]["job"], json!("nightly"));
    assert_eq!((known.text("/data/display_name"), known.text("/data/path")), ("approle".into(), "aws/sts/deploy".into()));
    assert_eq!((known.text("/data/remote_address"), known.text("/data/lease_id")), ("10.1.2.3".into(), answer.lease()));
    assert_eq!((known["data"]["live"].clone(), known.number("/data/ttl")), (json!(true), 3600));
    assert!(known.text("/data/facts/session_name").starts_with("vault-approle-deploy-"), "{known:?}");
    assert!(!known.body.to_string().contains("fake-secret"), "{known:?}");
    assert_eq!(server.get("sys/mints/ASIANOBODY").await.status, 404);
    assert_eq!(
        server.get(&format!("sys/mints/{key}")).token(&token).await.status,
        403,
        "the key's owner may not ask unless policy lets it"
    );
}

#[tokio::test]
async fn the_ledger_survives_a_restart_and_fills_rows_of_many() {
    let server = server().await;
    let mut keys = Vec::new();
    for _ in 0..150 {
        keys.push(minted(&server).await);
    }
    // One for the writer to see that there is something, one for what gathers until then.
    server.seconds(1).await;
    server.seconds(1).await;
    let server = server.restart().await;
    keys.push(minted(&server).await);
    for key in [&keys[0], &keys[63], &keys[64], &keys[149], &keys[150]] {
        assert_eq!(server.get(&format!("sys/mints/{key}")).await.ok().text("/data/access_key_id"), **key);
    }
    server.seconds(1).await;
    let rows = server.keys().await.into_iter().filter(|key| key.contains("core/mints/rows/")).count();
    assert!((3..=5).contains(&rows), "{rows} rows hold 151 mints");
}

/// Story: what a sealed server still has to write is written a moment after the seal, and a server that was stopped within that moment did not wait.
#[tokio::test]
async fn mints_are_in_the_ledger_after_a_seal_and_a_stop() {
    let server = server().await;
    let key = minted(&server).await;
    server.put("sys/seal", json!({})).await.ok();
    let server = stopped_and_started(server).await;
    server.unseal().await;
    assert_eq!(server.get(&format!("sys/mints/{key}")).await.ok().text("/data/access_key_id"), key);
}

/// Story: the ledger waited for the next mint where its write had failed. On a disk that was full for a second, mints lay in memory for hours, and after a kill
/// `daypass whois` said that nobody had got their keys.
#[tokio::test]
async fn what_could_not_be_written_is_written_when_there_is_room_again() {
    let (server, evil) = over_evil(Setup::default()).await;
    server.mount_aws("aws").await;
    server.seconds(1).await;
    evil.at_next_write(Fault::Full);
    let key = minted(&server).await;
    server.seconds(1).await;
    server.seconds(1).await;
    evil.heal();
    server.seconds(11).await;
    let server = server.restart().await;
    assert_eq!(server.get(&format!("sys/mints/{key}")).await.ok().text("/data/access_key_id"), key);
}

#[tokio::test]
async fn a_mint_is_forgotten_ninety_days_after_its_end() {
    let server = server().await;
    let key = minted(&server).await;
    server.seconds(3600).await;
    let over = server.get(&format!("sys/mints/{key}")).await.ok();
    assert_eq!((over["data"]["live"].clone(), over.number("/data/ttl")), (json!(false), 0));
    // Another row is begun, so that the first is whole.
    let server = server.restart().await;
    server.advance(Duration::from_hours(24 * 90 - 2)).await;
    server.seconds(1).await;
    server.get(&format!("sys/mints/{key}")).await.ok();
    server.advance(Duration::from_hours(4)).await;
    server.seconds(1).await;
    assert_eq!(server.get(&format!("sys/mints/{key}")).await.status, 404);
    assert_eq!(server.keys().await.into_iter().filter(|key| key.contains("core/mints/")).count(), 0);
}

/// Story: one damaged row of the ledger ended `daypass whois` for every key, and for good: the tidying passed it over.
#[tokio::test]
async fn a_damaged_row_of_the_ledger_hides_no_other_and_goes_when_its_time_is_over() {
    let (mut server, evil) = over_evil(Setup::default()).await;
    server.mount_aws("aws").await;
    let (mut minted_keys, mut rows) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        minted_keys.push(minted(&server).await);
        server.seconds(1).await;
        server.seconds(1).await;
        // Each process begins a row of its own.
        server = server.restart().await;
        let stored = server.rows(Space::Config).await.into_iter().map(|(key, _)| key).filter(|key| key.starts_with(b"core/mints/keys/"));
        rows = stored.collect::<Vec<_>>();
    }
    let whois = async |number: usize| server.get(&format!("sys/mints/{}", minted_keys[number])).await;
    let spoil = async |row: &[u8], of: &str| {
        let name = String::from_utf8_lossy(row).replace("/keys/", of);
        damage(&**evil.inner(), Key::new(Space::Config, name.into_bytes())).await;
    };
    spoil(&rows[0], "/keys/").await;
    server.advance(Duration::from_hours(24 * 90 - 2)).await;
    server.seconds(1).await;
    for number in [0, 1, 2] {
        let known = whois(number).await.ok();
        assert_eq!(
            (known.text("/data/access_key_id"), &known["warnings"]),
            (minted_keys[number].clone(), &json!(null)),
            "its mints are whole"
        );
    }
    spoil(&rows[0], "/rows/").await;
    let known = whois(1).await.ok();
    assert!(known["warnings"][0].as_str().unwrap().starts_with("1 rows of the ledger are damaged: "), "{known:?}");
    spoil(&rows[1], "/rows/").await;
    for number in [0, 1] {
        let told = whois(number).await;
        assert!(told.refused(500).contains("rows of the ledger are damaged and may have told of it"), "{}", told.body);
    }
    whois(2).await.ok();
    server.advance(Duration::from_hours(4)).await;
    server.seconds(1).await;
    assert_eq!((whois(0).await.status, whois(2).await.status), (404, 404));
    assert_eq!(server.keys().await.into_iter().filter(|key| key.contains("core/mints/")).count(), 0);
}

/// Story: only the end that a lease had at first was looked at. After a renewal a key that works was not live, after a revocation a deleted
/// one was; and the ledger forgot keys that were leased still.
#[tokio::test]
async fn the_key_of_an_iam_user_is_live_while_its_lease_is() {
    let server = server().await;
    server.put("aws/roles/user", json!({ "credential_type": "iam_user" })).await.ok();
    server.put("aws/config/lease", json!({ "lease": "1h", "lease_max": "3000h" })).await.ok();
    server.put("sys/mounts/aws/tune", json!({ "max_lease_ttl": "3000h" })).await.ok();
    let answer = server.get("aws/creds/user").await.ok();
    let (key, lease) = (answer.text("/data/access_key"), answer.lease());
    let known = async || server.get(&format!("sys/mints/{key}")).await.ok();
    server.seconds(3_000).await;
    server.put("sys/leases/renew", json!({ "lease_id": lease, "increment": 3_600 })).await.ok();
    server.seconds(3_000).await;
    let renewed = known().await;
    assert_eq!((renewed["data"]["live"].clone(), renewed.number("/data/ttl")), (json!(true), 600), "{renewed:?}");
    // Far behind its first end and the retention: it is leased still.
    for _ in 0..100 {
        server.put("sys/leases/renew", json!({ "lease_id": lease, "increment": 25 * 3_600 })).await.ok();
        server.advance(Duration::from_hours(24)).await;
    }
    let server = server.restart().await;
    server.seconds(1).await;
    let known = async || server.get(&format!("sys/mints/{key}")).await.ok();
    assert_eq!(known().await["data"]["live"], json!(true));
    server.put("sys/leases/revoke", json!({ "lease_id": lease })).await.ok();
    let revoked = known().await;
    assert_eq!((revoked["data"]["live"].clone(), revoked.number("/data/ttl")), (json!(false), 0), "{revoked:?}");
}

#[tokio::test]
async fn a_credential_that_was_handed_out_again_shows_each_time() {
    let server = server().await;
    let role = json!({ "credential_type": "assumed_role", "role_arns": "arn:aws:iam::111111111111:role/x", "reuse_window": "2m" });
    server.put("aws/roles/shared", role).await.ok();
    let key = server.get("aws/sts/shared").await.ok().text("/data/access_key");
    server.seconds(2).await;
    assert_eq!(server.get("aws/sts/shared").await.ok().text("/data/access_key"), key);
    let known = server.get(&format!("sys/mints/{key}")).await.ok();
    let uses = known["data"]["uses"].as_array().unwrap();
    assert_eq!((uses.len(), uses[0]["facts"]["reused"].clone(), uses[1]["facts"].get("reused")), (2, json!("true"), None));
}

/// Story: a credential that was handed out a hundred times had lost its maker: whoever came a hundred times before the last was named, in the short
/// answer of whois too, and as many times were counted as were shown. What lay in the oldest pages alone was found.
#[tokio::test]
async fn the_maker_of_a_credential_is_named_however_often_it_is_handed_out() {
    let server = server().await;
    let role = json!({ "credential_type": "assumed_role", "role_arns": "arn:aws:iam::111111111111:role/x", "reuse_window": "10h", "reuse_min_ttl": "1s" });
    server.put("aws/roles/shared", role).await.ok();
    let get = async |from: &str| server.get("aws/sts/shared").from(from).await.ok().text("/data/access_key");
    let key = get("10.0.0.1").await;
    server.seconds(1).await;
    for number in 0..200 {
        assert_eq!(get("10.0.0.2").await, key);
        if number % 70 == 0 {
            server.seconds(1).await;
        }
    }
    server.seconds(1).await;
    assert_eq!(get("10.0.0.3").await, key);
    let known = async |server: &TestServer| server.get(&format!("sys/mints/{key}")).await.ok();
    let check = |known: &Answer| {
        let uses = known["data"]["uses"].as_array().unwrap();
        assert_eq!((known.text("/data/remote_address"), known.number("/data/uses_total"), uses.len()), ("10.0.0.1".into(), 202, 100));
        assert_eq!((uses[0]["remote_address"].clone(), uses[99]["remote_address"].clone()), (json!("10.0.0.3"), json!("10.0.0.1")));
        assert!(known.text("/warnings/0").contains("handed out 202 times"), "{known:?}");
    };
    check(&known(&server).await);
    server.seconds(1).await;
    server.seconds(1).await;
    check(&known(&server.restart().await).await);
}

/// Story: every reader of a shared login stood in the ledger as if the login had been made for it.
#[tokio::test]
async fn of_a_registry_login_that_is_shared_the_first_reader_is_the_maker() {
    let server = server().await;
    server.put("sys/mounts/ecr", json!({ "type": "ecr" })).await.ok();
    server.put("ecr/roles/app", json!({ "role_arn": "arn:aws:iam::111111111111:role/ecr-push", "region": "eu-west-1" })).await.ok();
    server.get("ecr/creds/app").from("10.0.0.1").await.ok();
    server.seconds(1).await;
    server.get("ecr/creds/app").from("10.0.0.2").await.ok();
    let Some(Made::AuthorizationToken(asked)) = server.aws().made().pop() else { panic!("ECR was asked last") };
    let known = server.get(&format!("sys/mints/{}", asked.session.unwrap())).await.ok();
    let uses = known["data"]["uses"].as_array().unwrap();
    assert_eq!((uses[0]["facts"]["reused"].clone(), uses[1]["facts"].get("reused")), (json!("true"), None));
    assert_eq!((known.text("/data/remote_address"), known.number("/data/uses_total")), ("10.0.0.1".to_owned(), 2));
}

/// Story: the ledger had the end of the lease, which a batch token or the mount may end sooner than AWS ends the credential: a credential that AWS
/// accepted for hours was not live, and its mint was forgotten so much too early.
#[tokio::test]
async fn a_credential_is_live_for_as_long_as_aws_accepts_it() {
    let server = server().await;
    server.operator().await;
    let parent = server.token(json!({ "policies": ["everything"], "ttl": "10h" })).await;
    let batch = server.put("auth/token/create", json!({ "type": "batch", "ttl": "10m" })).token(&parent).await.ok().token();
    let of_batch = server.get("aws/sts/deploy").token(&batch).await.ok();
    assert_eq!((of_batch.number("/lease_duration"), of_batch.number("/data/ttl")), (600, 3600));
    server.put("sys/mounts/ecr", json!({ "type": "ecr", "config": { "max_lease_ttl": "10m" } })).await.ok();
    server.put("ecr/roles/app", json!({ "role_arn": "arn:aws:iam::111111111111:role/ecr-push", "region": "eu-west-1" })).await.ok();
    let login = server.get("ecr/creds/app").await.ok();
    assert_eq!((login.number("/lease_duration"), login.number("/data/ttl")), (600, 43_200));
    let Some(Made::AuthorizationToken(asked)) = server.aws().made().pop() else { panic!("ECR was asked last") };
    server.put("aws/roles/long", json!({ "credential_type": "assumed_role", "role_arns": "arn:aws:iam::111111111111:role/x", "max_sts_ttl": "4h", "default_sts_ttl": "4h" })).await.ok();
    server.put("sys/mounts/aws/tune", json!({ "max_lease_ttl": "10m", "default_lease_ttl": "10m" })).await.ok();
    let capped = server.get("aws/sts/long").await.ok();
    assert_eq!((capped.number("/lease_duration"), capped.number("/data/ttl")), (600, 14_400));

    server.seconds(900).await;
    let lives = [(of_batch.text("/data/access_key"), 2_700), (asked.session.unwrap(), 42_300), (capped.text("/data/access_key"), 13_500)];
    for (key, left) in &lives {
        let known = server.get(&format!("sys/mints/{key}")).await.ok();
        assert_eq!((known["data"]["live"].clone(), known.number("/data/ttl")), (json!(true), *left), "{known:?}");
    }
    server.put("sys/leases/lookup", json!({ "lease_id": of_batch.lease() })).await.refused(400);
    server.seconds(42_300).await;
    for (key, _) in &lives {
        assert_eq!(server.get(&format!("sys/mints/{key}")).await.ok()["data"]["live"], json!(false));
    }
}
