//! Leases, notes and rows of IAM users as earlier versions wrote them: without a unique id, one row for a name, in the beginning without an account.

use std::time::Duration;

use daypass_aws::Gate;
use daypass_sdk::{Cx, Error, LeaseInfo, LeaseTerms, Operation, Result, Seconds, Store};

use super::*;

fn cx(bench: &Bench) -> Cx {
    bench.cx("creds/ci", Operation::Read)
}

async fn put(bench: &Bench, key: &str, value: Value) {
    Store::new(Arc::clone(&bench.storage) as Arc<_>).put_json(key, &value).await.unwrap();
}

/// Revokes a lease that keeps these fields beside name and time.
async fn revoked(bench: &Bench, fields: Value) -> Result<(), Error> {
    let cx = cx(bench);
    let at = cx.clock.now();
    bench.advance(100);
    let mut internal = json!({ "username": "ci", "at": at });
    internal.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let terms = LeaseTerms { ttl: Seconds(60), max_ttl: Seconds::ZERO, renewable: true };
    let lease = LeaseInfo { id: "aws/creds/ci/x".into(), internal, issued: at, terms, increment: Seconds::ZERO };
    bench.mounted.revoke(cx, lease).await
}

#[tokio::test]
async fn a_lease_of_old_takes_the_user_of_its_name() {
    for fields in [json!({}), json!({ "account": "123456789012", "note": "wal/a" })] {
        let (bench, aws) = bench();
        aws.add_user("ci");
        if fields["note"].is_string() {
            put(&bench, "users/ci", json!({ "note": "wal/a" })).await;
        }
        revoked(&bench, fields).await.unwrap();
        assert!(aws.users().is_empty());
    }
}

#[tokio::test]
async fn a_lease_of_old_takes_no_user_of_another_account() {
    let (bench, aws) = bench();
    aws.add_user("ci");
    let refused = revoked(&bench, json!({ "account": "222222222222", "note": "wal/a" })).await.unwrap_err();
    assert!(refused.message.contains("was made in account 222222222222, and config/root leads to account 123456789012 now"), "{refused}");
    assert_eq!(aws.users(), ["ci"]);
}

#[tokio::test]
async fn a_lease_of_old_takes_no_user_that_another_one_has_or_may_have() {
    let (bench, aws) = bench();
    aws.add_user("ci");
    put(&bench, "users/ci", json!({ "note": "wal/b" })).await;
    let lease = json!({ "account": "123456789012", "note": "wal/a" });
    let refused = revoked(&bench, lease.clone()).await.unwrap_err();
    assert!(refused.message.contains("may be that of another lease") && refused.message.contains("with force"), "{refused}");
    // One that the other's row knows by its id is certainly the other's.
    put(&bench, "users/ci", json!({ "note": "wal/a" })).await;
    put(&bench, "users/ci/b", json!({ "note": "wal/b", "account": "123456789012", "id": "AIDAFAKE000000000001" })).await;
    revoked(&bench, lease).await.unwrap();
    assert_eq!(aws.users(), ["ci"]);
}

#[tokio::test]
async fn a_note_of_old_is_undone_and_its_row_goes() {
    let (bench, aws) = bench();
    aws.add_user("ci");
    put(&bench, "users/ci", json!({ "note": "wal/a" })).await;
    put(&bench, "wal/a", json!({ "username": "ci", "at": cx(&bench).clock.now() })).await;
    bench.advance(400);
    bench.mounted.tick(cx(&bench)).await.unwrap();
    assert!(aws.users().is_empty() && bench.storage.keys().is_empty(), "{:?}", bench.storage.keys());
}

/// Story: IAM listed the key of the user only when the user was to be deleted. Nobody looked for keys again, only for what people hang on users by hand, which
/// the server may not list: the lease was not revoked, for a reason that had nothing to do with it.
#[tokio::test]
async fn a_key_that_iam_lists_late_is_looked_for_again() {
    let (bench, aws) = bench();
    aws.add_user("ci");
    aws.add_key("ci").unwrap();
    aws.keys_are_listed_after(Duration::from_hours(1));
    let fake = Arc::clone(&aws);
    aws.guard(move |action| {
        if action == "DeleteUser" {
            fake.fail("ListGroupsForUser", "AccessDenied", 403);
        }
        Gate::Open
    });
    let refused = revoked(&bench, json!({})).await.unwrap_err();
    let why = "this was asked as the user could not be deleted: DeleteConflict: Cannot delete entity, must remove what hangs on it first.";
    assert!(refused.message.contains("AccessDenied") && refused.message.contains(why), "{refused}");
    aws.forgive();
    let fake = Arc::clone(&aws);
    aws.guard(move |action| {
        if action == "DeleteUser" {
            fake.keys_are_listed_after(Duration::ZERO);
            fake.fail("ListGroupsForUser", "AccessDenied", 403);
        }
        Gate::Open
    });
    revoked(&bench, json!({})).await.unwrap();
    aws.unguard();
    assert!(aws.users().is_empty());
}
