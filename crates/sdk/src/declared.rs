//! What an endpoint says of itself, without its code: the one source of help pages, the OpenAPI document and the meta-tests.

use serde_json::Value;

use crate::{Operation, Pattern};

/// An endpoint as it was declared.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Its names; the first is the one of documents.
    pub patterns: Vec<Pattern>,
    /// Other paths to the same thing, whose denies count here: see [`crate::Endpoint::stands_for`].
    pub stands_for: Vec<Pattern>,
    /// One sentence.
    pub summary: &'static str,
    /// The page of `path-help`; may be empty, then the summary says all.
    pub help: &'static str,
    /// Needs no token.
    pub public: bool,
    /// Needs `sudo`.
    pub sudo: bool,
    /// Its reads change nothing: see [`crate::Endpoint::safe`].
    pub safe: bool,
    /// Tells create from update.
    pub existence_check: bool,
    /// What to use instead.
    pub deprecated: Option<&'static str>,
    /// What is around its answers.
    pub form: Form,
    /// What can be done there.
    pub operations: Vec<DeclaredOperation>,
}

/// An operation as it was declared.
#[derive(Debug, Clone)]
pub struct DeclaredOperation {
    /// Which.
    pub operation: Operation,
    /// JSON schema of its fields, captured ones among them.
    pub fields: Value,
    /// What a success carries.
    pub shape: Shape,
}

/// What is around the answers of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Bare JSON whose status the client chooses: health.
    AnyStatus,
    /// Bare JSON.
    Bare,
    /// The envelope.
    Envelope,
    /// Bare JSON, or a body of this content type.
    Text(&'static str),
}

/// What a success carries, as far as the handler's type tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Anything or nothing.
    Any,
    /// Data.
    Data,
    /// A list of names.
    Keys,
    /// A secret with a lease.
    Leased,
    /// A token.
    Login,
    /// 204.
    Nothing,
}
