//! ACL policies: what a token may do.
//!
//! A policy is parsed once ([`Policy::parse`]). The policies of tokens are arranged once ([`PolicySet`]) and with who a token belongs to
//! ([`Identity`]) make an [`Acl`], which then judges every request ([`Acl::judge`]) without parsing or allocating again.
//! Nothing here knows tokens, mounts or storage, and nothing here does input or output.
//!
//! Rules and texts are Vault 1.21's (Vault documentation, "Policies"); the tests hold them against a slow model of those rules.
//! Different on purpose: a stanza whose template yields nothing, or a text with `*`, `+`, `/` or `,` in it, is left out,
//! so that no name of an entity can widen a pattern.

mod acl;
mod arranged;
mod builtin;
mod capability;
mod denies;
mod explain;
mod fold;
mod parameters;
mod parse;
mod pattern;
mod permissions;
mod policy;
mod set;
mod template;
mod verdict;

pub use acl::{Acl, Question};
pub use builtin::{DEFAULT_POLICY, RESPONSE_WRAPPING_POLICY};
pub use capability::{Capabilities, Capability, Operation};
pub use explain::{Explanation, Loser};
pub use fold::{Folded, bare};
pub use parameters::Parameters;
pub use permissions::Permissions;
pub use policy::{Mistake, Policy, PolicyError, Stanza, limits};
pub use set::PolicySet;
pub use template::{Alias, DependsOn, Entity, Group, Identity};
pub use verdict::{Grant, Reason, Rule, Verdict};
