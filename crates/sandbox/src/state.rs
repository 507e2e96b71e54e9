//! The world as it is now: accounts with their users, keys, groups, roles, policies and identity providers.
//!
//! Plain data with lookups; every map is bounded by the quotas at the end. Rules are in `authority.rs`, `iam/`, `sts.rs`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use daypass_base::{Secret, Timestamp};

use crate::instances::InstanceSeed;
use crate::jwt::VerifyingKey;
use crate::policy::Document;

/// Everything that IAM calls can change.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) accounts: HashMap<String, Account>,
    /// Access key id to its account and user.
    pub(crate) keys: HashMap<String, (String, String)>,
    /// Policies of AWS itself, by ARN.
    pub(crate) aws_policies: HashMap<String, Managed>,
}

#[derive(Default)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) roles: BTreeMap<String, Role>,
    /// By ARN.
    pub(crate) policies: BTreeMap<String, Managed>,
    /// OIDC providers by URL without the scheme.
    pub(crate) providers: HashMap<String, Provider>,
    /// By id.
    pub(crate) instances: BTreeMap<String, InstanceSeed>,
    /// Names in lower case with `user/` and so on in front: they are unique without regard to case.
    pub(crate) names: HashSet<String>,
}

pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) id: String,
    pub(crate) created: Timestamp,
    pub(crate) keys: Vec<AccessKey>,
    pub(crate) grants: Grants,
    /// ARN of the permissions boundary.
    pub(crate) boundary: Option<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) mfa: Vec<Mfa>,
    pub(crate) login_profile: Option<Timestamp>,
}

pub(crate) struct AccessKey {
    pub(crate) id: String,
    pub(crate) secret: Secret<String>,
    pub(crate) active: bool,
    pub(crate) created: Timestamp,
    /// AWS needs some seconds until a new key works everywhere.
    pub(crate) usable_from: Timestamp,
}

pub(crate) struct Mfa {
    pub(crate) serial: String,
    /// The seed of its codes.
    pub(crate) seed: Secret<Vec<u8>>,
    pub(crate) enabled: Timestamp,
}

pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) id: String,
    pub(crate) created: Timestamp,
    pub(crate) grants: Grants,
}

pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) id: String,
    pub(crate) created: Timestamp,
    pub(crate) trust: Arc<Policy>,
    pub(crate) grants: Grants,
    pub(crate) boundary: Option<String>,
    /// Seconds, 3600 to 43200.
    pub(crate) max_session: i64,
    pub(crate) description: String,
    pub(crate) tags: BTreeMap<String, String>,
}

/// What a user, group or role carries: inline policies by name, and ARNs of managed ones.
#[derive(Default)]
pub(crate) struct Grants {
    pub(crate) inline: BTreeMap<String, Arc<Policy>>,
    pub(crate) attached: Vec<String>,
}

/// A document with its text as written.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub(crate) text: String,
    pub(crate) document: Document,
}

pub(crate) struct Managed {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) id: String,
    pub(crate) created: Timestamp,
    pub(crate) policy: Arc<Policy>,
}

/// An OIDC identity provider with its keys, which real AWS would fetch from it.
pub(crate) struct Provider {
    /// The issuer as its tokens name it, with `https://`.
    pub(crate) issuer: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) keys: Vec<VerifyingKey>,
    /// The keys came with the provider; else they are read from the issuer.
    pub(crate) fixed: bool,
}

impl State {
    pub(crate) fn account(&self, id: &str) -> Option<&Account> {
        self.accounts.get(id)
    }

    pub(crate) fn user(&self, account: &str, name: &str) -> Option<&User> {
        self.accounts.get(account)?.users.get(name)
    }

    pub(crate) fn role(&self, account: &str, name: &str) -> Option<&Role> {
        self.accounts.get(account)?.roles.get(name)
    }

    /// The role with exactly this ARN, and its account's id.
    pub(crate) fn role_by_arn<'a>(&'a self, arn: &str) -> Option<(&'a str, &'a Role)> {
        let (account, rest) = arn.strip_prefix("arn:aws:iam::")?.split_once(":role/")?;
        let name = rest.rsplit('/').next()?;
        let account = self.accounts.get(account)?;
        let role = account.roles.get(name)?;
        (role.arn(&account.id) == arn).then_some((account.id.as_str(), role))
    }

    /// A managed policy that `account` can use: its own or one of AWS.
    pub(crate) fn managed(&self, account: &str, arn: &str) -> Option<&Managed> {
        if arn.starts_with("arn:aws:iam::aws:") { self.aws_policies.get(arn) } else { self.accounts.get(account)?.policies.get(arn) }
    }

    /// The key, its account and its user.
    pub(crate) fn key(&self, id: &str) -> Option<(&str, &User, &AccessKey)> {
        let (account, user) = self.keys.get(id)?;
        let user = self.user(account, user)?;
        let key = user.keys.iter().find(|key| key.id == id)?;
        Some((account, user, key))
    }

    /// Whether a principal that a trust policy names by ARN is known to be missing, because its account is ours and lacks it.
    pub(crate) fn lacks_principal(&self, arn: &str) -> bool {
        let Some((account, entity)) = arn.strip_prefix("arn:aws:iam::").and_then(|rest| rest.split_once(':')) else { return false };
        let Some(account) = self.accounts.get(account) else { return false };
        if let Some(role) = entity.strip_prefix("role/") {
            return role.rsplit('/').next().is_none_or(|name| !account.roles.contains_key(name));
        }
        if let Some(user) = entity.strip_prefix("user/") {
            return user.rsplit('/').next().is_none_or(|name| !account.users.contains_key(name));
        }
        entity != "root"
    }
}

impl Account {
    pub(crate) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    /// How many users, groups and roles carry the policy.
    pub(crate) fn attachments(&self, arn: &str) -> usize {
        let carries = |grants: &Grants| grants.attached.iter().any(|attached| attached == arn);
        self.users.values().filter(|user| carries(&user.grants)).count()
            + self.groups.values().filter(|group| carries(&group.grants)).count()
            + self.roles.values().filter(|role| carries(&role.grants)).count()
    }
}

impl User {
    pub(crate) fn arn(&self, account: &str) -> String {
        format!("arn:aws:iam::{account}:user{}{}", self.path, self.name)
    }
}

impl Group {
    pub(crate) fn arn(&self, account: &str) -> String {
        format!("arn:aws:iam::{account}:group{}{}", self.path, self.name)
    }
}

impl Role {
    pub(crate) fn arn(&self, account: &str) -> String {
        format!("arn:aws:iam::{account}:role{}{}", self.path, self.name)
    }
}

impl Managed {
    pub(crate) fn arn(&self, account: &str) -> String {
        format!("arn:aws:iam::{account}:policy{}{}", self.path, self.name)
    }
}

/// AWS's default quotas; they also keep the sandbox's memory bounded.
pub(crate) mod quota {
    pub(crate) const ACCOUNTS: usize = 100;
    pub(crate) const USERS: usize = 5000;
    pub(crate) const GROUPS: usize = 300;
    pub(crate) const ROLES: usize = 1000;
    pub(crate) const POLICIES: usize = 1500;
    pub(crate) const KEYS_PER_USER: usize = 2;
    pub(crate) const GROUPS_PER_USER: usize = 10;
    pub(crate) const ATTACHED: usize = 10;
    pub(crate) const TAGS: usize = 50;
    /// Characters without blanks, all inline policies of one together.
    pub(crate) const INLINE_USER: usize = 2048;
    pub(crate) const INLINE_GROUP: usize = 5120;
    pub(crate) const INLINE_ROLE: usize = 10_240;
    pub(crate) const TRUST: usize = 2048;
    pub(crate) const MANAGED: usize = 6144;
    /// OIDC providers in an account.
    pub(crate) const PROVIDERS: usize = 100;
    /// Audiences of an OIDC provider.
    pub(crate) const CLIENT_IDS: usize = 100;
}
