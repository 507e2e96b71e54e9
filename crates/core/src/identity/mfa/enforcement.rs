//! Which logins want a second factor: `identity/mfa/login-enforcement`. Pure.

use daypass_sdk::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An enforcement as it is stored. A login that any of its conditions fits needs one of its methods; every enforcement that fits a login
/// wants to be satisfied.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct EnforcementRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) methods: Vec<String>,
    #[serde(default)]
    pub(crate) accessors: Vec<String>,
    #[serde(default)]
    pub(crate) types: Vec<String>,
    #[serde(default)]
    pub(crate) groups: Vec<String>,
    #[serde(default)]
    pub(crate) entities: Vec<String>,
}

/// What is to become of an enforcement; `None` leaves it as it is.
#[derive(Default)]
pub(crate) struct EnforcementWish {
    pub(crate) methods: Option<Vec<String>>,
    pub(crate) accessors: Option<Vec<String>>,
    pub(crate) types: Option<Vec<String>>,
    pub(crate) groups: Option<Vec<String>>,
    pub(crate) entities: Option<Vec<String>>,
}

/// What of a login decides which enforcements fit it.
#[derive(Debug)]
pub(super) struct Trait<'a> {
    pub(super) accessor: &'a str,
    pub(super) kind: &'a str,
    /// All its groups, inherited and external ones among them.
    pub(super) groups: Vec<&'a str>,
    /// The entity's id, and those of the entities that were merged into it.
    pub(super) entities: Vec<&'a str>,
}

impl EnforcementRow {
    /// Errors: `BadRequest`, in Vault's words.
    pub(super) fn change(&mut self, wish: EnforcementWish) -> Result<()> {
        let take = |what: &str, place: &mut Vec<String>, given: Option<Vec<String>>| match given {
            None => Ok(()),
            Some(given) if given.len() > IDS_MAX => {
                Err(Error::bad_request(format!("{what} can have {IDS_MAX} entries, {} were given", given.len())))
            }
            Some(mut given) => {
                given.retain(|id| !id.is_empty());
                *place = given;
                Ok(())
            }
        };
        take("mfa_method_ids", &mut self.methods, wish.methods)?;
        take("auth_method_accessors", &mut self.accessors, wish.accessors)?;
        take("auth_method_types", &mut self.types, wish.types)?;
        take("identity_group_ids", &mut self.groups, wish.groups)?;
        take("identity_entity_ids", &mut self.entities, wish.entities)?;
        if self.methods.is_empty() {
            return Err(Error::bad_request("missing method ids"));
        }
        if [&self.accessors, &self.types, &self.groups, &self.entities].iter().all(|list| list.is_empty()) {
            return Err(Error::bad_request(
                "One of auth_method_accessors, auth_method_types, identity_group_ids, identity_entity_ids must be specified",
            ));
        }
        Ok(())
    }

    /// Whether a login needs one of its methods.
    pub(super) fn fits(&self, login: &Trait<'_>) -> bool {
        let any = |list: &[String], of: &[&str]| list.iter().any(|id| of.contains(&id.as_str()));
        any(&self.accessors, &[login.accessor])
            || any(&self.types, &[login.kind])
            || any(&self.groups, &login.groups)
            || any(&self.entities, &login.entities)
    }

    /// As answers show it.
    pub(crate) fn shown(&self) -> Value {
        json!({
            "auth_method_accessors": self.accessors,
            "auth_method_types": self.types,
            "id": self.id,
            "identity_entity_ids": self.entities,
            "identity_group_ids": self.groups,
            "mfa_method_ids": self.methods,
            "name": self.name,
            "namespace_id": "root",
            "namespace_path": "",
        })
    }
}

/// Of each list.
const IDS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn list(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn any_condition_is_enough_and_none_is_refused() {
        let login = Trait { accessor: "auth_a", kind: "userpass", groups: vec!["g1", "g2"], entities: vec!["e", "merged"] };
        let with = |wish| {
            let mut row = EnforcementRow::default();
            row.change(EnforcementWish { methods: Some(list(&["m"])), ..wish }).map(|()| row.fits(&login))
        };
        let empty = EnforcementWish::default;
        assert!(with(EnforcementWish { accessors: Some(list(&["auth_b", "auth_a"])), ..empty() }).unwrap());
        assert!(with(EnforcementWish { types: Some(list(&["userpass"])), ..empty() }).unwrap());
        assert!(with(EnforcementWish { groups: Some(list(&["g2"])), ..empty() }).unwrap());
        assert!(with(EnforcementWish { entities: Some(list(&["merged"])), accessors: Some(list(&["x"])), ..empty() }).unwrap());
        let others = EnforcementWish {
            accessors: Some(list(&["auth_b"])),
            types: Some(list(&["approle"])),
            groups: Some(list(&["g3"])),
            entities: Some(list(&["f"])),
            ..empty()
        };
        assert!(!with(others).unwrap());
        assert!(with(empty()).unwrap_err().message.contains("must be specified"));
        assert!(with(EnforcementWish { types: Some(list(&[""])), ..empty() }).is_err(), "an empty name is no condition");
        assert_eq!(EnforcementRow::default().change(empty()).unwrap_err().message, "missing method ids");
    }
}
