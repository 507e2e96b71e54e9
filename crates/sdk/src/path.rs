//! Path patterns: data, not regular expressions.
//!
//! A pattern is written like `roles/{name}` or `auth/{path..}/tune`:
//! literals match themselves; `{name}` one segment that is a name in Vault's sense (word characters, with `-` and `.` inside);
//! `{name@}` the same with `@` inside; `{id:any}` one segment of anything; `{path..}` one or more segments, and it may be followed by
//! literals, because mount paths contain slashes; `{path..?}` the same or nothing. A trailing `/?` makes a last slash optional.
//!
//! Among patterns that match, literals beat captures and captures beat greedy ones, compared from the left.

/// The values that captures took, in the order of the pattern.
pub type Captures = Vec<(&'static str, String)>;

/// A piece of a pattern: a literal, or what a capture takes and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Itself.
    Literal(&'static str),
    /// One segment that is a name.
    Name(&'static str),
    /// The same with `@` inside.
    NameWithAt(&'static str),
    /// One segment of anything.
    Any(&'static str),
    /// One or more segments.
    Greedy(&'static str),
    /// Any number of segments.
    GreedyOrNothing(&'static str),
}

/// A parsed pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: &'static str,
    parts: Vec<Part>,
    slash: Slash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slash {
    No,
    Required,
    Optional,
}

impl Pattern {
    /// Parses a pattern. Patterns are written in the source; what is not understood is taken as a literal and found by the meta-tests.
    #[must_use]
    pub fn new(text: &'static str) -> Self {
        let (body, slash) = if let Some(body) = text.strip_suffix("/?") {
            (body, Slash::Optional)
        } else if let Some(body) = text.strip_suffix('/') {
            (body, Slash::Required)
        } else {
            (text, Slash::No)
        };
        let parts = if body.is_empty() { Vec::new() } else { body.split('/').map(part).collect() };
        Self { text, parts, slash }
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// The pattern as OpenAPI writes paths: `roles/{name}`.
    #[must_use]
    pub fn openapi(&self) -> String {
        let mut out = String::new();
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                out.push('/');
            }
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Name(name) | Part::NameWithAt(name) | Part::Any(name) | Part::Greedy(name) | Part::GreedyOrNothing(name) => {
                    out.push('{');
                    out.push_str(name);
                    out.push('}');
                }
            }
        }
        if self.slash == Slash::Required {
            out.push('/');
        }
        out
    }

    /// The pieces from the left.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The paths that documents name for an operation, captures in braces. A list has its slash at the end, as it is asked with one;
    /// what may be nothing is written both ways, because a parameter of a path cannot be empty.
    #[must_use]
    pub fn written(&self, list: bool) -> Vec<String> {
        let end = |text: String| match (list, self.slash) {
            (true, _) if self.slash != Slash::No || self.ends_greedy() => format!("{text}/"),
            (false, Slash::Required) => format!("{text}/"),
            _ => text,
        };
        let whole = end(self.openapi().trim_end_matches('/').to_owned());
        let Some(Part::GreedyOrNothing(name)) = self.parts.last() else { return vec![whole] };
        let short = whole.trim_end_matches('/').trim_end_matches(&format!("{{{name}}}")).trim_end_matches('/').to_owned();
        match (short.is_empty(), list) {
            (true, false) => vec![whole],
            (true, true) => vec![whole, short],
            (false, _) => vec![whole, end(short)],
        }
    }

    /// The names that are captured.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Name(name) | Part::NameWithAt(name) | Part::Any(name) | Part::Greedy(name) | Part::GreedyOrNothing(name) => Some(*name),
        })
    }

    /// Matches a path (no leading slash) and tells what was captured.
    #[must_use]
    pub fn matches(&self, path: &str) -> Option<Captures> {
        let body = match (self.slash, path.strip_suffix('/')) {
            (Slash::Required | Slash::Optional, Some(body)) => body,
            (Slash::Required, None) if path.is_empty() => path,
            (Slash::Required, None) => return None,
            (Slash::Optional, None) => path,
            (Slash::No, Some(_)) if !self.ends_greedy() => return None,
            (Slash::No, _) => path,
        };
        let mut captures = Vec::new();
        let rest = if body.is_empty() { None } else { Some(body) };
        walk(&self.parts, rest, &mut captures).then_some(captures)
    }

    /// The path that matches with these values; `None` where one is missing.
    pub(crate) fn filled(&self, captures: &Captures) -> Option<String> {
        let value = |part: &Part| match part {
            Part::Literal(text) => Some((*text).to_owned()),
            Part::Name(name) | Part::NameWithAt(name) | Part::Any(name) | Part::Greedy(name) | Part::GreedyOrNothing(name) => {
                captures.iter().find(|(captured, _)| captured == name).map(|(_, value)| value.clone())
            }
        };
        let segments: Option<Vec<String>> = self.parts.iter().map(value).collect();
        let path = segments?.join("/");
        Some(if self.slash == Slash::Required { path + "/" } else { path })
    }

    /// The rank of the pattern among those that match one path: smaller is better.
    pub(crate) fn rank(&self) -> Vec<u8> {
        let rank = |part: &Part| match part {
            Part::Literal(_) => 0,
            Part::Name(_) => 1,
            Part::NameWithAt(_) => 2,
            Part::Any(_) => 3,
            Part::Greedy(_) => 4,
            Part::GreedyOrNothing(_) => 6,
        };
        // The end ranks behind whatever goes on, but before what may match nothing.
        self.parts.iter().map(rank).chain([5]).collect()
    }

    /// The literal that every matching path starts with, if there is one.
    pub(crate) fn first_literal(&self) -> Option<&'static str> {
        match self.parts.first() {
            Some(Part::Literal(text)) => Some(text),
            _ => None,
        }
    }

    fn ends_greedy(&self) -> bool {
        matches!(self.parts.last(), Some(Part::Greedy(_) | Part::GreedyOrNothing(_)))
    }
}

fn part(segment: &'static str) -> Part {
    let Some(inner) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return Part::Literal(segment);
    };
    if let Some(name) = inner.strip_suffix("..?") {
        Part::GreedyOrNothing(name)
    } else if let Some(name) = inner.strip_suffix("..") {
        Part::Greedy(name)
    } else if let Some(name) = inner.strip_suffix('@') {
        Part::NameWithAt(name)
    } else if let Some(name) = inner.strip_suffix(":any") {
        Part::Any(name)
    } else {
        Part::Name(inner)
    }
}

/// `rest` is what is left of the path: `None` when it is used up.
fn walk(parts: &[Part], rest: Option<&str>, captures: &mut Captures) -> bool {
    let Some((first, others)) = parts.split_first() else { return rest.is_none() };
    if let Part::Greedy(name) | Part::GreedyOrNothing(name) = first {
        return walk_greedy(name, matches!(first, Part::GreedyOrNothing(_)), others, rest, captures);
    }
    let Some(path) = rest else { return false };
    let (segment, after) = match path.split_once('/') {
        Some((segment, after)) => (segment, Some(after)),
        None => (path, None),
    };
    let name = match first {
        Part::Literal(text) => return *text == segment && walk(others, after, captures),
        Part::Name(name) if is_name(segment, false) => name,
        Part::NameWithAt(name) if is_name(segment, true) => name,
        Part::Any(name) if !segment.is_empty() => name,
        _ => return false,
    };
    let mark = captures.len();
    captures.push((name, segment.to_owned()));
    if walk(others, after, captures) {
        return true;
    }
    captures.truncate(mark);
    false
}

fn walk_greedy(name: &'static str, or_nothing: bool, others: &[Part], rest: Option<&str>, captures: &mut Captures) -> bool {
    let mark = captures.len();
    let Some(path) = rest.filter(|path| !path.is_empty()) else {
        captures.push((name, String::new()));
        if or_nothing && walk(others, None, captures) {
            return true;
        }
        captures.truncate(mark);
        return false;
    };
    // Longest first: the literals that follow are the last ones in the path.
    let mut end = Some(path.len());
    while let Some(at) = end {
        let (taken, left) = path.split_at(at);
        let after = left.strip_prefix('/');
        if !taken.is_empty() && (left.is_empty() || after.is_some()) {
            captures.push((name, taken.to_owned()));
            if walk(others, after, captures) {
                return true;
            }
            captures.truncate(mark);
        }
        end = taken.rfind('/');
    }
    false
}

/// Vault's generic name: word characters, with `-` and `.` (and `@` where allowed) inside but not at the ends.
fn is_name(segment: &str, at_sign: bool) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let inner = |c: char| word(c) || c == '-' || c == '.' || (at_sign && c == '@');
    !segment.is_empty() && segment.chars().all(inner) && segment.starts_with(word) && segment.ends_with(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(pattern: &'static str, path: &str) -> Option<Vec<String>> {
        Pattern::new(pattern).matches(path).map(|captures| captures.into_iter().map(|(_, value)| value).collect())
    }

    #[test]
    fn names_are_vaults_names() {
        assert_eq!(captured("roles/{name}", "roles/ecr-staging"), Some(vec!["ecr-staging".to_owned()]));
        for bad in ["roles/", "roles", "roles/-x", "roles/x.", "roles/a/b", "roles/a b", "roles/a@b"] {
            assert_eq!(captured("roles/{name}", bad), None, "{bad}");
        }
        assert_eq!(captured("roles/{name@}", "roles/a@b"), Some(vec!["a@b".to_owned()]));
    }

    #[test]
    fn a_greedy_capture_may_be_followed_by_literals() {
        assert_eq!(captured("auth/{path..}/tune", "auth/a/b/tune"), Some(vec!["a/b".to_owned()]));
        assert_eq!(captured("auth/{path..}/tune", "auth/tune/tune"), Some(vec!["tune".to_owned()]));
        assert_eq!(captured("auth/{path..}/tune", "auth/tune"), None);
        assert_eq!(captured("data/{path..}", "data/a/b/"), Some(vec!["a/b/".to_owned()]));
        assert_eq!(captured("{path..?}", ""), Some(vec![String::new()]));
        assert_eq!(captured("metadata/{path..?}", "metadata/"), Some(vec![String::new()]));
        assert_eq!(captured("lookup/{prefix..?}", "lookup"), Some(vec![String::new()]));
    }

    #[test]
    fn a_pattern_is_filled_in_with_what_another_captured() {
        let captures = Pattern::new("console/{name@}").matches("console/a@b").unwrap();
        assert_eq!(Pattern::new("sts/{name@}").filled(&captures).as_deref(), Some("sts/a@b"));
        assert_eq!(Pattern::new("all/{name@}/").filled(&captures).as_deref(), Some("all/a@b/"));
        assert_eq!(Pattern::new("sts/{other}").filled(&captures), None);
    }

    #[test]
    fn documents_write_lists_with_their_slash_and_what_may_be_nothing_both_ways() {
        assert_eq!(Pattern::new("roles/?").written(true), ["roles/"]);
        assert_eq!(Pattern::new("roles/?").written(false), ["roles"]);
        assert_eq!(Pattern::new("metadata/{path..?}").written(true), ["metadata/{path}/", "metadata/"]);
        assert_eq!(Pattern::new("random/{source..?}").written(false), ["random/{source}", "random"]);
        assert_eq!(Pattern::new("{path..?}").written(true), ["{path}/", ""]);
        assert_eq!(Pattern::new("{path..?}").written(false), ["{path}"]);
    }

    #[test]
    fn a_trailing_slash_is_matched_as_declared() {
        assert!(Pattern::new("roles/?").matches("roles").is_some());
        assert!(Pattern::new("roles/?").matches("roles/").is_some());
        assert!(Pattern::new("roles").matches("roles/").is_none());
        assert!(Pattern::new("accessors/").matches("accessors").is_none());
        assert!(Pattern::new("").matches("").is_some());
    }
}
