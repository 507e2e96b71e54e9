//! What makes a secrets engine or an auth method.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_base::{BoxFuture, Seconds, Timestamp};
use serde_json::Value;

use crate::{Cx, Endpoint, Error, LeaseTerms, Mounted, Result};

/// A secrets engine or an auth method: its endpoints, and what it does about its leases.
///
/// ```
/// use std::sync::Arc;
/// use daypass_sdk::{Cx, Endpoint, Engine, Json, Operation, Result, Room};
///
/// struct Echo;
///
/// /// What may be said.
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Say {
///     /// The name of the caller's choice.
///     name: String,
///     /// How often, at most 10.
///     #[serde(default)]
///     times: u32,
/// }
///
/// async fn say(_: Arc<Echo>, _: Cx, params: Say) -> Result<Json<serde_json::Value>> {
///     Ok(Json(serde_json::json!({ "said": params.name.repeat(params.times.min(10) as usize) })))
/// }
///
/// impl Engine for Echo {
///     const SUMMARY: &'static str = "Says what it is told.";
///     fn endpoints() -> Vec<Endpoint<Self>> {
///         vec![Endpoint::at(["say/{name}"]).summary("Say a name.").on(Operation::Read, say)]
///     }
/// }
///
/// let room = Arc::new(Room::<Echo>::new());
/// let mount = room.mount(Echo);
/// assert!(mount.find("say/hello").is_some());
/// assert!(mount.find("shout/hello").is_none());
/// ```
pub trait Engine: Send + Sync + Sized + 'static {
    /// The first lines of `path-help` on the bare mount.
    const SUMMARY: &'static str;

    /// The table of contents.
    fn endpoints() -> Vec<Endpoint<Self>>;

    /// Takes back a leased secret. Called until it succeeds: it must be idempotent.
    fn revoke(self: Arc<Self>, _cx: Cx, _lease: LeaseInfo) -> BoxFuture<'static, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Decides how long a leased secret may live on. Errors: `BadRequest` when it may not.
    fn renew(self: Arc<Self>, _cx: Cx, lease: LeaseInfo) -> BoxFuture<'static, Result<Renewal>> {
        Box::pin(std::future::ready(Ok(Renewal { terms: lease.terms, period: Seconds::ZERO, internal: None, groups: None })))
    }

    /// Decides how long a login's token may live on. Errors: `BadRequest` when it may not (role gone, policies changed).
    fn renew_login(self: Arc<Self>, _cx: Cx, _internal: Value) -> BoxFuture<'static, Result<Renewal>> {
        Box::pin(std::future::ready(Err(Error::bad_request("this method does not renew its tokens"))))
    }

    /// Whom a login claims to be, before anything is checked: the user, the role id. The core counts failed logins by it and refuses
    /// an alias that is locked out. `None` where there is no lock-out: other paths, other methods, a login without that field.
    fn login_alias(&self, _below: &str, _fields: &serde_json::Map<String, Value>) -> Option<String> {
        None
    }

    /// Which role a login is for, before anything is checked: quotas may count the logins of one role. Asked only where such a quota is set.
    fn login_role(&self, _below: &str, _fields: &serde_json::Map<String, Value>) -> LoginRole {
        LoginRole::None
    }

    /// Regular work, about once a minute: rotation, tidying, finishing what a crash left.
    fn tick(self: Arc<Self>, _cx: Cx) -> BoxFuture<'static, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// The mount is being removed, its leases are revoked already: what only its storage knows of is finished now or never. It must not
    /// fail for long: the storage goes next.
    fn leave(self: Arc<Self>, _cx: Cx) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Forget cached state: the mount's configuration may have been changed by another node.
    fn invalidate(&self) {}
}

/// The role that a login is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginRole {
    /// The method has no roles that a login names, or this is no login.
    None,
    /// The one of this name, which is in lower case: upper and lower case are the same to the methods.
    Named(String),
    /// Only the login itself will find out.
    Unknown,
}

/// A text field of a login, read as the login reads it: of two ways to write one thing, each would be counted by itself. Absent is empty.
#[must_use]
pub fn login_field(fields: &serde_json::Map<String, Value>, name: &str) -> String {
    // What is no text is refused by the login: there is nothing to count.
    fields.get(name).and_then(|value| daypass_base::lenient::weak_text(value.clone()).ok()).unwrap_or_default()
}

/// A stored lease as its engine sees it.
#[derive(Debug, Clone)]
pub struct LeaseInfo {
    /// The lease id.
    pub id: String,
    /// What the engine stored with it.
    pub internal: Value,
    /// When it was issued.
    pub issued: Timestamp,
    /// The terms it was issued under.
    pub terms: LeaseTerms,
    /// The lifetime that the renewing client asks for, from now; zero when it does not say.
    pub increment: Seconds,
}

/// How a lease or a token lives on.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// The terms from now on; `ttl` zero takes the mount's default.
    pub terms: LeaseTerms,
    /// Set for periodic tokens.
    pub period: Seconds,
    /// Replaces what is stored with the lease, if given.
    pub internal: Option<Value>,
    /// For a login: the groups that the method now says the caller is in. `None` where renewal does not tell: those of the login stay.
    pub groups: Option<Vec<String>>,
}

/// An engine type that can be mounted: what the registry lists.
pub struct Factory {
    /// The type that `sys/mounts` and `sys/auth` take: `aws`, `kv`.
    pub kind: &'static str,
    /// Whether it is an auth method; else a secrets engine.
    pub auth: bool,
    /// One line for the catalog.
    pub summary: &'static str,
    /// The options that decide which engine a mount has. A change of any other one keeps the engine, and what it holds in memory.
    pub built_from: &'static [&'static str],
    /// Makes the engine of a new mount from its options. Errors: `BadRequest` when an option makes no sense.
    pub build: Build,
}

/// Makes the engine of a mount from the mount's options.
pub type Build = Box<dyn Fn(&BTreeMap<String, String>) -> Result<Arc<dyn Mounted>> + Send + Sync>;
