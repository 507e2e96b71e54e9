//! `whois`: which caller got an AWS access key.

use super::settings::{Ctx, Http, Output};
use super::{Failure, Outcome, exactly};
use crate::client::Call;
use crate::show::value::Value;
use crate::show::{self, Format};

/// Say which caller got an AWS access key
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass whois ASIAIOSFODNN7EXAMPLE
  $ daypass whois -format=json ASIAIOSFODNN7EXAMPLE

CloudTrail shows the access key id of every call. Keys are remembered while
they are good and for ninety days after that.")]
pub(crate) struct Args {
    /// The access key id
    #[arg(value_name = "ACCESS_KEY_ID")]
    arguments: Vec<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Asks and shows.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let [key] = exactly::<1>(&args.arguments)?;
    let format = ctx.format_but_raw(&args.output)?;
    if !key.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(Failure::usage(format!("{key:?} is no access key id: it is letters and digits, such as ASIAIOSFODNN7EXAMPLE")));
    }
    let client = ctx.client(&args.http)?;
    let answer = client.find(Call::get(format!("sys/mints/{key}"))).map_err(|error| Failure::api("Error looking the key up", error))?;
    let answer = answer.ok_or_else(|| {
        Failure::server(format!("Nobody got {key} from this server, or it is longer ago than the ledger remembers"))
            .hint("the audit log has every mint: search it for the access key id")
    })?;
    match format {
        Format::Table => {
            show::warnings(answer.answer());
            show::data(format, &flat(answer.data()));
        }
        _ => show::answer(format, answer.answer()),
    }
    Ok(0)
}

/// What a person reads: claims and facts as rows of their own, and how often it was handed out instead of each time.
fn flat(data: &Value) -> Value {
    let mut rows = Vec::new();
    for (key, value) in data.entries() {
        match (key.as_str(), value) {
            // Of many not all are in the answer. Older servers do not say how many there are.
            ("uses", uses) => {
                let total = data.get("uses_total").map_or_else(|| uses.items().len().to_string(), Value::compact);
                rows.push(("handed_out".to_owned(), Value::text(format!("{total} time(s)"))));
            }
            ("uses_total", _) => {}
            ("facts", Value::Map(facts)) => rows.extend(facts.iter().filter(|(name, _)| name != "access_key_id").cloned()),
            ("claims" | "metadata", Value::Map(pairs)) => {
                rows.extend(pairs.iter().map(|(name, value)| (format!("{key}.{name}"), value.clone())));
            }
            _ => rows.push((key.clone(), value.clone())),
        }
    }
    Value::map(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Story: the entries of the answer were counted, which were a hundred at most.
    #[test]
    fn how_often_a_key_was_handed_out_is_what_the_server_counted() {
        let told = |answer: &str| flat(&Value::parse(answer).unwrap()).text_at("handed_out").to_owned();
        assert_eq!(told(r#"{"uses": [{}, {}], "uses_total": 1500}"#), "1500 time(s)");
        assert_eq!(told(r#"{"uses": [{}, {}]}"#), "2 time(s)");
    }
}
