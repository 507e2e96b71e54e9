//! `identity/`: the mount exists, as clients expect; entities and groups follow.

use daypass_sdk::{Endpoint, Engine};

use super::Way;

/// The room behind `identity/`.
pub(crate) struct IdentityRoom {
    #[expect(dead_code, reason = "entities and groups will need the core")]
    pub(crate) way: Way,
}

impl Engine for IdentityRoom {
    const SUMMARY: &'static str = "The identity store: who the callers of different logins are.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        Vec::new()
    }
}
