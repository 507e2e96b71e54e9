//! IAM users: made for a lease and deleted with it, whatever happens in between. Users whose keys are rotated are in `aws_static.rs`.

use std::time::Duration;

use daypass_aws::{Gate, Holding, Identity, Made, Skew};
use daypass_testkit::{Answer, TestServer};
use serde_json::{Value, json};

const NOTE_AGE: u64 = 361;

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    let root = json!({ "access_key": "AKIAROOT", "secret_key": "root-secret", "region": "eu-west-1" });
    server.put("aws/config/root", root).await.ok();
    server.put("aws/config/lease", json!({ "lease": "30m", "lease_max": "1h" })).await.ok();
    let role = json!({
        "credential_type": "iam_user", "policy_arns": "arn:aws:iam::aws:policy/ReadOnlyAccess", "iam_groups": "builders",
        "policy_document": r#"{"Version":"2012-10-17","Statement":[]}"#, "iam_tags": { "team": "ci" },
    });
    server.put("aws/roles/ci", role).await.ok();
    server
}

async fn minted(server: &TestServer) -> Answer {
    server.get("aws/creds/ci").await.ok()
}

/// Lets so many minutes go by, one after the other, as the regular work sees them.
async fn minutes(server: &TestServer, minutes: u64) {
    for _ in 0..minutes {
        server.seconds(60).await;
    }
}

fn only_user(server: &TestServer) -> String {
    let users = server.aws().users();
    assert_eq!(users.len(), 1, "{users:?}");
    users[0].clone()
}

#[tokio::test]
async fn a_user_is_made_with_all_that_the_role_says_and_goes_with_its_lease() {
    let server = server().await;
    let made = minted(&server).await;
    let user = only_user(&server);
    assert!(user.starts_with("vault-token-ci-") || user.starts_with("vault-root-ci-"), "{user}");
    assert_eq!(made.number("/lease_duration"), 1800);
    assert_eq!((made.body["renewable"].clone(), made.body["data"]["session_token"].clone()), (json!(true), Value::Null));
    let key = Holding::AccessKey(made.text("/data/access_key"));
    let held = server.aws().holdings(&user);
    let all = [
        Holding::Group("builders".into()),
        Holding::Inline("ci".into()),
        Holding::Managed("arn:aws:iam::aws:policy/ReadOnlyAccess".into()),
        key,
    ];
    for holding in &all {
        assert!(held.contains(holding), "{holding:?} of {held:?}");
    }
    server.put("sys/leases/revoke", json!({ "lease_id": made.lease() })).await.ok();
    assert!(server.aws().users().is_empty());
    assert_eq!(server.put("sys/leases/lookup", json!({ "lease_id": made.lease() })).await.refused(400), "invalid lease");
}

#[tokio::test]
async fn a_user_goes_when_its_time_is_over_and_when_its_token_is_revoked() {
    let server = server().await;
    minted(&server).await;
    server.seconds(1801).await;
    assert!(server.aws().users().is_empty());
    let token = server.token(json!({ "policies": ["root"] })).await;
    server.get("aws/creds/ci").token(&token).await.ok();
    only_user(&server);
    server.put("auth/token/revoke", json!({ "token": token })).await.ok();
    server.seconds(1).await;
    server.seconds(120).await;
    assert!(server.aws().users().is_empty());
}

#[tokio::test]
async fn a_renewal_follows_config_lease_as_it_is_now() {
    let server = server().await;
    let lease = minted(&server).await.lease();
    server.seconds(600).await;
    let renewed = server.put("sys/leases/renew", json!({ "lease_id": lease, "increment": "50m" })).await.ok();
    assert_eq!(renewed.number("/lease_duration"), 3000);
    server.put("aws/config/lease", json!({ "lease": "5m", "lease_max": "15m" })).await.ok();
    let renewed = server.put("sys/leases/renew", json!({ "lease_id": lease })).await.ok();
    assert_eq!(renewed.number("/lease_duration"), 300);
}

#[tokio::test]
async fn what_people_hung_on_a_user_does_not_keep_it() {
    let server = server().await;
    let lease = minted(&server).await.lease();
    let user = only_user(&server);
    for holding in
        [Holding::LoginProfile, Holding::Mfa("arn:mfa".into()), Holding::SshKey("APKA".into()), Holding::AccessKey("AKIAMORE".into())]
    {
        server.aws().hang(&user, holding);
    }
    server.put("sys/leases/revoke", json!({ "lease_id": lease })).await.ok();
    assert!(server.aws().users().is_empty());
}

/// Story: IAM lists a key only some time after it made it. A lease that was revoked at once lost the user's policies while its key worked on, and the user could
/// not be deleted.
#[tokio::test]
async fn a_key_that_iam_does_not_list_yet_goes_first() {
    let server = server().await;
    server.aws().keys_are_listed_after(Duration::from_hours(1));
    let lease = minted(&server).await.lease();
    let user = only_user(&server);
    // What comes behind the key fails.
    server.aws().fail("RemoveUserFromGroup", "AccessDenied", 403);
    server.aws().fail("DetachUserPolicy", "AccessDenied", 403);
    server.put("sys/leases/revoke", json!({ "lease_id": lease })).await.refused(400);
    assert!(!server.aws().holdings(&user).iter().any(|holding| matches!(holding, Holding::AccessKey(_))));
    server.aws().forgive();
    server.put("sys/leases/revoke", json!({ "lease_id": lease })).await.ok();
    assert!(server.aws().users().is_empty());
}

#[tokio::test]
async fn a_step_that_aws_refuses_leaves_no_user_behind() {
    let server = server().await;
    let before = server.keys().await;
    for (action, text) in [
        ("CreateUser", "Error creating IAM user: LimitExceeded: "),
        ("AttachUserPolicy", "Error attaching user policy: LimitExceeded: "),
        ("PutUserPolicy", "Error putting user policy: LimitExceeded: "),
        ("AddUserToGroup", "Error adding user to group: LimitExceeded: "),
        ("CreateAccessKey", "Error creating access keys: LimitExceeded: "),
    ] {
        server.aws().fail(action, "LimitExceeded", 409);
        let refused = server.get("aws/creds/ci").await;
        assert!(refused.refused(400).starts_with(text), "{}", refused.body);
        assert!(server.aws().users().is_empty(), "{action}");
        assert_eq!(server.keys().await, before, "{action}");
    }
}

/// Story: a server without an AWS identity kept a note of every user that it was asked for and could not make, and tried to delete them
/// for ever.
#[tokio::test]
async fn what_never_left_the_server_leaves_no_note() {
    let server = server().await;
    let before = server.keys().await;
    server.aws().fail("CreateUser", "NoCredentialProviders", 0);
    assert!(server.get("aws/creds/ci").await.refused(400).contains("NoCredentialProviders"));
    assert_eq!(server.keys().await, before);
}

/// Story: AWS made the user, the answer was lost, and nobody knew of the user any more.
#[tokio::test]
async fn a_user_whose_making_was_never_answered_is_deleted_later() {
    let server = server().await;
    let before = server.keys().await;
    for action in ["CreateUser", "CreateAccessKey"] {
        // Undoing fails too: AWS is not to be reached at all.
        server.aws().fail(action, "", 0);
        server.aws().fail_often("ListGroupsForUser", "", 0, 2);
        assert!(server.get("aws/creds/ci").await.status >= 400);
        only_user(&server);
        let server = &server;
        minutes(server, NOTE_AGE / 60 + 1).await;
        assert!(server.aws().users().is_empty(), "{action}");
        assert_eq!(server.keys().await, before, "{action}");
    }
}

/// Story: the mount was removed before the regular work came round, and the note went with it.
#[tokio::test]
async fn a_mount_that_is_removed_leaves_no_user_behind() {
    let server = server().await;
    minted(&server).await;
    server.aws().fail("CreateAccessKey", "", 0);
    server.aws().fail_often("ListGroupsForUser", "", 0, 2);
    assert!(server.get("aws/creds/ci").await.status >= 400);
    assert_eq!(server.aws().users().len(), 2);
    server.delete("sys/mounts/aws").await.ok();
    server.seconds(1).await;
    assert!(server.aws().users().is_empty());
}

#[tokio::test]
async fn a_user_that_somebody_else_deleted_is_as_good_as_revoked_once_iam_has_settled() {
    let server = server().await;
    let lease = minted(&server).await.lease();
    server.aws().remove_user(&only_user(&server));
    let young = server.put("sys/leases/revoke", json!({ "lease_id": lease })).await;
    assert_eq!(young.status, 400, "{}", young.body);
    server.seconds(61).await;
    server.put("sys/leases/revoke", json!({ "lease_id": lease })).await.ok();
    assert_eq!(server.put("sys/leases/lookup", json!({ "lease_id": lease })).await.refused(400), "invalid lease");
}

fn account(server: &TestServer, account: &str) {
    let (arn, user_id) = (format!("arn:aws:iam::{account}:user/root"), "AIDAROOT".to_owned());
    server.aws().set_identity(Ok(Identity { account: account.to_owned(), arn, user_id }));
}

/// Story: config/root was pointed at another account. There the user was not found, so its lease ended as revoked, and its key lived on.
#[tokio::test]
async fn a_user_of_another_account_is_not_taken_for_deleted() {
    let server = server().await;
    let lease = minted(&server).await.lease();
    server.seconds(61).await;
    let root = json!({ "access_key": "AKIAOTHER", "secret_key": "other-secret" });
    let warned = server.put("aws/config/root", root).await.ok();
    assert!(warned["warnings"][0].as_str().unwrap().contains("leased still"), "{}", warned.body);
    account(&server, "222222222222");
    server.aws().fail("GetUser", "NoSuchEntity", 404);
    let refusal = server.put("sys/leases/revoke", json!({ "lease_id": lease })).await;
    assert!(refusal.refused(400).contains("was made in account 123456789012, and config/root leads to account 222222222222 now"));
    server.put("sys/leases/lookup", json!({ "lease_id": lease })).await.ok();
    only_user(&server);
    account(&server, "123456789012");
    server.put("sys/leases/revoke", json!({ "lease_id": lease })).await.ok();
    assert!(server.aws().users().is_empty());
}

/// Story: the server was not allowed to GetUser, config/root led to another account by then, and STS did not answer. That counted as the account of the lease:
/// the user of the same name there, which was somebody else's, was deleted, and ours lived on.
#[tokio::test]
async fn a_user_that_cannot_be_looked_at_is_not_deleted_in_an_account_that_nobody_names() {
    let server = server().await;
    let lease = minted(&server).await.lease();
    let user = only_user(&server);
    account(&server, "222222222222");
    server.aws().fail_often("GetUser", "AccessDenied", 403, 100);
    server.aws().guard(|action| if action == "GetCallerIdentity" { Gate::Cut } else { Gate::Open });
    let refused = server.put("sys/leases/revoke", json!({ "lease_id": lease })).await;
    let said = format!("IAM user \"{user}\" may be one of that name in another account: iam:GetUser is refused, and STS did not say");
    assert!(refused.refused(400).contains(&said), "{}", refused.body);
    only_user(&server);
    server.aws().unguard();
    let refused = server.put("sys/leases/revoke", json!({ "lease_id": lease })).await;
    assert!(refused.refused(400).contains("config/root leads to account 222222222222 now"), "{}", refused.body);
    only_user(&server);
    account(&server, "123456789012");
    server.put("sys/leases/revoke", json!({ "lease_id": lease })).await.ok();
    assert!(server.aws().users().is_empty());
}

/// There are networks with a way to IAM and none to STS: what is gone there is not looked for without end.
#[tokio::test]
async fn without_a_way_to_sts_a_user_that_is_gone_is_gone() {
    let server = server().await;
    let lease = minted(&server).await.lease();
    server.aws().remove_user(&only_user(&server));
    server.aws().guard(|action| if action == "GetCallerIdentity" { Gate::Cut } else { Gate::Open });
    server.seconds(61).await;
    server.put("sys/leases/revoke", json!({ "lease_id": lease })).await.ok();
    assert_eq!(server.put("sys/leases/lookup", json!({ "lease_id": lease })).await.refused(400), "invalid lease");
}

/// What is stored of users beside their leases.
async fn rows(server: &TestServer) -> Vec<String> {
    server.keys().await.into_iter().filter(|key| key.contains("/users/") || key.contains("/wal/")).collect()
}

/// A server whose users have the same name each time.
async fn without_chance() -> TestServer {
    let server = server().await;
    server.put("aws/config/root", json!({ "username_template": "{{ .PolicyName }}" })).await.ok();
    server
}

/// Story: AWS did not answer CreateUser, so a note said that the user of this name is nobody's. It was that of a build which had asked before.
#[tokio::test]
async fn the_note_of_an_attempt_that_failed_costs_nobody_the_user_of_that_name() {
    let server = without_chance().await;
    let lease = minted(&server).await.lease();
    server.seconds(100).await;
    server.aws().fail("CreateUser", "ServiceFailure", 500);
    assert!(server.get("aws/creds/ci").await.status >= 400);
    minutes(&server, NOTE_AGE / 60 + 1).await;
    assert_eq!(only_user(&server), "ci");
    server.put("sys/leases/revoke", json!({ "lease_id": lease })).await.ok();
    assert!(server.aws().users().is_empty());
}

/// Story: one build's user was deleted by hand, and another build got the name. The end of the first lease took the row of the name along, so that
/// a third attempt, whose CreateUser was not answered, took the second build's user for its own and deleted it.
#[tokio::test]
async fn the_end_of_a_lease_and_an_attempt_that_failed_cost_nobody_the_user_that_has_the_name_since() {
    let server = without_chance().await;
    let first = minted(&server).await.lease();
    server.aws().remove_user("ci");
    let second = minted(&server).await;
    server.put("sys/leases/revoke", json!({ "lease_id": first })).await.ok();
    server.aws().fail("CreateUser", "ServiceFailure", 500);
    assert!(server.get("aws/creds/ci").await.status >= 400);
    minutes(&server, NOTE_AGE / 60 + 1).await;
    assert_eq!(only_user(&server), "ci");
    assert!(keys_of(&server, "ci").contains(&second.text("/data/access_key")));
    server.put("sys/leases/revoke", json!({ "lease_id": second.lease() })).await.ok();
    assert!(server.aws().users().is_empty());
    assert!(rows(&server).await.is_empty());
}

/// Story: as above, the other way round. The name was the first lease's for as long as that lasted, so what a lost answer left was left for ever.
#[tokio::test]
async fn a_lease_whose_user_is_gone_keeps_no_other_of_its_name_alive() {
    let server = without_chance().await;
    minted(&server).await;
    server.aws().remove_user("ci");
    server.aws().fail("CreateUser", "", 0);
    assert!(server.get("aws/creds/ci").await.status >= 400);
    assert!(server.aws().users().is_empty());
}

/// A key must not live on because the server may not look at users. But then the name alone says which is meant.
#[tokio::test]
async fn without_a_right_to_look_a_user_goes_unless_its_name_was_anothers_too() {
    let server = without_chance().await;
    let first = minted(&server).await.lease();
    server.aws().remove_user("ci");
    let second = minted(&server).await.lease();
    server.aws().fail_often("GetUser", "AccessDenied", 403, 2);
    for lease in [&first, &second] {
        let refused = server.put("sys/leases/revoke", json!({ "lease_id": lease })).await;
        assert!(refused.refused(400).contains("before it is deleted: AccessDenied"), "{}", refused.body);
        only_user(&server);
    }
    server.put("sys/leases/revoke", json!({ "lease_id": first })).await.ok();
    server.aws().fail("GetUser", "AccessDenied", 403);
    server.put("sys/leases/revoke", json!({ "lease_id": second })).await.ok();
    assert!(server.aws().users().is_empty());
}

/// Story: a note of a user that an operator dropped left a row behind, and every change of config/root warned of a user that nobody had.
#[tokio::test]
async fn a_note_that_is_dropped_takes_its_row_along() {
    let server = server().await;
    server.aws().fail("CreateAccessKey", "", 0);
    server.aws().fail_often("ListGroupsForUser", "AccessDenied", 403, 100);
    assert!(server.get("aws/creds/ci").await.status >= 400);
    let user = only_user(&server);
    minutes(&server, NOTE_AGE / 60 + 1).await;
    server.delete(&format!("aws/config/parked-users/{user}")).await.ok();
    assert!(rows(&server).await.is_empty());
}

/// Story: the server had no right to GetUser. So it did not know how old a user was, and deleted somebody's.
#[tokio::test]
async fn what_cannot_be_looked_at_is_not_deleted() {
    let server = without_chance().await;
    server.aws().add_user("ci");
    server.seconds(600).await;
    server.aws().fail("CreateUser", "ServiceFailure", 500);
    server.aws().fail_often("GetUser", "AccessDenied", 403, 100);
    assert!(server.get("aws/creds/ci").await.status >= 400);
    minutes(&server, NOTE_AGE / 60 + 1).await;
    assert_eq!(only_user(&server), "ci");
    let parked = server.get("aws/config/parked-users/ci").await.ok().text("/data/last_error");
    assert!(parked.contains("before it is deleted: AccessDenied"), "{parked}");
    server.aws().forgive();
    // Nor where nobody can tell how old it is.
    let unsure = server.put("aws/config/parked-users/ci", Value::Null).await;
    assert!(unsure.refused(400).contains("AWS's clock could not be read"), "{}", unsure.body);
    server.aws().differ(Skew::default());
    server.put("aws/config/parked-users/ci", Value::Null).await.ok();
    assert_eq!(only_user(&server), "ci");
    assert_eq!(server.get("aws/config/parked-users/ci").await.status, 404);
}

/// Story: the mount was removed while a user was being made; AWS made it afterwards, for nobody. And while one removal waited, all others did;
/// and one that was moved meanwhile was not waited for.
#[tokio::test]
async fn a_mount_is_removed_only_after_the_requests_that_came_before() {
    for moved in [false, true] {
        let server = server().await;
        server.put("sys/mounts/other", json!({ "type": "kv" })).await.ok();
        server.aws().guard(|action| if action == "CreateAccessKey" { Gate::DieBefore } else { Gate::Open });
        let (minted, (), ()) = tokio::join!(
            server.get("aws/creds/ci").into_future(),
            async {
                tokio::task::yield_now().await;
                only_user(&server);
                if moved {
                    server.put("sys/remount", json!({ "from": "aws", "to": "away" })).await.ok();
                    server.work().await;
                }
                server.delete(if moved { "sys/mounts/away" } else { "sys/mounts/aws" }).await.ok();
                assert!(server.aws().users().is_empty());
            },
            async {
                server.seconds(30).await;
                // It waits for nobody else.
                server.delete("sys/mounts/other").await.ok();
                server.seconds(30).await;
                only_user(&server);
                server.seconds(31).await;
                server.seconds(5).await;
            }
        );
        assert!(minted.refused(500).contains("context deadline exceeded"), "{}", minted.body);
        assert_eq!(server.get("aws/creds/ci").await.status, 404);
    }
}

/// Story: a request whose CreateUser was not answered took the user of this name apart, which another request was just making.
#[tokio::test]
async fn a_user_in_the_making_is_somebodys() {
    let server = without_chance().await;
    server.aws().guard(|action| if action == "CreateAccessKey" { Gate::DieBefore } else { Gate::Open });
    let (first, ()) = tokio::join!(server.get("aws/creds/ci").into_future(), async {
        tokio::task::yield_now().await;
        only_user(&server);
        server.aws().fail("CreateUser", "ServiceFailure", 500);
        assert!(server.get("aws/creds/ci").await.status >= 400);
        assert_eq!(only_user(&server), "ci");
        server.seconds(91).await;
    });
    assert!(first.refused(500).contains("context deadline exceeded"), "{}", first.body);
    minutes(&server, NOTE_AGE / 60 + 1).await;
    assert!(server.aws().users().is_empty());
    server.aws().unguard();
    minted(&server).await;
}

/// Story: the note of a user that was taken back stayed, and later cost the next one of that name its life.
#[tokio::test]
async fn a_user_that_is_taken_back_at_once_leaves_no_note() {
    let server = without_chance().await;
    let before = server.keys().await;
    let token = server.token(json!({ "policies": ["root"], "num_uses": 1 })).await;
    assert!(server.get("aws/creds/ci").token(&token).await.refused(400).contains("one use left"));
    assert_eq!(server.keys().await, before);
}

/// Story: a lease that was lent to a batch token was renewed far beyond the end of that token.
#[tokio::test]
async fn a_renewal_does_not_outlive_the_batch_token_that_the_user_was_lent() {
    let server = server().await;
    server.put("sys/policies/acl/up", json!({ "policy": r#"path "*" { capabilities = ["read", "update"] }"# })).await.ok();
    for orphan in [true, false] {
        let body = json!({ "type": "batch", "ttl": "10m", "policies": ["up"], "no_parent": orphan });
        let token = server.put("auth/token/create", body).await.ok().token();
        let made = server.get("aws/creds/ci").token(&token).await.ok();
        assert_eq!(made.number("/lease_duration"), 600);
        server.seconds(60).await;
        let renewed = server.put("sys/leases/renew", json!({ "lease_id": made.lease(), "increment": "1h" })).await.ok();
        assert_eq!(renewed.number("/lease_duration"), 540, "orphan: {orphan}");
        assert!(renewed["warnings"][0].as_str().unwrap().contains("capped"), "{}", renewed.body);
        server.seconds(541).await;
        assert!(server.aws().users().is_empty());
    }
}

#[tokio::test]
async fn a_restart_forgets_no_user() {
    let server = server().await;
    let lease = minted(&server).await.lease();
    let server = server.restart().await;
    server.put("sys/leases/lookup", json!({ "lease_id": lease })).await.ok();
    server.seconds(1801).await;
    assert!(server.aws().users().is_empty());
}

/// Story: the answer to CreateUser was lost, and config/root was pointed at another account before the regular work came round. There the user was
/// not found, so that its note went, and the user stayed.
#[tokio::test]
async fn the_note_of_a_user_of_another_account_stays() {
    let server = server().await;
    server.aws().fail("CreateUser", "", 0);
    server.aws().fail_often("ListGroupsForUser", "", 0, 2);
    assert!(server.get("aws/creds/ci").await.status >= 400);
    let user = only_user(&server);
    server.put("aws/config/root", json!({ "access_key": "AKIAOTHER", "secret_key": "other-secret" })).await.ok();
    account(&server, "222222222222");
    let shown = format!("aws/config/parked-users/{user}");
    let said = async || {
        minutes(&server, 70).await;
        server.get(&shown).await.ok().text("/data/last_error")
    };
    let elsewhere = "was made in account 123456789012, and config/root leads to account 222222222222 now";
    // One of the same name is somebody's.
    let there = said().await;
    assert!(there.contains(elsewhere) && only_user(&server) == user, "{there}");
    server.aws().remove_user(&user);
    let gone = said().await;
    assert!(gone.contains(elsewhere) && gone.contains("drop this entry"), "{gone}");
    account(&server, "123456789012");
    server.aws().add_user(&user);
    server.put(&shown, Value::Null).await.ok();
    assert!(server.aws().users().is_empty());
}

/// Story: this server's clock was ten minutes ahead, so that the user of a lost answer looked older than the request for it and was left for ever.
#[tokio::test]
async fn how_old_a_user_is_goes_by_awss_clock() {
    let server = server().await;
    server.aws().differ(Skew::seen(-600_000));
    server.aws().fail("CreateUser", "", 0);
    server.aws().fail_often("ListGroupsForUser", "", 0, 2);
    assert!(server.get("aws/creds/ci").await.status >= 400);
    only_user(&server);
    // Put right since: what counts is how it was then.
    server.aws().differ(Skew::default());
    minutes(&server, NOTE_AGE / 60 + 2).await;
    assert!(server.aws().users().is_empty());
}

fn keys_of(server: &TestServer, user: &str) -> Vec<String> {
    let id = |holding| if let Holding::AccessKey(id) = holding { Some(id) } else { None };
    server.aws().holdings(user).into_iter().filter_map(id).collect()
}

#[tokio::test]
async fn the_root_key_is_replaced_only_by_one_that_works() {
    let server = server().await;
    server.aws().add_user("root-of-the-mount");
    server.aws().hang("root-of-the-mount", Holding::AccessKey("AKIAROOT".into()));
    let rotated = server.put("aws/config/rotate-root", Value::Null).await.ok();
    let new = rotated.text("/data/access_key");
    assert_eq!(keys_of(&server, "root-of-the-mount"), std::slice::from_ref(&new));
    assert_eq!(server.get("aws/config/root").await.ok().text("/data/access_key"), new);
    // What is asked now is signed with the new key.
    server.put("aws/roles/fed", json!({ "credential_type": "federation_token", "policy_document": "{}" })).await.ok();
    server.get("aws/sts/fed").await.ok();
    let calls = server.aws().made();
    let Some(Made::FederationToken(target, _)) = calls.last() else { panic!("{calls:?}") };
    assert_eq!(target.keys.as_ref().map(|keys| keys.access_key_id.clone()), Some(new));
}
