//! Signed tokens of other issuers, and the public keys that verify them: what the methods share that take such tokens.

pub(super) mod key;
mod pem;
pub(super) mod token;
