//! Inline and attached policies of users, groups and roles: the same actions three times, with other names.

use std::sync::Arc;

use super::{Cx, Index, no_such, page_xml, within_quota};
use crate::answer::Xml;
use crate::fault::{Fault, Result};
use crate::policy::{Document, Use};
use crate::sigv4::percent_encode;
use crate::state::{Account, Grants, Policy, State, quota};

/// Whose policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Group,
    Role,
    User,
}

impl Owner {
    fn param(self) -> &'static str {
        match self {
            Self::Group => "GroupName",
            Self::Role => "RoleName",
            Self::User => "UserName",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Role => "role",
            Self::User => "user",
        }
    }

    fn inline_quota(self) -> usize {
        match self {
            Self::Group => quota::INLINE_GROUP,
            Self::Role => quota::INLINE_ROLE,
            Self::User => quota::INLINE_USER,
        }
    }

    fn missing(self, name: &str) -> Fault {
        no_such(format!("The {} with name {} cannot be found.", self.noun(), name.chars().take(128).collect::<String>()))
    }

    fn grants<'s>(self, cx: &Cx<'_>, state: &'s State) -> Result<(&'s str, &'s Grants)> {
        let name = cx.params.required(self.param())?;
        let account = state.account(cx.account).ok_or_else(|| self.missing(name))?;
        match self {
            Self::Group => account.groups.get(name).map(|group| (group.name.as_str(), &group.grants)),
            Self::Role => account.roles.get(name).map(|role| (role.name.as_str(), &role.grants)),
            Self::User => account.users.get(name).map(|user| (user.name.as_str(), &user.grants)),
        }
        .ok_or_else(|| self.missing(name))
    }

    fn grants_mut<'a>(self, cx: &Cx<'_>, account: &'a mut Account) -> Result<&'a mut Grants> {
        let name = cx.params.required(self.param())?;
        match self {
            Self::Group => account.groups.get_mut(name).map(|group| &mut group.grants),
            Self::Role => account.roles.get_mut(name).map(|role| &mut role.grants),
            Self::User => account.users.get_mut(name).map(|user| &mut user.grants),
        }
        .ok_or_else(|| self.missing(name))
    }
}

pub(super) fn attach(cx: &Cx<'_>, account: &mut Account, index: &Index<'_>, owner: Owner) -> Result<Xml> {
    let arn = cx.params.required("PolicyArn")?;
    let known = account.policies.contains_key(arn) || index.aws_policies.contains_key(arn);
    let grants = owner.grants_mut(cx, account)?;
    if !arn.starts_with("arn:") {
        return Err(Fault::new(400, "InvalidInput", format!("ARN {} is not valid.", arn.chars().take(128).collect::<String>())));
    }
    if !known {
        return Err(no_such(format!("Policy {} does not exist or is not attachable.", arn.chars().take(256).collect::<String>())));
    }
    if !grants.attached.iter().any(|attached| attached == arn) {
        within_quota(grants.attached.len(), quota::ATTACHED, if owner == Owner::Role { "PoliciesPerRole" } else { "PoliciesPerUser" })?;
        grants.attached.push(arn.to_owned());
    }
    Ok(Xml::default())
}

pub(super) fn detach(cx: &Cx<'_>, account: &mut Account, owner: Owner) -> Result<Xml> {
    let arn = cx.params.required("PolicyArn")?;
    let grants = owner.grants_mut(cx, account)?;
    let at = grants
        .attached
        .iter()
        .position(|attached| attached == arn)
        .ok_or_else(|| no_such(format!("Policy {} was not found.", arn.chars().take(256).collect::<String>())))?;
    grants.attached.remove(at);
    Ok(Xml::default())
}

pub(super) fn list_attached(cx: &Cx<'_>, state: &State, owner: Owner) -> Result<Xml> {
    let (_, grants) = owner.grants(cx, state)?;
    let mut arns: Vec<&String> = grants.attached.iter().collect();
    arns.sort();
    let (page, more) = cx.page(arns.into_iter().map(|arn| (arn, arn)))?;
    let mut xml = Xml::default();
    xml.list("AttachedPolicies", page, |xml, arn| {
        xml.field("PolicyName", arn.rsplit('/').next().unwrap_or_default()).field("PolicyArn", arn);
    });
    page_xml(&mut xml, more.as_deref());
    Ok(xml)
}

pub(super) fn put_inline(cx: &Cx<'_>, account: &mut Account, owner: Owner) -> Result<Xml> {
    let name = cx.new_name("PolicyName", 128)?;
    let text = cx.params.required("PolicyDocument")?;
    let document = Document::parse(text, Use::Identity)?;
    let grants = owner.grants_mut(cx, account)?;
    let size = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
    let others: usize = grants.inline.iter().filter(|(other, _)| *other != name).map(|(_, policy)| size(&policy.text)).sum();
    if others + size(text) > owner.inline_quota() {
        let who = cx.params.get(owner.param()).unwrap_or_default();
        return Err(Fault::new(
            409,
            "LimitExceeded",
            format!("Maximum policy size of {} bytes exceeded for {} {who}", owner.inline_quota(), owner.noun()),
        ));
    }
    grants.inline.insert(name.to_owned(), Arc::new(Policy { text: text.to_owned(), document }));
    Ok(Xml::default())
}

pub(super) fn delete_inline(cx: &Cx<'_>, account: &mut Account, owner: Owner) -> Result<Xml> {
    let name = cx.params.required("PolicyName")?;
    let grants = owner.grants_mut(cx, account)?;
    grants.inline.remove(name).map(|_gone| Xml::default()).ok_or_else(|| missing_inline(owner, name))
}

pub(super) fn read_inline(cx: &Cx<'_>, state: &State, owner: Owner) -> Result<Xml> {
    let name = cx.params.required("PolicyName")?;
    let (who, grants) = owner.grants(cx, state)?;
    let policy = grants.inline.get(name).ok_or_else(|| missing_inline(owner, name))?;
    let mut xml = Xml::default();
    xml.field(owner.param(), who).field("PolicyName", name).field("PolicyDocument", &percent_encode(&policy.text));
    Ok(xml)
}

pub(super) fn list_inline(cx: &Cx<'_>, state: &State, owner: Owner) -> Result<Xml> {
    let (_, grants) = owner.grants(cx, state)?;
    let (page, more) = cx.page(grants.inline.keys().map(|name| (name, name)))?;
    let mut xml = Xml::default();
    xml.texts("PolicyNames", page.into_iter().map(String::as_str));
    page_xml(&mut xml, more.as_deref());
    Ok(xml)
}

fn missing_inline(owner: Owner, name: &str) -> Fault {
    no_such(format!("The {} policy with name {} cannot be found.", owner.noun(), name.chars().take(128).collect::<String>()))
}
