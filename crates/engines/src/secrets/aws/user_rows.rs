//! Rows `users/<name>/<making>`: which IAM users this mount made, one row for each time that it made one or tried to.
//!
//! A name is not a user: another account may have one of the same name, and so may this one, after the first was deleted by hand. So a row has the
//! account and the unique id, no making ever writes another's row, and each goes with its own lease or note. Stores of old have one row `users/<name>`,
//! which says neither.

use daypass_aws::User;
use daypass_base::Timestamp;
use daypass_sdk::{Changes, Cx, Error, Result};
use serde::{Deserialize, Serialize};

use crate::aws_keys::notes;

use super::text::quoted;

/// Where the rows are.
const USERS: &str = "users/";
/// Rows that are read at once.
const PAGE: usize = 100;

/// Whose a user is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    /// Where the note of its making lies or lay.
    note: String,
    /// The account that it is in or will be; empty where that is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    account: String,
    /// Its unique id; empty until a lease has it, and in rows of old.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    id: String,
    /// When its making began; `None` once a lease has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
}

impl Holder {
    /// That of a user which is being made; its note lies at `note`.
    pub(super) fn making(note: &str, account: &str, since: Timestamp) -> Self {
        Self { note: note.to_owned(), account: account.to_owned(), id: String::new(), since: Some(since) }
    }

    /// That of a user which a lease has.
    pub(super) fn leased(note: &str, account: &str, id: &str) -> Self {
        Self { note: note.to_owned(), account: account.to_owned(), id: id.to_owned(), since: None }
    }

    /// What another making's row says of a user that has its name. `None`: nothing.
    fn says(&self, user: &User, now: Timestamp) -> Option<Claim> {
        if !self.account.is_empty() && self.account != user.account {
            return None;
        }
        if !self.id.is_empty() {
            return (self.id == user.id).then_some(Claim::Certain);
        }
        match self.since {
            // What nobody is at any more is nobody's.
            Some(since) => (since + notes::AGE_MAX > now).then_some(Claim::InTheMaking),
            None => Some(Claim::Possible),
        }
    }
}

/// What another making has of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// It may be making it at this moment.
    InTheMaking,
    /// A lease may have it: its row says no unique id.
    Possible,
    /// A lease has it.
    Certain,
}

/// The row of one making.
pub(super) fn row(username: &str, note: &str) -> String {
    let making = note.rsplit('/').next().unwrap_or_default();
    format!("{USERS}{username}/{making}")
}

/// Whether another making than the one whose note lies or lay at `note` has this user. Errors: `Failed` where that cannot be told.
pub(super) async fn is_anothers(cx: &Cx, note: &str, user: &User, otherwise: &str) -> Result<bool> {
    let now = cx.clock.now();
    let claim = others(cx, note, &user.name).await?.iter().filter_map(|other| other.says(user, now)).max();
    let name = quoted(&user.name);
    match claim {
        None => Ok(false),
        Some(Claim::Certain) => Ok(true),
        Some(Claim::InTheMaking) => Err(Error::failed(format!(
            "IAM user {name} may be the one that another request is making at this moment; it is looked at again"
        ))),
        Some(Claim::Possible) => Err(Error::failed(format!(
            "IAM user {name} may be that of another lease, which does not know the unique id of its user: it is left alone until that lease is \
             revoked; or see in IAM whose it is, delete it there if it is nobody's and {otherwise}"
        ))),
    }
}

/// The rows of a name, but that of the making whose note lies or lay at `note`, which need not be readable. Errors: also where another one is damaged, as
/// nobody can tell whether the user is that one's.
pub(super) async fn others(cx: &Cx, note: &str, username: &str) -> Result<Vec<Holder>> {
    let (prefix, own) = (row(username, ""), row(username, note));
    let mut found: Vec<Holder> = cx.store.get_json(&row_of_old(username)).await?.into_iter().collect();
    let mut after: Option<String> = None;
    loop {
        let names = cx.store.list_page(&prefix, after.as_deref(), PAGE).await?;
        let places: Vec<String> = names.iter().map(|name| format!("{prefix}{name}")).filter(|place| *place != own).collect();
        for entry in cx.store.get_many(&places).await?.into_iter().flatten() {
            found.push(daypass_sdk::from_json(USERS, &entry.value)?);
        }
        after = names.last().cloned();
        if names.len() < PAGE {
            found.retain(|holder| holder.note != note);
            return Ok(found);
        }
    }
}

/// What removes the row of a making whose user is gone, or another's.
pub(super) async fn release(cx: &Cx, note: &str, username: &str) -> Result<Changes> {
    let changes = Changes::new().delete(row(username, note));
    let old = row_of_old(username);
    let holder: Option<Holder> = cx.store.get_json(&old).await?;
    let is_its = holder.is_some_and(|holder| holder.note == note);
    Ok(if is_its { changes.delete(old) } else { changes })
}

fn row_of_old(username: &str) -> String {
    format!("{USERS}{username}")
}

/// A warning for whoever changes how AWS is reached while leases hold IAM users.
pub(super) async fn left_behind(cx: &Cx) -> Result<Option<String>> {
    let leased = !cx.store.list_page(USERS, None, 1).await?.is_empty();
    Ok(leased.then(|| {
        "IAM users that were made before are leased still: they are deleted as config/root says then, so it has to lead to their account".to_owned()
    }))
}

#[cfg(test)]
mod tests {
    use daypass_sdk::Seconds;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(10_000);

    fn user() -> User {
        User { name: "ci".into(), id: "AIDA1".into(), account: "1".into(), created: NOW }
    }

    #[test]
    fn a_row_claims_the_user_of_its_account_and_its_id() {
        let says = |account, id| Holder::leased("wal/a", account, id).says(&user(), NOW);
        assert_eq!(says("1", "AIDA1"), Some(Claim::Certain));
        assert_eq!(says("1", "AIDA2"), None);
        assert_eq!(says("2", ""), None);
        assert_eq!(says("1", ""), Some(Claim::Possible));
    }

    #[test]
    fn a_making_claims_what_it_may_have_made_until_it_is_over() {
        let says = |account, since| Holder::making("wal/a", account, since).says(&user(), NOW);
        assert_eq!(says("", NOW), Some(Claim::InTheMaking));
        assert_eq!(says("2", NOW), None);
        assert_eq!(says("1", NOW - notes::AGE_MAX.duration()), None);
        assert_eq!(says("1", NOW - Seconds(299).duration()), Some(Claim::InTheMaking));
    }

    #[test]
    fn a_row_of_old_claims_every_user_of_its_name() {
        let old: Holder = serde_json::from_str(r#"{"note":"wal/a"}"#).unwrap();
        assert_eq!(old.says(&user(), NOW), Some(Claim::Possible));
    }
}
