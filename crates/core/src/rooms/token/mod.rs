//! `auth/token/`: tokens made from tokens. This file is the table of contents.

mod create;
mod lookup;
mod renew;
mod revoke;
mod roles;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use daypass_base::Secret;
use daypass_sdk::{Cx, Endpoint, Engine, Error, Kind, Operation, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Way;
use crate::node::Unsealed;
use crate::tokens::Known;

/// The room behind `auth/token/`.
pub(crate) struct TokenRoom {
    pub(crate) way: Way,
}

impl Engine for TokenRoom {
    const SUMMARY: &'static str = "The token credential backend is always enabled and builtin. Client tokens are used to identify a client and \
                                   to allow it to associate policies and ACLs which are enforced on every request.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        vec![
            Endpoint::at(["accessors/?"]).summary("List token accessors.").sudo().on(Operation::List, lookup::accessors),
            Endpoint::at(["create"]).summary("Create a new token.").on(Operation::Update, create::create),
            Endpoint::at(["create-orphan"]).summary("Create a token without a parent.").on(Operation::Update, create::create_orphan),
            Endpoint::at(["create/{role_name}"]).summary("Create a token through a role.").on(Operation::Update, create::create_with_role),
            Endpoint::at(["lookup"])
                .summary("Look up a token and its properties.")
                .safe()
                .on(Operation::Read, lookup::lookup)
                .on(Operation::Update, lookup::lookup),
            Endpoint::at(["lookup-accessor"]).summary("Look up a token by its accessor.").on(Operation::Update, lookup::lookup_accessor),
            Endpoint::at(["lookup-self"])
                .summary("Look up the token that asks.")
                .safe()
                .on(Operation::Read, lookup::lookup_self)
                .on(Operation::Update, lookup::lookup_self),
            Endpoint::at(["renew"]).summary("Renew a token.").on(Operation::Update, renew::renew),
            Endpoint::at(["renew-accessor"]).summary("Renew a token by its accessor.").on(Operation::Update, renew::renew_accessor),
            Endpoint::at(["renew-self"]).summary("Renew the token that asks.").on(Operation::Update, renew::renew_self),
            Endpoint::at(["revoke"]).summary("Revoke a token and all its children.").on(Operation::Update, revoke::revoke),
            Endpoint::at(["revoke-accessor"]).summary("Revoke a token by its accessor.").on(Operation::Update, revoke::revoke_accessor),
            Endpoint::at(["revoke-orphan"])
                .summary("Revoke a token and make orphans of its children.")
                .sudo()
                .on(Operation::Update, revoke::revoke_orphan),
            Endpoint::at(["revoke-self"]).summary("Revoke the token that asks.").on(Operation::Update, revoke::revoke_self),
            Endpoint::at(["roles/?"]).summary("List token roles.").on(Operation::List, roles::list),
            Endpoint::at(["roles/{role_name}"])
                .summary("Manage what tokens made through a role may be.")
                .exists(roles::exists)
                .on(Operation::Read, roles::read)
                .on(Operation::Update, roles::write)
                .on(Operation::Delete, roles::delete),
            Endpoint::at(["tidy"]).summary("Clean up what is left of tokens.").on(Operation::Update, revoke::tidy),
        ]
    }
}

/// Nothing to say.
#[derive(Deserialize, JsonSchema)]
struct Nothing {}

/// A token.
#[derive(Deserialize, JsonSchema)]
struct TokenParams {
    /// The token.
    token: Option<Secret<String>>,
}

/// A token's accessor.
#[derive(Deserialize, JsonSchema)]
struct AccessorParams {
    /// The accessor.
    #[serde(default)]
    accessor: String,
}

/// The token that asks. Errors: `Denied` when the request had none.
async fn caller(cx: &Cx, unsealed: &Unsealed) -> Result<(Secret<String>, Known)> {
    let presented = cx.request.presented.clone().ok_or_else(bad_token)?;
    // Its last use may be running: it is read by id then.
    let known = match cx.request.caller.token {
        Some(id) => unsealed.tokens.by_id(id).await?,
        None => unsealed.tokens.find(&presented).await?.0,
    };
    Ok((presented, known.ok_or_else(bad_token)?))
}

/// The token of an accessor. Errors: `InvalidRequest` with the texts that Terraform takes for "the token is gone".
async fn of_accessor(accessor: &str, unsealed: &Unsealed) -> Result<Known> {
    if accessor.is_empty() {
        return Err(Error::new(Kind::InvalidRequest, "missing accessor"));
    }
    unsealed.tokens.by_accessor(accessor).await?.ok_or_else(|| Error::new(Kind::InvalidRequest, "invalid accessor"))
}

fn bad_token() -> Error {
    Error::new(Kind::Denied, "bad token")
}

/// The room's way in: the same for every handler.
async fn open(room: &Arc<TokenRoom>) -> Result<(Arc<crate::node::Inner>, Arc<Unsealed>)> {
    room.way.open()
}
