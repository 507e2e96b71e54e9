//! The aws secrets engine: short-lived AWS credentials.
//!
//! One file per path group: [`config_root`], [`config_lease`], [`roles`], [`creds`] (which serves `sts/` too), [`static_roles`].
//! [`role`] is what a role means, [`names`] how sessions are called. Minting writes nothing: an STS credential ends by itself,
//! and its lease id describes itself (the core makes it). AWS is reached through [`daypass_aws::Aws`] alone.

use std::sync::Arc;

use daypass_aws::Target;
use daypass_sdk::{Endpoint, Engine};
use parking_lot::Mutex;

mod config_lease;
mod config_root;
mod creds;
mod names;
mod policies;
mod role;
mod roles;
mod static_roles;
mod template;
mod text;

/// The engine of one mount.
pub struct Aws {
    aws: Arc<dyn daypass_aws::Aws>,
    /// Where the last call went: forgotten when another node changed the configuration.
    last: Mutex<Option<Target>>,
}

impl Aws {
    /// An engine that reaches AWS through `aws`, which all mounts share.
    pub fn new(aws: Arc<dyn daypass_aws::Aws>) -> Self {
        Self { aws, last: Mutex::new(None) }
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
        "The AWS backend generates short-lived AWS credentials: sessions of IAM roles, federated users and session tokens.

Write a role to roles/<name>, then read credentials from sts/<name>. The server's own AWS identity is used
unless config/root has keys.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        [config_root::endpoints(), config_lease::endpoints(), roles::endpoints(), creds::endpoints(), static_roles::endpoints()]
            .into_iter()
            .flatten()
            .collect()
    }

    fn invalidate(&self) {
        let last = self.last.lock().take();
        if let Some(target) = last {
            self.aws.forget(&target);
        }
    }
}

#[cfg(test)]
mod tests;
