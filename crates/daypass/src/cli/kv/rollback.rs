//! `kv rollback`.

use super::super::settings::{Ctx, Http, Output};
use super::super::{Failure, Outcome, exactly};
use super::mount::{self, MountFlag};
use super::put::versioned_body;
use crate::client::Call;
use crate::show;
use crate::show::value::Value;

/// Make an old version of a secret the newest again
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass kv rollback -mount=secret -version=2 app")]
pub(crate) struct Args {
    /// The secret's path
    #[arg(value_name = "PATH")]
    arguments: Vec<String>,
    /// Which version
    #[arg(long, value_name = "NUMBER")]
    version: Option<u64>,
    #[command(flatten)]
    mount: MountFlag,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Reads the old version and writes it as a new one.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let [path] = exactly(&args.arguments)?;
    let format = ctx.format_but_raw(&args.output)?;
    let version = args.version.ok_or_else(|| Failure::usage("Version flag must be specified"))?;
    if version == 0 {
        return Err(Failure::usage("Invalid value 0 for the version flag"));
    }
    let (client, place) = mount::find(ctx, &args.http, &args.mount, path)?;
    place.require_versions(2, "K/V engine mount must be version 2 for rollback support")?;
    let path = place.api("data");
    let pre_read = |error| Failure::api(&format!("Error doing pre-read at {path}"), error);
    let newest = client.find(Call::get(&path)).map_err(pre_read)?.ok_or_else(|| Failure::no_value(&path))?;
    let cas = newest.data().at(&["metadata", "version"]).and_then(Value::as_integer);
    let cas = cas.ok_or_else(|| Failure::server(format!("No metadata found at {path}; rollback only works on existing data")))?;
    let old = client.find(Call::get(&path).query("version", &version.to_string())).map_err(pre_read)?;
    let old = old.ok_or_else(|| Failure::no_value(&path))?;
    let metadata = old.data().get("metadata").unwrap_or(&Value::Null);
    if !metadata.text_at("deletion_time").is_empty() {
        return Err(Failure::server("Cannot roll back to a version that has been deleted"));
    }
    if metadata.get("destroyed").is_some_and(Value::is_true) {
        return Err(Failure::server("Cannot roll back to a version that has been destroyed"));
    }
    let data = old.data().get("data").filter(|data| !data.is_null()).cloned().ok_or_else(|| Failure::no_value(&path))?;
    let answer = client.write(&path, Some(versioned_body(data, Some(cas))));
    let answer = answer.map_err(|error| Failure::api(&format!("Error writing data to {path}"), error))?;
    show::answer(format, &answer.ok_or_else(|| Failure::server("Invalid response returned from Vault"))?);
    Ok(0)
}
