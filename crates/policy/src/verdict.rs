//! The answer to "may it?", with the rule that decided and why.

use std::fmt;
use std::sync::Arc;

use daypass_base::Seconds;
use smallvec::SmallVec;

use crate::fold::{Folded, bare};
use crate::pattern::{Class, Segments, class, folded_width};
use crate::{Capabilities, Capability, Permissions};

/// A pattern with what all policies together permit on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub(crate) pattern: Box<str>,
    pub(crate) permissions: Arc<Permissions>,
    pub(crate) grants: SmallVec<[Grant; 1]>,
}

/// A rule with its key, its rank and, for a deny, all of that once more.
const RULE_BYTES: usize = 400;
/// In how many places the text of a pattern stands.
const PATTERN_COPIES: usize = 4;

/// What one policy contributes to a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// The policy's name.
    pub policy: Arc<str>,
    /// What it says about the pattern.
    pub capabilities: Capabilities,
    /// The line of its stanza.
    pub line: u32,
}

impl Rule {
    /// The pattern, filled in for the caller.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// What is permitted.
    #[must_use]
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// Which policies have the pattern.
    #[must_use]
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// Whether its pattern matches a path in some spelling.
    pub(crate) fn is_about(&self, path: &str) -> bool {
        let (pattern, path) = (Folded::new(&self.pattern), Folded::new(path));
        let pattern = pattern.as_str();
        match class(&self.pattern) {
            Class::Exact => bare(pattern) == bare(path.as_str()),
            Class::Prefix => path.as_str().starts_with(pattern.strip_suffix('*').unwrap_or(pattern)),
            Class::Segments => Segments::new(pattern).matches(path.as_str()),
        }
    }

    /// Whether it goes before another, both folded.
    pub(crate) fn is_narrower_than(&self, other: &Self) -> bool {
        match (folded_width(&self.pattern), folded_width(&other.pattern)) {
            (None, other) => other.is_some(),
            (Some(_), None) => false,
            (Some(own), Some(other)) => own > other,
        }
    }

    /// About how much memory it takes with its places in the indexes.
    pub(crate) fn bytes(&self) -> usize {
        Self::bytes_of(&self.pattern, &self.permissions) + self.grants.len() * size_of::<Grant>()
    }

    /// The same of a rule with this pattern.
    pub(crate) fn bytes_of(pattern: &str, permissions: &Permissions) -> usize {
        RULE_BYTES + PATTERN_COPIES * pattern.len() + permissions.bytes()
    }
}

/// Whether a request may go on, and what decided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict<'a> {
    /// Whether it may.
    pub allowed: bool,
    /// Why, or why not.
    pub reason: Reason<'a>,
    /// The rule that counted; none for root, help and where no pattern matched.
    pub rule: Option<&'a Rule>,
    /// The path that the rule was found for, where that is another one to the same thing.
    pub elsewhere: Option<&'a str>,
    pub(crate) asked: Option<Capability>,
}

/// Why a request may go on or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason<'a> {
    /// A policy denies the path.
    Denied,
    /// A parameter is sent that must not be, or with such a value.
    DeniedParameter(&'a str),
    /// The rule grants it.
    Granted,
    /// Help is for everyone.
    Help,
    /// The rule does not grant this.
    MissingCapability(Capability),
    /// A parameter is missing that must be sent.
    MissingParameter(&'a str),
    /// No pattern matches.
    NoPattern,
    /// A parameter is sent that is not allowed, or with such a value.
    ParameterNotAllowed(&'a str),
    /// The token is root.
    Root,
    /// The answer must be wrapped, within these limits; zero is no limit.
    WrapTtl {
        /// Shortest.
        min: Seconds,
        /// Longest.
        max: Seconds,
    },
}

impl<'a> Verdict<'a> {
    /// The names of the policies that grant what was asked (or deny it, when that is the reason).
    pub fn granting(&self) -> impl Iterator<Item = &'a str> {
        let asked = if self.reason == Reason::Denied { Some(Capability::Deny) } else { self.asked };
        let root = (self.reason == Reason::Root).then_some("root");
        let grants = self.rule.map_or(&[][..], |rule| rule.grants());
        root.into_iter().chain(
            grants.iter().filter(move |grant| asked.is_some_and(|asked| grant.capabilities.has(asked))).map(|grant| grant.policy.as_ref()),
        )
    }
}

/// One sentence for people: `allowed by "aws/sts/*" of policy ci: ...`.
impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.allowed { "allowed" } else { "denied" })?;
        if let Some(rule) = self.rule {
            let names: Vec<&str> = rule.grants.iter().map(|grant| grant.policy.as_ref()).collect();
            let policies = if names.len() == 1 { "policy" } else { "policies" };
            write!(f, " by {:?} of {policies} {}", rule.pattern, names.join(", "))?;
        }
        if let Some(path) = self.elsewhere {
            write!(f, ", because it is another way to {path:?}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("the path is denied"),
            Self::DeniedParameter(name) => write!(f, "parameter {name:?} is denied, or its value is"),
            Self::Granted => f.write_str("granted"),
            Self::Help => f.write_str("help is for everyone"),
            Self::MissingCapability(capability) => write!(f, "capability {capability:?} is not granted", capability = capability.as_str()),
            Self::MissingParameter(name) => write!(f, "parameter {name:?} is required"),
            Self::NoPattern => f.write_str("no pattern matches"),
            Self::ParameterNotAllowed(name) => write!(f, "parameter {name:?} is not allowed, or its value is not"),
            Self::Root => f.write_str("the token is root"),
            Self::WrapTtl { min, max } => match (min.set(), max.set()) {
                (Some(min), Some(max)) => write!(f, "the answer must be wrapped for {min} to {max}"),
                (Some(min), None) => write!(f, "the answer must be wrapped for {min} or longer"),
                _ => write!(f, "the answer must be wrapped for {max} or shorter"),
            },
        }
    }
}
