//! `secrets`: mount, list, tune, move and unmount secrets engines.

use std::time::Duration;

use http::Method;

use super::mount::{self, Kind, Making, Settings};
use super::settings::{Ctx, Http, Output};
use super::{Failure, Outcome, clean_path, exactly, mount_path};
use crate::client::answer::Known;
use crate::client::{Call, Client};
use crate::show::value::Value;
use crate::show::{self, Format};

/// Mount, list, tune, move and unmount secrets engines
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    Enable(Box<EnableArgs>),
    Disable(DisableArgs),
    List(ListArgs),
    Move(MoveArgs),
    Tune(Box<TuneArgs>),
}

/// Mount a secrets engine
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass secrets enable -path=cdp/aws/staging aws
  $ daypass secrets enable -version=2 kv
  $ daypass secrets enable -path=team -max-lease-ttl=30m aws")]
pub(crate) struct EnableArgs {
    /// The type of engine
    #[arg(value_name = "TYPE")]
    arguments: Vec<String>,
    #[command(flatten)]
    making: Making,
    #[command(flatten)]
    settings: Settings,
    /// Do not cache what it stores
    #[arg(long, hide_short_help = true)]
    force_no_cache: bool,
    #[command(flatten)]
    http: Http,
}

/// Unmount a secrets engine: revoke all its leases and delete all its data
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass secrets disable cdp/aws/staging")]
pub(crate) struct DisableArgs {
    /// Where it is mounted
    #[arg(value_name = "PATH")]
    arguments: Vec<String>,
    #[command(flatten)]
    http: Http,
}

/// List the secrets engines
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass secrets list
  $ daypass secrets list -detailed")]
pub(crate) struct ListArgs {
    /// Show every setting
    #[arg(long)]
    detailed: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Move a secrets engine with its data; its leases are revoked
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass secrets move aws/ cdp/aws/staging/")]
pub(crate) struct MoveArgs {
    /// From where to where
    #[arg(value_name = "SOURCE DESTINATION")]
    arguments: Vec<String>,
    #[command(flatten)]
    http: Http,
}

/// Change the settings of a secrets engine
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass secrets tune -default-lease-ttl=1h -max-lease-ttl=12h cdp/aws/staging")]
pub(crate) struct TuneArgs {
    /// Where it is mounted
    #[arg(value_name = "PATH")]
    arguments: Vec<String>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    http: Http,
}

/// Runs one of the verbs.
pub(super) fn run(verb: &Verb, ctx: &Ctx) -> Outcome {
    match verb {
        Verb::Enable(args) => enable(args, ctx),
        Verb::Disable(args) => {
            let [path] = exactly(&args.arguments)?;
            let path = mount_path(path);
            let call = Call::new(Method::DELETE, format!("sys/mounts/{}", clean_path(&path)));
            ctx.client(&args.http)?
                .call(&call)
                .map_err(|error| Failure::api(&format!("Error disabling secrets engine at {path}"), error))?;
            show::out(&format!("Success! Disabled the secrets engine (if it existed) at: {path}"));
            Ok(0)
        }
        Verb::List(args) => list(args, ctx),
        Verb::Move(args) => {
            let [from, to] = exactly(&args.arguments)?;
            remount(&ctx.client(&args.http)?, "secrets engine", ("", &mount_path(from)), ("", &mount_path(to)))
        }
        Verb::Tune(args) => {
            let [path] = exactly(&args.arguments)?;
            let path = mount_path(path);
            tune(&ctx.client(&args.http)?, &path, args.settings.tuning()?)
                .map_err(|error| Failure::api(&format!("Error tuning secrets engine {path}"), error))?;
            show::out(&format!("Success! Tuned the secrets engine at: {path}"));
            Ok(0)
        }
    }
}

/// Changes settings of the mount at `path`, and passes on what the server remarks.
pub(super) fn tune(client: &Client, path: &str, body: Value) -> Result<(), crate::client::Error> {
    let call = Call::new(Method::POST, format!("sys/mounts/{}/tune", clean_path(path))).body(body);
    if let Some(known) = client.know(call)? {
        show::warnings(known.answer());
    }
    Ok(())
}

/// Moves a mount, and waits until it is moved. Paths come as what Vault calls them (`auth/`) and what people do.
pub(super) fn remount(client: &Client, what: &str, from: (&str, &str), to: (&str, &str)) -> Outcome {
    let route = format!("{what} {} to {}", from.1, to.1);
    let failed = |error| Failure::api(&format!("Error moving {route}"), error);
    let ends = [("from", from), ("to", to)].map(|(key, (before, path))| (key, Value::text(format!("{before}{path}"))));
    let begun = client.know(Call::new(Method::POST, "sys/remount").body(Value::map(ends))).map_err(failed)?;
    let id = begun.as_ref().map(|answer| answer.data().text_at("migration_id").to_owned()).unwrap_or_default();
    show::out(&format!("Started moving {route}, with migration ID {id}"));
    let mut told = false;
    loop {
        let status = client.find(Call::get(format!("sys/remount/status/{id}"))).map_err(failed)?;
        let status = status.and_then(|answer| answer.data().at(&["migration_info", "status"]).map(Value::go)).unwrap_or_default();
        match status.as_str() {
            "success" => {
                show::out(&format!("Success! Finished moving {route}, with migration ID {id}"));
                return Ok(0);
            }
            "in-progress" => {}
            other => {
                return Err(Failure::server(format!(
                    "Failure! Error encountered moving {route}, with migration ID {id} (status {other:?})"
                )));
            }
        }
        if !told {
            show::out(&format!("Waiting for terminal status in migration of {route}, with migration ID {id}"));
            told = true;
        }
        client.wait(Duration::from_secs(1));
    }
}

fn enable(args: &EnableArgs, ctx: &Ctx) -> Outcome {
    let [kind] = exactly(&args.arguments)?;
    let mut config = args.settings.config()?;
    config.set("force_no_cache", Value::Bool(args.force_no_cache));
    let (path, body) = args.making.body(kind, config, &args.settings)?;
    let call = Call::new(Method::POST, format!("sys/mounts/{path}")).body(body);
    let answer = ctx.client(&args.http)?.know(call).map_err(|error| Failure::api("Error enabling", error))?;
    if let Some(known) = &answer {
        show::warnings(known.answer());
    }
    show::out(&format!("Success! Enabled the {kind} secrets engine at: {path}/"));
    Ok(0)
}

fn list(args: &ListArgs, ctx: &Ctx) -> Outcome {
    let format = ctx.format_but_raw(&args.output)?;
    let failed = |error| Failure::api("Error listing secrets engines", error);
    let mounts = ctx.client(&args.http)?.find(Call::get("sys/mounts")).map_err(failed)?.map_or(Value::Null, Known::into_data);
    match format {
        Format::Table | Format::Raw if args.detailed => show::out(&mount::detailed_table(Kind::Secrets, &mounts)),
        Format::Table | Format::Raw => show::out(&mount::short_table(Kind::Secrets, &mounts)),
        _ => show::document(format, &mount::document(&mounts)),
    }
    Ok(0)
}
