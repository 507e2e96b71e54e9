//! IAM policies as daypass writes and reads them: what a role needs to be assumed, and whether a trust policy lets somebody in.

use serde_json::{Value, json};

use super::role::Role;

/// What a push to ECR needs beyond the login. Source: ECR's guide, "Required IAM permissions for pushing an image".
pub(super) const ECR_PUSH: [&str; 7] = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:GetDownloadUrlForLayer",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
];

/// What a pull needs beyond the login.
pub(super) const ECR_PULL: [&str; 3] = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

/// The calls of `iam_groups` of an STS credential.
const GROUP_READS: [&str; 3] = ["iam:GetGroupPolicy", "iam:ListAttachedGroupPolicies", "iam:ListGroupPolicies"];

/// The STS actions that assuming an IAM role through a daypass role takes.
pub(super) fn assume_actions(role: &Role) -> Vec<&'static str> {
    let mut actions = vec!["sts:AssumeRole"];
    if !role.session_tags.is_empty() {
        actions.push("sts:TagSession");
    }
    if !role.ours.source_identity.is_empty() {
        actions.push("sts:SetSourceIdentity");
    }
    actions
}

/// The STS actions of the step to the role on the way: a source identity is set on the first role of a chain.
pub(super) fn hop_actions(role: &Role) -> Vec<&'static str> {
    if role.ours.source_identity.is_empty() { vec!["sts:AssumeRole"] } else { vec!["sts:AssumeRole", "sts:SetSourceIdentity"] }
}

/// A policy document around statements.
pub(super) fn document(statements: impl Into<Value>) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements.into() })
}

/// What the principal that assumes needs.
pub(super) fn may_assume(actions: &[&str], arns: &[String]) -> Value {
    document(vec![assumes(actions, arns)])
}

/// What the server needs: to assume the first role of the way, and to read the groups whose policies limit sessions.
pub(super) fn server(principal: &str, actions: &[&str], arns: &[String], groups: &[String]) -> Value {
    let mut statements = vec![assumes(actions, arns)];
    if !groups.is_empty() {
        statements.push(may_read_groups(principal, groups));
    }
    document(statements)
}

fn assumes(actions: &[&str], arns: &[String]) -> Value {
    json!({ "Effect": "Allow", "Action": actions, "Resource": arns })
}

/// What the server needs to read the policies of IAM groups, which are of the account of `principal`.
pub(super) fn may_read_groups(principal: &str, groups: &[String]) -> Value {
    let parts: Vec<&str> = principal.splitn(6, ':').collect();
    let (partition, account) = match parts.as_slice() {
        ["arn", partition, _, _, account, _] => (*partition, *account),
        _ => ("aws", "*"),
    };
    let arns: Vec<String> = groups.iter().map(|group| format!("arn:{partition}:iam::{account}:group/{group}")).collect();
    json!({ "Effect": "Allow", "Action": GROUP_READS, "Resource": arns })
}

/// What `revoke-sessions` needs. `open`: it has to look first whether the IAM role that somebody names is the one of that name.
pub(super) fn may_revoke(arns: &[String], open: bool) -> Value {
    let mut actions = vec!["iam:PutRolePolicy", "iam:DeleteRolePolicy"];
    if open {
        actions.push("iam:GetRole");
    }
    document(vec![json!({ "Effect": "Allow", "Action": actions, "Resource": arns })])
}

/// What the trust policy of the IAM role needs.
pub(super) fn trusts(actions: &[&str], principal: &str, external_id: &str) -> Value {
    let principal = json!({ "AWS": principal });
    document(vec![if external_id.is_empty() {
        json!({ "Effect": "Allow", "Principal": principal, "Action": actions })
    } else {
        let condition = json!({ "StringEquals": { "sts:ExternalId": external_id } });
        json!({ "Effect": "Allow", "Principal": principal, "Action": actions, "Condition": condition })
    }])
}

/// What working with ECR needs: the login on everything, which ECR cannot narrow, and the rest on the repositories.
pub(super) fn ecr(actions: &[&str], repositories: &[String]) -> Value {
    document(vec![
        json!({ "Effect": "Allow", "Action": ["ecr:GetAuthorizationToken"], "Resource": "*" }),
        json!({ "Effect": "Allow", "Action": actions, "Resource": repositories }),
    ])
}

/// The policy that ends all sessions that began before a moment, or those of one source identity.
pub(super) fn sessions_over(before: &str, source_identity: &str) -> Value {
    let began = json!({ "aws:TokenIssueTime": before });
    let condition = if source_identity.is_empty() {
        json!({ "DateLessThan": began })
    } else {
        json!({ "DateLessThan": began, "StringEquals": { "aws:SourceIdentity": source_identity } })
    };
    document(vec![json!({ "Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition })])
}

/// The IAM principal behind a session: `arn:aws:sts::1:assumed-role/r/s` is a session of `arn:aws:iam::1:role/r`. The path of a role is not
/// part of its sessions' ARNs, so it is missing here.
pub(super) fn principal_of(arn: &str) -> String {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    match parts.as_slice() {
        ["arn", partition, "sts", _, account, resource] => {
            let mut names = resource.split('/');
            match (names.next(), names.next()) {
                (Some("assumed-role"), Some(role)) => format!("arn:{partition}:iam::{account}:role/{role}"),
                _ => arn.to_owned(),
            }
        }
        _ => arn.to_owned(),
    }
}

/// What a trust policy says about somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// A statement lets it in, under these condition keys.
    LetsIn(Vec<String>),
    /// A statement denies it.
    Denies,
    /// No statement names it.
    Silent,
    /// It is no policy.
    Unreadable,
}

/// Reads a trust policy. Conditions are not judged: their keys are named, for a person to look at.
pub(super) fn trust(document: &str, principal: &str, account: &str, action: &str) -> Trust {
    let Ok(policy) = serde_json::from_str::<Value>(document) else { return Trust::Unreadable };
    let mut found = Trust::Silent;
    for statement in each(policy.get("Statement").unwrap_or(&Value::Null)) {
        let names_action = each(statement.get("Action").unwrap_or(&Value::Null)).any(|named| covers(named.as_str(), action));
        if !names_action || !names(statement.get("Principal").unwrap_or(&Value::Null), principal, account) {
            continue;
        }
        let conditions = statement.get("Condition").and_then(Value::as_object);
        let keys: Vec<String> = conditions
            .into_iter()
            .flat_map(serde_json::Map::values)
            .filter_map(Value::as_object)
            .flat_map(|keys| keys.keys().cloned())
            .collect();
        if statement.get("Effect").and_then(Value::as_str) == Some("Deny") {
            if keys.is_empty() {
                return Trust::Denies;
            }
        } else {
            found = match found {
                Trust::LetsIn(before) if before.len() <= keys.len() => Trust::LetsIn(before),
                _ => Trust::LetsIn(keys),
            };
        }
    }
    found
}

fn names(principal: &Value, arn: &str, account: &str) -> bool {
    if principal.as_str() == Some("*") {
        return true;
    }
    let last = arn.rsplit('/').next().unwrap_or_default();
    each(principal.get("AWS").unwrap_or(&Value::Null)).filter_map(Value::as_str).any(|named| {
        // A role with a path is named with it; its sessions do not show it.
        let same_role = named.contains(":role/") && named.contains(&format!(":{account}:")) && named.rsplit('/').next() == Some(last);
        named == "*" || named == arn || named == account || named.ends_with(&format!(":{account}:root")) || same_role
    })
}

fn covers(pattern: Option<&str>, action: &str) -> bool {
    pattern.is_some_and(|pattern| pattern == "*" || pattern.eq_ignore_ascii_case("sts:*") || pattern.eq_ignore_ascii_case(action))
}

/// The items of a list, or the one item that stands for a list.
fn each(value: &Value) -> impl Iterator<Item = &Value> {
    match value {
        Value::Array(items) => items.iter(),
        Value::Null => [].iter(),
        one => std::slice::from_ref(one).iter(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "arn:aws:iam::999999999999:role/task";

    fn asked(principal: &Value, more: &Value) -> Trust {
        let mut statement = json!({ "Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole" });
        for (key, value) in more.as_object().unwrap() {
            statement[key] = value.clone();
        }
        trust(&json!({ "Statement": statement }).to_string(), TASK, "999999999999", "sts:AssumeRole")
    }

    #[test]
    fn a_trust_policy_lets_in_whom_it_names() {
        let open = Trust::LetsIn(Vec::new());
        for principal in
            [json!("*"), json!({ "AWS": "*" }), json!({ "AWS": TASK }), json!({ "AWS": ["x", "arn:aws:iam::999999999999:root"] })]
        {
            assert_eq!(asked(&principal, &json!({})), open, "{principal}");
        }
        assert_eq!(asked(&json!({ "AWS": "arn:aws:iam::999999999999:role/path/task" }), &json!({})), open);
        assert_eq!(asked(&json!({ "AWS": "999999999999" }), &json!({ "Action": ["sts:TagSession", "sts:*"] })), open);
        for principal in
            [json!({ "AWS": "arn:aws:iam::111111111111:role/task" }), json!({ "Service": "ecs-tasks.amazonaws.com" }), json!({})]
        {
            assert_eq!(asked(&principal, &json!({})), Trust::Silent, "{principal}");
        }
        assert_eq!(asked(&json!("*"), &json!({ "Action": "sts:TagSession" })), Trust::Silent);
        assert_eq!(asked(&json!("*"), &json!({ "Effect": "Deny" })), Trust::Denies);
        let external = json!({ "Condition": { "StringEquals": { "sts:ExternalId": "x" } } });
        assert_eq!(asked(&json!("*"), &external), Trust::LetsIn(vec!["sts:ExternalId".to_owned()]));
        assert_eq!(trust("no", TASK, "9", "sts:AssumeRole"), Trust::Unreadable);
    }

    #[test]
    fn the_principal_of_a_session_is_its_role() {
        assert_eq!(principal_of("arn:aws-cn:sts::1:assumed-role/task/i-1"), "arn:aws-cn:iam::1:role/task");
        assert_eq!(principal_of("arn:aws:iam::1:user/ops"), "arn:aws:iam::1:user/ops");
    }
}
