//! The whole pipeline with all engines, in memory: what happens over time, at the same moment, and when something breaks in between.
//!
//! Answers in themselves are compared with recorded ones elsewhere; here is what no recording shows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may fail by panicking")]

mod audit;
mod compatibility;
mod crash;
mod declarations;
mod full;
mod leases;
mod lender;
mod mounts;
mod policies;
mod seal;
mod tokens;
mod wrapping;
