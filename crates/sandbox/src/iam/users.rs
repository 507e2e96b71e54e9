//! Users, their tags and the small things that hang on them.

use std::collections::BTreeMap;

use super::{Cx, Index, boundary_xml, conflict, date, exists, no_such, page_xml, tags_xml, within_quota};
use crate::answer::Xml;
use crate::fault::Result;
use crate::seal::{IdKind, new_id};
use crate::state::{Account, Grants, State, User, quota};

pub(super) fn create(cx: &Cx<'_>, account: &mut Account, index: &mut Index<'_>) -> Result<Xml> {
    let name = cx.new_name("UserName", 64)?;
    let path = cx.path()?;
    let tags = cx.tags()?;
    let boundary = cx.params.get("PermissionsBoundary").map(str::to_owned);
    if let Some(arn) = boundary.as_ref().filter(|arn| !account.policies.contains_key(*arn) && !index.aws_policies.contains_key(*arn)) {
        return Err(no_such(format!("Scope ARN: {arn} does not exist or is not attachable.")));
    }
    within_quota(account.users.len(), quota::USERS, "UsersPerAccount")?;
    if !account.names.insert(format!("user/{}", name.to_ascii_lowercase())) {
        return Err(exists(format!("User with name {name} already exists.")));
    }
    let user = User {
        name: name.to_owned(),
        path: path.to_owned(),
        id: new_id(cx.entropy, IdKind::User, cx.account),
        created: cx.now,
        keys: Vec::new(),
        grants: Grants::default(),
        boundary,
        groups: Vec::new(),
        tags,
        mfa: Vec::new(),
        login_profile: None,
    };
    let mut xml = Xml::default();
    xml.within("User", |xml| user_xml(xml, &user, cx.account));
    account.users.insert(name.to_owned(), user);
    Ok(xml)
}

pub(super) fn read(cx: &Cx<'_>, state: &State) -> Result<Xml> {
    let user = find(cx, state)?;
    let mut xml = Xml::default();
    xml.within("User", |xml| user_xml(xml, user, cx.account));
    Ok(xml)
}

pub(super) fn list(cx: &Cx<'_>, state: &State) -> Result<Xml> {
    let prefix = cx.params.get("PathPrefix").unwrap_or("/");
    let users = state.account(cx.account).into_iter().flat_map(|account| &account.users).filter(|(_, user)| user.path.starts_with(prefix));
    let (page, more) = cx.page(users)?;
    let mut xml = Xml::default();
    xml.list("Users", page, |xml, user| base_xml(xml, user, cx.account));
    page_xml(&mut xml, more.as_deref());
    Ok(xml)
}

pub(super) fn delete(cx: &Cx<'_>, account: &mut Account, index: &mut Index<'_>) -> Result<Xml> {
    let name = cx.params.required("UserName")?;
    let user = account.users.get(name).ok_or_else(|| missing(name))?;
    let obstacles = [
        (!user.keys.is_empty(), "delete access keys"),
        (!user.grants.attached.is_empty(), "detach all policies"),
        (!user.grants.inline.is_empty(), "delete policies"),
        (!user.groups.is_empty(), "remove users from group"),
        (!user.mfa.is_empty(), "delete MFA device"),
        (user.login_profile.is_some(), "delete login profile"),
    ];
    if let Some((_, what)) = obstacles.iter().find(|(there, _)| *there) {
        return Err(conflict(what));
    }
    for key in &user.keys {
        index.keys.remove(&key.id);
    }
    account.users.remove(name);
    account.names.remove(&format!("user/{}", name.to_ascii_lowercase()));
    Ok(Xml::default())
}

pub(super) fn tag(cx: &Cx<'_>, account: &mut Account) -> Result<Xml> {
    let tags = cx.tags()?;
    let user = find_mut(cx.params.required("UserName")?, account)?;
    let mut all: BTreeMap<String, String> = user.tags.clone();
    for (key, value) in tags {
        // A tag with the same key in another case is the same tag.
        all.retain(|name, _| !name.eq_ignore_ascii_case(&key));
        all.insert(key, value);
    }
    within_quota(all.len().saturating_sub(1), quota::TAGS, "TagsPerUser")?;
    user.tags = all;
    Ok(Xml::default())
}

pub(super) fn untag(cx: &Cx<'_>, account: &mut Account) -> Result<Xml> {
    let user = find_mut(cx.params.required("UserName")?, account)?;
    for key in cx.params.list("TagKeys") {
        user.tags.retain(|name, _| !name.eq_ignore_ascii_case(key));
    }
    Ok(Xml::default())
}

pub(super) fn list_tags(cx: &Cx<'_>, state: &State) -> Result<Xml> {
    let user = find(cx, state)?;
    let (page, more) = cx.page(user.tags.iter().map(|(key, value)| (key, (key.clone(), value.clone()))))?;
    let mut xml = Xml::default();
    tags_xml(&mut xml, &page.into_iter().collect());
    page_xml(&mut xml, more.as_deref());
    Ok(xml)
}

pub(super) fn list_mfa(cx: &Cx<'_>, state: &State) -> Result<Xml> {
    let user = find(cx, state)?;
    let mut xml = Xml::default();
    xml.list("MFADevices", &user.mfa, |xml, device| {
        xml.field("UserName", &user.name).field("SerialNumber", &device.serial).field("EnableDate", &date(device.enabled));
    });
    page_xml(&mut xml, None);
    Ok(xml)
}

/// Things that users of the sandbox never have; asked for by those who clean up before deleting a user.
pub(super) fn list_nothing(cx: &Cx<'_>, state: &State, tag: &str) -> Result<Xml> {
    find(cx, state)?;
    let mut xml = Xml::default();
    xml.texts(tag, []);
    page_xml(&mut xml, None);
    Ok(xml)
}

pub(super) fn read_login_profile(cx: &Cx<'_>, state: &State) -> Result<Xml> {
    let user = find(cx, state)?;
    let created = user.login_profile.ok_or_else(|| no_such(format!("Login Profile for User {} cannot be found.", user.name)))?;
    let mut xml = Xml::default();
    xml.within("LoginProfile", |xml| {
        xml.field("UserName", &user.name).field("CreateDate", &date(created)).field("PasswordResetRequired", "false");
    });
    Ok(xml)
}

pub(super) fn delete_login_profile(cx: &Cx<'_>, account: &mut Account) -> Result<Xml> {
    let user = find_mut(cx.params.required("UserName")?, account)?;
    match user.login_profile.take() {
        Some(_) => Ok(Xml::default()),
        None => Err(no_such(format!("Login Profile for User {} cannot be found.", user.name))),
    }
}

/// The user that the request names, or the caller's own.
pub(super) fn find<'s>(cx: &Cx<'_>, state: &'s State) -> Result<&'s User> {
    let name = cx.user_name()?;
    state.user(cx.account, name).ok_or_else(|| missing(name))
}

pub(super) fn find_mut<'a>(name: &str, account: &'a mut Account) -> Result<&'a mut User> {
    account.users.get_mut(name).ok_or_else(|| missing(name))
}

fn missing(name: &str) -> crate::fault::Fault {
    no_such(format!("The user with name {} cannot be found.", name.chars().take(128).collect::<String>()))
}

/// Lists show users without tags and boundary.
pub(super) fn base_xml(xml: &mut Xml, user: &User, account: &str) {
    xml.field("Path", &user.path)
        .field("UserName", &user.name)
        .field("UserId", &user.id)
        .field("Arn", &user.arn(account))
        .field("CreateDate", &date(user.created));
}

fn user_xml(xml: &mut Xml, user: &User, account: &str) {
    base_xml(xml, user, account);
    boundary_xml(xml, user.boundary.as_deref());
    if !user.tags.is_empty() {
        tags_xml(xml, &user.tags);
    }
}
