//! A stored role, and every decision about it: pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use daypass_base::lenient::{CommaList, KvPairs};
use daypass_base::{Brief, duration};
use daypass_sdk::{Error, Result, Seconds};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value, json};

use super::claims::{Leeways, Matching, Reading};
use crate::auth::token_fields::{OlderNames, OlderParams, TokenFields, With};

/// A role.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Role {
    /// Whether people log in with a browser; else machines present a token.
    pub(super) browser: bool,
    pub(super) bound_audiences: Vec<String>,
    pub(super) bound_subject: String,
    bound_claims_glob: bool,
    pub(super) bound_claims: BTreeMap<String, Value>,
    claim_mappings: BTreeMap<String, String>,
    user_claim: String,
    user_claim_json_pointer: bool,
    groups_claim: String,
    expiration_leeway: i64,
    not_before_leeway: i64,
    clock_skew_leeway: i64,
    pub(super) allowed_redirect_uris: Vec<String>,
    pub(super) oidc_scopes: Vec<String>,
    verbose_oidc_logging: bool,
    pub(super) max_age: Seconds,
    pub(super) token: TokenFields,
    /// The older names of token fields that were used, and are shown again.
    older: OlderNames,
}

/// A role's own fields as a request names them; what is absent stays as it is.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RoleParams {
    /// Name of the role; case does not matter.
    pub(super) name: String,
    /// Who logs in: `oidc` (the default) for people with a browser, `jwt` for machines with a token.
    role_type: Option<String>,
    /// Audiences (`aud`) that are taken; a token must have one of them: `https://github.com/acme`.
    bound_audiences: Option<CommaList>,
    /// The subject (`sub`) that a token must have.
    bound_subject: Option<String>,
    /// How `bound_claims` are compared: `string` (the default), or `glob` with `*` for any text in texts.
    bound_claims_type: Option<String>,
    /// Claims that a token must have, each with a value or a list of values of which one must fit: `{"repository": ["acme/app"]}`. A name that
    /// begins with `/` is a JSON pointer. Values fit as what they are: `"true"` is a text and `true` is not.
    bound_claims: Option<Value>,
    /// Claims that go into the token's metadata, and under which name: `{"repository": "repo"}`.
    claim_mappings: Option<KvPairs>,
    /// The claim that says who logs in: it names the identity alias. Required: `sub`.
    user_claim: Option<String>,
    /// `user_claim` is a JSON pointer.
    user_claim_json_pointer: Option<bool>,
    /// The claim that says in which groups the caller is: `groups`.
    groups_claim: Option<String>,
    /// Seconds that a token lives which names no end; 0 for 150, -1 for none.
    expiration_leeway: Option<SignedSeconds>,
    /// Seconds that a token is good before its end which names no begin; 0 for 150, -1 for none.
    not_before_leeway: Option<SignedSeconds>,
    /// Seconds that the issuer's clock may differ from ours; 0 for 60, -1 for none.
    clock_skew_leeway: Option<SignedSeconds>,
    /// Where the provider may send people back to: `http://localhost:8250/oidc/callback`. Required for `oidc`.
    allowed_redirect_uris: Option<CommaList>,
    /// Scopes to ask for besides `openid`: `profile,groups`.
    oidc_scopes: Option<CommaList>,
    /// Kept for clients that set it: daypass writes no claims of a login into its log.
    verbose_oidc_logging: Option<bool>,
    /// How long ago somebody may have logged in at the provider; 0 for any time.
    max_age: Option<Seconds>,
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

impl Role {
    /// A role that was just made: people log in with a browser, unless it says otherwise.
    pub(super) fn initial() -> Self {
        Self { browser: true, ..Self::default() }
    }

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
        self.apply_own(own).map_err(Error::bad_request)?;
        self.check(mount_max).map_err(Error::bad_request)
    }

    fn apply_own(&mut self, own: RoleParams) -> Result<(), String> {
        match own.role_type.as_deref() {
            None => {}
            Some("" | "oidc") => self.browser = true,
            Some("jwt") => self.browser = false,
            Some(other) => return Err(format!("invalid 'role_type': {}", Brief(other))),
        }
        match own.bound_claims_type.as_deref() {
            None => {}
            Some("" | "string") => self.bound_claims_glob = false,
            Some("glob") => self.bound_claims_glob = true,
            Some(other) => return Err(format!("invalid 'bound_claims_type': {}", Brief(other))),
        }
        set(&mut self.bound_audiences, own.bound_audiences.map(|list| list.0));
        set(&mut self.bound_subject, own.bound_subject);
        set(&mut self.bound_claims, own.bound_claims.map(bound_claims).transpose()?);
        set(&mut self.claim_mappings, own.claim_mappings.map(mappings).transpose()?);
        set(&mut self.user_claim, own.user_claim);
        set(&mut self.user_claim_json_pointer, own.user_claim_json_pointer);
        set(&mut self.groups_claim, own.groups_claim);
        set(&mut self.expiration_leeway, own.expiration_leeway.map(|seconds| seconds.0));
        set(&mut self.not_before_leeway, own.not_before_leeway.map(|seconds| seconds.0));
        set(&mut self.clock_skew_leeway, own.clock_skew_leeway.map(|seconds| seconds.0));
        set(&mut self.allowed_redirect_uris, own.allowed_redirect_uris.map(|list| list.0));
        set(&mut self.oidc_scopes, own.oidc_scopes.map(|list| list.0));
        set(&mut self.verbose_oidc_logging, own.verbose_oidc_logging);
        set(&mut self.max_age, own.max_age);
        Ok(())
    }

    fn check(&self, mount_max: Seconds) -> Result<(), String> {
        if self.token.period > mount_max {
            let (period, most) = (self.token.period, mount_max);
            return Err(format!("'period' of '\"{period}\"' is greater than the backend's maximum lease TTL of '\"{most}\"'"));
        }
        if self.user_claim.is_empty() {
            return Err("a user claim must be defined on the role".to_owned());
        }
        let unbound = self.bound_audiences.is_empty()
            && self.bound_subject.is_empty()
            && self.bound_claims.is_empty()
            && self.token.bound_cidrs.is_empty();
        if !self.browser && unbound {
            return Err("must have at least one bound constraint when creating/updating a role".to_owned());
        }
        if self.browser && self.allowed_redirect_uris.is_empty() {
            return Err("'allowed_redirect_uris' must be set if 'role_type' is 'oidc' or unspecified.".to_owned());
        }
        let lists = [&self.bound_audiences, &self.allowed_redirect_uris, &self.oidc_scopes];
        match lists.iter().map(|list| list.len()).chain([self.bound_claims.len(), self.claim_mappings.len()]).max() {
            Some(most) if most > ITEMS_MAX => Err(format!("a field of the role has {most} entries; at most {ITEMS_MAX} are allowed")),
            _ => Ok(()),
        }
    }

    pub(super) fn matching(&self) -> Matching {
        if self.bound_claims_glob { Matching::Glob } else { Matching::String }
    }

    pub(super) fn leeways(&self) -> Leeways {
        Leeways { expiration: self.expiration_leeway, not_before: self.not_before_leeway, skew: self.clock_skew_leeway }
    }

    pub(super) fn reading(&self) -> Reading<'_> {
        Reading {
            user_claim: &self.user_claim,
            user_claim_is_pointer: self.user_claim_json_pointer,
            mappings: &self.claim_mappings,
            groups_claim: &self.groups_claim,
        }
    }

    /// As a read shows it.
    pub(super) fn shown(&self) -> Map<String, Value> {
        let list = |list: &Vec<String>| if list.is_empty() { Value::Null } else { json!(list) };
        let own = [
            ("allowed_redirect_uris", list(&self.allowed_redirect_uris)),
            ("bound_audiences", list(&self.bound_audiences)),
            ("bound_claims", if self.bound_claims.is_empty() { Value::Null } else { json!(self.bound_claims) }),
            ("bound_claims_type", json!(if self.bound_claims_glob { "glob" } else { "string" })),
            ("bound_subject", json!(self.bound_subject)),
            ("claim_mappings", if self.claim_mappings.is_empty() { Value::Null } else { json!(self.claim_mappings) }),
            ("clock_skew_leeway", json!(self.clock_skew_leeway)),
            ("expiration_leeway", json!(self.expiration_leeway)),
            ("groups_claim", json!(self.groups_claim)),
            ("max_age", json!(self.max_age)),
            ("not_before_leeway", json!(self.not_before_leeway)),
            ("oidc_scopes", list(&self.oidc_scopes)),
            ("role_type", json!(if self.browser { "oidc" } else { "jwt" })),
            ("user_claim", json!(self.user_claim)),
            ("user_claim_json_pointer", json!(self.user_claim_json_pointer)),
            ("verbose_oidc_logging", json!(self.verbose_oidc_logging)),
        ];
        let mut out = Map::new();
        self.token.show(&mut out);
        out.extend(own.map(|(name, value)| (name.to_owned(), value)));
        self.older.show(&self.token, &mut out);
        out
    }
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *field = value;
    }
}

/// A value, or a list of values, for each claim.
fn bound_claims(given: Value) -> Result<BTreeMap<String, Value>, String> {
    let wrong = || "error converting input for field \"bound_claims\": it must be an object of claims and their values".to_owned();
    let map = match given {
        Value::Null => return Ok(BTreeMap::new()),
        Value::String(text) if text.is_empty() => return Ok(BTreeMap::new()),
        // The command line sends it as a text.
        Value::String(text) => serde_json::from_str(&text).map_err(|_its_place_says_little| wrong())?,
        Value::Object(map) => map,
        _ => return Err(wrong()),
    };
    let plain = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
    for value in map.values() {
        let known = plain(value) || value.as_array().is_some_and(|items| items.len() <= ITEMS_MAX && items.iter().all(plain));
        if !known {
            return Err(format!("claim is not a string or list: {}", Brief(&value.to_string())));
        }
    }
    Ok(map.into_iter().collect())
}

fn mappings(given: KvPairs) -> Result<BTreeMap<String, String>, String> {
    let mut taken = BTreeSet::new();
    for key in given.0.values() {
        if key == "role" {
            return Err("metadata key \"role\" is reserved and may not be a mapping destination".to_owned());
        }
        if !taken.insert(key) {
            return Err(format!("multiple keys are mapped to metadata key {:?}", Brief(key)));
        }
    }
    Ok(given.0)
}

/// Seconds that may be below zero: `-1`, `"30s"`.
#[derive(Debug, Clone, Copy)]
struct SignedSeconds(i64);

impl<'de> Deserialize<'de> for SignedSeconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = |text: String| de::Error::custom(text);
        let seconds = match Value::deserialize(deserializer)? {
            Value::Number(number) => number.as_i64().ok_or_else(|| wrong(format!("{number} is no whole number of seconds")))?,
            Value::String(text) if text.is_empty() => 0,
            Value::String(text) => {
                let parsed = duration::parse(&text).map_err(|error| wrong(error.to_string()))?;
                let size = i64::try_from(parsed.size.as_secs()).unwrap_or(i64::MAX);
                if parsed.negative { -size } else { size }
            }
            other => return Err(wrong(format!("{} is no number of seconds", Brief(&other.to_string())))),
        };
        Ok(Self(seconds.clamp(-1, LEEWAY_MAX)))
    }
}

impl JsonSchema for SignedSeconds {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SignedSeconds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "format": "seconds" })
    }
}

/// Entries of one field.
const ITEMS_MAX: usize = 256;
/// A year: nobody's clocks are that far apart.
const LEEWAY_MAX: i64 = 31_536_000;
