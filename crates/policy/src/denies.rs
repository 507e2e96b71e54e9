//! The denies of a token once more, folded: a deny holds for every spelling of the name that it denies.
//!
//! Vault compared denies to the letter until CVE-2026-89322: `sys/policies/acl/Admin` was not what `sys/policies/acl/admin` denies, but it
//! was the same policy to the handler. Precedence is as ever: what is granted more specifically than a deny stays granted.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::Permissions;
use crate::fold::{bare, fold};
use crate::pattern::{Class, PrefixIndex, Rank, Segments, Width, class};
use crate::verdict::Rule;

/// The best rule with wildcards for a path, with its rank.
pub(crate) type Best<'a> = (&'a Rank, &'a Rule);

/// Folded denies. Empty for most tokens, and then nothing is folded for them.
#[derive(Debug, Clone)]
pub(crate) struct Denies {
    /// By the bare path.
    exact: PrefixIndex<Exact>,
    /// By the text before the `*`.
    prefixes: PrefixIndex<(Width, Rule)>,
    /// By the text before the first `+` segment.
    segments: PrefixIndex<Vec<Wild>>,
    /// What nobody gets below, whatever else is granted there: a deny that could not be filled in stands behind it.
    barred: PrefixIndex<Rule>,
    empty: bool,
}

/// The denies of one bare path.
#[derive(Debug, Clone, Default)]
struct Exact {
    /// Of the path, however it ends.
    bare: Option<Rule>,
    /// Of the path with its final slash: for a list it is as specific as the path itself.
    slashed: Option<Rule>,
}

#[derive(Debug, Clone)]
struct Wild {
    /// Length of the text before the first wildcard.
    head: usize,
    folded: Segments,
    /// The pattern with the final slash that it lost, if it did: it stands for bare paths alone then, of things that a slash does not change.
    slashed: Option<Segments>,
    spelled: Segments,
    rule: Rule,
}

impl Denies {
    /// From all rules of a token, and the texts below which everything is barred.
    pub(crate) fn new<'a>(rules: impl Iterator<Item = &'a Rule>, barred: BTreeMap<String, Rule>) -> Self {
        let mut exact: BTreeMap<String, Exact> = BTreeMap::new();
        let mut prefixes = BTreeMap::new();
        let mut segments: BTreeMap<String, Vec<Wild>> = BTreeMap::new();
        for rule in rules.filter(|rule| rule.permissions.capabilities.denies()) {
            let folded = fold(&rule.pattern);
            match class(&rule.pattern) {
                Class::Exact => {
                    let bare = bare(&folded);
                    let kept = exact.entry(bare.to_owned()).or_default();
                    let place = if is_slashed(&folded, bare) { &mut kept.slashed } else { &mut kept.bare };
                    place.get_or_insert_with(|| rule.clone());
                }
                Class::Prefix => {
                    let stem = folded.strip_suffix('*').unwrap_or(&folded);
                    prefixes.entry(stem.to_owned()).or_insert_with(|| (Width::of_prefix(stem), rule.clone()));
                }
                Class::Segments => {
                    let without = Some(bare(&folded)).filter(|bare| bare.len() < folded.len());
                    for pattern in [folded.as_str()].into_iter().chain(without) {
                        let slashed = (pattern.len() < folded.len()).then(|| Segments::new(&folded));
                        let (spelled, rule, head) = (Segments::new(&rule.pattern), rule.clone(), Segments::head(pattern));
                        let wild = Wild { head: head.len(), folded: Segments::new(pattern), slashed, spelled, rule };
                        segments.entry(head.to_owned()).or_default().push(wild);
                    }
                }
            }
        }
        let barred: BTreeMap<String, Rule> = barred.into_iter().map(|(head, rule)| (fold(&head), rule)).collect();
        Self {
            empty: exact.is_empty() && prefixes.is_empty() && segments.is_empty() && barred.is_empty(),
            exact: PrefixIndex::new(exact),
            prefixes: PrefixIndex::new(prefixes),
            segments: PrefixIndex::new(segments),
            barred: PrefixIndex::new(barred),
        }
    }

    /// What everything is barred below.
    pub(crate) fn barred(&self) -> impl Iterator<Item = &Rule> {
        self.barred.iter().map(|(_, rule)| rule)
    }

    /// Those with wildcards that count, the longest text before the wildcard first.
    fn wild<'a>(&'a self, folded: &str, spelled: &str, best: Option<Best<'_>>) -> impl Iterator<Item = &'a Wild> {
        let is_bare = !folded.ends_with('/');
        let counts = move |wild: &&Wild| {
            let width = wild.folded.rank().folded();
            // Compared first: it is cheaper than matching.
            let order = best.map(|(best, rule)| (width.cmp(best.folded()), rule));
            let is_about = wild.slashed.is_none() || (is_bare && is_same_with_slash(folded));
            if matches!(order, Some((Ordering::Less, _))) || !is_about || !wild.folded.matches(folded) {
                return false;
            }
            // Beside a grant as specific, one that matches to the letter has been weighed already, and lost by the alphabet.
            let beside = order.filter(|(order, rule)| order.is_eq() && !rule.permissions.capabilities.denies());
            beside.is_none() || !wild.spelled.matches(spelled)
        };
        self.segments.chain(folded).flatten().filter(counts)
    }
}

/// The denies of a token: what is its own before what it shares with others. Where several decide, it is always the one that would in one
/// arrangement of all; of the same pattern, the token's own.
#[derive(Clone, Copy)]
pub(crate) struct AllDenies<'a>(pub(crate) [&'a Denies; 2]);

impl<'a> AllDenies<'a> {
    pub(crate) fn is_empty(self) -> bool {
        self.0.iter().all(|denies| denies.empty)
    }

    /// The deny that covers everything below some text that a folded path begins with.
    pub(crate) fn barring(self, folded: &str) -> Option<&'a Rule> {
        self.0.into_iter().find_map(|denies| denies.barred.chain(folded).next())
    }

    /// The deny of exactly this path. `yields` tells whether the path itself, with its final slash, has a rule that is to be listed by:
    /// a deny of the path without the slash is the lesser one then.
    pub(crate) fn exactly(self, folded: &str, yields: impl FnOnce() -> bool) -> Option<&'a Rule> {
        let bare = bare(folded);
        let found = self.0.map(|denies| denies.exact.get(bare));
        let first = |rules: [Option<&'a Rule>; 2]| rules.into_iter().flatten().min_by(|a, b| a.pattern.cmp(&b.pattern));
        let slashed = first(found.map(|found| found?.slashed.as_ref()));
        let slashed = slashed.filter(|_| is_slashed(folded, bare) || is_same_with_slash(bare));
        match first(found.map(|found| found?.bare.as_ref())) {
            Some(rule) if slashed.is_none() => (!yields()).then_some(rule),
            rule => rule.or(slashed),
        }
    }

    /// A deny with wildcards that matches a folded path and is no less specific than the best rule for the path as it is spelled.
    pub(crate) fn over(self, folded: &str, spelled: &str, best: Option<Best<'_>>) -> Option<&'a Rule> {
        let longest = self.0.into_iter().filter_map(|denies| denies.prefixes.chain(folded).next());
        let longest = longest.min_by(|(a, one), (b, other)| b.cmp(a).then_with(|| one.pattern.cmp(&other.pattern)));
        let longest = longest.filter(|(width, _)| best.is_none_or(|(best, _)| width >= best.folded()));
        longest.map(|(_, rule)| rule).or_else(|| self.first_wild(|denies| denies.wild(folded, spelled, best).next()))
    }

    /// The same for a path without its final slash; what matches the whole path was weighed there.
    pub(crate) fn over_bare(self, folded: &str, spelled: &str, best: Option<Best<'_>>) -> Option<&'a Rule> {
        let is_weighed = |wild: &Wild| wild.slashed.as_ref().unwrap_or(&wild.folded).matches(folded);
        self.first_wild(|denies| denies.wild(bare(folded), spelled, best).find(|wild| !is_weighed(wild)))
    }

    fn first_wild(self, find: impl Fn(&'a Denies) -> Option<&'a Wild>) -> Option<&'a Rule> {
        let found = self.0.into_iter().filter_map(find);
        let first = found.min_by(|a, b| b.head.cmp(&a.head).then_with(|| a.rule.pattern.cmp(&b.rule.pattern)));
        first.map(|wild| &wild.rule)
    }
}

/// Whether what a folded path has behind the bare one begins with a slash, or with blanks before one.
fn is_slashed(folded: &str, bare: &str) -> bool {
    folded.get(bare.len()..).is_some_and(|end| end.contains('/'))
}

/// Whether the last name of a folded path is the same thing with a slash at its end. Elsewhere what ends in a slash is a folder: to deny
/// that somebody lists it is not to deny that it is read.
fn is_same_with_slash(folded: &str) -> bool {
    folded.strip_prefix("sys/").is_some_and(|below| SAME_WITH_SLASH.iter().any(|head| below.starts_with(head)))
}

/// Below these in `sys/`, handlers add or drop a slash at the end of a name.
const SAME_WITH_SLASH: [&str; 10] = [
    "audit/",
    "auth/",
    "leases/revoke-force/",
    "leases/revoke-prefix/",
    "mounts/",
    "policies/acl/",
    "policies/password/",
    "policy/",
    "revoke-force/",
    "revoke-prefix/",
];

/// The rule that stands for a deny that cannot be filled in.
pub(crate) fn bar(head: &str, grant: crate::Grant) -> Rule {
    Rule { pattern: format!("{head}*").into(), permissions: Permissions::deny().into(), grants: smallvec::smallvec![grant] }
}
