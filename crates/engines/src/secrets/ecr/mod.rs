//! The ecr secrets engine: logins to container registries of AWS.
//!
//! One file per path group: [`config_root`], [`roles`], [`creds`]. [`role`] is what a role means, [`held`] keeps what ECR gave until it is
//! too old to hand out. ECR takes a password back in no way: it ends by itself, after twelve hours, and so does its lease, of which
//! nothing is stored. AWS is reached through [`daypass_aws::Aws`] alone.

use std::sync::Arc;

use daypass_sdk::{Endpoint, Engine};

use crate::secrets::at_aws::LastTarget;

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
}

impl Ecr {
    /// An engine that reaches AWS through `aws`, which all mounts share.
    pub fn new(aws: Arc<dyn daypass_aws::Aws>) -> Self {
        Self { aws, held: held::Held::default(), last: LastTarget::default() }
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
