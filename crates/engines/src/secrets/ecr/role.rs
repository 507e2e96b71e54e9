//! A role: whose registries, under which IAM role, and how long a login must last. Nothing here does input or output.

use std::collections::BTreeMap;

use daypass_aws::{AssumeRole, AuthorizationToken, Partition, Target};
use daypass_base::Brief;
use daypass_sdk::{Cx, Error, Result, Seconds};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::config_root::Config;
use crate::secrets::arn::{self, is_account};

/// A stored role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Role {
    /// Empty: no role is assumed.
    pub(super) role_arn: String,
    pub(super) external_id: String,
    pub(super) session_tags: BTreeMap<String, String>,
    /// Account numbers; empty for the asking account's own.
    pub(super) registries: Vec<String>,
    /// Empty for the mount's.
    pub(super) region: String,
    pub(super) public: bool,
    pub(super) min_ttl: Seconds,
}

impl Default for Role {
    fn default() -> Self {
        Self {
            role_arn: String::new(),
            external_id: String::new(),
            session_tags: BTreeMap::new(),
            registries: Vec::new(),
            region: String::new(),
            public: false,
            min_ttl: MIN_TTL_DEFAULT,
        }
    }
}

/// Everything that decides which login it will be: two that are equal may share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) target: Target,
    /// The IAM role to assume first.
    pub(super) assume: Option<AssumeRole>,
    region: Option<String>,
    endpoint: Option<String>,
    pub(super) registries: Vec<String>,
    public: bool,
}

impl Plan {
    /// What to ask ECR for, apart from who asks.
    pub(super) fn question(&self) -> AuthorizationToken {
        AuthorizationToken {
            session: None,
            region: self.region.clone(),
            endpoint: self.endpoint.clone(),
            registry_ids: self.registries.clone(),
            public: self.public,
        }
    }
}

impl Role {
    /// Decides what to ask AWS for.
    pub(super) fn plan(&self, cx: &Cx, name: &str, config: &Config) -> Plan {
        let set = |text: &String| (!text.is_empty()).then(|| text.clone());
        // STS of another partition does not know the role.
        let of_role = iam_role(&self.role_arn).ok().flatten().filter(|partition| *partition != Partition::Aws);
        let fallback = set(&self.region).or_else(|| of_role.map(|partition| partition.main_region().to_owned()));
        let assume = (!self.role_arn.is_empty()).then(|| AssumeRole {
            role_arn: self.role_arn.clone(),
            session_name: format!("{SESSION_PREFIX}{name}").chars().take(SESSION_NAME_MAX).collect(),
            duration: SESSION_TTL,
            external_id: set(&self.external_id),
            tags: self.session_tags.clone(),
            ..AssumeRole::default()
        });
        Plan {
            target: config.target(cx, fallback.as_deref()),
            assume,
            region: set(&self.region).or_else(|| set(&config.region)).or(fallback),
            endpoint: set(&config.ecr_endpoint),
            registries: self.registries.clone(),
            public: self.public,
        }
    }

    /// Refuses what cannot work. Errors: `BadRequest` with everything that is wrong.
    pub(super) fn checked(&self) -> Result<()> {
        let problems = self.problems();
        if problems.is_empty() { Ok(()) } else { Err(Error::bad_request(problems.join("; "))) }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let partition = match iam_role(&self.role_arn) {
            Ok(partition) => partition,
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        if !self.region.is_empty() && !is_region(&self.region) {
            problems.push(format!("region {:?} is no name of a region, such as eu-west-1", Brief(&self.region)));
        } else if let Some(partition) =
            partition.filter(|of_role| !self.region.is_empty() && *of_role != Partition::of_region(&self.region))
        {
            problems.push(format!("region {} is not in the partition {} of role_arn", self.region, partition.name()));
        }
        for (field, given) in [("external_id", !self.external_id.is_empty()), ("session_tags", !self.session_tags.is_empty())] {
            if given && self.role_arn.is_empty() {
                problems.push(format!("{field} is for the IAM role that is assumed: set role_arn too"));
            }
        }
        if !self.external_id.is_empty() && !(2..=EXTERNAL_ID_SIZE_MAX).contains(&self.external_id.len()) {
            problems.push(format!("external_id has {} characters: AWS takes 2 to {EXTERNAL_ID_SIZE_MAX}", self.external_id.len()));
        }
        if self.session_tags.len() > TAGS_MAX {
            problems.push(format!("session_tags has {} tags, over AWS's limit of {TAGS_MAX}", self.session_tags.len()));
        }
        if self.registries.len() > REGISTRIES_MAX {
            problems.push(format!("registries has {} accounts, over ECR's limit of {REGISTRIES_MAX}", self.registries.len()));
        }
        if let Some(wrong) = self.registries.iter().find(|id| !is_account(id)) {
            problems.push(format!("registries has {:?}: an AWS account number has 12 digits", Brief(wrong)));
        }
        if self.public && !self.registries.is_empty() {
            problems.push("registries is for private registries: ECR Public has one for all".to_owned());
        }
        if self.public && !(self.region.is_empty() || self.region == PUBLIC_REGION) {
            problems.push(format!("region {} has no ECR Public: its API is in {PUBLIC_REGION} alone", self.region));
        }
        if self.min_ttl > MIN_TTL_MAX {
            problems.push(format!("min_ttl {}s is over the limit of {}s: a login lives for 12 hours", self.min_ttl.0, MIN_TTL_MAX.0));
        }
        problems
    }

    /// What `GET roles/<name>` shows.
    pub(super) fn shown(&self) -> Value {
        json!({
            "role_arn": self.role_arn,
            "external_id": self.external_id,
            "session_tags": self.session_tags,
            "registries": self.registries,
            "region": self.region,
            "public": self.public,
            "min_ttl": self.min_ttl,
        })
    }
}

/// The partition of an IAM role's ARN; `None` without an ARN. Errors: what is wrong with it.
fn iam_role(arn: &str) -> Result<Option<Partition>, String> {
    if arn.is_empty() {
        return Ok(None);
    }
    let role = arn::iam_role(arn).ok().filter(|role| {
        role.region.is_empty()
            && is_account(role.account)
            && arn.len() <= ARN_SIZE_MAX
            && role.resource.bytes().all(|byte| byte.is_ascii_graphic())
    });
    let partition = Partition::named(arn.split(':').nth(1).unwrap_or_default());
    let arn = Brief(arn);
    match partition {
        Some(partition) if role.is_some() => Ok(Some(partition)),
        Some(_) => Err(format!("role_arn {arn:?} is no ARN of an IAM role, such as arn:aws:iam::111111111111:role/ecr-push")),
        None => Err(format!("role_arn {arn:?} names no partition of AWS, such as aws, aws-cn, aws-us-gov or aws-eusc")),
    }
}

/// Whether it looks like a region: it becomes part of a host's name.
pub(super) fn is_region(text: &str) -> bool {
    let inner = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    inner && text.len() <= 32 && text.contains('-') && !text.starts_with('-') && !text.ends_with('-')
}

/// How long a login that is handed out lasts at least, where the role does not say: builds log in once and push at their end, and none is to get less than it
/// was told of. An hour of sharing still takes in bursts.
const MIN_TTL_DEFAULT: Seconds = MIN_TTL_MAX;
/// A login lives for 12 hours: to ask for nearly all of it would mean a call for every read.
pub(super) const MIN_TTL_MAX: Seconds = Seconds(11 * 3600);
/// Lifetime of the session that asks ECR: what every IAM role allows, chained ones too.
const SESSION_TTL: Seconds = Seconds(3600);
/// What sessions are called, with the role's name behind it. One login serves many callers, so it names none: the audit log does.
const SESSION_PREFIX: &str = "daypass-ecr-";
const SESSION_NAME_MAX: usize = 64;
const EXTERNAL_ID_SIZE_MAX: usize = 1224;
const ARN_SIZE_MAX: usize = 2048;
const TAGS_MAX: usize = 50;
const REGISTRIES_MAX: usize = 10;
const PUBLIC_REGION: &str = "us-east-1";
