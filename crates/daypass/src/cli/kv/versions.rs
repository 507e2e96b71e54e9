//! `kv undelete`, `kv destroy` and `kv enable-versioning`.

use super::super::settings::{Ctx, Field, Http, Output};
use super::super::{Failure, Outcome, exactly, mount_path, secrets, write};
use super::mount::{self, MountFlag};
use crate::show;
use crate::show::value::Value;

/// Bring deleted versions of a secret back
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass kv undelete -mount=secret -versions=3 app")]
pub(crate) struct UndeleteArgs {
    #[command(flatten)]
    common: VersionsArgs,
}

/// Destroy versions of a secret for good
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass kv destroy -mount=secret -versions=1,2 app")]
pub(crate) struct DestroyArgs {
    #[command(flatten)]
    common: VersionsArgs,
}

#[derive(Debug, clap::Args)]
struct VersionsArgs {
    /// The secret's path
    #[arg(value_name = "PATH")]
    arguments: Vec<String>,
    /// Which versions; may be repeated
    #[arg(long, value_name = "NUMBERS")]
    versions: Vec<String>,
    #[command(flatten)]
    mount: MountFlag,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Give the secrets of a KV store versions from now on
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass kv enable-versioning secret")]
pub(crate) struct EnableArgs {
    /// Where the KV store is mounted
    #[arg(value_name = "PATH")]
    arguments: Vec<String>,
    #[command(flatten)]
    http: Http,
}

/// Runs `kv undelete`.
pub(super) fn undelete(args: &UndeleteArgs, ctx: &Ctx) -> Outcome {
    run(&args.common, ctx, "undelete", "Undelete not supported on KV Version 1")
}

/// Runs `kv destroy`.
pub(super) fn destroy(args: &DestroyArgs, ctx: &Ctx) -> Outcome {
    run(&args.common, ctx, "destroy", "Destroy not supported on KV Version 1")
}

/// Runs `kv enable-versioning`.
pub(super) fn enable(args: &EnableArgs, ctx: &Ctx) -> Outcome {
    let [path] = exactly(&args.arguments)?;
    let path = mount_path(path);
    let options = Value::map([("options", Value::map([("version", Value::text("2"))]))]);
    secrets::tune(&ctx.client(&args.http)?, &path, options)
        .map_err(|error| Failure::api(&format!("Error tuning secrets engine {path}"), error))?;
    show::out(&format!("Success! Tuned the secrets engine at: {path}"));
    Ok(0)
}

fn run(args: &VersionsArgs, ctx: &Ctx, kind: &str, unsupported: &str) -> Outcome {
    let [path] = exactly(&args.arguments)?;
    let format = ctx.format_but_raw(&args.output)?;
    let versions = version_list(&args.versions).filter(|versions| !versions.is_empty()).ok_or_else(|| none_named(kind))?;
    let (client, place) = mount::find(ctx, &args.http, &args.mount, path)?;
    place.require_versions(1, unsupported)?;
    let path = place.api(kind);
    let answer = client.write(&path, Some(Value::map([("versions", Value::texts(versions))])));
    let answer = answer.map_err(|error| Failure::api(&format!("Error writing data to {path}"), error))?;
    write::show_written(answer, &path, &Field::default(), format)
}

/// `-versions=1,2 -versions=3` as one list; nothing where the flag was not given.
pub(super) fn version_list(flags: &[String]) -> Option<Vec<String>> {
    let items = flags.iter().flat_map(|flag| flag.split(',')).map(str::trim).filter(|version| !version.is_empty());
    (!flags.is_empty()).then(|| items.map(str::to_owned).collect())
}

/// `-versions=,` names none: nobody means the newest by that.
pub(super) fn none_named(kind: &str) -> Failure {
    Failure::usage(format!("No versions provided, use the \"-versions\" flag to specify the version to {kind}."))
}
