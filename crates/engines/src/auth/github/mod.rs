//! GitHub: people log in with a personal access token, of which GitHub's API says whose it is and which organisation and teams that user is in.
//!
//! Owns the rows `config`, `map/teams/<key>` and `map/users/<key>`. The organisation is known by its id, which was asked for when it was
//! configured: its name may become another's. Policies are mapped from names, as Vault's are. A login writes nothing; the token of the login
//! remembers the access token, sealed, because each renewal asks again.
//!
//! Source: Vault API, "GitHub auth method"; GitHub REST API.

mod config;
mod login;
mod maps;

use std::sync::Arc;

use daypass_idp::Idp;
use daypass_sdk::{BoxFuture, Cx, Endpoint, Engine, Renewal, Result};
use serde_json::Value;

/// The GitHub auth method of one mount.
pub struct GitHub {
    idp: Arc<dyn Idp>,
}

impl GitHub {
    /// A mount that reaches GitHub by `idp`.
    pub fn new(idp: Arc<dyn Idp>) -> Self {
        Self { idp }
    }
}

impl Engine for GitHub {
    const SUMMARY: &'static str = "Logs in members of a GitHub organisation, with a personal access token.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        vec![
            config::endpoint(),
            maps::teams_endpoint(),
            maps::team_endpoint(),
            maps::users_endpoint(),
            maps::user_endpoint(),
            login::endpoint(),
        ]
    }

    fn renew_login(self: Arc<Self>, cx: Cx, internal: Value) -> BoxFuture<'static, Result<Renewal>> {
        Box::pin(login::renew(self, cx, internal))
    }
}

#[cfg(test)]
mod tests;
