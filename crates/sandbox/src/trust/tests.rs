//! Who a trust policy trusts.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::policy::Use;

struct Pairs(Vec<(&'static str, String)>);

impl Facts for Pairs {
    fn values(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(name, _)| *name == key).map(|(_, value)| value.clone()).collect()
    }
}

const TASK: Asker<'_> = Asker::Aws {
    account: "999999999999",
    arn: "arn:aws:sts::999999999999:assumed-role/task/s1",
    principal_arn: "arn:aws:iam::999999999999:role/task",
};

fn trust(statements: Value, asker: Asker<'_>, facts: &[(&'static str, &str)]) -> Trust {
    let document = Document::from_value(&json!({"Version": "2012-10-17", "Statement": statements}), Use::Trust).unwrap();
    let facts = Pairs(facts.iter().map(|(key, value)| (*key, (*value).to_owned())).collect());
    evaluate(&document, asker, "sts:AssumeRole", &facts)
}

fn allow(principal: Value) -> Value {
    json!([{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}])
}

#[test]
fn principals_are_named_in_every_documented_way() {
    for (principal, expected) in [
        (json!("*"), Trust::Principal),
        (json!({"AWS": "*"}), Trust::Principal),
        (json!({"AWS": "999999999999"}), Trust::Account),
        (json!({"AWS": "arn:aws:iam::999999999999:root"}), Trust::Account),
        (json!({"AWS": ["111111111111", "arn:aws:iam::999999999999:role/task"]}), Trust::Principal),
        (json!({"AWS": "arn:aws:sts::999999999999:assumed-role/task/s1"}), Trust::Session),
        (json!({"AWS": "arn:aws:sts::999999999999:assumed-role/task/s2"}), Trust::None),
        (json!({"AWS": "arn:aws:iam::999999999999:role/*"}), Trust::None),
        (json!({"AWS": "111111111111"}), Trust::None),
        (json!({"Service": "ecs-tasks.amazonaws.com"}), Trust::None),
        (json!({"Federated": "arn:aws:iam::999999999999:oidc-provider/x"}), Trust::None),
    ] {
        assert_eq!(trust(allow(principal.clone()), TASK, &[]), expected, "{principal}");
    }
    assert_eq!(
        trust(allow(json!({"Service": "ecs-tasks.amazonaws.com"})), Asker::Service { name: "ecs-tasks.amazonaws.com" }, &[]),
        Trust::Principal
    );
    let federated = Asker::Federated { provider_arn: "arn:aws:iam::1:oidc-provider/i", host: "i" };
    assert_eq!(trust(allow(json!({"Federated": "arn:aws:iam::1:oidc-provider/i"})), federated, &[]), Trust::Principal);
    assert_eq!(trust(allow(json!("*")), federated, &[]), Trust::None);
}

#[test]
fn external_id_and_other_conditions_are_required() {
    let statement = json!([{"Effect": "Allow", "Principal": {"AWS": "999999999999"}, "Action": "sts:AssumeRole", "Condition": {
        "StringEquals": {"sts:ExternalId": "ext-1"}, "ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/task"}, "StringLike": {"sts:RoleSessionName": "vault-*"}}}]);
    let good =
        [("sts:externalid", "ext-1"), ("aws:principalarn", "arn:aws:iam::999999999999:role/task"), ("sts:rolesessionname", "vault-x")];
    assert_eq!(trust(statement.clone(), TASK, &good), Trust::Account);
    assert_eq!(trust(statement.clone(), TASK, &good[1..]), Trust::None);
    let wrong = [("sts:externalid", "ext-2"), good[1], good[2]];
    assert_eq!(trust(statement.clone(), TASK, &wrong), Trust::None);
    let named = [good[0], good[1], ("sts:rolesessionname", "x")];
    assert_eq!(trust(statement, TASK, &named), Trust::None);
}

#[test]
fn denials_win_and_not_principal_denies_the_others() {
    let both = json!([
        {"Effect": "Allow", "Principal": "*", "Action": "sts:*"},
        {"Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::999999999999:role/task"}, "Action": "sts:AssumeRole"},
    ]);
    assert_eq!(trust(both, TASK, &[]), Trust::Denied);
    let others = json!([
        {"Effect": "Allow", "Principal": "*", "Action": "sts:*"},
        {"Effect": "Deny", "NotPrincipal": {"AWS": "arn:aws:iam::999999999999:role/task"}, "Action": "sts:AssumeRole"},
    ]);
    assert_eq!(trust(others.clone(), TASK, &[]), Trust::Principal);
    let stranger = Asker::Aws { account: "1", arn: "arn:aws:iam::1:user/x", principal_arn: "arn:aws:iam::1:user/x" };
    assert_eq!(trust(others, stranger, &[]), Trust::Denied);
    assert_eq!(trust(json!([{"Effect": "Allow", "NotPrincipal": {"AWS": "1"}, "Action": "sts:AssumeRole"}]), TASK, &[]), Trust::None);
}

#[test]
fn principals_of_impossible_form_are_found() {
    for (name, good) in [
        ("*", true),
        ("123456789012", true),
        ("arn:aws:iam::1:role/x", true),
        ("AROAX", true),
        ("12345", false),
        ("bob", false),
        ("arn:aws:iam::1:role/*", false),
    ] {
        assert_eq!(well_formed(name), good, "{name}");
    }
}

fn statement() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "*",
        "999999999999",
        "111111111111",
        "arn:aws:iam::999999999999:role/task",
        "arn:aws:iam::999999999999:role/other",
        "arn:aws:sts::999999999999:assumed-role/task/s1",
    ]);
    let actions = prop::sample::select(vec!["sts:AssumeRole", "sts:*", "sts:TagSession"]);
    (any::<bool>(), prop::collection::vec(names, 1..3), actions, prop::option::of("[ab]")).prop_map(|(allow, names, action, external)| {
        let mut statement = json!({"Effect": if allow { "Allow" } else { "Deny" }, "Principal": {"AWS": names}, "Action": action});
        if let Some(id) = external {
            statement["Condition"] = json!({"StringEquals": {"sts:ExternalId": id}});
        }
        statement
    })
}

proptest! {
    #[test]
    fn order_does_not_matter_and_denials_only_take_away(statements in prop::collection::vec(statement(), 0..5), id in "[ab]") {
        let facts = [("sts:externalid", id.as_str())];
        let forward = trust(json!(statements), TASK, &facts);
        let mut reversed = statements.clone();
        reversed.reverse();
        prop_assert_eq!(forward, trust(json!(reversed), TASK, &facts));
        let allows: Vec<&Value> = statements.iter().filter(|statement| statement["Effect"] == "Allow").collect();
        let without_denials = trust(json!(allows), TASK, &facts);
        prop_assert!(forward == Trust::Denied || forward == without_denials);
        // One more permission never takes trust away.
        let mut more = statements;
        more.push(json!({"Effect": "Allow", "Principal": {"AWS": "999999999999"}, "Action": "sts:AssumeRole"}));
        let wider = trust(json!(more), TASK, &facts);
        prop_assert!(wider >= forward && (forward == Trust::Denied) == (wider == Trust::Denied));
    }
}
