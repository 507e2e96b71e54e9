//! `path-help`: what a path is for.

use http::Method;

use super::settings::{Ctx, Http, Output};
use super::{Failure, Outcome, clean_path, exactly};
use crate::client::Call;
use crate::show::value::Value;
use crate::show::{self, Format};

/// Tell what a path is for, and which fields it takes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass path-help aws
  $ daypass path-help aws/roles/ops

With -format=json the answer is an OpenAPI document.")]
pub(crate) struct Args {
    /// The path
    #[arg(value_name = "PATH")]
    arguments: Vec<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Asks and shows.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let [path] = exactly(&args.arguments)?;
    let format = ctx.format_but_raw(&args.output)?;
    let client = ctx.client(&args.http)?;
    let call = Call::new(Method::GET, clean_path(path)).query("help", "1");
    let failed = |error| Failure::api("Error retrieving help", error);
    let help = client.body(call).map_err(failed)?;
    match format {
        Format::Table | Format::Raw => show::out(help.text_at("help")),
        Format::Json => show::out(&help.get("openapi").unwrap_or(&Value::Null).compact()),
        Format::Yaml => show::document(format, help.get("openapi").unwrap_or(&Value::Null)),
    }
    Ok(0)
}
