//! `audit`: where requests are recorded.

use http::Method;

use super::settings::{Ctx, Http, Output};
use super::{Failure, Outcome, clean_path, data, exactly, mount_path};
use crate::client::Call;
use crate::client::answer::Known;
use crate::show::value::Value;
use crate::show::{self, Format, table};

/// Record every request and answer
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    Enable(EnableArgs),
    Disable(DisableArgs),
    List(ListArgs),
}

/// Start recording to a device
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass audit enable file file_path=/var/log/daypass.log
  $ daypass audit enable -path=second file file_path=stdout")]
pub(crate) struct EnableArgs {
    /// The type of device, then its options
    #[arg(value_name = "TYPE [K=V]")]
    arguments: Vec<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Its name [default: its type]
    #[arg(long, value_name = "NAME")]
    path: Option<String>,
    /// Not copied to other clusters
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    http: Http,
}

/// Stop recording to a device
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass audit disable file/")]
pub(crate) struct DisableArgs {
    /// The device's path
    #[arg(value_name = "PATH")]
    arguments: Vec<String>,
    #[command(flatten)]
    http: Http,
}

/// List the devices
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass audit list -detailed")]
pub(crate) struct ListArgs {
    /// Show options too
    #[arg(long)]
    detailed: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Runs one of the verbs.
pub(super) fn run(verb: &Verb, ctx: &Ctx) -> Outcome {
    match verb {
        Verb::Enable(args) => enable(args, ctx),
        Verb::Disable(args) => {
            let [path] = exactly(&args.arguments)?;
            let call = Call::new(Method::DELETE, format!("sys/audit/{}", clean_path(path)));
            ctx.client(&args.http)?.call(&call).map_err(|error| Failure::api("Error disabling audit device", error))?;
            show::out(&format!("Success! Disabled audit device (if it was enabled) at: {}", mount_path(path)));
            Ok(0)
        }
        Verb::List(args) => list(args, ctx),
    }
}

fn enable(args: &EnableArgs, ctx: &Ctx) -> Outcome {
    let Some((kind, pairs)) = args.arguments.split_first() else {
        return Err(Failure::usage("Error enabling audit device: audit type missing. Valid types include 'file', 'socket' and 'syslog'."));
    };
    let options = data::parse(pairs, &mut std::io::stdin()).map_err(|why| Failure::usage(format!("Error parsing data: {why}")))?;
    let path = args.path.as_deref().unwrap_or(kind);
    let body = Value::map([
        ("type", Value::text(kind.trim())),
        ("description", Value::text(args.description.clone().unwrap_or_default())),
        ("options", options),
        ("local", Value::Bool(args.local)),
    ]);
    let call = Call::new(Method::PUT, format!("sys/audit/{}", clean_path(path))).body(body);
    ctx.client(&args.http)?.call(&call).map_err(|error| Failure::api("Error enabling audit device", error))?;
    show::out(&format!("Success! Enabled the {kind} audit device at: {}", mount_path(path)));
    Ok(0)
}

fn list(args: &ListArgs, ctx: &Ctx) -> Outcome {
    let format = ctx.format_but_raw(&args.output)?;
    let failed = |error| Failure::api("Error listing audits", error);
    let answer = ctx.client(&args.http)?.find(Call::get("sys/audit")).map_err(failed)?;
    let devices = answer.map_or(Value::Map(Vec::new()), Known::into_data);
    if format != Format::Table {
        let keys = ["type", "description", "options", "local", "path"];
        let device = |about: &Value| Value::map(keys.map(|key| (key, about.get(key).cloned().unwrap_or(Value::Null))));
        show::document(format, &Value::map(devices.entries().iter().map(|(path, about)| (path.clone(), device(about)))));
        return Ok(0);
    }
    if devices.entries().is_empty() {
        show::out("No audit devices are enabled.");
        return Ok(2);
    }
    let row = |(path, about): &(String, Value)| {
        let mut row = vec![path.clone(), about.text_at("type").to_owned(), about.text_at("description").to_owned()];
        if args.detailed {
            let options = about.get("options").unwrap_or(&Value::Null).sorted();
            let options: Vec<String> = options.entries().iter().map(|(key, value)| format!("{key}={}", value.go())).collect();
            row.push(if about.get("local").is_some_and(Value::is_true) { "local" } else { "replicated" }.to_owned());
            row.push(options.join(" "));
        }
        row
    };
    let headings = ["Path", "Type", "Description", "Replication", "Options"];
    let shown = if args.detailed { &headings[..] } else { headings.get(..3).unwrap_or_default() };
    show::out(&table::table(shown, &devices.entries().iter().map(row).collect::<Vec<_>>()));
    Ok(0)
}
