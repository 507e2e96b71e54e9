//! `kv put`.

use super::super::settings::{Ctx, Field, Http, Output};
use super::super::{Failure, Outcome, data, not_empty, write};
use super::mount::{self, MountFlag};
use super::show_written;
use crate::show::value::Value;

/// Write a secret: all of it, in place of what was there
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass kv put -mount=secret app user=bob password=@password.txt
  $ daypass kv put -cas=0 secret/app user=bob     (only if there is none yet)
  $ daypass kv put secret/app - < app.json")]
pub(crate) struct Args {
    /// The secret's path, then its data
    #[arg(value_name = "PATH K=V")]
    arguments: Vec<String>,
    /// Write only if this is the newest version; 0: only if there is none
    #[arg(long, value_name = "NUMBER")]
    cas: Option<i64>,
    #[command(flatten)]
    mount: MountFlag,
    #[command(flatten)]
    field: Field,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Writes and shows the new version.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let (path, data) = path_and_data(&args.arguments)?;
    let format = ctx.format_but_raw(&args.output)?;
    let (client, place) = mount::find(ctx, &args.http, &args.mount, path)?;
    if args.cas.is_some_and(|cas| cas >= 0) {
        place.require_versions(1, "-cas is not supported on KV Version 1: a write there replaces whatever there is")?;
    }
    let path = place.api("data");
    let body = if place.versioned { versioned_body(data, args.cas) } else { data };
    let answer = client.write(&path, Some(body)).map_err(|error| Failure::api(&format!("Error writing data to {path}"), error))?;
    match answer {
        Some(answer) if place.versioned => show_written(&answer, &path, &args.field, format),
        answer => write::show_written(answer, &path, &args.field, format),
    }
}

/// The path and the data that the arguments give; data there must be.
pub(super) fn path_and_data(arguments: &[String]) -> Result<(&str, Value), Failure> {
    let Some((path, pairs)) = arguments.split_first() else {
        return Err(Failure::usage("Not enough arguments (expected >1, got 0)"));
    };
    not_empty(path)?;
    if pairs.is_empty() {
        return Err(Failure::usage("Must supply data"));
    }
    let data = data::parse(pairs, &mut std::io::stdin()).map_err(|why| Failure::usage(format!("Failed to parse K=V data: {why}")))?;
    Ok((path, data))
}

/// The body of a write to a store with versions. A `cas` below zero is none.
pub(super) fn versioned_body(data: Value, cas: Option<i64>) -> Value {
    let cas = cas.filter(|cas| *cas >= 0).map(|cas| ("cas", Value::number(cas)));
    Value::map([("data", data), ("options", Value::map(cas))])
}
