//! `operator rotate`, `operator key-status`: the key that values are encrypted with.

use http::Method;

use super::super::Outcome;
use super::super::settings::{Ctx, Http, Output};
use super::share::{self, table_or_document};
use crate::client::Client;
use crate::show::value::Value;
use crate::show::{self, Format};

/// Start a new encryption key; what is stored under the old ones stays readable
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass operator rotate")]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Show the encryption key in use: its number, its age and how often it was used
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass operator key-status
  $ daypass operator key-status -format=json")]
pub(crate) struct KeyStatusArgs {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

pub(super) fn rotate(args: &RotateArgs, ctx: &Ctx) -> Outcome {
    let format = ctx.format_but_raw(&args.output)?;
    let client = ctx.client(&args.http)?;
    let call = crate::client::Call::new(Method::PUT, "sys/rotate");
    client.call(&call).map_err(|error| super::Failure::api("Error rotating key", error))?;
    if matches!(format, Format::Table) {
        show::out("Success! Rotated key\n");
    }
    show_status(&client, format)
}

pub(super) fn status(args: &KeyStatusArgs, ctx: &Ctx) -> Outcome {
    let format = ctx.format_but_raw(&args.output)?;
    show_status(&ctx.client(&args.http)?, format)
}

fn show_status(client: &Client, format: Format) -> Outcome {
    let answer = share::call(client, Method::GET, "sys/key-status", None, "Error reading key status")?;
    let status = answer.get("data").filter(|data| !data.is_null()).unwrap_or(&answer);
    let part = |key: &str| status.get(key).cloned().unwrap_or(Value::Null);
    let rows = [
        ("Key Term", part("term").go()),
        ("Install Time", short_time(status.text_at("install_time"))),
        ("Encryption Count", part("encryptions").go()),
    ];
    let whole = Value::map(["term", "install_time", "encryptions"].map(|key| (key, part(key))));
    table_or_document(format, &rows, &whole, None);
    Ok(0)
}

/// `2026-11-28T18:04:49.15Z` as Vault's command line writes it: `28 Nov 26 18:04 UTC`. Another form stays as it is.
fn short_time(text: &str) -> String {
    let short = || {
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        let mut parts = date.splitn(3, '-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        let month = MONTHS.get(month.parse::<usize>().ok()?.checked_sub(1)?)?;
        Some(format!("{day} {month} {} {} UTC", year.get(2..4)?, time.get(..5)?))
    };
    short().unwrap_or_else(|| text.to_owned())
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_odd_ones_stay() {
        assert_eq!(short_time("2026-11-28T18:04:49.152Z"), "28 Nov 26 18:04 UTC");
        for odd in ["", "2026-13-28T18:04:49Z", "2026-00-28T18:04:49Z", "2026-11-28T18:04:49+01:00", "2026T1Z"] {
            assert_eq!(short_time(odd), odd);
        }
    }
}
