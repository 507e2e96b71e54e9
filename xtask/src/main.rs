//! `cargo xtask`: what is done with this repository besides building it. One file per command; `--help` lists them.
//!
//! It may use nothing of ours: it must still run when the crates do not compile. What a command needs from outside
//! (Debian packages, a Python environment, Go modules) it installs by itself, once, under `target/xtask`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool that talks to a person at a terminal")]
#![expect(clippy::disallowed_methods, reason = "real time is what this tool measures; the clock of `base` is not for it")]

mod bench;
mod demo;
mod dist;
#[allow(unreachable_pub, reason = "a part of the tests' kit, where it is public")]
#[path = "../../crates/testkit/src/free.rs"]
mod free;
mod generate;
mod http;
mod install;
mod process;
mod project;
mod server;
mod soak;
mod test;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  demo [--exit]    run the main job against AWS in a box, explain it, and stay up until Ctrl-C (--exit: stop at the end)
  test [OPTIONS]   everything that must pass before a change lands; installs what it needs
         --only NAME   only this stage, or all stages below NAME/ (may be repeated)
         --skip NAME   all but this stage (may be repeated)
         --list        print the stages and stop
  soak NAME        what must be shown and takes longer than CI has; the result goes into docs/soak.md (--list names them)
  tidy             the project's own rules: who may import whom, sizes, words, manifests, changelog
  generate         write docs/compatibility.md from the code (--check: only tell whether it is stale)
  dist             the binary as it is shipped, optimised by a profile of its own work (two builds); prints where it is
  bench [OPTIONS]  the figures of bench/README.md (--quick: a tenth of the time)

Environment
  DAYPASS_BIN              use this daypass binary instead of building one
  DAYPASS_CONFORMANCE      folder of the recorded answers and their runner (default: ../shared/conformance)
  DAYPASS_RECORDED_CLIENTS folder of the recorded client sessions (default: ../shared/recorded-clients)
  DAYPASS_SCHEMATHESIS_SECONDS how long schemathesis tries requests in the stage openapi (default: 60)
  DAYPASS_TF_PROVIDER      binary of Vault's Terraform provider, to run it in the story besides the replay
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.split_first() {
        Some((&"demo", rest)) => demo::main(rest),
        Some((&"test", rest)) => test::main(rest),
        Some((&"soak", rest)) => soak::main(rest),
        Some((&"generate", rest)) => generate::main(rest),
        Some((&"tidy", [])) => tidy::main(),
        Some((&"dist", [])) => dist::main(),
        Some((&"bench", rest)) => bench::main(rest),
        None | Some((&("help" | "--help" | "-h"), _)) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => Err(format!("no such command: {}. `cargo xtask help` lists them", words.join(" "))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
