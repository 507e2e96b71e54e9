//! AWS: what runs on AWS logs in with the identity that AWS gave it.
//!
//! The client signs a `GetCallerIdentity` and hands it in; STS is asked whose signature it is. Nothing here verifies a signature, and
//! nothing of the client's request says where STS is (`daypass_aws::Callers`). Owns these rows: `config/client`, `config/identity`,
//! `config/sts/<account>`, `config/certificate/<name>`, `config/tidy/…`, `role/<name>`, `role-tag-key`, and for instances ([`ec2`])
//! `accesslist/<instance>` and `denylist/<tag>`. The key of `config/client` is replaced by
//! [`crate::aws_keys`] ([`rotate_root`]), whose notes lie at `wal/`. Signatures that were used are remembered in memory, on each node, for all mounts together ([`seen`]).
//!
//! Instances log in with the document that AWS signs for each of them; EC2 is asked whether it runs.
//!
//! Source: Vault API, "AWS auth method"; AWS, "Signature Version 4"; Amazon EC2 User Guide, "Instance identity documents".

mod arn;
mod binding;
mod client;
mod ec2;
pub mod fuzzing;
mod headers;
mod identity;
mod login;
mod request;
mod role;
mod roles;
mod rotate_root;
mod seen;
mod signature;
mod sts;
mod trouble;

use std::sync::Arc;

use daypass_sdk::{BoxFuture, Cx, Endpoint, Engine, LoginRole, Renewal, Result, login_field};
use serde_json::{Map, Value};

use crate::aws_keys::{Upkeep, notes, rotation};

/// The aws auth method of one mount.
pub struct AwsAuth {
    aws: Arc<dyn daypass_aws::Aws>,
    seen: Arc<seen::Seen>,
    full_arns: binding::FullArns,
    tidy: ec2::Schedule,
    upkeep: Upkeep,
}

impl AwsAuth {
    /// What makes the method for each mount, over these AWS calls. All mounts share the signatures that were used: a login that was captured at
    /// one of them is of no use at another.
    pub fn maker(aws: Arc<dyn daypass_aws::Aws>) -> impl Fn() -> Self + Send + Sync + 'static {
        let seen = Arc::new(seen::Seen::default());
        move || Self {
            aws: Arc::clone(&aws),
            seen: Arc::clone(&seen),
            full_arns: binding::FullArns::default(),
            tidy: ec2::Schedule::default(),
            upkeep: Upkeep::default(),
        }
    }
}

impl Engine for AwsAuth {
    const SUMMARY: &'static str = "Logs in what runs on AWS, by the identity that AWS gave it.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        let mut endpoints = vec![login::endpoint(), roles::list_endpoint(), roles::endpoint(), client::endpoint(), rotate_root::endpoint()];
        endpoints.extend([identity::endpoint(), sts::list_endpoint(), sts::endpoint()]);
        endpoints.extend(ec2::endpoints());
        endpoints
    }

    fn renew_login(self: Arc<Self>, cx: Cx, internal: Value) -> BoxFuture<'static, Result<Renewal>> {
        Box::pin(login::renew(self, cx, internal))
    }

    fn login_role(&self, below: &str, fields: &Map<String, Value>) -> LoginRole {
        match login_field(fields, "role") {
            _ if below != "login" => LoginRole::None,
            // It is named after who signed, whom STS has yet to tell, or after the instance's machine image.
            name if name.is_empty() => LoginRole::Unknown,
            name => LoginRole::Named(name.to_lowercase()),
        }
    }

    fn tick(self: Arc<Self>, cx: Cx) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            // One that fails must not keep the others from their work.
            let notes = notes::tidy(&*self, &cx).await;
            let root = rotation::rotate_due(&*self, &cx).await;
            self.tidy.tick(&cx).await.and(root).and(notes)
        })
    }

    fn leave(self: Arc<Self>, cx: Cx) -> BoxFuture<'static, ()> {
        Box::pin(async move { notes::leave(&*self, &cx).await })
    }

    fn invalidate(&self) {
        self.full_arns.forget();
    }
}
