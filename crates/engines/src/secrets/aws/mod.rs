//! The aws secrets engine: short-lived AWS credentials.
//!
//! One file per path group: [`config_root`], [`config_lease`], [`roles`], [`creds`] (which serves `sts/` too), [`container`] and [`console`]
//! (the same credentials in other clothes), [`static_roles`], [`check`], [`policy_for`], [`revoke_sessions`].
//! [`role`] is what a role means, [`ours`] what it may say beyond Vault's fields, [`attribution`] whom a session is for, [`reuse`] what is handed
//! out again, [`limits`] how many there may be, [`names`] how sessions are called, [`users`] makes IAM users and takes them apart. Minting an STS
//! credential writes nothing: it ends by itself, and its lease id describes itself (the core makes it). AWS is reached through [`daypass_aws::Aws`] alone.

use std::sync::Arc;

use daypass_aws::Target;
use daypass_base::BoxFuture;
use daypass_sdk::{Cx, Endpoint, Engine, LeaseInfo, Renewal, Result};
use parking_lot::Mutex;

mod arn;
mod attribution;
mod check;
mod config_lease;
mod config_root;
mod console;
mod container;
mod creds;
mod documents;
mod limits;
mod loaded;
mod names;
mod ours;
mod policies;
mod policy_for;
mod reuse;
mod revoke_sessions;
mod role;
mod roles;
mod rotate_root;
mod static_roles;
mod template;
mod text;
mod users;

use limits::Limits;
use reuse::Kept;

/// The engine of one mount.
pub struct Aws {
    aws: Arc<dyn daypass_aws::Aws>,
    /// Where the last call went: forgotten when another node changed the configuration.
    last: Mutex<Option<Target>>,
    /// Credentials that may be handed out again.
    kept: Kept,
    limits: Limits,
}

impl Aws {
    /// An engine that reaches AWS through `aws`, which all mounts share.
    pub fn new(aws: Arc<dyn daypass_aws::Aws>) -> Self {
        Self { aws, last: Mutex::new(None), kept: Kept::default(), limits: Limits::default() }
    }

    fn remember(&self, target: &Target) {
        let mut last = self.last.lock();
        if last.as_ref() != Some(target) {
            *last = Some(target.clone());
        }
    }
}

impl Engine for Aws {
    const SUMMARY: &'static str =
        "The AWS backend generates short-lived AWS credentials: sessions of IAM roles, federated users, session tokens and IAM users.

Write a role to roles/<name>, then read credentials from sts/<name>. The server's own AWS identity is used
unless config/root has keys.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        [
            config_root::endpoints(),
            config_lease::endpoints(),
            roles::endpoints(),
            creds::endpoints(),
            console::endpoints(),
            container::endpoints(),
            static_roles::endpoints(),
            check::endpoints(),
            policy_for::endpoints(),
            revoke_sessions::endpoints(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn revoke(self: Arc<Self>, cx: Cx, lease: LeaseInfo) -> BoxFuture<'static, Result<()>> {
        Box::pin(users::revoke(self, cx, lease))
    }

    fn renew(self: Arc<Self>, cx: Cx, _: LeaseInfo) -> BoxFuture<'static, Result<Renewal>> {
        Box::pin(users::renew(cx))
    }

    fn tick(self: Arc<Self>, cx: Cx) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            self.kept.tidy(cx.clock.now());
            self.limits.tidy(cx.clock.now());
            let users = users::tidy(&self, &cx).await;
            // One that fails must not keep the other from its work.
            static_roles::rotate_due(&self, &cx).await.and(users)
        })
    }

    fn leave(self: Arc<Self>, cx: Cx) -> BoxFuture<'static, ()> {
        Box::pin(async move { users::leave(&self, &cx).await })
    }

    fn invalidate(&self) {
        self.kept.clear();
        let last = self.last.lock().take();
        if let Some(target) = last {
            self.aws.forget(&target);
        }
    }
}

#[cfg(test)]
mod tests;
