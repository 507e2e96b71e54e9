//! The nine `token_*` fields that every role of every auth method has, read and written once for all of them.
//!
//! A method's parameters are [`With<Own>`]: its own fields, and these beside them. Source: Vault API, "Token parameters".

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::marker::PhantomData;

use daypass_base::Brief;
use daypass_base::lenient::CommaList;
use daypass_sdk::{Error, LeaseTerms, Login, Renewal, Result, Seconds};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::cidr::Network;

/// What a role says of the tokens that it gives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct TokenFields {
    pub(super) ttl: Seconds,
    pub(super) max_ttl: Seconds,
    pub(super) explicit_max_ttl: Seconds,
    pub(super) period: Seconds,
    pub(super) policies: Vec<String>,
    pub(super) no_default_policy: bool,
    pub(super) bound_cidrs: Vec<String>,
    pub(super) num_uses: i64,
    kind: TokenKind,
}

/// Which sort of token a role gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TokenKind {
    Batch,
    #[default]
    Default,
    DefaultBatch,
    DefaultService,
    Service,
}

/// The fields as a request names them; what is absent stays as it is.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the fields carry the names that requests use")]
pub(super) struct TokenParams {
    /// Networks that may log in and use the token; empty for all.
    pub(super) token_bound_cidrs: Option<CommaList>,
    /// A limit on the lifetime that even periodic tokens keep; 0 for none.
    pub(super) token_explicit_max_ttl: Option<Seconds>,
    /// How long renewals can keep the token alive; 0 for the mount's maximum.
    pub(super) token_max_ttl: Option<Seconds>,
    /// Leave the `default` policy out.
    pub(super) token_no_default_policy: Option<bool>,
    /// Requests that the token is good for; 0 for any number.
    pub(super) token_num_uses: Option<i64>,
    /// Makes tokens periodic: each renewal sets the lifetime to this, without an end.
    pub(super) token_period: Option<Seconds>,
    /// Policies of the token.
    pub(super) token_policies: Option<CommaList>,
    /// Lifetime of a new token; 0 for the mount's default.
    pub(super) token_ttl: Option<Seconds>,
    /// `default` (what the mount says), `service`, `batch`, `default-service` or `default-batch`.
    pub(super) token_type: Option<String>,
}

/// A method's own parameters, and the token fields beside them.
///
/// serde's `flatten` would read every field as whatever it looks like, so that `"5"` were no number any more and errors had no
/// field's name; this hands each value to the field that wants it.
pub(super) struct With<Own> {
    pub(super) own: Own,
    pub(super) token: TokenParams,
}

/// A field's older name: takes the value when the newer one is absent, and is shown again once it was used.
pub(super) fn older_name<T>(newer: Option<T>, older: Option<T>, used: &mut bool) -> Option<T> {
    if newer.is_some() || older.is_some() {
        *used = older.is_some();
    }
    newer.or(older)
}

/// The token fields by their older names, as a request gives them.
pub(super) struct OlderParams {
    pub(super) policies: Option<CommaList>,
    pub(super) ttl: Option<Seconds>,
    pub(super) max_ttl: Option<Seconds>,
    pub(super) period: Option<Seconds>,
    pub(super) num_uses: Option<i64>,
    pub(super) bound_cidrs: Option<CommaList>,
}

/// Which older names a role was written with: under these its fields are shown again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct OlderNames(BTreeSet<String>);

impl OlderNames {
    /// The fields of a request, whichever names it uses.
    pub(super) fn merge(&mut self, mut token: TokenParams, older: OlderParams) -> TokenParams {
        token.token_policies = self.pick("policies", token.token_policies, older.policies);
        token.token_ttl = self.pick("ttl", token.token_ttl, older.ttl);
        token.token_max_ttl = self.pick("max_ttl", token.token_max_ttl, older.max_ttl);
        token.token_period = self.pick("period", token.token_period, older.period);
        token.token_num_uses = self.pick("num_uses", token.token_num_uses, older.num_uses);
        token.token_bound_cidrs = self.pick("bound_cidrs", token.token_bound_cidrs, older.bound_cidrs);
        token
    }

    fn pick<T>(&mut self, name: &str, newer: Option<T>, older: Option<T>) -> Option<T> {
        let mut used = self.0.contains(name);
        let value = older_name(newer, older, &mut used);
        if used {
            self.0.insert(name.to_owned());
        } else {
            self.0.remove(name);
        }
        value
    }

    /// Adds the fields under the older names that are in use.
    pub(super) fn show(&self, token: &TokenFields, out: &mut Map<String, Value>) {
        let fields = [
            ("bound_cidrs", json!(token.bound_cidrs)),
            ("max_ttl", json!(token.max_ttl)),
            ("num_uses", json!(token.num_uses)),
            ("period", json!(token.period)),
            ("policies", json!(token.policies)),
            ("ttl", json!(token.ttl)),
        ];
        out.extend(fields.into_iter().filter(|(name, _)| self.0.contains(*name)).map(|(name, value)| (name.to_owned(), value)));
    }
}

impl TokenFields {
    /// Takes what the request names and checks the whole. Errors: `BadRequest`.
    pub(super) fn apply(&mut self, params: TokenParams) -> Result<()> {
        if let Some(networks) = params.token_bound_cidrs {
            self.bound_cidrs = bound_networks(&networks.0)?;
        }
        if let Some(policies) = params.token_policies {
            self.policies = policies.0;
        }
        if let Some(kind) = params.token_type {
            self.kind = TokenKind::parse(&kind)?;
        }
        self.ttl = params.token_ttl.unwrap_or(self.ttl);
        self.max_ttl = params.token_max_ttl.unwrap_or(self.max_ttl);
        self.explicit_max_ttl = params.token_explicit_max_ttl.unwrap_or(self.explicit_max_ttl);
        self.period = params.token_period.unwrap_or(self.period);
        self.no_default_policy = params.token_no_default_policy.unwrap_or(self.no_default_policy);
        self.num_uses = params.token_num_uses.unwrap_or(self.num_uses);
        self.check()
    }

    fn check(&self) -> Result<()> {
        let batch = matches!(self.kind, TokenKind::Batch | TokenKind::DefaultBatch);
        let refuse = |text: &str| Err(Error::bad_request(text));
        if batch && !self.period.is_zero() {
            return refuse("'token_type' cannot be 'batch' or 'default_batch' when set to generate periodic tokens");
        }
        if batch && self.num_uses != 0 {
            return refuse("'token_type' cannot be 'batch' or 'default_batch' when set to generate tokens with limited use count");
        }
        if self.num_uses < 0 {
            return refuse("'token_num_uses' cannot be negative");
        }
        if !self.max_ttl.is_zero() && self.ttl > self.max_ttl {
            return refuse("'token_ttl' cannot be greater than 'token_max_ttl'");
        }
        Ok(())
    }

    /// Makes of a default that nobody can overrule what it comes to, for methods whose roles have the last word. Returns a remark in Vault's
    /// words.
    pub(super) fn settle_kind(&mut self) -> Option<&'static str> {
        let (kind, remark) = match self.kind {
            TokenKind::DefaultBatch => (TokenKind::Batch, "default-batch has no useful meaning; adjusting to batch"),
            TokenKind::DefaultService => (TokenKind::Service, "default-service has no useful meaning; adjusting to service"),
            _ => return None,
        };
        self.kind = kind;
        Some(remark)
    }

    /// All nine, as a read shows them.
    pub(super) fn show(&self, out: &mut Map<String, Value>) {
        let fields = [
            ("token_bound_cidrs", json!(self.bound_cidrs)),
            ("token_explicit_max_ttl", json!(self.explicit_max_ttl)),
            ("token_max_ttl", json!(self.max_ttl)),
            ("token_no_default_policy", json!(self.no_default_policy)),
            ("token_num_uses", json!(self.num_uses)),
            ("token_period", json!(self.period)),
            ("token_policies", json!(self.policies)),
            ("token_ttl", json!(self.ttl)),
            ("token_type", json!(self.kind)),
        ];
        out.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    }

    /// A login with these fields; the method adds who it is.
    pub(super) fn login(&self) -> Login {
        Login {
            policies: self.policies.clone(),
            ttl: self.ttl,
            max_ttl: self.max_ttl,
            explicit_max_ttl: self.explicit_max_ttl,
            period: self.period,
            num_uses: self.num_uses,
            bound_cidrs: self.bound_cidrs.clone(),
            token_type: self.kind.name().to_owned(),
            no_default_policy: self.no_default_policy,
            renewable: true,
            ..Login::default()
        }
    }

    /// How long a token lives on that these fields gave.
    pub(super) fn renewal(&self) -> Renewal {
        let terms = LeaseTerms { ttl: self.ttl, max_ttl: self.max_ttl, renewable: true };
        Renewal { terms, period: self.period, internal: None, groups: None }
    }
}

impl TokenKind {
    fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "" | "default" => Self::Default,
            "batch" => Self::Batch,
            "default-batch" => Self::DefaultBatch,
            "default-service" => Self::DefaultService,
            "service" => Self::Service,
            _ => return Err(Error::bad_request(format!("invalid 'token_type' value {:?}", Brief(text)))),
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Default => "default",
            Self::DefaultBatch => "default-batch",
            Self::DefaultService => "default-service",
            Self::Service => "service",
        }
    }
}

/// Reads networks and single addresses as Vault's token fields take them. Errors: `BadRequest` with the first that is neither.
pub(super) fn bound_networks(texts: &[String]) -> Result<Vec<String>> {
    if texts.len() > NETWORKS_MAX {
        return Err(Error::bad_request(format!("{} networks are given; at most {NETWORKS_MAX} are allowed", texts.len())));
    }
    let read = |text: &String| {
        Network::parse_or_address(text).map(|network| network.to_string()).ok_or_else(|| {
            let text = Brief(text);
            Error::bad_request(format!(
                "error parsing address {text:?}: Unable to convert {text:?} to an IPv4 or IPv6 address, or a UNIX Socket"
            ))
        })
    };
    texts.iter().map(read).collect()
}

/// Whether two lists name the same policies; order, repetition, case and `default` do not count.
pub(super) fn same_policies(one: &[String], other: &[String]) -> bool {
    let normal = |names: &[String]| -> BTreeSet<String> {
        names.iter().map(|name| name.to_lowercase()).filter(|name| !name.is_empty() && name != "default").collect()
    };
    normal(one) == normal(other)
}

/// The most networks of one field.
pub(super) const NETWORKS_MAX: usize = 256;

impl<'de, Own: Deserialize<'de>> Deserialize<'de> for With<Own> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WithVisitor(PhantomData))
    }
}

struct WithVisitor<Own>(PhantomData<Own>);

impl<'de, Own: Deserialize<'de>> Visitor<'de> for WithVisitor<Own> {
    type Value = With<Own>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the fields of a role")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<With<Own>, A::Error> {
        let mut token = TokenParams::default();
        let own = Own::deserialize(MapAccessDeserializer::new(Sorted { map, token: &mut token }))?;
        Ok(With { own, token })
    }
}

/// A map of which the token fields are taken out on the way.
struct Sorted<'t, A> {
    map: A,
    token: &'t mut TokenParams,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Sorted<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(name) = self.map.next_key::<String>()? {
            match name.as_str() {
                "token_bound_cidrs" => self.token.token_bound_cidrs = self.map.next_value()?,
                "token_explicit_max_ttl" => self.token.token_explicit_max_ttl = self.map.next_value()?,
                "token_max_ttl" => self.token.token_max_ttl = self.map.next_value()?,
                "token_no_default_policy" => self.token.token_no_default_policy = self.map.next_value()?,
                "token_num_uses" => self.token.token_num_uses = self.map.next_value()?,
                "token_period" => self.token.token_period = self.map.next_value()?,
                "token_policies" => self.token.token_policies = self.map.next_value()?,
                "token_ttl" => self.token.token_ttl = self.map.next_value()?,
                "token_type" => self.token.token_type = self.map.next_value()?,
                _ => return seed.deserialize(name.into_deserializer()).map(Some),
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// The fields of both.
impl<Own: JsonSchema> JsonSchema for With<Own> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}WithTokenFields", Own::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Own::json_schema(generator);
        let mut fields = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        fields.extend(TokenParams::json_schema(generator).get("properties").and_then(Value::as_object).cloned().unwrap_or_default());
        schema.insert("properties".to_owned(), fields.into());
        schema
    }
}

#[cfg(test)]
mod tests {
    use daypass_base::lenient;

    use super::*;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(default)]
    #[derive(Default)]
    struct Own {
        /// A number of its own.
        uses: Option<i64>,
        /// A name.
        name: String,
    }

    fn read(value: Value) -> Result<With<Own>, String> {
        let Value::Object(map) = value else { panic!("an object is wanted") };
        lenient::decode(map).map_err(|error| error.to_string())
    }

    #[test]
    fn own_and_token_fields_are_read_leniently_side_by_side() {
        let both =
            read(json!({"uses": "5", "token_ttl": "60m", "name": 7, "token_policies": "a, b", "other": {"x": 1}, "token_num_uses": null}))
                .unwrap();
        assert_eq!((both.own.uses, both.own.name.as_str()), (Some(5), "7"));
        assert_eq!(
            (both.token.token_ttl, both.token.token_policies.unwrap().0),
            (Some(Seconds(3600)), vec!["a".to_owned(), "b".to_owned()])
        );
        assert_eq!(both.token.token_num_uses, Some(0));
        assert_eq!(
            read(json!({"token_ttl": "abc"})).err().unwrap(),
            "error converting input for field \"token_ttl\": time: invalid duration \"abc\""
        );
        assert!(read(json!({"uses": "abc"})).err().unwrap().starts_with("error converting input for field \"uses\""));
    }

    #[test]
    fn documents_show_both_sets_of_fields() {
        let schema = With::<Own>::json_schema(&mut SchemaGenerator::default());
        let properties = schema.get("properties").unwrap().as_object().unwrap();
        assert_eq!(properties.len(), 11);
        assert!(properties.values().all(|field| field.get("description").is_some()), "{properties:?}");
    }

    #[test]
    fn contradictions_are_refused_in_vaults_words() {
        for (params, text) in [
            (json!({"token_ttl": "2h", "token_max_ttl": "1h"}), "'token_ttl' cannot be greater than 'token_max_ttl'"),
            (json!({"token_type": "strange"}), "invalid 'token_type' value \"strange\""),
            (
                json!({"token_type": "batch", "token_num_uses": 4}),
                "'token_type' cannot be 'batch' or 'default_batch' when set to generate tokens with limited use count",
            ),
            (
                json!({"token_type": "default-batch", "token_period": "1h"}),
                "'token_type' cannot be 'batch' or 'default_batch' when set to generate periodic tokens",
            ),
            (json!({"token_num_uses": -1}), "'token_num_uses' cannot be negative"),
            (
                json!({"token_bound_cidrs": "bad"}),
                "error parsing address \"bad\": Unable to convert \"bad\" to an IPv4 or IPv6 address, or a UNIX Socket",
            ),
        ] {
            assert_eq!(TokenFields::default().apply(read(params).unwrap().token).unwrap_err().message, text);
        }
    }

    #[test]
    fn an_older_name_is_shown_only_while_it_is_the_one_in_use() {
        let mut used = false;
        assert_eq!((older_name(None, Some(1), &mut used), used), (Some(1), true));
        assert_eq!((older_name::<i32>(None, None, &mut used), used), (None, true));
        assert_eq!((older_name(Some(2), Some(1), &mut used), used), (Some(2), true));
        assert_eq!((older_name(Some(3), None, &mut used), used), (Some(3), false));
    }
}
