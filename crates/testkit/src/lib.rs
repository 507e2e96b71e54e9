//! For tests alone: what they share. A whole server on a simulated clock, and an engine's storage in memory.

#![allow(clippy::missing_panics_doc, reason = "a test's scaffold fails by panicking, as its assertions do")]

mod ask;
pub mod compatibility;
mod doors;
pub mod fields;
pub mod free;
mod log;
mod server;
pub mod store;

pub use ask::{Answer, Ask};
pub use doors::{ALWAYS, Door, doors, every_mount};
pub use log::TestLog;
pub use server::{Setup, TestServer, WORKER_PAUSE};
