//! The only list of rooms: every engine and method that can be mounted.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_sdk::{Engine, Error, Factory, Mounted, Result, Room};

use crate::auth::approle::AppRole;
use crate::auth::aws::AwsAuth;
use crate::auth::cert::Cert;
use crate::auth::github::GitHub;
use crate::auth::jwt::Jwt;
use crate::auth::kubernetes::Kubernetes;
use crate::auth::userpass::Userpass;
use crate::secrets::aws::Aws;
use crate::secrets::ecr::Ecr;
use crate::secrets::kv1::Kv1;
use crate::secrets::kv2::Kv2;
use crate::secrets::revoked::Revoked;
use crate::secrets::transit::Transit;

/// What engines need from outside.
pub struct Outside {
    /// The AWS calls.
    pub aws: Arc<dyn daypass_aws::Aws>,
    /// The calls to identity providers.
    pub idp: Arc<dyn daypass_idp::Idp>,
}

/// All types, each with the room that its mounts share.
#[must_use]
pub fn all(outside: &Outside) -> Vec<Factory> {
    let (aws, ecr, sts) = (Arc::clone(&outside.aws), Arc::clone(&outside.aws), Arc::clone(&outside.aws));
    let (jwt, kubernetes, oidc) = (Arc::clone(&outside.idp), Arc::clone(&outside.idp), Arc::clone(&outside.idp));
    let lists = Arc::clone(&outside.idp);
    let github = Arc::clone(&outside.idp);
    let revoked = Arc::new(Revoked::default());
    let ended = Arc::clone(&revoked);
    vec![
        secret("aws", "AWS credentials that end by themselves", move || Aws::beside(Arc::clone(&aws), Arc::clone(&revoked))),
        secret("ecr", "Logins to the container registries of AWS", move || Ecr::beside(Arc::clone(&ecr), Arc::clone(&ended))),
        kv(),
        secret("transit", "Encryption and signatures with keys that stay inside", Transit::default),
        auth("approle", "Logins of machines with a role id and a secret id", AppRole::default),
        auth("aws", "Logins of what runs on AWS, by the identity that AWS gave it", AwsAuth::maker(sts)),
        auth("cert", "Logins of whoever shows a trusted certificate over TLS", move || Cert::new(Arc::clone(&lists))),
        auth("github", "Logins of people with an access token of GitHub", move || GitHub::new(Arc::clone(&github))),
        auth("jwt", "Logins of machines with tokens of their build server", move || Jwt::new(Arc::clone(&jwt))),
        auth("kubernetes", "Logins of pods with the token of their service account", move || Kubernetes::new(Arc::clone(&kubernetes))),
        auth("oidc", "Logins of people through their company's login page", move || Jwt::new(Arc::clone(&oidc))),
        auth("userpass", "Logins of people with a name and a password", Userpass::maker()),
    ]
}

fn secret<E: Engine>(kind: &'static str, summary: &'static str, make: impl Fn() -> E + Send + Sync + 'static) -> Factory {
    let room = Arc::new(Room::new());
    Factory { kind, auth: false, summary, built_from: &[], build: Box::new(move |_| Ok(room.mount(make()))) }
}

fn auth<E: Engine>(kind: &'static str, summary: &'static str, make: impl Fn() -> E + Send + Sync + 'static) -> Factory {
    Factory { auth: true, ..secret(kind, summary, make) }
}

/// One type, two engines: the option `version` says which.
fn kv() -> Factory {
    let (first, second) = (Arc::new(Room::new()), Arc::new(Room::new()));
    let build = move |options: &BTreeMap<String, String>| -> Result<Arc<dyn Mounted>> {
        match options.get("version").map(String::as_str) {
            None | Some("" | "1") => Ok(first.mount(Kv1)),
            Some("2") => Ok(second.mount(Kv2::default())),
            Some(_) => Err(Error::bad_request("nil backend of type \"kv\" returned from factory")),
        }
    };
    Factory { kind: "kv", auth: false, summary: "Any JSON object at any path", built_from: &["version"], build: Box::new(build) }
}
