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

#[derive(Debug, Clone)]
struct Exact {
    rule: Rule,
    /// Its pattern ends in `/`: for a list it is as specific as the path itself.
    slashed: bool,
}

#[derive(Debug, Clone)]
struct Wild {
    folded: Segments,
    /// The pattern with the final slash that it lost, if it did: it stands for bare paths alone then.
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
                    let slashed = folded.ends_with('/');
                    let kept = exact.entry(bare(&folded).to_owned()).or_insert_with(|| Exact { rule: rule.clone(), slashed });
                    kept.slashed |= slashed;
                }
                Class::Prefix => {
                    let stem = folded.strip_suffix('*').unwrap_or(&folded);
                    prefixes.entry(stem.to_owned()).or_insert_with(|| (Width::of_prefix(stem), rule.clone()));
                }
                Class::Segments => {
                    let without = Some(bare(&folded)).filter(|bare| bare.len() < folded.len());
                    for pattern in [folded.as_str()].into_iter().chain(without) {
                        let slashed = (pattern.len() < folded.len()).then(|| Segments::new(&folded));
                        let (spelled, rule) = (Segments::new(&rule.pattern), rule.clone());
                        let wild = Wild { folded: Segments::new(pattern), slashed, spelled, rule };
                        segments.entry(Segments::head(pattern).to_owned()).or_default().push(wild);
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

    pub(crate) fn is_empty(&self) -> bool {
        self.empty
    }

    /// The deny that covers everything below some text that a folded path begins with.
    pub(crate) fn barring(&self, folded: &str) -> Option<&Rule> {
        self.barred.chain(folded).next()
    }

    /// What everything is barred below.
    pub(crate) fn barred(&self) -> impl Iterator<Item = &Rule> {
        self.barred.iter().map(|(_, rule)| rule)
    }

    /// The deny of exactly this path. `yields` tells whether the path itself, with its final slash, has a rule that is to be listed by:
    /// a deny of the path without the slash is the lesser one then.
    pub(crate) fn exactly(&self, folded: &str, yields: impl FnOnce() -> bool) -> Option<&Rule> {
        let found = self.exact.get(bare(folded))?;
        (found.slashed || !yields()).then_some(&found.rule)
    }

    /// A deny with wildcards that matches a folded path and is no less specific than the best rule for the path as it is spelled.
    pub(crate) fn over(&self, folded: &str, spelled: &str, best: Option<Best<'_>>) -> Option<&Rule> {
        let longest = self.prefixes.chain(folded).next().filter(|(width, _)| best.is_none_or(|(best, _)| width >= best.folded()));
        longest.map(|(_, rule)| rule).or_else(|| self.wild(folded, spelled, best).next().map(|wild| &wild.rule))
    }

    /// The same for a path without its final slash; what matches the whole path was weighed there.
    pub(crate) fn over_bare(&self, folded: &str, spelled: &str, best: Option<Best<'_>>) -> Option<&Rule> {
        let is_weighed = |wild: &Wild| wild.slashed.as_ref().unwrap_or(&wild.folded).matches(folded);
        self.wild(bare(folded), spelled, best).find(|wild| !is_weighed(wild)).map(|wild| &wild.rule)
    }

    fn wild(&self, folded: &str, spelled: &str, best: Option<Best<'_>>) -> impl Iterator<Item = &Wild> {
        let is_bare = !folded.ends_with('/');
        let counts = move |wild: &&Wild| {
            let width = wild.folded.rank().folded();
            // Compared first: it is cheaper than matching.
            let order = best.map(|(best, rule)| (width.cmp(best.folded()), rule));
            if matches!(order, Some((Ordering::Less, _))) || (!is_bare && wild.slashed.is_some()) || !wild.folded.matches(folded) {
                return false;
            }
            // Beside a grant as specific, one that matches to the letter has been weighed already, and lost by the alphabet.
            let beside = order.filter(|(order, rule)| order.is_eq() && !rule.permissions.capabilities.denies());
            beside.is_none() || !wild.spelled.matches(spelled)
        };
        self.segments.chain(folded).flatten().filter(counts)
    }
}

/// The rule that stands for a deny that cannot be filled in.
pub(crate) fn bar(head: &str, grant: crate::Grant) -> Rule {
    Rule { pattern: format!("{head}*").into(), permissions: Permissions::deny().into(), grants: smallvec::smallvec![grant] }
}
