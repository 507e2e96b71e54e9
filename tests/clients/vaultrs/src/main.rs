//! A session with vaultrs, Rust's client. It parses answers into structs, so a missing or mistyped field is an error here.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::process::ExitCode;
use vaultrs::api::aws::requests::{CreateUpdateRoleRequest, GenerateCredentialsStsRequest};
use vaultrs::api::kv2::requests::SetSecretRequestOptions;
use vaultrs::api::token::requests::CreateTokenRequest;
use vaultrs::client::{Client, VaultClient, VaultClientSettingsBuilder};
use vaultrs::error::ClientError;
use vaultrs::{aws, kv1, kv2, sys, token};

#[derive(Default)]
struct Proof {
    passed: u32,
    failed: u32,
}

impl Proof {
    fn holds(&mut self, sentence: &str, holds: bool) {
        if holds {
            self.passed += 1;
            println!("ok    {sentence}");
        } else {
            self.failed += 1;
            println!("FAIL  {sentence}");
        }
    }

    /// Proves that a call went well; its answer, if so.
    fn works<T>(&mut self, sentence: &str, answer: Result<T, ClientError>) -> Option<T> {
        match answer {
            Ok(value) => {
                self.holds(sentence, true);
                Some(value)
            }
            Err(error) => {
                self.holds(&format!("{sentence}: {error} {error:?}"), false);
                None
            }
        }
    }

    fn refused<T>(&mut self, sentence: &str, status: u16, answer: Result<T, ClientError>) {
        let seen = match answer {
            Err(ClientError::APIError { code, .. }) => code,
            Err(_) => 0,
            Ok(_) => 200,
        };
        self.holds(&format!("{sentence} ({status})"), seen == status);
    }
}

fn client(token: &str) -> VaultClient {
    let address = std::env::var("VAULT_ADDR").expect("VAULT_ADDR names the server");
    let settings = VaultClientSettingsBuilder::default().address(address).token(token).build().expect("settings");
    VaultClient::new(settings).expect("a client")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let root = client(&std::env::var("VAULT_TOKEN").expect("VAULT_TOKEN"));
    let mut proof = Proof::default();
    status(&mut proof, &root).await;
    policies(&mut proof, &root).await;
    kv(&mut proof, &root).await;
    tokens(&mut proof, &root).await;
    if std::env::var_os("AWS_SANDBOX").is_some() {
        credentials(&mut proof, &root).await;
    } else {
        println!("      left out: everything with AWS, because AWS_SANDBOX names no fake AWS");
    }
    println!("{} passed, {} failed", proof.passed, proof.failed);
    if proof.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn status(proof: &mut Proof, root: &VaultClient) {
    if let Some(health) = proof.works("health", sys::health(root).await) {
        proof.holds("initialised and unsealed", health.initialized && !health.sealed);
    }
    if let Some(me) = proof.works("the token looks itself up", token::lookup_self(root).await) {
        proof.holds("and is root", me.policies.iter().any(|p| p == "root"));
    }
    proof.refused("a wrong token is denied", 403, token::lookup_self(&client("s.wrong")).await);
}

async fn policies(proof: &mut Proof, root: &VaultClient) {
    let rules = r#"path "secret/data/app" { capabilities = ["read"] }"#;
    proof.works("a policy is written", sys::policy::set(root, "reader", rules).await);
    if let Some(read) = proof.works("and read", sys::policy::read(root, "reader").await) {
        proof.holds("as written", read.rules == rules);
    }
    let names = sys::policy::list(root).await;
    proof.holds("and listed", names.is_ok_and(|n| n.policies.iter().any(|p| p == "reader")));
    proof.refused("one that does not parse is refused", 400, sys::policy::set(root, "bad", "path {").await);
}

async fn kv(proof: &mut Proof, root: &VaultClient) {
    let first = proof.works("KV 2: set", kv2::set(root, "secret", "app", &json!({"user": "robot", "n": 5})).await);
    proof.holds("makes version 1", first.is_some_and(|m| m.version == 1));
    let read: Option<Value> = proof.works("read", kv2::read(root, "secret", "app").await);
    proof.holds("keeps types", read == Some(json!({"user": "robot", "n": 5})));
    let late = SetSecretRequestOptions { cas: 0 };
    proof.refused(
        "check-and-set with an old version is refused",
        400,
        kv2::set_with_options(root, "secret", "app", &json!({}), late).await,
    );
    proof.works("a second version", kv2::set(root, "secret", "app", &json!({"user": "second"})).await);
    let old: Option<Value> = proof.works("an old version", kv2::read_version(root, "secret", "app", 1).await);
    proof.holds("is as it was", old.is_some_and(|v| v["user"] == "robot"));
    if let Some(meta) = proof.works("metadata", kv2::read_metadata(root, "secret", "app").await) {
        proof.holds("has two versions", meta.versions.len() == 2 && meta.current_version == 2);
    }
    proof.holds("list", kv2::list(root, "secret", "").await.is_ok_and(|keys| keys == ["app"]));
    proof.works("delete", kv2::delete_latest(root, "secret", "app").await);
    proof.holds("is not found then", kv2::read::<Value>(root, "secret", "app").await.is_err());
    proof.works("undelete", kv2::undelete_versions(root, "secret", "app", vec![2]).await);
    proof.works("is back", kv2::read::<Value>(root, "secret", "app").await);
    proof.works("destroy", kv2::destroy_versions(root, "secret", "app", vec![1]).await);

    proof.works("KV 1: mount", sys::mount::enable(root, "plain", "kv", None).await);
    proof.works("set", kv1::set(root, "plain", "a", &HashMap::from([("x", "y")])).await);
    let read: Option<HashMap<String, String>> = proof.works("get", kv1::get(root, "plain", "a").await);
    proof.holds("as written", read.is_some_and(|d| d["x"] == "y"));
    let mounts = sys::mount::list(root).await;
    proof.holds("mounts are listed", mounts.is_ok_and(|m| m.contains_key("plain/")));
    proof.works("unmount", sys::mount::disable(root, "plain").await);
}

async fn tokens(proof: &mut Proof, root: &VaultClient) {
    let mut wanted = CreateTokenRequest::builder();
    wanted.policies(vec!["reader".to_owned()]).ttl("10m").display_name("job");
    let Some(made) = proof.works("a token with a policy", token::new(root, Some(&mut wanted)).await) else { return };
    proof.holds("for ten minutes", made.lease_duration == 600);
    let job = client(&made.client_token);
    proof.works("reads what it may", kv2::read::<Value>(&job, "secret", "app").await);
    proof.refused("writes nothing", 403, kv2::set(&job, "secret", "app", &json!({})).await);
    let renewed = token::renew_self(&job, Some("5m")).await;
    proof.holds("renews itself", renewed.is_ok_and(|a| (290..=600).contains(&a.lease_duration)));
    proof.works("lookup by accessor", token::lookup_accessor(root, &made.accessor).await);
    proof.works("and revokes itself", token::revoke_self(&job).await);
    proof.refused("is denied then", 403, token::lookup_self(&job).await);
    proof.holds("the root client is untouched", root.settings().token == std::env::var("VAULT_TOKEN").unwrap_or_default());
}

async fn credentials(proof: &mut Proof, root: &VaultClient) {
    let mount = "cdp/aws/staging";
    proof.works("AWS: mount at a deep path", sys::mount::enable(root, mount, "aws", None).await);
    let mut role = CreateUpdateRoleRequest::builder();
    role.role_arns(vec!["arn:aws:iam::111111111111:role/ecr-staging".to_owned()]);
    proof.works("a role", aws::roles::create_update(root, mount, "ecr-staging", "assumed_role", Some(&mut role)).await);
    if let Some(read) = proof.works("read back", aws::roles::read(root, mount, "ecr-staging").await) {
        proof.holds("as written", read.credential_type == "assumed_role");
    }
    proof.holds("list", aws::roles::list(root, mount).await.is_ok_and(|r| r.keys == ["ecr-staging"]));
    let mut wanted = GenerateCredentialsStsRequest::builder();
    wanted.ttl("60m");
    for (how, minted) in [
        ("sts/", aws::roles::credentials_sts(root, mount, "ecr-staging", Some(&mut wanted)).await),
        ("creds/", aws::roles::credentials(root, mount, "ecr-staging", None).await),
    ] {
        if let Some(minted) = proof.works(&format!("{how} mints a credential"), minted) {
            let session = minted.access_key.starts_with("ASIA") && minted.security_token.is_some_and(|t| !t.is_empty());
            proof.holds("for a session", session && minted.arn.starts_with("arn:aws:sts::111111111111:assumed-role/ecr-staging/"));
        }
    }
    proof.refused("an unknown role is a bad request", 400, aws::roles::credentials_sts(root, mount, "nobody", None).await);
}
