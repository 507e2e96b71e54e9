//! Static roles: users whose keys are rotated. Their schedules, routes and neighbours are in `aws_rotation.rs`.

use std::time::Duration;

use daypass_aws::{Call, Gate, Holding, Iam, Identity, Target};
use daypass_testkit::TestServer;
use serde_json::json;

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    server.put("aws/config/root", json!({ "access_key": "AKIAROOT", "secret_key": "root-secret" })).await.ok();
    server
}

async fn minutes(server: &TestServer, minutes: u64) {
    for _ in 0..minutes {
        server.seconds(60).await;
    }
}

async fn static_role(server: &TestServer) {
    server.aws().add_user("legacy");
    let role = server.put("aws/static-roles/legacy", json!({ "username": "legacy", "rotation_period": "1h" })).await.ok();
    assert_eq!((role.text("/data/username"), role.number("/data/rotation_period")), ("legacy".to_owned(), 3600));
}

fn keys_of(server: &TestServer, user: &str) -> Vec<String> {
    let id = |holding| if let Holding::AccessKey(id) = holding { Some(id) } else { None };
    server.aws().holdings(user).into_iter().filter_map(id).collect()
}

#[tokio::test]
async fn a_static_key_is_the_same_for_all_until_its_period_is_over_and_works_for_one_more() {
    let server = server().await;
    static_role(&server).await;
    let key = async || server.get("aws/static-creds/legacy").await.ok().text("/data/access_key");
    let first = key().await;
    assert_eq!((key().await, keys_of(&server, "legacy")), (first.clone(), vec![first.clone()]));
    minutes(&server, 61).await;
    let second = key().await;
    assert_ne!(second, first);
    assert_eq!(keys_of(&server, "legacy"), [first.clone(), second.clone()]);
    minutes(&server, 61).await;
    let third = key().await;
    assert_eq!(keys_of(&server, "legacy"), [second, third.clone()]);
    let said = server.get("aws/static-creds/legacy").await.ok();
    assert!(said.text("/data/expiration").as_str() > "2026-01-02T05" && said.number("/lease_duration") == 0, "{}", said.body);
    server.delete("aws/static-roles/legacy").await.ok();
    assert!(!keys_of(&server, "legacy").contains(&third));
    assert_eq!(server.get("aws/static-creds/legacy").await.status, 404);
}

/// Story: the process died after AWS had made a key and before it was stored. The next rotation took the key in use for the oldest.
#[tokio::test]
async fn a_key_that_was_made_and_never_stored_makes_room_before_the_one_in_use() {
    let server = server().await;
    static_role(&server).await;
    let first = keys_of(&server, "legacy");
    server.aws().fail("CreateAccessKey", "", 0);
    minutes(&server, 61).await;
    assert_eq!(keys_of(&server, "legacy").len(), 2);
    minutes(&server, 3).await;
    let now = server.get("aws/static-creds/legacy").await.ok().text("/data/access_key");
    assert_eq!(keys_of(&server, "legacy"), [first, vec![now]].concat());
}

#[tokio::test]
async fn another_user_of_the_same_name_is_not_the_one_of_the_role() {
    let server = server().await;
    static_role(&server).await;
    server.aws().remove_user("legacy");
    server.aws().add_user("legacy");
    let refused = server.put("aws/static-roles/legacy", json!({ "rotation_period": "2h" })).await;
    assert!(refused.refused(500).contains("the ID did not match"), "{}", refused.body);
}

/// Story: a rotation went by the name. When the user was made again it deleted a key of the new one, and handed out another.
#[tokio::test]
async fn a_rotation_leaves_another_user_of_the_same_name_alone() {
    let server = server().await;
    static_role(&server).await;
    server.aws().remove_user("legacy");
    server.aws().add_user("legacy");
    let (one, other) = (server.aws().add_key("legacy").unwrap().id, server.aws().add_key("legacy").unwrap().id);
    let before = server.get("aws/static-creds/legacy").await.ok().text("/data/access_key");
    minutes(&server, 130).await;
    assert_eq!(keys_of(&server, "legacy"), [one, other]);
    assert_eq!(server.get("aws/static-creds/legacy").await.ok().text("/data/access_key"), before);
}

/// Story: only the key of config/root was known for the mount's own. A static role of the user whose key was in the environment deleted that key
/// at its second rotation.
#[tokio::test]
async fn a_static_role_takes_no_key_of_the_servers_own_user() {
    let server = TestServer::start().await;
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    static_role(&server).await;
    let target = Target::default();
    let call = Call::usual(&target, Duration::from_secs(1));
    let is = async |name: &str| {
        let user_id = server.aws().get_user(call, Some(name)).await.unwrap().id;
        let (account, arn) = ("123456789012".to_owned(), format!("arn:aws:iam::123456789012:user/{name}"));
        server.aws().set_identity(Ok(Identity { account, arn, user_id }));
    };
    // Nor at a rotation, when the server got another identity since.
    is("legacy").await;
    let before = keys_of(&server, "legacy");
    minutes(&server, 65).await;
    assert_eq!(keys_of(&server, "legacy"), before);
    // The fake takes calls without keys for those of this user.
    let own = "root-of-the-mount";
    server.aws().add_user(own);
    let keys = [server.aws().add_key(own).unwrap().id, server.aws().add_key(own).unwrap().id];
    is(own).await;
    for sts in [Gate::Open, Gate::Cut] {
        server.aws().guard(move |action| if action == "GetCallerIdentity" { sts } else { Gate::Open });
        let refused = server.put("aws/static-roles/own", json!({ "username": own, "rotation_period": "1h" })).await;
        assert!(
            refused.refused(400).contains("is the one that this mount works with: it is the server's own AWS identity"),
            "{}",
            refused.body
        );
    }
    assert_eq!(keys_of(&server, own), keys);
    minutes(&server, 2).await;
    assert_eq!(keys_of(&server, "legacy").len(), 2, "others are rotated");
}

/// Story: a rotation stored the role as it had read it. What was written while AWS made the key was answered with success, and gone.
#[tokio::test]
async fn what_is_written_to_a_static_role_during_its_rotation_holds() {
    let server = server().await;
    static_role(&server).await;
    let key = async || server.get("aws/static-creds/legacy").await.ok().text("/data/access_key");
    let first = key().await;
    minutes(&server, 59).await;
    server.aws().guard(|action| if action == "CreateAccessKey" { Gate::Late(Duration::from_secs(8)) } else { Gate::Open });
    minutes(&server, 1).await;
    server.put("aws/static-roles/legacy", json!({ "rotation_period": "2h" })).await.ok();
    assert_eq!(key().await, first, "it is under way");
    for _ in 0..10 {
        server.seconds(1).await;
    }
    assert_ne!(key().await, first);
    assert_eq!(server.get("aws/static-roles/legacy").await.ok().number("/data/rotation_period"), 7200);
    let said = server.get("aws/static-creds/legacy").await.ok().text("/data/expiration");
    assert!(said.as_str() > "2026-01-02T06:00" && said.as_str() < "2026-01-02T06:10", "{said}");
}

/// Story: each round of the regular work began at the front and ended at a role that took long, whose claim had just ended when the next round began. The
/// roles behind it kept their old keys for as long as its AWS was slow.
#[tokio::test]
async fn a_static_role_that_is_slow_keeps_none_behind_it_from_being_rotated() {
    let server = server().await;
    for user in ["slow", "swift"] {
        server.aws().add_user(user);
        server.put(&format!("aws/static-roles/{user}"), json!({ "username": user, "rotation_period": "1h" })).await.ok();
    }
    // Two keys, AWS's limit: one has to go before the next is made, which only this role does.
    server.aws().add_key("slow").unwrap();
    server.aws().guard(|action| if action == "DeleteAccessKey" { Gate::Late(Duration::from_secs(25)) } else { Gate::Open });
    server.aws().fail_often("DeleteAccessKey", "AccessDenied", 403, 100);
    let before = [keys_of(&server, "slow"), keys_of(&server, "swift")];
    let seconds = async |seconds: u32| {
        for _ in 0..seconds {
            server.seconds(1).await;
        }
    };
    minutes(&server, 59).await;
    seconds(200).await;
    assert_eq!(keys_of(&server, "slow"), before[0]);
    assert_eq!(keys_of(&server, "swift").len(), 2, "it is rotated");
    server.aws().unguard();
    server.aws().forgive();
    seconds(130).await;
    assert_ne!(keys_of(&server, "slow"), before[0], "and so is the slow one, once it may");
}
