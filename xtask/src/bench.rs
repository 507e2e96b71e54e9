//! `cargo xtask bench`: the figures of bench/README.md, measured on this machine in one run, beside a peer where one can be
//! installed. What counts is the ratio: absolute figures change with the machine and with its mood.

pub(crate) mod leases;
mod load;
mod peer;
mod standin;

use crate::http;
use crate::install::{debian, python};
use crate::process::{Log, end_tree};
use crate::project::{Project, cargo};
use load::{Figures, Workload};
use peer::{Subject, Target};
use standin::StandIn;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// KV secrets that are read at random.
const KEYS: u32 = 10_000;

/// How long the slow stand-in for STS takes.
const STS_TAKES: Duration = Duration::from_millis(20);

/// What the command line asks for.
struct Wanted<'a> {
    seconds: u64,
    /// Only workloads with this in their names, and no peer.
    only: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn read(arguments: &[&'a str]) -> Result<Self, String> {
        let mut wanted = Self { seconds: 10, only: None };
        for argument in arguments {
            match argument.split_once('=') {
                None if *argument == "--quick" => wanted.seconds = 1,
                Some(("--only", word)) => wanted.only = Some(word),
                _ => return Err(format!("cargo xtask bench has no option {argument}: --quick, --only=WORD")),
            }
        }
        Ok(wanted)
    }
}

pub(crate) fn main(arguments: &[&str]) -> Result<(), String> {
    let wanted = Wanted::read(arguments)?;
    let project = Project::open()?;
    let mut log = project.log("bench")?;
    debian::ensure(&mut log, &[("wrk", "wrk"), ("setpriv", "util-linux")])?;
    let bao = match wanted.only {
        Some(_) => None,
        None => Some(python::bao(&python::ensure(&project, &mut log)?)?),
    };
    let daypass = release(&project, &mut log)?;
    let sandbox = Sandbox::start(&project, &daypass)?;
    let slow = StandIn::start(STS_TAKES)?;
    println!("| workload | connections | req/s | p50 | p99 | CPU µs per request | peer: req/s | p99 | CPU µs | ratio of CPU | of req/s |");
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let ours = Target::daypass(&project, &daypass, &sandbox.environment, slow.address)?;
    let theirs = bao.as_ref().map(|bao| Target::bao(&project, bao)).transpose()?;
    let idle = (ours.memory()?, theirs.as_ref().map(Target::memory).transpose()?);
    ours.fill(KEYS)?;
    theirs.as_ref().map(|theirs| theirs.fill(KEYS)).transpose()?;
    let chosen = |workload: &Workload| wanted.only.is_none_or(|word| workload.name.contains(word));
    for workload in load::all(KEYS).into_iter().filter(chosen) {
        for connections in workload.connections.iter().copied() {
            let mine = load::run(&mut log, &ours, &workload, connections, wanted.seconds)?;
            // The AWS engine is a plugin of its own there, and not to be had.
            let peer = theirs.as_ref().filter(|_| !workload.mints);
            let other = peer.map(|theirs| load::run(&mut log, theirs, &workload, connections, wanted.seconds)).transpose()?;
            row(workload.name, connections, &mine, other.as_ref());
            if workload.name.starts_with(load::SLOW) {
                let bare = load::bare(&mut log, &ours.script, slow.address, (connections, workload.pause), wanted.seconds)?;
                row("the stand-in itself", connections, &bare, None);
            }
        }
    }
    println!("\n| figure | daypass | peer |\n|---|---|---|");
    let megabytes_or_none = |size: Option<u64>| size.map(|size| format!("{size} MB")).unwrap_or_default();
    println!("| RSS, idle | {} MB | {} |", idle.0, megabytes_or_none(idle.1));
    println!("| RSS, after the load | {} MB | {} |", ours.memory()?, megabytes_or_none(theirs.as_ref().map(Target::memory).transpose()?));
    drop((ours, theirs));
    let Some(bao) = bao else { return Ok(()) };
    let start = |subject: &Subject| median(11, || peer::time_to_answer(&project, subject));
    let first = start(&Subject::Daypass(daypass.clone()))?;
    let other = start(&Subject::Bao(bao.clone()))?;
    println!("| exec to the first healthy answer, -dev | {first} ms | {other} ms |");
    println!("| binary | {} MB | {} MB |", megabytes(&daypass)?, megabytes(&bao)?);
    Ok(())
}

fn row(workload: &str, connections: u32, ours: &Figures, theirs: Option<&Figures>) {
    let mine = format!("{:.0} | {} | {} | {:.1}", ours.rate, ours.p50, ours.p99, ours.cpu);
    let other = theirs.map_or_else(
        || " | | | | ".to_owned(),
        |t| format!("{:.0} | {} | {:.1} | {:.1}x | {:.1}x", t.rate, t.p99, t.cpu, t.cpu / ours.cpu, ours.rate / t.rate),
    );
    println!("| {workload} | {connections} | {mine} | {other} |");
}

/// The binary as it is shipped.
pub(crate) fn release(project: &Project, log: &mut Log) -> Result<std::path::PathBuf, String> {
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
        // It listens before it has said how to reach it.
        while sandbox.environment.is_empty() {
            if began.elapsed() > Duration::from_secs(10) {
                return Err(format!("the sandbox did not say how to reach it; see {}", log.path().display()));
            }
            std::thread::sleep(Duration::from_millis(20));
            let text = std::fs::read_to_string(log.path()).map_err(|e| e.to_string())?;
            let whole = text.rsplit_once('\n').map_or("", |(lines, _unfinished)| lines);
            let exports = whole.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
            sandbox.environment = exports.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())).collect();
        }
        Ok(sandbox)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        end_tree(&mut self.child);
    }
}
