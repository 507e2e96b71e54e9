//! A clock that is set while a server runs: what it keeps of AWS lasts as long as AWS says, and what it counts it counts by time that passes.

use std::time::Duration;

use daypass_aws::Skew;
use daypass_base::{Clock, Seconds, Timestamp};
use daypass_testkit::{Answer, TestServer};
use serde_json::{Value, json};

const NEAR: &str = "arn:aws:iam::123456789012:role/near";
const HOUR: Duration = Duration::from_hours(1);
const HOUR_MS: i64 = 3_600_000;

/// A server whose clock is an hour ahead of AWS's, and knows it.
async fn ahead(role: Value) -> TestServer {
    let server = TestServer::start().await;
    server.clock().jump_to(server.clock().now() + HOUR);
    server.aws().differ(Skew::seen(-HOUR_MS));
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    write_role(&server, "aws/roles/r", role).await;
    server
}

async fn write_role(server: &TestServer, path: &str, fields: Value) {
    let mut role = json!({ "credential_type": "assumed_role", "role_arns": NEAR });
    for (name, value) in fields.as_object().unwrap() {
        role[name] = value.clone();
    }
    server.put(path, role).await.ok();
}

/// The clock is right again. Nothing was asked of AWS yet since: what was seen of its clock is of then.
fn put_right(server: &TestServer) {
    server.clock().jump_to(server.clock().now() - HOUR);
}

/// AWS's clock as its next answer shows it.
fn agree(server: &TestServer) {
    server.aws().differ(Skew::default());
}

async fn read(server: &TestServer) -> (String, u64) {
    let answer = server.get("aws/sts/r").await.ok();
    (answer.text("/data/access_key"), answer.number("/data/ttl").try_into().unwrap())
}

/// Story: the clock was an hour ahead and was put right. The window stayed open for that hour: a credential that had ended was handed out as one of
/// 3658 seconds.
#[tokio::test]
async fn what_is_kept_ages_also_while_the_clock_is_put_back() {
    let server = ahead(json!({ "reuse_window": "40m", "reuse_min_ttl": "15m" })).await;
    let (first, ttl) = read(&server).await;
    assert_eq!(ttl, 3600);
    server.seconds(58).await;
    put_right(&server);
    agree(&server);
    assert_eq!(read(&server).await, (first.clone(), 3542));
    server.seconds(40 * 60 - 59).await;
    assert_eq!(read(&server).await, (first.clone(), 1201));
    server.seconds(1).await;
    let (second, ttl) = read(&server).await;
    assert_eq!((second != first, ttl), (true, 3600), "the window is over");
}

/// Story: an end was told by the server's own clock. Where that was ahead, SDKs took a credential for good so much longer than AWS did, and the builds behind them
/// failed with ExpiredToken.
#[tokio::test]
async fn an_end_that_is_told_is_no_later_than_awss() {
    let server = ahead(json!({ "reuse_window": "40m" })).await;
    let at = |seconds: u64| Timestamp::from_seconds(server.clock().now().seconds()) + Seconds(seconds);
    let told = async |path: &str, pointer: &str| server.get(path).await.ok().text(pointer);
    let by_aws = at(0);
    let both = async || {
        assert_eq!(told("aws/container/r", "/Expiration").await, by_aws.to_string());
        assert_eq!(told("aws/console/r", "/data/expires_at").await, by_aws.to_string());
    };
    both().await;
    // The same credential, when the clock is right again.
    put_right(&server);
    agree(&server);
    both().await;
    // What outlasts the credential is counted from its end.
    server.aws().differ(Skew::seen(-HOUR_MS));
    assert_eq!(told("aws/console/r?ttl=20m&session_duration=2h", "/data/expires_at").await, at(3600).to_string());
    // Where the clock is behind, the end is told by it, as before.
    server.aws().differ(Skew::seen(HOUR_MS));
    assert_eq!(told("aws/container/r?ttl=15m", "/Expiration").await, at(900).to_string());
}

/// Story: what had been seen of AWS's clock belonged to the clock from before it was put right, and made a kept credential an hour longer.
#[tokio::test]
async fn what_was_seen_of_awss_clock_says_nothing_about_the_clock_of_now() {
    let server = ahead(json!({ "reuse_window": "40m" })).await;
    server.put("sys/mounts/ecr", json!({ "type": "ecr" })).await.ok();
    server.put("ecr/roles/app", json!({ "role_arn": NEAR, "region": "eu-west-1" })).await.ok();
    let login = async |query: &str| {
        let answer = server.get(&format!("ecr/creds/app{query}")).await.ok();
        (answer.text("/data/password"), answer.number("/data/ttl"))
    };
    let ((key, _), (password, ttl)) = (read(&server).await, login("").await);
    assert_eq!(ttl, 43_200);
    put_right(&server);
    server.seconds(600).await;
    assert_eq!((read(&server).await, login("").await), ((key, 3000), (password.clone(), 42_600)));
    server.seconds(3600).await;
    assert_ne!(login("?min_ttl=11h").await.0, password);
}

/// Story: the clock was put back by an hour, and a role with limits gave nothing until it had caught up: 3660 seconds, it said.
#[tokio::test]
async fn limits_go_by_the_time_that_passes() {
    let server = ahead(json!({ "limit_mints": 1, "limit_live": 2, "default_sts_ttl": "15m" })).await;
    read(&server).await;
    put_right(&server);
    agree(&server);
    let refused = async |retry_after: &str, limit: &str| {
        let refusal = server.get("aws/sts/r").await;
        assert!(refusal.refused(429).contains(limit), "{refusal:?}");
        assert_eq!(refusal.header("retry-after"), Some(retry_after));
    };
    refused("60", "limit_mints allows 1 a minute; try again in 60 s").await;
    server.advance(Duration::from_millis(59_500)).await;
    refused("1", "try again in 1 s").await;
    server.advance(Duration::from_millis(500)).await;
    read(&server).await;
    server.clock().jump_to(server.clock().now() + 48 * HOUR);
    refused("840", "limit_live allows 2 live at one time; try again in 840 s").await;
    server.seconds(840).await;
    read(&server).await;
}

/// The answer comes when the moment has: three to four seconds later.
async fn revoke(server: &TestServer, body: Value) -> Answer {
    let time = async {
        for _ in 0..6 {
            server.seconds(1).await;
        }
    };
    tokio::join!(server.put("aws/revoke-sessions/r", body), time).0
}

/// Story: after the kill switch no build got a new credential: the ended sessions went on counting as live until the last of them would have ended.
#[tokio::test]
async fn sessions_that_were_ended_count_no_more_at_any_mount() {
    let server = TestServer::start().await;
    server.aws().add_role("near", "{}");
    let identity = |identity: &str| json!({ "allow_revoke_sessions": true, "limit_live": 1, "source_identity": identity });
    for mount in ["aws", "second"] {
        server.put(&format!("sys/mounts/{mount}"), json!({ "type": "aws" })).await.ok();
        write_role(&server, &format!("{mount}/roles/r"), identity("acme")).await;
        write_role(&server, &format!("{mount}/roles/other"), identity("other")).await;
    }
    let paths = ["aws/sts/r", "second/sts/r", "aws/sts/other", "second/sts/other"];
    let ask = async || {
        let mut given = Vec::new();
        for path in paths {
            given.push(server.get(path).await.status == 200);
        }
        given
    };
    assert_eq!(ask().await, [true, true, true, true]);
    assert_eq!(ask().await, [false, false, false, false]);
    revoke(&server, json!({ "source_identity": "acme" })).await.ok();
    assert_eq!(ask().await, [true, true, false, false], "no sessions but those of that identity");
    assert_eq!(ask().await, [false, false, false, false], "the new ones count");
    revoke(&server, json!({})).await.ok();
    assert_eq!(ask().await, [true, true, true, true]);
}

/// The lease says nothing to AWS, where the session lives on.
#[tokio::test]
async fn a_session_whose_lease_was_revoked_counts_until_it_ends() {
    let server = TestServer::start().await;
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    write_role(&server, "aws/roles/r", json!({ "limit_live": 1, "default_sts_ttl": "15m" })).await;
    let lease = server.get("aws/sts/r").await.ok().lease();
    server.put("sys/leases/revoke", json!({ "lease_id": lease })).await.ok();
    server.put("sys/leases/revoke-prefix/aws/sts", Value::Null).await.ok();
    assert!(server.get("aws/sts/r").await.refused(429).contains("try again in 900 s"));
    server.seconds(900).await;
    server.get("aws/sts/r").await.ok();
}
