//! Access keys of users: at most two each, active or not.

use daypass_base::Secret;

use super::{Cx, Index, date, no_such, page_xml, users, within_quota};
use crate::answer::Xml;
use crate::fault::{Constraints, Fault, Result};
use crate::seal::{IdKind, new_id};
use crate::state::{AccessKey, Account, State, quota};

pub(super) fn create(cx: &Cx<'_>, account: &mut Account, index: &mut Index<'_>) -> Result<Xml> {
    let user = users::find_mut(cx.user_name()?, account)?;
    within_quota(user.keys.len(), quota::KEYS_PER_USER, "AccessKeysPerUser")?;
    let mut id = new_id(cx.entropy, IdKind::AccessKey, cx.account);
    // 39 random bits: a second use of an id is unlikely, and would mix up two users.
    while index.keys.contains_key(&id) {
        id = new_id(cx.entropy, IdKind::AccessKey, cx.account);
    }
    let secret = Secret::new(data_encoding::BASE64.encode(&cx.entropy.bytes::<30>()));
    let key = AccessKey { id, secret, active: true, created: cx.now, usable_from: cx.keys_usable_from };
    let mut xml = Xml::default();
    xml.within("AccessKey", |xml| {
        // The one answer that shows the secret.
        xml.field("UserName", &user.name)
            .field("AccessKeyId", &key.id)
            .field("Status", "Active")
            .field("SecretAccessKey", key.secret.expose())
            .field("CreateDate", &date(key.created));
    });
    index.keys.insert(key.id.clone(), (cx.account.to_owned(), user.name.clone()));
    user.keys.push(key);
    Ok(xml)
}

pub(super) fn delete(cx: &Cx<'_>, account: &mut Account, index: &mut Index<'_>) -> Result<Xml> {
    let id = cx.params.required("AccessKeyId")?;
    let user = users::find_mut(cx.user_name()?, account)?;
    let at = user.keys.iter().position(|key| key.id == id).ok_or_else(|| missing(id))?;
    user.keys.remove(at);
    index.keys.remove(id);
    Ok(Xml::default())
}

pub(super) fn update(cx: &Cx<'_>, account: &mut Account) -> Result<Xml> {
    let id = cx.params.required("AccessKeyId")?;
    let status = cx.params.required("Status")?;
    if !matches!(status, "Active" | "Inactive") {
        let mut constraints = Constraints::default();
        constraints.fail("status", status, "Member must satisfy enum value set: [Active, Inactive, Expired]");
        constraints.check()?;
    }
    let user = users::find_mut(cx.user_name()?, account)?;
    let key = user.keys.iter_mut().find(|key| key.id == id).ok_or_else(|| missing(id))?;
    key.active = status == "Active";
    Ok(Xml::default())
}

pub(super) fn list(cx: &Cx<'_>, state: &State) -> Result<Xml> {
    let user = users::find(cx, state)?;
    let mut xml = Xml::default();
    xml.list("AccessKeyMetadata", &user.keys, |xml, key| {
        xml.field("UserName", &user.name)
            .field("AccessKeyId", &key.id)
            .field("Status", if key.active { "Active" } else { "Inactive" })
            .field("CreateDate", &date(key.created));
    });
    page_xml(&mut xml, None);
    Ok(xml)
}

/// The sandbox does not follow the use of keys: it says "never", as AWS does for a new one.
pub(super) fn last_used(cx: &Cx<'_>, state: &State) -> Result<Xml> {
    let id = cx.params.required("AccessKeyId")?;
    let (_, user, _) = state.key(id).filter(|(account, _, _)| *account == cx.account).ok_or_else(|| missing(id))?;
    let mut xml = Xml::default();
    xml.field("UserName", &user.name).within("AccessKeyLastUsed", |xml| {
        xml.field("Region", "N/A").field("ServiceName", "N/A");
    });
    Ok(xml)
}

fn missing(id: &str) -> Fault {
    no_such(format!("The Access Key with id {} cannot be found.", id.chars().take(128).collect::<String>()))
}
