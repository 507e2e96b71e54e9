//! `kv metadata`: what is known about a secret, versions and settings.

use super::super::settings::{Ctx, Field, Http, Output, go_duration};
use super::super::{Failure, Outcome, data, exactly, write};
use super::mount::{self, MountFlag, Place};
use super::{show_path, show_section};
use crate::client::Client;
use crate::show::value::Value;
use crate::show::{self, Format};

/// Read and change what is known about a secret
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Show the versions and settings of a secret
    #[command(after_help = "Examples:

  $ daypass kv metadata get -mount=secret app")]
    Get(PathArgs),
    Put(PutArgs),
    Patch(PatchArgs),
    /// Delete a secret with all its versions, for good
    #[command(after_help = "Examples:

  $ daypass kv metadata delete -mount=secret app")]
    Delete(PathArgs),
}

/// One secret, by its path
#[derive(Debug, clap::Args)]
pub(crate) struct PathArgs {
    /// The secret's path
    #[arg(value_name = "PATH")]
    arguments: Vec<String>,
    #[command(flatten)]
    mount: MountFlag,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Write all settings of a secret
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass kv metadata put -mount=secret -max-versions=5 app
  $ daypass kv metadata put -mount=secret -custom-metadata=owner=ops app")]
pub(crate) struct PutArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Change some settings of a secret
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass kv metadata patch -mount=secret -cas-required=true app
  $ daypass kv metadata patch -mount=secret -remove-custom-metadata=owner app")]
pub(crate) struct PatchArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// A key of the custom metadata to remove; may be repeated
    #[arg(long, value_name = "KEY")]
    remove_custom_metadata: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct SettingsArgs {
    /// The secret's path
    #[arg(value_name = "PATH")]
    arguments: Vec<String>,
    /// How many versions to keep [default: the store's setting]
    #[arg(long, value_name = "COUNT")]
    max_versions: Option<i64>,
    /// Whether every write must name the version it replaces
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    cas_required: Option<bool>,
    /// Delete each version after this time
    #[arg(long, value_name = "TTL")]
    delete_version_after: Option<String>,
    /// A remark of yours; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    custom_metadata: Vec<String>,
    #[command(flatten)]
    mount: MountFlag,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Runs one of the verbs.
pub(super) fn run(verb: &Verb, ctx: &Ctx) -> Outcome {
    match verb {
        Verb::Get(args) => get(args, ctx),
        Verb::Put(args) => change(&args.settings, ctx, None),
        Verb::Patch(args) => change(&args.settings, ctx, Some(&args.remove_custom_metadata)),
        Verb::Delete(args) => delete(args, ctx),
    }
}

fn find(ctx: &Ctx, http: &Http, flag: &MountFlag, arguments: &[String]) -> Result<(Client, Place), Failure> {
    let [path] = exactly(arguments)?;
    let found = mount::find(ctx, http, flag, path)?;
    found.1.require_versions(1, "Metadata not supported on KV Version 1")?;
    Ok(found)
}

fn get(args: &PathArgs, ctx: &Ctx) -> Outcome {
    let format = ctx.format_but_raw(&args.output)?;
    let (client, place) = find(ctx, &args.http, &args.mount, &args.arguments)?;
    let path = place.api("metadata");
    let answer = client.read(&path, &[]).map_err(|error| Failure::api(&format!("Error reading {path}"), error))?;
    let answer = answer.ok_or_else(|| Failure::no_value(&path))?;
    let Some(data) = answer.data().filter(|_| format == Format::Table) else {
        show::answer(format, &answer);
        return Ok(0);
    };
    show::warnings(&answer);
    let Some(versions) = data.get("versions") else {
        return Err(Failure::server("Unexpected type for versions data").hint("is this a path of a KV store?"));
    };
    let about = Value::map(data.entries().iter().filter(|(key, _)| key != "versions").cloned());
    show_path("Metadata Path", &path);
    show_section("Metadata", &about);
    let mut versions = versions.entries().to_vec();
    versions.sort_by_key(|(number, _)| number.parse::<u64>().unwrap_or(u64::MAX));
    for (number, version) in &versions {
        show::out("");
        show_section(&format!("Version {number}"), version);
    }
    Ok(0)
}

fn delete(args: &PathArgs, ctx: &Ctx) -> Outcome {
    let format = ctx.format_but_raw(&args.output)?;
    let (client, place) = find(ctx, &args.http, &args.mount, &args.arguments)?;
    let path = place.api("metadata");
    client.delete(&path, &[]).map_err(|error| Failure::api(&format!("Error deleting {path}"), error))?;
    if format == Format::Table {
        show::out(&format!("Success! Data deleted (if it existed) at: {path}"));
    }
    Ok(0)
}

/// Writes settings; with a list of keys to remove, only those given change.
fn change(args: &SettingsArgs, ctx: &Ctx, removed: Option<&[String]>) -> Outcome {
    let format = ctx.format_but_raw(&args.output)?;
    let mut custom = data::flag_pairs("custom-metadata", &args.custom_metadata)?;
    for key in removed.unwrap_or_default() {
        custom.set(key, Value::Null);
    }
    let mut body = Value::Map(Vec::new());
    if let Some(count) = args.max_versions.filter(|count| *count >= 0) {
        body.set("max_versions", Value::number(count));
    }
    if let Some(required) = args.cas_required {
        body.set("cas_required", Value::Bool(required));
    }
    if let Some(text) = &args.delete_version_after {
        body.set("delete_version_after", Value::text(go_duration("delete-version-after", text)?));
    }
    if !custom.entries().is_empty() {
        body.set("custom_metadata", custom);
    }
    let (client, place) = find(ctx, &args.http, &args.mount, &args.arguments)?;
    let path = place.api("metadata");
    let answer = if removed.is_some() { client.patch(&path, body) } else { client.write(&path, Some(body)) };
    let answer = answer.map_err(|error| Failure::api(&format!("Error writing data to {path}"), error))?;
    write::show_written(answer, &path, &Field::default(), format)
}
