//! What `auth setup` would write over: whose tokens the configuration and the role take that are there already.
//!
//! A mount has one issuer, and the usual names are the same for every project: the second project's setup would lock the first one's jobs out, and let
//! its own in with whatever was written for the role since.

use super::super::presets::Plan;
use crate::cli::Failure;
use crate::client::answer::Known;
use crate::client::{Call, Client};
use crate::show::value::Value;

/// Refuses where others than the plan's are let in. Errors: that; of the server, since what cannot be read may be anybody's.
pub(super) fn check(client: &Client, plan: &Plan, path: &str, role: &str) -> Result<(), Failure> {
    let read = |at: &str| {
        let found = client.find(Call::get(at)).map_err(|error| Failure::api(&format!("Error reading {at}"), error));
        let found =
            found.map_err(|failure| failure.hint("what is there is compared before it is written over; -replace does so unseen"))?;
        Ok(found.map_or(Value::Null, Known::into_data))
    };
    let config = read(&format!("auth/{path}/config"))?;
    if let Some(issuer) = other_issuer(plan, &config) {
        let text = format!(
            "auth/{path}/ takes the tokens of {issuer}: with {} in its place, none of its roles would take them any more",
            plan.issuer
        );
        return Err(Failure::server(text).hint("-path=NAME mounts another one beside it; -replace writes over this one"));
    }
    let at = format!("auth/{path}/role/{role}");
    match other_bounds(plan, &read(&at)?) {
        Some(differs) => Err(Failure::server(format!("{at} is there and lets in others: {differs}"))
            .hint("-role=NAME writes another one beside it; -replace writes over this one")),
        None => Ok(()),
    }
}

/// Who signs the tokens that a configuration takes, unless it is the plan's issuer. Nobody, where nothing is configured.
fn other_issuer(plan: &Plan, config: &Value) -> Option<String> {
    let is_plans = |issuer: &str| issuer.trim_end_matches('/') == plan.issuer.trim_end_matches('/');
    let names = ["oidc_discovery_url", "bound_issuer", "jwks_url"].map(|name| config.text_at(name));
    let keys = ["jwt_validation_pubkeys", "jwks_pairs"].iter().any(|name| config.get(name).is_some_and(|keys| !keys.items().is_empty()));
    let other = names.into_iter().find(|name| !name.is_empty() && !is_plans(name));
    other.map(str::to_owned).or_else(|| keys.then(|| "whoever has its keys".to_owned()))
}

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

    #[test]
    fn one_value_is_a_list_of_one_and_order_says_nothing() {
        let of = |text: &str| values(&Value::parse(text).unwrap());
        assert_eq!(of(r#"{"a": "x", "b": ["y", "z"]}"#), of(r#"{"b": ["z", "y"], "a": ["x"]}"#));
        assert_ne!(of(r#"{"a": true}"#), of(r#"{"a": "true"}"#));
        assert_eq!(of("null"), of("[]"));
    }
}
