//! What `auth setup` would write over: whose tokens the configuration and the role take that are there already.
//!
//! A mount has one issuer, and the usual names are the same for every project: the second project's setup would lock the first one's jobs out, and let
//! its own in with whatever was written for the role since.

use daypass_base::Seconds;

use super::super::presets::Plan;
use crate::cli::Failure;
use crate::client::answer::Known;
use crate::client::{Call, Client};
use crate::show::value::Value;

/// What becomes of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Config {
    /// It takes the plan's tokens already, and has what somebody else wrote: a default role, algorithms, the logins of people.
    Stays,
    Written,
}

/// Refuses where others than the plan's are let in, or where what somebody added would be lost. Errors: that; of the server, since what cannot be read may be
/// anybody's. `usual` are the fields of the tokens that nobody asked for.
pub(super) fn check(
    client: &Client,
    plan: &Plan,
    path: &str,
    writes: &[(String, Value); 2],
    usual: &[&'static str],
) -> Result<Config, Failure> {
    let read = |at: &str| {
        let found = client.find(Call::get(at)).map_err(|error| Failure::api(&format!("Error reading {at}"), error));
        let found =
            found.map_err(|failure| failure.hint("what is there is compared before it is written over; -replace does so unseen"))?;
        Ok(found.map_or(Value::Null, Known::into_data))
    };
    let [(config_at, config), (role_at, role)] = writes;
    let found = read(config_at)?;
    if let Some(issuer) = other_issuer(plan, &found) {
        let text = format!(
            "auth/{path}/ takes the tokens of {issuer}: with {} in its place, none of its roles would take them any more",
            plan.issuer
        );
        return Err(Failure::server(text).hint("-path=NAME mounts another one beside it; -replace writes over this one"));
    }
    let done = if stays(plan, &found, config) { Config::Stays } else { Config::Written };
    if done == Config::Written {
        nothing_is_lost(config_at, &lost_settings(&found, config), "-replace writes over it")?;
    }
    let found = read(role_at)?;
    if let Some(differs) = other_bounds(plan, &found) {
        return Err(Failure::server(format!("{role_at} is there and lets in others: {differs}"))
            .hint("-role=NAME writes another one beside it; -replace writes over this one"));
    }
    let hint = "-replace writes over it; -policies, -ttl, -max-ttl and -token-type say what is to stay";
    nothing_is_lost(role_at, &lost_fields(&found, role, usual), hint)?;
    Ok(done)
}

fn nothing_is_lost(at: &str, lost: &[String], hint: &str) -> Result<(), Failure> {
    if lost.is_empty() {
        return Ok(());
    }
    Err(Failure::server(format!("{at} is there and has what would be lost: {}", lost.join(", "))).hint(hint.to_owned()))
}

/// Who signs the tokens that a configuration takes, unless it is the plan's issuer. Nobody, where nothing is configured.
fn other_issuer(plan: &Plan, config: &Value) -> Option<String> {
    let names = ["oidc_discovery_url", "bound_issuer", "jwks_url"].map(|name| config.text_at(name));
    let keys = ["jwt_validation_pubkeys", "jwks_pairs"].iter().any(|name| config.get(name).is_some_and(|keys| !keys.items().is_empty()));
    let other = names.into_iter().find(|name| !name.is_empty() && !is_plans(plan, name));
    other.map(str::to_owned).or_else(|| keys.then(|| "whoever has its keys".to_owned()))
}

/// With a slash at its end or without: issuers are compared so by people, and the one that is there is as its tokens have it.
fn is_plans(plan: &Plan, issuer: &str) -> bool {
    issuer.trim_end_matches('/') == plan.issuer.trim_end_matches('/')
}

/// Whether a configuration that takes nobody else's tokens takes the plan's as it is, with the authorities that were asked for.
fn stays(plan: &Plan, found: &Value, wanted: &Value) -> bool {
    let has_authorities = wanted.get(CA).is_none_or(|_| wanted.text_at(CA).trim() == found.text_at(CA).trim());
    is_plans(plan, found.text_at("oidc_discovery_url")) && has_authorities
}

/// What a configuration has that is not written. A write replaces all of it.
fn lost_settings(found: &Value, wanted: &Value) -> Vec<String> {
    // On where nobody said anything, and without a meaning here.
    let is_of_a_person = |name: &str| name != CA && name != "namespace_in_state";
    let lost = found.entries().iter().filter(|(name, value)| is_of_a_person(name) && is_set(value) && wanted.get(name) != Some(value));
    lost.map(|(name, _)| name.clone()).collect()
}

/// What a role has that would be written over with something else. What is not written stays.
fn lost_fields(found: &Value, wanted: &Value, usual: &[&'static str]) -> Vec<String> {
    let policies: Vec<&str> = wanted.text_at("token_policies").split(',').map(str::trim).collect();
    // Every token has this one.
    let stays = |policy: &str| policy == "default" || policies.iter().any(|wanted| wanted.eq_ignore_ascii_case(policy));
    let lost = found.texts_at("token_policies").into_iter().filter(|policy| !stays(policy));
    let mut lost: Vec<String> = lost.map(|policy| format!("token_policies {policy}")).collect();
    let mappings = found.get("claim_mappings").map(Value::entries).unwrap_or_default();
    let changed = mappings.iter().filter(|(claim, name)| wanted.at(&["claim_mappings", claim]) != Some(name));
    lost.extend(changed.map(|(claim, _)| format!("claim_mappings {claim}")));
    let differs = |name: &&str| {
        let (found, wanted) = (found.get(name).unwrap_or(&Value::Null), wanted.text_at(name));
        let is_wanted = found.as_text().map_or_else(|| found.as_integer() == seconds(wanted), |text| text == wanted || text == "default");
        is_set(found) && !is_wanted
    };
    lost.extend(usual.iter().copied().filter(differs).map(str::to_owned));
    lost
}

fn seconds(text: &str) -> Option<i64> {
    Seconds::parse(text).ok().and_then(|seconds| i64::try_from(seconds.0).ok())
}

/// Whether somebody said something: an empty value is what nobody gave.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(_) => value.as_integer() != Some(0),
        Value::Text(text) => !text.is_empty(),
        Value::List(items) => !items.is_empty(),
        Value::Map(entries) => !entries.is_empty(),
    }
}

const CA: &str = "oidc_discovery_ca_pem";

/// Which of a role's bounds are other ones, and what they are. None, where there is no role.
fn other_bounds(plan: &Plan, role: &Value) -> Option<String> {
    let wanted = plan.role();
    let is_there = role.entries().iter().any(|(_, value)| !value.is_null());
    BOUNDS.iter().filter(|_| is_there).find_map(|name| {
        let [found, wanted] = [role, &wanted].map(|role| role.get(name).unwrap_or(&Value::Null));
        (values(found) != values(wanted)).then(|| format!("{name} is {}, not {}", found.compact(), wanted.compact()))
    })
}

/// What says who is let in by a role.
const BOUNDS: [&str; 3] = ["bound_claims", "bound_audiences", "user_claim"];

/// A value that can be compared: of claims in any order, and of one value as of a list that has one.
fn values(value: &Value) -> Vec<String> {
    let mut all: Vec<String> = match value {
        Value::List(items) => items.iter().map(Value::compact).collect(),
        Value::Map(entries) => entries.iter().map(|(name, value)| format!("{name}={:?}", values(value))).collect(),
        Value::Null => Vec::new(),
        one => vec![one.compact()],
    };
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::auth::presets::{Preset, Wish};

    const USUAL: [&str; 3] = ["token_ttl", "token_max_ttl", "token_type"];

    fn plan(project: &str) -> Plan {
        let wish =
            Wish { org: Some("acme".to_owned()), project: Some(project.to_owned()), server: "https://v".to_owned(), ..Wish::default() };
        Preset::parse("gitlab").unwrap().plan(&Wish { git_ref: Some("main".to_owned()), ..wish }).unwrap()
    }

    /// A role as a server shows it.
    fn shown(plan: &Plan) -> Value {
        Value::parse(&plan.role().compact()).unwrap()
    }

    /// Story: `auth setup` for a second project wrote over the role of the first one, whose jobs were locked out, and said "Success!".
    #[test]
    fn the_bounds_of_another_project_are_seen_and_the_own_ones_are_not() {
        let mut own = shown(&plan("app"));
        assert_eq!(other_bounds(&plan("app"), &own), None);
        assert_eq!(other_bounds(&plan("app"), &Value::Null), None);
        let told = other_bounds(&plan("other"), &own).unwrap();
        assert!(
            told.starts_with("bound_claims is ") && told.contains("acme/app") && told.contains(", not ") && told.contains("acme/other"),
            "{told}"
        );
        // One that was written without a bound, or for another audience, is another one.
        own.set("bound_audiences", Value::texts(["https://other"]));
        assert!(other_bounds(&plan("app"), &own).unwrap().starts_with("bound_audiences"));
        own.set("bound_claims", Value::Null);
        assert!(other_bounds(&plan("app"), &own).unwrap().starts_with("bound_claims is null, not "));
    }

    #[test]
    fn an_issuer_is_the_same_with_a_slash_and_keys_are_another() {
        let config = |text: &str| other_issuer(&plan("app"), &Value::parse(text).unwrap());
        assert_eq!(
            config(r#"{"oidc_discovery_url": "https://gitlab.com/", "bound_issuer": "https://gitlab.com", "jwt_validation_pubkeys": []}"#),
            None
        );
        assert_eq!(other_issuer(&plan("app"), &Value::Null), None);
        assert_eq!(config(r#"{"oidc_discovery_url": "https://gitlab.acme.example"}"#).as_deref(), Some("https://gitlab.acme.example"));
        assert_eq!(config(r#"{"jwt_validation_pubkeys": ["KEY"]}"#).as_deref(), Some("whoever has its keys"));
    }

    /// Story: a second project's setup took the mount's default role, its algorithms and the logins of people away, and said "Success!".
    #[test]
    fn a_configuration_that_takes_the_plans_tokens_stays_as_it_is() {
        let plan = plan("app");
        let found =
            Value::parse(r#"{"oidc_discovery_url": "https://gitlab.com", "bound_issuer": "https://gitlab.com/", "default_role": "ci"}"#);
        let mut found = found.unwrap();
        assert!(stays(&plan, &found, &plan.config(None)) && !stays(&plan, &Value::Null, &plan.config(None)));
        // With other authorities it is written, and what is in it is named.
        let wanted = plan.config(Some("PEM"));
        assert!(!stays(&plan, &found, &wanted));
        assert_eq!(lost_settings(&found, &wanted), ["bound_issuer", "default_role"]);
        found.set(CA, Value::text("PEM\n"));
        assert!(stays(&plan, &found, &wanted));
        assert!(lost_settings(&Value::Null, &wanted).is_empty());
    }

    /// Story: the same setup again took away what somebody had added to the role since.
    #[test]
    fn what_was_added_to_a_role_is_seen() {
        let plan = plan("app");
        let wanted = |policies: &str| {
            let mut role = plan.role();
            let fields = [("token_policies", policies), ("token_ttl", "15m"), ("token_max_ttl", "15m"), ("token_type", "batch")];
            for (name, text) in fields {
                role.set(name, Value::text(text));
            }
            role
        };
        let mut found = shown(&plan);
        assert!(lost_fields(&Value::Null, &wanted("build"), &USUAL).is_empty());
        for (name, value) in
            [("token_ttl", Value::number(900)), ("token_max_ttl", Value::number(900)), ("token_type", Value::text("batch"))]
        {
            found.set(name, value);
        }
        found.set("token_policies", Value::texts(["build", "default"]));
        assert!(lost_fields(&found, &wanted("Build, more"), &USUAL).is_empty());
        found.set("token_policies", Value::texts(["build", "extra"]));
        let mut mappings = found.get("claim_mappings").unwrap().clone();
        mappings.set("user_email", Value::text("email"));
        mappings.set("ref", Value::text("branch"));
        found.set("claim_mappings", mappings);
        found.set("token_ttl", Value::number(3600));
        let lost = ["token_policies extra", "claim_mappings ref", "claim_mappings user_email"];
        let seen = |usual: &[&'static str]| lost_fields(&found, &wanted("build"), usual);
        assert_eq!(seen(&["token_type"]), lost);
        assert_eq!(seen(&USUAL), [&lost[..], &["token_ttl"]].concat());
    }

    #[test]
    fn one_value_is_a_list_of_one_and_order_says_nothing() {
        let of = |text: &str| values(&Value::parse(text).unwrap());
        assert_eq!(of(r#"{"a": "x", "b": ["y", "z"]}"#), of(r#"{"b": ["z", "y"], "a": ["x"]}"#));
        assert_ne!(of(r#"{"a": true}"#), of(r#"{"a": "true"}"#));
        assert_eq!(of("null"), of("[]"));
    }
}
