//! `cargo xtask bench`: the figures of bench/README.md, measured on this machine in one run, beside a peer where one can be
//! installed. What counts is the ratio: absolute figures change with the machine and with its mood.

mod load;
mod peer;

use crate::http;
use crate::install::{debian, python};
use crate::process::{Log, end_tree};
use crate::project::{Project, cargo};
use load::{Figures, Workload};
use peer::{Subject, Target};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// KV secrets that are read at random.
const KEYS: u32 = 10_000;

pub(crate) fn main(arguments: &[&str]) -> Result<(), String> {
    let seconds = match arguments {
        [] => 10,
        ["--quick"] => 1,
        _ => return Err(format!("cargo xtask bench has no option {}: --quick", arguments.join(" "))),
    };
    let project = Project::open()?;
    let mut log = project.log("bench")?;
    debian::ensure(&mut log, &[("wrk", "wrk"), ("setpriv", "util-linux")])?;
    let bin = python::ensure(&project, &mut log)?;
    let bao = python::bao(&bin)?;
    let daypass = release(&project, &mut log)?;
    let sandbox = Sandbox::start(&project, &daypass)?;
    println!("| workload | connections | req/s | p50 | p99 | CPU µs per request | peer: req/s | p99 | CPU µs | ratio of CPU | of req/s |");
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let ours = Target::daypass(&project, &daypass, &sandbox.environment)?;
    let theirs = Target::bao(&project, &bao)?;
    let idle = (ours.memory()?, theirs.memory()?);
    ours.fill(KEYS)?;
    theirs.fill(KEYS)?;
    for (workload, connections) in plan() {
        let mine = load::run(&mut log, &ours, &workload, connections, seconds)?;
        // The AWS engine is a plugin of its own there, and not to be had.
        let other = if workload.mints { None } else { Some(load::run(&mut log, &theirs, &workload, connections, seconds)?) };
        row(&workload, connections, &mine, other.as_ref());
    }
    println!("\n| figure | daypass | peer |\n|---|---|---|");
    println!("| RSS, idle | {} MB | {} MB |", idle.0, idle.1);
    println!("| RSS, after the load | {} MB | {} MB |", ours.memory()?, theirs.memory()?);
    drop((ours, theirs));
    let start = |subject: &Subject| median(11, || peer::time_to_answer(&project, subject));
    let first = start(&Subject::Daypass(daypass.clone()))?;
    let other = start(&Subject::Bao(bao.clone()))?;
    println!("| exec to the first healthy answer, -dev | {first} ms | {other} ms |");
    println!("| binary | {} MB | {} MB |", megabytes(&daypass)?, megabytes(&bao)?);
    Ok(())
}

/// Each workload at one connection, where waiting shows, and at 64, where work shows.
fn plan() -> Vec<(Workload, u32)> {
    let mut plan = Vec::new();
    for workload in load::all(KEYS) {
        plan.push((workload.clone(), 1));
        plan.push((workload, 64));
    }
    plan
}

fn row(workload: &Workload, connections: u32, ours: &Figures, theirs: Option<&Figures>) {
    let mine = format!("{:.0} | {} | {} | {:.1}", ours.rate, ours.p50, ours.p99, ours.cpu);
    let other = theirs.map_or_else(
        || " | | | | ".to_owned(),
        |t| format!("{:.0} | {} | {:.1} | {:.1}x | {:.1}x", t.rate, t.p99, t.cpu, t.cpu / ours.cpu, ours.rate / t.rate),
    );
    println!("| {} | {connections} | {mine} | {other} |", workload.name);
}

/// The binary as it is shipped.
fn release(project: &Project, log: &mut Log) -> Result<std::path::PathBuf, String> {
    if let Some(path) = std::env::var_os("DAYPASS_BIN") {
        return Ok(path.into());
    }
    log.step("building the binary as it is shipped (link-time optimisation takes some minutes)");
    log.run(cargo().current_dir(&project.root).args(["build", "--profile=dist", "--package=daypass", "--locked"]))?;
    Ok(project.target.join("dist/daypass"))
}

fn median(times: usize, mut measure: impl FnMut() -> Result<u128, String>) -> Result<u128, String> {
    let mut all = (0..times).map(|_| measure()).collect::<Result<Vec<_>, _>>()?;
    all.sort_unstable();
    all.get(times / 2).copied().ok_or_else(|| "nothing measured".to_owned())
}

fn megabytes(path: &Path) -> Result<u64, String> {
    std::fs::metadata(path).map(|m| m.len() / 1_000_000).map_err(|e| format!("{}: {e}", path.display()))
}

/// The fake AWS in a process of its own, so that its work is not counted as the server's.
struct Sandbox {
    child: Child,
    /// What makes a program take it for AWS.
    environment: Vec<(String, String)>,
}

impl Sandbox {
    fn start(project: &Project, daypass: &Path) -> Result<Self, String> {
        let address = SocketAddr::from(([127, 0, 0, 1], http::free_port()?));
        let mut log = project.log("bench/sandbox")?;
        let child = log.spawn(Command::new(daypass).arg("sandbox").arg(format!("-listen={address}")))?;
        let mut sandbox = Self { child, environment: Vec::new() };
        let began = Instant::now();
        while http::request(address, "GET", "/_sandbox/health", &[], "").is_err() {
            if began.elapsed() > Duration::from_secs(10) {
                return Err(format!("the sandbox did not answer; see {}", log.path().display()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let text = std::fs::read_to_string(log.path()).map_err(|e| e.to_string())?;
        let exports = text.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        sandbox.environment = exports.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())).collect();
        Ok(sandbox)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        end_tree(&mut self.child);
    }
}
