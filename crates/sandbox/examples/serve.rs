//! Runs a sandbox alone: `cargo run -p daypass-sandbox --example serve -- [ADDRESS [WORLD.json]]`. Prints the environment for its clients.

use std::io::Write as _;
use std::sync::Arc;

use daypass_base::{SystemClock, SystemEntropy};
use daypass_sandbox::{Options, World, start};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut options = Options { listen: arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned()).parse()?, ..Options::default() };
    if let Some(file) = arguments.next() {
        options.world = World::from_json(&tokio::fs::read_to_string(file).await?)?;
    }
    let mut out = std::io::stdout();
    for line in options.world.describe().lines() {
        writeln!(out, "# {line}")?;
    }
    let running = start(options, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).await?;
    for (name, value) in running.environment() {
        writeln!(out, "export {name}={value}")?;
    }
    tokio::signal::ctrl_c().await?;
    running.stop().await;
    Ok(())
}
