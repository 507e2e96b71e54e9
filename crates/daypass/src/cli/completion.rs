//! `completion`: scripts that teach a shell the verbs and flags.

use super::root;
use super::settings::Ctx;
use crate::show;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ source <(daypass completion bash)
  $ daypass completion zsh > \"${fpath[1]}/_daypass\"
  $ daypass completion fish > ~/.config/fish/completions/daypass.fish")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Prints the script.
pub(super) fn run(args: Args, ctx: &Ctx) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut root(ctx.program), ctx.program, &mut script);
    show::out(String::from_utf8_lossy(&script).trim_end());
    0
}
