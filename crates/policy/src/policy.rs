//! A parsed policy, and what can be wrong with its text.

use std::sync::Arc;

use daypass_base::hcl::Position;

use crate::permissions::Permissions;
use crate::template::{DependsOn, Template};

/// What a policy may use; texts come from clients.
pub mod limits {
    /// Most bytes of a policy's text.
    pub const TEXT_BYTES_MAX: usize = 1 << 20;
    /// Most `path` stanzas in one policy.
    pub const PATHS_MAX: usize = 10_000;
    /// Most bytes of one path pattern.
    pub const PATTERN_BYTES_MAX: usize = 4096;
}

/// A policy, parsed once and shared by all tokens that name it.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub(crate) name: Arc<str>,
    pub(crate) text: String,
    pub(crate) stanzas: Vec<Stanza>,
    pub(crate) warnings: Vec<String>,
    pub(crate) root: bool,
}

/// One `path "..." { ... }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Stanza {
    pub(crate) template: Template,
    pub(crate) permissions: Arc<Permissions>,
    pub(crate) line: u32,
}

impl Policy {
    /// The built-in policy that permits everything; it has no text.
    #[must_use]
    pub fn root() -> Self {
        Self { name: "root".into(), text: String::new(), stanzas: Vec::new(), warnings: Vec::new(), root: true }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its text as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is odd about it, for the answer to whoever wrote it: duplicate attributes, stanzas or keys without effect.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Its stanzas in the order of the text.
    #[must_use]
    pub fn stanzas(&self) -> &[Stanza] {
        &self.stanzas
    }

    /// Whether it is the root policy.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.root
    }

    /// About how much memory it takes; what its stanzas permit is not counted, because rules share it.
    pub(crate) fn bytes(&self) -> usize {
        let stanzas: usize = self.stanzas.iter().map(|stanza| size_of::<Stanza>() + 3 * stanza.pattern().len()).sum();
        self.text.len() + stanzas
    }

    /// Whether what it permits depends on who asks; an [`crate::Acl`] without such policies serves every caller.
    #[must_use]
    pub fn is_templated(&self) -> bool {
        self.depends_on() != DependsOn::Nothing
    }

    /// What of the caller decides what it permits: callers who are the same in that share one [`crate::Acl`].
    #[must_use]
    pub fn depends_on(&self) -> DependsOn {
        self.stanzas.iter().map(|stanza| stanza.template.depends_on()).max().unwrap_or(DependsOn::Nothing)
    }
}

impl Stanza {
    /// The pattern as written.
    #[must_use]
    pub fn pattern(&self) -> &str {
        self.template.text()
    }

    /// What it permits.
    #[must_use]
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// The line where it begins.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.line
    }
}

/// One mistake in a policy's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub at: Position,
    /// What.
    pub text: String,
}

/// A policy's text is wrong. Prints what Vault prints, which is the first mistake; [`PolicyError::mistakes`] has all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to parse policy: {first}")]
pub struct PolicyError {
    pub(crate) first: String,
    pub(crate) mistakes: Vec<Mistake>,
}

impl PolicyError {
    /// All mistakes in the order of the text.
    #[must_use]
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// All mistakes, one a line, each with its place: for people, such as the CLI's `policy fmt` and the web UI.
    #[must_use]
    pub fn report(&self) -> String {
        let lines: Vec<String> = self.mistakes.iter().map(|mistake| format!("{}: {}", mistake.at, mistake.text)).collect();
        lines.join("\n")
    }
}
