//! AppRole: machines log in with a role id and a secret id.
//!
//! Owns these rows; `id` stands for an HMAC under the mount's own key, so that no row's name gives away what it stands for:
//! `salt`, that key; `role/<name>`; `role_id/<id of the role id>`, the way from a role id to its role; `secret/<generation>/<id of the
//! secret id>`; `by/<generation>/<accessor>` and `accessor/<accessor>`, the ways to a secret id by accessor; `doomed/<generation>`.
//! A generation belongs to one making of a role: when the role is deleted its secret ids are dead at once, also for a later role of the
//! same name, and the rows are cleared in the background ([`tidy`]).
//!
//! Uses of a secret id are counted by conditional commits: of many logins at once, no more succeed than uses are left.
//!
//! Source: Vault API, "AppRole auth method"; recorded fixtures `approle-flow`, `approle-role-fields`.

mod fields;
mod hmac;
mod login;
mod metadata;
mod role;
mod roles;
mod secret;
mod secret_ids;
mod tidy;

use std::sync::Arc;

use daypass_sdk::{BoxFuture, Cx, Endpoint, Engine, Renewal, Result, login_field};
use serde_json::{Map, Value};

/// The approle auth method of one mount.
#[derive(Default)]
pub struct AppRole {
    ids: hmac::Ids,
    tidy: tidy::Schedule,
}

impl Engine for AppRole {
    const SUMMARY: &'static str = "Logs machines in with a role id and a secret id.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        let mut endpoints = vec![roles::list_endpoint(), roles::endpoint(), roles::role_id_endpoint()];
        endpoints.extend(fields::endpoints());
        endpoints.extend(secret_ids::endpoints());
        endpoints.extend([tidy::endpoint(), login::endpoint()]);
        endpoints
    }

    fn renew_login(self: Arc<Self>, cx: Cx, internal: Value) -> BoxFuture<'static, Result<Renewal>> {
        Box::pin(login::renew(cx, internal))
    }

    fn login_alias(&self, below: &str, fields: &Map<String, Value>) -> Option<String> {
        if below != "login" {
            return None;
        }
        Some(trimmed(&login_field(fields, "role_id")).to_owned()).filter(|id| !id.is_empty())
    }

    fn tick(self: Arc<Self>, cx: Cx) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { self.tidy.tick(&cx).await })
    }
}

/// A role id or secret id without the white space around it, with which files and pipes hand it on. Source: Vault, which trims both at a login.
fn trimmed(id: &str) -> &str {
    id.trim()
}

/// How often a change is decided again before it gives up.
const ATTEMPTS_MAX: usize = 500;

#[cfg(test)]
mod tests;
