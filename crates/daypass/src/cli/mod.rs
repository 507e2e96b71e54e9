//! What a person types: one file per verb, each a struct of flags and a `run`.
//!
//! [`flags`] reads Vault's way of writing flags, [`settings`] joins flags, environment and files, [`data`] reads `key=value`.
//! Exit codes are Vault's: 0 done, 1 used wrongly, 2 refused by the server or nothing found.

mod audit;
mod auth;
mod aws;
mod completion;
mod data;
mod delete;
mod docker_credential;
mod flags;
mod kv;
mod lease;
mod list;
mod login;
mod loopback;
mod monitor;
mod mount;
mod operator;
mod patch;
mod path_help;
mod policy;
mod print;
mod prompt;
mod read;
mod run;
mod sandbox;
mod secrets;
pub(crate) mod server;
mod settings;
mod status;
mod token;
pub(crate) mod token_file;
pub(crate) mod token_place;
mod unwrap;
mod version;
mod whois;
mod write;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::client;
use crate::show;
use settings::Ctx;

/// Daypass hands out AWS credentials that are gone by tonight, over HashiCorp Vault's HTTP API. This is its server and its command line.
#[derive(Debug, Parser)]
#[command(name = "daypass", disable_version_flag = true, arg_required_else_help = false)]
#[command(after_help = "Examples:

  $ daypass server -dev
  $ export VAULT_ADDR=http://127.0.0.1:8200
  $ daypass status
  $ daypass kv put secret/app user=bob
  $ daypass write cdp/aws/staging/sts/ecr-staging ttl=60m
  $ daypass run -role=deploy -- terraform apply

Flags are written as Vault's are: -format=json, before or after the arguments.
VAULT_ADDR, VAULT_TOKEN and their like are read, and so are DAYPASS_ADDR,
DAYPASS_TOKEN, ..., which win. \"daypass VERB -help\" tells more.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Read(read::Args),
    Write(write::Args),
    Patch(patch::Args),
    Delete(delete::Args),
    List(list::Args),
    Login(login::Args),
    Monitor(monitor::Args),
    Run(run::Args),
    Status(status::Args),
    Unwrap(unwrap::Args),
    Whois(whois::Args),
    #[command(subcommand)]
    Aws(aws::Verb),
    #[command(subcommand)]
    Kv(kv::Verb),
    #[command(subcommand)]
    Secrets(secrets::Verb),
    #[command(subcommand)]
    Auth(auth::Verb),
    #[command(subcommand)]
    Policy(policy::Verb),
    #[command(subcommand)]
    Token(token::Verb),
    #[command(subcommand)]
    Lease(lease::Verb),
    #[command(subcommand)]
    Audit(audit::Verb),
    #[command(subcommand)]
    Operator(operator::Verb),
    #[command(subcommand)]
    DockerCredential(docker_credential::Verb),
    PathHelp(path_help::Args),
    #[command(subcommand)]
    Print(print::Verb),
    Server(Box<server::ServerArgs>),
    Sandbox(sandbox::Args),
    Completion(completion::Args),
    Version(version::Args),
    VersionHistory(version::HistoryArgs),
}

/// The exit code of a verb that did what it could, or why it could not.
pub(crate) type Outcome = Result<u8, Failure>;

/// Why a verb ends early. Shown on stderr, but for a request that was to be shown: that is data.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
    hint: Option<String>,
    instead: bool,
}

impl Failure {
    /// Ends with this exit code and text.
    pub(crate) fn say(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), hint: None, instead: false }
    }

    /// Used wrongly: exit code 1.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::say(1, text)
    }

    /// Refused or not found: exit code 2.
    pub(crate) fn server(text: impl Into<String>) -> Self {
        Self::say(2, text)
    }

    /// A request that failed, with what was being done: `context: error`, or the error alone when there is no context.
    pub(crate) fn api(context: &str, error: client::Error) -> Self {
        let hint = error.hint();
        let text = if context.is_empty() { error.to_string() } else { format!("{context}: {error}") };
        match error {
            client::Error::Instead(text) => Self { code: 0, text, hint: None, instead: true },
            _ => Self { code: 2, text, hint, instead: false },
        }
    }

    /// Nothing at this path.
    pub(crate) fn no_value(path: &str) -> Self {
        Self::server(format!("No value found at {path}"))
    }

    /// With one line that helps.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the exit code will say "used wrongly".
    pub(crate) fn is_usage(&self) -> bool {
        self.code == 1
    }

    /// What will be shown.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// Runs the command line.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    match try_main(arguments) {
        Ok(code) => code,
        Err(failure) if failure.instead => {
            show::out(&failure.text);
            ended(0)
        }
        Err(failure) => {
            show::note(&failure.text);
            if let Some(hint) = &failure.hint {
                show::note(&format!("hint: {hint}"));
            }
            ExitCode::from(failure.code)
        }
    }
}

fn try_main(arguments: Vec<OsString>) -> Result<ExitCode, Failure> {
    let program = program_name(arguments.first());
    let words: Result<Vec<String>, OsString> = arguments.into_iter().map(OsString::into_string).collect();
    let mut words =
        words.map_err(|_bytes| Failure::usage("an argument is not UTF-8 text").hint("put the value into a file and write key=@file"))?;
    if words.first().is_some_and(|name| Path::new(name).file_stem().is_some_and(|stem| stem == DOCKER_HELPER)) {
        words.insert(1, "docker-credential".to_owned());
    }
    let root = root(program);
    match flags::read(&root, &words)? {
        flags::Asked::Help { path, long } => {
            show::out(&help_text(&root, &path, long));
            Ok(ended(0))
        }
        flags::Asked::Run(words) => {
            let matches =
                root.try_get_matches_from(std::iter::once(program.to_owned()).chain(words)).map_err(|error| clap_failure(&error))?;
            let cli = Cli::from_arg_matches(&matches).map_err(|error| clap_failure(&error))?;
            run(cli.verb, &Ctx::new(program))
        }
    }
}

fn run(verb: Verb, ctx: &Ctx) -> Result<ExitCode, Failure> {
    let code = match verb {
        Verb::Audit(verb) => audit::run(&verb, ctx),
        Verb::Auth(verb) => auth::run(&verb, ctx),
        Verb::Aws(verb) => aws::run(&verb, ctx),
        Verb::Completion(args) => Ok(completion::run(args, ctx)),
        Verb::Delete(args) => delete::run(&args, ctx),
        Verb::DockerCredential(verb) => Ok(docker_credential::run(&verb, ctx)),
        Verb::Kv(verb) => kv::run(&verb, ctx),
        Verb::Lease(verb) => lease::run(&verb, ctx),
        Verb::List(args) => list::run(&args, ctx),
        Verb::Login(args) => login::run(&args, ctx),
        Verb::Monitor(args) => monitor::run(&args, ctx),
        Verb::Operator(verb) => operator::run(&verb, ctx),
        Verb::Patch(args) => patch::run(&args, ctx),
        Verb::PathHelp(args) => path_help::run(&args, ctx),
        Verb::Policy(verb) => policy::run(&verb, ctx),
        Verb::Print(verb) => print::run(&verb, ctx),
        Verb::Read(args) => read::run(&args, ctx),
        Verb::Run(args) => run::run(&args, ctx),
        Verb::Sandbox(args) => sandbox::run(&args),
        Verb::Secrets(verb) => secrets::run(&verb, ctx),
        Verb::Server(args) => return Ok(server::run(&args, ctx)),
        Verb::Status(args) => status::run(&args, ctx),
        Verb::Token(verb) => token::run(&verb, ctx),
        Verb::Unwrap(args) => unwrap::run(&args, ctx),
        Verb::Version(_) => Ok(version::run(ctx)),
        Verb::VersionHistory(args) => version::history(&args, ctx),
        Verb::Whois(args) => whois::run(&args, ctx),
        Verb::Write(args) => write::run(&args, ctx),
    };
    code.map(ended)
}

/// The exit code of a verb, but 1 where it did well and its output could not be written: whoever asked for it has nothing.
fn ended(code: u8) -> ExitCode {
    ExitCode::from(if code == 0 && !show::is_written() { 1 } else { code })
}

/// The declaration of all commands, ready to be looked into.
pub(crate) fn root(program: &'static str) -> Command {
    // Of a flag that is given twice the last counts, as in Go: wrappers of this program put their own before those of the caller.
    let mut root = without_help_commands(Cli::command()).bin_name(program).name(program).args_override_self(true);
    root.build();
    root
}

/// The help of one command, flags written with one dash.
pub(crate) fn help_text(root: &Command, path: &[String], long: bool) -> String {
    let mut command = path.iter().fold(root, |at, name| at.find_subcommand(name).unwrap_or(at)).clone();
    let text = if long { command.render_long_help() } else { command.render_help() }.to_string();
    // What stands alone is no flag.
    let dashed = text.split(" -- ").map(|part| part.replace(" --", " -").replace("[--", "[-").replace("'--", "'-"));
    let text = dashed.collect::<Vec<_>>().join(" -- ");
    let text = if root.get_name() == "vault" { text.replace("$ daypass", "$ vault").replace("\"daypass ", "\"vault ") } else { text };
    text.trim_end().to_owned()
}

/// Exactly so many arguments, or Vault's words for too few or too many. None may be empty: an unset shell variable must not name "everything".
pub(crate) fn exactly<const N: usize>(arguments: &[String]) -> Result<[&str; N], Failure> {
    let found: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let few_or_many = if found.len() < N { "Not enough" } else { "Too many" };
    let found = <[&str; N]>::try_from(found)
        .map_err(|found| Failure::usage(format!("{few_or_many} arguments (expected {N}, got {})", found.len())))?;
    found.iter().try_for_each(|argument| not_empty(argument))?;
    Ok(found)
}

/// Refuses an argument that names nothing.
pub(crate) fn not_empty(argument: &str) -> Result<(), Failure> {
    if clean_path(argument).is_empty() {
        return Err(Failure::usage("An argument is empty").hint("is a shell variable in it not set?"));
    }
    Ok(())
}

/// No argument or one.
pub(crate) fn at_most_one(arguments: &[String]) -> Result<Option<&str>, Failure> {
    match arguments {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        more => Err(Failure::usage(format!("Too many arguments (expected 0-1, got {})", more.len()))),
    }
}

/// A path without spaces around it and without slashes at its ends.
pub(crate) fn clean_path(path: &str) -> &str {
    path.trim().trim_matches('/')
}

/// A mount's path with the slash at its end.
pub(crate) fn mount_path(path: &str) -> String {
    format!("{}/", clean_path(path))
}

/// The name under which Docker calls a helper `daypass`.
const DOCKER_HELPER: &str = "docker-credential-daypass";

fn program_name(first: Option<&OsString>) -> &'static str {
    let name = first.map(Path::new).and_then(Path::file_stem).and_then(|name| name.to_str());
    if name == Some("vault") { "vault" } else { "daypass" }
}

fn without_help_commands(command: Command) -> Command {
    // `flags` understands "help" before every command; clap's own would only be in its way.
    command.disable_help_subcommand(true).mut_subcommands(without_help_commands)
}

fn clap_failure(error: &clap::Error) -> Failure {
    // What follows sends the reader to flags that are written otherwise here.
    let text = error.render().to_string();
    let lines: Vec<&str> =
        text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more")).collect();
    let line = lines.join(" ");
    let line = line.trim();
    Failure::usage(line.strip_prefix("error: ").unwrap_or(line).replace(" --", " -").replace("'--", "'-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves<'a>(command: &'a Command, path: &str, found: &mut Vec<(String, &'a Command)>) {
        for inner in command.get_subcommands() {
            let path = format!("{path} {}", inner.get_name()).trim().to_owned();
            if inner.has_subcommands() { leaves(inner, &path, found) } else { found.push((path, inner)) }
        }
    }

    #[test]
    fn every_verb_has_help_with_examples_that_parse() {
        let root = root("daypass");
        let mut found = Vec::new();
        leaves(&root, "", &mut found);
        assert!(found.len() > 50, "{}", found.len());
        for (path, command) in found {
            assert!(command.get_about().is_some(), "{path} has no help");
            let silent: Vec<_> =
                command.get_arguments().filter(|arg| arg.get_help().is_none() && !arg.is_hide_set()).map(clap::Arg::get_id).collect();
            assert!(silent.is_empty(), "{path}: flags without help: {silent:?}");
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> =
                help.lines().filter_map(|line| line.trim().strip_prefix("$ ")).filter(|line| line.contains("daypass")).collect();
            assert!(!examples.is_empty(), "{path} has no example");
            for example in examples {
                example_parses(&root, &path, example);
            }
        }
    }

    fn example_parses(root: &Command, path: &str, example: &str) {
        // What a shell would do to the line, as far as the examples need it.
        let line = example.split("daypass ").nth(1).unwrap().split("   ").next().unwrap();
        let line = line.split(['<', '>', '|', ')']).next().unwrap();
        let words: Vec<String> =
            std::iter::once("daypass").chain(line.split_whitespace()).map(|word| word.trim_matches('"').to_owned()).collect();
        let asked = flags::read(root, &words).unwrap_or_else(|failure| panic!("{path}: {example}: {}", failure.text()));
        let flags::Asked::Run(words) = asked else { panic!("{path}: {example} asks for help") };
        // `operator raft snapshot` is Vault's way to say `operator snapshot`, and has its help.
        let plain = path.replacen("operator raft ", "operator ", 1);
        assert!(words.join(" ").starts_with(&plain), "{path}: {example}");
        root.clone().try_get_matches_from(std::iter::once("daypass".to_owned()).chain(words)).unwrap();
    }

    #[test]
    fn help_has_one_dash_and_the_name_that_was_called() {
        let text = help_text(&root("vault"), &["kv".to_owned(), "get".to_owned()], true);
        assert!(text.contains("$ vault kv get -mount=secret app"), "{text}");
        assert!(text.contains("-tls-skip-verify") && !text.contains(" --"), "{text}");
        assert!(help_text(&root("vault"), &["run".to_owned()], false).contains("$ vault run -role=deploy -- terraform apply"));
        let short = help_text(&root("daypass"), &["read".to_owned()], false);
        assert!(!short.contains("-tls-skip-verify"), "{short}");
    }

    #[test]
    fn paths_lose_their_slashes_and_spaces() {
        assert_eq!(clean_path(" /a/b/ "), "a/b");
        assert!(exactly::<1>(&["/".to_owned()]).is_err());
        assert_eq!(mount_path("a"), "a/");
    }

    #[test]
    fn argument_counts_are_told_as_vault_tells_them() {
        let one = ["a".to_owned()];
        assert_eq!(exactly::<2>(&one).unwrap_err().text(), "Not enough arguments (expected 2, got 1)");
        assert_eq!(exactly::<0>(&one).unwrap_err().text(), "Too many arguments (expected 0, got 1)");
        assert_eq!(at_most_one(&["a".to_owned(), "b".to_owned()]).unwrap_err().text(), "Too many arguments (expected 0-1, got 2)");
    }
}
