//! `roles`: limits and settings of tokens that are made through a role.

use std::sync::Arc;

use daypass_base::lenient::CommaList;
use daypass_base::{Brief, Seconds};
use daypass_sdk::{Cx, Error, Keys, Reply, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::TokenRoom;
use crate::logins::normal_policies;
use crate::tokens::{Known, canonical_network, canonical_networks};

/// A role as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Role {
    pub(super) allowed_policies: Vec<String>,
    pub(super) disallowed_policies: Vec<String>,
    pub(super) allowed_policies_glob: Vec<String>,
    pub(super) disallowed_policies_glob: Vec<String>,
    pub(super) allowed_entity_aliases: Option<Vec<String>>,
    pub(super) orphan: bool,
    pub(super) renewable: bool,
    pub(super) path_suffix: String,
    pub(super) token_period: Seconds,
    pub(super) token_explicit_max_ttl: Seconds,
    pub(super) token_bound_cidrs: Vec<String>,
    pub(super) token_type: String,
    pub(super) token_num_uses: i64,
    pub(super) token_no_default_policy: bool,
    /// Set under its older name, which is then shown, too.
    #[serde(default)]
    legacy_cidrs: bool,
    #[serde(default)]
    legacy_period: bool,
    #[serde(default)]
    legacy_max: bool,
}

impl Default for Role {
    fn default() -> Self {
        Self {
            allowed_policies: Vec::new(),
            disallowed_policies: Vec::new(),
            allowed_policies_glob: Vec::new(),
            disallowed_policies_glob: Vec::new(),
            allowed_entity_aliases: None,
            orphan: false,
            renewable: true,
            path_suffix: String::new(),
            token_period: Seconds::ZERO,
            token_explicit_max_ttl: Seconds::ZERO,
            token_bound_cidrs: Vec::new(),
            token_type: "default-service".to_owned(),
            token_num_uses: 0,
            token_no_default_policy: false,
            legacy_cidrs: false,
            legacy_period: false,
            legacy_max: false,
        }
    }
}

impl Role {
    /// Whether the role itself says which policies its tokens may have.
    pub(super) fn restricts_policies(&self) -> bool {
        let lists = [&self.allowed_policies, &self.disallowed_policies, &self.allowed_policies_glob, &self.disallowed_policies_glob];
        lists.iter().any(|list| !list.is_empty())
    }
}

/// What may be set on a role. What is left out keeps its value.
#[derive(Deserialize, JsonSchema)]
pub(super) struct RoleParams {
    /// The role's name.
    role_name: String,
    /// Policies that its tokens may have; without any list, the caller's own limits hold.
    allowed_policies: Option<CommaList>,
    /// Policies that its tokens may not have.
    disallowed_policies: Option<CommaList>,
    /// Patterns of policies that its tokens may have.
    allowed_policies_glob: Option<CommaList>,
    /// Patterns of policies that its tokens may not have.
    disallowed_policies_glob: Option<CommaList>,
    /// Patterns of entity aliases that its tokens may have.
    allowed_entity_aliases: Option<CommaList>,
    /// Whether its tokens outlive their makers.
    orphan: Option<bool>,
    /// Whether its tokens can be renewed.
    renewable: Option<bool>,
    /// Appended to the path of its tokens' leases, so that they can be revoked by prefix.
    path_suffix: Option<String>,
    /// Every renewal sets the lifetime to this, without an end. In seconds or as a duration.
    token_period: Option<Seconds>,
    /// Older name of `token_period`.
    period: Option<Seconds>,
    /// A limit that renewals cannot move, in seconds or as a duration.
    token_explicit_max_ttl: Option<Seconds>,
    /// Older name of `token_explicit_max_ttl`.
    explicit_max_ttl: Option<Seconds>,
    /// Networks that its tokens may be used from.
    token_bound_cidrs: Option<CommaList>,
    /// Older name of `token_bound_cidrs`.
    bound_cidrs: Option<CommaList>,
    /// `service`, `batch`, `default-service` or `default-batch`.
    token_type: Option<String>,
    /// Requests that its tokens are good for; 0 is without limit.
    token_num_uses: Option<i64>,
    /// Leave out the `default` policy.
    token_no_default_policy: Option<bool>,
}

/// A role's name.
#[derive(Deserialize, JsonSchema)]
pub(super) struct NameParams {
    /// The role's name.
    role_name: String,
}

/// Nothing to say.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Nothing {}

pub(super) async fn find(cx: &Cx, name: &str) -> Result<Option<Role>> {
    cx.store.get_json(&key(name)).await
}

pub(super) async fn exists(_: Arc<TokenRoom>, cx: Cx, params: RoleParams) -> Result<bool> {
    Ok(find(&cx, &params.role_name).await?.is_some())
}

pub(super) async fn list(_: Arc<TokenRoom>, cx: Cx, _: Nothing) -> Result<Keys> {
    Ok(Keys(cx.list("roles/").await?))
}

pub(super) async fn delete(_: Arc<TokenRoom>, cx: Cx, params: NameParams) -> Result<()> {
    cx.store.delete(&key(&params.role_name)).await
}

pub(super) async fn read(_: Arc<TokenRoom>, cx: Cx, params: NameParams) -> Result<Reply> {
    let role = find(&cx, &params.role_name).await?.ok_or_else(Error::not_found)?;
    let mut data = Map::from_iter([
        ("name".to_owned(), json!(params.role_name)),
        ("orphan".to_owned(), json!(role.orphan)),
        ("renewable".to_owned(), json!(role.renewable)),
        ("path_suffix".to_owned(), json!(role.path_suffix)),
        ("token_type".to_owned(), json!(role.token_type)),
        ("period".to_owned(), json!(if role.legacy_period { role.token_period } else { Seconds::ZERO })),
        ("token_period".to_owned(), json!(role.token_period)),
        ("explicit_max_ttl".to_owned(), json!(if role.legacy_max { role.token_explicit_max_ttl } else { Seconds::ZERO })),
        ("token_explicit_max_ttl".to_owned(), json!(role.token_explicit_max_ttl)),
        ("allowed_policies".to_owned(), json!(role.allowed_policies)),
        ("disallowed_policies".to_owned(), json!(role.disallowed_policies)),
        ("allowed_policies_glob".to_owned(), json!(role.allowed_policies_glob)),
        ("disallowed_policies_glob".to_owned(), json!(role.disallowed_policies_glob)),
        ("allowed_entity_aliases".to_owned(), json!(role.allowed_entity_aliases)),
        ("token_no_default_policy".to_owned(), json!(role.token_no_default_policy)),
    ]);
    if !role.token_bound_cidrs.is_empty() {
        let networks = json!(canonical_networks(&role.token_bound_cidrs));
        if role.legacy_cidrs {
            data.insert("bound_cidrs".to_owned(), networks.clone());
        }
        data.insert("token_bound_cidrs".to_owned(), networks);
    }
    if role.token_num_uses > 0 {
        data.insert("token_num_uses".to_owned(), json!(role.token_num_uses));
    }
    Ok(Reply::data(data))
}

pub(super) async fn write(_: Arc<TokenRoom>, cx: Cx, params: RoleParams) -> Result<Reply> {
    let decide = |role: Option<Role>| changed(role.unwrap_or_default(), &params);
    let role = cx.store.change(&key(&params.role_name), decide).await?;
    Ok(warnings(&role, &params, cx.mount.max_lease_ttl).into_iter().fold(Reply::nothing(), Reply::warn))
}

/// The role with what the request sets. Pure.
fn changed(mut role: Role, params: &RoleParams) -> Result<Role> {
    if let Some(list) = &params.allowed_policies {
        role.allowed_policies = normal_policies(&list.0);
    }
    // What is forbidden is not a set of policies to hold: `root` among them must not swallow the others.
    if let Some(list) = &params.disallowed_policies {
        role.disallowed_policies = patterns(list);
    }
    if let Some(list) = &params.allowed_policies_glob {
        role.allowed_policies_glob = patterns(list);
    }
    if let Some(list) = &params.disallowed_policies_glob {
        role.disallowed_policies_glob = patterns(list);
    }
    if let Some(list) = &params.allowed_entity_aliases {
        role.allowed_entity_aliases = Some(list.0.iter().map(|name| name.to_lowercase()).collect());
    }
    role.orphan = params.orphan.unwrap_or(role.orphan);
    role.renewable = params.renewable.unwrap_or(role.renewable);
    if let Some(suffix) = &params.path_suffix {
        if !suffix.is_empty() && !is_suffix(suffix) {
            return Err(Error::bad_request(format!("given role path suffix contains invalid characters; must match {SUFFIX}")));
        }
        role.path_suffix.clone_from(suffix);
    }
    if let Some(list) = params.token_bound_cidrs.as_ref().or(params.bound_cidrs.as_ref()) {
        if let Some(bad) = list.0.iter().find(|network| canonical_network(network).is_none()) {
            let bad = Brief(bad);
            let text = format!(
                "error parsing role fields: error parsing address {bad:?}: Unable to convert {bad:?} to an IPv4 or IPv6 address, or a UNIX Socket"
            );
            return Err(Error::bad_request(text));
        }
        role.legacy_cidrs = params.bound_cidrs.is_some();
        role.token_bound_cidrs.clone_from(&list.0);
    }
    if params.token_period.is_some() || params.period.is_some() {
        role.legacy_period = params.token_period.is_none();
    }
    if params.token_explicit_max_ttl.is_some() || params.explicit_max_ttl.is_some() {
        role.legacy_max = params.token_explicit_max_ttl.is_none();
    }
    role.token_period = params.token_period.or(params.period).unwrap_or(role.token_period);
    role.token_explicit_max_ttl = params.token_explicit_max_ttl.or(params.explicit_max_ttl).unwrap_or(role.token_explicit_max_ttl);
    if let Some(uses) = params.token_num_uses {
        if uses < 0 {
            return Err(Error::bad_request("'token_num_uses' cannot be negative"));
        }
        role.token_num_uses = uses;
    }
    role.token_no_default_policy = params.token_no_default_policy.unwrap_or(role.token_no_default_policy);
    if let Some(kind) = &params.token_type {
        role.token_type = match kind.as_str() {
            "" | "default" | "default-service" => "default-service".to_owned(),
            "service" | "batch" | "default-batch" => kind.clone(),
            _ => return Err(Error::bad_request(format!("invalid 'token_type' value {:?}", Brief(kind)))),
        };
    }
    check_batch(&role)?;
    Ok(role)
}

/// What whoever wrote a role is to know.
fn warnings(role: &Role, params: &RoleParams, max_ttl: Seconds) -> Vec<String> {
    let twice =
        [("period", params.token_period, params.period), ("explicit_max_ttl", params.token_explicit_max_ttl, params.explicit_max_ttl)];
    let twice = twice.into_iter().filter(|(_, new, old)| new.is_some() && old.is_some());
    let mut warnings: Vec<String> = twice
        .map(|(name, ..)| format!("Both 'token_{name}' and deprecated '{name}' value supplied, ignoring the deprecated value"))
        .collect();
    if role.token_explicit_max_ttl > max_ttl {
        warnings.push(format!(
            "Given explicit max TTL of {} is greater than system/mount allowed value of {} seconds; until this is fixed attempting to create tokens against this role will result in an error",
            role.token_explicit_max_ttl.0, max_ttl.0
        ));
    }
    warnings
}

/// Whether three characters of a suffix fit Vault's pattern, which may match anywhere (recorded fixture `token-roles`).
fn is_suffix(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c: char| !word(c) && c != '-' && c != '.').any(|run| {
        let (first, last) = (run.find(word), run.rfind(word));
        first.zip(last).is_some_and(|(first, last)| last - first >= 2)
    })
}

/// As Vault prints it.
const SUFFIX: &str = r"\w[\w-.]+\w";

fn check_batch(role: &Role) -> Result<()> {
    if role.token_type != "batch" {
        return Ok(());
    }
    let problem = if !role.orphan {
        "non-orphan tokens"
    } else if !role.token_period.is_zero() {
        "periodic tokens"
    } else if role.renewable {
        "renewable tokens"
    } else if !role.token_explicit_max_ttl.is_zero() {
        "tokens with an explicit max TTL"
    } else {
        return Ok(());
    };
    Err(Error::bad_request(format!("'token_type' cannot be 'batch' when role is set to generate {problem}")))
}

/// The policies of a token that is made through a role with lists of its own, where a request names these, or none at all. Errors:
/// `BadRequest` with Vault's texts.
pub(super) fn policies(role: &Role, asked: Option<Vec<String>>, no_default: bool, parent: &Known) -> Result<Vec<String>> {
    let no_default = no_default || role.token_no_default_policy;
    let allow_lists = !role.allowed_policies.is_empty() || !role.allowed_policies_glob.is_empty();
    let mut policies = match asked {
        Some(names) => names,
        None if !role.allowed_policies.is_empty() => role.allowed_policies.clone(),
        None if !allow_lists => parent.row.policies.clone(),
        None => Vec::new(),
    };
    let default_banned = role.disallowed_policies.iter().any(|name| name == "default")
        || role.disallowed_policies_glob.iter().any(|pattern| glob(pattern, "default"));
    if !no_default && !default_banned && !policies.iter().any(|name| name == "default" || name == "root") {
        policies.push("default".to_owned());
    }
    policies = normal_policies(&policies);
    if allow_lists {
        let mut allowed = role.allowed_policies.clone();
        if !no_default && !default_banned {
            allowed.push("default".to_owned());
        }
        let allowed = normal_policies(&allowed);
        let fits = |name: &String| allowed.contains(name) || role.allowed_policies_glob.iter().any(|pattern| glob(pattern, name));
        if !policies.iter().all(fits) {
            return Err(Error::bad_request(format!(
                "token policies ({}) must be subset of the role's allowed policies ({}) or glob policies ({})",
                quoted(&policies),
                quoted(&allowed),
                quoted(&role.allowed_policies_glob)
            )));
        }
    }
    let banned =
        |name: &&String| role.disallowed_policies.contains(name) || role.disallowed_policies_glob.iter().any(|pattern| glob(pattern, name));
    if let Some(bad) = policies.iter().find(banned) {
        return Err(Error::bad_request(format!("token policy {:?} is disallowed by this role", Brief(bad))));
    }
    Ok(policies)
}

/// A pattern with `*` at its ends.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        // The first place is as good as any: what follows may stand anywhere after it.
        let Some((_, after)) = text.split_once(part) else { return false };
        text = after;
    }
    text.ends_with(end)
}

/// Names and globs as they are compared: in lower case, in order, each once; all of them.
fn patterns(list: &CommaList) -> Vec<String> {
    let mut out: Vec<String> = list.0.iter().map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()).collect();
    out.sort_unstable();
    out.dedup();
    out
}

/// As Go prints a list of quoted texts.
fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{:?}", Brief(name))).collect();
    format!("[{}]", quoted.join(" "))
}

fn key(name: &str) -> String {
    format!("roles/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A role that forbids `root` and `admin` was kept as one that forbids `root` alone, and handed out `admin`.
    #[test]
    fn a_role_that_forbids_root_still_forbids_the_others() {
        let params: RoleParams = serde_json::from_value(
            json!({ "role_name": "r", "disallowed_policies": "root, Admin", "disallowed_policies_glob": "root,prod*" }),
        )
        .unwrap();
        let role = changed(Role::default(), &params).unwrap();
        assert_eq!(
            (role.disallowed_policies, role.disallowed_policies_glob),
            (vec!["admin".to_owned(), "root".to_owned()], vec!["prod*".to_owned(), "root".to_owned()])
        );
    }

    /// A role that forbids `prod*eu` handed out `prod-admin-eu`, because a star in the middle was taken for a letter.
    #[test]
    fn a_star_stands_for_anything_wherever_it_is() {
        for (pattern, text) in
            [("*", ""), ("*", "x"), ("prod*eu", "prod-admin-eu"), ("prod*eu", "prodeu"), ("*a*b*", "xaybz"), ("a**b", "ab")]
        {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("prod*eu", "prod-us"), ("ab*ba", "aba"), ("*a*b", "ba"), ("x", "xx"), ("*b*a*", "ab"), ("a*", "ba")] {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
    }
}
