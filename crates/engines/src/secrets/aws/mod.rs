//! The aws secrets engine: short-lived AWS credentials.
//!
//! One file per path group: [`config_root`], [`config_lease`], [`roles`], [`creds`] (which serves `sts/` too), [`container`] and [`console`]
//! (the same credentials in other clothes; [`asking`] asks AWS for them), [`static_roles`], [`check`], [`policy_for`], [`revoke_sessions`].
//! [`role`] is what a role means, [`ours`] what it may say beyond Vault's fields, [`attribution`] whom a session is for, [`reuse`] what is handed
//! out again, [`crate::secrets::revoked`] what is not, [`limits`] how many there may be, [`names`] how sessions are called, [`users`] makes IAM users and takes them back ([`dismantle`]: in which order; [`user_rows`]: whose each is). Access keys of
//! users that exist, notes of what a crash would leave and schedules are handled by [`crate::aws_keys`] ([`rotate_root`]). Minting an STS
//! credential writes nothing: it ends by itself, and its lease id describes itself (the core makes it). AWS is reached through [`daypass_aws::Aws`] alone.

use std::sync::Arc;

use daypass_base::BoxFuture;
use daypass_sdk::{Cx, Endpoint, Engine, LeaseInfo, Renewal, Result};

mod asking;
mod attribution;
mod check;
mod config_lease;
mod config_root;
mod console;
mod container;
mod creds;
mod dismantle;
mod documents;
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod loaded;
mod names;
mod ours;
mod parked_users;
mod policies;
mod policy_for;
mod reuse;
mod revoke_sessions;
mod role;
mod roles;
mod rotate_root;
mod static_roles;
mod static_rotation;
mod template;
mod text;
mod user_rows;
mod users;

use crate::aws_keys::{Upkeep, notes, rotation};
use crate::secrets::at_aws::LastTarget;
use crate::secrets::revoked::Revoked;
use limits::Limits;
use reuse::Kept;
use static_rotation::Stopped;
use users::Home;

/// The engine of one mount.
pub struct Aws {
    aws: Arc<dyn daypass_aws::Aws>,
    last: LastTarget,
    /// Credentials that may be handed out again.
    kept: Kept,
    /// What `revoke-sessions` of any mount has ended.
    revoked: Arc<Revoked>,
    limits: Limits,
    upkeep: Upkeep,
    /// Where the regular work on static roles goes on.
    stopped: Stopped,
    /// Where IAM users are made.
    home: Home,
}

impl Aws {
    /// An engine that reaches AWS through `aws`, which all mounts share.
    pub fn new(aws: Arc<dyn daypass_aws::Aws>) -> Self {
        Self::beside(aws, Arc::default())
    }

    /// The same, with what `revoke-sessions` has ended at whichever mount.
    pub(crate) fn beside(aws: Arc<dyn daypass_aws::Aws>, revoked: Arc<Revoked>) -> Self {
        let kept = Kept::beside(Arc::clone(&revoked));
        let (last, limits, upkeep, home) = (LastTarget::default(), Limits::default(), Upkeep::default(), Home::default());
        Self { aws, last, kept, revoked, limits, upkeep, stopped: Stopped::default(), home }
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
            parked_users::endpoints(),
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
            self.kept.tidy(cx.clock.moment());
            self.limits.tidy(cx.clock.elapsed());
            // One that fails must not keep the others from their work.
            let notes = notes::tidy(&*self, &cx).await;
            let root = rotation::rotate_due(&*self, &cx).await;
            static_rotation::rotate_due(&self, &cx).await.and(root).and(notes)
        })
    }

    fn leave(self: Arc<Self>, cx: Cx) -> BoxFuture<'static, ()> {
        Box::pin(async move { notes::leave(&*self, &cx).await })
    }

    fn invalidate(&self) {
        self.kept.clear();
        self.last.forget(self.aws.as_ref());
    }
}

#[cfg(test)]
mod tests;
