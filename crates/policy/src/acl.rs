//! What a token may do: the patterns of all its policies, arranged so that the one that counts is found quickly.

use std::sync::Arc;

use daypass_base::Seconds;
use serde_json::{Map, Value, json};

use crate::arranged::Arranged;
use crate::denies::{AllDenies, Best};
use crate::fold::{Folded, bare};
use crate::parameters::{is_allowed, is_denied, lower};
use crate::verdict::{Reason, Rule, Verdict};
use crate::{Capabilities, Capability, Identity, Operation, Permissions, Policy, PolicySet};

/// A request as policies see it.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The path without `v1/`. Slashes in front of it are ignored.
    pub path: &'a str,
    /// What it wants to do.
    pub operation: Operation,
    /// What it sends: the body, or the query of a GET.
    pub data: Option<&'a Map<String, Value>>,
    /// How long the answer is to be wrapped, when it is.
    pub wrap_ttl: Option<Seconds>,
    /// Whether the path is protected for root, so that `sudo` is needed too.
    pub sudo_path: bool,
    /// Names of the endpoint's fields that read a text as a list (`a,b`): there each part is judged.
    pub comma_lists: &'a [&'a str],
    /// Other paths to the same thing. A deny of one of them denies the request, and what a rule for one demands of requests is demanded of this
    /// one; a grant on them is neither needed nor enough.
    pub stands_for: &'a [&'a str],
    /// Names of fields that mean nothing at those other paths: rules for them are not asked about these.
    pub apart: &'a [&'a str],
}

impl<'a> Question<'a> {
    /// A request without data and wrapping on a path that is not protected for root.
    #[must_use]
    pub fn new(path: &'a str, operation: Operation) -> Self {
        Self { path, operation, data: None, wrap_ttl: None, sudo_path: false, comma_lists: &[], stands_for: &[], apart: &[] }
    }
}

/// The compiled policies of a token.
///
/// ```
/// use std::sync::Arc;
/// use daypass_policy::{Acl, Identity, Operation, Policy, Question};
/// let policy = Policy::parse("ci", "path \"aws/sts/*\" { capabilities = [\"read\"] }").unwrap();
/// let acl = Acl::compile(&[Arc::new(policy)], &Identity::default());
/// let verdict = acl.judge(&Question::new("aws/sts/deploy", Operation::Read));
/// assert!(verdict.allowed);
/// assert_eq!(verdict.to_string(), "allowed by \"aws/sts/*\" of policy ci: granted");
/// assert_eq!(acl.capabilities("aws/sts/deploy"), ["read"]);
/// ```
#[derive(Debug, Clone)]
pub struct Acl {
    root: bool,
    /// What everybody has who has the same policies.
    shared: Arc<Arranged>,
    /// What came of templates. It goes before the same pattern in `shared`, which is united with it here.
    own: Arranged,
}

impl Acl {
    /// Arranges the policies of a token for whoever it belongs to; see [`PolicySet`] to do so for many callers.
    /// The root policy among them permits everything.
    #[must_use]
    pub fn compile(policies: &[Arc<Policy>], identity: &Identity) -> Self {
        PolicySet::new(policies.to_vec()).acl(identity)
    }

    pub(crate) fn new(root: bool, shared: Arc<Arranged>, own: Arranged) -> Self {
        Self { root, shared, own }
    }

    /// About how much memory it takes, what it shares with others not counted.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.own.bytes()
    }

    /// Whether the root policy is among the policies.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.root
    }

    /// Whether a request may go on. Exactly one rule grants it: see [`Acl::rule_for`]. Where the path stands for others, their rules may refuse it.
    #[must_use]
    pub fn judge<'a>(&'a self, question: &Question<'a>) -> Verdict<'a> {
        let asked = question.operation.needs();
        let verdict = |allowed, reason, rule| Verdict { allowed, reason, rule, elsewhere: None, asked };
        if self.root {
            return verdict(true, Reason::Root, None);
        }
        let Some(needed) = asked else { return verdict(true, Reason::Help, None) };
        let Some(rule) = self.rule_for(question.path, question.operation) else { return verdict(false, Reason::NoPattern, None) };
        if let Some(reason) = refusal(&rule.permissions, question, needed) {
            return verdict(false, reason, Some(rule));
        }
        match question.stands_for.iter().find_map(|path| self.refusal_elsewhere(path, question)) {
            Some((reason, rule, path)) => Verdict { elsewhere: Some(path), ..verdict(false, reason, Some(rule)) },
            None => verdict(true, Reason::Granted, Some(rule)),
        }
    }

    /// The rule that decides about a path: an exact pattern; for a list also one without the final slash; then the best
    /// pattern with wildcards, for a list first without the final slash. A deny decides about every spelling of what it denies,
    /// unless something that is more specific decides about the path as it is spelled; for a list, a deny decides that
    /// is the best pattern with wildcards for the path with or without the final slash.
    #[must_use]
    pub fn rule_for<'a>(&'a self, path: &'a str, operation: Operation) -> Option<&'a Rule> {
        let path = path.trim_start_matches('/');
        let without = if operation == Operation::List { path.strip_suffix('/') } else { None };
        let exact = self.exact_rule(path).or_else(|| without.and_then(|without| self.exact_rule(without)));
        let best = |path| if exact.is_none() { self.best_wildcard(path) } else { None };
        let (wild, wild_without) = (best(path), without.and_then(best));
        let spelled = exact.or_else(|| decider(wild, wild_without));
        if self.denies().is_empty() || spelled.is_some_and(|rule| rule.permissions.capabilities.denies()) {
            return spelled;
        }
        self.folded_deny(path, without.map(|without| (without, wild_without)), exact.is_some(), wild).or(spelled)
    }

    /// Whether `sudo` is among what may be done on a path; what else its rule demands of a request does not matter.
    #[must_use]
    pub fn has_sudo(&self, path: &str, operation: Operation) -> bool {
        let has = |rule: &Rule| !rule.permissions.capabilities.denies() && rule.permissions.capabilities.has(Capability::Sudo);
        self.root || self.rule_for(path, operation).is_some_and(has)
    }

    /// The names of what may be done on a path, sorted, as `sys/capabilities` answers them: `["root"]` for root,
    /// `["deny"]` for nothing. Like Vault it looks for the rule as a list would.
    #[must_use]
    pub fn capabilities(&self, path: &str) -> Vec<&'static str> {
        self.capabilities_beside(path, &[])
    }

    /// The same of a path that stands for others: nothing where one of those is denied.
    #[must_use]
    pub fn capabilities_beside(&self, path: &str, stands_for: &[&str]) -> Vec<&'static str> {
        if self.root {
            return vec!["root"];
        }
        let denies = |rule: &Rule| rule.permissions.capabilities.denies();
        let is_denied = stands_for.iter().any(|other| self.rule_elsewhere(other, path, Operation::List).is_some_and(denies));
        if is_denied { Capabilities::NONE.names() } else { self.capability_set(path).names() }
    }

    /// Whether anything is granted on a path that ends in `/` or below it: is the mount to be shown?
    #[must_use]
    pub fn has_any_below(&self, prefix: &str) -> bool {
        let prefix = prefix.trim_start_matches('/');
        let grants = |rule: &Rule| rule.permissions.capabilities.grants();
        if !self.root && self.denies().barring(Folded::new(prefix).as_str()).is_some() {
            return false;
        }
        let longest_prefix = || better(self.shared.longest_prefix(prefix), self.own.longest_prefix(prefix));
        self.root
            || self.capability_set(prefix).grants()
            || self.own.any_below(prefix, grants)
            || self.shared.any_below(prefix, |rule| grants(rule) && self.own.of_pattern(&rule.pattern).is_none())
            // Of the prefixes that cover the whole mount the longest counts. (Vault looks at the path of the mount alone,
            // where another rule may decide, and then hides mounts that can be used.)
            || longest_prefix().is_some_and(|(_, rule)| grants(rule))
    }

    /// All patterns with what they permit, in the shape of `sys/internal/ui/resultant-acl`. Prefixes stand there without
    /// their `*`, patterns with `+` as they are written.
    #[must_use]
    pub fn resultant_acl(&self) -> Map<String, Value> {
        let mut data = Map::from_iter([("root".to_owned(), json!(self.root)), ("chroot_namespace".to_owned(), json!(""))]);
        if self.root {
            return data;
        }
        let (mut exact, mut glob) = (Map::new(), Map::new());
        for half in [&*self.shared, &self.own] {
            exact.extend(half.exact_rules().map(|rule| (rule.pattern.to_string(), described(&rule.permissions))));
            glob.extend(half.wild_rules().map(|(name, rule)| (name.to_owned(), described(&rule.permissions))));
        }
        for rule in self.own.denies().barred() {
            let stem = rule.pattern.strip_suffix('*').unwrap_or(&rule.pattern);
            glob.insert(stem.to_owned(), described(&rule.permissions));
        }
        data.insert("exact_paths".to_owned(), exact.into());
        data.insert("glob_paths".to_owned(), glob.into());
        data
    }

    /// The deny that decides about a path because it is another spelling of what the deny is about. `wild` is the best pattern with
    /// wildcards for the path as it is spelled; for a list, `without` is the path without its final slash and the best for that.
    fn folded_deny(&self, path: &str, without: Option<(&str, Option<Best<'_>>)>, is_exact: bool, wild: Option<Best<'_>>) -> Option<&Rule> {
        let folded = Folded::new(path);
        let (folded, denies) = (folded.as_str(), self.denies());
        if let Some(rule) = denies.barring(folded) {
            return Some(rule);
        }
        let listed_by_itself = || without.is_some() && self.exact_rule(path).is_some();
        if let Some(rule) = denies.exactly(folded, listed_by_itself) {
            return Some(rule);
        }
        if is_exact {
            return None;
        }
        if let Some(rule) = denies.over(folded, path, wild) {
            return Some(rule);
        }
        // The path as handlers see it that drop what is at its end.
        let spelled = bare(path);
        if spelled.len() == path.len() {
            return None;
        }
        match without {
            Some((without, best)) if without == spelled => denies.over(bare(folded), spelled, best),
            Some(_) => denies.over(bare(folded), spelled, self.best_wildcard(spelled)),
            // Hardly ever is there such a deny at all.
            None => denies.over_bare(folded, spelled, None).and_then(|_| {
                let best = self.best_wildcard(spelled);
                denies.over_bare(folded, spelled, best)
            }),
        }
    }

    /// The rule for another path to the same thing. One that is about the path itself, too, was weighed there: if it does not decide there,
    /// something more specific does.
    fn rule_elsewhere<'a>(&'a self, other: &'a str, path: &str, operation: Operation) -> Option<&'a Rule> {
        self.rule_for(other, operation).filter(|rule| !rule.is_about(path.trim_start_matches('/')))
    }

    fn refusal_elsewhere<'a>(&'a self, other: &'a str, question: &Question<'a>) -> Option<(Reason<'a>, &'a Rule, &'a str)> {
        let rule = self.rule_elsewhere(other, question.path, question.operation)?;
        let permissions = &rule.permissions;
        let reason =
            if permissions.capabilities.denies() { Some(Reason::Denied) } else { unmet_demand(permissions, question, question.apart) };
        Some((reason?, rule, other))
    }

    fn capability_set(&self, path: &str) -> Capabilities {
        self.rule_for(path, Operation::List).map_or(Capabilities::NONE, |rule| rule.permissions.capabilities)
    }

    /// The patterns that came of templates.
    #[cfg(test)]
    pub(crate) fn own_rules(&self) -> impl Iterator<Item = &Rule> {
        self.own.exact_rules().chain(self.own.wild_rules().map(|(_, rule)| rule))
    }

    #[cfg(test)]
    pub(crate) fn has_barred(&self) -> bool {
        self.own.denies().barred().next().is_some()
    }

    fn denies(&self) -> AllDenies<'_> {
        AllDenies([self.own.denies(), self.shared.denies()])
    }

    /// The rule of exactly this pattern, if it has no wildcards.
    pub(crate) fn exact_rule(&self, path: &str) -> Option<&Rule> {
        self.own.exact(path).or_else(|| self.shared.exact(path))
    }

    /// All patterns with wildcards that match a path, the best first.
    pub(crate) fn wildcards<'a>(&'a self, path: &'a str) -> Vec<Best<'a>> {
        let shared = self.shared.wildcards(path).filter(|(_, rule)| self.own.of_pattern(&rule.pattern).is_none());
        let mut all: Vec<_> = shared.chain(self.own.wildcards(path)).collect();
        all.sort_by(|(a, _), (b, _)| b.cmp(a));
        all
    }

    fn best_wildcard(&self, path: &str) -> Option<Best<'_>> {
        better(self.shared.best_wildcard(path), self.own.best_wildcard(path))
    }
}

/// The better of two; the second where both are of one pattern.
fn better<'a>(one: Option<Best<'a>>, other: Option<Best<'a>>) -> Option<Best<'a>> {
    one.into_iter().chain(other).max_by(|(a, _), (b, _)| a.cmp(b))
}

/// Of the best patterns with wildcards for a path and, for a list, for the path without its final slash, the one that decides.
fn decider<'a>(whole: Option<Best<'a>>, without: Option<Best<'a>>) -> Option<&'a Rule> {
    let (whole, without) = (whole.map(|(_, rule)| rule), without.map(|(_, rule)| rule));
    let deny = whole.filter(|rule| rule.permissions.capabilities.denies());
    without.filter(|rule| deny.is_none() || rule.permissions.capabilities.denies()).or(whole)
}

/// Why these permissions do not allow the request.
fn refusal<'a>(permissions: &'a Permissions, question: &Question<'a>, needed: Capability) -> Option<Reason<'a>> {
    if permissions.capabilities.denies() {
        return Some(Reason::Denied);
    }
    if !permissions.capabilities.has(needed) {
        return Some(Reason::MissingCapability(needed));
    }
    if let Some(reason) = unmet_demand(permissions, question, &[]) {
        return Some(reason);
    }
    (question.sudo_path && !permissions.capabilities.has(Capability::Sudo)).then_some(Reason::MissingCapability(Capability::Sudo))
}

/// What these permissions demand of a request, beside the right to it, and the request does not meet. Fields that are `apart` are not looked at.
fn unmet_demand<'a>(permissions: &'a Permissions, question: &Question<'a>, apart: &[&str]) -> Option<Reason<'a>> {
    let (min, max) = (permissions.wrapping_min, permissions.wrapping_max);
    // Merging may leave a minimum over the maximum; then nothing fits.
    let limited = min.set().is_some() || max.set().is_some();
    let fits = question.wrap_ttl.is_some_and(|ttl| ttl >= min && max.set().is_none_or(|max| ttl <= max));
    if limited && !fits {
        return Some(Reason::WrapTtl { min, max });
    }
    if question.operation.takes_parameters() { parameter_refusal(permissions, question, apart) } else { None }
}

fn parameter_refusal<'a>(permissions: &'a Permissions, question: &Question<'a>, apart: &[&str]) -> Option<Reason<'a>> {
    // The names that a policy requires are lower case, and those sent must be as well: Vault's rule.
    let missing = permissions.required.iter().find(|name| !question.data.is_some_and(|data| data.contains_key(name.as_str())));
    if let Some(name) = missing {
        return Some(Reason::MissingParameter(name));
    }
    let sent = || question.data.into_iter().flatten().filter(|(name, _)| !apart.contains(&name.as_str()));
    let is_comma_list = |name: &str| question.comma_lists.contains(&lower(name).as_ref());
    for (name, value) in sent() {
        let denied = permissions.denied.values(name).is_some_and(|listed| is_denied(value, listed, is_comma_list(name)));
        if denied || permissions.denied.has_all() {
            return Some(Reason::DeniedParameter(name));
        }
    }
    if permissions.allowed.is_empty() {
        return None;
    }
    for (name, value) in sent() {
        let allowed = match permissions.allowed.values(name) {
            Some(listed) => is_allowed(value, listed, is_comma_list(name)),
            None => permissions.allowed.has_all(),
        };
        if !allowed {
            return Some(Reason::ParameterNotAllowed(name));
        }
    }
    None
}

pub(crate) fn described(permissions: &Permissions) -> Value {
    let mut data = Map::from_iter([("capabilities".to_owned(), json!(permissions.capabilities.names()))]);
    let mut add = |name: &str, value: Value, present: bool| {
        if present {
            data.insert(name.to_owned(), value);
        }
    };
    let parameters = |all: &crate::Parameters| all.iter().map(|(name, values)| (name.to_owned(), json!(values))).collect::<Map<_, _>>();
    add("min_wrapping_ttl", json!(permissions.wrapping_min), !permissions.wrapping_min.is_zero());
    add("max_wrapping_ttl", json!(permissions.wrapping_max), !permissions.wrapping_max.is_zero());
    add("allowed_parameters", parameters(&permissions.allowed).into(), !permissions.allowed.is_empty());
    add("denied_parameters", parameters(&permissions.denied).into(), !permissions.denied.is_empty());
    add("required_parameters", json!(permissions.required), !permissions.required.is_empty());
    Value::Object(data)
}

#[cfg(test)]
mod tests;
