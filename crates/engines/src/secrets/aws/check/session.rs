//! What a session of the role is beyond that AWS gives one: limited by policies, for so long, and allowed to do what.

use daypass_aws::{AssumeRole, AwsError, Call, Identity, Question};
use daypass_sdk::Seconds;
use serde_json::{Value, json};

use super::{Params, Walk};
use crate::secrets::arn;
use crate::secrets::aws::creds::Lifetime;
use crate::secrets::aws::ours::CHAINED_TTL_MAX;
use crate::secrets::aws::role::{Role, STS_TTL_MIN};
use crate::secrets::aws::{Aws, documents, policies};

/// AWS's longest session of a role.
const SESSION_MAX: Seconds = Seconds(43_200);

/// Whose session it is.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    /// The server.
    pub(super) own: &'a Identity,
    /// The IAM role.
    pub(super) role_arn: &'a str,
}

impl Of<'_> {
    /// IAM tells about roles of its caller's account alone.
    fn is_near(self) -> bool {
        arn::iam_role(self.role_arn).is_ok_and(|arn| arn.account == self.own.account)
    }
}

/// Adds what the role's groups may do to the session's policies. `false`: a mint fails here.
pub(super) async fn groups(engine: &Aws, call: Call<'_>, walk: &mut Walk, (role, own): (&Role, &Identity), input: &mut AssumeRole) -> bool {
    let groups = &role.iam_groups;
    if groups.is_empty() {
        return true;
    }
    let step = format!("policies of iam_groups {}", groups.join(", "));
    match policies::extend(engine.aws.as_ref(), call, groups, &mut input.policy, &mut input.policy_arns).await {
        Ok(()) => {
            walk.passed(&step, "they limit the session");
            true
        }
        Err(unread) => {
            let right = || json!({ "identity_policy": documents::document(vec![documents::may_read_groups(&own.arn, groups)]) });
            let mend = if unread.is_denied { right() } else { Value::Null };
            walk.failed(&step, unread.error.message, mend);
            false
        }
    }
}

/// Whether AWS gives sessions of the length that a mint asks for when its caller names none.
pub(super) async fn lifetime(engine: &Aws, call: Call<'_>, walk: &mut Walk, of: Of<'_>, lifetime: &Lifetime) {
    let (step, wanted) = ("lifetime", lifetime.duration);
    let asked = format!("a mint without ttl asks for {}s", wanted.0);
    let too_long = |limit: &str, most: Seconds| format!("{asked}; {limit}: set default_sts_ttl or max_sts_ttl of the role to {}s", most.0);
    if wanted < STS_TTL_MIN {
        let detail = format!("{asked}; AWS's shortest session has {}s: set default_sts_ttl and max_sts_ttl of the role", STS_TTL_MIN.0);
        return walk.failed(step, detail, Value::Null);
    }
    if wanted > SESSION_MAX {
        return walk.failed(step, too_long(&format!("AWS's longest session has {}s", SESSION_MAX.0), SESSION_MAX), Value::Null);
    }
    if let Some(lowered) = lifetime.lowered() {
        return walk.passed(step, lowered);
    }
    if wanted <= CHAINED_TTL_MAX {
        // Every role gives so much.
        return walk.passed(step, asked);
    }
    if of.own.arn.contains(":assumed-role/") {
        let limit = format!(
            "the server is a session of a role itself ({}), and AWS gives such a session one hour at most of another role",
            of.own.arn
        );
        return walk.failed(step, too_long(&limit, CHAINED_TTL_MAX), Value::Null);
    }
    let name = of.role_arn.rsplit('/').next().unwrap_or_default();
    let why = if of.is_near() {
        match engine.aws.get_role(call, name).await {
            Ok(role) if wanted > role.max_session => {
                let limit = format!("MaxSessionDuration of {} is {}s", of.role_arn, role.max_session.0);
                return walk.failed(step, too_long(&limit, role.max_session), Value::Null);
            }
            Ok(_) => return walk.passed(step, asked),
            Err(error) => format!("the server may not look at it (iam:GetRole): {}", error.sdk_text()),
        }
    } else {
        "the role is of another account".to_owned()
    };
    walk.skipped(step, format!("{asked}, which MaxSessionDuration of {} has to allow: {why}", of.role_arn));
}

/// What the session may do, as IAM simulates it: what its role may, and the session's own policy allows as well.
pub(super) async fn permissions(engine: &Aws, call: Call<'_>, walk: &mut Walk, of: Of<'_>, (params, limits): (&Params, &AssumeRole)) {
    let step = format!("permissions of {}", of.role_arn);
    if !of.is_near() {
        let why = "the role is of another account, where IAM does not let the server look; policy-for shows what a push to ECR needs";
        return walk.skipped(&step, why);
    }
    let wish = Wish::of(params);
    let simulated = async {
        let of_role = wish.lacking(engine, call, of.role_arn, None).await?;
        // What the role may not do, no policy of the session allows. Managed ones are not at hand: what they leave cannot be told then.
        let of_session = match &limits.policy {
            Some(policy) if of_role.is_empty() && limits.policy_arns.is_empty() => {
                wish.lacking(engine, call, of.role_arn, Some(policy.as_str())).await?
            }
            _ => Vec::new(),
        };
        Ok::<_, AwsError>((of_role, of_session))
    };
    let (of_role, of_session) = match simulated.await {
        Ok(lacking) => lacking,
        Err(error) => {
            return walk.skipped(&step, format!("the server may not simulate them (iam:SimulatePrincipalPolicy): {}", error.sdk_text()));
        }
    };
    let (actions, resource) = (wish.actions.join(", "), &wish.resource);
    if !of_role.is_empty() {
        let detail = format!("no policy allows {} on {resource}", of_role.join(", "));
        return walk.failed(&step, detail, json!({ "role_policy": wish.mend(&of_role) }));
    }
    if !limits.policy_arns.is_empty() {
        return walk.skipped(
            &step,
            format!(
                "the IAM role is allowed {actions} on {resource}; its session has the managed policies {} as well, which can take that away: see that \
                 they allow it, or say it in policy_document alone, which is looked at",
                limits.policy_arns.join(", ")
            ),
        );
    }
    if !of_session.is_empty() {
        let detail = format!(
            "the IAM role is allowed it, but the session policy (policy_document, iam_groups) does not allow {} on {resource}",
            of_session.join(", ")
        );
        return walk.failed(&step, detail, json!({ "session_policy": wish.mend(&of_session) }));
    }
    walk.passed(&step, format!("allows {actions} on {resource}"));
}

/// What the credential shall be allowed.
struct Wish {
    actions: Vec<String>,
    resource: String,
    /// The set for a push to ECR, which takes a login as well.
    is_push: bool,
}

impl Wish {
    fn of(params: &Params) -> Self {
        let is_push = params.actions.0.is_empty();
        let mut actions = if is_push { documents::ECR_PUSH.map(str::to_owned).to_vec() } else { params.actions.0.clone() };
        actions.dedup();
        Self { actions, resource: if params.resource.is_empty() { "*".to_owned() } else { params.resource.clone() }, is_push }
    }

    /// Which of the actions the role is not allowed, with this policy as its boundary.
    async fn lacking(&self, engine: &Aws, call: Call<'_>, role_arn: &str, boundary: Option<&str>) -> Result<Vec<String>, AwsError> {
        let question = |actions: Vec<String>, resource: &str| Question {
            principal: role_arn.to_owned(),
            actions,
            resource: resource.to_owned(),
            boundary: boundary.map(str::to_owned),
        };
        let mut asked = vec![question(self.actions.clone(), &self.resource)];
        if self.is_push {
            asked.push(question(vec!["ecr:GetAuthorizationToken".to_owned()], "*"));
        }
        let mut lacking = Vec::new();
        for question in &asked {
            let decisions = engine.aws.simulate(call, question).await?;
            lacking.extend(decisions.into_iter().filter(|decision| !decision.allowed).map(|decision| decision.action));
        }
        Ok(lacking)
    }

    /// The policy that allows it.
    fn mend(&self, lacking: &[String]) -> Value {
        if self.is_push {
            return documents::ecr(&documents::ECR_PUSH, std::slice::from_ref(&self.resource));
        }
        documents::document(vec![json!({ "Effect": "Allow", "Action": lacking, "Resource": self.resource })])
    }
}
