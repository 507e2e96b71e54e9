//! The world that a sandbox starts with: a description in JSON, checked and turned into `State`.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_base::{Entropy, Secret, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::discovery;
use crate::fault::Fault;
use crate::instances::InstanceSeed;
use crate::policy::{Document, Use};
use crate::seal::{IdKind, new_id};
use crate::state::{AccessKey, Account, Grants, Group, Managed, Mfa, Policy, Provider, Role, State, User, quota};
use crate::trust::is_account;

/// Accounts, users, roles and policies to start with.
///
/// ```
/// let world = daypass_sandbox::World::from_json(r#"{"accounts": [{"id": "111111111111"}]}"#).unwrap();
/// assert_eq!(world.accounts(), ["111111111111"]);
/// assert!(daypass_sandbox::World::default().accounts().contains(&"222222222222"));
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    #[serde(default = "default_region")]
    region: String,
    accounts: Vec<AccountSeed>,
    /// ARN of the role whose credentials the container endpoint gives out.
    #[serde(default)]
    task_role: Option<String>,
    /// ARN of the role whose credentials the instance metadata service gives out; `task_role` when absent.
    #[serde(default)]
    instance_role: Option<String>,
}

/// Why a world cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// Not JSON of the documented shape; the text says where.
    #[error("the world is no JSON of the known shape: {0}")]
    Shape(String),
    /// A value that AWS would not accept, and where it is.
    #[error("{place}: {problem}")]
    Value {
        /// Which account and which thing in it.
        place: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountSeed {
    id: String,
    #[serde(default)]
    alias: String,
    #[serde(default)]
    users: Vec<UserSeed>,
    #[serde(default)]
    groups: Vec<GroupSeed>,
    #[serde(default)]
    roles: Vec<RoleSeed>,
    #[serde(default)]
    policies: Vec<ManagedSeed>,
    #[serde(default)]
    oidc_providers: Vec<ProviderSeed>,
    #[serde(default)]
    instances: Vec<InstanceSeed>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserSeed {
    name: String,
    #[serde(default = "root_path")]
    path: String,
    #[serde(default)]
    keys: Vec<KeySeed>,
    #[serde(default)]
    policies: BTreeMap<String, Value>,
    #[serde(default)]
    attached: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    boundary: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    mfa: Vec<MfaSeed>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeySeed {
    id: String,
    secret: Secret<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct MfaSeed {
    serial: String,
    /// Base32, as authenticator programs take it.
    seed: Secret<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupSeed {
    name: String,
    #[serde(default = "root_path")]
    path: String,
    #[serde(default)]
    policies: BTreeMap<String, Value>,
    #[serde(default)]
    attached: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleSeed {
    name: String,
    #[serde(default = "root_path")]
    path: String,
    trust: Value,
    #[serde(default)]
    policies: BTreeMap<String, Value>,
    #[serde(default)]
    attached: Vec<String>,
    #[serde(default)]
    boundary: Option<String>,
    #[serde(default = "hour")]
    max_session_duration: i64,
    #[serde(default)]
    description: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManagedSeed {
    name: String,
    #[serde(default = "root_path")]
    path: String,
    document: Value,
}

/// An OIDC issuer that an account trusts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderSeed {
    /// The issuer, `https://…`, exactly as its tokens name it.
    pub url: String,
    /// Accepted audiences (AWS calls them client ids).
    pub audiences: Vec<String>,
    /// A JSON Web Key Set, `{"keys": [...]}`, with RSA or P-256 keys. Without it the keys are read from the issuer, which must be on this
    /// machine then: `http://127.0.0.1:8200/v1/identity/oidc/plugins`.
    #[serde(default)]
    pub jwks: Option<Value>,
}

impl World {
    /// Reads a description; the shape is that of `default_world.json` beside this file.
    pub fn from_json(text: &str) -> Result<Self, WorldError> {
        let world: Self = serde_json::from_str(text).map_err(|error| WorldError::Shape(error.to_string()))?;
        // Anything wrong shows now and not when the server starts; the state made here is thrown away.
        world.build(&NoEntropy, Timestamp::default(), 3600).map(|_state| world.clone())
    }

    /// The region of the credentials endpoints and of the environment given to clients.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The same world elsewhere.
    #[must_use]
    pub fn in_region(mut self, region: &str) -> Self {
        region.clone_into(&mut self.region);
        self
    }

    /// Ids of the accounts.
    pub fn accounts(&self) -> Vec<&str> {
        self.accounts.iter().map(|account| account.id.as_str()).collect()
    }

    /// ARN of the role behind the container credentials endpoint.
    pub fn task_role(&self) -> Option<&str> {
        self.task_role.as_deref()
    }

    /// ARN of the role behind the instance metadata service.
    pub fn instance_role(&self) -> Option<&str> {
        self.instance_role.as_deref().or(self.task_role.as_deref())
    }

    /// A few lines for a newcomer: what is in it and how to be one of its users. The fixed keys are shown: they open nothing but a sandbox.
    pub fn describe(&self) -> String {
        let mut lines = Vec::new();
        for account in &self.accounts {
            lines.push(format!("account {} ({})", account.id, if account.alias.is_empty() { "no alias" } else { &account.alias }));
            for role in &account.roles {
                let note =
                    if Some(role_arn(account, role).as_str()) == self.task_role() { ", given out by the container endpoint" } else { "" };
                lines.push(format!("  role   {} (sessions up to {} s{note})", role_arn(account, role), role.max_session_duration));
            }
            for user in &account.users {
                lines.push(format!("  user   {}", user.name));
                for key in &user.keys {
                    // Shown on purpose: a documented key of a fake.
                    lines.push(format!("           AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={}", key.id, key.secret.expose()));
                }
            }
            lines.extend(account.groups.iter().map(|group| format!("  group  {}", group.name)));
        }
        lines.join("\n")
    }

    pub(crate) fn build(&self, entropy: &dyn Entropy, now: Timestamp, session_max: i64) -> Result<State, WorldError> {
        let mut state = State::default();
        for (name, text) in AWS_POLICIES {
            let managed = managed(entropy, "aws", name, now, policy_text(&format!("policy {name}"), text, Use::Identity)?);
            state.aws_policies.insert(managed.arn("aws"), managed);
        }
        if self.accounts.len() > quota::ACCOUNTS {
            return Err(bad("accounts", format!("{} are more than {}", self.accounts.len(), quota::ACCOUNTS)));
        }
        for seed in &self.accounts {
            if !is_account(&seed.id) || state.accounts.contains_key(&seed.id) {
                return Err(bad(&format!("account {}", seed.id), "the id must be twelve digits and given once"));
            }
            let mut account = Account::new(&seed.id);
            Builder { entropy, now, account: &mut account, keys: &mut state.keys, session_max }.fill(seed)?;
            state.accounts.insert(seed.id.clone(), account);
        }
        for (what, arn) in [("task_role", self.task_role()), ("instance_role", self.instance_role())] {
            if let Some(arn) = arn.filter(|arn| state.role_by_arn(arn).is_none()) {
                return Err(bad(what, format!("{arn} is the ARN of no role in this world")));
            }
        }
        Ok(state)
    }
}

impl Default for World {
    /// Three accounts: tools (with the task role), staging and production. See `default_world.json`.
    fn default() -> Self {
        let empty = Self { region: default_region(), accounts: Vec::new(), task_role: None, instance_role: None };
        // A test loads the file, so the empty world never shows.
        serde_json::from_str(DEFAULT_WORLD).unwrap_or(empty)
    }
}

struct Builder<'a> {
    entropy: &'a dyn Entropy,
    now: Timestamp,
    account: &'a mut Account,
    keys: &'a mut std::collections::HashMap<String, (String, String)>,
    session_max: i64,
}

impl Builder<'_> {
    fn fill(&mut self, seed: &AccountSeed) -> Result<(), WorldError> {
        for policy in &seed.policies {
            let place = format!("account {}, policy {}", seed.id, policy.name);
            check_path(&place, &policy.path)?;
            let text = policy_text(&place, &policy.document.to_string(), Use::Identity)?;
            let mut managed = managed(self.entropy, &seed.id, &policy.name, self.now, text);
            policy.path.clone_into(&mut managed.path);
            self.account.policies.insert(managed.arn(&seed.id), managed);
        }
        for group in &seed.groups {
            self.group(&seed.id, group)?;
        }
        for role in &seed.roles {
            self.role(&seed.id, role)?;
        }
        for user in &seed.users {
            self.user(&seed.id, user)?;
        }
        for instance in &seed.instances {
            instance.check().map_err(|problem| bad(&format!("account {}", seed.id), problem))?;
            self.account.instances.insert(instance.id.clone(), instance.clone());
        }
        for provider in &seed.oidc_providers {
            let (name, provider) =
                provider.build().map_err(|problem| bad(&format!("account {}, oidc provider {}", seed.id, provider.url), problem))?;
            self.account.providers.insert(name, provider);
        }
        Ok(())
    }

    fn claim(&mut self, place: &str, kind: &str, name: &str) -> Result<(), WorldError> {
        if name.is_empty() || name.len() > 64 || !name.chars().all(crate::fault::name_character) {
            return Err(bad(place, "the name must be 1 to 64 of the characters A-Z a-z 0-9 _ + = , . @ -"));
        }
        if self.account.names.insert(format!("{kind}/{}", name.to_ascii_lowercase())) {
            Ok(())
        } else {
            Err(bad(place, "the name is given twice"))
        }
    }

    fn group(&mut self, account: &str, seed: &GroupSeed) -> Result<(), WorldError> {
        let place = format!("account {account}, group {}", seed.name);
        self.claim(&place, "group", &seed.name)?;
        check_path(&place, &seed.path)?;
        let grants = grants(&place, &seed.policies, &seed.attached)?;
        let id = new_id(self.entropy, IdKind::Group, account);
        let group = Group { name: seed.name.clone(), path: seed.path.clone(), id, created: self.now, grants };
        self.account.groups.insert(seed.name.clone(), group);
        Ok(())
    }

    fn role(&mut self, account: &str, seed: &RoleSeed) -> Result<(), WorldError> {
        let place = format!("account {account}, role {}", seed.name);
        self.claim(&place, "role", &seed.name)?;
        check_path(&place, &seed.path)?;
        if !(self.session_max..=43_200).contains(&seed.max_session_duration) {
            return Err(bad(
                &place,
                format!("max_session_duration {} is outside {} to 43200 seconds", seed.max_session_duration, self.session_max),
            ));
        }
        let role = Role {
            name: seed.name.clone(),
            path: seed.path.clone(),
            id: new_id(self.entropy, IdKind::Role, account),
            created: self.now,
            trust: policy_text(&format!("{place}, trust"), &seed.trust.to_string(), Use::Trust)?,
            grants: grants(&place, &seed.policies, &seed.attached)?,
            boundary: seed.boundary.clone(),
            max_session: seed.max_session_duration,
            description: seed.description.clone(),
            tags: seed.tags.clone(),
        };
        self.account.roles.insert(seed.name.clone(), role);
        Ok(())
    }

    fn user(&mut self, account: &str, seed: &UserSeed) -> Result<(), WorldError> {
        let place = format!("account {account}, user {}", seed.name);
        self.claim(&place, "user", &seed.name)?;
        check_path(&place, &seed.path)?;
        let mut keys = Vec::new();
        for key in &seed.keys {
            let well_formed =
                (16..=128).contains(&key.id.len()) && key.id.bytes().all(|byte| byte.is_ascii_alphanumeric()) && key.id.starts_with("AKIA");
            if !well_formed
                || keys.len() >= quota::KEYS_PER_USER
                || self.keys.insert(key.id.clone(), (account.to_owned(), seed.name.clone())).is_some()
            {
                return Err(bad(
                    &place,
                    format!("access key id {:?}: it must be AKIA and capitals or digits, unique, and at most two for one user", key.id),
                ));
            }
            keys.push(AccessKey { id: key.id.clone(), secret: key.secret.clone(), active: true, created: self.now, usable_from: self.now });
        }
        let mut mfa = Vec::new();
        for device in &seed.mfa {
            // The seed goes into the device, to check codes with.
            let seed = data_encoding::BASE32_NOPAD
                .decode(device.seed.expose().trim_end_matches('=').as_bytes())
                .map_err(|error| bad(&place, format!("the seed of MFA device {} is no base32: {error}", device.serial)))?;
            mfa.push(Mfa { serial: device.serial.clone(), seed: Secret::new(seed), enabled: self.now });
        }
        if let Some(group) = seed.groups.iter().find(|group| !self.account.groups.contains_key(*group)) {
            return Err(bad(&place, format!("group {group} is not in the account")));
        }
        let user = User {
            name: seed.name.clone(),
            path: seed.path.clone(),
            id: new_id(self.entropy, IdKind::User, account),
            created: self.now,
            keys,
            grants: grants(&place, &seed.policies, &seed.attached)?,
            boundary: seed.boundary.clone(),
            groups: seed.groups.clone(),
            tags: seed.tags.clone(),
            mfa,
            login_profile: None,
        };
        self.account.users.insert(seed.name.clone(), user);
        Ok(())
    }
}

impl ProviderSeed {
    /// The name without the scheme, and the provider.
    pub(crate) fn build(&self) -> Result<(String, Provider), String> {
        let name = self
            .url
            .strip_prefix("https://")
            .or_else(|| self.url.strip_prefix("http://"))
            .ok_or_else(|| format!("url {:?} must begin with https://", self.url))?;
        if self.audiences.len() > quota::CLIENT_IDS {
            return Err(format!("at most {} audiences", quota::CLIENT_IDS));
        }
        let (keys, fixed) = match &self.jwks {
            Some(jwks) => {
                let set: discovery::KeySet =
                    serde_json::from_value(jwks.clone()).map_err(|error| format!("jwks is no JSON Web Key Set: {error}"))?;
                (set.verifying()?, true)
            }
            None if discovery::is_reachable(&self.url) => (Vec::new(), false),
            None => return Err("jwks is missing: keys are read only from an issuer at http:// on this machine".to_owned()),
        };
        let provider = Provider { issuer: self.url.clone(), audiences: self.audiences.clone(), keys, fixed };
        Ok((name.trim_end_matches('/').to_owned(), provider))
    }
}

fn managed(entropy: &dyn Entropy, account: &str, name: &str, created: Timestamp, policy: Arc<Policy>) -> Managed {
    // `service-role/X` names a policy at the path `/service-role/`.
    let (path, name) = name.rsplit_once('/').map_or(("/".to_owned(), name), |(path, name)| (format!("/{path}/"), name));
    Managed { name: name.to_owned(), path, id: new_id(entropy, IdKind::ManagedPolicy, account), created, policy }
}

fn grants(place: &str, inline: &BTreeMap<String, Value>, attached: &[String]) -> Result<Grants, WorldError> {
    let inline = inline
        .iter()
        .map(|(name, document)| Ok((name.clone(), policy_text(&format!("{place}, policy {name}"), &document.to_string(), Use::Identity)?)))
        .collect::<Result<_, _>>()?;
    Ok(Grants { inline, attached: attached.to_vec() })
}

fn policy_text(place: &str, text: &str, used: Use) -> Result<Arc<Policy>, WorldError> {
    let document = Document::parse(text, used).map_err(|Fault { message, .. }| bad(place, message))?;
    Ok(Arc::new(Policy { text: text.to_owned(), document }))
}

fn check_path(place: &str, path: &str) -> Result<(), WorldError> {
    if crate::iam::is_path(path) { Ok(()) } else { Err(bad(place, format!("path {path:?} must begin and end with a slash"))) }
}

fn role_arn(account: &AccountSeed, role: &RoleSeed) -> String {
    format!("arn:aws:iam::{}:role{}{}", account.id, role.path, role.name)
}

fn bad(place: &str, problem: impl Into<String>) -> WorldError {
    WorldError::Value { place: place.to_owned(), problem: problem.into() }
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

fn root_path() -> String {
    "/".to_owned()
}

fn hour() -> i64 {
    3600
}

/// For the trial run of `from_json`, whose ids nobody sees.
struct NoEntropy;

impl Entropy for NoEntropy {
    fn fill(&self, out: &mut [u8]) {
        out.fill(0);
    }
}

const DEFAULT_WORLD: &str = include_str!("default_world.json");

/// The policies of AWS that pipelines use, cut down to what matters to the services played here.
const AWS_POLICIES: [(&str, &str); 9] = [
    ("AdministratorAccess", r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#),
    (
        "AmazonEC2ContainerRegistryFullAccess",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ecr:*","cloudtrail:LookupEvents"],"Resource":"*"}]}"#,
    ),
    (
        "AmazonEC2ContainerRegistryPowerUser",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ecr:GetAuthorizationToken","ecr:BatchCheckLayerAvailability","ecr:GetDownloadUrlForLayer","ecr:GetRepositoryPolicy","ecr:DescribeRepositories","ecr:ListImages","ecr:DescribeImages","ecr:BatchGetImage","ecr:InitiateLayerUpload","ecr:UploadLayerPart","ecr:CompleteLayerUpload","ecr:PutImage"],"Resource":"*"}]}"#,
    ),
    (
        "AmazonEC2ContainerRegistryReadOnly",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ecr:GetAuthorizationToken","ecr:BatchCheckLayerAvailability","ecr:GetDownloadUrlForLayer","ecr:DescribeRepositories","ecr:ListImages","ecr:DescribeImages","ecr:BatchGetImage"],"Resource":"*"}]}"#,
    ),
    (
        "AmazonS3ReadOnlyAccess",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:Get*","s3:List*"],"Resource":"*"}]}"#,
    ),
    ("IAMFullAccess", r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*"}]}"#),
    (
        "IAMReadOnlyAccess",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:Get*","iam:List*","iam:Simulate*"],"Resource":"*"}]}"#,
    ),
    (
        "PowerUserAccess",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotAction":["iam:*","organizations:*","account:*"],"Resource":"*"}]}"#,
    ),
    (
        "ReadOnlyAccess",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ecr:Batch*","ecr:Describe*","ecr:Get*","ecr:List*","iam:Get*","iam:List*","s3:Get*","s3:List*","sts:GetCallerIdentity"],"Resource":"*"}]}"#,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_world_is_loadable_and_described() {
        let world = World::from_json(DEFAULT_WORLD).unwrap();
        assert_eq!(world.accounts(), ["999999999999", "111111111111", "222222222222"]);
        assert_eq!(world.task_role(), Some("arn:aws:iam::999999999999:role/jenkins-task"));
        let text = world.describe();
        for part in ["ecr-staging", "ecr-production", "locked", "daypass-root", "AKIADAYPASSSANDBOX22", "deployers"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        for key in world.accounts.iter().flat_map(|account| &account.users).flat_map(|user| &user.keys) {
            assert_eq!((key.id.len(), key.secret.expose().len()), (20, 40));
        }
    }

    #[test]
    fn recorded_world_is_loadable() {
        let world = World::from_json(include_str!("../worlds/recorded.json")).unwrap();
        assert_eq!(world.accounts(), ["123456789012"]);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, part) in [
            ("{", "EOF"),
            (r#"{"accounts":[{"id":"1"}]}"#, "account 1: the id must be twelve digits"),
            (r#"{"accounts":[{"id":"111111111111","rolls":[]}]}"#, "unknown field `rolls`"),
            (
                r#"{"accounts":[{"id":"111111111111","roles":[{"name":"a","trust":{"Statement":[]},"max_session_duration":60}]}]}"#,
                "role a: max_session_duration 60",
            ),
            (r#"{"accounts":[{"id":"111111111111","roles":[{"name":"a","trust":{}}]}]}"#, "role a, trust: Syntax errors"),
            (r#"{"accounts":[{"id":"111111111111","users":[{"name":"u","keys":[{"id":"x","secret":"y"}]}]}]}"#, "access key id \"x\""),
            (r#"{"accounts":[],"task_role":"arn:aws:iam::1:role/x"}"#, "is the ARN of no role"),
        ] {
            let error = World::from_json(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
