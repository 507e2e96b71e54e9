//! How many connections the listeners have: they count, and whoever shows figures reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// The connections of all listeners of a process.
///
/// ```
/// use daypass_base::Connections;
/// let connections = Connections::default();
/// connections.opened();
/// connections.opened();
/// connections.made_room();
/// connections.closed();
/// assert_eq!((connections.open(), connections.closed_for_others()), (1, 1));
/// ```
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicU64,
    closed_for_others: AtomicU64,
}

impl Connections {
    /// One more is served.
    pub fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// One has ended.
    pub fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// One is closed because others want its place.
    pub fn made_room(&self) {
        self.closed_for_others.fetch_add(1, Ordering::Relaxed);
    }

    /// How many are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// How many were closed because others wanted their place.
    #[must_use]
    pub fn closed_for_others(&self) -> u64 {
        self.closed_for_others.load(Ordering::Relaxed)
    }
}
