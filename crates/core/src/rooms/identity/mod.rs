//! `identity/`: who the callers of different logins are. This file is the table of contents.

mod entity;
mod entity_alias;
mod group;
mod group_alias;
mod listing;
mod lookup;
mod mfa;
mod oidc;
mod show;

use daypass_base::Brief;
use daypass_sdk::{Endpoint, Engine, Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Way;
use crate::identity::rows::AliasRow;
use crate::mounts::{Class, Table};

/// The room behind `identity/`.
pub(crate) struct IdentityRoom {
    pub(crate) way: Way,
}

impl Engine for IdentityRoom {
    const SUMMARY: &'static str = "The identity store: who the callers of different logins are, and what policies they share. The entity of \
                                   a login is stored when something is first said about it.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        let mut all = entity::endpoints();
        all.extend(entity_alias::endpoints());
        all.extend(group::endpoints());
        all.extend(group_alias::endpoints());
        all.extend(lookup::endpoints());
        all.extend(mfa::endpoints());
        all.extend(oidc::endpoints());
        all
    }
}

/// Nothing to say.
#[derive(Deserialize, JsonSchema)]
struct Nothing {}

/// One of many, by its id.
#[derive(Deserialize, JsonSchema)]
struct ById {
    /// The id.
    id: String,
}

/// One of many, by its name.
#[derive(Deserialize, JsonSchema)]
struct ByName {
    /// The name. Names differ by more than upper and lower case.
    name: String,
}

/// What an alias is to have, of what is said and, where nothing is, of the alias as it is. Errors: `BadRequest` with Vault's texts.
fn check_alias(table: &Table, old: Option<&AliasRow>, name: &str, mount_accessor: &str) -> Result<()> {
    let (mut name, mut mount_accessor) = (name.to_owned(), mount_accessor.to_owned());
    if let Some(old) = old {
        old.fill(&mut name, &mut mount_accessor);
    }
    if name.is_empty() {
        return Err(Error::bad_request("missing alias name"));
    }
    if mount_accessor.is_empty() {
        return Err(Error::bad_request("missing mount_accessor"));
    }
    check_mount(table, &mount_accessor)
}

/// Errors: `BadRequest`, with Vault's text, unless an auth mount has this accessor.
fn check_mount(table: &Table, accessor: &str) -> Result<()> {
    match table.by_accessor(accessor) {
        Some(live) if live.row.class == Class::Auth => Ok(()),
        _ => Err(Error::bad_request(format!("invalid mount accessor {:?}", Brief(accessor)))),
    }
}
