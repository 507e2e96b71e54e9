//! What is left of an IAM user whose taking apart stops half-way.

use daypass_aws::{Gate, Holding};
use daypass_testkit::TestServer;
use serde_json::json;

/// A server with the user of a lease: its lease, and its name.
async fn server() -> (TestServer, String, String) {
    let server = TestServer::start().await;
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    let role = json!({
        "credential_type": "iam_user", "policy_arns": "arn:aws:iam::aws:policy/AdministratorAccess", "iam_groups": "guardrails",
        "policy_document": r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iam:*","Resource":"*"}]}"#,
    });
    server.put("aws/roles/ci", role).await.ok();
    let lease = server.get("aws/creds/ci").await.ok().lease();
    let user = server.aws().users().pop().unwrap();
    (server, lease, user)
}

fn keys(held: &[Holding]) -> usize {
    held.iter().filter(|holding| matches!(holding, Holding::AccessKey(_))).count()
}

/// Story: groups and policies went first and the key last. A server that was not allowed one of these calls took off what denied something, and left
/// a key that could do more than it was given.
#[tokio::test]
async fn a_user_whose_revocation_stops_has_no_key_any_more() {
    let later = ["ListGroupsForUser", "DetachUserPolicy", "DeleteUserPolicy", "RemoveUserFromGroup", "DeleteUser"];
    for (number, action) in later.into_iter().enumerate() {
        for refused in [true, false] {
            let (server, lease, user) = server().await;
            if refused {
                server.aws().fail(action, "AccessDenied", 403);
            } else {
                server.aws().guard(move |asked| if asked == action { Gate::Throttle } else { Gate::Open });
            }
            let answer = server.put("sys/leases/revoke", json!({ "lease_id": lease })).await;
            assert!(answer.status >= 400, "{action}: {}", answer.body);
            let held = server.aws().holdings(&user);
            assert_eq!(keys(&held), 0, "{action}: {held:?}");
            // What may deny something goes last.
            assert_eq!(held.len(), [3, 3, 2, 1, 0][number], "{action}: {held:?}");
            server.aws().unguard();
            server.put("sys/leases/revoke", json!({ "lease_id": lease })).await.ok();
            assert!(server.aws().users().is_empty(), "{action}");
        }
    }
}

#[tokio::test]
async fn as_long_as_a_key_may_work_nothing_else_is_taken_off() {
    let (server, lease, user) = server().await;
    server.aws().add_key(&user).unwrap();
    server.aws().fail("DeleteAccessKey", "AccessDenied", 403);
    let refused = server.put("sys/leases/revoke", json!({ "lease_id": lease })).await;
    assert!(refused.refused(400).contains("AccessDenied"), "{}", refused.body);
    let held = server.aws().holdings(&user);
    assert_eq!((keys(&held), held.len()), (1, 4), "the other key went, and no policy: {held:?}");
    server.aws().fail("ListAccessKeys", "AccessDenied", 403);
    server.put("sys/leases/revoke", json!({ "lease_id": lease })).await.refused(400);
    let held = server.aws().holdings(&user);
    assert_eq!((keys(&held), held.len()), (0, 3), "the key of the lease needs no list, and no policy went: {held:?}");
    server.put("sys/leases/revoke", json!({ "lease_id": lease })).await.ok();
    assert!(server.aws().users().is_empty());
}
