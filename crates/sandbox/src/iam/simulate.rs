//! `SimulatePrincipalPolicy`: what a user's, group's or role's policies would say.

use super::{Cx, no_such, page_xml};
use crate::answer::Xml;
use crate::authority::{self, Own, RequestFacts};
use crate::fault::{Constraints, Fault, Result};
use crate::policy::{Document, Use};
use crate::session::{Caller, CallerKind};
use crate::state::State;

pub(super) fn principal(cx: &Cx<'_>, state: &State) -> Result<Xml> {
    let arn = cx.params.required("PolicySourceArn")?;
    let principal = named(cx, state, arn)?;
    let actions = cx.params.list("ActionNames");
    let mut resources = cx.params.list("ResourceArns");
    if resources.is_empty() {
        resources.push("*");
    }
    if actions.is_empty() || actions.len() * resources.len() > RESULTS_MAX {
        let mut constraints = Constraints::default();
        constraints.fail(
            "actionNames",
            &format!("[{} names]", actions.len()),
            &format!("There must be from 1 to {RESULTS_MAX} pairs of action and resource"),
        );
        constraints.check()?;
    }
    let limit = limit(cx)?;
    let extra = context(cx);
    let facts = RequestFacts {
        state,
        caller: Some(&principal),
        now: cx.now,
        source_ip: None,
        region: "us-east-1",
        extra,
        request_tags: &[],
        resource_tags: None,
    };
    let mut xml = Xml::default();
    let pairs = actions.iter().flat_map(|action| resources.iter().map(move |resource| (*action, *resource)));
    xml.list("EvaluationResults", pairs, |xml, (action, resource)| {
        let decision = match authority::under(limit.as_ref(), state, &principal, action, resource, &facts) {
            Own::Allowed => "allowed",
            Own::Denied(_) => "explicitDeny",
            Own::Lacking(_) => "implicitDeny",
        };
        xml.field("EvalActionName", action).field("EvalResourceName", resource).field("EvalDecision", decision);
        xml.texts("MatchedStatements", []).texts("MissingContextValues", []);
    });
    page_xml(&mut xml, None);
    Ok(xml)
}

fn named(cx: &Cx<'_>, state: &State, arn: &str) -> Result<Caller> {
    let missing = || no_such(format!("The entity with ARN {} cannot be found.", arn.chars().take(256).collect::<String>()));
    let rest = arn.strip_prefix(&format!("arn:aws:iam::{}:", cx.account)).ok_or_else(|| {
        Fault::new(
            400,
            "InvalidInput",
            format!("Invalid Entity Arn: {} does not clearly define entity type and name.", arn.chars().take(256).collect::<String>()),
        )
    })?;
    let name = rest.rsplit('/').next().unwrap_or_default();
    let (kind, user_id) = if rest.starts_with("role/") {
        let role = state.role(cx.account, name).ok_or_else(missing)?;
        (CallerKind::Role { role: role.name.clone() }, role.id.clone())
    } else if rest.starts_with("user/") {
        let user = state.user(cx.account, name).ok_or_else(missing)?;
        (CallerKind::User { user: user.name.clone() }, user.id.clone())
    } else {
        return Err(missing());
    };
    Ok(Caller {
        account: cx.account.to_owned(),
        kind,
        arn: arn.to_owned(),
        principal_arn: arn.to_owned(),
        user_id,
        key_id: String::new(),
        session: None,
    })
}

/// The permissions boundary to simulate, in place of the principal's own.
fn limit(cx: &Cx<'_>) -> Result<Option<Document>> {
    match cx.params.list("PermissionsBoundaryPolicyInputList").as_slice() {
        [] => Ok(None),
        [text] => Document::parse(text, Use::Identity).map(Some),
        many => {
            let text = format!("PermissionsBoundaryPolicyInputList has {} policies: there can be one", many.len());
            Err(Fault::new(400, "InvalidInput", text))
        }
    }
}

/// `ContextEntries.member.N.ContextKeyName` and `.ContextKeyValues.member.M`.
fn context(cx: &Cx<'_>) -> Vec<(String, Vec<String>)> {
    let mut entries = Vec::new();
    for fields in cx.params.members("ContextEntries").into_values() {
        let Some((_, name)) = fields.iter().find(|(field, _)| *field == "ContextKeyName") else { continue };
        let values = fields
            .iter()
            .filter(|(field, _)| field.starts_with("ContextKeyValues.member."))
            .map(|(_, value)| (*value).to_owned())
            .collect();
        entries.push((name.to_ascii_lowercase(), values));
    }
    entries
}

/// Pairs of action and resource in one question.
const RESULTS_MAX: usize = 1000;
