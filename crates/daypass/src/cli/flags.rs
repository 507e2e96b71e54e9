//! Vault's way of writing flags, turned into clap's: `-format=json`, `-format json`, `-detailed=false`, anywhere after the verb.
//!
//! clap knows what flags there are, this pass how they are written; its errors are worded as Go's flag package words them.
//! What comes out is free of surprises for clap: long flags with `=`, then `--`, then the arguments.

mod empty;

use clap::{Arg, ArgAction, Command};
use empty::{Empty, empty};

use super::Failure;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Help about the command with this path.
    Help {
        /// Names of the command and its subcommands.
        path: Vec<String>,
        /// `-help` shows everything, `-h` what is particular to the command.
        long: bool,
    },
    /// A command, as clap reads it.
    Run(Vec<String>),
}

/// Reads `arguments`, the first of which is the program.
pub(crate) fn read(root: &Command, arguments: &[String]) -> Result<Asked, Failure> {
    let mut command = root;
    let mut path: Vec<String> = Vec::new();
    let mut flags: Vec<String> = Vec::new();
    let mut plain: Vec<String> = Vec::new();
    let mut rest = arguments.iter().skip(1);
    while let Some(word) = rest.next() {
        if word == "--" {
            plain.extend(rest.by_ref().cloned());
            break;
        }
        if let Some(written) = flag_name(word) {
            match written {
                "h" => return Ok(Asked::Help { path, long: false }),
                "help" => return Ok(Asked::Help { path, long: true }),
                "v" | "version" if path.is_empty() => return Ok(Asked::Run(vec!["version".to_owned()])),
                _ => match flag(command, &path, written, &mut rest)? {
                    Flag::Given(flag) => flags.push(flag),
                    // Of a flag that is given twice the last counts here as well.
                    Flag::Absent(name) => flags.retain(|flag| flag.split('=').next() != Some(&name)),
                },
            }
        } else if command.has_subcommands() {
            if word == "help" && command.find_subcommand("help").is_none() {
                return help_about(root, path, rest);
            }
            let Some(found) = command.find_subcommand(word) else { return Err(unknown_command(root, &path, command, word)) };
            path.push(found.get_name().to_owned());
            command = found;
        } else {
            plain.push(word.clone());
            if runs_another(command) {
                plain.extend(rest.by_ref().cloned());
            }
        }
    }
    if command.has_subcommands() {
        let code = if path.is_empty() { 127 } else { 1 };
        return Err(Failure::say(code, super::help_text(root, &path, false)));
    }
    if !plain.is_empty() && command.get_positionals().next().is_none() {
        return Err(Failure::usage(format!("Too many arguments (expected 0, got {})", plain.len())));
    }
    let mut words = path;
    words.append(&mut flags);
    words.push("--".to_owned());
    words.append(&mut plain);
    Ok(Asked::Run(words))
}

/// Whether its arguments are another program's command line: what stands behind that program's name belongs to it, flags and `--` too.
fn runs_another(command: &Command) -> bool {
    command.get_positionals().any(Arg::is_trailing_var_arg_set)
}

/// The name in `-name`, `--name` and `-name=value`; nothing for arguments, among them `-` and negative numbers.
fn flag_name(word: &str) -> Option<&str> {
    let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    name.starts_with(|c: char| c.is_ascii_alphabetic()).then_some(name)
}

/// A flag as clap wants it.
enum Flag {
    Given(String),
    /// A switch that is switched off, or a flag without a value: clap is not told of it.
    Absent(String),
}

fn flag<'a>(command: &Command, path: &[String], written: &str, rest: &mut impl Iterator<Item = &'a String>) -> Result<Flag, Failure> {
    let (name, given) = match written.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (written, None),
    };
    let known = command.get_arguments().find(|arg| has_name(arg, name));
    let Some(arg) = known else { return Err(unknown_flag(command, name)) };
    let long = arg.get_long().unwrap_or(name);
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        let on = given.map_or(Ok(true), |value| boolean(name, value))?;
        let switch = format!("--{long}");
        return Ok(if on { Flag::Given(switch) } else { Flag::Absent(switch) });
    }
    let optional_value = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
    let value = match given {
        Some(value) => value.to_owned(),
        None if optional_value => return Ok(Flag::Given(format!("--{long}"))),
        None => rest.next().cloned().ok_or_else(|| Failure::usage(format!("flag needs an argument: -{name}")))?,
    };
    match empty(path, arg) {
        Empty::Refused(why) if value.trim().is_empty() => Err(Failure::usage(format!("-{long} is empty, and without it {why}"))
            .hint(format!("is a shell variable in it not set? Leave -{long} out where that is meant"))),
        Empty::Absent if value.is_empty() => Ok(Flag::Absent(format!("--{long}"))),
        _ => Ok(Flag::Given(format!("--{long}={value}"))),
    }
}

fn has_name(arg: &Arg, name: &str) -> bool {
    arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
}

/// A switch's value as Go reads it.
fn boolean(name: &str, value: &str) -> Result<bool, Failure> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Failure::usage(format!("invalid boolean value {value:?} for -{name}: use true or false"))),
    }
}

fn unknown_flag(command: &Command, name: &str) -> Failure {
    let failure = Failure::usage(format!("flag provided but not defined: -{name}"));
    let names: Vec<&str> = command.get_arguments().filter_map(Arg::get_long).collect();
    match nearest(name, &names) {
        Some(near) => failure.hint(format!("did you mean -{near}?")),
        None if command.get_name() == "daypass" || command.get_name() == "vault" => failure.hint("flags come after the verb"),
        None => failure.hint(format!("-help lists the flags of {:?}", command.get_name())),
    }
}

fn unknown_command(root: &Command, path: &[String], command: &Command, word: &str) -> Failure {
    let code = if path.is_empty() { 127 } else { 1 };
    let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
    let hint = match nearest(word, &names) {
        Some(near) => format!("did you mean {near:?}?"),
        None => "an argument that is no command".to_owned(),
    };
    let place = if path.is_empty() { String::new() } else { format!(" of {:?}", path.join(" ")) };
    let text = format!("Unknown command{place}: {word:?}\n\n{}", super::help_text(root, path, false));
    let failure = Failure::say(code, text);
    if hint.starts_with("did") { failure.hint(hint) } else { failure }
}

fn help_about<'a>(root: &Command, path: Vec<String>, rest: impl Iterator<Item = &'a String>) -> Result<Asked, Failure> {
    let mut path = path;
    let mut command = path.iter().fold(root, |at, name| at.find_subcommand(name).unwrap_or(at));
    for word in rest.filter(|word| flag_name(word).is_none()) {
        let Some(found) = command.find_subcommand(word) else { return Err(unknown_command(root, &path, command, word)) };
        path.push(found.get_name().to_owned());
        command = found;
    }
    Ok(Asked::Help { path, long: true })
}

/// The name that `word` was probably meant to be: at most two letters off, and fewer than half of them.
fn nearest<'a>(word: &str, names: &[&'a str]) -> Option<&'a str> {
    let close = |name: &&str| {
        let off = distance(word, name);
        (off <= 2 && off * 2 <= word.chars().count()).then_some(off)
    };
    names.iter().filter_map(|name| close(name).map(|off| (off, *name))).min().map(|(_, name)| name)
}

/// Letters to add, drop or change to turn one word into the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, a) in left.chars().take(64).enumerate() {
        let mut diagonal = line;
        let mut before = line + 1;
        let mut next = vec![before];
        for (b, above) in right.iter().zip(row.iter().skip(1)) {
            before = (diagonal + usize::from(a != *b)).min(before + 1).min(above + 1);
            diagonal = *above;
            next.push(before);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Vec<String>, String> {
        let words: Vec<String> =
            std::iter::once("daypass").chain(line.split(' ').filter(|word| !word.is_empty())).map(str::to_owned).collect();
        match read(&crate::cli::root("daypass"), &words) {
            Ok(Asked::Run(words)) => Ok(words),
            Ok(Asked::Help { path, long }) => Err(format!("help {long} {}", path.join(" "))),
            Err(failure) => Err(failure.text().lines().next().unwrap_or_default().to_owned()),
        }
    }

    fn shown(line: &str) -> String {
        run(line).map_or_else(|error| error, |words| words.join(" "))
    }

    #[test]
    fn flags_may_stand_anywhere_after_the_verb() {
        assert_eq!(shown("read -format=json secret/x"), "read --format=json -- secret/x");
        assert_eq!(shown("read secret/x -format json"), "read --format=json -- secret/x");
        assert_eq!(shown("read --field user secret/x"), "read --field=user -- secret/x");
        assert_eq!(shown("write -f a/b"), "write --force -- a/b");
        assert_eq!(shown("kv get -mount secret app"), "kv get --mount=secret -- app");
    }

    #[test]
    fn a_dash_and_negative_numbers_are_arguments() {
        assert_eq!(shown("write a/b -"), "write -- a/b -");
        assert_eq!(shown("write a/b -5"), "write -- a/b -5");
        assert_eq!(shown("kv metadata put -max-versions -1 a"), "kv metadata put --max-versions=-1 -- a");
        assert_eq!(shown("write a/b -- -format=x"), "write -- a/b -format=x");
    }

    #[test]
    fn what_stands_behind_another_programs_name_belongs_to_that_program() {
        assert_eq!(shown("run -role r make -k -- x -help"), "run --role=r -- make -k -- x -help");
        assert_eq!(shown("run -role=r -- make -bogus -- -h"), "run --role=r -- make -bogus -- -h");
        assert_eq!(shown("run -role=r -ttl 15m -- -odd"), "run --role=r --ttl=15m -- -odd");
        assert_eq!(shown("run -bogus make"), "flag provided but not defined: -bogus");
        assert_eq!(shown("run -h make"), "help false run");
    }

    #[test]
    fn switches_can_be_switched_off() {
        assert_eq!(shown("secrets list -detailed=true"), "secrets list --detailed --");
        assert_eq!(shown("secrets list -detailed=false"), "secrets list --");
        assert_eq!(shown("secrets list -detailed -detailed=false"), "secrets list --");
        assert_eq!(shown("secrets list -detailed=false -detailed"), "secrets list --detailed --");
        assert_eq!(shown("secrets list -detailed=maybe"), "invalid boolean value \"maybe\" for -detailed: use true or false");
    }

    #[test]
    fn mistakes_are_named_as_go_names_them() {
        assert_eq!(shown("read -bogus x"), "flag provided but not defined: -bogus");
        assert_eq!(shown("read -field"), "flag needs an argument: -field");
        assert_eq!(shown("status extra"), "Too many arguments (expected 0, got 1)");
        assert_eq!(shown("raed x"), "Unknown command: \"raed\"");
        assert_eq!(shown("kv metadata gte x"), "Unknown command of \"kv metadata\": \"gte\"");
    }

    #[test]
    fn help_is_found_at_every_depth() {
        assert_eq!(shown("-h"), "help false ");
        assert_eq!(shown("kv put --help"), "help true kv put");
        assert_eq!(shown("help kv metadata put"), "help true kv metadata put");
        assert_eq!(shown("write a/b k=v -h"), "help false write");
        assert_eq!(shown("-version"), "version");
    }

    #[test]
    fn near_misses_are_guessed() {
        assert_eq!(nearest("stauts", &["status", "secrets"]), Some("status"));
        assert_eq!(nearest("formta", &["format", "field"]), Some("format"));
        assert_eq!(nearest("xyzzy", &["status"]), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
