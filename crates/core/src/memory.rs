//! The memory that the fields of all requests under way take: far more than their text, where it is many small objects.

use std::sync::Arc;

use daypass_base::Limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What there is for all, in KiB. Bounds [`Limits::all_fields_bytes`].
pub(crate) struct Memory(Arc<Semaphore>);

/// The share of a request, until it is answered.
#[derive(Debug)]
pub(crate) struct Held(#[expect(dead_code, reason = "held, and given back when it is dropped")] Option<OwnedSemaphorePermit>);

impl Memory {
    pub(crate) fn new(limits: &Limits) -> Self {
        let bytes = limits.all_fields_bytes.max(limits.json_memory_bytes.saturating_mul(COPIES));
        Self(Arc::new(Semaphore::new(bytes.div_ceil(1024).min(Semaphore::MAX_PERMITS))))
    }

    /// Takes what fields of about so many bytes need; `None` where there is no room for them. Never waits: who waits holds them already.
    pub(crate) fn take(&self, bytes: usize) -> Option<Held> {
        if bytes < UNCOUNTED_BYTES {
            return Some(Held(None));
        }
        let wanted = u32::try_from(bytes.saturating_mul(COPIES).div_ceil(1024)).unwrap_or(u32::MAX);
        Arc::clone(&self.0).try_acquire_many_owned(wanted).ok().map(|permit| Held(Some(permit)))
    }
}

/// The request's own fields, which go on record, and those that its handler gets.
const COPIES: usize = 2;
/// Most requests have less. [`Limits::requests`] bounds what they take together.
const UNCOUNTED_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back() {
        let memory = Memory::new(&Limits { all_fields_bytes: 0, json_memory_bytes: 64 << 10, ..Limits::default() });
        let small = memory.take(1000).unwrap();
        let all = memory.take(64 << 10).unwrap();
        assert!(memory.take(16 << 10).is_none());
        assert!(memory.take(1000).is_some(), "small ones are not counted");
        drop((small, all));
        assert!(memory.take(16 << 10).is_some());
    }
}
