//! `kv delete`.

use super::super::settings::{Ctx, Field, Http, Output};
use super::super::{Failure, Outcome, exactly, read};
use super::mount::{self, MountFlag};
use super::versions::{none_named, version_list};
use crate::show::value::Value;
use crate::show::{self, Format};

/// Delete a secret's newest version, or some versions; "kv undelete" brings them back
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass kv delete -mount=secret app
  $ daypass kv delete -versions=1,2 secret/app

A store without versions (v1) forgets the secret for good.")]
pub(crate) struct Args {
    /// The secret's path
    #[arg(value_name = "PATH")]
    arguments: Vec<String>,
    /// Delete these versions; may be repeated
    #[arg(long, value_name = "NUMBERS")]
    versions: Vec<String>,
    #[command(flatten)]
    mount: MountFlag,
    #[command(flatten)]
    field: Field,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Deletes.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let [path] = exactly(&args.arguments)?;
    let format = ctx.format_but_raw(&args.output)?;
    let versions = version_list(&args.versions);
    if versions.as_ref().is_some_and(Vec::is_empty) {
        return Err(none_named("delete"));
    }
    let (client, place) = mount::find(ctx, &args.http, &args.mount, path)?;
    if versions.is_some() {
        place.require_versions(1, "-versions is not supported on KV Version 1: without it the secret is gone for good")?;
    }
    let path = place.api("data");
    let deleted = match versions {
        Some(versions) if place.versioned => client.write(&place.api("delete"), Some(Value::map([("versions", Value::texts(versions))]))),
        _ => client.delete(&path, &[]),
    };
    match deleted.map_err(|error| Failure::api(&format!("Error deleting {path}"), error))? {
        Some(answer) if !answer.is_bare() => read::show_answer(&answer, &args.field, format),
        _ => {
            if format == Format::Table {
                show::out(&format!("Success! Data deleted (if it existed) at: {path}"));
            }
            Ok(0)
        }
    }
}
