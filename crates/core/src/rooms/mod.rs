//! The core's own rooms: the same shape as engines, but they see the core.

pub(crate) mod cubbyhole;
pub(crate) mod identity;
pub(crate) mod status;
pub(crate) mod sys;
pub(crate) mod token;

use std::sync::{Arc, Weak};

use daypass_sdk::{Mounted, Result, Room};

use crate::node::{Inner, Unsealed};

/// What every room of the core holds: the way back to it.
#[derive(Clone)]
pub(crate) struct Way {
    inner: Weak<Inner>,
}

impl Way {
    pub(crate) fn new(inner: Weak<Inner>) -> Self {
        Self { inner }
    }

    /// The core. Errors: `Sealed` when it is going away.
    pub(crate) fn inner(&self) -> Result<Arc<Inner>> {
        self.inner.upgrade().ok_or_else(crate::node::sealed)
    }

    /// The core and what is in memory while it is unsealed. Errors: `Sealed`.
    pub(crate) fn open(&self) -> Result<(Arc<Inner>, Arc<Unsealed>)> {
        let inner = self.inner()?;
        let unsealed = inner.unsealed()?;
        Ok((inner, unsealed))
    }
}

/// The type of the mount `sys/`. Endpoints that answer in every state stand before it, in a room of their own.
pub(crate) const SYSTEM: &str = "system";

/// The engine of a built-in mount.
pub(crate) fn builtin(kind: &str, inner: Weak<Inner>) -> Option<Arc<dyn Mounted>> {
    let way = Way::new(inner);
    Some(match kind {
        "cubbyhole" => Arc::new(Room::new()).mount(cubbyhole::Cubbyhole { way }),
        "identity" => Arc::new(Room::new()).mount(identity::IdentityRoom { way }),
        SYSTEM => Arc::new(Room::new()).mount(sys::Sys { way }),
        "token" => Arc::new(Room::new()).mount(token::TokenRoom { way }),
        _ => return None,
    })
}
