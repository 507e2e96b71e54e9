//! `kv get`.

use super::super::settings::{Ctx, Field, Http, Output};
use super::super::{Failure, Outcome, exactly, read};
use super::mount::{self, MountFlag};
use super::{show_path, show_section};
use crate::show::value::Value;
use crate::show::{self, Format};

/// Read a secret
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass kv get -mount=secret app
  $ daypass kv get -field=password secret/app
  $ daypass kv get -version=2 -format=json secret/app")]
pub(crate) struct Args {
    /// The secret's path
    #[arg(value_name = "PATH")]
    arguments: Vec<String>,
    /// Read this version [default: the newest]
    #[arg(long, value_name = "NUMBER")]
    version: Option<u64>,
    #[command(flatten)]
    mount: MountFlag,
    #[command(flatten)]
    field: Field,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Reads and shows.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let [path] = exactly(&args.arguments)?;
    let format = ctx.format_but_raw(&args.output)?;
    let (client, place) = mount::find(ctx, &args.http, &args.mount, path)?;
    if args.version.is_some_and(|version| version > 0) {
        place.require_versions(1, "-version is not supported on KV Version 1, which keeps the newest data alone")?;
    }
    let path = place.api("data");
    let version = args.version.filter(|version| *version > 0 && place.versioned).map(|version| ("version".to_owned(), version.to_string()));
    let query: Vec<_> = version.into_iter().collect();
    let answer = client.read(&path, &query).map_err(|error| Failure::api(&format!("Error reading {path}"), error))?;
    let answer = answer.ok_or_else(|| Failure::no_value(&path))?;
    let Some(whole) = answer.data() else { return read::show_answer(&answer, &args.field, format) };
    let data = if place.versioned { whole.get("data").unwrap_or(&Value::Null) } else { whole };
    if let Some(name) = &args.field.field {
        if place.versioned && data.is_null() {
            return Err(Failure::server(format!("No data found at {path}")));
        }
        // A secret's own field is meant, even where it is called like one of the envelope.
        let value = data.get(name).filter(|value| !value.is_null());
        show::field(format, value.ok_or_else(|| Failure::usage(format!("Field {name:?} not present in map")))?, show::Supply::Lasting);
        return Ok(0);
    }
    if format != Format::Table {
        return read::show_answer(&answer, &args.field, format);
    }
    show::warnings(&answer);
    if place.versioned {
        show_path("Secret Path", &path);
        if let Some(metadata) = whole.get("metadata").filter(|metadata| !metadata.is_null()) {
            show_section("Metadata", metadata);
            show::out("");
        }
    }
    if !data.is_null() {
        show_section("Data", data);
    }
    Ok(0)
}
