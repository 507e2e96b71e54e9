//! `print token`: the token that commands would send.

use super::Outcome;
use super::settings::Ctx;
use crate::show;

/// Print values that are in use
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Print the token that commands send, from VAULT_TOKEN or ~/.vault-token
    #[command(after_help = "Examples:

  $ daypass print token")]
    Token,
}

/// Prints.
pub(super) fn run(verb: &Verb, ctx: &Ctx) -> Outcome {
    match verb {
        Verb::Token => {
            let token = ctx.token()?;
            // To stdout, because that is what was asked for.
            show::out(token.as_ref().map_or("", |token| token.expose()));
            Ok(0)
        }
    }
}
