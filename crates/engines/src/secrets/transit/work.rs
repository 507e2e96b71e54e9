//! Slow work off the runtime: making and using RSA keys, and large batches. Only so much at a time; more callers wait their turn.

use std::sync::Arc;

use daypass_sdk::{Cx, Error, Result};
use tokio::sync::Semaphore;

use super::cache::Loaded;
use super::key::Version;
use super::key_type::KeyType;
use super::material;

/// The turns of one mount.
pub(super) struct Turns {
    turns: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE_MAX)) }
    }
}

/// Where work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Here,
    OffTheRuntime,
}

impl Place {
    /// Where so many uses of a key, on so many bytes together, are done.
    pub(super) fn of(key: &Loaded, items: usize, bytes: usize) -> Self {
        if key.key.key_type.is_rsa() || items > ITEMS_HERE_MAX || bytes > BYTES_HERE_MAX { Self::OffTheRuntime } else { Self::Here }
    }
}

impl Turns {
    /// Does the work. Errors: its own, or `Internal` when it ended early.
    pub(super) async fn run<T: Send + 'static>(&self, place: Place, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        if place == Place::Here {
            return work();
        }
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|error| Error::internal("cryptographic work was shut down").because(error))?;
        // The turn ends with the work, even when the caller has given up meanwhile.
        let work = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        });
        work.await.map_err(|error| Error::internal("cryptographic work ended early").because(error))?
    }

    /// Makes the material of a new version.
    pub(super) async fn generate(&self, cx: &Cx, key_type: KeyType, key_size: usize) -> Result<Version> {
        let (entropy, now) = (Arc::clone(&cx.entropy), cx.clock.now());
        let place = if key_type.is_rsa() || key_type.is_ecdsa() { Place::OffTheRuntime } else { Place::Here };
        self.run(place, move || material::generate(key_type, key_size, &*entropy, now)).await
    }
}

/// Slow work at once per mount: more would only take the processors from each other.
const AT_ONCE_MAX: usize = 4;
/// More items than these go off the runtime.
const ITEMS_HERE_MAX: usize = 32;
/// More bytes than these go off the runtime.
const BYTES_HERE_MAX: usize = 256 * 1024;
