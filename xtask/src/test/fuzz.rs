//! Each fuzz target for some seconds: enough to catch what a change broke. `DAYPASS_FUZZ_SECONDS` gives it longer, `DAYPASS_FUZZ_TARGETS` (names
//! between commas) tries these alone.

use super::{Tally, Verdict};
use crate::install::rust;
use crate::process::{Log, last_lines};
use crate::project::{Project, cargo};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Coverage counters by stable compiler flags, so that the pinned compiler does and no nightly one is needed. What they
/// leave out against `cargo fuzz` is the address sanitizer, which code without `unsafe` can do without.
const FLAGS: &str = "--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

pub(super) fn run(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let seconds = std::env::var("DAYPASS_FUZZ_SECONDS").ok().and_then(|s| s.parse::<u64>().ok()).unwrap_or(10);
    run_for(project, log, seconds, 2).map(|(tally, _)| Verdict::Ran(tally))
}

/// Each target for so long, so many side by side. Also returns what each of them did, in a line.
pub(crate) fn run_for(project: &Project, log: &mut Log, seconds: u64, at_once: usize) -> Result<(Tally, Vec<String>), String> {
    let (folder, targets) = (project.work.join("fuzz"), targets(&project.root)?);
    log.step("building the fuzz targets");
    // The flags are for the targets alone, not for build scripts; cargo keeps them apart when a target is named.
    let host = rust::host(project)?;
    let mut build = cargo();
    build.current_dir(project.root.join("fuzz")).args(["build", "--bins", "--locked", "--target", &host, "--target-dir"]).arg(&folder);
    build.env("RUSTFLAGS", FLAGS);
    log.run(&mut build)?;
    let programs = folder.join(host).join("debug");
    let (mut tally, mut told) = (Tally::default(), Vec::new());
    for group in targets.chunks(at_once.max(1)) {
        let run = |name: &String| {
            let mut own = project.log(&format!("fuzz-{name}"))?;
            own.limit(Duration::from_secs(seconds + 120));
            fuzz(project, &mut own, &programs, name, seconds)
        };
        let outcomes: Vec<Result<String, String>> = std::thread::scope(|scope| {
            let threads: Vec<_> = group.iter().map(|name| scope.spawn(|| run(name))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("its thread panicked".to_owned()))).collect()
        });
        for (name, outcome) in group.iter().zip(outcomes) {
            match outcome {
                Ok(runs) => {
                    let line = format!("{name}: {runs} inputs in {seconds} s");
                    println!("        {line}");
                    told.push(line);
                    tally.passed += 1;
                }
                Err(message) => {
                    println!("        {name}: {message}");
                    tally.failed += 1;
                }
            }
        }
    }
    Ok((tally, told))
}

fn targets(root: &Path) -> Result<Vec<String>, String> {
    let folder = root.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        let name = entry.map_err(|e| e.to_string())?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".rs").map(str::to_owned));
    }
    names.sort();
    let Ok(wanted) = std::env::var("DAYPASS_FUZZ_TARGETS") else { return Ok(names) };
    let wanted: Vec<String> = wanted.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    match wanted.iter().find(|name| !names.contains(name)) {
        Some(unknown) => Err(format!("DAYPASS_FUZZ_TARGETS: there is no target {unknown:?}; there are {}", names.join(", "))),
        None => Ok(wanted),
    }
}

/// The number of inputs tried, or the failing input and how to try it again.
fn fuzz(project: &Project, log: &mut Log, programs: &Path, name: &str, seconds: u64) -> Result<String, String> {
    let corpus = project.root.join("fuzz/corpus").join(name);
    let artifacts = programs.join("artifacts");
    for path in [&corpus, &artifacts] {
        std::fs::create_dir_all(path).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    let program = programs.join(name);
    let mut command = Command::new(&program);
    command.arg(&corpus).arg(project.root.join("fuzz/seeds").join(name));
    command.arg(format!("-max_total_time={seconds}")).args(["-timeout=5", "-rss_limit_mb=2048", "-max_len=8192", "-print_final_stats=1"]);
    command.arg(format!("-artifact_prefix={}/{name}-", artifacts.display()));
    let (status, text) = log.finish(&mut command)?;
    let line = |start: &str| text.lines().find_map(|l| l.split_once(start)).map(|(_, rest)| rest.trim().to_owned());
    if status.success() {
        return line("stat::number_of_executed_units:").ok_or_else(|| format!("no figures\n{}", last_lines(&text, 10)));
    }
    let input = line("Test unit written to ").unwrap_or_default();
    Err(format!("failed; again with: {} {input}\n{}", program.display(), last_lines(&text, 15)))
}
