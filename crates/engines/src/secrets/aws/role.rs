//! A role: what it holds, when it is valid, and what it grants. Nothing here does input or output.

use std::collections::BTreeMap;

use daypass_base::Brief;
use daypass_sdk::{Cx, Error, Result, Seconds};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::attribution::Attribution;
use super::ours::Ours;
use super::template::Template;
use super::text::{compact_json, errors, quoted};
use crate::secrets::arn::{self, Arn, boundary, is_account};

/// The kinds of credential that a role gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CredentialType {
    /// A session of an IAM role.
    AssumedRole,
    /// A federated user.
    FederationToken,
    /// An IAM user made for the lease.
    IamUser,
    /// Temporary credentials of the configured IAM user itself.
    SessionToken,
}

impl CredentialType {
    const ALL: [Self; 4] = [Self::AssumedRole, Self::FederationToken, Self::IamUser, Self::SessionToken];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AssumedRole => "assumed_role",
            Self::FederationToken => "federation_token",
            Self::IamUser => "iam_user",
            Self::SessionToken => "session_token",
        }
    }
}

/// A stored role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Role {
    /// One; two only in roles written with the legacy `policy`.
    pub(super) credential_types: Vec<CredentialType>,
    pub(super) iam_role_arns: Vec<String>,
    pub(super) policy_arns: Vec<String>,
    /// Compact JSON, or empty.
    pub(super) policy_document: String,
    pub(super) iam_groups: Vec<String>,
    pub(super) iam_tags: BTreeMap<String, String>,
    pub(super) session_tags: BTreeMap<String, String>,
    pub(super) external_id: String,
    pub(super) default_sts_ttl: Seconds,
    pub(super) max_sts_ttl: Seconds,
    pub(super) user_path: String,
    pub(super) permissions_boundary_arn: String,
    pub(super) mfa_serial_number: String,
    /// Written with the legacy fields: `creds/` and `sts/` are not the same for it.
    pub(super) legacy: bool,
    /// Drawn with each write: a role that was deleted and made again is another one, although its row counts from one again. Empty in rows
    /// of old.
    pub(super) generation: String,
    /// What Vault's roles do not have.
    pub(super) ours: Ours,
}

/// Where a credential was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// `creds/<role>`.
    Creds,
    /// `sts/<role>`.
    Sts,
}

/// AWS's floor for STS credentials; a role whose longest lifetime is below can never give one.
pub(super) const STS_TTL_MIN: Seconds = Seconds(900);
/// Lifetime when neither request nor role says one.
const STS_TTL_DEFAULT: Seconds = Seconds(3600);
/// Most entries of a list of a role.
const LIST_MAX: usize = 1000;
/// Most tags: AWS's limit for users and for sessions.
const TAGS_MAX: usize = 50;
/// Longest policy document, in bytes: ten times what AWS takes anywhere.
const POLICY_BYTES_MAX: usize = 64 * 1024;
/// What `user_path` must match, as Vault's text shows it.
const USER_PATH: &str = r"^\/([\x21-\x7F]{0,510}\/)?$";
/// Longest `user_path`: two slashes and 510 characters.
const USER_PATH_SIZE_MAX: usize = 512;

impl Role {
    /// A role from the legacy `policy` or `arn`, which replace everything else. `None`: neither JSON nor a known ARN.
    pub(super) fn from_legacy(text: &str) -> Option<Self> {
        let base = Self { legacy: true, ..Self::default() };
        if !text.starts_with("arn:") {
            let credential_types = vec![CredentialType::IamUser, CredentialType::FederationToken];
            return Some(Self { credential_types, policy_document: compact_json(text)?, ..base });
        }
        let arn = Arn::parse(text).ok()?;
        match arn.resource.split('/').next() {
            Some("role") => {
                Some(Self { credential_types: vec![CredentialType::AssumedRole], iam_role_arns: vec![text.to_owned()], ..base })
            }
            Some("policy") => Some(Self { credential_types: vec![CredentialType::IamUser], policy_arns: vec![text.to_owned()], ..base }),
            _ => None,
        }
    }

    /// Whether callers, not the role, say which IAM roles these are: it has templates or a pattern of some.
    pub(super) fn has_open_arns(&self) -> bool {
        !self.ours.role_arn_pattern.is_empty() || self.iam_role_arns.iter().any(|arn| arn.contains("{{"))
    }

    pub(super) fn is(&self, kind: CredentialType) -> bool {
        self.credential_types.contains(&kind)
    }

    /// Everything that is wrong, in Vault's words and order. `unknown` is a credential type that nobody knows.
    pub(super) fn problems(&self, unknown: Option<&str>) -> Vec<String> {
        let mut problems = Vec::new();
        match unknown {
            Some(name) => problems.push(format!("unrecognized credential type: {}", Brief(name))),
            None if self.credential_types.is_empty() => problems.push("did not supply credential_type".to_owned()),
            None => {}
        }
        let gives_sts = self.credential_types.iter().any(|kind| *kind != CredentialType::IamUser);
        for (field, ttl) in [("default_sts_ttl", self.default_sts_ttl), ("max_sts_ttl", self.max_sts_ttl)] {
            if !ttl.is_zero() && !gives_sts {
                let types = "assumed_role, federation_token, and session_token";
                problems.push(format!("{field} parameter only valid for {types} credential types"));
            }
        }
        if self.max_sts_ttl.set().is_some_and(|most| self.default_sts_ttl > most) {
            problems.push("\"default_sts_ttl\" value must be less than or equal to \"max_sts_ttl\" value".to_owned());
        }
        self.user_problems(&mut problems);
        if self.is(CredentialType::SessionToken) && !(self.policy_document.is_empty() && self.policy_arns.is_empty()) {
            problems.push("cannot supply a policy or role when using credential_type session_token".to_owned());
        }
        let for_assumed_role = [
            ("role_arns", self.iam_role_arns.is_empty()),
            ("session_tags", self.session_tags.is_empty()),
            ("external_id", self.external_id.is_empty()),
        ];
        for (field, empty) in for_assumed_role {
            if !empty && !self.is(CredentialType::AssumedRole) {
                problems.push(format!("cannot supply {field} when credential_type isn't assumed_role"));
            }
        }
        self.size_problems(&mut problems);
        problems
    }

    fn user_problems(&self, problems: &mut Vec<String>) {
        let is_user = self.is(CredentialType::IamUser);
        if !self.user_path.is_empty() {
            if !is_user {
                problems.push("user_path parameter only valid for iam_user credential type".to_owned());
            }
            if !is_user_path(&self.user_path) {
                problems.push(format!("the specified value for user_path is invalid. It must match {} regexp", quoted(USER_PATH)));
            }
        }
        if !self.permissions_boundary_arn.is_empty() {
            if !is_user {
                problems.push("cannot supply permissions_boundary_arn when credential_type isn't iam_user".to_owned());
            }
            if let Err(problem) = boundary(&self.permissions_boundary_arn) {
                problems.push(format!("invalid permissions_boundary_arn parameter: {problem}"));
            }
        }
    }

    fn size_problems(&self, problems: &mut Vec<String>) {
        for (field, list) in [("role_arns", &self.iam_role_arns), ("policy_arns", &self.policy_arns), ("iam_groups", &self.iam_groups)] {
            if list.len() > LIST_MAX {
                problems.push(format!("{field} has {} entries, over the limit of {LIST_MAX}", list.len()));
            }
        }
        for (field, tags) in [("iam_tags", &self.iam_tags), ("session_tags", &self.session_tags)] {
            if tags.len() > TAGS_MAX {
                problems.push(format!("{field} has {} tags, over AWS's limit of {TAGS_MAX}", tags.len()));
            }
        }
        if self.policy_document.len() > POLICY_BYTES_MAX {
            let length = self.policy_document.len();
            problems.push(format!("policy_document is {length} bytes long, over the limit of {POLICY_BYTES_MAX}"));
        }
    }

    /// Refuses a role that is not valid. Errors: `BadRequest` with all problems, Go-quoted as Vault does.
    pub(super) fn checked(&self, cx: &Cx, name: &str, unknown: Option<&str>) -> Result<()> {
        let mut problems = self.problems(unknown);
        problems.extend(Ours::problems(cx, name, self));
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::bad_request(format!("error(s) validating supplied role data: {}", quoted(&errors(&problems)))))
    }

    /// Remarks on a valid role that will not do what its writer hopes.
    pub(super) fn remarks(&self) -> Vec<String> {
        let too_short = |(field, ttl): (&str, Seconds)| {
            let useless = ttl.set().is_some_and(|ttl| ttl < STS_TTL_MIN);
            useless.then(|| format!("{field} {}s is under AWS's minimum of {}s: AWS refuses such requests", ttl.0, STS_TTL_MIN.0))
        };
        [("default_sts_ttl", self.default_sts_ttl), ("max_sts_ttl", self.max_sts_ttl)].into_iter().filter_map(too_short).collect()
    }

    /// What `GET roles/<name>` shows. Lists that are empty are null, as in Vault.
    pub(super) fn shown(&self) -> Value {
        let types: Vec<&str> = self.credential_types.iter().map(|kind| kind.name()).collect();
        let mut shown = json!({
            "credential_type": types.join(","),
            "policy_arns": or_null(&self.policy_arns, self.policy_arns.is_empty()),
            "role_arns": or_null(&self.iam_role_arns, self.iam_role_arns.is_empty()),
            "policy_document": self.policy_document,
            "iam_groups": or_null(&self.iam_groups, self.iam_groups.is_empty()),
            "iam_tags": or_null(&self.iam_tags, self.iam_tags.is_empty()),
            "session_tags": or_null(&self.session_tags, self.session_tags.is_empty()),
            "external_id": self.external_id,
            "default_sts_ttl": self.default_sts_ttl,
            "max_sts_ttl": self.max_sts_ttl,
            "user_path": self.user_path,
            "permissions_boundary_arn": self.permissions_boundary_arn,
            "mfa_serial_number": self.mfa_serial_number,
        });
        if let Value::Object(map) = &mut shown {
            self.ours.show(map);
        }
        shown
    }

    /// Which kind of credential this door gives. Errors: `BadRequest` where a legacy role has no such thing behind it.
    pub(super) fn kind_at(&self, door: Door) -> Result<CredentialType> {
        let kind = match (self.credential_types.as_slice(), door) {
            ([only], _) => *only,
            ([], _) => return Err(Error::failed("the stored role has no credential type; write it again")),
            (_, Door::Creds) => CredentialType::IamUser,
            (_, Door::Sts) => CredentialType::FederationToken,
        };
        let refused = match door {
            Door::Creds => kind != CredentialType::IamUser,
            Door::Sts => kind == CredentialType::IamUser,
        };
        if self.legacy && refused {
            let path = if door == Door::Creds { "creds" } else { "sts" };
            return Err(Error::bad_request(format!(
                "attempted to retrieve {} credentials through the {path} path; this is not allowed for legacy roles",
                kind.name()
            )));
        }
        Ok(kind)
    }

    /// How long a credential shall live: what is asked, else the role's default, else an hour; never longer than the role's
    /// maximum, else the mount's. As in Vault it is lowered without a word.
    pub(super) fn lifetime(&self, asked: Option<Seconds>, mount_max: Seconds) -> Seconds {
        let wanted = asked.or(self.default_sts_ttl.set()).unwrap_or(STS_TTL_DEFAULT);
        self.longest(mount_max).map_or(wanted, |most| wanted.min(most))
    }

    /// The longest lifetime of anything that the role gives; `None` without a limit.
    pub(super) fn longest(&self, mount_max: Seconds) -> Option<Seconds> {
        self.max_sts_ttl.set().or(mount_max.set())
    }

    /// The IAM role to assume. `asked` empty is "not given": Terraform always sends the field. Errors: `BadRequest`.
    pub(super) fn iam_role(&self, attribution: &Attribution<'_>, name: &str, asked: &str) -> Result<String> {
        if asked.is_empty() {
            return match self.iam_role_arns.as_slice() {
                [only] => attribution.arn("role_arns", only),
                _ => Err(Error::bad_request("did not supply a role_arn parameter and unable to determine one")),
            };
        }
        if self.iam_role_arns.iter().any(|arn| arn == asked) && !asked.contains("{{") {
            return Ok(asked.to_owned());
        }
        // A caller who does not prove what one of them needs may ask for another.
        let mut unfilled = None;
        for arn in self.iam_role_arns.iter().filter(|arn| arn.contains("{{")) {
            match attribution.arn("role_arns", arn) {
                Ok(arn) if arn == asked => return Ok(arn),
                Ok(_) => {}
                Err(error) => unfilled = unfilled.or(Some(error)),
            }
        }
        match attribution.arn("role_arn_pattern", &self.ours.role_arn_pattern) {
            Ok(pattern) if self.ours.covers(&pattern, asked) => return Ok(asked.to_owned()),
            Ok(_) => {}
            Err(error) => unfilled = unfilled.or(Some(error)),
        }
        Err(unfilled.unwrap_or_else(|| not_allowed(asked, name)))
    }
}

/// An IAM role whose sessions an operator means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meant {
    pub(super) arn: String,
    /// The daypass role has this very ARN. Any other one is the caller's: that it fits a template or a pattern does not say that IAM has such a role.
    pub(super) is_listed: bool,
}

impl Role {
    /// The IAM role whose sessions an operator means. The templates of the role are filled with what its callers prove, which an operator does
    /// not: each action in them stands for anything within its segment. Errors: `BadRequest`.
    pub(super) fn iam_role_of_any(&self, name: &str, asked: &str) -> Result<Meant> {
        let is_template = |arn: &String| arn.contains("{{");
        let listed = |arn: &str| Ok(Meant { arn: arn.to_owned(), is_listed: true });
        if asked.is_empty() {
            return match self.iam_role_arns.as_slice() {
                [only] if !is_template(only) => listed(only),
                _ => Err(Error::bad_request(format!(
                    "role {} has more than one IAM role, or templates or a pattern of some: say which one with role_arn",
                    quoted(name)
                ))),
            };
        }
        let is_role = arn::iam_role(asked).is_ok_and(|arn| is_account(arn.account)) && !asked.contains(['*', '{', '}']);
        let could_be = |template: &String| {
            let template = Template::parse(template).ok().filter(|template| !template.has_star());
            is_role && template.is_some_and(|template| arn::matches(&template.pattern(), asked))
        };
        if self.iam_role_arns.iter().any(|arn| arn == asked && !is_template(arn)) {
            return listed(asked);
        }
        let fits = self.iam_role_arns.iter().any(|arn| is_template(arn) && could_be(arn)) || (is_role && self.ours.could_cover(asked));
        if fits {
            return Ok(Meant { arn: asked.to_owned(), is_listed: false });
        }
        Err(not_allowed(asked, name))
    }
}

fn not_allowed(asked: &str, name: &str) -> Error {
    Error::bad_request(format!("role_arn {} not in allowed role arns for Vault role {}", quoted(&Brief(asked).to_string()), quoted(name)))
}

fn or_null(value: impl Serialize, empty: bool) -> Value {
    if empty { Value::Null } else { json!(value) }
}

fn is_user_path(path: &str) -> bool {
    let inner = path.bytes().all(|byte| (0x21..=0x7f).contains(&byte));
    inner && path.starts_with('/') && path.ends_with('/') && path.len() <= USER_PATH_SIZE_MAX
}
