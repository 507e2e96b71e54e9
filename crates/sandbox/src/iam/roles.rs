//! Roles and their trust policies.

use std::sync::Arc;

use super::{Cx, Index, boundary_xml, conflict, date, exists, no_such, page_xml, tags_xml, within_quota};
use crate::answer::Xml;
use crate::fault::{Constraints, Fault, Result};
use crate::policy::{Document, Use};
use crate::request::Params;
use crate::seal::{IdKind, new_id};
use crate::sigv4::percent_encode;
use crate::state::{Account, Grants, Policy, Role, State, quota};
use crate::trust::well_formed;

pub(super) fn create(cx: &Cx<'_>, account: &mut Account, index: &mut Index<'_>) -> Result<Xml> {
    let name = cx.new_name("RoleName", 64)?;
    let path = cx.path()?;
    let tags = cx.tags()?;
    let trust = trust(cx.params.required("AssumeRolePolicyDocument")?, index)?;
    let max_session = max_session(cx.params)?.unwrap_or(3600);
    within_quota(account.roles.len(), quota::ROLES, "RolesPerAccount")?;
    if !account.names.insert(format!("role/{}", name.to_ascii_lowercase())) {
        return Err(exists(format!("Role with name {name} already exists.")));
    }
    let role = Role {
        name: name.to_owned(),
        path: path.to_owned(),
        id: new_id(cx.entropy, IdKind::Role, cx.account),
        created: cx.now,
        trust,
        grants: Grants::default(),
        boundary: cx.params.get("PermissionsBoundary").map(str::to_owned),
        max_session,
        description: cx.params.get("Description").unwrap_or_default().chars().take(1000).collect(),
        tags,
    };
    let mut xml = Xml::default();
    xml.within("Role", |xml| role_xml(xml, &role, cx.account));
    account.roles.insert(name.to_owned(), role);
    Ok(xml)
}

pub(super) fn read(cx: &Cx<'_>, state: &State) -> Result<Xml> {
    let name = cx.params.required("RoleName")?;
    let role = state.role(cx.account, name).ok_or_else(|| missing(name))?;
    let mut xml = Xml::default();
    xml.within("Role", |xml| role_xml(xml, role, cx.account));
    Ok(xml)
}

pub(super) fn list(cx: &Cx<'_>, state: &State) -> Result<Xml> {
    let prefix = cx.params.get("PathPrefix").unwrap_or("/");
    let roles = state.account(cx.account).into_iter().flat_map(|account| &account.roles).filter(|(_, role)| role.path.starts_with(prefix));
    let (page, more) = cx.page(roles)?;
    let mut xml = Xml::default();
    xml.list("Roles", page, |xml, role| role_xml(xml, role, cx.account));
    page_xml(&mut xml, more.as_deref());
    Ok(xml)
}

pub(super) fn delete(cx: &Cx<'_>, account: &mut Account) -> Result<Xml> {
    let name = cx.params.required("RoleName")?;
    let role = account.roles.get(name).ok_or_else(|| missing(name))?;
    if !role.grants.attached.is_empty() {
        return Err(conflict("detach all policies"));
    }
    if !role.grants.inline.is_empty() {
        return Err(conflict("delete policies"));
    }
    account.roles.remove(name);
    account.names.remove(&format!("role/{}", name.to_ascii_lowercase()));
    Ok(Xml::default())
}

pub(super) fn update(cx: &Cx<'_>, account: &mut Account) -> Result<Xml> {
    let name = cx.params.required("RoleName")?;
    let max_session = max_session(cx.params)?;
    let role = account.roles.get_mut(name).ok_or_else(|| missing(name))?;
    if let Some(seconds) = max_session {
        role.max_session = seconds;
    }
    if let Some(text) = cx.params.get("Description") {
        role.description = text.chars().take(1000).collect();
    }
    Ok(Xml::default())
}

pub(super) fn update_trust(cx: &Cx<'_>, account: &mut Account, index: &mut Index<'_>) -> Result<Xml> {
    let name = cx.params.required("RoleName")?;
    let trust = trust(cx.params.required("PolicyDocument")?, index)?;
    account.roles.get_mut(name).ok_or_else(|| missing(name))?.trust = trust;
    Ok(Xml::default())
}

/// ARNs in the request's trust policy that name users or roles which are known not to exist.
pub(super) fn strangers(state: &State, params: &Params) -> Vec<String> {
    let text = match (params.get("AssumeRolePolicyDocument"), params.get("Action")) {
        (Some(text), _) => text,
        (None, Some("UpdateAssumeRolePolicy")) => params.get("PolicyDocument").unwrap_or_default(),
        _ => return Vec::new(),
    };
    let Ok(document) = Document::parse(text, Use::Trust) else { return Vec::new() };
    let named = document.statements.iter().filter_map(|statement| statement.principals.as_ref()).flat_map(|principals| &principals.aws);
    named.filter(|name| !well_formed(name) || state.lacks_principal(name)).cloned().collect()
}

fn trust(text: &str, index: &Index<'_>) -> Result<Arc<Policy>> {
    let document = Document::parse(text, Use::Trust)?;
    if let Some(name) = index.strangers.first() {
        return Err(Fault::malformed_policy(format!("Invalid principal in policy: \"AWS\":{name:?}")));
    }
    let length = text.chars().filter(|c| !c.is_whitespace()).count();
    within_quota(length.saturating_sub(1), quota::TRUST, "ACLSizePerRole")?;
    Ok(Arc::new(Policy { text: text.to_owned(), document }))
}

fn max_session(params: &Params) -> Result<Option<i64>> {
    let seconds = params.number("MaxSessionDuration")?;
    if let Some(seconds) = seconds {
        let mut constraints = Constraints::default();
        constraints.range("maxSessionDuration", seconds, 3600, 43_200);
        constraints.check()?;
    }
    Ok(seconds)
}

fn role_xml(xml: &mut Xml, role: &Role, account: &str) {
    xml.field("Path", &role.path)
        .field("RoleName", &role.name)
        .field("RoleId", &role.id)
        .field("Arn", &role.arn(account))
        .field("CreateDate", &date(role.created))
        .field("AssumeRolePolicyDocument", &percent_encode(&role.trust.text))
        .optional("Description", Some(role.description.as_str()).filter(|text| !text.is_empty()))
        .field("MaxSessionDuration", &role.max_session.to_string());
    boundary_xml(xml, role.boundary.as_deref());
    if !role.tags.is_empty() {
        tags_xml(xml, &role.tags);
    }
}

fn missing(name: &str) -> Fault {
    no_such(format!("The role with name {} cannot be found.", name.chars().take(128).collect::<String>()))
}
