//! The rules of assuming a role: what is asked, whether it is allowed, how long, with which tags. Pure.
//!
//! Source: STS API reference (AssumeRole), IAM user guide ("Passing session tags", "Role chaining", "Cross-account policy evaluation").

use std::collections::BTreeMap;

use crate::authority::{self, Own, RequestFacts, Source};
use crate::cloud::Call;
use crate::fault::{Constraints, Fault, NAME_PATTERN, Result, name_character};
use crate::jwt::Token;
use crate::policy::{Document, Use};
use crate::request::Params;
use crate::session::{Caller, CallerKind, Session};
use crate::state::{Role, State, quota};
use crate::trust::{self, Asker, Trust};

/// What the caller asks for, its form checked.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) role_arn: String,
    pub(crate) session_name: String,
    pub(crate) policy: Option<String>,
    pub(crate) policy_arns: Vec<String>,
    pub(crate) tags: Vec<(String, String)>,
    seconds: Option<i64>,
    transitive: Vec<String>,
    source_identity: Option<String>,
    external_id: Option<String>,
}

/// What the caller gets.
pub(crate) struct Granted<'a> {
    pub(crate) account: &'a str,
    pub(crate) role: &'a Role,
    pub(crate) seconds: i64,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) transitive: Vec<String>,
    pub(crate) source_identity: Option<String>,
    /// Percent of the space for policies and tags; 0 when there are none.
    pub(crate) packed: i64,
}

impl Wish {
    /// Reads the parameters and checks all constraints that need no world, naming every broken one.
    pub(crate) fn read(params: &Params, session_min: i64) -> Result<Self> {
        let mut constraints = Constraints::default();
        let role_arn = params.get("RoleArn").unwrap_or_default();
        let session_name = params.get("RoleSessionName").unwrap_or_default();
        if params.get("RoleArn").is_some() {
            constraints.length("roleArn", role_arn, 20, 2048);
        } else {
            constraints.missing("roleArn");
        }
        if params.get("RoleSessionName").is_some() {
            constraints.pattern("roleSessionName", session_name, NAME_PATTERN, name_character);
            constraints.length("roleSessionName", session_name, 2, 64);
        } else {
            constraints.missing("roleSessionName");
        }
        let seconds = params.number("DurationSeconds")?;
        if let Some(seconds) = seconds {
            constraints.range("durationSeconds", seconds, session_min, DURATION_MAX);
        }
        let source_identity = params.get("SourceIdentity");
        if let Some(identity) = source_identity {
            constraints.length("sourceIdentity", identity, 2, 64);
            constraints.pattern("sourceIdentity", identity, NAME_PATTERN, name_character);
        }
        let external_id = params.get("ExternalId");
        if let Some(id) = external_id {
            constraints.length("externalId", id, 2, 1224);
            constraints.pattern("externalId", id, r"[\w+=,.@:\/-]*", |c| name_character(c) || matches!(c, ':' | '/'));
        }
        let (policy, policy_arns) = session_policies(params, &mut constraints);
        let tags = params.tags("Tags");
        if tags.len() > quota::TAGS {
            constraints.fail("tags", &format!("[{} tags]", tags.len()), "Member must have length less than or equal to 50");
        }
        constraints.check()?;
        account_of_role(role_arn)?;
        check_tags(&tags)?;
        let transitive: Vec<String> = params.list("TransitiveTagKeys").into_iter().map(str::to_owned).collect();
        check_transitive(&transitive, &tags)?;
        if let Some(policy) = &policy {
            Document::parse(policy, Use::Identity)?;
        }
        Ok(Self {
            role_arn: role_arn.to_owned(),
            session_name: session_name.to_owned(),
            policy,
            policy_arns,
            tags,
            seconds,
            transitive,
            source_identity: source_identity.map(str::to_owned),
            external_id: external_id.map(str::to_owned),
        })
    }

    /// Web identities bring tags and source identity inside their token.
    pub(crate) fn take_claims(&mut self, token: &Token<'_>) -> Result<()> {
        let texts = |value: &serde_json::Value| {
            value
                .as_array()
                .map(|list| list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect::<Vec<_>>())
                .unwrap_or_default()
        };
        self.tags.clear();
        self.transitive.clear();
        self.source_identity = token.text("https://aws.amazon.com/source_identity").map(str::to_owned);
        if let Some(claim) = token.claims.get("https://aws.amazon.com/tags") {
            for (key, values) in claim.get("principal_tags").and_then(serde_json::Value::as_object).into_iter().flatten() {
                self.tags.push((key.clone(), texts(values).into_iter().next().unwrap_or_default()));
            }
            self.transitive = claim.get("transitive_tag_keys").map(texts).unwrap_or_default();
        }
        check_tags(&self.tags)?;
        check_transitive(&self.transitive, &self.tags)
    }

    /// The actions that the wish needs: the main one, and one each for tags and source identity.
    pub(crate) fn actions(&self, main: &'static str, inherited: &[String]) -> Vec<&'static str> {
        let mut actions = vec![main];
        if !self.tags.is_empty() || !inherited.is_empty() {
            actions.push("sts:TagSession");
        }
        if self.source_identity.is_some() {
            actions.push("sts:SetSourceIdentity");
        }
        actions
    }

    /// Condition keys that come from the request.
    pub(crate) fn facts(&self) -> Vec<(String, Vec<String>)> {
        let mut facts = vec![("sts:rolesessionname".to_owned(), vec![self.session_name.clone()])];
        if let Some(id) = &self.external_id {
            facts.push(("sts:externalid".to_owned(), vec![id.clone()]));
        }
        if let Some(identity) = &self.source_identity {
            facts.push(("sts:sourceidentity".to_owned(), vec![identity.clone()]));
        }
        if !self.transitive.is_empty() {
            facts.push(("sts:transitivetagkeys".to_owned(), self.transitive.clone()));
        }
        facts
    }
}

/// Decides about `AssumeRole` by an authenticated caller. A role that does not exist is refused in the same words as one that does not trust.
pub(crate) fn decide<'a>(state: &'a State, call: &Call<'_>, caller: &Caller, wish: &Wish, mfa: bool) -> Result<Granted<'a>> {
    let refused = |action: &str, tail: &str| {
        Fault::access_denied(format!("User: {} is not authorized to perform: {action} on resource: {}{tail}", caller.arn, wish.role_arn))
    };
    let Some((account, role)) = state.role_by_arn(&wish.role_arn) else { return Err(refused("sts:AssumeRole", "")) };
    let previous = caller.session.as_deref();
    let inherited = previous.map(|session| session.transitive.as_slice()).unwrap_or_default();
    let mut extra = wish.facts();
    if mfa {
        extra.push(("aws:multifactorauthpresent".to_owned(), vec!["true".to_owned()]));
    }
    extra.push(("aws:resourceaccount".to_owned(), vec![account.to_owned()]));
    let facts = RequestFacts { extra, request_tags: &wish.tags, resource_tags: Some(&role.tags), ..call.facts(state, Some(caller)) };
    let asker = Asker::Aws { account: &caller.account, arn: &caller.arn, principal_arn: &caller.principal_arn };
    for action in wish.actions("sts:AssumeRole", inherited) {
        let trust = trust::evaluate(&role.trust.document, asker, action, &facts);
        if trust == Trust::Denied {
            return Err(refused(action, " with an explicit deny in the role trust policy"));
        }
        let own = authority::own(state, caller, action, &wish.role_arn, &facts);
        if let Own::Denied(_) = own {
            return Err(authority::refusal(caller, action, &wish.role_arn, own));
        }
        if !suffices(trust, own, caller.account == account) {
            return Err(refused(action, ""));
        }
    }
    if let (Some(before), Some(wanted)) = (previous.and_then(|session| session.source_identity.as_deref()), wish.source_identity.as_deref())
        && before != wanted
    {
        return Err(refused("sts:SetSourceIdentity", ""));
    }
    grant(state, account, role, wish, previous.filter(|_| matches!(caller.kind, CallerKind::Role { .. })))
}

/// Both sides must agree across accounts; within one, a role may name the caller directly.
fn suffices(trust: Trust, own: Own, same_account: bool) -> bool {
    match (trust, own) {
        (Trust::Denied | Trust::None, _) | (_, Own::Denied(_)) | (Trust::Account, Own::Lacking(_)) => false,
        (_, Own::Allowed) => true,
        (Trust::Session, Own::Lacking(_)) => same_account,
        (Trust::Principal, Own::Lacking(source)) => same_account && source == Source::Identity,
    }
}

/// Length, tags and packed size, once access is decided. `chained` is the role session that asks, if one does.
pub(crate) fn grant<'a>(state: &State, account: &'a str, role: &'a Role, wish: &Wish, chained: Option<&Session>) -> Result<Granted<'a>> {
    let seconds = wish.seconds.unwrap_or(CHAINED_MAX);
    // The role's own limit is named first, as recorded with the real one.
    if seconds > role.max_session && wish.seconds.is_some() {
        return Err(Fault::validation("The requested DurationSeconds exceeds the MaxSessionDuration set for this role."));
    }
    if chained.is_some() && seconds > CHAINED_MAX {
        return Err(Fault::validation(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
        ));
    }
    check_policy_arns(state, account, &wish.policy_arns)?;
    let mut tags: BTreeMap<String, String> = wish.tags.iter().cloned().collect();
    let mut transitive = wish.transitive.clone();
    for key in chained.map(|session| session.transitive.as_slice()).unwrap_or_default() {
        if wish.tags.iter().any(|(name, _)| name.eq_ignore_ascii_case(key)) {
            return Err(Fault::new(
                400,
                "InvalidParameterValue",
                "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.",
            ));
        }
        if let Some(value) = chained.and_then(|session| session.tags.get(key)) {
            tags.insert(key.clone(), value.clone());
            transitive.push(key.clone());
        }
    }
    let packed = packed_percent(wish.policy.as_deref(), &wish.policy_arns, &wish.tags)?;
    let source_identity = chained.and_then(|session| session.source_identity.clone()).or_else(|| wish.source_identity.clone());
    Ok(Granted { account, role, seconds: seconds.min(role.max_session.max(1)), tags, transitive, source_identity, packed })
}

/// The account in a role's ARN, or AWS's complaint about the ARN.
pub(crate) fn account_of_role(arn: &str) -> Result<&str> {
    let mut parts = arn.splitn(6, ':');
    let mut next = || parts.next().unwrap_or_default();
    let (head, partition, service, region, account, resource) = (next(), next(), next(), next(), next(), next());
    let fits = head == "arn"
        && partition.starts_with("aws")
        && service == "iam"
        && region.is_empty()
        && trust::is_account(account)
        && resource.len() > 5
        && resource.starts_with("role/");
    if fits { Ok(account) } else { Err(Fault::validation("Request ARN is invalid")) }
}

/// `Policy` and `PolicyArns`, their form checked.
pub(crate) fn session_policies(params: &Params, constraints: &mut Constraints) -> (Option<String>, Vec<String>) {
    let policy = params.get("Policy").map(str::to_owned);
    if let Some(policy) = &policy {
        constraints.length("policy", policy, 1, POLICY_MAX);
    }
    let arns: Vec<String> = params
        .members("PolicyArns")
        .into_values()
        .filter_map(|fields| fields.into_iter().find(|(field, _)| *field == "arn").map(|(_, arn)| arn.to_owned()))
        .collect();
    if arns.len() > 10 {
        constraints.fail("policyArns", &format!("[{} ARNs]", arns.len()), "Member must have length less than or equal to 10");
    }
    for arn in &arns {
        constraints.length("policyArns.member.arn", arn, 20, 2048);
    }
    (policy, arns)
}

/// Managed session policies must exist in the account of the session, or be AWS's own.
pub(crate) fn check_policy_arns(state: &State, account: &str, arns: &[String]) -> Result<()> {
    match arns.iter().find(|arn| state.managed(account, arn).is_none()) {
        Some(missing) => Err(Fault::malformed_policy(format!("Policy {missing} does not exist or is not attachable."))),
        None => Ok(()),
    }
}

pub(crate) fn check_tags(tags: &[(String, String)]) -> Result<()> {
    let mut constraints = Constraints::default();
    let invalid = |message: &str| Fault::new(400, "InvalidParameterValue", message);
    let mut seen = std::collections::HashSet::new();
    for (index, (key, value)) in tags.iter().enumerate() {
        constraints.length(&format!("tags.{}.member.key", index + 1), key, 1, 128);
        constraints.length(&format!("tags.{}.member.value", index + 1), value, 0, 256);
        let fits = |c: char| c.is_alphanumeric() || c.is_whitespace() || matches!(c, '_' | '.' | ':' | '/' | '=' | '+' | '-' | '@');
        constraints.pattern(&format!("tags.{}.member.key", index + 1), key, r"[\p{L}\p{Z}\p{N}_.:/=+\-@]+", fits);
        constraints.pattern(&format!("tags.{}.member.value", index + 1), value, r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*", fits);
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(invalid("Tag keys that begin with 'aws:' are reserved for AWS."));
        }
        if !seen.insert(key.to_ascii_lowercase()) {
            return Err(invalid("Duplicate tag keys found. Please note that Tag keys are case insensitive."));
        }
    }
    constraints.check()
}

fn check_transitive(keys: &[String], tags: &[(String, String)]) -> Result<()> {
    if keys.iter().all(|key| tags.iter().any(|(name, _)| name.eq_ignore_ascii_case(key))) {
        return Ok(());
    }
    Err(Fault::new(400, "InvalidParameterValue", "The specified transitive tag key must be included in the requested tags."))
}

/// How much of the space for session policies and tags is used, in percent, rounded up. AWS packs them into a binary form that it does not
/// publish; here policies without blanks and tags count three quarters of their bytes, and ARNs half, against 2048 bytes.
pub(crate) fn packed_percent(policy: Option<&str>, arns: &[String], tags: &[(String, String)]) -> Result<i64> {
    let policy_bytes = policy.map_or(0, |text| text.chars().filter(|c| !c.is_whitespace()).map(char::len_utf8).sum::<usize>());
    let arn_bytes: usize = arns.iter().map(String::len).sum();
    let tag_bytes: usize = tags.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
    let quarters = policy_bytes * 3 + arn_bytes * 2 + tag_bytes * 3;
    let percent = i64::try_from((quarters * 100).div_ceil(PACKED_BYTES * 4)).unwrap_or(i64::MAX);
    if percent <= 100 {
        return Ok(percent);
    }
    let (what, advice) = if tag_bytes > policy_bytes + arn_bytes { ("session tags", "tags") } else { ("session policy", "policy") };
    Err(Fault::new(
        400,
        "PackedPolicyTooLarge",
        format!("Packed size of {what} consumes {percent}% of allotted space, please use smaller {advice}."),
    ))
}

/// Seconds: the longest session that any role allows.
const DURATION_MAX: i64 = 43_200;
/// Seconds: the longest session that a role session can open, and the default.
const CHAINED_MAX: i64 = 3600;
/// Characters of a session policy.
const POLICY_MAX: usize = 2048;
const PACKED_BYTES: usize = 2048;
