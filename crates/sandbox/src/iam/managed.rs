//! Managed policies of the account; those of AWS can be read.

use std::sync::Arc;

use super::{Cx, conflict, date, exists, no_such, page_xml, within_quota};
use crate::answer::Xml;
use crate::fault::{Fault, Result};
use crate::policy::{Document, Use};
use crate::seal::{IdKind, new_id};
use crate::sigv4::percent_encode;
use crate::state::{Account, Managed, Policy, State, quota};

pub(super) fn create(cx: &Cx<'_>, account: &mut Account) -> Result<Xml> {
    let name = cx.new_name("PolicyName", 128)?;
    let path = cx.path()?;
    let text = cx.params.required("PolicyDocument")?;
    let document = Document::parse(text, Use::Identity)?;
    within_quota(account.policies.len(), quota::POLICIES, "PoliciesPerAccount")?;
    within_quota(text.chars().filter(|c| !c.is_whitespace()).count().saturating_sub(1), quota::MANAGED, "PolicySize")?;
    if !account.names.insert(format!("policy/{}", name.to_ascii_lowercase())) {
        return Err(exists(format!("A policy called {name} already exists. Duplicate names are not allowed.")));
    }
    let id = new_id(cx.entropy, IdKind::ManagedPolicy, cx.account);
    let policy = Arc::new(Policy { text: text.to_owned(), document });
    let managed = Managed { name: name.to_owned(), path: path.to_owned(), id, created: cx.now, policy };
    let mut xml = Xml::default();
    xml.within("Policy", |xml| policy_xml(xml, &managed, cx.account, 0));
    account.policies.insert(managed.arn(cx.account), managed);
    Ok(xml)
}

pub(super) fn delete(cx: &Cx<'_>, account: &mut Account) -> Result<Xml> {
    let arn = cx.params.required("PolicyArn")?;
    let Some(managed) = account.policies.get(arn) else { return Err(missing(arn)) };
    let name = managed.name.to_ascii_lowercase();
    if account.attachments(arn) > 0 {
        return Err(conflict("detach all entities"));
    }
    account.policies.remove(arn);
    account.names.remove(&format!("policy/{name}"));
    Ok(Xml::default())
}

pub(super) fn read(cx: &Cx<'_>, state: &State) -> Result<Xml> {
    let arn = cx.params.required("PolicyArn")?;
    let managed = state.managed(cx.account, arn).ok_or_else(|| missing(arn))?;
    let mut xml = Xml::default();
    let attached = state.account(cx.account).map_or(0, |account| account.attachments(arn));
    xml.within("Policy", |xml| policy_xml(xml, managed, owner(cx, arn), attached));
    Ok(xml)
}

/// Policies here have one version, `v1`.
pub(super) fn read_version(cx: &Cx<'_>, state: &State) -> Result<Xml> {
    let arn = cx.params.required("PolicyArn")?;
    let version = cx.params.required("VersionId")?;
    let managed = state.managed(cx.account, arn).filter(|_| version == "v1").ok_or_else(|| missing(arn))?;
    let mut xml = Xml::default();
    xml.within("PolicyVersion", |xml| {
        xml.field("Document", &percent_encode(&managed.policy.text))
            .field("VersionId", "v1")
            .field("IsDefaultVersion", "true")
            .field("CreateDate", &date(managed.created));
    });
    Ok(xml)
}

pub(super) fn list(cx: &Cx<'_>, state: &State) -> Result<Xml> {
    let scope = cx.params.get("Scope").unwrap_or("All");
    let own = state.account(cx.account).filter(|_| scope != "AWS").into_iter().flat_map(|account| &account.policies);
    let aws = state.aws_policies.iter().filter(|_| scope != "Local");
    let mut all: Vec<(&String, &Managed)> = own.chain(aws).collect();
    all.sort_by_key(|(arn, _)| *arn);
    let (page, more) = cx.page(all.into_iter().map(|(arn, managed)| (arn, (arn, managed))))?;
    let mut xml = Xml::default();
    xml.list("Policies", page, |xml, (arn, managed)| {
        let attached = state.account(cx.account).map_or(0, |account| account.attachments(arn));
        policy_xml(xml, managed, owner(cx, arn), attached);
    });
    page_xml(&mut xml, more.as_deref());
    Ok(xml)
}

fn owner<'a>(cx: &'a Cx<'_>, arn: &str) -> &'a str {
    if arn.starts_with("arn:aws:iam::aws:") { "aws" } else { cx.account }
}

fn policy_xml(xml: &mut Xml, managed: &Managed, account: &str, attached: usize) {
    xml.field("PolicyName", &managed.name)
        .field("PolicyId", &managed.id)
        .field("Arn", &managed.arn(account))
        .field("Path", &managed.path)
        .field("DefaultVersionId", "v1")
        .field("AttachmentCount", &attached.to_string())
        .field("PermissionsBoundaryUsageCount", "0")
        .field("IsAttachable", "true")
        .field("CreateDate", &date(managed.created))
        .field("UpdateDate", &date(managed.created));
}

fn missing(arn: &str) -> Fault {
    no_such(format!("Policy {} was not found.", arn.chars().take(256).collect::<String>()))
}
