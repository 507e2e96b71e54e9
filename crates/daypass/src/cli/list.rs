//! `list`: the keys under a path.

use std::collections::BTreeSet;

use super::settings::{Ctx, Http, Output};
use super::{Failure, Outcome, clean_path, exactly};
use crate::client::answer::Answer;
use crate::show::value::Value;
use crate::show::{self, Format, table};

/// List the keys under a path
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass list aws/roles
  $ daypass list -format=json auth/token/accessors

A key that ends in a slash has more keys under it.")]
pub(crate) struct Args {
    /// The path
    #[arg(value_name = "PATH")]
    arguments: Vec<String>,
    /// Show what the server tells about each key
    #[arg(long)]
    detailed: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Lists.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let [path] = exactly(&args.arguments)?;
    let format = ctx.format_but_raw(&args.output)?;
    let path = clean_path(path);
    let answer = ctx.client(&args.http)?.list(path).map_err(|error| Failure::api(&format!("Error listing {path}"), error))?;
    if let Some(text) = answer.as_ref().filter(|_| args.detailed && format == Format::Table).and_then(detailed) {
        show::out(&text);
        return Ok(0);
    }
    show_keys(answer, path, format)
}

/// The keys of a listing, or that there are none.
pub(super) fn show_keys(answer: Option<Answer>, path: &str, format: Format) -> Outcome {
    let Some(answer) = answer else {
        // A program that reads the output gets something to parse; the exit code tells it the rest.
        if format == Format::Table {
            return Err(Failure::no_value(path));
        }
        show::document(format, &Value::Map(Vec::new()));
        return Ok(2);
    };
    if !answer.wrap_info.is_null() {
        show::answer(format, &answer);
        return Ok(0);
    }
    if format == Format::Table {
        show::warnings(&answer);
    }
    let keys = answer.data().and_then(|data| data.get("keys")).filter(|keys| !keys.items().is_empty());
    show::data(format, keys.ok_or_else(|| Failure::server(format!("No entries found at {path}")))?);
    Ok(0)
}

fn detailed(answer: &Answer) -> Option<String> {
    let data = answer.data()?;
    let info = data.get("key_info").filter(|info| !info.entries().is_empty())?;
    let columns: BTreeSet<&str> = info.entries().iter().flat_map(|(_, about)| about.entries()).map(|(name, _)| name.as_str()).collect();
    let headings: Vec<&str> = std::iter::once("Keys").chain(columns.iter().copied()).collect();
    let row = |key: &str| {
        let cells = columns.iter().map(|column| info.at(&[key, column]).map(Value::go).unwrap_or_default());
        std::iter::once(key.to_owned()).chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = data.texts_at("keys").into_iter().map(row).collect();
    Some(table::table(&headings, &rows))
}
