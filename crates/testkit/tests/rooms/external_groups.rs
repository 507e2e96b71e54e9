//! External groups: which tokens are in them, and from when on. Membership is the login's, and goes on to what is made with its token.

use daypass_testkit::Answer;
use serde_json::{Value, json};

use crate::identity::House;

/// A house where `team-a` reads, and where whoever logs in may make tokens.
async fn house() -> House {
    let house = House::open().await;
    external(&house, "team-a", json!({ "name": "readers", "policies": "reads" })).await;
    let makes = r#"path "auth/token/create" { capabilities = ["sudo", "update"] }"#;
    house.policy("makes", makes).await;
    house
}

async fn external(house: &House, alias: &str, mut fields: Value) {
    fields["type"] = json!("external");
    let group = house.group(fields).await;
    let alias = json!({ "name": alias, "mount_accessor": house.accessor, "canonical_id": group });
    house.put("identity/group-alias", alias).await.ok();
}

async fn child(house: &House, parent: &str, fields: Value) -> Answer {
    house.put("auth/token/create", fields).token(parent).await.ok()
}

/// From now on a renewal finds these.
async fn regroup(house: &House, token: &str, groups: &str) {
    house.put("auth/gate/groups", json!({ "groups": groups })).await.ok();
    house.put("auth/token/renew-self", json!({})).token(token).await.ok();
}

/// Story: a child had a copy of its login's groups. Who left a team lost its rights with the next renewal of the login's token, and kept them in
/// every child for as long as that was renewed: a periodic one for ever. Now the login's token is asked each time.
#[tokio::test]
async fn children_are_in_the_groups_that_their_login_is_in_now() {
    let house = house().await;
    let (login, _) = house.login(json!({ "name": "ann", "groups": "team-a", "policies": "makes" })).await;
    let first = child(&house, &login, json!({ "period": "1h" })).await;
    assert_eq!(first["auth"]["identity_policies"], json!(["reads"]));
    let first = first.token();
    let second = child(&house, &first, json!({ "policies": ["makes"] })).await.token();
    let batch = child(&house, &second, json!({ "type": "batch" })).await.token();
    let all = [&login, &first, &second, &batch];
    for (groups, status, may) in [("team-a", 200, "read"), ("team-b", 403, "deny"), ("Team-A,team-b", 200, "read"), ("", 403, "deny")] {
        regroup(&house, &login, groups).await;
        house.put("auth/token/renew-self", json!({})).token(&first).await.ok();
        for token in all {
            assert_eq!((house.reads(token, "kv/open").await, house.may(token, "kv/open").await.as_str()), (status, may), "{groups:?}");
        }
        let looked = house.get("auth/token/lookup-self").token(&first).await.ok();
        assert_eq!(looked["data"].get("identity_policies").is_some(), status == 200, "{groups:?}");
    }
}

/// What a policy's templates make of groups is kept by the groups that were asked, not by those in the row.
#[tokio::test]
async fn templates_of_a_child_see_the_groups_of_its_login() {
    let house = house().await;
    external(&house, "team-b", json!({ "name": "ops", "metadata": { "area": "51" } })).await;
    house.policy("t", r#"path "kv/group/{{identity.groups.names.ops.metadata.area}}" { capabilities = ["read"] }"#).await;
    let (login, _) = house.login(json!({ "name": "ann", "groups": "team-b", "policies": "makes,t" })).await;
    let child = child(&house, &login, json!({})).await.token();
    for (groups, may) in [("team-b", "read"), ("team-c", "deny"), ("team-b", "read")] {
        regroup(&house, &login, groups).await;
        assert_eq!((house.may(&child, "kv/group/51").await.as_str(), house.may(&login, "kv/group/51").await.as_str()), (may, may));
    }
}

/// Other than in Vault, where the last login decides for all tokens of the entity: jobs that run beside each other give each other nothing and
/// take nothing from each other.
#[tokio::test]
async fn two_logins_of_one_entity_have_each_their_own_groups() {
    let house = house().await;
    let (inside, entity) = house.login(json!({ "name": "ann", "groups": "team-a", "policies": "makes" })).await;
    let (outside, same) = house.login(json!({ "name": "ann", "groups": "team-b", "policies": "makes" })).await;
    assert_eq!(entity, same);
    let (of_inside, of_outside) = (child(&house, &inside, json!({})).await.token(), child(&house, &outside, json!({})).await.token());
    for (token, status) in [(&inside, 200), (&of_inside, 200), (&outside, 403), (&of_outside, 403)] {
        assert_eq!(house.reads(token, "kv/open").await, status);
    }
}

/// Story: of the groups that a login reported the first thousand were looked up, with all repetitions, and the rest was left out: a group that
/// denies, too. Now each name counts once, all are looked up, and more than any method honestly reports are refused.
#[tokio::test]
async fn no_group_is_left_out_because_there_are_many() {
    let house = house().await;
    house.policy("denies", r#"path "kv/open" { capabilities = ["deny"] }"#).await;
    external(&house, "team-z", json!({ "policies": "denies" })).await;
    let names = |count: usize| -> Vec<String> { (0..count).map(|number| format!("team-{number:04}")).collect() };
    let and_those_that_count = |mut names: Vec<String>| {
        names.extend(["team-a".to_owned(), "team-z".to_owned()]);
        names
    };
    let repeated = || and_those_that_count([names(1_998), vec!["TEAM-0000".to_owned(); 500]].concat());
    let (login, _) = house.login(json!({ "name": "ann", "groups": repeated() })).await;
    let looked = house.get("auth/token/lookup-self").token(&login).await.ok();
    assert_eq!(looked["data"]["identity_policies"], json!(["denies", "reads"]));
    assert_eq!(house.reads(&login, "kv/open").await, 403);
    let text = "the auth method reported 2001 names of groups of this login, over the limit of 2000: leave some of the groups there";
    let many = and_those_that_count(names(1_999));
    assert_eq!(house.enter(json!({ "name": "ann", "groups": many })).await.refused(400), text);
    let renew = || house.put("auth/token/renew-self", json!({})).token(&login);
    house.put("auth/gate/groups", json!({ "groups": many })).await.ok();
    assert_eq!(renew().await.refused(400), format!("failed to renew entry: {text}"));
    house.put("auth/gate/groups", json!({ "groups": repeated() })).await.ok();
    assert_eq!(renew().await.ok()["auth"]["identity_policies"], json!(["denies", "reads"]));
}

/// Nobody can tell any more in which groups the login would be.
#[tokio::test]
async fn a_child_that_outlives_its_login_is_in_no_external_group() {
    let house = house().await;
    let (login, entity) = house.login(json!({ "name": "ann", "groups": "team-a", "policies": "makes" })).await;
    let left = child(&house, &login, json!({ "policies": ["makes"] })).await.token();
    let below = child(&house, &left, json!({})).await.token();
    house.put("auth/token/revoke-orphan", json!({ "token": login })).await.ok();
    for token in [&left, &below] {
        assert_eq!((house.status_of(token).await, house.reads(token, "kv/open").await), (200, 403));
    }
    house.group(json!({ "policies": "reads", "member_entity_ids": [entity] })).await;
    assert_eq!(house.reads(&below, "kv/open").await, 200, "what its entity is in is not the login's");
}
