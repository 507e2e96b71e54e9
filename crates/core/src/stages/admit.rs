//! Admit: quotas decide whether a request may go on, before anything is looked up for it. It costs a client that sends too much
//! as little as possible to be told so.

use std::sync::Arc;

use daypass_sdk::{Error, Kind, LoginRole, Operation};

use crate::node::{Inner, Unsealed};
use crate::quotas::Asked;
use crate::stages::door::Routed;
use crate::stages::parse::Parsed;

/// A request that no quota refuses.
pub(crate) struct Admitted {
    /// What the answer tells of the quota.
    pub(crate) headers: Vec<(&'static str, String)>,
    _proof: (),
}

/// A request over its quota.
pub(crate) struct Refused {
    pub(crate) error: Error,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Whether it is put on record.
    pub(crate) audit: bool,
}

pub(crate) fn admit(inner: &Arc<Inner>, unsealed: &Unsealed, parsed: &Parsed, routed: &Routed) -> Result<Admitted, Box<Refused>> {
    let asked = Asked {
        path: &parsed.path,
        mount: routed.live.as_ref().map_or("", |live| &live.row.path),
        below: &routed.below,
        role: &|| role(parsed, routed),
        address: parsed.peer.map(|peer| peer.ip()),
    };
    match unsealed.quotas.rule(&asked, inner.clock.elapsed()) {
        None => Ok(Admitted { headers: Vec::new(), _proof: () }),
        Some(ruling) if ruling.allowed => Ok(Admitted { headers: ruling.headers, _proof: () }),
        Some(ruling) => {
            let error = Error::new(Kind::TooMany, format!("request path {:?}: rate limit quota exceeded", parsed.path));
            Err(Box::new(Refused { error, headers: ruling.headers, audit: ruling.audit }))
        }
    }
}

/// The role that a login is for.
fn role(parsed: &Parsed, routed: &Routed) -> LoginRole {
    let login = routed.login().filter(|_| parsed.operation == Operation::Update);
    login.map_or(LoginRole::None, |live| live.engine.login_role(&routed.below, &parsed.fields))
}
