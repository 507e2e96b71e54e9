//! JWT and OIDC: machines log in with a token of their build server, people through their company's login page.
//!
//! Owns the rows `config` and `role/<name>`. Tokens are verified by keys of the configuration alone ([`super::jose`]), key sets are held in
//! memory ([`keys`]), claims are judged by pure code ([`claims`]). A login writes nothing: what it proved goes into the token's metadata.
//!
//! No JWT library is used. What verifies is aws-lc-rs; around it there is little left to do, and that little is where such libraries have had
//! their mistakes: algorithms taken from the token, key types that do not matter, names that stand twice.
//!
//! Source: Vault API, "JWT/OIDC auth method".

mod claims;
mod config;
pub mod fuzzing;
mod keys;
mod login;
mod oidc;
mod pending;
mod role;
mod roles;

use std::sync::Arc;

use daypass_idp::Idp;
use daypass_sdk::{BoxFuture, Cx, Endpoint, Engine, LoginRole, Renewal, Result, login_field};
use parking_lot::RwLock;
use serde_json::{Map, Value};

/// The JWT/OIDC auth method of one mount.
pub struct Jwt {
    idp: Arc<dyn Idp>,
    /// What was made of the configuration that was read last.
    prepared: RwLock<Option<Arc<config::Prepared>>>,
    pending: pending::Pending,
}

impl Jwt {
    /// A mount that reaches identity providers by `idp`.
    pub fn new(idp: Arc<dyn Idp>) -> Self {
        Self { idp, prepared: RwLock::default(), pending: pending::Pending::default() }
    }
}

impl Engine for Jwt {
    const SUMMARY: &'static str = "Logs in machines with tokens of their build server, and people through their company's login page.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        vec![
            config::endpoint(),
            roles::list_endpoint(),
            roles::endpoint(),
            login::endpoint(),
            oidc::begin_endpoint(),
            oidc::callback_endpoint(),
        ]
    }

    /// Logins that nobody answers do not stay longer than they are good for.
    fn tick(self: Arc<Self>, cx: Cx) -> BoxFuture<'static, Result<()>> {
        self.pending.sweep(cx.clock.elapsed());
        Box::pin(std::future::ready(Ok(())))
    }

    fn renew_login(self: Arc<Self>, cx: Cx, internal: Value) -> BoxFuture<'static, Result<Renewal>> {
        Box::pin(login::renew(cx, internal))
    }

    fn login_role(&self, below: &str, fields: &Map<String, Value>) -> LoginRole {
        if !["login", "oidc/auth_url"].contains(&below) {
            return LoginRole::None;
        }
        let named = Some(login_field(fields, "role")).filter(|name| !name.is_empty());
        // The configuration is read by the first login alone: until then nobody knows its role.
        let usual = || self.prepared.read().as_ref().map(|prepared| prepared.config.default_role.clone());
        named.or_else(usual).map_or(LoginRole::Unknown, |name| LoginRole::Named(name.to_lowercase()))
    }
}

#[cfg(test)]
mod tests;
