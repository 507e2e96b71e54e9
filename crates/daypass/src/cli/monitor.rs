//! `monitor`: the server's log, as it is written.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use http::Method;

use super::settings::{Ctx, Http};
use super::{Failure, Outcome};
use crate::client::{Call, Followed};
use crate::show;

/// Follow the log of a server until Ctrl-C
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("log_level", |arg| arg.hide(false).help("trace, debug, info, warn or error: that and what is graver, whatever the server itself writes down [default: info]")),
    after_help = "Examples:

  $ daypass monitor
  $ daypass monitor -log-level=debug
  $ daypass monitor -log-format=json

It needs \"read\" on sys/monitor."
)]
pub(crate) struct Args {
    /// standard or json
    #[arg(long, value_name = "FORMAT", default_value = "standard")]
    log_format: String,
    #[command(flatten)]
    http: Http,
}

/// Follows and shows.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let level = args.http.log_level.as_deref().unwrap_or("info").to_ascii_lowercase();
    if !["trace", "debug", "info", "warn", "error"].contains(&level.as_str()) {
        let text = format!("{level} is an unknown log level. Valid log levels are: [trace debug info warn error]");
        return Err(Failure::usage(text));
    }
    if !["standard", "json"].contains(&args.log_format.as_str()) {
        return Err(Failure::usage(format!("{} is an unknown log format. Valid log formats are: [standard json]", args.log_format)));
    }
    let client = ctx.client(&args.http)?;
    let call = Call::new(Method::GET, "sys/monitor").query("log_format", &args.log_format).query("log_level", &level);
    let mut stdout = std::io::stdout();
    let watched = stdout.is_terminal();
    let ended = client.follow(&call.unwrapped(), Duration::ZERO, async |piece: &[u8]| {
        let written = stdout.write_all(piece).and_then(|()| stdout.flush());
        let goes_on = written.is_ok();
        show::wrote(written);
        goes_on
    });
    let ended = ended.map_err(|error| Failure::api("Error starting monitor", error))?;
    if watched && ended == Followed::ToItsEnd {
        show::note("The log has ended here: the server was sealed or stopped, or the token has ended.");
    }
    Ok(0)
}
