//! `patch`: change part of what is at a path, by JSON merge patch.

use super::settings::{Ctx, Field, Http, Output};
use super::{Failure, Outcome, write};

/// Change part of what is at a path
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass patch secret/data/app data=@change.json
  $ daypass patch aws/roles/ops max_sts_ttl=1h

Not every path can be patched. For KV secrets \"daypass kv patch\" is easier.")]
pub(crate) struct Args {
    /// The path, then the data
    #[arg(value_name = "PATH [K=V]")]
    arguments: Vec<String>,
    /// Patch without any data
    #[arg(long, visible_alias = "f")]
    force: bool,
    #[command(flatten)]
    field: Field,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Patches and shows what comes back.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let (path, data) = write::path_and_data(&args.arguments)?;
    if data.entries().is_empty() && !args.force {
        return Err(Failure::usage("Must supply data or use -force"));
    }
    let format = ctx.format_but_raw(&args.output)?;
    let answer =
        ctx.client(&args.http)?.patch(path, data).map_err(|error| Failure::api(&format!("Error writing data to {path}"), error))?;
    write::show_written(answer, path, &args.field, format)
}
