//! The words of a policy's `capabilities`, and the operations that need them.

use std::fmt;

/// One word of `capabilities`. The order is the alphabet's, which is the order of Vault's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Capability {
    /// Write where nothing is yet.
    Create,
    /// Delete.
    Delete,
    /// Nothing at all, whatever else is granted.
    Deny,
    /// List the names below a path.
    List,
    /// Change parts of what is there.
    Patch,
    /// Read.
    Read,
    /// Bring back from a snapshot. Accepted in policies; nothing asks for it here.
    Recover,
    /// Listen to events. Accepted in policies; nothing asks for it here.
    Subscribe,
    /// Use a path that is protected for root.
    Sudo,
    /// Write over what is there.
    Update,
}

impl Capability {
    /// All of them, in order.
    pub const ALL: [Self; 10] = [
        Self::Create,
        Self::Delete,
        Self::Deny,
        Self::List,
        Self::Patch,
        Self::Read,
        Self::Recover,
        Self::Subscribe,
        Self::Sudo,
        Self::Update,
    ];

    /// The word in policies and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Deny => "deny",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Read => "read",
            Self::Recover => "recover",
            Self::Subscribe => "subscribe",
            Self::Sudo => "sudo",
            Self::Update => "update",
        }
    }

    /// The capability of that word, exactly as written.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.as_str() == word)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of capabilities.
///
/// ```
/// use daypass_policy::{Capabilities, Capability};
/// let set = Capabilities::from_iter([Capability::Update, Capability::Read]);
/// assert!(set.has(Capability::Read) && !set.has(Capability::Sudo));
/// assert_eq!(set.names(), ["read", "update"]);
/// assert_eq!(Capabilities::NONE.names(), ["deny"]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Capabilities(u16);

impl Capabilities {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// The set of one.
    #[must_use]
    pub const fn only(capability: Capability) -> Self {
        Self(1 << capability as u8)
    }

    /// Whether it is in the set.
    #[must_use]
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & Self::only(capability).0 != 0
    }

    /// Whether any of another set is in it.
    #[must_use]
    pub const fn has_any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it denies everything.
    #[must_use]
    pub const fn denies(self) -> bool {
        self.has(Capability::Deny)
    }

    /// Whether it grants anything.
    #[must_use]
    pub const fn grants(self) -> bool {
        self.0 != 0 && !self.denies()
    }

    /// The words in alphabetical order; `["deny"]` when nothing is granted.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        if !self.grants() {
            return vec![Capability::Deny.as_str()];
        }
        self.iter().map(Capability::as_str).collect()
    }

    /// The capabilities in it, in order.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.into_iter().filter(move |capability| self.has(*capability))
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(all: I) -> Self {
        all.into_iter().fold(Self::NONE, |set, capability| set.with(Self::only(capability)))
    }
}

/// What a request wants to do, as policies see it. Source: Vault's table of capabilities by HTTP method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Write where nothing is yet.
    Create,
    /// Delete.
    Delete,
    /// Ask for help: always allowed.
    Help,
    /// List.
    List,
    /// Change parts.
    Patch,
    /// Read.
    Read,
    /// Bring back from a snapshot.
    Recover,
    /// Write over what is there; also renew, revoke and roll back.
    Update,
}

impl Operation {
    /// What it needs; nothing for help.
    #[must_use]
    pub const fn needs(self) -> Option<Capability> {
        Some(match self {
            Self::Create => Capability::Create,
            Self::Delete => Capability::Delete,
            Self::Help => return None,
            Self::List => Capability::List,
            Self::Patch => Capability::Patch,
            Self::Read => Capability::Read,
            Self::Recover => Capability::Recover,
            Self::Update => Capability::Update,
        })
    }

    /// Whether parameter constraints apply to it: not to delete, help and list.
    #[must_use]
    pub const fn takes_parameters(self) -> bool {
        !matches!(self, Self::Delete | Self::Help | Self::List)
    }
}
