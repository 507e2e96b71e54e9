//! AWS: what runs on AWS logs in with the identity that AWS gave it.
//!
//! The client signs a `GetCallerIdentity` and hands it in; STS is asked whose signature it is. Nothing here verifies a signature, and
//! nothing of the client's request says where STS is (`daypass_aws::Callers`). Owns these rows: `config/client`, `config/identity`,
//! `config/sts/<account>`, `config/certificate/<name>`, `config/tidy/…`, `role/<name>`, `role-tag-key`, and for instances ([`ec2`])
//! `accesslist/<instance>` and `denylist/<tag>`. Signatures that were used are remembered in memory, on each node ([`seen`]).
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
mod seen;
mod signature;
mod sts;

use std::sync::Arc;

use daypass_sdk::{BoxFuture, Cx, Endpoint, Engine, Renewal, Result};
use serde_json::Value;

/// The aws auth method of one mount.
pub struct AwsAuth {
    aws: Arc<dyn daypass_aws::Aws>,
    seen: seen::Seen,
    full_arns: binding::FullArns,
    tidy: ec2::Schedule,
}

impl AwsAuth {
    /// The method, over these AWS calls.
    pub fn new(aws: Arc<dyn daypass_aws::Aws>) -> Self {
        Self { aws, seen: seen::Seen::default(), full_arns: binding::FullArns::default(), tidy: ec2::Schedule::default() }
    }
}

impl Engine for AwsAuth {
    const SUMMARY: &'static str = "Logs in what runs on AWS, by the identity that AWS gave it.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        let mut endpoints =
            vec![login::endpoint(), roles::list_endpoint(), roles::endpoint(), client::endpoint(), client::rotate_endpoint()];
        endpoints.extend([identity::endpoint(), sts::list_endpoint(), sts::endpoint()]);
        endpoints.extend(ec2::endpoints());
        endpoints
    }

    fn renew_login(self: Arc<Self>, cx: Cx, internal: Value) -> BoxFuture<'static, Result<Renewal>> {
        Box::pin(login::renew(self, cx, internal))
    }

    fn tick(self: Arc<Self>, cx: Cx) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { self.tidy.tick(&cx).await })
    }

    fn invalidate(&self) {
        self.full_arns.forget();
    }
}
