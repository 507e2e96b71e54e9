//! Which request headers are logged (`sys/config/auditing/request-headers`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The most headers that can be configured.
pub const HEADER_RULES_MAX: usize = 256;

/// How a header is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeaderRule {
    /// Whether its values are hashed.
    #[serde(default)]
    pub hmac: bool,
}

/// The headers that are logged, by lower-case name. The three defaults are logged in clear unless they are configured otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderRules {
    rules: BTreeMap<String, HeaderRule>,
}

impl Default for HeaderRules {
    fn default() -> Self {
        Self::new(BTreeMap::new())
    }
}

impl HeaderRules {
    /// The configured rules (names in any case) and the defaults.
    #[must_use]
    pub fn new(configured: BTreeMap<String, HeaderRule>) -> Self {
        let mut rules: BTreeMap<String, HeaderRule> =
            DEFAULT_HEADERS.iter().map(|name| ((*name).to_owned(), HeaderRule::default())).collect();
        rules.extend(configured.into_iter().take(HEADER_RULES_MAX).map(|(name, rule)| (name.to_ascii_lowercase(), rule)));
        Self { rules }
    }

    /// Each rule with its lower-case name, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, HeaderRule)> {
        self.rules.iter().map(|(name, rule)| (name.as_str(), *rule))
    }
}

/// Logged in clear without being configured.
const DEFAULT_HEADERS: [&str; 3] = ["correlation-id", "user-agent", "x-correlation-id"];
