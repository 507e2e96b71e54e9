//! What a mount can prove of itself to others: signed tokens about it.

use daypass_base::{BoxFuture, Seconds, Secret};

use crate::{Error, Result};

/// Tokens by which a mount proves at another service who it is: JSON Web Tokens whose keys the server publishes. The core makes them. The
/// subject is the mount's own; no engine can choose another.
pub trait MountIdentity: Send + Sync + 'static {
    /// A token for one audience, good for `ttl`, or shorter where its key allows no more. Errors: `BadRequest` when the key of the mount is
    /// missing or the audience cannot stand in a token.
    fn token<'a>(&'a self, audience: &'a str, ttl: Seconds) -> BoxFuture<'a, Result<Secret<String>>>;
    /// What every token of the mount says.
    fn claims(&self) -> BoxFuture<'_, Result<IdentityClaims>>;
}

/// What the tokens of a mount say, whoever they are for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityClaims {
    /// Who signs: `https://vault.example.com/v1/identity/oidc/plugins`.
    pub issuer: String,
    /// The mount: `plugin-identity:root:secret:aws_1a2b3c4d`.
    pub subject: String,
}

/// No identity: of endpoints that belong to no mount, and of engines under test.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoIdentity;

impl MountIdentity for NoIdentity {
    fn token<'a>(&'a self, _audience: &'a str, _ttl: Seconds) -> BoxFuture<'a, Result<Secret<String>>> {
        Box::pin(std::future::ready(Err(Error::internal("there is no mount here to make an identity token for"))))
    }

    fn claims(&self) -> BoxFuture<'_, Result<IdentityClaims>> {
        Box::pin(std::future::ready(Err(Error::internal("there is no mount here that has an identity"))))
    }
}
