//! How a pattern matches paths, and which of several matching patterns counts.

use std::cmp::Reverse;

use crate::fold::{Folded, fold};

/// What a pattern is. Source: Vault documentation, "Policy syntax".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// No wildcard: the path itself.
    Exact,
    /// `*` at the end, no `+` that is a segment.
    Prefix,
    /// `+` begins a segment somewhere. Such a pattern never counts as exact, even when its `+` turns out to be literal (`a/+b`).
    Segments,
}

/// Sorts a pattern into its class.
pub(crate) fn class(pattern: &str) -> Class {
    if pattern == "+" || pattern.starts_with("+/") || pattern.contains("/+") {
        Class::Segments
    } else if pattern.ends_with('*') {
        Class::Prefix
    } else {
        Class::Exact
    }
}

/// Which pattern counts where several match: the greatest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    width: Width,
    /// What sorts later is better.
    text: Box<str>,
    folded: Width,
}

/// How specific a pattern is: the greater, the more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Width {
    /// Where the first `+` or the final `*` stands: later is better.
    first_wildcard: usize,
    /// Ending in `*` is worse.
    whole: bool,
    /// Fewer `+` segments are better.
    wild_segments: Reverse<usize>,
    /// Longer is better.
    length: usize,
}

impl Rank {
    /// The rank of a prefix pattern, given without its `*`.
    pub(crate) fn of_prefix(stem: &str) -> Self {
        Self { width: Width::of_prefix(stem), text: stem.into(), folded: Width::of_prefix(&fold(stem)) }
    }

    /// How specific the folded pattern is: folding may change how long a text is.
    pub(crate) fn folded(&self) -> &Width {
        &self.folded
    }

    /// By which rule a pattern of this rank loses to one of a greater.
    pub(crate) fn loses_to(&self, winner: &Self) -> String {
        let (own, other) = (&self.width, &winner.width);
        if own.first_wildcard != other.first_wildcard {
            return format!("its first wildcard stands earlier: after {} characters, not {}", own.first_wildcard, other.first_wildcard);
        }
        if own.whole != other.whole {
            return "it ends in *, the other does not".to_owned();
        }
        if own.wild_segments != other.wild_segments {
            return format!("it has more + segments: {}, not {}", own.wild_segments.0, other.wild_segments.0);
        }
        if own.length != other.length {
            return format!("it is shorter: {} characters, not {}", own.length, other.length);
        }
        "it sorts before the other".to_owned()
    }
}

impl Width {
    /// Of a prefix pattern, given without its `*`.
    pub(crate) fn of_prefix(stem: &str) -> Self {
        Self { first_wildcard: stem.len(), whole: false, wild_segments: Reverse(0), length: stem.len() }
    }

    /// Of a pattern with `+` segments.
    fn of_segments(pattern: &str) -> Self {
        let stem = pattern.strip_suffix('*').unwrap_or(pattern);
        Self {
            first_wildcard: pattern.find('+').unwrap_or(stem.len()),
            whole: stem.len() == pattern.len(),
            wild_segments: Reverse(stem.split('/').filter(|segment| *segment == "+").count()),
            length: stem.len(),
        }
    }
}

/// How specific a pattern with wildcards is once it is folded; nothing for one without.
pub(crate) fn folded_width(pattern: &str) -> Option<Width> {
    match class(pattern) {
        Class::Exact => None,
        Class::Prefix => Some(Width::of_prefix(Folded::new(pattern.strip_suffix('*').unwrap_or(pattern)).as_str())),
        Class::Segments => Some(Width::of_segments(Folded::new(pattern).as_str())),
    }
}

/// A pattern with `+` segments.
#[derive(Debug, Clone)]
pub(crate) struct Segments {
    parts: Box<[Segment]>,
    /// Whether the last segment is the beginning of one, and more may follow.
    open: bool,
    rank: Rank,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Any,
    Literal(Box<str>),
}

impl Segments {
    pub(crate) fn new(pattern: &str) -> Self {
        let stem = pattern.strip_suffix('*').unwrap_or(pattern);
        let parts: Box<[Segment]> =
            stem.split('/').map(|segment| if segment == "+" { Segment::Any } else { Segment::Literal(segment.into()) }).collect();
        let rank = Rank { width: Width::of_segments(pattern), text: stem.into(), folded: Width::of_segments(&fold(pattern)) };
        Self { parts, open: stem.len() < pattern.len(), rank }
    }

    pub(crate) fn rank(&self) -> &Rank {
        &self.rank
    }

    /// The text that every matching path begins with: up to the first `+` segment.
    pub(crate) fn head(pattern: &str) -> &str {
        let stem = pattern.strip_suffix('*').unwrap_or(pattern);
        let mut length = 0;
        for segment in stem.split('/') {
            if segment == "+" {
                return stem.get(..length).unwrap_or_default();
            }
            length += segment.len() + 1;
        }
        stem
    }

    /// Whether a path matches, segment by segment. `+` also stands for an empty segment, as in `foo/`.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let mut rest = path.split('/');
        let last = self.parts.len().saturating_sub(1);
        for (index, segment) in self.parts.iter().enumerate() {
            let Some(part) = rest.next() else { return false };
            if !segment.fits(part, self.open && index == last) {
                return false;
            }
        }
        self.open || rest.next().is_none()
    }

    /// Whether some path below `mount`, which ends in `/`, can match.
    pub(crate) fn reaches_below(&self, mount: &str) -> bool {
        let last = self.parts.len().saturating_sub(1);
        let mut segments = self.parts.iter().enumerate();
        for part in mount.strip_suffix('/').unwrap_or(mount).split('/') {
            match segments.next() {
                Some((index, segment)) if self.open && index == last => return segment.fits(part, true),
                Some((_, segment)) if segment.fits(part, false) => {}
                _ => return false,
            }
        }
        true
    }
}

impl Segment {
    fn fits(&self, part: &str, open: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Literal(text) if open => part.starts_with(text.as_ref()),
            Self::Literal(text) => part == text.as_ref(),
        }
    }
}

/// Texts by which paths begin, each with something. Finds those that a path begins with, longest first, in one binary
/// search and a walk over just those.
#[derive(Debug, Clone)]
pub(crate) struct PrefixIndex<T> {
    /// Sorted by key.
    entries: Vec<Entry<T>>,
}

#[derive(Debug, Clone)]
struct Entry<T> {
    key: Box<str>,
    /// The longest other key that this one begins with.
    parent: Option<usize>,
    value: T,
}

impl<T> PrefixIndex<T> {
    /// From keys that are sorted and differ.
    pub(crate) fn new(sorted: impl IntoIterator<Item = (String, T)>) -> Self {
        let mut entries: Vec<Entry<T>> = Vec::new();
        for (key, value) in sorted {
            let mut parent = entries.len().checked_sub(1);
            while let Some(entry) = parent.and_then(|index| entries.get(index)) {
                if key.starts_with(entry.key.as_ref()) {
                    break;
                }
                parent = entry.parent;
            }
            entries.push(Entry { key: key.into(), parent, value });
        }
        Self { entries }
    }

    /// The entries whose key `path` begins with, longest first.
    pub(crate) fn chain(&self, path: &str) -> impl Iterator<Item = &T> {
        // Whatever sorts between a prefix of the path and the path begins with that prefix too, so that the walk
        // from the nearest key up its parents meets all of them.
        let mut next = self.entries.partition_point(|entry| entry.key.as_ref() <= path).checked_sub(1);
        std::iter::from_fn(move || {
            loop {
                let entry = self.entries.get(next?)?;
                next = entry.parent;
                if path.starts_with(entry.key.as_ref()) {
                    return Some(&entry.value);
                }
            }
        })
    }

    /// The entries whose key begins with `prefix`.
    pub(crate) fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a T> {
        let from = self.entries.partition_point(|entry| entry.key.as_ref() < prefix);
        self.entries.get(from..).unwrap_or_default().iter().take_while(move |entry| entry.key.starts_with(prefix)).map(|entry| &entry.value)
    }

    /// The entry of exactly that key.
    pub(crate) fn get(&self, key: &str) -> Option<&T> {
        let index = self.entries.binary_search_by(|entry| entry.key.as_ref().cmp(key)).ok()?;
        self.entries.get(index).map(|entry| &entry.value)
    }

    /// All entries, sorted by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.entries.iter().map(|entry| (entry.key.as_ref(), &entry.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_found_longest_first() {
        let keys = ["", "a/", "a/b/", "a/b/x", "a/c", "b"];
        let index = PrefixIndex::new(keys.map(|key| (key.to_owned(), key)));
        let found = |path: &'static str| index.chain(path).copied().collect::<Vec<_>>();
        assert_eq!(found("a/b/z"), ["a/b/", "a/", ""]);
        assert_eq!(found("a/b/x"), ["a/b/x", "a/b/", "a/", ""]);
        assert_eq!(found("c"), [""]);
        assert_eq!(found(""), [""]);
        assert_eq!(index.below("a/b").copied().collect::<Vec<_>>(), ["a/b/", "a/b/x"]);
        assert_eq!(index.get("a/c"), Some(&"a/c"));
        assert_eq!(index.get("a"), None);
    }

    #[test]
    fn plus_is_one_whole_segment() {
        for (pattern, path, expected) in [
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a/b/b/c", false),
            ("a/+", "a/", true),
            ("a/+", "a", false),
            ("+/b", "a/b", true),
            ("a/+/b*", "a/x/by/z", true),
            ("a/+/b*", "a/x/c", false),
            ("a/+/*", "a/x/", true),
            ("a/+/*", "a/x", false),
            ("a/+b/c", "a/+b/c", true),
            ("a/+b/c", "a/xb/c", false),
            ("+", "a", true),
        ] {
            assert_eq!(Segments::new(pattern).matches(path), expected, "{pattern} {path}");
            assert!(!expected || path.starts_with(Segments::head(pattern)), "{pattern}");
        }
    }

    #[test]
    fn patterns_reach_below_mounts_segment_by_segment() {
        for (pattern, mount, expected) in [
            ("+/foo", "kv/", true),
            ("cdp/+/staging/sts/x", "cdp/aws/staging/", true),
            ("cdp/+/prod/sts/x", "cdp/aws/staging/", false),
            ("cdp/+/st*", "cdp/aws/staging/", true),
            ("cdp/+", "cdp/aws/staging/", false),
            ("+/*", "a/b/c/", true),
        ] {
            assert_eq!(Segments::new(pattern).reaches_below(mount), expected, "{pattern} {mount}");
        }
    }
}
