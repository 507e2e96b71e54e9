//! IAM roles: who may assume them, what they may do, and the end of their sessions.

use daypass_base::{BoxFuture, Seconds};

use crate::api::{Call, Result};

/// The IAM calls about roles. Part of [`crate::Aws`]; the same rules hold. IAM knows the roles of the caller's own account alone.
pub trait IamRoles: Send + Sync + 'static {
    /// `iam:GetRole`.
    fn get_role<'a>(&'a self, call: Call<'a>, name: &'a str) -> BoxFuture<'a, Result<RoleInfo>>;
    /// `iam:SimulatePrincipalPolicy`: what a user or role may do, one decision for each action. Nothing is done.
    fn simulate<'a>(&'a self, call: Call<'a>, question: &'a Question) -> BoxFuture<'a, Result<Vec<Decision>>>;
    /// `iam:PutRolePolicy`: writes an inline policy.
    fn put_role_policy<'a>(&'a self, call: Call<'a>, policy: &'a RolePolicy) -> BoxFuture<'a, Result<()>>;
    /// `iam:DeleteRolePolicy`. One that is gone already fails with [`crate::ErrorKind::NotFound`].
    fn delete_role_policy<'a>(&'a self, call: Call<'a>, role: &'a str, policy: &'a str) -> BoxFuture<'a, Result<()>>;
}

/// A role that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleInfo {
    /// Its ARN.
    pub arn: String,
    /// Its trust policy, as JSON.
    pub trust: String,
    /// How long its sessions may last.
    pub max_session: Seconds,
}

/// What is to be simulated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// ARN of the user or role.
    pub principal: String,
    /// Actions: `ecr:PutImage`.
    pub actions: Vec<String>,
    /// ARN of the resource; `*` for any.
    pub resource: String,
    /// A policy that limits the principal, as JSON: only what both allow is allowed. IAM looks at it in place of the permissions boundary that
    /// the principal has.
    pub boundary: Option<String>,
}

/// A simulated decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The action.
    pub action: String,
    /// Whether it would be allowed.
    pub allowed: bool,
}

/// An inline policy of a role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RolePolicy {
    /// Name of the role.
    pub role: String,
    /// Name of the policy.
    pub name: String,
    /// The policy as JSON.
    pub document: String,
}
