//! For tests alone: what they share. A whole server on a simulated clock, and an engine's storage in memory.

pub mod store;
