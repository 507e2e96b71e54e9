//! Keys that replace themselves, and what stays stuck.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daypass_aws::{Gate, Holding, Identity, Made, Skew};
use daypass_testkit::TestServer;
use serde_json::{Value, json};

const ROOT_USER: &str = "root-of-the-mount";

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.aws().add_user(ROOT_USER);
    let key = server.aws().add_key(ROOT_USER).unwrap();
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    server.put("aws/config/root", json!({ "access_key": key.id, "secret_key": key.secret.expose() })).await.ok();
    server.put("aws/roles/ci", json!({ "credential_type": "iam_user" })).await.ok();
    server
}

async fn minutes(server: &TestServer, minutes: u64) {
    for _ in 0..minutes {
        server.seconds(60).await;
    }
}

async fn root_key(server: &TestServer) -> String {
    server.get("aws/config/root").await.ok().text("/data/access_key")
}

/// A user that nobody got and that AWS does not let us delete so many times.
async fn stuck(server: &TestServer, times: usize) -> String {
    let before = server.aws().users();
    server.aws().fail("CreateAccessKey", "", 0);
    server.aws().fail_often("ListGroupsForUser", "AccessDenied", 403, times + 1);
    assert!(server.get("aws/creds/ci").await.status >= 400);
    server.aws().users().into_iter().find(|name| !before.contains(name)).unwrap()
}

#[tokio::test]
async fn a_user_that_cannot_be_deleted_is_parked_where_people_see_it() {
    let server = server().await;
    let user = stuck(&server, 1_000).await;
    assert_eq!(server.list("aws/config/parked-users").await.status, 404);
    minutes(&server, 90).await;
    assert_eq!(server.list("aws/config/parked-users").await.ok().body["data"]["keys"], json!([user]));
    let shown = server.get(&format!("aws/config/parked-users/{user}")).await.ok();
    assert!(shown.number("/data/attempts") >= 6 && shown.body["data"]["parked"] == true, "{}", shown.body);
    assert!(shown.text("/data/last_error").contains("AccessDenied"), "{}", shown.body);
    // Trying says what AWS says.
    let refused = server.put(&format!("aws/config/parked-users/{user}"), Value::Null).await;
    assert!(refused.refused(400).contains("AccessDenied"), "{}", refused.body);
    server.aws().forgive();
    server.put(&format!("aws/config/parked-users/{user}"), Value::Null).await.ok();
    assert!(!server.aws().users().contains(&user));
    assert_eq!(server.list("aws/config/parked-users").await.status, 404);
}

#[tokio::test]
async fn a_parked_user_is_tried_once_an_hour_and_can_be_dropped() {
    let server = server().await;
    let user = stuck(&server, 1_000).await;
    minutes(&server, 90).await;
    server.aws().forgive();
    minutes(&server, 65).await;
    assert!(!server.aws().users().contains(&user), "healed by itself");
    let user = stuck(&server, 1_000).await;
    minutes(&server, 90).await;
    let dropped = server.delete(&format!("aws/config/parked-users/{user}")).await.ok();
    assert!(dropped.text("/warnings/0").contains("may still exist"), "{}", dropped.body);
    server.aws().forgive();
    minutes(&server, 120).await;
    assert!(server.aws().users().contains(&user));
    let unknown = server.put(&format!("aws/config/parked-users/{user}"), Value::Null).await;
    assert!(unknown.refused(400).starts_with("no deletion of an IAM user"), "{}", unknown.body);
}

/// Story: notes were looked at fifty a minute from the front, so that those that failed for ever kept the others from their turn.
#[tokio::test]
async fn notes_that_fail_starve_no_other() {
    let server = server().await;
    for _ in 0..60 {
        server.aws().fail("CreateAccessKey", "", 0);
        server.aws().fail_often("ListGroupsForUser", "", 0, 2);
        assert!(server.get("aws/creds/ci").await.status >= 400);
    }
    let users = || server.aws().users().len() - 1;
    assert_eq!(users(), 60);
    // The first round fails at every one it looks at.
    server.aws().fail_often("ListGroupsForUser", "AccessDenied", 403, 50);
    minutes(&server, 5).await;
    assert_eq!(users(), 60);
    server.seconds(60).await;
    assert_eq!(users(), 50, "those behind had their turn");
    minutes(&server, 3).await;
    assert_eq!(users(), 0);
}

/// Story: a template without chance in it named a user that somebody had; the death of the second request deleted the first one's user.
#[tokio::test]
async fn a_user_that_was_there_before_is_not_taken_for_one_of_ours() {
    let server = server().await;
    server.put("aws/config/root", json!({ "username_template": "fixed" })).await.ok();
    server.get("aws/creds/ci").await.ok();
    minutes(&server, 20).await;
    server.aws().fail("CreateUser", "ServiceFailure", 500);
    server.aws().fail_often("ListGroupsForUser", "", 0, 2);
    assert!(server.get("aws/creds/ci").await.status >= 400);
    minutes(&server, 8).await;
    assert!(server.aws().users().contains(&"fixed".to_owned()));
}

#[tokio::test]
async fn the_root_key_replaces_itself_every_period_unless_that_is_switched_off() {
    let server = server().await;
    let first = root_key(&server).await;
    server.put("aws/config/root", json!({ "rotation_period": "1h" })).await.ok();
    minutes(&server, 59).await;
    assert_eq!(root_key(&server).await, first);
    minutes(&server, 2).await;
    let second = root_key(&server).await;
    assert_ne!(second, first);
    assert_eq!(server.aws().holdings(ROOT_USER), [Holding::AccessKey(second.clone())]);
    server.put("aws/config/root", json!({ "disable_automated_rotation": true })).await.ok();
    minutes(&server, 120).await;
    assert_eq!(root_key(&server).await, second);
    server.put("aws/config/root", json!({ "disable_automated_rotation": false })).await.ok();
    minutes(&server, 2).await;
    assert_ne!(root_key(&server).await, second);
}

/// The clock of a test begins on a Friday, 2026-01-02T03:04:05Z.
#[tokio::test]
async fn the_root_key_replaces_itself_when_its_cron_line_says_and_within_the_window() {
    let server = server().await;
    let first = root_key(&server).await;
    let fields = json!({ "rotation_schedule": "30 4 * * *", "rotation_window": "1h" });
    server.put("aws/config/root", fields).await.ok();
    let shown = server.get("aws/config/root").await.ok();
    assert_eq!((shown.text("/data/rotation_schedule"), shown.number("/data/rotation_window")), ("30 4 * * *".to_owned(), 3600));
    minutes(&server, 85).await;
    assert_eq!(root_key(&server).await, first);
    minutes(&server, 2).await;
    let second = root_key(&server).await;
    assert_ne!(second, first);
    // A whole window of refusals: it waits for the next day.
    server.aws().fail_often("CreateAccessKey", "AccessDenied", 403, 100);
    server.seconds(23 * 3600 + 50 * 60).await;
    minutes(&server, 80).await;
    server.aws().forgive();
    minutes(&server, 120).await;
    assert_eq!(root_key(&server).await, second);
    server.seconds(20 * 3600).await;
    minutes(&server, 65).await;
    assert_ne!(root_key(&server).await, second);
}

#[tokio::test]
async fn a_root_rotation_that_fails_leaves_the_old_key_and_waits_longer_each_time() {
    let server = server().await;
    let first = root_key(&server).await;
    server.put("aws/config/root", json!({ "rotation_period": "1h" })).await.ok();
    server.aws().fail_often("CreateAccessKey", "AccessDenied", 403, 3);
    minutes(&server, 61 + 5).await;
    assert_eq!(root_key(&server).await, first);
    minutes(&server, 4).await;
    assert_ne!(root_key(&server).await, first);
}

#[tokio::test]
async fn a_new_root_key_that_aws_never_accepts_is_deleted_and_the_old_one_stays() {
    let server = server().await;
    let first = root_key(&server).await;
    server.aws().keys_settle_after(std::time::Duration::from_hours(1));
    server.seconds(3700).await;
    let time = async {
        for _ in 0..40 {
            server.seconds(1).await;
        }
    };
    let (refused, ()) = tokio::join!(server.put("aws/config/rotate-root", Value::Null), time);
    assert!(refused.refused(500).contains("the old one stays in force"), "{}", refused.body);
    assert_eq!(server.aws().holdings(ROOT_USER), [Holding::AccessKey(first.clone())]);
    assert_eq!(root_key(&server).await, first);
}

/// Story: the old key could not be deleted, and nobody tried again.
#[tokio::test]
async fn an_old_root_key_that_is_not_deleted_at_once_is_deleted_later() {
    let server = server().await;
    server.aws().fail("DeleteAccessKey", "ServiceFailure", 500);
    let refused = server.put("aws/config/rotate-root", Value::Null).await;
    assert!(refused.refused(500).contains("error deleting old access key: "), "{}", refused.body);
    assert_eq!(server.aws().holdings(ROOT_USER).len(), 2);
    minutes(&server, 3).await;
    assert_eq!(server.aws().holdings(ROOT_USER), [Holding::AccessKey(root_key(&server).await)]);
}

fn account(server: &TestServer, account: &str) {
    let (arn, user_id) = (format!("arn:aws:iam::{account}:user/root"), "AIDAROOT".to_owned());
    server.aws().set_identity(Ok(Identity { account: account.to_owned(), arn, user_id }));
}

/// Story: config/root was pointed at another account while the key before was still to be deleted. There it was not found, which counted as deleted,
/// and a key that works stayed behind with nobody to know it.
#[tokio::test]
async fn an_old_root_key_of_another_account_is_not_taken_for_deleted() {
    let server = server().await;
    let first = root_key(&server).await;
    server.aws().fail_often("DeleteAccessKey", "ServiceFailure", 500, 2);
    server.put("aws/config/rotate-root", Value::Null).await.refused(500);
    let warned = server.put("aws/config/root", json!({ "access_key": "AKIAOTHER", "secret_key": "other-secret" })).await.ok();
    assert!(warned.text("/warnings/0").contains("could not be yet (1)"), "{}", warned.body);
    account(&server, "222222222222");
    server.aws().remove_user(ROOT_USER);
    minutes(&server, 90).await;
    let shown = server.get(&format!("aws/config/parked-users/{ROOT_USER}")).await.ok();
    let said = shown.text("/data/last_error");
    let elsewhere = format!(
        "access key {first} of IAM user \"{ROOT_USER}\" was made in account 123456789012, and config/root leads to account 222222222222"
    );
    assert!(said.contains(&elsewhere), "{said}");
    account(&server, "123456789012");
    server.aws().add_user(ROOT_USER);
    server.aws().hang(ROOT_USER, Holding::AccessKey(first));
    minutes(&server, 65).await;
    assert_eq!(server.aws().holdings(ROOT_USER), []);
    assert_eq!(server.list("aws/config/parked-users").await.status, 404);
}

/// Story: rotate-root came while a mint waited for AWS to stop throttling it. The mint went on with the old key, which was deleted by then, and failed.
#[tokio::test]
async fn a_mint_that_waits_while_the_root_key_is_replaced_goes_on_with_the_new_one() {
    for via in ["", "arn:aws:iam::999999999999:role/hub"] {
        let server = server().await;
        let role = json!({ "credential_type": "assumed_role", "role_arns": "arn:aws:iam::111111111111:role/app", "via_role_arn": via });
        server.put("aws/roles/app", role).await.ok();
        let is_first = AtomicBool::new(true);
        server.aws().guard(move |action| {
            let waits = action == "AssumeRole" && is_first.swap(false, Ordering::Relaxed);
            if waits { Gate::Late(Duration::from_secs(20)) } else { Gate::Open }
        });
        let first = root_key(&server).await;
        let rotation = async {
            tokio::task::yield_now().await;
            server.put("aws/config/rotate-root", Value::Null).await.ok();
            for _ in 0..25 {
                server.seconds(1).await;
            }
        };
        let (minted, ()) = tokio::join!(server.get("aws/sts/app").into_future(), rotation);
        minted.ok();
        assert!(root_key(&server).await != first && !held(&server, &first));
    }
}

async fn failed_rotation(server: &TestServer, code: &str, status: u16) {
    server.aws().fail("CreateAccessKey", code, status);
    let refused = server.put("aws/config/rotate-root", Value::Null).await;
    assert!(refused.refused(500).contains("error calling CreateAccessKey"), "{}", refused.body);
}

fn held(server: &TestServer, id: &str) -> bool {
    server.aws().holdings(ROOT_USER).contains(&Holding::AccessKey(id.to_owned()))
}

/// Story: a key whose making was not answered was looked for at the user of the same name in the account that config/root led to by then: one that was
/// made there at that moment was deleted, and without one the note was dropped, so that ours worked on with nobody to know it.
#[tokio::test]
async fn a_key_that_nobody_knows_is_looked_for_in_its_own_account_alone() {
    let server = server().await;
    server.aws().differ(Skew::default());
    let first = root_key(&server).await;
    failed_rotation(&server, "", 0).await;
    let both = server.aws().holdings(ROOT_USER);
    assert_eq!(both.len(), 2);
    account(&server, "222222222222");
    minutes(&server, 10).await;
    assert_eq!(server.aws().holdings(ROOT_USER), both);
    let shown = format!("aws/config/parked-users/{ROOT_USER}");
    let said = server.get(&shown).await.ok().text("/data/last_error");
    assert!(said.contains("was made in account 123456789012, and config/root leads to account 222222222222 now"), "{said}");
    account(&server, "123456789012");
    server.put(&shown, Value::Null).await.ok();
    assert_eq!(server.aws().holdings(ROOT_USER), [Holding::AccessKey(first)]);
}

/// Story: the same while STS did not answer, which counted as the account of the note. Where nobody says which account is asked, nothing is deleted there; IAM
/// says it as well, of the user.
#[tokio::test]
async fn a_key_that_nobody_knows_is_deleted_only_where_aws_says_whose_user_has_it() {
    let server = server().await;
    server.aws().differ(Skew::default());
    let first = root_key(&server).await;
    failed_rotation(&server, "", 0).await;
    let both = server.aws().holdings(ROOT_USER);
    let shown = format!("aws/config/parked-users/{ROOT_USER}");
    server.aws().guard(|action| if action == "GetCallerIdentity" { Gate::Cut } else { Gate::Open });
    server.aws().fail_often("GetUser", "AccessDenied", 403, 100);
    minutes(&server, 10).await;
    let said = server.get(&shown).await.ok().text("/data/last_error");
    assert!(said.contains("unable to see which account was asked for the access key: "), "{said}");
    server.aws().forgive();
    account(&server, "222222222222");
    let refused = server.put(&shown, Value::Null).await;
    assert!(refused.refused(400).contains("config/root leads to account 222222222222 now"), "{}", refused.body);
    assert_eq!(server.aws().holdings(ROOT_USER), both);
    account(&server, "123456789012");
    server.put(&shown, Value::Null).await.ok();
    assert_eq!(server.aws().holdings(ROOT_USER), [Holding::AccessKey(first)]);
}

/// Story: whatever key was made within ten minutes of a rotation that failed was taken for the rotation's own, and deleted.
#[tokio::test]
async fn a_key_that_a_person_made_after_a_failed_rotation_stays() {
    let server = server().await;
    server.aws().differ(Skew::default());
    failed_rotation(&server, "ServiceFailure", 500).await;
    server.seconds(20).await;
    let by_hand = server.aws().add_key(ROOT_USER).unwrap();
    minutes(&server, 120).await;
    assert!(held(&server, &by_hand.id));
    assert_eq!(server.get(&format!("aws/config/parked-users/{ROOT_USER}")).await.status, 404, "it is certain that it is not ours");
}

/// Story: as above. What was made while the call was under way may be somebody's too, and then it is used.
#[tokio::test]
async fn a_key_that_may_be_ours_and_is_used_is_left_and_shown() {
    let server = server().await;
    server.aws().differ(Skew::default());
    failed_rotation(&server, "ServiceFailure", 500).await;
    let by_hand = server.aws().add_key(ROOT_USER).unwrap();
    server.aws().use_key(&by_hand.id);
    minutes(&server, 90).await;
    assert!(held(&server, &by_hand.id));
    assert_eq!(server.list("aws/config/parked-users").await.ok().body["data"]["keys"], json!([ROOT_USER]));
    let shown = server.get(&format!("aws/config/parked-users/{ROOT_USER}")).await.ok();
    let said = shown.text("/data/last_error");
    assert!(said.contains(&by_hand.id) && said.contains("was used at"), "{}", shown.body);
}

/// Story: when AWS did not say whether a key was used, it counted as one that nobody has used, and was deleted.
#[tokio::test]
async fn a_key_of_which_aws_does_not_say_whether_it_was_used_is_not_deleted() {
    let server = server().await;
    server.aws().differ(Skew::default());
    failed_rotation(&server, "ServiceFailure", 500).await;
    let by_hand = server.aws().add_key(ROOT_USER).unwrap();
    server.aws().use_key(&by_hand.id);
    server.aws().fail_often("GetAccessKeyLastUsed", "Throttling", 400, 3);
    minutes(&server, 90).await;
    assert!(held(&server, &by_hand.id));
}

/// Story: the window was made wide because clocks differ, which can be known.
#[tokio::test]
async fn a_lost_key_is_found_by_awss_clock_and_named_in_the_log() {
    let server = server().await;
    server.aws().differ(Skew::seen(240_000));
    failed_rotation(&server, "", 0).await;
    assert_eq!(server.aws().holdings(ROOT_USER).len(), 2);
    let lost = server.aws().holdings(ROOT_USER).into_iter().find_map(|held| match held {
        Holding::AccessKey(id) if id != "AKIAFAKE000000000002" => Some(id),
        _ => None,
    });
    minutes(&server, 7).await;
    assert_eq!(server.aws().holdings(ROOT_USER), [Holding::AccessKey(root_key(&server).await)], "{lost:?}");
}

/// Where AWS's clock is not known and its answer was lost, a strange key near the time is left to people.
#[tokio::test]
async fn a_strange_key_is_left_to_people_where_the_clock_is_not_known() {
    let server = server().await;
    failed_rotation(&server, "ServiceFailure", 500).await;
    server.seconds(20).await;
    let by_hand = server.aws().add_key(ROOT_USER).unwrap();
    minutes(&server, 90).await;
    assert!(held(&server, &by_hand.id));
    let shown = server.get(&format!("aws/config/parked-users/{ROOT_USER}")).await.ok();
    assert!(shown.text("/data/last_error").contains("clock could not be read"), "{}", shown.body);
    server.delete(&format!("aws/config/parked-users/{ROOT_USER}")).await.ok();
    assert!(held(&server, &by_hand.id));
}

/// Story: of two keys a static role took the one that was not its own, whose ever it was: that of `config/root`, that of another static role.
#[tokio::test]
async fn a_static_role_deletes_no_key_that_is_in_use_here() {
    let server = server().await;
    let role = |user: &str| json!({ "username": user, "rotation_period": "1h" });
    let root = root_key(&server).await;
    let other = server.aws().add_key(ROOT_USER).unwrap();
    let refused = server.put("aws/static-roles/root", role(ROOT_USER)).await;
    assert!(refused.refused(400).contains("is the one that this mount works with"), "{}", refused.body);
    assert!(held(&server, &root) && held(&server, &other.id), "nothing was deleted");

    server.aws().add_user("legacy");
    server.put("aws/static-roles/one", role("legacy")).await.ok();
    let refused = server.put("aws/static-roles/two", role("legacy")).await;
    assert!(refused.refused(400).contains("is that of static role \"one\" already"), "{}", refused.body);
    assert!(refused.refused(400).contains("delete that role before this one is written"), "{}", refused.body);
    server.put("aws/static-roles/one", role("legacy")).await.ok();
    // A user that was made anew under the same name is another one.
    server.aws().remove_user("legacy");
    server.aws().add_user("legacy");
    server.put("aws/static-roles/two", role("legacy")).await.ok();
}

#[tokio::test]
async fn a_schedule_that_makes_no_sense_is_refused() {
    let server = server().await;
    for (fields, said) in [
        (json!({ "rotation_period": "10s" }), "rotation_period is too short"),
        (json!({ "rotation_schedule": "* *" }), "invalid rotation_schedule \"* *\": it has 2 fields"),
        (json!({ "rotation_schedule": "@daily", "rotation_period": 60 }), "mutually exclusive fields"),
        (json!({ "rotation_window": 60, "rotation_period": 60 }), "rotation_window does not apply to period"),
        (json!({ "rotation_window": 60 }), "cannot use rotation_window without rotation_schedule"),
        (json!({ "rotation_period": "1h", "access_key": "", "secret_key": "" }), "need an access_key and a secret_key"),
    ] {
        let refused = server.put("aws/config/root", fields).await;
        assert!(refused.refused(400).contains(said), "{}", refused.body);
    }
}

#[tokio::test]
async fn a_static_key_follows_a_cron_line_and_its_window() {
    let server = server().await;
    server.aws().add_user("legacy");
    let fields = json!({ "username": "legacy", "rotation_schedule": "0 */6 * * *", "rotation_window": "1h" });
    let shown = server.put("aws/static-roles/legacy", fields).await.ok();
    assert_eq!((shown.text("/data/rotation_schedule"), shown.number("/data/rotation_window")), ("0 */6 * * *".to_owned(), 3600));
    let creds = async || server.get("aws/static-creds/legacy").await.ok();
    let first = creds().await;
    assert_eq!(first.text("/data/expiration"), "2026-01-02T06:00:00Z");
    minutes(&server, 177).await;
    let second = creds().await;
    assert_ne!(second.text("/data/access_key"), first.text("/data/access_key"));
    assert_eq!(second.text("/data/expiration"), "2026-01-02T12:00:00Z");
    // A change to a period counts from the last rotation.
    server.put("aws/static-roles/legacy", json!({ "rotation_period": "2h" })).await.ok();
    assert!(creds().await.text("/data/expiration").starts_with("2026-01-02T08:0"));
    let shown = server.get("aws/static-roles/legacy").await.ok();
    assert!(shown.body["data"].get("rotation_schedule").is_none() && shown.number("/data/rotation_period") == 7200, "{}", shown.body);
}

#[tokio::test]
async fn a_user_of_another_account_is_reached_through_its_role() {
    let server = server().await;
    server.aws().add_user("legacy");
    let role = "arn:aws:iam::111111111111:role/key-rotation";
    let fields = json!({ "username": "legacy", "rotation_period": "1h", "assume_role_arn": role, "assume_role_session_name": "turn",
        "external_id": "e-1" });
    let shown = server.put("aws/static-roles/legacy", fields).await.ok();
    assert_eq!((shown.text("/data/assume_role_arn"), shown.text("/data/external_id")), (role.to_owned(), "e-1".to_owned()));
    let assumed = |server: &TestServer| {
        let calls = server.aws().made().into_iter();
        calls
            .filter(|made| {
                matches!(made, Made::AssumeRole(_, input) if input.role_arn == role && input.session_name == "turn"
            && input.external_id.as_deref() == Some("e-1"))
            })
            .count()
    };
    assert_eq!(assumed(&server), 1);
    let first = server.get("aws/static-creds/legacy").await.ok().text("/data/access_key");
    minutes(&server, 61).await;
    assert_eq!(assumed(&server), 2);
    assert_ne!(server.get("aws/static-creds/legacy").await.ok().text("/data/access_key"), first);
    server.delete("aws/static-roles/legacy").await.ok();
    assert_eq!((assumed(&server), server.aws().holdings("legacy")), (3, vec![Holding::AccessKey(first)]));
    for (fields, said) in [
        (json!({ "assume_role_arn": "arn:aws:iam::1:user/x" }), "is no ARN of an IAM role"),
        (json!({ "external_id": "e" }), "need an assume_role_arn"),
        (json!({ "assume_role_arn": role, "assume_role_session_name": "a b" }), "is no session name"),
    ] {
        let mut all = json!({ "username": "legacy", "rotation_period": "1h" });
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let refused = server.put("aws/static-roles/other", all).await;
        assert!(refused.refused(400).contains(said), "{}", refused.body);
    }
}
