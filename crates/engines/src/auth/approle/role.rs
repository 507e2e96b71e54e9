//! A stored role, and every decision about it: pure.

use daypass_base::Brief;
use daypass_base::lenient::CommaList;
use daypass_sdk::{Cx, Error, Result, Seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::trimmed;
use crate::auth::cidr::Network;
use crate::auth::token_fields::{NETWORKS_MAX, TokenFields, TokenParams, With, older_name};

/// A role.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent settings, as Vault's API has them")]
#[expect(clippy::struct_field_names, reason = "role_id is Vault's word for it")]
pub(super) struct Role {
    pub(super) role_id: String,
    /// What the rows of its secret ids are named by: another one for each making of the role.
    pub(super) generation: String,
    pub(super) bind_secret_id: bool,
    pub(super) secret_id_bound_cidrs: Vec<String>,
    /// Uses of a new secret id; 0 for any number.
    pub(super) secret_id_num_uses: i64,
    /// Lifetime of a new secret id; 0 for ever.
    pub(super) secret_id_ttl: Seconds,
    pub(super) local_secret_ids: bool,
    pub(super) token: TokenFields,
    /// The older names `policies` and `period` were used, and are shown again.
    pub(super) older_policies: bool,
    pub(super) older_period: bool,
}

/// A role's own fields as a request names them; what is absent stays as it is.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RoleParams {
    /// Name of the role; case does not matter.
    pub(super) role_name: String,
    /// Logins need a secret id. Without it the role needs another constraint.
    pub(super) bind_secret_id: Option<bool>,
    /// Networks in CIDR form that may log in; empty for all.
    pub(super) secret_id_bound_cidrs: Option<CommaList>,
    /// Older name of `secret_id_bound_cidrs`.
    pub(super) bound_cidr_list: Option<CommaList>,
    /// Logins that a secret id is good for; 0 for any number.
    pub(super) secret_id_num_uses: Option<i64>,
    /// How long a secret id can be used; 0 for ever.
    pub(super) secret_id_ttl: Option<Seconds>,
    /// Secret ids belong to this cluster alone. Only a new role can be given this.
    pub(super) local_secret_ids: Option<bool>,
    /// The role id; by default a random one is made.
    pub(super) role_id: Option<String>,
    /// Older name of `token_policies`.
    pub(super) policies: Option<CommaList>,
    /// Older name of `token_period`.
    pub(super) period: Option<Seconds>,
}

impl Role {
    /// A role with the defaults and random ids.
    pub(super) fn new(cx: &Cx) -> Self {
        Self {
            role_id: uuid(cx),
            generation: uuid(cx),
            bind_secret_id: true,
            secret_id_bound_cidrs: Vec::new(),
            secret_id_num_uses: 0,
            secret_id_ttl: Seconds::ZERO,
            local_secret_ids: false,
            token: TokenFields::default(),
            older_policies: false,
            older_period: false,
        }
    }

    /// Takes what a request names. Errors: `BadRequest`; `Failed` where Vault answers so.
    pub(super) fn apply(&mut self, params: &With<RoleParams>) -> Result<()> {
        let With { own, token } = params;
        if let Some(uses) = own.secret_id_num_uses {
            if uses < 0 {
                return Err(Error::bad_request("secret_id_num_uses cannot be negative"));
            }
            self.secret_id_num_uses = uses;
        }
        self.bind_secret_id = own.bind_secret_id.unwrap_or(self.bind_secret_id);
        self.secret_id_ttl = own.secret_id_ttl.unwrap_or(self.secret_id_ttl);
        if let Some(id) = &own.role_id {
            self.role_id = checked_id("role_id", id)?;
        }
        if self.role_id.is_empty() {
            return Err(Error::bad_request("invalid role_id supplied, or failed to generate a role_id"));
        }
        self.apply_token(own, token)?;
        if let Some(networks) = own.secret_id_bound_cidrs.as_ref().or(own.bound_cidr_list.as_ref()) {
            self.secret_id_bound_cidrs = networks_of("CIDR blocks", &networks.0)?;
        }
        self.check()
    }

    /// The token fields with their older names.
    fn apply_token(&mut self, own: &RoleParams, token: &TokenParams) -> Result<()> {
        let mut token = token.clone();
        token.token_policies = older_name(token.token_policies, own.policies.clone(), &mut self.older_policies);
        token.token_period = older_name(token.token_period, own.period, &mut self.older_period);
        self.token.apply(token)
    }

    /// Errors: `Failed` for a role that lets everybody in.
    pub(super) fn check(&self) -> Result<()> {
        if !self.bind_secret_id && self.secret_id_bound_cidrs.is_empty() && self.token.bound_cidrs.is_empty() {
            return Err(Error::failed("at least one constraint should be enabled on the role"));
        }
        Ok(())
    }

    /// As a read shows it. The role id is not part of it.
    pub(super) fn shown(&self) -> Map<String, Value> {
        let mut out = Map::new();
        self.token.show(&mut out);
        let own = [
            ("bind_secret_id", json!(self.bind_secret_id)),
            ("local_secret_ids", json!(self.local_secret_ids)),
            ("secret_id_bound_cidrs", null_if_empty(&self.secret_id_bound_cidrs)),
            ("secret_id_num_uses", json!(self.secret_id_num_uses)),
            ("secret_id_ttl", json!(self.secret_id_ttl)),
        ];
        let older =
            [("policies", self.older_policies, json!(self.token.policies)), ("period", self.older_period, json!(self.token.period))];
        let older = older.into_iter().filter(|(_, used, _)| *used).map(|(name, _, value)| (name, value));
        out.extend(own.into_iter().chain(older).map(|(name, value)| (name.to_owned(), value)));
        out
    }
}

/// Reads networks in CIDR form, which stay as they are written. Errors: `Failed` with the first that is none, and what these `blocks` are.
pub(super) fn networks_of(blocks: &str, texts: &[String]) -> Result<Vec<String>> {
    if texts.len() > NETWORKS_MAX {
        return Err(Error::bad_request(format!("{} networks are given; at most {NETWORKS_MAX} are allowed", texts.len())));
    }
    match texts.iter().find(|text| Network::parse(text).is_none()) {
        Some(bad) => Err(Error::failed(format!("failed to validate {blocks}: invalid CIDR address: {}", Brief(bad)))),
        None => Ok(texts.to_vec()),
    }
}

/// A role id or secret id of the caller's choice. Errors: `BadRequest` over the limit.
pub(super) fn checked_id(field: &str, id: &str) -> Result<String> {
    let id = trimmed(id);
    if id.len() > ID_BYTES_MAX {
        return Err(Error::bad_request(format!("{field} is {} bytes long; at most {ID_BYTES_MAX} are allowed", id.len())));
    }
    Ok(id.to_owned())
}

/// A role's name as it is stored. Errors: `BadRequest` over the limit.
pub(super) fn name_of(name: &str) -> Result<String> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::bad_request(format!("role_name is longer than maximum of {NAME_BYTES_MAX} bytes")));
    }
    Ok(name.to_lowercase())
}

pub(super) fn null_if_empty(list: &[String]) -> Value {
    if list.is_empty() { Value::Null } else { json!(list) }
}

/// A random UUID.
pub(super) fn uuid(cx: &Cx) -> String {
    uuid::Builder::from_random_bytes(cx.entropy.bytes::<16>()).into_uuid().to_string()
}

const ID_BYTES_MAX: usize = 4096;
/// Vault's limit is 4096; the store's keys hold that with the mount's own part in front.
const NAME_BYTES_MAX: usize = 3500;
