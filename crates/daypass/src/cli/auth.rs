//! `auth`: mount, list, tune, move and unmount auth methods; set one up for a build server.

mod presets;
mod setup;

use http::Method;

use super::login;
use super::mount::{self, Kind, Making, Settings};
use super::secrets::{remount, tune};
use super::settings::{Ctx, Http, Output, go_duration};
use super::{Failure, Outcome, clean_path, exactly, mount_path};
use crate::client::Call;
use crate::client::answer::Known;
use crate::show::value::Value;
use crate::show::{self, Format};

/// Mount, list, tune, move, unmount and set up auth methods
#[derive(Debug, clap::Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum Verb {
    Enable(Box<EnableArgs>),
    Disable(DisableArgs),
    List(ListArgs),
    Move(MoveArgs),
    Setup(Box<setup::SetupArgs>),
    Tune(Box<TuneArgs>),
    Help(HelpArgs),
}

/// Mount an auth method
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass auth enable approle
  $ daypass auth enable -path=jenkins -description=\"the build farm\" approle")]
pub(crate) struct EnableArgs {
    /// The type of method
    #[arg(value_name = "TYPE")]
    arguments: Vec<String>,
    #[command(flatten)]
    making: Making,
    #[command(flatten)]
    settings: Settings,
    /// service, batch, default-service or default-batch
    #[arg(long, value_name = "TYPE")]
    token_type: Option<String>,
    #[command(flatten)]
    http: Http,
}

/// Unmount an auth method and revoke every token that it gave
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass auth disable approle/")]
pub(crate) struct DisableArgs {
    /// Where it is mounted
    #[arg(value_name = "PATH")]
    arguments: Vec<String>,
    #[command(flatten)]
    http: Http,
}

/// List the auth methods
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass auth list -detailed")]
pub(crate) struct ListArgs {
    /// Show every setting
    #[arg(long)]
    detailed: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Move an auth method; the tokens that it gave are revoked
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass auth move approle/ jenkins/")]
pub(crate) struct MoveArgs {
    /// From where to where
    #[arg(value_name = "SOURCE DESTINATION")]
    arguments: Vec<String>,
    #[command(flatten)]
    http: Http,
}

/// Change the settings of an auth method
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass auth tune -default-lease-ttl=1h -user-lockout-threshold=10 approle/")]
pub(crate) struct TuneArgs {
    /// Where it is mounted
    #[arg(value_name = "PATH")]
    arguments: Vec<String>,
    #[command(flatten)]
    settings: Settings,
    /// service, batch, default-service or default-batch
    #[arg(long, value_name = "TYPE")]
    token_type: Option<String>,
    /// Failed logins until a user is locked out
    #[arg(long, value_name = "COUNT", hide_short_help = true)]
    user_lockout_threshold: Option<u64>,
    /// How long a user stays locked out
    #[arg(long, value_name = "TTL", hide_short_help = true)]
    user_lockout_duration: Option<String>,
    /// How long failed logins count
    #[arg(long, value_name = "TTL", hide_short_help = true)]
    user_lockout_counter_reset_duration: Option<String>,
    /// Never lock users out
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_short_help = true)]
    user_lockout_disable: Option<bool>,
    #[command(flatten)]
    http: Http,
}

/// Tell how to log in with an auth method
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass auth help userpass
  $ daypass auth help jenkins/")]
pub(crate) struct HelpArgs {
    /// A type of method, or the path of one that is mounted
    #[arg(value_name = "TYPE | PATH")]
    arguments: Vec<String>,
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
            let call = Call::new(Method::DELETE, format!("sys/auth/{}", clean_path(&path)));
            ctx.client(&args.http)?.call(&call).map_err(|error| Failure::api(&format!("Error disabling auth method at {path}"), error))?;
            show::out(&format!("Success! Disabled the auth method (if it existed) at: {path}"));
            Ok(0)
        }
        Verb::List(args) => list(args, ctx),
        Verb::Move(args) => {
            let [from, to] = exactly(&args.arguments)?;
            remount(&ctx.client(&args.http)?, "auth method", ("auth/", &mount_path(from)), ("auth/", &mount_path(to)))
        }
        Verb::Setup(args) => setup::run(args, ctx),
        Verb::Tune(args) => tune_method(args, ctx),
        Verb::Help(args) => help(args, ctx),
    }
}

fn enable(args: &EnableArgs, ctx: &Ctx) -> Outcome {
    let [kind] = exactly(&args.arguments)?;
    let mut config = args.settings.config()?;
    if let Some(kind) = &args.token_type {
        config.set("token_type", Value::text(kind.clone()));
    }
    let (path, body) = args.making.body(kind, config, &args.settings)?;
    let call = Call::new(Method::POST, format!("sys/auth/{path}")).body(body);
    let answer = ctx.client(&args.http)?.know(call).map_err(|error| Failure::api(&format!("Error enabling {kind} auth"), error))?;
    if let Some(known) = &answer {
        show::warnings(known.answer());
    }
    show::out(&format!("Success! Enabled {kind} auth method at: {path}/"));
    Ok(0)
}

fn list(args: &ListArgs, ctx: &Ctx) -> Outcome {
    let format = ctx.format_but_raw(&args.output)?;
    let failed = |error| Failure::api("Error listing enabled authentications", error);
    let mounts = ctx.client(&args.http)?.find(Call::get("sys/auth")).map_err(failed)?.map_or(Value::Null, Known::into_data);
    match format {
        Format::Table | Format::Raw if args.detailed => show::out(&mount::detailed_table(Kind::Auth, &mounts)),
        Format::Table | Format::Raw => show::out(&mount::short_table(Kind::Auth, &mounts)),
        _ => show::document(format, &mount::document(&mounts)),
    }
    Ok(0)
}

fn tune_method(args: &TuneArgs, ctx: &Ctx) -> Outcome {
    let [path] = exactly(&args.arguments)?;
    let path = mount_path(path);
    let mut body = args.settings.tuning()?;
    if let Some(kind) = &args.token_type {
        body.set("token_type", Value::text(kind.clone()));
    }
    let mut lockout = Value::Map(Vec::new());
    if let Some(count) = args.user_lockout_threshold {
        lockout.set("lockout_threshold", Value::text(count.to_string()));
    }
    for (key, flag, value) in [
        ("lockout_duration", "user-lockout-duration", &args.user_lockout_duration),
        ("lockout_counter_reset_duration", "user-lockout-counter-reset-duration", &args.user_lockout_counter_reset_duration),
    ] {
        if let Some(value) = value {
            lockout.set(key, Value::text(go_duration(flag, value)?));
        }
    }
    if let Some(off) = args.user_lockout_disable {
        lockout.set("lockout_disable", Value::Bool(off));
    }
    if !lockout.entries().is_empty() {
        body.set("user_lockout_config", lockout);
    }
    // Under sys/mounts: the same as sys/auth/…/tune, without the need for sudo.
    tune(&ctx.client(&args.http)?, &format!("auth/{path}"), body)
        .map_err(|error| Failure::api(&format!("Error tuning auth method {path}"), error))?;
    show::out(&format!("Success! Tuned the auth method at: {path}"));
    Ok(0)
}

fn help(args: &HelpArgs, ctx: &Ctx) -> Outcome {
    let [named] = exactly(&args.arguments)?;
    if let Some(text) = login::method_help(named, ctx.program) {
        show::out(&text);
        return Ok(0);
    }
    let path = mount_path(named);
    let failed = |error| Failure::api("Error listing auth methods", error);
    let mounts = ctx.client(&args.http)?.find(Call::get("sys/auth")).map_err(failed)?.map_or(Value::Null, Known::into_data);
    let Some(mount) = mounts.get(&path) else {
        return Err(Failure::server(format!("Error retrieving help: unknown auth method {named:?}"))
            .hint(format!("\"{} auth list\" names the methods that are enabled", ctx.program)));
    };
    let kind = mount.text_at("type");
    let text = login::method_help(kind, ctx.program).unwrap_or_else(|| login::generic_help(kind, &path, ctx.program));
    show::out(&text);
    Ok(0)
}
