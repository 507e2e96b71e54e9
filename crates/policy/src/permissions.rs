//! What one pattern permits, and how the same pattern of several policies adds up.

use daypass_base::Seconds;

use crate::{Capabilities, Capability, Parameters};

/// What a pattern permits.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Permissions {
    /// What may be done.
    pub capabilities: Capabilities,
    /// Parameters that may be sent; empty means all. Names are lower case.
    pub allowed: Parameters,
    /// Parameters that must not be sent. Names are lower case.
    pub denied: Parameters,
    /// Parameters that must be sent.
    pub required: Vec<String>,
    /// Shortest wrapping allowed; zero means no limit. With either limit set, an answer must be wrapped.
    pub wrapping_min: Seconds,
    /// Longest wrapping allowed; zero means no limit.
    pub wrapping_max: Seconds,
}

impl Permissions {
    /// Deny and nothing else.
    #[must_use]
    pub fn deny() -> Self {
        Self { capabilities: Capabilities::only(Capability::Deny), ..Self::default() }
    }

    /// Adds what another stanza of the same pattern permits. A deny on either side wins; of the wrapping limits the shorter
    /// stays; parameters unite, and one that may have any value in either may have any value.
    pub fn merge(&mut self, other: &Self) {
        if self.capabilities.denies() {
            return;
        }
        if other.capabilities.denies() {
            *self = Self::deny();
            return;
        }
        self.capabilities = self.capabilities.with(other.capabilities);
        self.wrapping_min = shorter(self.wrapping_min, other.wrapping_min);
        self.wrapping_max = shorter(self.wrapping_max, other.wrapping_max);
        self.allowed.merge(&other.allowed);
        self.denied.merge(&other.denied);
        for name in &other.required {
            if !self.required.contains(name) {
                self.required.push(name.clone());
            }
        }
    }
}

fn shorter(a: Seconds, b: Seconds) -> Seconds {
    match (a.set(), b.set()) {
        (Some(a), Some(b)) => a.min(b),
        (a, b) => a.or(b).unwrap_or_default(),
    }
}
