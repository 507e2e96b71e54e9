//! `kv list`.

use super::super::settings::{Ctx, Http, Output};
use super::super::{Failure, Outcome, at_most_one, list};
use super::mount::{self, MountFlag};

/// List the secrets under a path
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass kv list secret/my-app/
  $ daypass kv list -mount=secret my-app")]
pub(crate) struct Args {
    /// The path
    #[arg(value_name = "PATH")]
    arguments: Vec<String>,
    #[command(flatten)]
    mount: MountFlag,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Lists.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let argument = match at_most_one(&args.arguments)? {
        Some(path) => path,
        // With -mount the root of the store needs no name.
        None if args.mount.is_given() => "",
        None => return Err(Failure::usage("Not enough arguments (expected 1, got 0)")),
    };
    let format = ctx.format_but_raw(&args.output)?;
    let (client, place) = mount::find(ctx, &args.http, &args.mount, argument)?;
    let path = place.api("metadata");
    let answer = client.list(&path).map_err(|error| Failure::api(&format!("Error listing {path}"), error))?;
    list::show_keys(answer, &path, format)
}
