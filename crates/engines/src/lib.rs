//! The secrets engines and auth methods that daypass carries: one folder each, one file per path group.
//!
//! An engine sees `daypass_sdk` alone: never another engine's state, a token, the barrier, HTTP or the disk.

pub mod auth;
mod aws_keys;
mod ber;
mod der;
mod go_text;
mod hash;
mod readable;
pub mod registry;
pub mod secrets;
mod turns;

#[cfg(test)]
mod testing;
