//! `cargo xtask test`: everything that must pass before a change lands, stage by stage, here and in CI alike.

mod clients;
mod code;
mod conformance;
pub(crate) mod crash;
mod docs;
pub(crate) mod fuzz;
pub(crate) mod openapi;
mod story;

use crate::bench::instructions;
use crate::process::{Log, free_space};
use crate::project::Project;
use std::time::Instant;

/// What a stage found.
pub(crate) enum Verdict {
    /// It ran; so many checks passed and failed.
    Ran(Tally),
    /// It cannot run here, and why that is no failure.
    Skipped(String),
}

/// Checks counted.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

type Work = fn(&Project, &mut Log) -> Result<Verdict, String>;

struct Stage {
    name: &'static str,
    about: &'static str,
    work: Work,
}

/// Cheap ones first, so that a typo is heard of soon.
const STAGES: [Stage; 22] = [
    Stage { name: "fmt", about: "formatting", work: code::fmt },
    Stage { name: "tidy", about: "the project's own rules", work: code::tidy },
    Stage { name: "clippy", about: "lints, warnings are errors", work: code::clippy },
    Stage { name: "units", about: "unit, room and property tests, with Go programs as oracles", work: code::units },
    Stage { name: "doc", about: "the documentation builds, warnings are errors", work: code::doc },
    Stage { name: "conformance", about: "recorded answers of the reference server", work: conformance::run },
    Stage { name: "clients/bao", about: "a Vault-compatible CLI", work: clients::bao },
    Stage { name: "clients/hvac", about: "Python's client", work: clients::hvac },
    Stage { name: "clients/go", about: "the official Go client", work: clients::go },
    Stage { name: "clients/java", about: "the Java driver that Jenkins uses", work: clients::java },
    Stage { name: "clients/node", about: "node-vault", work: clients::node },
    Stage { name: "clients/oidc", about: "a certified OpenID provider, logins with Chromium and without", work: clients::oidc },
    Stage { name: "clients/vaultrs", about: "Rust's client", work: clients::vaultrs },
    Stage { name: "clients/aws", about: "the AWS CLI with credentials from here", work: clients::aws },
    Stage { name: "clients/moto", about: "IAM users and their keys at a second fake AWS", work: clients::moto },
    Stage { name: "clients/replay", about: "recorded sessions of Terraform's Vault provider", work: clients::replay },
    Stage { name: "docs", about: "every command of docs/aws.md and README.md, and the recipes of docs/pipelines.md", work: docs::run },
    Stage { name: "openapi", about: "the OpenAPI document: valid, a client made from it, schemathesis", work: openapi::run },
    Stage { name: "story", about: "Terraform, Packer, a registry: the whole pipeline", work: story::run },
    Stage { name: "instructions", about: "what three hot paths cost, counted by callgrind", work: instructions::stage },
    Stage { name: "crash", about: "kill -9 under a load of writes", work: crash::run },
    Stage { name: "fuzz", about: "each fuzz target for some seconds", work: fuzz::run },
];

/// Bytes that all stages write below a target directory that was empty.
const FIRST_RUN_TAKES: u64 = 10 << 30;

struct Line {
    name: &'static str,
    verdict: &'static str,
    seconds: u64,
    tally: Tally,
}

pub(crate) fn main(arguments: &[&str]) -> Result<(), String> {
    let Some(stages) = choose(arguments)? else {
        for stage in &STAGES {
            println!("{:16} {}", stage.name, stage.about);
        }
        return Ok(());
    };
    let project = Project::open()?;
    let began = Instant::now();
    say_space(&project, FIRST_RUN_TAKES);
    let mut lines = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        println!("[{:2}/{}] {}: {}", index + 1, stages.len(), stage.name, stage.about);
        lines.push(perform(&project, stage)?);
    }
    summarise(&project, &lines, began.elapsed().as_secs())
}

fn perform(project: &Project, stage: &Stage) -> Result<Line, String> {
    let began = Instant::now();
    let mut log = project.log(stage.name)?;
    let (verdict, tally) = match (stage.work)(project, &mut log) {
        Ok(Verdict::Ran(tally)) if tally.failed == 0 => ("ok", tally),
        Ok(Verdict::Ran(tally)) => ("FAILED", tally),
        Ok(Verdict::Skipped(why)) => {
            println!("        skipped: {why}");
            ("skipped", Tally::default())
        }
        Err(message) => {
            println!("        {message}");
            say_space(project, 1 << 30);
            ("FAILED", Tally { passed: 0, failed: 1 })
        }
    };
    let seconds = began.elapsed().as_secs();
    println!("        {verdict} in {seconds} s: {} passed, {} failed", tally.passed, tally.failed);
    if verdict == "FAILED" {
        println!("        the whole log: {}", log.path().display());
    }
    Ok(Line { name: stage.name, verdict, seconds, tally })
}

/// Says how little room there is, where there is less than that: compilers and linkers tell it badly.
fn say_space(project: &Project, wanted: u64) {
    let Some(free) = free_space(&project.target).filter(|free| *free < wanted) else { return };
    println!(
        "        disk: {} MB are free in {}; a first run takes up to {} MB (CARGO_INCREMENTAL=0 takes less, `cargo clean` gives back what is there)",
        free >> 20,
        project.target.display(),
        FIRST_RUN_TAKES >> 20
    );
}

fn summarise(project: &Project, lines: &[Line], seconds: u64) -> Result<(), String> {
    println!("\n{:16} {:8} {:>7} {:>8} {:>8}", "stage", "result", "time", "passed", "failed");
    for line in lines {
        println!("{:16} {:8} {:>5} s {:>8} {:>8}", line.name, line.verdict, line.seconds, line.tally.passed, line.tally.failed);
    }
    let passed: usize = lines.iter().map(|l| l.tally.passed).sum();
    let failed: usize = lines.iter().map(|l| l.tally.failed).sum();
    println!("in {} min {} s; logs: {}", seconds / 60, seconds % 60, project.work.join("logs").display());
    println!("{passed} passed, {failed} failed");
    if failed == 0 { Ok(()) } else { Err("not everything passed".to_owned()) }
}

/// The stages that the arguments ask for; none when they ask for the list.
fn choose(arguments: &[&str]) -> Result<Option<Vec<&'static Stage>>, String> {
    let (mut only, mut skip) = (Vec::new(), Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let list = match *argument {
            "--list" => return Ok(None),
            "--only" => &mut only,
            "--skip" => &mut skip,
            _ => return Err(format!("cargo xtask test has no option {argument}: --only NAME, --skip NAME, --list")),
        };
        let name = *rest.next().ok_or_else(|| format!("{argument} needs the name of a stage"))?;
        if !STAGES.iter().any(|s| named(s, name)) {
            return Err(format!("no stage is called {name}: `cargo xtask test --list` names them"));
        }
        list.push(name);
    }
    let wanted = |s: &&Stage| (only.is_empty() || only.iter().any(|n| named(s, n))) && !skip.iter().any(|n| named(s, n));
    Ok(Some(STAGES.iter().filter(wanted).collect()))
}

fn named(stage: &Stage, name: &str) -> bool {
    stage.name == name || stage.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'))
}

impl Tally {
    /// Counts what a test runner printed: cargo's `test result:` lines, or a last line `N passed, N failed`.
    pub(crate) fn read(text: &str) -> Self {
        let mut tally = Self::default();
        for line in text.lines() {
            if let Some(rest) = line.trim_start().strip_prefix("test result: ") {
                tally.passed += count(rest, "passed");
                tally.failed += count(rest, "failed");
            }
        }
        if tally.passed + tally.failed == 0 {
            let last = text.lines().rev().find(|l| l.contains(" passed, ") && l.trim_end().ends_with(" failed")).unwrap_or_default();
            tally = Self { passed: count(last, "passed"), failed: count(last, "failed") };
        }
        tally
    }
}

/// The number before a word.
fn count(line: &str, word: &str) -> usize {
    let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
    words.windows(2).find_map(|pair| if pair.last() == Some(&word) { pair.first()?.parse().ok() } else { None }).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_results_are_summed() {
        let text = "test result: ok. 12 passed; 0 failed; 0 ignored\nx\ntest result: FAILED. 3 passed; 2 failed; 1 ignored\n";
        let tally = Tally::read(text);
        assert_eq!((tally.passed, tally.failed), (15, 2));
    }

    #[test]
    fn a_plain_last_line_counts() {
        let tally = Tally::read("ok a\nkv  9 passed    1 failed\n31 passed, 4 failed\n");
        assert_eq!((tally.passed, tally.failed), (31, 4));
    }

    #[test]
    fn a_stage_group_is_chosen_by_its_folder() {
        let stages = choose(&["--only", "clients", "--skip", "clients/bao"]).unwrap().unwrap();
        assert!(stages.iter().all(|s| s.name.starts_with("clients/") && s.name != "clients/bao") && stages.len() > 3);
        assert!(choose(&["--only", "client"]).is_err());
    }
}
