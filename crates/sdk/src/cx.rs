//! What a handler is told: the request, who sent it, the mount, and the means to act.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use daypass_base::trace::{Called, Outside};
use daypass_base::{ClientChain, Clock, Entropy, Seconds, Secret, Upload};

use crate::{MountIdentity, Operation, Result, Store};

/// Everything that a handler may use. Cheap to clone.
#[derive(Clone)]
pub struct Cx {
    /// The request.
    pub request: Arc<Request>,
    /// The mount that serves it.
    pub mount: Arc<Mount>,
    /// The mount's own storage.
    pub store: Store,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// What the mount can prove of itself to other services.
    pub identity: Arc<dyn MountIdentity>,
}

impl Cx {
    /// A signed token that says which mount this is, for one audience: see [`MountIdentity::token`].
    pub async fn identity_token(&self, audience: &str, ttl: Seconds) -> Result<Secret<String>> {
        self.identity.token(audience, ttl).await
    }

    /// Does `work`, which asks a service for something, and notes it where the request is traced. Both names are told to whoever reads traces:
    /// the service's own words, such as `STS` and `AssumeRole`.
    pub async fn asking<T, E>(
        &self,
        service: &'static str,
        action: &'static str,
        work: impl Future<Output = std::result::Result<T, E>>,
    ) -> std::result::Result<T, E> {
        let Some(outside) = &self.request.outside else { return work.await };
        let began = self.clock.elapsed();
        let done = work.await;
        outside.note(Called { service, action, began, ended: self.clock.elapsed(), failed: done.is_err() });
        done
    }

    /// Names below a prefix of the mount's storage, as [`Store::page`] gives them: the part of them that the caller asked for.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.store.page(prefix, &self.request.page).await
    }
}

/// Which part of a list is wanted: what a caller gives as `after` and `limit`. All of it unless given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Names up to this one are left out.
    pub after: Option<String>,
    /// At most so many names.
    pub limit: Option<usize>,
}

impl Page {
    /// Whether all is wanted.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.after.is_none() && self.limit.is_none()
    }

    /// The wanted part of these names, in byte order.
    ///
    /// ```
    /// use daypass_sdk::Page;
    /// let page = Page { after: Some("a".to_owned()), limit: Some(2) };
    /// let names = ["d", "a", "c", "b"].map(str::to_owned).to_vec();
    /// assert_eq!(page.of(names), ["b", "c"]);
    /// ```
    #[must_use]
    pub fn of(&self, mut names: Vec<String>) -> Vec<String> {
        if self.is_all() {
            return names;
        }
        names.sort_unstable();
        let behind = |name: &String| self.after.as_ref().is_none_or(|after| name > after);
        names.into_iter().filter(behind).take(self.limit.unwrap_or(usize::MAX)).collect()
    }
}

/// A request as an engine sees it.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// UUIDv4, also in the answer and in the audit record.
    pub id: String,
    /// The whole path without `/v1/`: `aws/sts/deploy`.
    pub path: String,
    /// The path below the mount: `sts/deploy`.
    pub below: String,
    /// What is to be done; create or update is already decided.
    pub operation: Option<Operation>,
    /// Who asks. Empty on public endpoints.
    pub caller: Arc<Caller>,
    /// Where the request came from, as far as it is known.
    pub remote: Option<IpAddr>,
    /// The certificates that the client showed; `None` where there was no TLS to show them over. At a renewal: those of whoever renews.
    pub client_chain: Option<Arc<ClientChain>>,
    /// Headers that the mount's `passthrough_request_headers` names, and those that a core room needs; names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The part of a list that is wanted.
    pub page: Page,
    /// The answer is to be wrapped for so long.
    pub wrap_ttl: Option<Seconds>,
    /// The token as it was presented: filled for the core's own rooms, never for engines.
    pub presented: Option<Secret<String>>,
    /// The body of a request that is read while it comes: for the few endpoints of the core that take one.
    pub upload: Option<Upload>,
    /// Where calls to others are noted; `None` where the request is not traced. See [`Cx::asking`].
    pub outside: Option<Arc<Outside>>,
    /// Time left until the request is given up; every outside call has to end before.
    pub deadline: Duration,
}

/// Who sent a request.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Name from the login: `approle`, `userpass-bob`, `token-terraform`, `root`.
    pub display_name: String,
    /// Entity, or empty.
    pub entity_id: String,
    /// Names of all policies in force.
    pub policies: Vec<String>,
    /// The token's own metadata: what the login proved, or what the maker of a child token wrote.
    pub metadata: BTreeMap<String, String>,
    /// What the login behind the token proved, also for its children; nobody else can write it.
    pub claims: BTreeMap<String, String>,
    /// Stands for the token: one token, one key. It gives none of the token's rights. All zeros without a token.
    pub key: [u8; 16],
    /// `service`, `batch`, or empty without a token.
    pub token_type: &'static str,
    /// Accessor of the token; empty for batch tokens. Engines may log it.
    pub accessor: String,
    /// Internal id of the token: names it, gives none of its rights.
    pub token: Option<TokenId>,
    /// When the token ends, if it does.
    pub expires: Option<daypass_base::Timestamp>,
    /// A stable id of the client for usage counts: the entity, or a hash that stands for it.
    pub client_id: String,
}

/// The internal id of a token: shard, milliseconds, random. Not a secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub [u8; 16]);

impl std::fmt::Debug for TokenId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenId(")?;
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// A mount as its engine sees it.
#[derive(Debug, Clone, Default)]
pub struct Mount {
    /// Where it is mounted, with a slash at the end: `cdp/aws/staging/`, `auth/approle/`.
    pub path: String,
    /// Its type: `aws`, `kv`.
    pub kind: String,
    /// Its accessor: `aws_1a2b3c4d`.
    pub accessor: String,
    /// Effective default lifetime of leases and tokens.
    pub default_lease_ttl: Seconds,
    /// Effective longest lifetime of leases and tokens.
    pub max_lease_ttl: Seconds,
    /// Options of the mount, such as `version`.
    pub options: BTreeMap<String, String>,
    /// `token_type` of an auth mount.
    pub token_type: String,
}
