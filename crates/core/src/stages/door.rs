//! Find door: which mount and which of its endpoints a path leads to. Asks nobody and tells nobody: strangers learn nothing from it,
//! because what it found is used only after the caller was judged.

use std::sync::Arc;

use daypass_base::Secret;
use daypass_sdk::{Found, Operation, Support};
use serde_json::Value;

use crate::mounts::{Class, Door, Live, Table, Visit};
use crate::stages::parse::Parsed;

/// A request whose way is known, also if it leads nowhere.
#[derive(Clone)]
pub(crate) struct Routed {
    /// The mount; `None` when no mount has the path.
    pub(crate) live: Option<Arc<Live>>,
    /// The path below the mount.
    pub(crate) below: String,
    /// The endpoint; `None` when the engine has none for the path.
    pub(crate) found: Option<Found>,
    /// What the endpoint says of itself.
    pub(crate) support: Support,
    /// The mounts among which it was found.
    table: Arc<Table>,
    _visit: Option<Visit>,
    _proof: (),
}

impl Routed {
    /// The mount's type, as answers name it.
    pub(crate) fn mount_type(&self) -> &str {
        self.live.as_ref().map_or("", |live| live.row.kind.as_str())
    }

    /// The way among these mounts: looked up anew only if they are others than those in which it was found.
    pub(crate) fn among(self, parsed: &Parsed, table: Arc<Table>) -> Self {
        if Arc::ptr_eq(&self.table, &table) { self } else { find(parsed, table) }
    }

    /// The auth method whose login this leads to, if it leads to one.
    pub(crate) fn login(&self) -> Option<&Arc<Live>> {
        self.live.as_ref().filter(|live| live.row.class == Class::Auth && self.support.public)
    }
}

/// Cuts the slash off the end of a path that is to be written, where the mount is tuned to do so: everything from the judge on sees the
/// path without it. Other mounts refuse such a write later, once it is known who asks.
pub(crate) fn trim(parsed: &mut Parsed, table: &Table) {
    if !matches!(parsed.operation, Operation::Patch | Operation::Update) || !parsed.path.ends_with('/') {
        return;
    }
    let wanted = |door: &Door| door.live.row.config.trim_request_trailing_slashes == Some(true);
    if table.find(&parsed.path).as_ref().is_some_and(wanted) {
        let kept = parsed.path.trim_end_matches('/').len();
        parsed.path.truncate(kept);
    }
}

/// AWS's SDKs send a token as all of `Authorization`, with no scheme before it. It is taken for one only where an endpoint is made for them,
/// and where no other token was presented; what it is good for is judged as ever.
pub(crate) fn take_bare_token(parsed: &mut Parsed, table: impl FnOnce() -> Arc<Table>) {
    if parsed.token.is_some() {
        return;
    }
    let given = parsed.headers.get("authorization").and_then(|value| value.to_str().ok()).map(str::trim);
    // A blank would be between a scheme and something else: no token has one.
    let Some(token) = given.filter(|given| !given.is_empty() && !given.contains(' ')).map(|given| Secret::new(given.to_owned())) else {
        return;
    };
    if find(parsed, table()).support.for_aws_sdks {
        parsed.token = Some(token);
        parsed.bearer = true;
    }
}

pub(crate) fn find(parsed: &Parsed, table: Arc<Table>) -> Routed {
    let door = table.find(&parsed.path);
    let nothing = Support::default();
    let Some(door) = door else {
        return Routed { live: None, below: String::new(), found: None, support: nothing, table, _visit: None, _proof: () };
    };
    let visit = door.live.visit();
    let found = door.live.engine.find(&door.below);
    let mut support = found.as_ref().map_or(nothing, |found| door.live.engine.support(found, parsed.operation));
    support.public |= parsed.opened || support.own_token && names_no_other_token(parsed);
    Routed { live: Some(door.live), below: door.below, found, support, table, _visit: Some(visit), _proof: () }
}

/// Whether a request is about the token that it presents. In doubt it is about another, and its caller is judged.
fn names_no_other_token(parsed: &Parsed) -> bool {
    match parsed.fields.get("token") {
        None | Some(Value::Null) => true,
        Some(Value::String(named)) => named.is_empty() || parsed.token.as_ref().is_some_and(|own| own.expose() == named),
        Some(_) => false,
    }
}
