//! daypass: a server that speaks Vault's HTTP API and hands out AWS credentials, and the command line that goes with it.
//!
//! [`cli`] is what a person types, [`client`] speaks to a server, [`show`] prints, `serve` puts a server together,
//! [`staged`] writes a file whole or not at all.
//! Called `vault` (a link to this file will do), it behaves the same and says so in its texts.

mod cli;
mod client;
mod config;
mod serve;
mod show;
mod staged;

use std::process::ExitCode;

/// A request is many small allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main(std::env::args_os().collect())
}
