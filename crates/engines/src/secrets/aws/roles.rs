//! `roles` and `roles/<name>`.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use daypass_base::Brief;
use daypass_base::lenient::{CommaList, KvPairs};
use daypass_sdk::{Changes, CommitFailure, Cx, Endpoint, Error, Json, Keys, Operation, Reply, Result, Seconds};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::Aws;
use super::role::{CredentialType, Role};
use super::text::{compact_json, quoted};

/// Where roles are kept: this prefix and the name.
pub(super) const ROLES: &str = "roles/";
/// Two writers of one role at one moment are rare, three are a mistake.
const ATTEMPTS_MAX: usize = 4;
const LEGACY_WARNING: &str = "Detected use of legacy role or policy parameter. Please upgrade to use the new parameters.";

pub(super) fn endpoints() -> Vec<Endpoint<Aws>> {
    vec![
        Endpoint::at(["roles/?"]).summary("List the existing roles in this backend").help(LIST_HELP).on(Operation::List, list_roles),
        Endpoint::at(["roles/{name@}"])
            .summary("Read, write and reference IAM policies that access keys can be made for.")
            .help(HELP)
            .on(Operation::Read, read_role)
            .on(Operation::Update, write_role)
            .on(Operation::Delete, delete_role),
    ]
}

/// No fields.
#[derive(Deserialize, JsonSchema)]
struct Nothing {}

/// A role by its name.
#[derive(Deserialize, JsonSchema)]
struct Named {
    /// Name of the role. Example: `ecr-staging`.
    name: String,
}

/// The fields of a role. Those that are left out keep what is stored.
#[derive(Deserialize, JsonSchema)]
struct Fields {
    /// Name of the role. Example: `ecr-staging`.
    name: String,
    /// Kind of credential: `assumed_role`, `federation_token`, `session_token` or `iam_user`. Required for a new role.
    credential_type: Option<String>,
    /// ARNs of IAM roles that may be assumed. Only for `assumed_role`. Example: `arn:aws:iam::111111111111:role/ecr-staging`.
    role_arns: Option<CommaList>,
    /// ARNs of managed policies: attached to users, and session policies of STS credentials. Example:
    /// `arn:aws:iam::aws:policy/ReadOnlyAccess`.
    policy_arns: Option<CommaList>,
    /// IAM policy as JSON text: inline policy of users, session policy of STS credentials. Not for `session_token`. With `assumed_role`, texts
    /// in it may be templates, such as `{{ .Claims.repository }}`.
    policy_document: Option<String>,
    /// IAM groups: users join them; the policies of the groups become session policies of STS credentials. Example: `builders`.
    iam_groups: Option<CommaList>,
    /// Tags of IAM users. Example: `{"owner": "ops"}`.
    iam_tags: Option<KvPairs>,
    /// Tags of assumed-role sessions; values may be templates. Example: `{"repository": "{{ .Claims.repository }}"}`.
    session_tags: Option<KvPairs>,
    /// External id that the trust policy of the IAM role asks for. Example: `partner-7`.
    external_id: Option<String>,
    /// Lifetime of STS credentials that are asked for without `ttl`, in seconds or as a duration; 0 for 3600. Example: `15m`.
    default_sts_ttl: Option<Seconds>,
    /// Longest lifetime of STS credentials, in seconds or as a duration; 0 for the mount's. Example: `1h`.
    max_sts_ttl: Option<Seconds>,
    /// IAM path of users. Only for `iam_user`. Example: `/ci/`.
    user_path: Option<String>,
    /// ARN of the permissions boundary of users. Only for `iam_user`. Example: `arn:aws:iam::111111111111:policy/boundary`.
    permissions_boundary_arn: Option<String>,
    /// Serial number or ARN of the MFA device of the configured IAM user. Example: `arn:aws:iam::111111111111:mfa/ci`.
    mfa_serial_number: Option<String>,
    /// Template of session names, over what the caller's login proved. Only for `assumed_role`. Example:
    /// `{{ .Claims.repository | truncate 40 }}-{{ .Claims.run_id }}`.
    session_name: Option<String>,
    /// Callers may send `role_session_name` although `session_name` is set.
    allow_role_session_name: Option<bool>,
    /// Template of the source identity, which stays with a session through role chaining. Only for `assumed_role`. Example:
    /// `{{ .Claims.repository }}`.
    source_identity: Option<String>,
    /// Keys of `session_tags` that stay through role chaining. Example: `repository`.
    transitive_tag_keys: Option<CommaList>,
    /// IAM roles that callers may name in `role_arn`; `*` stands for any characters but `:` and `/`. Only for `assumed_role`. Example:
    /// `arn:aws:iam::*:role/ci-*`.
    role_arn_pattern: Option<String>,
    /// Accounts that `role_arn_pattern` is good for. Example: `111111111111,222222222222`.
    allowed_accounts: Option<CommaList>,
    /// IAM role that is assumed first, to assume the other one from there; sessions then last an hour at most. Only for `assumed_role`.
    /// Example: `arn:aws:iam::111111111111:role/hub`.
    via_role_arn: Option<String>,
    /// External id that the trust policy of `via_role_arn` asks for. Example: `partner-7`.
    via_external_id: Option<String>,
    /// For how long the same caller gets the same credential again, in seconds or as a duration; 0 for never. Only for `assumed_role`.
    /// Example: `2m`.
    reuse_window: Option<Seconds>,
    /// How long a credential that is given again must still last; 0 for half of its life. Example: `10m`.
    reuse_min_ttl: Option<Seconds>,
    /// All callers share what `reuse_window` keeps, as far as their templates come out the same.
    reuse_shared: Option<bool>,
    /// `revoke-sessions/<role>` may be used: it ends the sessions of the IAM role that began before.
    allow_revoke_sessions: Option<bool>,
    /// IAM role that puts the policy for that, where the IAM role is of another account than the server. Example:
    /// `arn:aws:iam::111111111111:role/session-revoker`.
    revoke_role_arn: Option<String>,
    /// Most credentials made in a minute; 0 for any number. Only for `assumed_role`. Example: `60`.
    limit_mints: Option<u64>,
    /// Most credentials that are live at one time; 0 for any number. Only for `assumed_role`. Example: `200`.
    limit_live: Option<u64>,
    /// A claim: limits count apart for each of its values. Example: `repository`.
    limit_by: Option<String>,
    /// Old form: a policy as JSON. Use `credential_type` and `policy_document`.
    policy: Option<String>,
    /// Old form: ARN of a role or a policy. Use `credential_type` with `role_arns` or `policy_arns`.
    arn: Option<String>,
}

async fn list_roles(_: Arc<Aws>, cx: Cx, _: Nothing) -> Result<Keys> {
    Ok(Keys(cx.list(ROLES).await?))
}

async fn read_role(_: Arc<Aws>, cx: Cx, params: Named) -> Result<Json<Value>> {
    let role: Role = cx.store.get_json(&key(&params.name)).await?.ok_or_else(Error::not_found)?;
    Ok(Json(role.shown()))
}

async fn delete_role(engine: Arc<Aws>, cx: Cx, params: Named) -> Result<()> {
    cx.store.delete(&key(&params.name)).await?;
    engine.kept.forget(&params.name);
    Ok(())
}

async fn write_role(engine: Arc<Aws>, cx: Cx, params: Fields) -> Result<Reply> {
    let key = key(&params.name);
    for _ in 0..ATTEMPTS_MAX {
        let read = cx.store.get(&key).await?;
        let stored: Role = match &read {
            Some(entry) => daypass_sdk::from_json(&key, &entry.value)?,
            None => Role::default(),
        };
        let (role, warnings) = params.applied_to(&cx, stored)?;
        let role = Role { generation: HEXLOWER.encode(&cx.entropy.bytes::<16>()), ..role };
        let changes = Changes::new().unchanged(&key, read.as_ref()).put_json(&key, &role)?;
        match cx.store.commit(changes).await {
            Ok(()) => {
                engine.kept.forget(&params.name);
                return Ok(warnings.into_iter().fold(Reply::nothing(), Reply::warn));
            }
            Err(CommitFailure::Conflict(_)) => {}
            Err(CommitFailure::Error(error)) => return Err(error),
        }
    }
    Err(CommitFailure::Conflict(0).into())
}

impl Fields {
    /// The stored role with these fields over it, checked, and what its writer should know.
    fn applied_to(&self, cx: &Cx, stored: Role) -> Result<(Role, Vec<String>)> {
        let (role, unknown, mut warnings) = if let Some(role) = self.legacy()? {
            (role, None, vec![LEGACY_WARNING.to_owned()])
        } else {
            let (role, unknown) = self.merged_into(stored)?;
            (role, unknown, Vec::new())
        };
        role.checked(cx, &self.name, unknown.as_deref())?;
        warnings.extend(role.remarks());
        Ok((role, warnings))
    }

    /// A role from the old fields. Errors: `BadRequest` where they meet new ones or are not understood; `Failed` where both are given.
    fn legacy(&self) -> Result<Option<Role>> {
        let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        let text = match (given(&self.policy), given(&self.arn)) {
            (Some(_), Some(_)) => return Err(Error::failed("only one of policy or arn should be provided")),
            (None, None) => return Ok(None),
            (Some(text), None) | (None, Some(text)) => text,
        };
        let clash = [
            ("an explicit credential_type", self.credential_type.is_some()),
            ("role_arns", self.role_arns.is_some()),
            ("policy_arns", self.policy_arns.is_some()),
            ("policy_document", self.policy_document.is_some()),
        ];
        if let Some((with, _)) = clash.into_iter().find(|(_, given)| *given) {
            return Err(Error::bad_request(format!("cannot supply deprecated role or policy parameters with {with}")));
        }
        match Role::from_legacy(&text) {
            Some(role) => Ok(Some(role)),
            None => Err(Error::bad_request(format!("unable to parse supplied data: {}", quoted(&Brief(&text).to_string())))),
        }
    }

    /// The stored role with the new fields over it, and a credential type that nobody knows.
    fn merged_into(&self, mut role: Role) -> Result<(Role, Option<String>)> {
        let mut unknown = None;
        if let Some(name) = &self.credential_type {
            let kind = CredentialType::named(name);
            if kind.is_none() {
                unknown = Some(name.clone());
            }
            role.credential_types = kind.into_iter().collect();
        }
        for (field, value) in [
            (&mut role.iam_role_arns, &self.role_arns),
            (&mut role.policy_arns, &self.policy_arns),
            (&mut role.iam_groups, &self.iam_groups),
            (&mut role.ours.transitive_tag_keys, &self.transitive_tag_keys),
            (&mut role.ours.allowed_accounts, &self.allowed_accounts),
        ] {
            if let Some(CommaList(list)) = value {
                field.clone_from(list);
            }
        }
        for (field, value) in [(&mut role.iam_tags, &self.iam_tags), (&mut role.session_tags, &self.session_tags)] {
            if let Some(KvPairs(pairs)) = value {
                field.clone_from(pairs);
            }
        }
        if let Some(text) = &self.policy_document {
            role.policy_document = match text.as_str() {
                "" => String::new(),
                text => compact_json(text)
                    .ok_or_else(|| Error::bad_request(format!("cannot parse policy document: {}", quoted(&Brief(text).to_string()))))?,
            };
        }
        for (field, value) in [
            (&mut role.external_id, &self.external_id),
            (&mut role.user_path, &self.user_path),
            (&mut role.permissions_boundary_arn, &self.permissions_boundary_arn),
            (&mut role.mfa_serial_number, &self.mfa_serial_number),
            (&mut role.ours.session_name, &self.session_name),
            (&mut role.ours.source_identity, &self.source_identity),
            (&mut role.ours.role_arn_pattern, &self.role_arn_pattern),
            (&mut role.ours.via_role_arn, &self.via_role_arn),
            (&mut role.ours.via_external_id, &self.via_external_id),
            (&mut role.ours.limit_by, &self.limit_by),
            (&mut role.ours.revoke_role_arn, &self.revoke_role_arn),
        ] {
            if let Some(text) = value {
                field.clone_from(text);
            }
        }
        for (field, value) in [
            (&mut role.default_sts_ttl, self.default_sts_ttl),
            (&mut role.max_sts_ttl, self.max_sts_ttl),
            (&mut role.ours.reuse_window, self.reuse_window),
            (&mut role.ours.reuse_min_ttl, self.reuse_min_ttl),
        ] {
            *field = value.unwrap_or(*field);
        }
        let ours = &mut role.ours;
        ours.allow_role_session_name = self.allow_role_session_name.unwrap_or(ours.allow_role_session_name);
        ours.reuse_shared = self.reuse_shared.unwrap_or(ours.reuse_shared);
        ours.allow_revoke_sessions = self.allow_revoke_sessions.unwrap_or(ours.allow_revoke_sessions);
        ours.limit_mints = self.limit_mints.unwrap_or(ours.limit_mints);
        ours.limit_live = self.limit_live.unwrap_or(ours.limit_live);
        role.legacy = false;
        Ok((role, unknown))
    }
}

pub(super) fn key(name: &str) -> String {
    format!("{ROLES}{name}")
}

const LIST_HELP: &str = "Roles are listed by name; what they hold is read from roles/<name>.";

const HELP: &str = "A role says what kind of AWS credential is given out and with which rights.

assumed_role gives sessions of the IAM roles in role_arns, narrowed by policy_document, policy_arns and the policies of iam_groups.
federation_token gives federated users with exactly those policies; it needs the keys of an IAM user in config/root.
session_token gives temporary credentials of that IAM user itself.
iam_user makes an IAM user for each lease.

session_name, session_tags, source_identity, policy_document and ARNs of an assumed_role may be templates: {{ .Claims.<name> }} is what the
caller's login proved. A template whose claim is missing gives no credential.

Writing changes only the fields that are sent. Credentials are then read from sts/<name> or creds/<name>.";
