//! `completion`: scripts that teach a shell the verbs and flags, which are written with one dash as everywhere here.
//!
//! clap's generator knows long flags with two dashes only, so its scripts are changed afterwards.

use clap_complete::Shell;

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
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(args: Args, ctx: &Ctx) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut root(ctx.program), ctx.program, &mut script);
    show::out(one_dash(args.shell, &String::from_utf8_lossy(&script)).trim_end());
    0
}

fn one_dash(shell: Shell, script: &str) -> String {
    match shell {
        Shell::Fish => script.lines().map(|line| fish(line) + "\n").collect(),
        // Without `-s`, by which a dash starts a bundle of single letters.
        Shell::Zsh => single(&script.replace("_arguments_options=(-s ", "_arguments_options=(")),
        _ => single(script),
    }
}

/// To fish, `-l` is a long flag, `-o` one of the old style (one dash and a word), `-s` one of a single letter.
fn fish(line: &str) -> String {
    let (flags, about) = line.split_at(line.find(" -d '").unwrap_or(line.len()));
    let mut parts = flags.split(" -l ");
    let first = parts.next().unwrap_or_default().to_owned();
    if !first.starts_with("complete ") {
        return line.to_owned();
    }
    let kind = |name: &str| if name.split(' ').next().is_some_and(|name| name.len() == 1) { "-s" } else { "-o" };
    parts.fold(first, |whole, name| format!("{whole} {} {name}", kind(name))) + about
}

/// Two dashes before a letter become one; those that stand alone end the options of a command.
fn single(script: &str) -> String {
    let mut parts = script.split("--");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        whole.push_str(if part.starts_with(|c: char| c.is_ascii_lowercase()) { "-" } else { "--" });
        whole.push_str(part);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Story: the scripts offered `--format` alone. After `-f` nothing was offered, though that is how the help and every example write it.
    #[test]
    fn flags_are_offered_with_one_dash() {
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut root("daypass"), "daypass", &mut script);
            let script = one_dash(shell, &String::from_utf8(script).unwrap());
            let flag = if shell == Shell::Fish { " -o format " } else { "-format" };
            assert!(script.contains(flag) && !script.contains("--format"), "{shell}");
        }
    }

    #[test]
    fn fish_tells_words_from_letters() {
        let line = "complete -c daypass -n \"x\" -o force -l force -l f -d 'Write -l without'";
        assert_eq!(fish(line), "complete -c daypass -n \"x\" -o force -o force -s f -d 'Write -l without'");
        assert_eq!(fish("    set -l cmd (commandline -opc)"), "    set -l cmd (commandline -opc)");
    }

    #[test]
    fn dashes_that_stand_alone_stay() {
        assert_eq!(single("--format) compgen -W \"--a -h\" -- \"${cur}\" ----"), "-format) compgen -W \"-a -h\" -- \"${cur}\" ----");
    }
}
