//! `operator revocation`: whether a server takes back what has ended. A restore pauses that.

use http::Method;

use super::super::settings::{Ctx, Http, Output};
use super::super::{Failure, Outcome};
use crate::client::Call;
use crate::show;
use crate::show::value::Value;

/// See, pause or resume the revocation of what has ended
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    Status(StatusArgs),
    Pause(ChangeArgs),
    Resume(ResumeArgs),
}

/// Tell whether revocation is paused, since when and why
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass operator revocation status")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Stop taking back what has ended: it is refused, but nothing is removed at AWS
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass operator revocation pause")]
pub(crate) struct ChangeArgs {
    #[command(flatten)]
    http: Http,
}

/// Take back again what has ended, with all that has waited
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass operator revocation resume

After a restore, do this only where no other server works with the same leases: users
and keys at AWS that the restored state calls overdue are deleted at once.")]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    http: Http,
}

/// Runs one of the verbs.
pub(super) fn run(verb: &Verb, ctx: &Ctx) -> Outcome {
    match verb {
        Verb::Status(args) => {
            let format = ctx.format_but_raw(&args.output)?;
            let asked = ctx.client(&args.http)?.body(Call::new(Method::GET, PATH));
            let answer = asked.map_err(|error| Failure::api("Error reading whether revocation is paused", error))?;
            show::data(format, answer.get("data").unwrap_or(&Value::Null));
            Ok(0)
        }
        Verb::Pause(args) => set(&args.http, ctx, true, "Success! Revocation is paused."),
        Verb::Resume(args) => set(&args.http, ctx, false, "Success! Revocation goes on."),
    }
}

fn set(http: &Http, ctx: &Ctx, paused: bool, done: &str) -> Outcome {
    let call = Call::new(Method::PUT, PATH).body(Value::map([("paused", Value::Bool(paused))]));
    ctx.client(http)?.call(&call).map_err(|error| Failure::api("Error setting whether revocation is paused", error))?;
    show::out(done);
    Ok(0)
}

const PATH: &str = "sys/storage/revocation";
