//! Trust policies: does this role trust this caller with this action? Pure.
//!
//! Source: IAM user guide, "AWS JSON policy elements: Principal", and "Policy evaluation logic" for what a direct grant means.

use crate::policy::{Document, Effect, Facts, Principals, arn_like};

/// Who asks, as a trust policy can name it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asker<'a> {
    /// An authenticated AWS caller.
    Aws {
        account: &'a str,
        /// What `sts:GetCallerIdentity` says.
        arn: &'a str,
        /// The role's or user's own ARN; the same as `arn` for users.
        principal_arn: &'a str,
    },
    /// The bearer of a token of this OIDC provider.
    Federated {
        provider_arn: &'a str,
        /// The provider's name as older policies write it, e.g. `accounts.google.com`.
        host: &'a str,
    },
    /// An AWS service taking a role on, such as ECS for a task.
    Service { name: &'a str },
}

/// How far a trust policy goes towards a caller, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trust {
    /// A statement denies it.
    Denied,
    /// Nothing names the caller.
    None,
    /// The caller's account is trusted: the caller's own policies decide.
    Account,
    /// The caller's role or user, or everyone, is named.
    Principal,
    /// This very session is named, which session policies cannot take back.
    Session,
}

/// Evaluates `document` for `asker`. Denials win over everything.
pub(crate) fn evaluate(document: &Document, asker: Asker<'_>, action: &str, facts: &dyn Facts) -> Trust {
    let mut best = Trust::None;
    for statement in &document.statements {
        let Some(principals) = &statement.principals else { continue };
        let named = naming(principals, asker, statement.effect);
        if named == Trust::None || !document.speaks_of(statement, action, None, facts) {
            continue;
        }
        match statement.effect {
            Effect::Deny => return Trust::Denied,
            Effect::Allow => best = best.max(named),
        }
    }
    best
}

/// How the element names the asker; `Trust::None` when it does not.
fn naming(principals: &Principals, asker: Asker<'_>, effect: Effect) -> Trust {
    let named = match asker {
        Asker::Aws { account, arn, principal_arn } => {
            principals.aws.iter().map(|name| aws_naming(name, account, arn, principal_arn)).max().unwrap_or(Trust::None)
        }
        Asker::Federated { provider_arn, host } => {
            let fits = principals.federated.iter().any(|name| name == provider_arn || name == host || name == "*");
            if fits { Trust::Principal } else { Trust::None }
        }
        Asker::Service { name } => {
            if principals.service.iter().any(|service| service == name) {
                Trust::Principal
            } else {
                Trust::None
            }
        }
    };
    match (principals.negated, effect) {
        (false, _) => named,
        // With Allow it would trust strangers; AWS forbids that nearly everywhere, and here it trusts nobody.
        (true, Effect::Deny) if named == Trust::None => Trust::Principal,
        (true, _) => Trust::None,
    }
}

fn aws_naming(name: &str, account: &str, arn: &str, principal_arn: &str) -> Trust {
    if name == "*" {
        return Trust::Principal;
    }
    if name == account || name.strip_prefix("arn:aws:iam::").and_then(|rest| rest.strip_suffix(":root")) == Some(account) {
        return Trust::Account;
    }
    // Wildcards have no meaning inside a principal's ARN: AWS compares the whole text.
    if name == principal_arn {
        return Trust::Principal;
    }
    if name == arn { Trust::Session } else { Trust::None }
}

/// Whether a principal's name in a trust policy can exist at all, as far as its form tells.
pub(crate) fn well_formed(name: &str) -> bool {
    name == "*"
        || is_account(name)
        || arn_like("arn:aws:iam::*:*", name) && !name.contains('*')
        || arn_like("arn:aws:sts::*:*", name) && !name.contains('*')
        // What AWS shows for a deleted principal.
        || name.starts_with("AROA")
        || name.starts_with("AIDA")
}

/// Twelve digits.
pub(crate) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
