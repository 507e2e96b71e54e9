//! `write`: PUT data at a path.

use super::settings::{Ctx, Field, Http, Output};
use super::{Failure, Outcome, clean_path, data, not_empty, read};
use crate::client::answer::Answer;
use crate::show::value::Value;
use crate::show::{self, Format};

/// Write data, configure something, or mint a credential with parameters
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass write cdp/aws/staging/sts/ecr-staging ttl=60m
  $ daypass write aws/roles/ops policy_document=@policy.json
  $ daypass write -f sys/rotate
  $ echo $SECRET | daypass write aws/config/root access_key=AKIA... secret_key=-

A value may be @FILE or - (stdin); - alone reads a JSON object from stdin, @FILE
alone one from a file. A value that starts with \\@ starts with an at sign.")]
pub(crate) struct Args {
    /// The path, then the data
    #[arg(value_name = "PATH [K=V]")]
    arguments: Vec<String>,
    /// Write without any data
    #[arg(long, visible_alias = "f")]
    force: bool,
    #[command(flatten)]
    field: Field,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Writes and shows what comes back.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let (path, data) = path_and_data(&args.arguments)?;
    if data.entries().is_empty() && !args.force {
        return Err(Failure::usage("Must supply data or use -force"));
    }
    let format = ctx.format_but_raw(&args.output)?;
    let client = ctx.client(&args.http)?;
    let body = Some(data).filter(|data| !data.entries().is_empty());
    let answer = client.write(path, body).map_err(|error| Failure::api(&format!("Error writing data to {path}"), error))?;
    show_written(answer, path, &args.field, format)
}

/// The first argument as a path, the others as data.
pub(super) fn path_and_data(arguments: &[String]) -> Result<(&str, Value), Failure> {
    let Some((path, pairs)) = arguments.split_first() else {
        return Err(Failure::usage("Not enough arguments (expected 1, got 0)"));
    };
    not_empty(path)?;
    let data = data::parse(pairs, &mut std::io::stdin()).map_err(|why| Failure::usage(format!("Failed to parse K=V data: {why}")))?;
    Ok((clean_path(path), data))
}

/// What a write brought; an answer without content is a success to tell people about, but no data.
pub(super) fn show_written(answer: Option<Answer>, path: &str, field: &Field, format: Format) -> Outcome {
    if let Some(answer) = answer {
        return read::show_answer(&answer, field, format);
    }
    if format == Format::Table {
        show::out(&format!("Success! Data written to: {path}"));
    }
    Ok(0)
}
