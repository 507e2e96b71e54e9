//! `read`: GET a path.

use http::Method;

use super::settings::{Ctx, Field, Http, Output};
use super::{Failure, Outcome, clean_path, data, not_empty};
use crate::client::Call;
use crate::client::answer::Answer;
use crate::show::value::Value;
use crate::show::{self, Format, Supply};

/// Read a secret, mint a credential, or look at a configuration
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass read cdp/aws/staging/sts/ecr-staging ttl=60m
  $ daypass read -field=access_key aws/creds/deploy
  $ daypass read -format=json secret/data/app

K=V pairs become query parameters.")]
pub(crate) struct Args {
    /// The path, then query parameters
    #[arg(value_name = "PATH [K=V]")]
    arguments: Vec<String>,
    #[command(flatten)]
    field: Field,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Reads and shows.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let Some((path, pairs)) = args.arguments.split_first() else {
        return Err(Failure::usage("Not enough arguments (expected 1, got 0)"));
    };
    not_empty(path)?;
    let format = ctx.format(&args.output)?;
    let path = clean_path(path);
    let query = query(pairs)?;
    let client = ctx.client(&args.http)?;
    let context = format!("Error reading {path}");
    if format == Format::Raw && args.field.field.is_none() {
        let call = query.iter().fold(Call::new(Method::GET, path), |call, (key, value)| call.query(key, value));
        let reply = client.call(&call).map_err(|error| Failure::api(&context, error))?;
        let text = reply.text();
        let supply = Answer::parse(&text).map_or(Supply::Lasting, |answer| Supply::of(&answer));
        show::out_of(&text, supply);
        return Ok(0);
    }
    let answer = client.read(path, &query).map_err(|error| Failure::api(&context, error))?;
    show_answer(&answer.ok_or_else(|| Failure::no_value(path))?, &args.field, format)
}

/// An answer, or the one field of it that was asked for.
pub(super) fn show_answer(answer: &Answer, field: &Field, format: Format) -> Outcome {
    show_answer_of(Supply::of(answer), answer, field, format)
}

/// [`show_answer`], where it is known from elsewhere whether there is another.
pub(super) fn show_answer_of(supply: Supply, answer: &Answer, field: &Field, format: Format) -> Outcome {
    match &field.field {
        Some(name) => {
            let value = answer.field(name).ok_or_else(|| Failure::usage(format!("Field {name:?} not present in secret")))?;
            show::field(format, &value, supply);
        }
        None => show::answer_of(supply, format, answer),
    }
    Ok(0)
}

/// K=V arguments as query parameters; a key given twice stays twice.
pub(super) fn query(pairs: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let map = data::parse(pairs, &mut std::io::stdin()).map_err(|why| Failure::usage(format!("Failed to parse K=V data: {why}")))?;
    let mut query = Vec::new();
    for (key, value) in map.entries() {
        match value {
            Value::List(items) => query.extend(items.iter().map(|item| (key.clone(), item.go()))),
            value => query.push((key.clone(), value.go())),
        }
    }
    Ok(query)
}
