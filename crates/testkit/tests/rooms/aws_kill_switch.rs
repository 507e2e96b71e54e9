//! `revoke-sessions`: which IAM role its policy goes to, and what holds when AWS does not answer or the request is cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use daypass_aws::{Call, Gate, IamRoles, Target};
use daypass_testkit::{Answer, TestServer};
use serde_json::{Value, json};

const NEAR: &str = "arn:aws:iam::123456789012:role/near";
const POLICY: &str = "daypass-revoked-sessions";

async fn server(fields: Value) -> TestServer {
    let server = TestServer::start().await;
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    let mut role = json!({ "credential_type": "assumed_role", "allow_revoke_sessions": true });
    for (name, value) in fields.as_object().unwrap() {
        role[name] = value.clone();
    }
    server.put("aws/roles/r", role).await.ok();
    server
}

async fn seconds(server: &TestServer, seconds: u64) {
    for _ in 0..seconds {
        server.seconds(1).await;
    }
}

/// The answer comes when the moment has: three to four seconds later.
async fn revoke(server: &TestServer, body: Value) -> Answer {
    tokio::join!(server.put("aws/revoke-sessions/r", body).into_future(), seconds(server, 6)).0
}

async fn key(server: &TestServer) -> String {
    server.get("aws/sts/r").await.ok().text("/data/access_key")
}

/// Story: the pattern was `role/ci/*` and IAM had `role/admin`. `role/ci/admin` fits the pattern, the policy goes by the name alone, and so all sessions
/// of `role/admin` were ended.
#[tokio::test]
async fn the_policy_goes_to_no_role_of_that_name_at_another_path() {
    let (ci, template) = ("arn:aws:iam::123456789012:role/ci/*", "arn:aws:iam::123456789012:role/ci/{{ .Claims.team }}");
    for open in [json!({ "role_arn_pattern": ci }), json!({ "role_arns": template })] {
        let server = server(open).await;
        server.aws().add_role("admin", "{}");
        server.aws().add_role("ci/build", "{}");
        let admin = "arn:aws:iam::123456789012:role/ci/admin";
        let refused = revoke(&server, json!({ "role_arn": admin })).await;
        let said = format!("there is no {admin}: the IAM role of that name is arn:aws:iam::123456789012:role/admin");
        assert!(refused.refused(400).contains(&said), "{}", refused.body);
        let refused = server.delete(&format!("aws/revoke-sessions/r?role_arn={admin}")).await;
        assert!(refused.refused(400).contains(&said), "{}", refused.body);
        assert!(server.aws().role_policies("admin").is_empty());
        let gone = revoke(&server, json!({ "role_arn": "arn:aws:iam::123456789012:role/ci/gone" })).await;
        assert!(gone.refused(400).contains("role/ci/gone before the policy is changed: NoSuchEntity"), "{}", gone.body);

        let build = json!({ "role_arn": "arn:aws:iam::123456789012:role/ci/build" });
        server.aws().fail("GetRole", "AccessDenied", 403);
        let blind = revoke(&server, build.clone()).await;
        assert!(blind.refused(400).contains("the server needs iam:GetRole on it: the role has a template or a pattern"), "{}", blind.body);
        assert!(server.aws().role_policies("build").is_empty());
        revoke(&server, build).await.ok();
        assert_eq!(server.aws().role_policies("build").len(), 1);
    }
}

/// What the role names itself is not looked at: no right to look is needed for it.
#[tokio::test]
async fn an_iam_role_that_the_role_names_is_not_looked_at() {
    let server = server(json!({ "role_arns": NEAR, "role_arn_pattern": "arn:aws:iam::123456789012:role/n*" })).await;
    server.aws().add_role("near", "{}");
    server.aws().fail_often("GetRole", "AccessDenied", 403, 10);
    for body in [json!({}), json!({ "role_arn": NEAR })] {
        revoke(&server, body).await.ok();
    }
}

/// Whoever looks is who puts the policy: IAM tells of the roles of its caller's account alone.
#[tokio::test]
async fn a_role_of_another_account_is_looked_at_there() {
    let (far, revoker) = ("arn:aws:iam::111111111111:role/ci-far", "arn:aws:iam::111111111111:role/revoker");
    let pattern = json!({ "role_arn_pattern": "arn:aws:iam::111111111111:role/ci-*", "revoke_role_arn": revoker });
    let server = server(pattern).await;
    server.aws().add_role("ci-far", "{}");
    server.aws().fail("GetRole", "AccessDenied", 403);
    let blind = revoke(&server, json!({ "role_arn": far })).await;
    assert!(blind.refused(400).contains(&format!("{revoker} needs iam:GetRole on it")), "{}", blind.body);
    revoke(&server, json!({ "role_arn": far })).await.ok();
}

/// Story: IAM put the policy and its answer was lost. The mount went on handing out what it kept, which was dead.
#[tokio::test]
async fn what_a_lost_answer_may_have_ended_is_not_handed_out() {
    let server = server(json!({ "role_arns": NEAR, "reuse_window": "30m" })).await;
    server.aws().add_role("near", "{}");
    let old = key(&server).await;
    server.aws().fail("PutRolePolicy", "AccessDenied", 403);
    revoke(&server, json!({})).await.refused(400);
    assert_eq!(key(&server).await, old, "it was refused, so nothing was ended");
    server.aws().fail("PutRolePolicy", "", 0);
    revoke(&server, json!({})).await.refused(400);
    assert_eq!(server.aws().role_policies("near").len(), 1);
    let new = key(&server).await;
    assert_ne!(new, old);
    assert_eq!(key(&server).await, new, "one that began afterwards is kept");
}

/// Story: revoke-sessions never reached AWS. The sessions lived on and counted no more: the role gave out twice as many as it allows.
#[tokio::test]
async fn sessions_that_were_perhaps_not_ended_count_as_live() {
    let server = server(json!({ "role_arns": NEAR, "limit_live": 1 })).await;
    server.aws().add_role("near", "{}");
    key(&server).await;
    server.aws().fail("PutRolePolicy", "", 0);
    revoke(&server, json!({})).await.refused(400);
    server.get("aws/sts/r").await.refused(429);
    revoke(&server, json!({})).await.ok();
    key(&server).await;
}

/// Story: as above, or somebody took the policy off by hand, and then it was undone. That nothing had been there to be taken off was told, and forgotten nothing:
/// what the mount kept was not handed out again.
#[tokio::test]
async fn what_turns_out_not_to_be_ended_is_handed_out_again() {
    let server = server(json!({ "role_arns": NEAR, "reuse_window": "30m" })).await;
    server.aws().add_role("near", "{}");
    let old = key(&server).await;
    server.aws().fail("PutRolePolicy", "", 0);
    revoke(&server, json!({})).await.refused(400);
    let target = Target::default();
    server.aws().delete_role_policy(Call::usual(&target, Duration::from_secs(1)), "near", POLICY).await.unwrap();
    let undone = server.delete("aws/revoke-sessions/r").await.ok();
    assert!(undone.body["warnings"][0].as_str().unwrap().contains("has no policy"), "{}", undone.body);
    assert_eq!(key(&server).await, old);
}

/// Story: the taking off ended with its request, at its time limit, while AWS still worked on it. A revocation began in between, was answered, and was
/// then undone.
#[tokio::test]
async fn a_revocation_waits_for_an_undoing_whose_request_was_cut_off() {
    let server = server(json!({ "role_arns": NEAR })).await;
    server.aws().add_role("near", "{}");
    revoke(&server, json!({})).await.ok();
    let puts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&puts);
    server.aws().guard(move |action| match action {
        "DeleteRolePolicy" => Gate::Late(Duration::from_mins(2)),
        "PutRolePolicy" => {
            counted.fetch_add(1, Ordering::Relaxed);
            Gate::Open
        }
        _ => Gate::Open,
    });
    let (cut, ()) = tokio::join!(server.delete("aws/revoke-sessions/r").into_future(), seconds(&server, 91));
    assert!(cut.refused(500).contains("context deadline exceeded"), "{}", cut.body);
    let time = async {
        seconds(&server, 10).await;
        assert_eq!(puts.load(Ordering::Relaxed), 0, "the undoing has the turn still");
        seconds(&server, 40).await;
    };
    let (revoked, ()) = tokio::join!(server.put("aws/revoke-sessions/r", json!({})).into_future(), time);
    revoked.ok();
    assert!(server.aws().role_policies("near").contains_key(POLICY));
}
