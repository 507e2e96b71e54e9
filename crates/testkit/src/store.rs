//! The storage of a mount, in memory.

pub use daypass_sdk::sim::MemoryStorage;
