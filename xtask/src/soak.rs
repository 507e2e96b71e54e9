//! `cargo xtask soak NAME`: what has to be shown and takes longer than CI has. Each has a short form among the stages of `cargo xtask test`;
//! here it runs at full length, and its result becomes a row of `docs/soak.md`, to be committed.

use crate::bench;
use crate::process::Log;
use crate::project::{Project, cargo};
use crate::test::{Tally, crash, fuzz, openapi};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a soak found: checks counted, and figures in words.
pub(crate) struct Found {
    pub(crate) tally: Tally,
    pub(crate) figures: Vec<String>,
}

impl Found {
    /// Figures, and whether each of the promises was kept.
    pub(crate) fn judged(kept: &[bool], figures: Vec<String>) -> Self {
        let passed = kept.iter().filter(|kept| **kept).count();
        Self { tally: Tally { passed, failed: kept.len() - passed }, figures }
    }
}

/// A number that the environment may set, so that a soak is shorter or longer than usual.
pub(crate) fn number<T: std::str::FromStr>(name: &str, usual: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

struct Soak {
    name: &'static str,
    about: &'static str,
    work: fn(&Project, &mut Log) -> Result<Found, String>,
}

const SOAKS: [Soak; 11] = [
    Soak { name: "acl-model", about: "a million random policy sets judge as a slow model does", work: acl_model },
    Soak { name: "crash", about: "2,000 times kill -9 under a load of writes", work: crashes },
    Soak { name: "day", about: "24 simulated hours of steady work on a store on disk: rows, file and memory follow what lives", work: day },
    Soak {
        name: "expiry",
        about: "two minutes in which thousands of tokens end each second",
        work: |project, log| shipped(project, log, bench::expiry::run),
    },
    Soak { name: "fuzz", about: "each fuzz target for five minutes, five side by side", work: fuzzing },
    Soak {
        name: "hour",
        about: "an hour of mixed load: memory, descriptors and the file stay as they are",
        work: |project, log| shipped(project, log, bench::steady::run),
    },
    Soak {
        name: "leases",
        about: "a million live tokens: what they cost, a restart among them, and their end by one request",
        work: |project, log| shipped(project, log, bench::leases::run),
    },
    Soak {
        name: "logins",
        about: "10,000 logins a minute by identity tokens for ten minutes; nothing stays of them",
        work: |project, log| shipped(project, log, bench::logins::run),
    },
    Soak { name: "openapi", about: "schemathesis against every operation of the served document for ten minutes", work: every_operation },
    Soak {
        name: "simulation",
        about: "10,000 histories of the whole core with faults, deaths and jumps of the clock; each fault at each write of a script",
        work: simulation,
    },
    Soak { name: "token-model", about: "random token trees live and die as a model says", work: token_model },
];

const PAGE: &str = "docs/soak.md";
const HEAD: &str = "\
# What was shown at full length

Each row is the last full run of `cargo xtask soak NAME`; `cargo xtask test` runs a short form of each. A run replaces its row.

| soak | day | commit | minutes | passed | failed | figures |
|---|---|---|---|---|---|---|
";

pub(crate) fn main(arguments: &[&str]) -> Result<(), String> {
    let names = || SOAKS.iter().map(|soak| format!("  {:14} {}", soak.name, soak.about)).collect::<Vec<_>>().join("\n");
    let [name] = arguments else { return Err(format!("cargo xtask soak takes one name:\n{}", names())) };
    if *name == "--list" {
        println!("{}", names());
        return Ok(());
    }
    let soak = SOAKS.iter().find(|soak| soak.name == *name).ok_or_else(|| format!("no soak is called {name}:\n{}", names()))?;
    let project = Project::open()?;
    let mut log = project.log(&format!("soak-{name}"))?;
    log.limit(Duration::from_hours(3));
    println!("{name}: {}", soak.about);
    let (began, commit) = (Instant::now(), commit(&project));
    let found = (soak.work)(&project, &mut log)?;
    let minutes = began.elapsed().as_secs().div_ceil(60);
    write_row(&project, soak.name, &commit, minutes, &found)?;
    for figure in &found.figures {
        println!("        {figure}");
    }
    println!("{} passed, {} failed", found.tally.passed, found.tally.failed);
    if found.tally.failed == 0 { Ok(()) } else { Err(format!("{name} failed; the whole log: {}", log.path().display())) }
}

fn acl_model(project: &Project, log: &mut Log) -> Result<Found, String> {
    model(project, log, &["--release", "-p", "daypass-policy", "--test", "acl_model"], 1_000_000, "policy sets of eight requests each")
}

fn token_model(project: &Project, log: &mut Log) -> Result<Found, String> {
    model(project, log, &["--workspace", "--test", "rooms", "token_model"], 2_000, "random histories")
}

fn simulation(project: &Project, log: &mut Log) -> Result<Found, String> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from).to_string();
    // Optimised, with the checks that a debug build has: a seed tells the same history in either.
    let checks = [("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true"), ("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true")];
    let more = [("DAYPASS_CASES", "10000"), ("DAYPASS_EVERY", "1"), ("DAYPASS_THREADS", cores.as_str())];
    let more: Vec<(&str, &str)> = checks.into_iter().chain(more).collect();
    let test = ["--release", "--workspace", "--test", "simulation", "--", "--nocapture", "--skip", "day::"];
    let (mut found, text) = tested(project, log, &test, &more)?;
    let told = [" histories from seed ", " lines told"];
    found.figures = told.iter().filter_map(|told| text.lines().find(|line| line.contains(told))).map(str::to_owned).collect();
    Ok(found)
}

fn day(project: &Project, log: &mut Log) -> Result<Found, String> {
    let (mut found, text) =
        tested(project, log, &["--workspace", "--test", "simulation", "--", "--nocapture", "day::"], &[("DAYPASS_HOURS", "24")])?;
    let samples: Vec<&str> = text.lines().filter(|line| line.starts_with("Sample ")).collect();
    found.figures = [samples.get(3), samples.last()].into_iter().flatten().map(|line| (*line).to_owned()).collect();
    Ok(found)
}

/// A property test with so many cases.
fn model(project: &Project, log: &mut Log, test: &[&str], cases: u32, of_what: &str) -> Result<Found, String> {
    let (mut found, _) = tested(project, log, test, &[("DAYPASS_CASES", cases.to_string().as_str())])?;
    found.figures = vec![format!("{cases} {of_what}")];
    Ok(found)
}

/// A test with these variables set; and what it said.
fn tested(project: &Project, log: &mut Log, test: &[&str], set: &[(&str, &str)]) -> Result<(Found, String), String> {
    let mut command = cargo();
    command.current_dir(&project.root).args(["test", "--locked"]).args(test).envs(set.iter().copied());
    let (status, text) = log.finish(&mut command)?;
    let mut tally = Tally::read(&text);
    if !status.success() && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok((Found { tally, figures: Vec::new() }, text))
}

fn crashes(project: &Project, log: &mut Log) -> Result<Found, String> {
    crash::run_for(project, log, 2_000).map(|(tally, figures)| Found { tally, figures })
}

fn fuzzing(project: &Project, log: &mut Log) -> Result<Found, String> {
    fuzz::run_for(project, log, 300, 5).map(|(tally, figures)| Found { tally, figures })
}

/// A soak of the binary as it is shipped.
fn shipped(project: &Project, log: &mut Log, run: fn(&Project, &mut Log, &Path) -> Result<Found, String>) -> Result<Found, String> {
    let binary = bench::release(project, log)?;
    run(project, log, &binary)
}

fn every_operation(project: &Project, log: &mut Log) -> Result<Found, String> {
    let tally = openapi::run_for(project, log, 600)?;
    let requests = std::fs::read_to_string(log.path()).ok();
    let line =
        requests.as_deref().and_then(|text| text.lines().rev().find(|line| line.contains(" requests"))).map(|line| line.trim().to_owned());
    Ok(Found { tally, figures: vec![line.unwrap_or_else(|| "600 s of schemathesis".to_owned())] })
}

/// Puts the result in the place of the soak's last one.
fn write_row(project: &Project, name: &str, commit: &str, minutes: u64, found: &Found) -> Result<(), String> {
    let path = project.root.join(PAGE);
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    let start = format!("| {name} |");
    let mut rows: Vec<String> =
        old.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| soak |")).map(str::to_owned).collect();
    rows.retain(|row| !row.starts_with(&start));
    let Tally { passed, failed } = found.tally;
    rows.push(format!("{start} {} | {commit} | {minutes} | {passed} | {failed} | {} |", today(), found.figures.join("; ")));
    rows.sort();
    let folder = path.parent().ok_or("the page has no folder")?;
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    std::fs::write(&path, format!("{HEAD}{}\n", rows.join("\n"))).map_err(|e| format!("{}: {e}", path.display()))
}

/// What is looked at: the commit at the start, whatever is committed meanwhile.
fn commit(project: &Project) -> String {
    let output = Command::new("git").current_dir(&project.root).args(["rev-parse", "--short", "HEAD"]).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

/// The day, UTC, as `2026-11-28`.
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let output = Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%F"]).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}
