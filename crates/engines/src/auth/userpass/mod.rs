//! Userpass: people log in with a name and a password.
//!
//! Owns the rows `user/<name>` and `brought-costs`. Passwords are kept as argon2id hashes, or as the bcrypt hashes that an operator brought along; a login
//! costs the same time whether the user exists or not. Failed logins are counted and locked out by the core.
//!
//! Source: Vault API, "Userpass auth method"; recorded fixture `userpass-flow`.

mod login;
mod password;
mod stand_in;
mod users;

use std::sync::Arc;

use daypass_sdk::{BoxFuture, Cx, Endpoint, Engine, Renewal, Result};
use serde_json::{Map, Value};

/// The userpass auth method of one mount.
#[derive(Default)]
pub struct Userpass {
    hashing: Arc<password::Hashing>,
}

impl Userpass {
    /// What makes the method for each mount. All mounts share the turns of hashing, as they share the processors.
    pub fn maker() -> impl Fn() -> Self + Send + Sync + 'static {
        let hashing: Arc<password::Hashing> = Arc::default();
        move || Self { hashing: Arc::clone(&hashing) }
    }
}

impl Engine for Userpass {
    const SUMMARY: &'static str = "Logs people in with a user name and a password.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        vec![users::list_endpoint(), users::endpoint(), users::password_endpoint(), users::policies_endpoint(), login::endpoint()]
    }

    fn renew_login(self: Arc<Self>, cx: Cx, internal: Value) -> BoxFuture<'static, Result<Renewal>> {
        Box::pin(login::renew(cx, internal))
    }

    fn login_alias(&self, below: &str, _: &Map<String, Value>) -> Option<String> {
        below.strip_prefix("login/").filter(|name| !name.is_empty()).map(str::to_lowercase)
    }
}

#[cfg(test)]
mod tests;
