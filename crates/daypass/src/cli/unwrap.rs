//! `unwrap`: fetch a wrapped answer, once.

use daypass_base::Secret;
use http::Method;

use super::settings::{Ctx, Field, Http, Output};
use super::{Failure, Outcome, at_most_one, data, read};
use crate::client::answer::Answer;
use crate::client::{Call, Client, Error};
use crate::show::Supply;
use crate::show::value::Value;

/// Fetch a wrapped answer, once
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass unwrap hvs.CAES...
  $ echo $WRAPPING_TOKEN | daypass unwrap -
  $ VAULT_TOKEN=$WRAPPING_TOKEN daypass unwrap -field=token

Without a token of its own, the token in use is taken for the wrapping token.")]
pub(crate) struct Args {
    /// The wrapping token, or - to read it from stdin
    #[arg(value_name = "TOKEN")]
    arguments: Vec<String>,
    #[command(flatten)]
    field: Field,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Unwraps and shows.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let token = at_most_one(&args.arguments)?.map(token_argument).transpose()?;
    let format = ctx.format_but_raw(&args.output)?;
    let client = ctx.client(&args.http)?;
    let answer = unwrap(&client, token).map_err(|error| Failure::api("Error unwrapping", error))?;
    let answer = answer.ok_or_else(|| Failure::server("Could not find wrapped response"))?;
    // Whatever it is: the token that it came for is used up.
    read::show_answer_of(Supply::Once, &answer, &args.field, format)
}

/// Fetches what `token` wraps; without one, what the client's own token wraps.
pub(super) fn unwrap(client: &Client, token: Option<Secret<String>>) -> Result<Option<Answer>, Error> {
    match token {
        Some(token) if client.config().token.is_none() => unwrap_own(client, token),
        // To the server, as the one thing to unwrap.
        Some(token) => client.fetch(&call().body(Value::map([("token", Value::text(token.expose()))]))),
        None => client.fetch(&call()),
    }
}

/// Fetches what `token` wraps, whatever token the client has and whether or not that one is of any use.
pub(super) fn unwrap_own(client: &Client, token: Secret<String>) -> Result<Option<Answer>, Error> {
    client.fetch(&call().token(token))
}

fn call() -> Call {
    Call::new(Method::PUT, "sys/wrapping/unwrap").unwrapped()
}

/// A token given as an argument, or on stdin so that it stays out of the process list.
pub(super) fn token_argument(argument: &str) -> Result<Secret<String>, Failure> {
    if argument != "-" {
        return Ok(Secret::new(argument.trim().to_owned()));
    }
    let text = data::text_of("-", &mut std::io::stdin()).map_err(Failure::usage)?;
    Ok(Secret::new(text.trim().to_owned()))
}
