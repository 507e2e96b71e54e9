//! A stored role, and every decision about it: pure.

use daypass_base::Brief;
use daypass_base::lenient::CommaList;
use daypass_idp::kubernetes::Account;
use daypass_sdk::{Error, Result, Seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::selector::Selector;
use crate::auth::glob::glob;
use crate::auth::token_fields::{OlderNames, OlderParams, TokenFields, With};

/// A role.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Role {
    bound_service_account_names: Vec<String>,
    bound_service_account_namespaces: Vec<String>,
    pub(super) bound_service_account_namespace_selector: String,
    pub(super) audience: String,
    alias_by_name: bool,
    pub(super) token: TokenFields,
    /// The older names of token fields that were used, and are shown again.
    older: OlderNames,
}

/// A role's own fields as a request names them; what is absent stays as it is.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RoleParams {
    /// Name of the role; case does not matter. Example: `ci`.
    pub(super) name: String,
    /// Service accounts that may log in. A star stands for any text; alone it lets in all names. Example: `runner,builder-*`.
    bound_service_account_names: Option<CommaList>,
    /// Namespaces that they may be of. A star stands for any text; alone it lets in all namespaces. Example: `builds`.
    bound_service_account_namespaces: Option<CommaList>,
    /// Namespaces that they may be of, besides those named, by labels: a LabelSelector in JSON. Needs `get` on namespaces for whoever reviews. A write
    /// without it takes it away. Example: `{"matchLabels": {"team": "build"}}`.
    bound_service_account_namespace_selector: String,
    /// The audience that tokens must be for; empty takes tokens for any. Example: `https://vault.acme.example`.
    audience: Option<String>,
    /// What names the entity: `serviceaccount_uid` (the default; another account under the same name is another one) or `serviceaccount_name`.
    alias_name_source: Option<String>,
    /// Older name of `token_policies`.
    policies: Option<CommaList>,
    /// Older name of `token_ttl`.
    ttl: Option<Seconds>,
    /// Older name of `token_max_ttl`.
    max_ttl: Option<Seconds>,
    /// Older name of `token_period`.
    period: Option<Seconds>,
    /// Older name of `token_num_uses`.
    num_uses: Option<i64>,
    /// Older name of `token_bound_cidrs`.
    bound_cidrs: Option<CommaList>,
}

/// Whether a role lets an account in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It does.
    In,
    /// It does if the labels of its namespace fit.
    IfLabelled,
    /// Its namespace is not bound.
    NotTheNamespace,
    /// Its name is not bound.
    NotTheName,
}

impl Role {
    /// Takes what a request names and checks the whole. Errors: `BadRequest` in Vault's words.
    pub(super) fn apply(&mut self, params: With<RoleParams>, mount_max: Seconds) -> Result<()> {
        let With { own, token } = params;
        let older = OlderParams {
            policies: own.policies.clone(),
            ttl: own.ttl,
            max_ttl: own.max_ttl,
            period: own.period,
            num_uses: own.num_uses,
            bound_cidrs: own.bound_cidrs.clone(),
        };
        let token = self.older.merge(token, older);
        self.token.apply(token)?;
        self.apply_own(own, mount_max).map_err(Error::bad_request)
    }

    fn apply_own(&mut self, own: RoleParams, mount_max: Seconds) -> Result<(), String> {
        if self.token.period > mount_max {
            let period = self.token.period;
            return Err(format!("token period of '\"{period}\"' is greater than the backend's maximum lease TTL of '\"{mount_max}\"'"));
        }
        if let Some(names) = own.bound_service_account_names {
            self.bound_service_account_names = names.0;
        }
        if let Some(namespaces) = own.bound_service_account_namespaces {
            self.bound_service_account_namespaces = namespaces.0;
        }
        self.bound_service_account_namespace_selector = own.bound_service_account_namespace_selector;
        if let Some(audience) = own.audience {
            self.audience = audience;
        }
        match own.alias_name_source.as_deref() {
            None => {}
            Some("" | UID) => self.alias_by_name = false,
            Some(NAME) => self.alias_by_name = true,
            Some(other) => return Err(format!("invalid alias_name_source {:?}, must be one of: {UID}, {NAME}", Brief(other))),
        }
        self.check()
    }

    fn check(&self) -> Result<(), String> {
        let selector = &self.bound_service_account_namespace_selector;
        if self.bound_service_account_names.is_empty() {
            return Err("\"bound_service_account_names\" can not be empty".to_owned());
        }
        if self.bound_service_account_namespaces.is_empty() && selector.is_empty() {
            return Err("\"bound_service_account_namespaces\" can not be empty if \"bound_service_account_namespace_selector\" is not set"
                .to_owned());
        }
        if !selector.is_empty() && Selector::parse(selector).is_none() {
            return Err("invalid \"bound_service_account_namespace_selector\" configured".to_owned());
        }
        for list in [&self.bound_service_account_names, &self.bound_service_account_namespaces] {
            if list.len() > 1 && list.iter().any(|item| item == "*") {
                return Err("can not mix \"*\" with values".to_owned());
            }
            if list.len() > ITEMS_MAX {
                return Err(format!("a field of the role has {} entries; at most {ITEMS_MAX} are allowed", list.len()));
            }
        }
        Ok(())
    }

    /// Whether this account may log in.
    pub(super) fn admits(&self, account: &Account) -> Admission {
        let among = |list: &[String], name: &str| list.iter().any(|pattern| glob(pattern, name));
        if !among(&self.bound_service_account_names, &account.name) {
            Admission::NotTheName
        } else if among(&self.bound_service_account_namespaces, &account.namespace) {
            Admission::In
        } else if self.bound_service_account_namespace_selector.is_empty() {
            Admission::NotTheNamespace
        } else {
            Admission::IfLabelled
        }
    }

    /// What names the entity of an account.
    pub(super) fn alias(&self, account: &Account) -> String {
        if self.alias_by_name { format!("{}/{}", account.namespace, account.name) } else { account.uid.clone() }
    }

    /// As a read shows it.
    pub(super) fn shown(&self) -> Map<String, Value> {
        let own = [
            ("alias_name_source", json!(if self.alias_by_name { NAME } else { UID })),
            ("bound_service_account_names", json!(self.bound_service_account_names)),
            ("bound_service_account_namespace_selector", json!(self.bound_service_account_namespace_selector)),
            ("bound_service_account_namespaces", json!(self.bound_service_account_namespaces)),
        ];
        let mut out = Map::new();
        self.token.show(&mut out);
        out.extend(own.map(|(name, value)| (name.to_owned(), value)));
        if !self.audience.is_empty() {
            out.insert("audience".to_owned(), json!(self.audience));
        }
        self.older.show(&self.token, &mut out);
        out
    }
}

const UID: &str = "serviceaccount_uid";
const NAME: &str = "serviceaccount_name";
/// Entries of one field.
const ITEMS_MAX: usize = 256;
