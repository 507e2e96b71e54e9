//! Thousands of tokens that end each second, while as many are made: what that takes, and whether the worker keeps up.

use super::load::{self, Workload};
use super::peer::Target;
use crate::install::python;
use crate::process::Log;
use crate::project::Project;
use crate::soak::Found;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Loads of five seconds each, of tokens that live for twenty.
const LOADS: usize = 24;
/// Tokens a second that have to end.
const RATE_MIN: f64 = 5_000.0;
/// How much memory may grow meanwhile, in MB: caches that fill.
const GROWTH_MAX: f64 = 40.0;
/// How long the last ones may take after their end.
const LATE_MAX: Duration = Duration::from_secs(5);

pub(crate) fn run(project: &Project, log: &mut Log, binary: &Path) -> Result<Found, String> {
    super::tools(log)?;
    let python = python::ensure(project, log)?.join("python");
    let target = Target::with_root(project, "expiry", binary)?;
    let idle = target.memory()?;
    let (create, began) = (Workload::short_token_create(), Instant::now());
    let (mut made, mut most, mut behind, mut cpu) = (0, idle, 0, target.cpu()?);
    for round in 1..=LOADS {
        made += load::run(log, &target, &create, 64, 4)?.total;
        most = most.max(target.memory()?);
        behind = behind.max(overdue(log, &target, &python)?);
        println!("        load {round} of {LOADS}: {made} tokens made, RSS at most {most} MB, at most {behind} overdue");
    }
    let took = began.elapsed().as_secs_f64();
    cpu = target.cpu()? - cpu;
    // The last token ends twenty seconds after it was made.
    std::thread::sleep(Duration::from_secs(20));
    let ended = Instant::now();
    while overdue(log, &target, &python)? > 0 && ended.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let late = ended.elapsed();
    std::thread::sleep(Duration::from_secs(10));
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    let (rate, each) = (made as f64 / took, cpu * 1_000_000.0 / made.max(1) as f64);
    let checks = [rate >= RATE_MIN, most <= idle + GROWTH_MAX, late <= LATE_MAX];
    let figures = vec![
        format!("{made} tokens of 20 s made and ended in {took:.0} s, {rate:.0} a second, {each:.0} µs of CPU for life and end of each"),
        format!("RSS {idle} MB before, at most {most} MB, {} MB after", target.memory()?),
        format!("at most {behind} overdue at one look; the last gone {:.1} s after its end", late.as_secs_f64()),
        format!("store {} MB at the end", target.store_bytes()? / 1_000_000),
    ];
    Ok(Found::judged(&checks, figures))
}

/// Entries of the expiry index that should be gone by now.
fn overdue(log: &mut Log, target: &Target, python: &Path) -> Result<u64, String> {
    let code = "import sqlite3, sys, time; \
                print(sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True).execute('SELECT count(*) FROM exp WHERE at < ?', (time.time_ns(),)).fetchone()[0])";
    let text = log.run(Command::new(python).args(["-c", code]).arg(target.store()))?;
    text.trim().parse().map_err(|e| format!("the index was not counted: {e}"))
}
