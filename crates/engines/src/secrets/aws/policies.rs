//! Session policies out of IAM groups.

use daypass_aws::{Aws, AwsError, Call, ErrorKind};
use daypass_sdk::{Error, Result};
use serde_json::{Value, json};

use crate::secrets::at_aws::upstream;

use super::text::quoted;

/// Why there is no session policy.
pub(super) struct Unread {
    pub(super) error: Error,
    /// IAM does not let the server read a group.
    pub(super) is_denied: bool,
}

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        Self { error, is_denied: false }
    }
}

impl From<Unread> for Error {
    fn from(unread: Unread) -> Self {
        unread.error
    }
}

/// Adds what the groups may do to a session policy and its managed policies. Errors: `Upstream` when IAM does not tell;
/// `Failed` when a policy is no JSON; `BadRequest` when nothing comes of it: a session without a policy may do all that its IAM role may.
pub(super) async fn extend(
    aws: &dyn Aws,
    call: Call<'_>,
    groups: &[String],
    policy: &mut Option<String>,
    policy_arns: &mut Vec<String>,
) -> Result<(), Unread> {
    if groups.is_empty() {
        return Ok(());
    }
    let mut documents = Vec::new();
    for group in groups {
        let failed = |error: AwsError| {
            let is_denied = error.kind == ErrorKind::Denied;
            let text = format!("Error reading the policies of IAM group {}: {}", quoted(group), error.sdk_text());
            Unread { error: upstream(text, error), is_denied }
        };
        policy_arns.extend(aws.list_attached_group_policies(call, group).await.map_err(failed)?);
        for name in aws.list_group_policies(call, group).await.map_err(failed)? {
            documents.push(aws.get_group_policy(call, group, &name).await.map_err(failed)?);
        }
    }
    documents.extend(policy.take());
    *policy = combined(&documents)?;
    if policy.is_none() && policy_arns.is_empty() {
        let names: Vec<String> = groups.iter().map(|group| quoted(group)).collect();
        return Err(Error::bad_request(format!(
            "iam_groups {} have no policies, so that the credential would not be limited at all: give a group a policy, or take iam_groups off the role",
            names.join(", ")
        ))
        .into());
    }
    Ok(())
}

/// One document with the statements of all.
fn combined(documents: &[String]) -> Result<Option<String>> {
    let [first, others @ ..] = documents else { return Ok(None) };
    if others.is_empty() {
        return Ok(Some(first.clone()));
    }
    let mut statements = Vec::new();
    for document in documents {
        let parsed: Value = serde_json::from_str(document)
            .map_err(|error| Error::failed("a policy of an IAM group is no JSON document and cannot be combined").because(error))?;
        match parsed.get("Statement") {
            Some(Value::Array(items)) => statements.extend(items.iter().cloned()),
            Some(one) => statements.push(one.clone()),
            None => {}
        }
    }
    Ok(Some(json!({ "Version": "2012-10-17", "Statement": statements }).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_put_together() {
        let one = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#.to_owned();
        let two = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iam:*","Resource":"*"}]}"#.to_owned();
        assert_eq!(combined(&[]).unwrap(), None);
        assert_eq!(combined(std::slice::from_ref(&one)).unwrap(), Some(one.clone()));
        let both: Value = serde_json::from_str(&combined(&[one, two]).unwrap().unwrap()).unwrap();
        assert_eq!(both.pointer("/Version").and_then(Value::as_str), Some("2012-10-17"));
        assert_eq!(both.pointer("/Statement/1/Effect").and_then(Value::as_str), Some("Deny"));
        assert!(combined(&["x".to_owned(), "y".to_owned()]).is_err());
    }
}
