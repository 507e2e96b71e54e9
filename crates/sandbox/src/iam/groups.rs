//! Groups and who is in them.

use super::{Cx, conflict, date, exists, no_such, page_xml, users, within_quota};
use crate::answer::Xml;
use crate::fault::{Fault, Result};
use crate::seal::{IdKind, new_id};
use crate::state::{Account, Grants, Group, State, quota};

pub(super) fn create(cx: &Cx<'_>, account: &mut Account) -> Result<Xml> {
    let name = cx.new_name("GroupName", 128)?;
    let path = cx.path()?;
    within_quota(account.groups.len(), quota::GROUPS, "GroupsPerAccount")?;
    if !account.names.insert(format!("group/{}", name.to_ascii_lowercase())) {
        return Err(exists(format!("Group with name {name} already exists.")));
    }
    let id = new_id(cx.entropy, IdKind::Group, cx.account);
    let group = Group { name: name.to_owned(), path: path.to_owned(), id, created: cx.now, grants: Grants::default() };
    let mut xml = Xml::default();
    xml.within("Group", |xml| group_xml(xml, &group, cx.account));
    account.groups.insert(name.to_owned(), group);
    Ok(xml)
}

pub(super) fn read(cx: &Cx<'_>, state: &State) -> Result<Xml> {
    let name = cx.params.required("GroupName")?;
    let account = state.account(cx.account).ok_or_else(|| missing(name))?;
    let group = account.groups.get(name).ok_or_else(|| missing(name))?;
    let members = account.users.iter().filter(|(_, user)| user.groups.iter().any(|member_of| member_of == name));
    let (page, more) = cx.page(members)?;
    let mut xml = Xml::default();
    xml.within("Group", |xml| group_xml(xml, group, cx.account));
    xml.list("Users", page, |xml, user| users::base_xml(xml, user, cx.account));
    page_xml(&mut xml, more.as_deref());
    Ok(xml)
}

pub(super) fn list(cx: &Cx<'_>, state: &State) -> Result<Xml> {
    let prefix = cx.params.get("PathPrefix").unwrap_or("/");
    let groups =
        state.account(cx.account).into_iter().flat_map(|account| &account.groups).filter(|(_, group)| group.path.starts_with(prefix));
    listing(cx, groups)
}

pub(super) fn list_for_user(cx: &Cx<'_>, state: &State) -> Result<Xml> {
    let user = users::find(cx, state)?;
    let groups = state.account(cx.account).into_iter().flat_map(|account| &account.groups).filter(|(name, _)| user.groups.contains(name));
    listing(cx, groups)
}

fn listing<'s>(cx: &Cx<'_>, groups: impl Iterator<Item = (&'s String, &'s Group)>) -> Result<Xml> {
    let (page, more) = cx.page(groups)?;
    let mut xml = Xml::default();
    xml.list("Groups", page, |xml, group| group_xml(xml, group, cx.account));
    page_xml(&mut xml, more.as_deref());
    Ok(xml)
}

pub(super) fn delete(cx: &Cx<'_>, account: &mut Account) -> Result<Xml> {
    let name = cx.params.required("GroupName")?;
    let group = account.groups.get(name).ok_or_else(|| missing(name))?;
    if account.users.values().any(|user| user.groups.iter().any(|member_of| member_of == name)) {
        return Err(conflict("remove users from group"));
    }
    if !group.grants.attached.is_empty() {
        return Err(conflict("detach all policies"));
    }
    if !group.grants.inline.is_empty() {
        return Err(conflict("delete policies"));
    }
    account.groups.remove(name);
    account.names.remove(&format!("group/{}", name.to_ascii_lowercase()));
    Ok(Xml::default())
}

pub(super) fn add_user(cx: &Cx<'_>, account: &mut Account) -> Result<Xml> {
    let group = cx.params.required("GroupName")?;
    if !account.groups.contains_key(group) {
        return Err(missing(group));
    }
    let user = users::find_mut(cx.params.required("UserName")?, account)?;
    if !user.groups.iter().any(|name| name == group) {
        within_quota(user.groups.len(), quota::GROUPS_PER_USER, "GroupsPerUser")?;
        user.groups.push(group.to_owned());
    }
    Ok(Xml::default())
}

pub(super) fn remove_user(cx: &Cx<'_>, account: &mut Account) -> Result<Xml> {
    let group = cx.params.required("GroupName")?;
    if !account.groups.contains_key(group) {
        return Err(missing(group));
    }
    let user = users::find_mut(cx.params.required("UserName")?, account)?;
    let before = user.groups.len();
    user.groups.retain(|name| name != group);
    if user.groups.len() == before {
        return Err(no_such(format!("User {} is not in group {group}", user.name)));
    }
    Ok(Xml::default())
}

fn group_xml(xml: &mut Xml, group: &Group, account: &str) {
    xml.field("Path", &group.path)
        .field("GroupName", &group.name)
        .field("GroupId", &group.id)
        .field("Arn", &group.arn(account))
        .field("CreateDate", &date(group.created));
}

fn missing(name: &str) -> Fault {
    no_such(format!("The group with name {} cannot be found.", name.chars().take(128).collect::<String>()))
}
