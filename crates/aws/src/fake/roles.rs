//! IAM roles from memory.

use std::collections::{BTreeMap, BTreeSet};

use daypass_base::{BoxFuture, Seconds};

use super::{FakeAws, ready};
use crate::api::{Call, Result};
use crate::roles::{Decision, IamRoles, Question, RoleInfo, RolePolicy};
use crate::{AwsError, ErrorKind};

/// The roles of the account that a [`FakeAws`] plays.
#[derive(Default)]
pub(super) struct Roles {
    trusts: BTreeMap<String, String>,
    /// Their names with their paths, where they have one.
    paths: BTreeMap<String, String>,
    /// How long sessions of a role may last, where that is not an hour.
    sessions: BTreeMap<String, Seconds>,
    policies: BTreeMap<(String, String), String>,
    /// What principals may not do.
    forbidden: BTreeSet<(String, String)>,
}

impl FakeAws {
    /// Adds a role with this trust policy; `path/name` for one with a path.
    pub fn add_role(&self, path: &str, trust: &str) {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let mut state = self.state();
        state.roles.paths.insert(name.clone(), path.to_owned());
        state.roles.trusts.insert(name, trust.to_owned());
    }

    /// Lets sessions of a role last so long.
    pub fn allow_session(&self, name: &str, most: Seconds) {
        self.state().roles.sessions.insert(name.to_owned(), most);
    }

    /// Lets a principal not do something, as far as simulations say.
    pub fn forbid(&self, principal: &str, action: &str) {
        self.state().roles.forbidden.insert((principal.to_owned(), action.to_owned()));
    }

    /// The inline policies of a role, by name.
    pub fn role_policies(&self, role: &str) -> BTreeMap<String, String> {
        let state = self.state();
        let of_role = state.roles.policies.iter().filter(|((of, _), _)| of == role);
        of_role.map(|((_, name), document)| (name.clone(), document.clone())).collect()
    }
}

/// Whether a policy names an action, or all of its service.
fn lists(policy: &str, action: &str) -> bool {
    let service = action.split(':').next().unwrap_or_default();
    [action.to_owned(), format!("{service}:*")].iter().any(|named| policy.contains(&format!("\"{named}\"")))
}

fn missing(what: &str, name: &str) -> AwsError {
    AwsError {
        kind: ErrorKind::NotFound,
        code: "NoSuchEntity".to_owned(),
        message: format!("The {what} with name {name} cannot be found."),
        status: Some(404),
        request_id: Some("7a62c49f-347e-4fc4-9331-6e8eEXAMPLE".to_owned()),
    }
}

impl IamRoles for FakeAws {
    fn get_role<'a>(&'a self, call: Call<'a>, name: &'a str) -> BoxFuture<'a, Result<RoleInfo>> {
        self.play(call, "GetRole", move |state| {
            let account = state.account_of(call.target);
            let trust = state.roles.trusts.get(name).ok_or_else(|| missing("role", name))?;
            Ok(RoleInfo {
                arn: format!("arn:aws:iam::{account}:role/{}", state.roles.paths.get(name).map_or(name, String::as_str)),
                trust: trust.clone(),
                max_session: state.roles.sessions.get(name).copied().unwrap_or(Seconds(3600)),
            })
        })
    }

    fn simulate<'a>(&'a self, _: Call<'a>, question: &'a Question) -> BoxFuture<'a, Result<Vec<Decision>>> {
        let state = self.state();
        let decided = question.actions.iter().map(|action| {
            let is_forbidden = state.roles.forbidden.contains(&(question.principal.clone(), action.clone()));
            let within = question.boundary.as_ref().is_none_or(|policy| lists(policy, action));
            Decision { action: action.clone(), allowed: !is_forbidden && within }
        });
        let decided = decided.collect();
        drop(state);
        ready(Ok(decided))
    }

    fn put_role_policy<'a>(&'a self, call: Call<'a>, policy: &'a RolePolicy) -> BoxFuture<'a, Result<()>> {
        self.play(call, "PutRolePolicy", move |state| {
            if !state.roles.trusts.contains_key(&policy.role) {
                return Err(missing("role", &policy.role));
            }
            state.roles.policies.insert((policy.role.clone(), policy.name.clone()), policy.document.clone());
            Ok(())
        })
    }

    fn delete_role_policy<'a>(&'a self, call: Call<'a>, role: &'a str, policy: &'a str) -> BoxFuture<'a, Result<()>> {
        self.play(call, "DeleteRolePolicy", move |state| {
            let gone = state.roles.policies.remove(&(role.to_owned(), policy.to_owned()));
            gone.map(drop).ok_or_else(|| missing("role policy", policy))
        })
    }
}
