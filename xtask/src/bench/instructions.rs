//! How many instructions a request takes, counted by callgrind: no neighbour on the machine changes that, so a regression cannot hide in noise.
//!
//! `cargo xtask test` counts the debug build, which is there anyway: it does the same work, unoptimised. `cargo xtask bench instructions` counts
//! the binary as it is shipped. Both compare with `bench/instructions.json`; `--accept` writes it.

use super::peer::Target;
use crate::install::debian;
use crate::process::Log;
use crate::project::Project;
use crate::test::{Tally, Verdict};
use serde_json::{Map, Value};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The hot paths: name and URL.
const PATHS: [(&str, &str); 3] =
    [("sys/health", "/v1/sys/health"), ("token lookup-self", "/v1/auth/token/lookup-self"), ("KV v2 read, 1 KB", "/v1/bench/data/1")];
/// Requests that are counted; before them go as many again that are not.
const REQUESTS: u32 = 100;
/// How many more per request are a regression.
const MORE_MAX: f64 = 1.1;
const FILE: &str = "bench/instructions.json";

/// `cargo xtask bench instructions [--accept]`: of the shipped binary.
pub(crate) fn main(arguments: &[&str]) -> Result<(), String> {
    let accept = match arguments {
        [] => false,
        ["--accept"] => true,
        _ => return Err("cargo xtask bench instructions takes --accept and nothing else".to_owned()),
    };
    let project = Project::open()?;
    let mut log = project.log("bench-instructions")?;
    let binary = super::release(&project, &mut log)?;
    let tally = compare(&project, &mut log, &binary, "dist", accept)?;
    if tally.failed == 0 { Ok(()) } else { Err(format!("{} paths take more instructions than {FILE} allows", tally.failed)) }
}

/// The stage of `cargo xtask test`: of the debug binary. `DAYPASS_ACCEPT` takes the counts as they are.
pub(crate) fn stage(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let binary = project.daypass(log)?;
    compare(project, log, &binary, "debug", std::env::var_os("DAYPASS_ACCEPT").is_some()).map(Verdict::Ran)
}

fn compare(project: &Project, log: &mut Log, binary: &Path, build: &str, accept: bool) -> Result<Tally, String> {
    let mut kept: Map<String, Value> = project.read(FILE).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let mut tally = Tally::default();
    for (name, count) in count(project, log, binary)? {
        let before = kept.get(build).and_then(|counts| counts.get(name)).and_then(Value::as_f64);
        #[expect(clippy::cast_precision_loss, reason = "some millions")]
        let more = before.map_or(1.0, |before| count as f64 / before);
        println!("        {name}: {count} instructions per request, {:+.1} % since {FILE}", (more - 1.0) * 100.0);
        if accept {
            let counts = kept.entry(build).or_insert_with(|| Value::Object(Map::new()));
            counts.as_object_mut().ok_or(FILE)?.insert(name.to_owned(), count.into());
        }
        match before {
            Some(_) if more <= MORE_MAX || accept => tally.passed += 1,
            None if accept => tally.passed += 1,
            _ => tally.failed += 1,
        }
    }
    if accept {
        let text = serde_json::to_string_pretty(&kept).map_err(|e| e.to_string())?;
        std::fs::write(project.root.join(FILE), text + "\n").map_err(|e| format!("{FILE}: {e}"))?;
    }
    Ok(tally)
}

fn count(project: &Project, log: &mut Log, binary: &Path) -> Result<Vec<(&'static str, u64)>, String> {
    debian::ensure(log, &[("valgrind", "valgrind"), ("setpriv", "util-linux"), ("openssl", "openssl")])?;
    let out = project.work.join("callgrind.out");
    log.step("starting the server under callgrind (it runs some fifty times slower)");
    let target = Target::counted(project, binary, &out)?;
    let control = |log: &mut Log, option: &[&str]| log.run(Command::new("callgrind_control").args(option).arg(target.id())).map(drop);
    let mut counts = Vec::new();
    for (index, (name, path)) in PATHS.into_iter().enumerate() {
        target.again(path, REQUESTS)?;
        control(log, &["-i", "on"])?;
        target.again(path, REQUESTS)?;
        control(log, &["-i", "off"])?;
        control(log, &["-d"])?;
        let dump = out.with_extension(format!("out.{}", index + 1));
        counts.push((name, total(&dump)? / u64::from(REQUESTS)));
    }
    Ok(counts)
}

/// The sum in a dump, which is written a moment after it was asked for.
fn total(dump: &Path) -> Result<u64, String> {
    let began = Instant::now();
    loop {
        let text = std::fs::read_to_string(dump).unwrap_or_default();
        let line = text.lines().rev().find_map(|line| line.strip_prefix("totals: "));
        if let Some(total) = line.and_then(|total| total.trim().parse().ok()) {
            return Ok(total);
        }
        if began.elapsed() > Duration::from_secs(30) {
            return Err(format!("callgrind did not write {}", dump.display()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
