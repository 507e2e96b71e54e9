//! Registry logins: who shares one, how long it is handed out, and what stands of it in the records.

use std::time::Duration;

use daypass_aws::Made;
use daypass_testkit::TestServer;
use serde_json::{Value, json};

const PUSH: &str = "arn:aws:iam::111111111111:role/ecr-push";

async fn ecr() -> TestServer {
    let server = TestServer::start().await;
    server.put("sys/mounts/ecr", json!({ "type": "ecr" })).await.ok();
    server.put("ecr/roles/app", json!({ "role_arn": PUSH, "region": "eu-west-1" })).await.ok();
    server
}

/// How often a role was assumed, and how often ECR was asked.
fn calls(server: &TestServer) -> (usize, usize) {
    let made = server.aws().made();
    let assumed = made.iter().filter(|made| matches!(made, Made::AssumeRole(..))).count();
    (assumed, made.iter().filter(|made| matches!(made, Made::AuthorizationToken(_))).count())
}

#[tokio::test]
async fn a_login_says_how_long_it_lasts_and_its_lease_says_the_same() {
    let server = ecr().await;
    let (keys, entries) = (server.keys().await, server.expiry_entries().await);
    let login = server.get("ecr/creds/app").await.ok();
    assert_eq!((login.number("/lease_duration"), login["renewable"].clone(), login.number("/data/ttl")), (43_200, json!(false), 43_200));
    assert_eq!(login.text("/data/expires_at"), "2026-01-02T15:04:05Z");
    assert_eq!((login.text("/data/username"), login.text("/mount_type")), ("AWS".to_owned(), "ecr".to_owned()));
    assert!(login.lease().starts_with("ecr/creds/app/"));
    assert_eq!((server.keys().await, server.expiry_entries().await), (keys, entries));
    let seen = server.put("sys/leases/lookup", json!({ "lease_id": login.lease() })).await.ok();
    assert_eq!(seen.number("/data/ttl"), 43_200);
    assert_eq!(server.put("sys/leases/renew", json!({ "lease_id": login.lease() })).await.refused(400), "lease is not renewable");
    server.put("sys/mounts/ecr/tune", json!({ "max_lease_ttl": "1h" })).await.ok();
    let capped = server.get("ecr/creds/app").await.ok();
    assert_eq!((capped.number("/lease_duration"), capped.number("/data/ttl")), (3600, 43_200));
    assert!(capped.text("/warnings/0").contains("exceeded the effective max_ttl of \"1h\""), "{}", capped.body);
}

#[tokio::test]
async fn one_login_serves_until_too_little_of_it_is_left() {
    let server = ecr().await;
    server.put("ecr/roles/app", json!({ "min_ttl": "1h" })).await.ok();
    let password = server.get("ecr/creds/app").await.ok().text("/data/password");
    server.seconds(11 * 3600).await;
    let later = server.put("ecr/creds/app", json!({})).await.ok();
    assert_eq!((later.text("/data/password"), later.number("/data/ttl")), (password.clone(), 3600));
    server.seconds(1).await;
    let renewed = server.get("ecr/creds/app").await.ok();
    assert!(renewed.text("/data/password") != password && renewed.number("/data/ttl") == 43_200);
    assert_eq!(calls(&server), (2, 2));
    server.seconds(2 * 3600).await;
    assert_eq!(server.get("ecr/creds/app?min_ttl=11h").await.ok().number("/data/ttl"), 43_200);
    assert_eq!(calls(&server), (3, 3));
    assert!(server.get("ecr/creds/app?min_ttl=12h").await.refused(400).contains("over the limit of 39600s"));
}

/// Story: a login was handed out until an hour of it was left. Builds log in once and push at their end: who came late to one and took longer than an hour died
/// there, though all that was written down said twelve hours.
#[tokio::test]
async fn a_build_of_eleven_hours_can_push_at_its_end() {
    let server = ecr().await;
    assert_eq!(server.get("ecr/roles/app").await.ok().number("/data/min_ttl"), 39_600);
    let first = server.get("ecr/creds/app").await.ok().text("/data/password");
    let read = async || {
        let login = server.get("ecr/creds/app").await.ok();
        (login.text("/data/password") == first, login.number("/data/ttl"))
    };
    server.seconds(59 * 60).await;
    assert_eq!(read().await, (true, 11 * 3600 + 60), "a burst of builds shares one");
    server.seconds(2 * 60).await;
    assert_eq!(read().await, (false, 12 * 3600), "of the first one 10 h 59 are left");
    assert_eq!(calls(&server), (2, 2));
    // A role that was written with the former hour keeps it, whatever else is written to it.
    server.put("ecr/roles/app", json!({ "min_ttl": "1h" })).await.ok();
    server.put("ecr/roles/app", json!({ "session_tags": { "team": "build" } })).await.ok();
    assert_eq!(server.get("ecr/roles/app").await.ok().number("/data/min_ttl"), 3600);
}

/// Story: with a min_ttl of zero a login that was over was handed out for ever.
#[tokio::test]
async fn a_login_that_is_over_is_never_handed_out() {
    let server = ecr().await;
    server.put("ecr/roles/app", json!({ "min_ttl": 0 })).await.ok();
    for _ in 0..2 {
        assert_eq!(server.get("ecr/creds/app").await.ok().number("/data/ttl"), 43_200);
        server.seconds(43_200).await;
    }
    assert_eq!(calls(&server), (2, 2));
}

#[tokio::test]
async fn a_thousand_readers_at_once_make_one_call_and_share_its_failure_too() {
    let server = ecr().await;
    server.aws().slow_logins(Duration::from_secs(2));
    for wanted in [400, 200] {
        if wanted == 400 {
            server.aws().refuse_login("AccessDeniedException", "User is not authorized", 400);
        }
        let before = calls(&server).1;
        let reads = (0..1000).map(|_| server.get("ecr/creds/app").into_future());
        let reads = async {
            let mut all = tokio::task::JoinSet::new();
            for read in reads {
                all.spawn(read);
            }
            all.join_all().await
        };
        let (answers, ()) = tokio::join!(reads, async {
            for _ in 0..5 {
                server.seconds(1).await;
            }
        });
        assert!(answers.iter().all(|answer| answer.status == wanted), "{:?}", answers.iter().find(|answer| answer.status != wanted));
        assert_eq!(calls(&server).1 - before, 1);
    }
}

#[tokio::test]
async fn another_role_or_configuration_never_gets_the_login_of_the_old_one() {
    let server = ecr().await;
    server.get("ecr/creds/app").await.ok();
    server.put("ecr/roles/app", json!({ "registries": "222222222222" })).await.ok();
    let login = server.get("ecr/creds/app").await.ok();
    assert_eq!(login.text("/data/registry"), "222222222222.dkr.ecr.eu-west-1.amazonaws.com");
    server.put("ecr/config/root", json!({ "ecr_endpoint": "https://vpce.example" })).await.ok();
    server.get("ecr/creds/app").await.ok();
    server.put("ecr/roles/app", json!({ "min_ttl": "2h" })).await.ok();
    server.get("ecr/creds/app").await.ok();
    assert_eq!(calls(&server), (3, 3));
    let Some(Made::AuthorizationToken(asked)) = server.aws().made().pop() else { panic!("ECR was asked last") };
    assert_eq!((asked.endpoint.as_deref(), asked.region.as_deref()), (Some("https://vpce.example"), Some("eu-west-1")));
    server.delete("ecr/roles/app").await.ok();
    assert!(server.get("ecr/creds/app").await.refused(400).contains("not found"));
}

#[tokio::test]
async fn the_record_tells_whose_login_it_was_and_never_the_password() {
    let server = ecr().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit");
    server.put("sys/audit/file", json!({ "type": "file", "options": { "file_path": file.display().to_string() } })).await.ok();
    server.put("ecr/roles/app", json!({ "registries": "111111111111,222222222222" })).await.ok();
    let password = server.get("ecr/creds/app").await.ok().text("/data/password");
    let config = server.get("ecr/creds/app?format=dockerconfigjson").await.ok().text("/data/dockerconfigjson");
    let auth = serde_json::from_str::<Value>(&config)
        .unwrap()
        .pointer("/auths/111111111111.dkr.ecr.eu-west-1.amazonaws.com/auth")
        .unwrap()
        .clone();
    let text = std::fs::read_to_string(&file).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let facts = last["response"].to_string();
    for fact in ["ASIAFAKE", PUSH, "111111111111.dkr.ecr.eu-west-1.amazonaws.com,222222222222.dkr.ecr.eu-west-1.amazonaws.com"] {
        assert!(facts.contains(fact), "{fact}: {facts}");
    }
    assert!(!password.is_empty() && !text.contains(&password) && !text.contains(auth.as_str().unwrap()));
}

#[tokio::test]
async fn throttling_and_denial_are_told_apart() {
    let server = ecr().await;
    server.aws().refuse_login("ThrottlingException", "Rate exceeded", 400);
    assert!(server.get("ecr/creds/app").await.refused(502).contains("ThrottlingException: Rate exceeded"));
    server.aws().refuse("AccessDenied", "not authorized to perform: sts:AssumeRole", 403);
    assert!(server.get("ecr/creds/app").await.refused(400).starts_with("Error assuming role: AccessDenied"));
    server.get("ecr/creds/app").await.ok();
}
