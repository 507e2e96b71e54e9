//! `sandbox`: the fake AWS alone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daypass_base::{SystemClock, SystemEntropy};
use daypass_sandbox::{Options, World};
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, Outcome, data};
use crate::show;

/// Run the AWS sandbox: a strict fake of STS, IAM and ECR
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass sandbox > aws.env &
  $ daypass sandbox -listen=127.0.0.1:4599 -world=accounts.json

It prints the variables that make a program take it for AWS.")]
pub(crate) struct Args {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4599")]
    listen: String,
    /// Allow sessions shorter than AWS's 900 seconds, so that tests can watch one end
    #[arg(long)]
    allow_short_sessions: bool,
    /// JSON file with the accounts, roles and users that exist [default: the accounts of the examples]
    #[arg(long, value_name = "FILE")]
    world: Option<PathBuf>,
}

/// Runs until interrupted.
pub(super) fn run(args: &Args) -> Outcome {
    let listen: SocketAddr = args.listen.parse().map_err(|error| {
        Failure::usage(format!("invalid -listen address {:?}: {error}", args.listen))
            .hint("an address is a number and a port: 127.0.0.1:4599")
    })?;
    let world = match &args.world {
        Some(file) => read_world(file)?,
        None => World::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::server(format!("cannot start: {error}")))?;
    runtime.block_on(serve(Options { listen, allow_short_sessions: args.allow_short_sessions, world, ..Options::default() }))
}

async fn serve(options: Options) -> Outcome {
    let about = options.world.describe();
    let running = daypass_sandbox::start(options, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).await;
    let running = running.map_err(|error| Failure::server(format!("Error starting the AWS sandbox: {error}")))?;
    show::note(&format!(
        "The AWS sandbox listens at {}. In it are:\n\n{about}\n\nTo take it for AWS, and its task role for oneself:\n",
        running.url()
    ));
    // Data for a shell: the keys open nothing but this sandbox.
    let exports: Vec<String> = running.environment().iter().map(|(name, value)| format!("export {name}='{value}'")).collect();
    show::out(&exports.join("\n"));
    let interrupted = async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    };
    let waited: std::io::Result<()> = interrupted.await;
    running.stop().await;
    waited.map_err(|error| Failure::server(format!("cannot wait for signals: {error}")))?;
    Ok(0)
}

fn read_world(file: &Path) -> Result<World, Failure> {
    let named = |why: String| Failure::usage(format!("Error reading the world in {}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| named(data::plain(&error)))?;
    World::from_json(&text).map_err(|error| named(error.to_string()))
}
