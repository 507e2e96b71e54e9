//! Kubernetes: pods log in with the token of their service account, of which the cluster's API server says whose it is.
//!
//! Owns the rows `config` and `role/<name>`. What a token says of itself is believed after the API server vouched for it, with one exception: the
//! audiences that it claims are repeated to the server, which then says whether they are true. Whom a role lets in is decided by the server's answer
//! alone, so that strangers learn nothing about roles. A login writes nothing.
//!
//! Source: Vault API, "Kubernetes auth method"; Kubernetes API reference, TokenReview v1.

mod config;
#[doc(hidden)]
pub mod fuzzing;
mod local;
mod login;
mod role;
mod roles;
mod selector;

use std::path::PathBuf;
use std::sync::Arc;

use daypass_idp::Idp;
use daypass_sdk::{BoxFuture, Cx, Endpoint, Engine, LoginRole, Renewal, Result, login_field};
use serde_json::{Map, Value};

/// The Kubernetes auth method of one mount.
pub struct Kubernetes {
    idp: Arc<dyn Idp>,
    /// Where a pod finds its own token and the cluster's certificate.
    pod: PathBuf,
}

impl Kubernetes {
    /// A mount that reaches API servers by `idp`.
    pub fn new(idp: Arc<dyn Idp>) -> Self {
        Self::in_pod(idp, local::POD.into())
    }

    /// The same with the pod's files in another folder.
    fn in_pod(idp: Arc<dyn Idp>, pod: PathBuf) -> Self {
        Self { idp, pod }
    }
}

impl Engine for Kubernetes {
    const SUMMARY: &'static str = "Logs in what runs on Kubernetes, with the token of its service account.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        vec![config::endpoint(), roles::list_endpoint(), roles::endpoint(), login::endpoint()]
    }

    fn renew_login(self: Arc<Self>, cx: Cx, internal: Value) -> BoxFuture<'static, Result<Renewal>> {
        Box::pin(login::renew(cx, internal))
    }

    fn login_role(&self, below: &str, fields: &Map<String, Value>) -> LoginRole {
        if below == "login" { LoginRole::Named(login_field(fields, "role").to_lowercase()) } else { LoginRole::None }
    }
}

#[cfg(test)]
mod tests;
