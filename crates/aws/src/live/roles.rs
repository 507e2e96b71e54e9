//! IAM roles as AWS's SDK handles them.

use aws_sdk_iam::types::PolicyEvaluationDecisionType;
use daypass_base::{BoxFuture, Seconds};

use super::sort::sorted;
use super::{LiveAws, percent_decoded};
use crate::AwsError;
use crate::api::{Call, Result};
use crate::roles::{Decision, IamRoles, Question, RoleInfo, RolePolicy};

/// AWS's shortest longest session.
const SESSION_DEFAULT: u64 = 3600;

impl IamRoles for LiveAws {
    fn get_role<'a>(&'a self, call: Call<'a>, name: &'a str) -> BoxFuture<'a, Result<RoleInfo>> {
        Box::pin(self.iam(call, move |client| async move {
            let answer = client.get_role().role_name(name).send().await.map_err(|error| sorted(&error))?;
            let role = answer.role.ok_or_else(|| AwsError::unreachable("the answer has no role"))?;
            let max_session = role.max_session_duration.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(SESSION_DEFAULT);
            let trust = percent_decoded(role.assume_role_policy_document.as_deref().unwrap_or_default());
            Ok(RoleInfo { arn: role.arn, trust, max_session: Seconds(max_session) })
        }))
    }

    fn simulate<'a>(&'a self, call: Call<'a>, question: &'a Question) -> BoxFuture<'a, Result<Vec<Decision>>> {
        Box::pin(self.iam(call, move |client| async move {
            let request = client
                .simulate_principal_policy()
                .policy_source_arn(&question.principal)
                .set_action_names(Some(question.actions.clone()))
                .resource_arns(&question.resource)
                .set_permissions_boundary_policy_input_list(question.boundary.clone().map(|policy| vec![policy]));
            let answer = request.send().await.map_err(|error| sorted(&error))?;
            let decision = |result: aws_sdk_iam::types::EvaluationResult| Decision {
                action: result.eval_action_name,
                allowed: result.eval_decision == PolicyEvaluationDecisionType::Allowed,
            };
            Ok(answer.evaluation_results.unwrap_or_default().into_iter().map(decision).collect())
        }))
    }

    fn put_role_policy<'a>(&'a self, call: Call<'a>, policy: &'a RolePolicy) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.iam_back(call, move |client| async move {
            let request = client.put_role_policy().role_name(&policy.role).policy_name(&policy.name).policy_document(&policy.document);
            request.send().await.map_err(|error| sorted(&error))?;
            Ok(())
        }))
    }

    fn delete_role_policy<'a>(&'a self, call: Call<'a>, role: &'a str, policy: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.iam_back(call, move |client| async move {
            client.delete_role_policy().role_name(role).policy_name(policy).send().await.map_err(|error| sorted(&error))?;
            Ok(())
        }))
    }
}
