//! What a token may do: the patterns of all its policies, arranged so that the one that counts is found quickly.

use std::sync::Arc;

use daypass_base::Seconds;
use serde_json::{Map, Value, json};

use crate::arranged::Arranged;
use crate::denies::{AllDenies, Best};
use crate::fold::{Folded, bare};
use crate::parameters::{is_allowed, is_denied, lower};
use crate::pattern::{Class, class};
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
    /// one; a grant on them is neither needed nor enough. What a rule for one of them lacks that another grants for both is not granted here.
    pub stands_for: &'a [&'a str],
    /// Names of fields that mean nothing at those other paths: rules for them are not asked about these.
    pub apart: &'a [&'a str],
    /// Capabilities of which any one is enough at those other paths. Where a rule for one of them has none, none is granted here.
    pub alike: Capabilities,
    /// Whether the path is Vault's own and those others are not: then a rule with wildcards for one of them, which may have been written for what Vault has
    /// below it, takes no capability away here.
    pub is_vaults: bool,
}

impl<'a> Question<'a> {
    /// A request without data and wrapping on a path that is not protected for root.
    #[must_use]
    pub fn new(path: &'a str, operation: Operation) -> Self {
        let alike = Capabilities::NONE;
        Self {
            path,
            operation,
            data: None,
            wrap_ttl: None,
            sudo_path: false,
            comma_lists: &[],
            stands_for: &[],
            apart: &[],
            alike,
            is_vaults: false,
        }
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

    /// Whether a request may go on. Exactly one rule grants it: see [`Acl::rule_for`]. Narrower ones for the name in its folded spelling may refuse it, see
    /// [`Acl::narrower`], and where the path stands for others, their rules.
    #[must_use]
    pub fn judge<'a>(&'a self, question: &Question<'a>) -> Verdict<'a> {
        let asked = question.operation.needs();
        let verdict = |allowed, reason, rule| Verdict { allowed, reason, rule, elsewhere: None, asked };
        if self.root {
            return verdict(true, Reason::Root, None);
        }
        let Some(needed) = asked else { return verdict(true, Reason::Help, None) };
        let Some(rule) = self.rule_for(question.path, question.operation) else { return verdict(false, Reason::NoPattern, None) };
        let refused = |rule: &'a Rule| {
            let permissions = &*rule.permissions;
            refusal(permissions, question, needed, &[], |capability| !permissions.capabilities.has(capability)).map(|reason| (reason, rule))
        };
        if let Some((reason, rule)) = refused(rule).or_else(|| self.narrower(question.path, question.operation, rule).find_map(refused)) {
            return verdict(false, reason, Some(rule));
        }
        match question.stands_for.iter().find_map(|path| self.refusal_elsewhere(path, question, needed, rule)) {
            Some((reason, rule, path)) => Verdict { elsewhere: Some(path), ..verdict(false, reason, Some(rule)) },
            None => verdict(true, Reason::Granted, Some(rule)),
        }
    }

    /// The rule that decides about a path: an exact pattern; for a list also one without the final slash; then the best
    /// pattern with wildcards, for a list first without the final slash. A deny decides about every spelling of what it denies,
    /// unless something that is more specific decides about the path as it is spelled; for a list, a deny decides that
    /// is the best pattern with wildcards for the path with or without the final slash.
    #[must_use]
    pub fn rule_for(&self, path: &str, operation: Operation) -> Option<&Rule> {
        let path = path.trim_start_matches('/');
        let Spelled { without, exact, wild, wild_without } = self.spelled(path, operation);
        let spelled = exact.or_else(|| decider(wild, wild_without));
        if self.denies().is_empty() || spelled.is_some_and(|rule| rule.permissions.capabilities.denies()) {
            return spelled;
        }
        self.folded_deny(path, without.map(|without| (without, wild_without)), exact.is_some(), wild).or(spelled)
    }

    /// The rules that a path has to the letter.
    fn spelled<'p>(&self, path: &'p str, operation: Operation) -> Spelled<'_, 'p> {
        let without = if operation == Operation::List { path.strip_suffix('/') } else { None };
        let exact = self.exact_rule(path).or_else(|| without.and_then(|without| self.exact_rule(without)));
        let best = |path| if exact.is_none() { self.best_wildcard(path) } else { None };
        Spelled { without, exact, wild: best(path), wild_without: without.and_then(best) }
    }

    /// The rules for the folded spelling of a path that are narrower than the one that decides about it as it is spelled. Of what is below `auth/`, `identity/` and `sys/`
    /// handlers fold most names ([`LETTERED_BELOW`] has the others), so that a right to all names but for less to one would else be all rights to that one, spelled in another way. What they do not
    /// grant is not granted. None for a path that is spelled so already, and for one that has a rule of exactly its own: who writes that means it.
    ///
    /// Denies are not among them: [`Acl::rule_for`] weighs those, for every path.
    fn narrower<'a>(&'a self, path: &str, operation: Operation, rule: &Rule) -> impl Iterator<Item = &'a Rule> {
        let path = path.trim_start_matches('/');
        // Asked before anything is folded: most rules that decide below these are of exactly their path.
        let may_be = FOLDED_BELOW.iter().any(|head| path.starts_with(head)) && *rule.pattern != *path;
        let found = if may_be { self.narrower_folded(path, operation, rule) } else { [None; 2] };
        found.into_iter().flatten()
    }

    /// Of the folded path, and of that without what is at its end.
    fn narrower_folded<'a>(&'a self, path: &str, operation: Operation, rule: &Rule) -> [Option<&'a Rule>; 2] {
        let folded = Folded::behind(path, to_the_letter(path));
        let (is_other, folded) = (!matches!(folded, Folded::Same(_)), folded.as_str());
        let bare = bare(folded);
        // A list is of what is below a name: its slash is no other spelling.
        let is_bare = bare.len() == folded.len() || operation == Operation::List && folded.strip_suffix('/') == Some(bare);
        let narrower = |path| {
            let Spelled { exact, wild, wild_without, .. } = self.spelled(path, operation);
            let found = exact.or_else(|| decider(wild, wild_without));
            found.filter(|found| !std::ptr::eq(*found, rule) && !found.permissions.capabilities.denies() && found.is_narrower_than(rule))
        };
        [if is_other { narrower(folded) } else { None }, if is_bare { None } else { narrower(bare) }]
    }

    /// Whether `sudo` is among what may be done on a path; what else its rule demands of a request does not matter.
    #[must_use]
    pub fn has_sudo(&self, path: &str, operation: Operation) -> bool {
        let has = |rule: &Rule| !rule.permissions.capabilities.denies() && rule.permissions.capabilities.has(Capability::Sudo);
        self.root || self.rule_for(path, operation).is_some_and(|rule| has(rule) && self.narrower(path, operation, rule).all(has))
    }

    /// The names of what may be done on a path, sorted, as `sys/capabilities` answers them: `["root"]` for root,
    /// `["deny"]` for nothing. Like Vault it looks for the rule as a list would.
    #[must_use]
    pub fn capabilities(&self, path: &str) -> Vec<&'static str> {
        self.capabilities_beside(path, &[], Capabilities::NONE, false)
    }

    /// The same of a path that stands for others, see [`Question::stands_for`]: without what their rules take away, which is all where one denies.
    #[must_use]
    pub fn capabilities_beside(&self, path: &str, stands_for: &[&str], alike: Capabilities, is_vaults: bool) -> Vec<&'static str> {
        if self.root {
            return vec!["root"];
        }
        let Some(rule) = self.rule_for(path, Operation::List) else { return Capabilities::NONE.names() };
        let mut granted = self.granted(path, rule);
        for other in stands_for {
            let Some(elsewhere) = self.rule_elsewhere(other, path, Operation::List) else { continue };
            if elsewhere.permissions.capabilities.denies() {
                return Capabilities::NONE.names();
            }
            if weighs_lacks(elsewhere, is_vaults) {
                granted = granted.iter().filter(|capability| !takes_away(elsewhere, other, *capability, rule, alike)).collect();
            }
        }
        granted.names()
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
    fn rule_elsewhere(&self, other: &str, path: &str, operation: Operation) -> Option<&Rule> {
        self.rule_for(other, operation).filter(|rule| !rule.is_about(path.trim_start_matches('/')))
    }

    /// Why a request that a rule grants is refused all the same, for what holds at another path to the same thing.
    fn refusal_elsewhere<'a>(
        &'a self,
        other: &'a str,
        question: &Question<'a>,
        needed: Capability,
        granting: &Rule,
    ) -> Option<(Reason<'a>, &'a Rule, &'a str)> {
        let rule = self.rule_elsewhere(other, question.path, question.operation)?;
        let lacks = |capability| weighs_lacks(rule, question.is_vaults) && takes_away(rule, other, capability, granting, question.alike);
        refusal(&rule.permissions, question, needed, question.apart, lacks).map(|reason| (reason, rule, other))
    }

    fn capability_set(&self, path: &str) -> Capabilities {
        self.rule_for(path, Operation::List).map_or(Capabilities::NONE, |rule| self.granted(path, rule))
    }

    /// What the rule that decides about a path grants, without what narrower ones for its folded spelling do not.
    fn granted(&self, path: &str, rule: &Rule) -> Capabilities {
        let all = rule.permissions.capabilities;
        if all.denies() {
            return all;
        }
        self.narrower(path, Operation::List, rule)
            .fold(all, |all, narrower| all.iter().filter(|capability| narrower.permissions.capabilities.has(*capability)).collect())
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

/// The rules that a path has to the letter: of exactly this path, and the best with wildcards where there is no such rule; for a list also of the path without
/// its final slash.
struct Spelled<'a, 'p> {
    without: Option<&'p str>,
    exact: Option<&'a Rule>,
    wild: Option<Best<'a>>,
    wild_without: Option<Best<'a>>,
}

/// Whether what the rule for another path to the same thing lacks counts here: at Vault's own path only where the rule is of exactly that other one.
fn weighs_lacks(elsewhere: &Rule, is_vaults: bool) -> bool {
    !is_vaults || class(&elsewhere.pattern) == Class::Exact
}

/// Whether the rule for another path to the same thing takes away a capability that is granted here: where another, of those that are alike, would do there, none
/// of them is granted; any other one that is lacking is taken from a rule that is about both paths. To a rule that is about this one alone, it is a right of its own.
fn takes_away(elsewhere: &Rule, other: &str, capability: Capability, granting: &Rule, alike: Capabilities) -> bool {
    let there = elsewhere.permissions.capabilities;
    if alike.has(capability) { !there.has_any(alike) } else { !there.has(capability) && granting.is_about(other) }
}

/// Why these permissions do not allow the request: they deny it, lack a capability, or demand what it does not have.
fn refusal<'a>(
    permissions: &'a Permissions,
    question: &Question<'a>,
    needed: Capability,
    apart: &[&str],
    lacks: impl Fn(Capability) -> bool,
) -> Option<Reason<'a>> {
    if permissions.capabilities.denies() {
        return Some(Reason::Denied);
    }
    if lacks(needed) {
        return Some(Reason::MissingCapability(needed));
    }
    if let Some(reason) = unmet_demand(permissions, question, apart) {
        return Some(reason);
    }
    (question.sudo_path && lacks(Capability::Sudo)).then_some(Reason::MissingCapability(Capability::Sudo))
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

/// Below these, handlers take a name in any spelling for the same: policies, users, roles, entities. Elsewhere `Key` and `key` are two things.
const FOLDED_BELOW: [&str; 3] = ["auth/", "identity/", "sys/"];

/// Below these handlers take names as they are spelled: roles of tokens, keys and providers of OIDC, paths of mounts and of audit devices, leases, password
/// policies, quotas. Only what is at the end is
/// dropped there.
const LETTERED_BELOW: [&str; 14] = [
    "auth/token/",
    "identity/oidc/",
    "sys/audit-hash/",
    "sys/audit/",
    "sys/auth/",
    "sys/internal/ui/mounts/",
    "sys/leases/",
    "sys/mounts/",
    "sys/policies/password/",
    "sys/quotas/",
    "sys/renew/",
    "sys/revoke-force/",
    "sys/revoke-prefix/",
    "sys/revoke/",
];

/// How many bytes at the beginning of a path handlers take as they are spelled: the whole path below some, and the name of a mount below `auth/`.
fn to_the_letter(path: &str) -> usize {
    if LETTERED_BELOW.iter().any(|head| path.starts_with(head)) {
        return path.len();
    }
    let below = path.strip_prefix("auth/").and_then(|mount| Some(mount.split_once('/')?.1));
    below.map_or(0, |below| path.len() - below.len())
}

#[cfg(test)]
mod tests;
