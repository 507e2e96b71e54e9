//! What a role may say beyond Vault's fields: whom a session is for, which IAM roles a pattern covers, which role is taken on the way, how
//! long a credential is handed out again, and how many there may be.

use daypass_base::Brief;
use daypass_sdk::{Cx, Seconds};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::attribution::Attribution;
use super::reuse::WINDOW_MAX;
use super::role::{CredentialType, Role};
use super::template::{Template, pattern_of};
use crate::secrets::arn::{self, is_account};

/// AWS's limit for sessions of a role that was assumed by a session of another role.
pub(super) const CHAINED_TTL_MAX: Seconds = Seconds(3600);
/// Most accounts of a role.
const ACCOUNTS_MAX: usize = 1000;
/// Highest limit that a role can set; more would be no limit.
const LIMIT_MAX: u64 = 100_000;

/// The fields that Vault's roles do not have. They are kept, and shown, only where they are set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ours {
    /// Template of session names.
    pub(super) session_name: String,
    /// The caller may name its session although `session_name` is set.
    pub(super) allow_role_session_name: bool,
    /// Template of source identities.
    pub(super) source_identity: String,
    /// Keys of session tags that stay through role chaining.
    pub(super) transitive_tag_keys: Vec<String>,
    /// IAM roles that may be assumed, `*` for any name within a segment.
    pub(super) role_arn_pattern: String,
    /// Accounts that the pattern is good for.
    pub(super) allowed_accounts: Vec<String>,
    /// IAM role that is assumed first.
    pub(super) via_role_arn: String,
    /// External id that the trust policy of that one asks for.
    pub(super) via_external_id: String,
    /// For how long a credential is handed out again.
    pub(super) reuse_window: Seconds,
    /// How long it must still be good for then.
    pub(super) reuse_min_ttl: Seconds,
    /// To all callers alike, not only to the one that caused it.
    pub(super) reuse_shared: bool,
    /// `revoke-sessions` may be used.
    pub(super) allow_revoke_sessions: bool,
    /// IAM role of the other account that puts the policy there.
    pub(super) revoke_role_arn: String,
    /// Credentials made in a minute.
    pub(super) limit_mints: u64,
    /// Credentials that are good at one time.
    pub(super) limit_live: u64,
    /// Limits count apart for each value of this claim.
    pub(super) limit_by: String,
}

impl Ours {
    /// Inserts what is set.
    pub(super) fn show(&self, shown: &mut Map<String, Value>) {
        let Ok(Value::Object(all)) = serde_json::to_value(self) else { return };
        let set = |value: &Value| *value != json!("") && *value != json!(0) && *value != json!(false) && *value != json!([]);
        shown.extend(all.into_iter().filter(|(_, value)| set(value)));
    }

    /// Everything that is wrong with these fields and the templates of the role.
    pub(super) fn problems(cx: &Cx, role_name: &str, role: &Role) -> Vec<String> {
        let ours = &role.ours;
        let mut problems = ours.misplaced(role);
        if !ours.reuse_window.is_zero() {
            problems.extend(Self::fickle(role));
        }
        problems.extend(Attribution::sample(cx, role_name).problems(role));
        ours.arn_problems(role, &mut problems);
        ours.limit_problems(&mut problems);
        for key in ours.transitive_tag_keys.iter().filter(|key| !role.session_tags.contains_key(*key)) {
            problems.push(format!("transitive_tag_keys names {:?}, which is none of the keys of session_tags", Brief(key)));
        }
        if !ours.via_role_arn.is_empty() {
            for (field, ttl) in [("default_sts_ttl", role.default_sts_ttl), ("max_sts_ttl", role.max_sts_ttl)] {
                if ttl > CHAINED_TTL_MAX {
                    problems.push(format!(
                        "{field} {}s is over {}s: AWS gives sessions that go through another role (via_role_arn) one hour at most",
                        ttl.0, CHAINED_TTL_MAX.0
                    ));
                }
            }
        }
        problems
    }

    /// Why nothing could be handed out again: a template that gives something else each time.
    pub(super) fn fickle(role: &Role) -> Option<String> {
        let ours = &role.ours;
        let fields =
            [("session_name", &ours.session_name), ("source_identity", &ours.source_identity), ("policy_document", &role.policy_document)];
        let tags = role.session_tags.values().map(|tag| ("session_tags", tag));
        let arns = role.iam_role_arns.iter().map(|arn| ("role_arns", arn));
        fields.into_iter().chain(tags).chain(arns).filter(|(_, text)| text.contains("{{")).find_map(|(field, text)| {
            let function = Template::parse(text).ok()?.fickle()?;
            Some(format!(
                "{field} has {function}, which gives something else each time, so that reuse_window could hand out nothing again: leave one of \
                 them out"
            ))
        })
    }

    /// Fields that mean nothing for the credential type.
    fn misplaced(&self, role: &Role) -> Vec<String> {
        if role.is(CredentialType::AssumedRole) {
            return Vec::new();
        }
        let for_assumed_role = [
            ("session_name", !self.session_name.is_empty()),
            ("source_identity", !self.source_identity.is_empty()),
            ("transitive_tag_keys", !self.transitive_tag_keys.is_empty()),
            ("role_arn_pattern", !self.role_arn_pattern.is_empty()),
            ("allowed_accounts", !self.allowed_accounts.is_empty()),
            ("via_role_arn", !self.via_role_arn.is_empty()),
            ("allow_revoke_sessions", self.allow_revoke_sessions),
            ("reuse_window", !self.reuse_window.is_zero()),
            ("limit_mints", self.limit_mints != 0),
            ("limit_live", self.limit_live != 0),
        ];
        let set = for_assumed_role.into_iter().filter(|(_, set)| *set);
        set.map(|(field, _)| format!("cannot supply {field} when credential_type isn't assumed_role")).collect()
    }

    fn arn_problems(&self, role: &Role, problems: &mut Vec<String>) {
        // Vault takes any text here, and clients rely on it; what claims to be an ARN has to be one of an IAM role.
        for text in role.iam_role_arns.iter().filter(|text| text.starts_with("arn:") && !text.contains("{{")) {
            if let Err(problem) = arn::iam_role(text) {
                problems.push(format!("role_arns has {:?}: {problem}", Brief(text)));
            }
        }
        for (field, arn) in [("via_role_arn", &self.via_role_arn), ("revoke_role_arn", &self.revoke_role_arn)] {
            if let (false, Err(problem)) = (arn.is_empty(), arn::iam_role(arn)) {
                problems.push(format!("{field} {:?}: {problem}", Brief(arn)));
            }
        }
        if self.via_role_arn.is_empty() && !self.via_external_id.is_empty() {
            problems.push("via_external_id means nothing without via_role_arn".to_owned());
        }
        if self.allowed_accounts.len() > ACCOUNTS_MAX {
            problems.push(format!("allowed_accounts has {} entries, over the limit of {ACCOUNTS_MAX}", self.allowed_accounts.len()));
        }
        for account in self.allowed_accounts.iter().filter(|account| !is_account(account)) {
            problems.push(format!("allowed_accounts has {:?}, which is no account number of twelve digits", Brief(account)));
        }
        self.pattern_problems(problems);
    }

    fn pattern_problems(&self, problems: &mut Vec<String>) {
        if self.role_arn_pattern.is_empty() {
            if !self.allowed_accounts.is_empty() {
                problems.push("allowed_accounts means nothing without role_arn_pattern".to_owned());
            }
            return;
        }
        match arn::iam_role(&self.role_arn_pattern) {
            Err(problem) => problems.push(format!("role_arn_pattern {:?}: {problem}", Brief(&self.role_arn_pattern))),
            Ok(arn) if !is_account(arn.account) && self.allowed_accounts.is_empty() => problems.push(format!(
                "role_arn_pattern {:?} does not say which account: name the accounts it is good for in allowed_accounts",
                Brief(&self.role_arn_pattern)
            )),
            Ok(_) => {}
        }
    }

    fn limit_problems(&self, problems: &mut Vec<String>) {
        for (field, limit) in [("limit_mints", self.limit_mints), ("limit_live", self.limit_live)] {
            if limit > LIMIT_MAX {
                problems.push(format!("{field} {limit} is over the highest limit of {LIMIT_MAX}"));
            }
        }
        if !self.limit_by.is_empty() && self.limit_mints == 0 && self.limit_live == 0 {
            problems.push("limit_by means nothing without limit_mints or limit_live".to_owned());
        }
        if self.reuse_window > WINDOW_MAX {
            problems.push(format!("reuse_window {}s is over the longest of {}s", self.reuse_window.0, WINDOW_MAX.0));
        }
        if self.reuse_window.is_zero() && (self.reuse_shared || !self.reuse_min_ttl.is_zero()) {
            problems.push("reuse_shared and reuse_min_ttl mean nothing without reuse_window".to_owned());
        }
    }

    /// Whether the pattern covers an IAM role for any caller: each action of a template stands for anything within its segment.
    pub(super) fn could_cover(&self, asked: &str) -> bool {
        self.covers(&pattern_of(&self.role_arn_pattern), asked)
    }

    /// Whether the pattern covers an IAM role. `pattern` has its templates filled.
    pub(super) fn covers(&self, pattern: &str, asked: &str) -> bool {
        let Ok(arn) = arn::iam_role(asked) else { return false };
        let account_fits = self.allowed_accounts.is_empty() || self.allowed_accounts.iter().any(|account| account == arn.account);
        !pattern.is_empty() && is_account(arn.account) && account_fits && arn::matches(pattern, asked)
    }
}
