//! `delete`: DELETE a path.

use super::settings::{Ctx, Field, Http, Output};
use super::{Failure, Outcome, clean_path, not_empty, read};
use crate::show::{self, Format};

/// Delete what is at a path
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass delete aws/roles/ops
  $ daypass delete secret/metadata/app

That nothing was there is no error.")]
pub(crate) struct Args {
    /// The path, then query parameters
    #[arg(value_name = "PATH [K=V]")]
    arguments: Vec<String>,
    #[command(flatten)]
    field: Field,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Deletes.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let Some((path, pairs)) = args.arguments.split_first() else {
        return Err(Failure::usage("Not enough arguments (expected at least 1, got 0)"));
    };
    not_empty(path)?;
    let format = ctx.format_but_raw(&args.output)?;
    let path = clean_path(path);
    let query = read::query(pairs)?;
    let answer = ctx.client(&args.http)?.delete(path, &query).map_err(|error| Failure::api(&format!("Error deleting {path}"), error))?;
    match answer {
        Some(answer) if !answer.is_bare() => read::show_answer(&answer, &args.field, format),
        _ => {
            if format == Format::Table {
                show::out(&format!("Success! Data deleted (if it existed) at: {path}"));
            }
            Ok(0)
        }
    }
}
