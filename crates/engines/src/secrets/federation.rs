//! Web identity federation: a mount proves at AWS by a signed token which mount it is, and works with the sessions of an IAM role that trusts
//! it. Nothing secret of AWS's is configured.

use std::sync::Arc;

use daypass_aws::{WebIdentity, WebTokens};
use daypass_base::Brief;
use daypass_sdk::{BoxFuture, Cx, Error, IdentityClaims, Kind, MountIdentity, Result, Seconds, Secret};
use serde_json::{Value, json};

use super::arn::{self, Arn};

/// How a mount is known at AWS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Federation<'a> {
    /// ARN of the IAM role.
    pub(crate) role_arn: &'a str,
    /// Whom the tokens are for.
    pub(crate) audience: &'a str,
    /// How long a token is good; zero for an hour.
    pub(crate) ttl: Seconds,
}

impl Federation<'_> {
    /// What stands in for keys.
    pub(crate) fn identity(self, cx: &Cx) -> WebIdentity {
        let Self { role_arn, audience, .. } = self;
        let ttl = self.ttl.set().unwrap_or(TTL_DEFAULT);
        WebIdentity {
            role_arn: role_arn.to_owned(),
            session_name: session_name(&cx.mount.accessor),
            name: format!("{} {} {audience}", cx.mount.accessor, ttl.0),
            tokens: Arc::new(Tokens { identity: Arc::clone(&cx.identity), audience: audience.to_owned(), ttl }),
        }
    }

    /// A token, made and thrown away. Errors: what hinders.
    pub(crate) async fn try_out(self, cx: &Cx) -> Result<()> {
        cx.identity_token(self.audience, self.ttl.set().unwrap_or(TTL_DEFAULT)).await.map(|_token| ())
    }

    /// Why there is no key to replace, behind the name of the configuration.
    pub(crate) fn no_key(self) -> String {
        format!(
            "identity_token_audience, so the server works with sessions of {}, which end by themselves; the keys that sign its tokens are rotated \
             at identity/oidc/key",
            self.role_arn
        )
    }

    /// Errors: `BadRequest` when there is no role, or tokens would be over before STS has seen them.
    pub(crate) fn check(self) -> Result<()> {
        if self.role_arn.is_empty() {
            return Err(Error::bad_request("missing required 'role_arn' when 'identity_token_audience' is set"));
        }
        arn::iam_role(self.role_arn).map_err(|why| Error::bad_request(format!("role_arn {:?}: {why}", Brief(self.role_arn))))?;
        if self.ttl.set().is_some_and(|ttl| ttl < TTL_MIN) {
            return Err(Error::bad_request(format!("identity_token_ttl is too short: {} s at least", TTL_MIN.0)));
        }
        Ok(())
    }

    /// The identity provider that has to exist in the account of the role.
    pub(super) fn provider(self, claims: &IdentityClaims) -> Value {
        json!({ "url": claims.issuer, "client_id_list": [self.audience] })
    }

    /// The trust policy of the role: this mount of this server, and nobody else.
    pub(super) fn trust(self, claims: &IdentityClaims) -> Value {
        let issuer = bare(&claims.issuer);
        let (partition, account) = Arn::parse(self.role_arn).map_or(("aws", ""), |arn| (arn.partition, arn.account));
        let said = json!({ (format!("{issuer}:aud")): self.audience, (format!("{issuer}:sub")): claims.subject });
        json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow",
                "Principal": { "Federated": format!("arn:{partition}:iam::{account}:oidc-provider/{issuer}") },
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": { "StringEquals": said },
            }],
        })
    }
}

/// Why there is no token, for clients: they learn no more of an internal error than that it is one.
pub(super) fn told(error: Error) -> String {
    if error.kind == Kind::Internal {
        tracing::error!(%error, "an identity token could not be made");
        return "internal error".to_owned();
    }
    error.message
}

/// What is wrong with an issuer that AWS itself would not take.
pub(super) fn caveat(claims: &IdentityClaims) -> Option<String> {
    let issuer = &claims.issuer;
    (!issuer.starts_with("https://")).then(|| {
        format!(
            "the issuer of identity tokens is {issuer}: AWS takes an https address alone, and must reach it; set it with issuer of identity/oidc/config"
        )
    })
}

/// An issuer as policies name it.
fn bare(issuer: &str) -> &str {
    issuer.split_once("://").map_or(issuer, |(_, rest)| rest)
}

/// As CloudTrail shows the server. STS takes 64 characters of those that accessors are made of.
fn session_name(accessor: &str) -> String {
    format!("daypass-{accessor}").chars().take(64).collect()
}

struct Tokens {
    identity: Arc<dyn MountIdentity>,
    audience: String,
    ttl: Seconds,
}

impl WebTokens for Tokens {
    fn token(&self) -> BoxFuture<'_, std::result::Result<Secret<String>, String>> {
        Box::pin(async move { self.identity.token(&self.audience, self.ttl).await.map_err(told) })
    }
}

/// As Vault's.
const TTL_DEFAULT: Seconds = Seconds(3600);
const TTL_MIN: Seconds = Seconds(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trust_policy_names_the_provider_the_audience_and_the_mount() {
        let claims = IdentityClaims {
            issuer: "https://vault.example.com/v1/identity/oidc/plugins".to_owned(),
            subject: "plugin-identity:root:secret:aws_0123abcd".to_owned(),
        };
        let federation = Federation { role_arn: "arn:aws-cn:iam::111111111111:role/x/daypass", audience: "sts", ttl: Seconds::ZERO };
        let trust = federation.trust(&claims);
        let provider = "arn:aws-cn:iam::111111111111:oidc-provider/vault.example.com/v1/identity/oidc/plugins";
        assert_eq!(trust.pointer("/Statement/0/Principal/Federated").unwrap(), provider);
        let condition = trust.pointer("/Statement/0/Condition/StringEquals").unwrap();
        assert_eq!(condition["vault.example.com/v1/identity/oidc/plugins:aud"], "sts");
        assert_eq!(condition["vault.example.com/v1/identity/oidc/plugins:sub"], claims.subject.as_str());
        assert_eq!(caveat(&claims), None);
        assert!(caveat(&IdentityClaims { issuer: "http://127.0.0.1:8200/v1".to_owned(), ..claims }).is_some());
    }
}
