//! An hour of mixed load on one server: what may grow, and does not.

use super::Sandbox;
use super::load::{self, Workload};
use super::peer::Target;
use super::standin::StandIns;
use crate::install::python;
use crate::process::Log;
use crate::project::Project;
use crate::soak::{self, Found};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Secrets that are read and written.
const KEYS: u32 = 1_000;
/// Minutes before the first look: caches are bounded, but take that long to fill, since the store grows meanwhile.
const WARM_UP: usize = 20;
/// How much more memory at the end than after the warm-up is no leak.
const GROWTH_MAX: f64 = 1.15;
/// How much larger the file may be than the same data in a file that was just made.
const SLACK_MAX: f64 = 1.3;

/// What a look at the process showed.
struct Sample {
    memory: f64,
    descriptors: usize,
    file: u64,
}

/// An hour, or so many minutes as `DAYPASS_MINUTES` says.
pub(crate) fn run(project: &Project, log: &mut Log, binary: &Path) -> Result<Found, String> {
    super::tools(log)?;
    let python = python::ensure(project, log)?.join("python");
    let minutes = soak::number("DAYPASS_MINUTES", 60);
    let sandbox = Sandbox::start(project, binary)?;
    let standins = StandIns::start(project, Duration::from_millis(20))?;
    let target = Target::daypass(project, binary, &sandbox.environment, &standins)?;
    target.fill(KEYS)?;
    target.shorten_logins()?;
    let load = Workload::everything(KEYS);
    let (mut samples, mut total) = (Vec::new(), 0);
    for minute in 1..=minutes.max(WARM_UP + 2) {
        total += load::run(log, &target, &load, 64, 59)?.total;
        // Between two loads: nobody is connected.
        std::thread::sleep(Duration::from_millis(500));
        let sample = Sample { memory: target.memory()?, descriptors: target.descriptors()?, file: target.store_bytes()? };
        println!(
            "        minute {minute} of {minutes}: {total} requests, RSS {} MB, {} descriptors, store {} MB",
            sample.memory,
            sample.descriptors,
            sample.file / 1_000_000
        );
        samples.push(sample);
    }
    // The store gives space back once it is idle.
    std::thread::sleep(Duration::from_secs(10));
    let (file, packed) = (target.store_bytes()?, packed(log, &target, &python)?);
    judge(&samples, total, file, packed)
}

fn judge(samples: &[Sample], total: u64, file: u64, packed: u64) -> Result<Found, String> {
    let (Some(first), Some(last)) = (samples.get(WARM_UP), samples.last()) else { return Err("nothing was seen".to_owned()) };
    let most = samples.iter().skip(WARM_UP).map(|sample| sample.memory).fold(0.0, f64::max);
    #[expect(clippy::cast_precision_loss, reason = "sizes of files")]
    let slack = file as f64 / packed.max(1) as f64;
    let checks = [most <= first.memory * GROWTH_MAX, last.descriptors <= first.descriptors + 8, slack <= SLACK_MAX, total > 1_000];
    let figures = vec![
        format!("{} minutes, {total} requests of nine kinds, none refused", samples.len()),
        format!("RSS {} MB after {} minutes, at most {most} MB after that, {} MB at the end", first.memory, WARM_UP + 1, last.memory),
        format!("{} descriptors then, {} at the end", first.descriptors, last.descriptors),
        format!("store {} MB, the same data newly packed {} MB: {slack:.2} times", file / 1_000_000, packed / 1_000_000),
    ];
    Ok(Found::judged(&checks, figures))
}

/// How large a file of the same rows is that was just made.
fn packed(log: &mut Log, target: &Target, python: &Path) -> Result<u64, String> {
    let (store, copy) = (target.store(), target.store().with_extension("packed"));
    drop(std::fs::remove_file(&copy));
    let code = "import sqlite3, sys; sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True).execute('VACUUM INTO ?', (sys.argv[2],))";
    log.run(Command::new(python).args(["-c", code]).arg(&store).arg(&copy))?;
    let size = std::fs::metadata(&copy).map_err(|e| format!("{}: {e}", copy.display()))?.len();
    drop(std::fs::remove_file(&copy));
    Ok(size)
}

impl Target {
    /// Logins of the role end after two minutes, so that tokens come and go.
    fn shorten_logins(&self) -> Result<(), String> {
        self.call("POST", "auth/approle/role/bench", &json!({"token_policies": ["bench"], "token_ttl": "2m"})).map(drop)
    }
}
