//! The ecr secrets engine: logins to container registries of AWS.
//!
//! One file per path group: [`config_root`], [`roles`], [`creds`]. [`role`] is what a role means, [`held`] keeps what ECR gave until it is
//! too old to hand out. ECR takes a password back in no way: it ends by itself, after twelve hours, and so does its lease, of which
//! nothing is stored. AWS is reached through [`daypass_aws::Aws`] alone.

use std::sync::Arc;

use daypass_sdk::{Endpoint, Engine};

use crate::secrets::at_aws::LastTarget;
use crate::secrets::revoked::Revoked;

mod config_root;
mod creds;
mod held;
mod role;
mod roles;

/// The engine of one mount.
pub struct Ecr {
    aws: Arc<dyn daypass_aws::Aws>,
    /// In memory alone: a restart costs one call for each role.
    held: held::Held,
    last: LastTarget,
    /// Sessions that `revoke-sessions` of an aws mount has ended: logins that they got are of no use.
    revoked: Arc<Revoked>,
}

impl Ecr {
    /// An engine that reaches AWS through `aws` and heeds what aws mounts have ended; all mounts share both.
    pub(crate) fn beside(aws: Arc<dyn daypass_aws::Aws>, revoked: Arc<Revoked>) -> Self {
        Self { aws, held: held::Held::default(), last: LastTarget::default(), revoked }
    }
}

impl Engine for Ecr {
    const SUMMARY: &'static str =
        "The ECR backend gives out logins to the container registries of AWS: user name, password and where they are good.

Write a role to roles/<name>, then read a login from creds/<name>. The server's own AWS identity is used
unless config/root has keys.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        [config_root::endpoints(), roles::endpoints(), creds::endpoints()].into_iter().flatten().collect()
    }

    fn invalidate(&self) {
        // What is held stays: it is given out only under the very role and configuration that it was fetched for.
        self.last.forget(self.aws.as_ref());
    }
}

#[cfg(test)]
mod tests;
