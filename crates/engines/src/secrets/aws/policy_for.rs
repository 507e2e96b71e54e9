//! `policy-for/<role>`: the IAM policies that a role needs to exist at AWS, ready to be created.

use std::sync::Arc;

use daypass_aws::Call;
use daypass_base::lenient::CommaList;
use daypass_sdk::{Cx, Endpoint, Error, Json, Operation, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::secrets::at_aws::{deadline, upstream};

use super::Aws;
use super::documents;
use super::loaded::{self, Loaded};
use super::template::pattern_of;
use super::text::quoted;
use crate::secrets::arn;

/// Most repositories in one question.
const REPOSITORIES_MAX: usize = 100;

pub(super) fn endpoints() -> Vec<Endpoint<Aws>> {
    vec![
        Endpoint::at(["policy-for/{name@}"])
            .summary("Show the IAM policies that a role needs: the server's own, the trust policies of its IAM roles, and those for ECR.")
            .help(
                "Nothing is changed at AWS. server_policy goes to the principal that the server is; trust_policies has one document for each \
                 IAM role; push_policy and pull_policy, for the repositories given, go to these roles. Where the role has \
                 allow_revoke_sessions, revoke_policy goes to its revoke_role_arn, else to the server. Where config/root has \
                 identity_token_audience, oidc_provider is the identity provider that has to exist in the account of its role_arn.",
            )
            .on(Operation::Read, policy_for),
    ]
}

/// Which policies.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
struct Params {
    /// Name of the role. Example: `ecr-staging`.
    name: String,
    /// ECR repositories, by ARN. Example: `arn:aws:ecr:eu-west-1:111111111111:repository/app`.
    #[serde(default)]
    repositories: CommaList,
    /// ARN of the principal that the server is; asked of AWS when left out. Example: `arn:aws:iam::999999999999:role/jenkins-task`.
    #[serde(default)]
    principal: String,
}

async fn policy_for(engine: Arc<Aws>, cx: Cx, params: Params) -> Result<Json<Value>> {
    let Loaded { role, target, config, .. } = loaded::assumed_role(&cx, &params.name).await?;
    let federation = config.federation();
    let repositories = params.repositories.0;
    if repositories.len() > REPOSITORIES_MAX {
        return Err(Error::bad_request(format!("repositories has {} entries, over the limit of {REPOSITORIES_MAX}", repositories.len())));
    }
    if let Some(other) = repositories.iter().find(|text| !text.starts_with("arn:") || !text.contains(":ecr:")) {
        return Err(Error::bad_request(format!(
            "repositories has {}, which is no ARN of a repository: arn:aws:ecr:<region>:<account>:repository/<name>",
            quoted(other)
        )));
    }
    let own = match (params.principal.as_str(), federation) {
        // Known without AWS, which may not know the server yet.
        ("", Some(federation)) => federation.role_arn.to_owned(),
        ("", None) => {
            engine.last.remember(&target);
            let call = Call::usual(&target, deadline(&cx));
            let identity = engine.aws.get_caller_identity(call).await;
            let identity = identity.map_err(|error| {
                upstream(format!("who the server is could not be asked; name it in principal: {}", error.sdk_text()), error)
            })?;
            documents::principal_of(&identity.arn)
        }
        (given, _) => given.to_owned(),
    };
    let (ours, actions) = (&role.ours, documents::assume_actions(&role));
    // A template or a pattern stands for any name in a policy of the server's own.
    let mut arns: Vec<String> = role.iam_role_arns.iter().map(|arn| pattern_of(arn)).collect();
    if !ours.role_arn_pattern.is_empty() {
        arns.extend(accounts(&pattern_of(&ours.role_arn_pattern), &ours.allowed_accounts));
    }
    let mut trusts = Map::new();
    let claims = if federation.is_some() { Some(cx.identity.claims().await?) } else { None };
    let federated = federation.zip(claims.as_ref());
    if let Some((federation, claims)) = federated {
        trusts.insert(federation.role_arn.to_owned(), federation.trust(claims));
    }
    let (assumes, first_actions, first_arns) = if ours.via_role_arn.is_empty() {
        (own.clone(), actions.clone(), arns.clone())
    } else {
        trusts.insert(ours.via_role_arn.clone(), documents::trusts(&documents::hop_actions(&role), &own, &ours.via_external_id));
        (ours.via_role_arn.clone(), documents::hop_actions(&role), vec![ours.via_role_arn.clone()])
    };
    for arn in &arns {
        trusts.insert(arn.clone(), documents::trusts(&actions, &assumes, &role.external_id));
    }
    let mut answer = Map::new();
    answer.insert("server_policy".to_owned(), documents::server(&own, &first_actions, &first_arns, &role.iam_groups));
    answer.insert("principal".to_owned(), own.into());
    answer.insert("trust_policies".to_owned(), Value::Object(trusts));
    if !ours.via_role_arn.is_empty() {
        answer.insert("via_policy".to_owned(), documents::may_assume(&actions, &arns));
    }
    if ours.allow_revoke_sessions {
        answer.insert("revoke_policy".to_owned(), documents::may_revoke(&arns, role.has_open_arns()));
    }
    if let Some((federation, claims)) = federated {
        answer.insert("oidc_provider".to_owned(), federation.provider(claims));
    }
    if !repositories.is_empty() {
        answer.insert("push_policy".to_owned(), documents::ecr(&documents::ECR_PUSH, &repositories));
        answer.insert("pull_policy".to_owned(), documents::ecr(&documents::ECR_PULL, &repositories));
    }
    Ok(Json(Value::Object(answer)))
}

/// A pattern for each account that it is good for.
fn accounts(pattern: &str, accounts: &[String]) -> Vec<String> {
    let wild = arn::iam_role(pattern).is_ok_and(|arn| !arn::is_account(arn.account));
    if !wild {
        return vec![pattern.to_owned()];
    }
    let parts: Vec<&str> = pattern.splitn(6, ':').collect();
    let [scheme, partition, service, region, _, resource] = parts.as_slice() else { return vec![pattern.to_owned()] };
    accounts.iter().map(|account| [*scheme, *partition, *service, *region, account.as_str(), *resource].join(":")).collect()
}
