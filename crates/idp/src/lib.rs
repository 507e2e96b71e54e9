//! Calls to identity providers: OpenID Connect discovery, key sets, token endpoints, Kubernetes API servers, GitHub's API, responders of OCSP, and whatever else answers JSON about who somebody is.
//!
//! [`Idp`] is what auth methods see; [`LiveIdp`] makes the calls, [`ScriptedIdp`] answers from a script with tokens that a [`Signer`] signed. [`oidc`], [`kubernetes`]
//! and [`github`] have the calls by name,
//! [`strict`] reads JSON that decides about somebody. This crate judges no token and keeps no answer: that is the method's business. It
//! follows no redirect, reads no more than [`ANSWER_MAX`], and speaks plain HTTP with this machine alone, unless answers are signed
//! ([`Url::parse_of_signed`]).

mod call;
pub mod github;
pub mod kubernetes;
mod live;
pub mod oidc;
pub mod responder;
mod scripted;
mod signer;
pub mod strict;
mod url;

pub use call::{ANSWER_MAX, Answer, Ask, Idp, IdpError, Payload, Proof, Result, Trust};
pub use live::LiveIdp;
pub use scripted::{Asked, ScriptedIdp};
pub use signer::Signer;
pub use url::{Url, percent_encoded};
