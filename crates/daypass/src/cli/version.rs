//! `version` and `version-history`.

use super::settings::{Ctx, Http, Output};
use super::{Failure, Outcome};
use crate::client::Call;
use crate::show::{self, Format, table};

/// The version of Vault that clients are told, because they decide by it what they may ask for.
pub(crate) const VAULT_VERSION: &str = "1.21.4";

/// Tell the version of this program
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass version")]
pub(crate) struct Args {}

/// List the versions that the server has run
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass version-history")]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Prints the version: for `vault` in the form that scripts take apart.
pub(super) fn run(ctx: &Ctx) -> u8 {
    let own = env!("CARGO_PKG_VERSION");
    show::out(&if ctx.program == "vault" {
        format!("Vault v{VAULT_VERSION}+daypass.{own}")
    } else {
        format!("daypass v{own} (speaks Vault {VAULT_VERSION})")
    });
    0
}

/// Lists the server's versions.
pub(super) fn history(args: &HistoryArgs, ctx: &Ctx) -> Outcome {
    let format = ctx.format_but_raw(&args.output)?;
    let failed = |error| Failure::api("Error reading version history", error);
    let answer = ctx.client(&args.http)?.find(Call::get("sys/version-history").query("list", "true")).map_err(failed)?;
    let answer = answer.ok_or_else(|| Failure::server("Invalid response returned from Vault"))?;
    if format != Format::Table {
        show::document(format, &answer.answer().to_value());
        return Ok(0);
    }
    show::note(
        "\nNote:\nUse of this command requires a server running Vault 1.10.0 or greater.\nVersion tracking was added in 1.9.0. Earlier versions have not been tracked.\n\n",
    );
    let heading = ["Version", "Installation Time", "Build Date"];
    let mut rows = vec![heading.map(str::to_owned).to_vec(), heading.map(|text| "-".repeat(text.len())).to_vec()];
    for key in answer.data().texts_at("keys") {
        let about = |name: &str| answer.data().at(&["key_info", key, name]).map(crate::show::value::Value::go).unwrap_or_default();
        rows.push(vec![key.to_owned(), about("timestamp_installed"), about("build_date")]);
    }
    show::out(&table::columns(&rows, "  "));
    Ok(0)
}
