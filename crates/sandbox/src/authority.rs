//! What a caller's own policies allow: identity policies, permissions boundaries and session policies together.
//!
//! Pure. Source: IAM user guide, "Policy evaluation logic" and "How IAM works with AWS STS session policies".

use std::collections::BTreeMap;
use std::net::IpAddr;

use daypass_base::Timestamp;

use crate::fault::Fault;
use crate::policy::{Document, Facts, Verdict};
use crate::session::{Bearer, Caller, CallerKind};
use crate::state::{Grants, State};

/// The caller's own side of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    Allowed,
    /// Denied outright by this kind of policy.
    Denied(Source),
    /// Not allowed by this kind of policy; `Source::Identity` can be made up for by a resource's policy.
    Lacking(Source),
}

/// Where a decision comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Boundary,
    Identity,
    Session,
}

impl Source {
    fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Boundary => ("no permissions boundary", "a permissions boundary"),
            Self::Identity => ("no identity-based policy", "an identity-based policy"),
            Self::Session => ("no session policy", "a session policy"),
        }
    }
}

/// What the caller's policies say about `action` on `resource`.
pub(crate) fn own(state: &State, caller: &Caller, action: &str, resource: &str, facts: &dyn Facts) -> Own {
    under(None, state, caller, action, resource, facts)
}

/// As [`own`], with this permissions boundary in place of the caller's own, if there is one.
pub(crate) fn under(limit: Option<&Document>, state: &State, caller: &Caller, action: &str, resource: &str, facts: &dyn Facts) -> Own {
    let session = session_verdict(state, caller, action, resource, facts);
    let (identity, boundary) = match &caller.kind {
        CallerKind::Role { role } => match state.role(&caller.account, role) {
            Some(role) => (
                grants(state, &caller.account, &role.grants, action, resource, facts),
                boundary(state, &caller.account, role.boundary.as_deref(), action, resource, facts),
            ),
            None => (Verdict::Silent, None),
        },
        CallerKind::Federated { user } | CallerKind::User { user } => user_verdict(state, &caller.account, user, action, resource, facts),
    };
    let boundary = limit.map(|limit| limit.judge(action, resource, facts)).or(boundary);
    for (verdict, source) in [(Some(identity), Source::Identity), (boundary, Source::Boundary), (session, Source::Session)] {
        if verdict == Some(Verdict::Denied) {
            return Own::Denied(source);
        }
    }
    // Boundary and session policy only ever take away, so their silence counts before the identity's.
    for (verdict, source) in [(boundary, Source::Boundary), (session, Source::Session)] {
        if verdict == Some(Verdict::Silent) {
            return Own::Lacking(source);
        }
    }
    if identity == Verdict::Allowed { Own::Allowed } else { Own::Lacking(Source::Identity) }
}

/// AWS's refusal of services that say why.
pub(crate) fn refusal(caller: &Caller, action: &str, resource: &str, own: Own) -> Fault {
    let start = format!("User: {} is not authorized to perform: {action} on resource: {resource}", caller.arn);
    Fault::access_denied(match own {
        Own::Denied(source) => format!("{start} with an explicit deny in {}", source.name().1),
        Own::Lacking(source) => format!("{start} because {} allows the {action} action", source.name().0),
        Own::Allowed => start,
    })
}

fn user_verdict(state: &State, account: &str, name: &str, action: &str, resource: &str, facts: &dyn Facts) -> (Verdict, Option<Verdict>) {
    let Some(user) = state.user(account, name) else { return (Verdict::Silent, None) };
    let mut verdict = grants(state, account, &user.grants, action, resource, facts);
    for group in user.groups.iter().filter_map(|group| state.account(account)?.groups.get(group)) {
        verdict = verdict.and_also(grants(state, account, &group.grants, action, resource, facts));
    }
    (verdict, boundary(state, account, user.boundary.as_deref(), action, resource, facts))
}

fn grants(state: &State, account: &str, grants: &Grants, action: &str, resource: &str, facts: &dyn Facts) -> Verdict {
    let inline =
        grants.inline.values().fold(Verdict::Silent, |verdict, policy| verdict.and_also(policy.document.judge(action, resource, facts)));
    grants.attached.iter().fold(inline, |verdict, arn| verdict.and_also(managed(state, account, arn, action, resource, facts)))
}

fn managed(state: &State, account: &str, arn: &str, action: &str, resource: &str, facts: &dyn Facts) -> Verdict {
    state.managed(account, arn).map_or(Verdict::Silent, |managed| managed.policy.document.judge(action, resource, facts))
}

fn boundary(state: &State, account: &str, arn: Option<&str>, action: &str, resource: &str, facts: &dyn Facts) -> Option<Verdict> {
    arn.map(|arn| managed(state, account, arn, action, resource, facts))
}

/// `None` when nothing narrows the session.
fn session_verdict(state: &State, caller: &Caller, action: &str, resource: &str, facts: &dyn Facts) -> Option<Verdict> {
    let session = caller.session.as_ref()?;
    // A federated user without any session policy may do nothing.
    if !session.is_narrowed() && !matches!(session.bearer, Bearer::Federated { .. }) {
        return None;
    }
    let inline = session.document.as_ref().map_or(Verdict::Silent, |document| document.judge(action, resource, facts));
    Some(
        session
            .policy_arns
            .iter()
            .fold(inline, |verdict, arn| verdict.and_also(managed(state, &caller.account, arn, action, resource, facts))),
    )
}

/// What a request offers to conditions and policy variables.
pub(crate) struct RequestFacts<'a> {
    pub(crate) state: &'a State,
    /// Absent for web identities and services.
    pub(crate) caller: Option<&'a Caller>,
    pub(crate) now: Timestamp,
    pub(crate) source_ip: Option<IpAddr>,
    pub(crate) region: &'a str,
    /// Keys that belong to the action, in lower case: `sts:externalid`, `issuer:sub`, `iam:policyarn` and so on.
    pub(crate) extra: Vec<(String, Vec<String>)>,
    /// `aws:RequestTag/…`.
    pub(crate) request_tags: &'a [(String, String)],
    /// `aws:ResourceTag/…` and its service's own spelling.
    pub(crate) resource_tags: Option<&'a BTreeMap<String, String>>,
}

impl Facts for RequestFacts<'_> {
    fn values(&self, key: &str) -> Vec<String> {
        if let Some((_, values)) = self.extra.iter().find(|(name, _)| name == key) {
            return values.clone();
        }
        if let Some(tag) = key.strip_prefix("aws:requesttag/") {
            return self
                .request_tags
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(tag))
                .map(|(_, value)| value.clone())
                .into_iter()
                .collect();
        }
        if let Some(tag) = key.strip_prefix("aws:resourcetag/").or_else(|| key.strip_prefix("iam:resourcetag/")) {
            return self.resource_tags.and_then(|tags| tag_of(tags, tag)).into_iter().collect();
        }
        match key {
            "aws:currenttime" => vec![self.now.to_string()],
            "aws:epochtime" => vec![self.now.seconds().to_string()],
            "aws:requestedregion" => vec![self.region.to_owned()],
            // The sandbox speaks plain HTTP on loopback, where AWS would have TLS; policies that insist on it should pass.
            "aws:securetransport" => vec!["true".to_owned()],
            "aws:sourceip" => self.source_ip.map(|ip| ip.to_string()).into_iter().collect(),
            "aws:tagkeys" => self.request_tags.iter().map(|(name, _)| name.clone()).collect(),
            _ => self.caller.and_then(|caller| self.caller_values(caller, key)).into_iter().collect(),
        }
    }
}

impl RequestFacts<'_> {
    fn caller_values(&self, caller: &Caller, key: &str) -> Option<String> {
        if let Some(tag) = key.strip_prefix("aws:principaltag/") {
            let from_session = caller.session.as_ref().and_then(|session| tag_of(&session.tags, tag));
            return from_session.or_else(|| match &caller.kind {
                CallerKind::Federated { user } | CallerKind::User { user } => tag_of(&self.state.user(&caller.account, user)?.tags, tag),
                CallerKind::Role { role } => tag_of(&self.state.role(&caller.account, role)?.tags, tag),
            });
        }
        let session = caller.session.as_ref();
        match key {
            "aws:multifactorauthpresent" => session.map(|session| session.mfa.to_string()),
            "aws:principalaccount" => Some(caller.account.clone()),
            "aws:principalarn" => Some(caller.principal_arn.clone()),
            "aws:principaltype" => Some(
                match caller.kind {
                    CallerKind::Federated { .. } => "FederatedUser",
                    CallerKind::Role { .. } => "AssumedRole",
                    CallerKind::User { .. } => "User",
                }
                .to_owned(),
            ),
            "aws:sourceidentity" => session.and_then(|session| session.source_identity.clone()),
            "aws:tokenissuetime" => session.map(|session| Timestamp::from_seconds(session.issued).to_string()),
            "aws:userid" => Some(caller.user_id.clone()),
            "aws:username" => caller.user().map(str::to_owned),
            _ => None,
        }
    }
}

/// Tag keys are compared without regard to case in conditions.
fn tag_of(tags: &BTreeMap<String, String>, key: &str) -> Option<String> {
    tags.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.clone())
}
