//! `kv patch`.

use super::super::settings::{Ctx, Field, Http, Output};
use super::super::{Failure, Outcome};
use super::mount::{self, MountFlag};
use super::put::{path_and_data, versioned_body};
use super::show_written;
use crate::client::answer::Answer;
use crate::client::{Call, Client};
use crate::show::value::Value;

/// Change parts of a secret; the rest stays
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass kv patch -mount=secret app password=@password.txt
  $ daypass kv patch -remove-data=user secret/app
  $ daypass kv patch -method=rw secret/app user=bob

-method=patch sends the change, -method=rw reads the secret and writes it back.
Without -method the first is tried, then the second if the server refuses.")]
pub(crate) struct Args {
    /// The secret's path, then what changes
    #[arg(value_name = "PATH K=V")]
    arguments: Vec<String>,
    /// Write only if this is the newest version
    #[arg(long, value_name = "NUMBER")]
    cas: Option<i64>,
    /// patch or rw
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// A key to remove; may be repeated
    #[arg(long, value_name = "KEY")]
    remove_data: Vec<String>,
    #[command(flatten)]
    mount: MountFlag,
    #[command(flatten)]
    field: Field,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Patches and shows the new version.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let (path, mut change) = match args.arguments.as_slice() {
        [path] if !args.remove_data.is_empty() => (path.as_str(), Value::Map(Vec::new())),
        arguments => path_and_data(arguments)?,
    };
    for key in &args.remove_data {
        change.set(key, Value::Null);
    }
    let format = ctx.format_but_raw(&args.output)?;
    let method = args.method.as_deref();
    if !matches!(method, None | Some("patch" | "rw")) {
        return Err(Failure::usage(format!("Unsupported method provided to -method flag: {}", method.unwrap_or_default()))
            .hint("the methods are patch and rw"));
    }
    let (client, place) = mount::find(ctx, &args.http, &args.mount, path)?;
    place.require_versions(2, "K/V engine mount must be version 2 for patch support")?;
    let path = place.api("data");
    let answer = if method == Some("rw") {
        read_then_write(&client, &path, &change, args.cas)?
    } else {
        match client.patch(&path, versioned_body(change.clone(), args.cas)) {
            Err(error) if method.is_none() && matches!(error.status(), Some(403 | 405)) => {
                read_then_write(&client, &path, &change, args.cas)?
            }
            other => other.map_err(|error| Failure::api(&format!("Error writing data to {path}"), error))?,
        }
    };
    show_written(&answer.ok_or_else(|| Failure::no_value(&path))?, &path, &args.field, format)
}

/// Puts the change into what is there, and writes it if nobody else has written meanwhile; where a version was named, only over that one.
fn read_then_write(client: &Client, path: &str, change: &Value, cas: Option<i64>) -> Result<Option<Answer>, Failure> {
    let found = match client.know(Call::get(path).plain()) {
        Ok(found) => found,
        Err(error) if error.status() == Some(404) => None,
        Err(error) => return Err(Failure::api(&format!("Error doing pre-read at {path}"), error)),
    };
    let found = found.ok_or_else(|| Failure::no_value(path))?;
    let version = found.data().at(&["metadata", "version"]).and_then(Value::as_integer);
    let mut data = found
        .data()
        .get("data")
        .filter(|data| !data.is_null())
        .cloned()
        .ok_or_else(|| Failure::server(format!("No data found at {path}")))?;
    for (key, value) in change.entries() {
        if let (true, Value::Map(entries)) = (value.is_null(), &mut data) {
            entries.retain(|(name, _)| name != key);
        } else {
            data.set(key, value.clone());
        }
    }
    client
        .write(path, Some(versioned_body(data, cas.filter(|cas| *cas >= 0).or(version))))
        .map_err(|error| Failure::api(&format!("Error writing data to {path}"), error))
}
