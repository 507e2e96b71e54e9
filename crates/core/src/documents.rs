//! Documents of the whole server, made from what its rooms declare: help pages, and the declarations themselves for meta-tests
//! and for `docs/compatibility.md`. Decides nothing about requests.

use std::sync::Arc;

use daypass_sdk::{Declared, Mounted, Result, spec};
use serde_json::Value;

use crate::mounts::Live;
use crate::node::{Core, Inner};
use crate::rooms::SYSTEM;

/// What one mount declares.
#[derive(Clone)]
pub struct Declarations {
    /// Where it is mounted, with a slash at the end: `sys/`, `auth/approle/`.
    pub mount: String,
    /// Its type.
    pub kind: String,
    /// The endpoints.
    pub endpoints: Vec<Declared>,
    /// The status endpoints, which answer in every state and before everything else at `sys/`.
    pub always: bool,
    engine: Arc<dyn Mounted>,
}

impl Declarations {
    /// The number of the endpoint that a path below the mount leads to: a pattern may be hidden by a better one.
    #[must_use]
    pub fn leads_to(&self, below: &str) -> Option<usize> {
        self.engine.find(below).map(|found| found.endpoint)
    }
}

impl Core {
    /// What all mounts declare, in the order in which requests meet them. Errors: `Sealed`.
    pub fn declarations(&self) -> Result<Vec<Declarations>> {
        let unsealed = self.inner.unsealed()?;
        let of = |mount: &str, kind: &str, engine: &Arc<dyn Mounted>, always| Declarations {
            mount: mount.to_owned(),
            kind: kind.to_owned(),
            endpoints: engine.declared(),
            always,
            engine: Arc::clone(engine),
        };
        let mut all = vec![of("sys/", "status", &self.inner.status_room, true)];
        all.extend(unsealed.table.load().all().map(|live| of(&live.row.path, &live.row.kind, &live.engine, false)));
        Ok(all)
    }
}

/// The help page of a path below a mount, and its part of the OpenAPI document. The status endpoints are shown with the rest of `sys/`.
pub(crate) fn help(inner: &Inner, live: &Live, below: &str) -> Option<(String, Value)> {
    let mount = &live.row.path;
    if live.row.kind != SYSTEM {
        return live.engine.help(mount, below);
    }
    if !below.is_empty() {
        return inner.status_room.help(mount, below).or_else(|| live.engine.help(mount, below));
    }
    let declared: Vec<Declared> = inner.status_room.declared().into_iter().chain(live.engine.declared()).collect();
    let items = inner.status_room.spec(mount).into_iter().chain(live.engine.spec(mount)).collect();
    Some((spec::room_page(<crate::rooms::sys::Sys as daypass_sdk::Engine>::SUMMARY, &declared), spec::document(mount, items)))
}
