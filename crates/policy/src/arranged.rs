//! Rules, arranged so that the one that counts is found quickly.

use std::collections::BTreeMap;

use crate::denies::{Best, Denies};
use crate::pattern::{Class, PrefixIndex, Rank, Segments, class};
use crate::verdict::Rule;

/// Rules of different patterns.
#[derive(Debug, Clone)]
pub(crate) struct Arranged {
    exact: PrefixIndex<Rule>,
    /// By the text before the `*`.
    prefixes: PrefixIndex<(Rank, Rule)>,
    /// Patterns with `+` segments by the text before the first of them; each list best first.
    segments: PrefixIndex<Vec<(Segments, Rule)>>,
    denies: Denies,
    bytes: usize,
}

impl Arranged {
    /// From rules by their patterns, and the texts below which everything is barred.
    pub(crate) fn new(rules: BTreeMap<String, Rule>, barred: BTreeMap<String, Rule>) -> Self {
        let bytes = rules.values().chain(barred.values()).map(Rule::bytes).sum();
        let denies = Denies::new(rules.values(), barred);
        let mut exact = Vec::new();
        // Sorted by themselves: without its `*` a pattern may sort elsewhere.
        let mut prefixes = BTreeMap::new();
        let mut segments: BTreeMap<String, Vec<(Segments, Rule)>> = BTreeMap::new();
        for (pattern, rule) in rules {
            match class(&pattern) {
                Class::Exact => exact.push((pattern, rule)),
                Class::Prefix => {
                    let stem = stem(&pattern);
                    prefixes.insert(stem.to_owned(), (Rank::of_prefix(stem), rule));
                }
                Class::Segments => segments.entry(Segments::head(&pattern).to_owned()).or_default().push((Segments::new(&pattern), rule)),
            }
        }
        for group in segments.values_mut() {
            group.sort_by(|(a, _), (b, _)| b.rank().cmp(a.rank()));
        }
        let (exact, prefixes, segments) = (PrefixIndex::new(exact), PrefixIndex::new(prefixes), PrefixIndex::new(segments));
        Self { exact, prefixes, segments, denies, bytes }
    }

    pub(crate) fn denies(&self) -> &Denies {
        &self.denies
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rule of exactly this path, without wildcards.
    pub(crate) fn exact(&self, path: &str) -> Option<&Rule> {
        self.exact.get(path)
    }

    /// The rule that is written like this.
    pub(crate) fn of_pattern(&self, pattern: &str) -> Option<&Rule> {
        match class(pattern) {
            Class::Exact => self.exact.get(pattern),
            Class::Prefix => self.prefixes.get(stem(pattern)).map(|(_, rule)| rule),
            Class::Segments => {
                let mut group = self.segments.get(Segments::head(pattern))?.iter().map(|(_, rule)| rule);
                group.find(|rule| rule.pattern() == pattern)
            }
        }
    }

    /// The longest prefix pattern that matches.
    pub(crate) fn longest_prefix(&self, path: &str) -> Option<Best<'_>> {
        self.prefixes.chain(path).next().map(|(rank, rule)| (rank, rule))
    }

    /// The best pattern with wildcards that matches.
    pub(crate) fn best_wildcard(&self, path: &str) -> Option<Best<'_>> {
        let segments = self.segments.chain(path).filter_map(|group| group.iter().find(|(segments, _)| segments.matches(path)));
        let candidates = self.longest_prefix(path).into_iter().chain(segments.map(|(segments, rule)| (segments.rank(), rule)));
        candidates.max_by(|(a, _), (b, _)| a.cmp(b))
    }

    /// All patterns with wildcards that match, in no order.
    pub(crate) fn wildcards<'a>(&'a self, path: &'a str) -> impl Iterator<Item = Best<'a>> {
        let prefixes = self.prefixes.chain(path).map(|(rank, rule)| (rank, rule));
        let segments = self.segments.chain(path).flatten().filter(|(segments, _)| segments.matches(path));
        prefixes.chain(segments.map(|(segments, rule)| (segments.rank(), rule)))
    }

    /// Whether a rule counts whose pattern is about something below a path.
    pub(crate) fn any_below(&self, path: &str, counts: impl Fn(&Rule) -> bool) -> bool {
        self.exact.below(path).any(&counts)
            || self.prefixes.below(path).any(|(_, rule)| counts(rule))
            || self.segments.iter().flat_map(|(_, group)| group).any(|(segments, rule)| segments.reaches_below(path) && counts(rule))
    }

    /// The rules without wildcards.
    pub(crate) fn exact_rules(&self) -> impl Iterator<Item = &Rule> {
        self.exact.iter().map(|(_, rule)| rule)
    }

    /// The rules with wildcards, as they are named: prefixes without their `*`.
    pub(crate) fn wild_rules(&self) -> impl Iterator<Item = (&str, &Rule)> {
        let segments = self.segments.iter().flat_map(|(_, group)| group).map(|(_, rule)| (rule.pattern(), rule));
        self.prefixes.iter().map(|(stem, (_, rule))| (stem, rule)).chain(segments)
    }
}

/// A pattern without its `*`.
fn stem(pattern: &str) -> &str {
    pattern.strip_suffix('*').unwrap_or(pattern)
}
