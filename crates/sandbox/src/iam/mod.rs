//! IAM: users, access keys, groups, roles and policies of the caller's account. Source: IAM API reference, version 2010-05-08.
//!
//! This file finds the action, asks whether the caller may, and runs it under the state's lock; the actions are beside it, by noun.

mod grants;
mod groups;
mod keys;
mod managed;
mod providers;
mod roles;
mod simulate;
mod users;

use std::collections::BTreeMap;

use daypass_base::{Entropy, Timestamp};

use crate::answer::{self, Reply, Xml};
use crate::authority::{self, Own, RequestFacts};
use crate::cloud::{Call, Cloud};
use crate::fault::{Constraints, Fault, Result, name_character};
use crate::request::Params;
use crate::session::{Caller, CallerKind};
use crate::state::{Account, State, quota};
use grants::Owner;

pub(crate) const NAMESPACE: &str = "https://iam.amazonaws.com/doc/2010-05-08/";

/// What an action may look at besides the state.
struct Cx<'a> {
    params: &'a Params,
    caller: &'a Caller,
    account: &'a str,
    now: Timestamp,
    entropy: &'a dyn Entropy,
    /// When an access key made now begins to work.
    keys_usable_from: Timestamp,
}

enum Handler {
    Read(fn(&Cx<'_>, &State) -> Result<Xml>),
    Write(fn(&Cx<'_>, &mut Account, &mut Index<'_>) -> Result<Xml>),
}

/// The parts of the state outside the account that writes touch or look at.
struct Index<'a> {
    keys: &'a mut std::collections::HashMap<String, (String, String)>,
    aws_policies: &'a std::collections::HashMap<String, crate::state::Managed>,
    /// ARNs named by a trust policy that exist nowhere, found before the account was taken out for writing.
    strangers: Vec<String>,
}

fn handler(action: &str) -> Option<Handler> {
    use Handler::{Read, Write};
    Some(match action {
        "AddUserToGroup" => Write(|cx, account, _| groups::add_user(cx, account)),
        "AttachGroupPolicy" => Write(|cx, account, index| grants::attach(cx, account, index, Owner::Group)),
        "AttachRolePolicy" => Write(|cx, account, index| grants::attach(cx, account, index, Owner::Role)),
        "AttachUserPolicy" => Write(|cx, account, index| grants::attach(cx, account, index, Owner::User)),
        "CreateAccessKey" => Write(keys::create),
        "CreateGroup" => Write(|cx, account, _| groups::create(cx, account)),
        "CreateOpenIDConnectProvider" => Write(|cx, account, _| providers::create(cx, account)),
        "CreatePolicy" => Write(|cx, account, _| managed::create(cx, account)),
        "CreateRole" => Write(roles::create),
        "CreateUser" => Write(users::create),
        "DeleteAccessKey" => Write(keys::delete),
        "DeleteGroup" => Write(|cx, account, _| groups::delete(cx, account)),
        "DeleteGroupPolicy" => Write(|cx, account, _| grants::delete_inline(cx, account, Owner::Group)),
        "DeleteLoginProfile" => Write(|cx, account, _| users::delete_login_profile(cx, account)),
        "DeleteOpenIDConnectProvider" => Write(|cx, account, _| providers::delete(cx, account)),
        "DeletePolicy" => Write(|cx, account, _| managed::delete(cx, account)),
        "DeleteRole" => Write(|cx, account, _| roles::delete(cx, account)),
        "DeleteRolePolicy" => Write(|cx, account, _| grants::delete_inline(cx, account, Owner::Role)),
        "DeleteUser" => Write(users::delete),
        "DeleteUserPolicy" => Write(|cx, account, _| grants::delete_inline(cx, account, Owner::User)),
        "DetachGroupPolicy" => Write(|cx, account, _| grants::detach(cx, account, Owner::Group)),
        "DetachRolePolicy" => Write(|cx, account, _| grants::detach(cx, account, Owner::Role)),
        "DetachUserPolicy" => Write(|cx, account, _| grants::detach(cx, account, Owner::User)),
        "GetAccessKeyLastUsed" => Read(keys::last_used),
        "GetGroup" => Read(groups::read),
        "GetGroupPolicy" => Read(|cx, state| grants::read_inline(cx, state, Owner::Group)),
        "GetLoginProfile" => Read(users::read_login_profile),
        "GetOpenIDConnectProvider" => Read(providers::read),
        "GetPolicy" => Read(managed::read),
        "GetPolicyVersion" => Read(managed::read_version),
        "GetRole" => Read(roles::read),
        "GetRolePolicy" => Read(|cx, state| grants::read_inline(cx, state, Owner::Role)),
        "GetUser" => Read(users::read),
        "GetUserPolicy" => Read(|cx, state| grants::read_inline(cx, state, Owner::User)),
        "ListAccessKeys" => Read(keys::list),
        "ListAttachedGroupPolicies" => Read(|cx, state| grants::list_attached(cx, state, Owner::Group)),
        "ListAttachedRolePolicies" => Read(|cx, state| grants::list_attached(cx, state, Owner::Role)),
        "ListAttachedUserPolicies" => Read(|cx, state| grants::list_attached(cx, state, Owner::User)),
        "ListGroupPolicies" => Read(|cx, state| grants::list_inline(cx, state, Owner::Group)),
        "ListGroups" => Read(groups::list),
        "ListGroupsForUser" => Read(groups::list_for_user),
        "ListMFADevices" => Read(users::list_mfa),
        "ListOpenIDConnectProviders" => Read(|cx, state| Ok(providers::list(cx, state))),
        "ListPolicies" => Read(managed::list),
        "ListRolePolicies" => Read(|cx, state| grants::list_inline(cx, state, Owner::Role)),
        "ListRoles" => Read(roles::list),
        "ListServiceSpecificCredentials" => Read(|cx, state| users::list_nothing(cx, state, "ServiceSpecificCredentials")),
        "ListSigningCertificates" => Read(|cx, state| users::list_nothing(cx, state, "Certificates")),
        "ListSSHPublicKeys" => Read(|cx, state| users::list_nothing(cx, state, "SSHPublicKeys")),
        "ListUserPolicies" => Read(|cx, state| grants::list_inline(cx, state, Owner::User)),
        "ListUserTags" => Read(users::list_tags),
        "ListUsers" => Read(users::list),
        "PutGroupPolicy" => Write(|cx, account, _| grants::put_inline(cx, account, Owner::Group)),
        "PutRolePolicy" => Write(|cx, account, _| grants::put_inline(cx, account, Owner::Role)),
        "PutUserPolicy" => Write(|cx, account, _| grants::put_inline(cx, account, Owner::User)),
        "RemoveUserFromGroup" => Write(|cx, account, _| groups::remove_user(cx, account)),
        "SimulatePrincipalPolicy" => Read(simulate::principal),
        "TagUser" => Write(|cx, account, _| users::tag(cx, account)),
        "UntagUser" => Write(|cx, account, _| users::untag(cx, account)),
        "UpdateAccessKey" => Write(|cx, account, _| keys::update(cx, account)),
        "UpdateAssumeRolePolicy" => Write(roles::update_trust),
        "UpdateRole" => Write(|cx, account, _| roles::update(cx, account)),
        _ => return None,
    })
}

pub(crate) fn perform(cloud: &Cloud, call: &Call<'_>, caller: &Caller, action: &str) -> Result<Reply> {
    let handler = handler(action).ok_or_else(|| Fault::invalid_action(action, "2010-05-08"))?;
    // IAM does not know the credentials of GetFederationToken, nor those of GetSessionToken without a second factor.
    let weak = caller.session.as_ref().is_some_and(|session| !session.mfa) && !matches!(caller.kind, CallerKind::Role { .. });
    if weak || matches!(caller.kind, CallerKind::Federated { .. }) {
        return Err(Fault::invalid_key());
    }
    let usable = call.now + cloud.control.key_delay();
    let cx = Cx {
        params: call.params,
        caller,
        account: &caller.account,
        now: call.now,
        entropy: cloud.sealer.entropy(),
        keys_usable_from: usable,
    };
    let xml = match handler {
        Handler::Read(read) => {
            let state = cloud.state.read();
            authorize(&cx, call, &state, action)?;
            read(&cx, &state)?
        }
        Handler::Write(write) => {
            let mut state = cloud.state.write();
            authorize(&cx, call, &state, action)?;
            let strangers = roles::strangers(&state, call.params);
            let State { accounts, keys, aws_policies } = &mut *state;
            let account = accounts.get_mut(cx.account).ok_or_else(Fault::invalid_key)?;
            write(&cx, account, &mut Index { keys, aws_policies, strangers })?
        }
    };
    Ok(answer::xml(NAMESPACE, action, &xml, call.request_id))
}

fn authorize(cx: &Cx<'_>, call: &Call<'_>, state: &State, action: &str) -> Result<()> {
    let name = format!("iam:{action}");
    let (resource, resource_tags) = resource(cx, state);
    let mut extra = Vec::new();
    for (param, key) in [("PolicyArn", "iam:policyarn"), ("PermissionsBoundary", "iam:permissionsboundary")] {
        if let Some(value) = cx.params.get(param) {
            extra.push((key.to_owned(), vec![value.to_owned()]));
        }
    }
    let request_tags = cx.params.tags("Tags");
    let facts = RequestFacts {
        state,
        caller: Some(cx.caller),
        now: cx.now,
        source_ip: Some(call.request.peer),
        region: call.region,
        extra,
        request_tags: &request_tags,
        resource_tags,
    };
    match authority::own(state, cx.caller, &name, &resource, &facts) {
        Own::Allowed => Ok(()),
        own => Err(authority::refusal(cx.caller, &name, &resource, own)),
    }
}

/// The ARN that an action is about, and the tags of what it names.
fn resource<'s>(cx: &Cx<'_>, state: &'s State) -> (String, Option<&'s BTreeMap<String, String>>) {
    let account = state.account(cx.account);
    let made = |kind: &str, name: &str| format!("arn:aws:iam::{}:{kind}{}{name}", cx.account, cx.params.get("Path").unwrap_or("/"));
    // Group first: adding a user to a group is an action on the group.
    if let Some(name) = cx.params.get("GroupName") {
        return (
            account.and_then(|account| account.groups.get(name)).map_or_else(|| made("group", name), |group| group.arn(cx.account)),
            None,
        );
    }
    if let Some(name) = cx.params.get("RoleName") {
        let role = account.and_then(|account| account.roles.get(name));
        return (role.map_or_else(|| made("role", name), |role| role.arn(cx.account)), role.map(|role| &role.tags));
    }
    if let Some(arn) = cx.params.get("OpenIDConnectProviderArn") {
        return (arn.to_owned(), None);
    }
    if let Some(url) = cx.params.get("Url") {
        return (providers::arn(cx.account, providers::bare(url)), None);
    }
    if let Some(name) = cx
        .params
        .get("UserName")
        .or_else(|| cx.caller.user().filter(|_| cx.params.get("PolicySourceArn").or(cx.params.get("PolicyName")).is_none()))
    {
        let user = account.and_then(|account| account.users.get(name));
        return (user.map_or_else(|| made("user", name), |user| user.arn(cx.account)), user.map(|user| &user.tags));
    }
    let named = cx.params.get("PolicySourceArn").or(cx.params.get("PolicyArn")).map(str::to_owned);
    (named.or_else(|| cx.params.get("PolicyName").map(|name| made("policy", name))).unwrap_or_else(|| "*".to_owned()), None)
}

impl Cx<'_> {
    /// The user that the request names, or the caller's own.
    fn user_name(&self) -> Result<&str> {
        self.params
            .get("UserName")
            .or_else(|| self.caller.user())
            .ok_or_else(|| Fault::validation("Must specify userName when calling with non-User credentials"))
    }

    /// A name to be given to something new.
    fn new_name(&self, param: &str, longest: usize) -> Result<&str> {
        let name = self.params.required(param)?;
        let member = format!("{}{}", param.get(..1).unwrap_or_default().to_ascii_lowercase(), param.get(1..).unwrap_or_default());
        let mut constraints = Constraints::default();
        constraints.length(&member, name, 1, longest);
        constraints.check()?;
        if name.chars().all(name_character) {
            return Ok(name);
        }
        Err(Fault::validation(format!(
            "The specified value for {member} is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-"
        )))
    }

    fn path(&self) -> Result<&str> {
        let path = self.params.get("Path").unwrap_or("/");
        if is_path(path) {
            return Ok(path);
        }
        Err(Fault::validation(
            "The specified value for path is invalid. It must begin and end with / and contain only alphanumeric characters and/or / characters.",
        ))
    }

    /// `Tags` of the request, checked.
    fn tags(&self) -> Result<BTreeMap<String, String>> {
        let tags = self.params.tags("Tags");
        crate::assume::check_tags(&tags)?;
        within_quota(tags.len().saturating_sub(1), quota::TAGS, "TagsPerResource")?;
        Ok(tags.into_iter().collect())
    }

    /// The part of `items` (in the order of their keys) that `Marker` and `MaxItems` ask for, and the marker of the rest.
    fn page<K: AsRef<str>, T>(&self, items: impl Iterator<Item = (K, T)>) -> Result<(Vec<T>, Option<String>)> {
        let most = self.params.number("MaxItems")?.unwrap_or(100);
        let mut constraints = Constraints::default();
        constraints.range("maxItems", most, 1, 1000);
        constraints.check()?;
        let after = match self.params.get("Marker") {
            Some(marker) => {
                let bytes = data_encoding::BASE64URL_NOPAD.decode(marker.as_bytes()).ok();
                Some(bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| Fault::validation("Invalid Marker."))?)
            }
            None => None,
        };
        let mut rest = items.skip_while(|(key, _)| after.as_deref().is_some_and(|after| key.as_ref() <= after)).peekable();
        let mut page = Vec::new();
        let mut last = String::new();
        while let Some((key, item)) = rest.next_if(|_| page.len() < usize::try_from(most).unwrap_or(100)) {
            key.as_ref().clone_into(&mut last);
            page.push(item);
        }
        let more = rest.peek().is_some().then(|| data_encoding::BASE64URL_NOPAD.encode(last.as_bytes()));
        Ok((page, more))
    }
}

/// The end of a list answer.
fn page_xml(xml: &mut Xml, more: Option<&str>) {
    xml.field("IsTruncated", if more.is_some() { "true" } else { "false" }).optional("Marker", more);
}

fn tags_xml(xml: &mut Xml, tags: &BTreeMap<String, String>) {
    xml.list("Tags", tags, |xml, (key, value)| {
        xml.field("Key", key).field("Value", value);
    });
}

fn boundary_xml(xml: &mut Xml, boundary: Option<&str>) {
    if let Some(arn) = boundary {
        xml.within("PermissionsBoundary", |xml| {
            xml.field("PermissionsBoundaryType", "PermissionsBoundaryPolicy").field("PermissionsBoundaryArn", arn);
        });
    }
}

/// `CreateDate` and the like: whole seconds.
fn date(at: Timestamp) -> String {
    Timestamp::from_seconds(at.seconds()).to_string()
}

/// Fails with `LimitExceeded` when there is no room for one more.
fn within_quota(have: usize, most: usize, name: &str) -> Result<()> {
    if have < most { Ok(()) } else { Err(Fault::new(409, "LimitExceeded", format!("Cannot exceed quota for {name}: {most}"))) }
}

fn conflict(what: &str) -> Fault {
    Fault::new(409, "DeleteConflict", format!("Cannot delete entity, must {what} first."))
}

fn exists(message: String) -> Fault {
    Fault::new(409, "EntityAlreadyExists", message)
}

fn no_such(message: String) -> Fault {
    Fault::new(404, "NoSuchEntity", message)
}

/// `/` or `/a/b/`, visible ASCII, at most 512 characters.
pub(crate) fn is_path(path: &str) -> bool {
    path.len() <= 512
        && path.starts_with('/')
        && path.ends_with('/')
        && path.bytes().all(|byte| (0x21..0x7f).contains(&byte))
        && (path.len() == 1 || path.len() > 2)
}

#[cfg(test)]
mod tests;
