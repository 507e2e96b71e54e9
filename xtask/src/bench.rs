//! `cargo xtask bench`: the figures of bench/README.md, measured on this machine in one run, beside a peer where one can be
//! installed. What counts is the ratio: absolute figures change with the machine and with its mood.

pub(crate) mod expiry;
pub(crate) mod instructions;
pub(crate) mod leases;
mod load;
pub(crate) mod logins;
mod peer;
mod results;
mod standin;
pub(crate) mod steady;

use crate::dist;
use crate::http;
use crate::install::{debian, python};
use crate::process::{Log, end_tree};
use crate::project::Project;
use load::Workload;
use peer::{Subject, Target};
use results::{Results, Row};
use standin::StandIns;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// KV secrets that are read at random.
const KEYS: u32 = 10_000;

/// Connections at once while what runs often is counted.
const TRAINING: u32 = 16;

/// How long the slow stand-in for STS takes.
const STS_TAKES: Duration = Duration::from_millis(20);

/// What the command line asks for.
struct Wanted<'a> {
    seconds: u64,
    rounds: usize,
    /// Only workloads with this in their names, and no peer; nothing is compared or kept.
    only: Option<&'a str>,
    /// What has become worse is no failure, and the result takes the place of the committed one.
    accept: bool,
}

impl<'a> Wanted<'a> {
    fn read(arguments: &[&'a str]) -> Result<Self, String> {
        let mut wanted = Self { seconds: 4, rounds: 3, only: None, accept: false };
        for argument in arguments {
            match argument.split_once('=') {
                None if *argument == "--quick" => (wanted.seconds, wanted.rounds) = (1, 1),
                None if *argument == "--accept" => wanted.accept = true,
                Some(("--only", word)) => wanted.only = Some(word),
                _ => return Err(format!("cargo xtask bench has no option {argument}: --quick, --only=WORD, --accept, or `instructions`")),
            }
        }
        Ok(wanted)
    }
}

pub(crate) fn main(arguments: &[&str]) -> Result<(), String> {
    if let Some((&"instructions", rest)) = arguments.split_first() {
        return instructions::main(rest);
    }
    let wanted = Wanted::read(arguments)?;
    let project = Project::open()?;
    let mut log = project.log("bench")?;
    tools(&mut log)?;
    let bao = match wanted.only {
        Some(_) => None,
        None => Some(python::bao(&python::ensure(&project, &mut log)?)?),
    };
    let daypass = release(&project, &mut log)?;
    let results = measure(&project, &mut log, &wanted, &daypass, bao.as_deref())?;
    results.print();
    if wanted.only.is_some() {
        return Ok(());
    }
    let worse = results.worse_than(&results::last(&project));
    for line in &worse {
        println!("worse: {line}");
    }
    if !worse.is_empty() && !wanted.accept {
        return Err(format!("{} figures are more than a tenth worse than {}; --accept takes them", worse.len(), results::FILE));
    }
    if wanted.accept {
        let text = serde_json::to_string_pretty(&results.to_json()).map_err(|e| e.to_string())?;
        std::fs::write(project.root.join(results::FILE), text + "\n").map_err(|e| format!("{}: {e}", results::FILE))?;
        plot(&project, &mut log)?;
    }
    Ok(())
}

fn measure(project: &Project, log: &mut Log, wanted: &Wanted<'_>, daypass: &Path, bao: Option<&Path>) -> Result<Results, String> {
    let sandbox = Sandbox::start(project, daypass)?;
    let standins = StandIns::start(project, STS_TAKES)?;
    let ours = Target::daypass(project, daypass, &sandbox.environment, &standins)?;
    let theirs = bao.map(|bao| Target::bao(project, bao)).transpose()?;
    let of_both = |figure: fn(&Target) -> Result<f64, String>| Ok::<_, String>((figure(&ours)?, theirs.as_ref().map(figure).transpose()?));
    let mut results = Results::default();
    let mut note = |name: &str, (mine, other): (f64, Option<f64>)| results.figures.push((name.to_owned(), mine, other));
    note("RSS, idle, MB", of_both(Target::memory)?);
    ours.fill(KEYS)?;
    theirs.as_ref().map(|theirs| theirs.fill(KEYS)).transpose()?;
    // At rest: what a load took for itself has been given back by then.
    std::thread::sleep(Duration::from_secs(5));
    note("RSS, 10 k secrets, MB", of_both(Target::memory)?);
    note("RSS of 1,000 idle connections, MB", of_both(idle_connections)?);
    let chosen = |workload: &Workload| wanted.only.is_none_or(|word| workload.name.contains(word));
    for workload in load::all(KEYS).into_iter().filter(chosen) {
        for connections in workload.connections.iter().copied() {
            results.workloads.extend(rounds(log, wanted, (&ours, theirs.as_ref()), &workload, connections, standins.slow)?);
        }
    }
    let mut note = |name: &str, (mine, other): (f64, Option<f64>)| results.figures.push((name.to_owned(), mine, other));
    note("RSS, after the load, MB", of_both(Target::memory)?);
    if wanted.only.is_none() {
        ours.audit_to_file()?;
        let looked = load::run(log, &ours, &Workload::look_up(), 64, wanted.seconds)?;
        note("token lookup-self at 64 with an audit file, CPU µs", (looked.cpu.round(), None));
    }
    drop((ours, theirs));
    let Some(bao) = bao else { return Ok(results) };
    let start = |subject: &Subject| median(11, || peer::time_to_answer(project, subject));
    let mine = start(&Subject::Daypass(daypass.to_owned()))?;
    let other = start(&Subject::Bao(bao.to_owned()))?;
    let mut note = |name: &str, (mine, other): (f64, Option<f64>)| results.figures.push((name.to_owned(), mine, other));
    note("exec to the first healthy answer of a -dev server, ms", (mine, Some(other)));
    note("binary, MB", (megabytes(daypass)?, Some(megabytes(bao)?)));
    Ok(results)
}

/// One workload at one number of connections, ours and the peer's in turns; and what stands behind it, where something slow does.
fn rounds(
    log: &mut Log,
    wanted: &Wanted<'_>,
    (ours, theirs): (&Target, Option<&Target>),
    workload: &Workload,
    connections: u32,
    slow: SocketAddr,
) -> Result<Vec<Row>, String> {
    let (mut mine, mut others, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..wanted.rounds {
        mine.push(load::run(log, ours, workload, connections, wanted.seconds)?);
        // The AWS engine is a plugin of its own there, and not to be had.
        if let Some(theirs) = theirs.filter(|_| !workload.mints) {
            others.push(load::run(log, theirs, workload, connections, wanted.seconds)?);
        }
        if workload.name.starts_with(load::SLOW) {
            bare.push(load::bare(log, &ours.script, slow, (connections, workload.pause), wanted.seconds)?);
        }
    }
    let row = |name: &str, mine: &[load::Figures], others: &[load::Figures]| {
        let ours = results::median(mine)?;
        println!("        {name}, {connections} connections: {:.0} a second, {:.1} µs of CPU", ours.rate, ours.cpu);
        Some(Row { name: name.to_owned(), connections, ours, peer: results::median(others) })
    };
    let behind = format!("the stand-in itself, as asked by {:?}", workload.name);
    Ok([row(workload.name, &mine, &others), row(&behind, &bare, &[])].into_iter().flatten().collect())
}

/// What a thousand connections that say nothing take.
fn idle_connections(target: &Target) -> Result<f64, String> {
    let before = target.memory()?;
    let open = target.connect(1000)?;
    std::thread::sleep(Duration::from_secs(3));
    let with = target.memory()?;
    drop(open);
    Ok(((with - before).max(0.0) * 10.0).round() / 10.0)
}

/// Draws the plots again.
pub(crate) fn plot(project: &Project, log: &mut Log) -> Result<(), String> {
    let bin = python::ensure(project, log)?;
    python::also(project, log, "matplotlib==3.10.7")?;
    let folder = project.root.join("bench");
    log.run(Command::new(bin.join("python")).arg("-B").arg(folder.join("plot.py")).arg(&folder)).map(drop)
}

/// What every measurement needs: a load, a process that dies with its parent, a certificate, TLS in front of a stand-in.
fn tools(log: &mut Log) -> Result<(), String> {
    debian::ensure(log, &[("wrk", "wrk"), ("setpriv", "util-linux"), ("openssl", "openssl"), ("nginx", "nginx-light")])
}

/// The binary as it is shipped.
pub(crate) fn release(project: &Project, log: &mut Log) -> Result<std::path::PathBuf, String> {
    if let Some(path) = std::env::var_os("DAYPASS_BIN") {
        return Ok(path.into());
    }
    dist::build(project, log)
}

/// A -dev server, and every load for a moment, by a binary that counts what it runs. Each ends by itself: it writes down then what it counted.
pub(crate) fn train(project: &Project, log: &mut Log, counting: &Path) -> Result<(), String> {
    tools(log)?;
    peer::time_to_answer(project, &Subject::Daypass(counting.to_owned()))?;
    let sandbox = Sandbox::start(project, counting)?;
    let standins = StandIns::start(project, STS_TAKES)?;
    let target = Target::daypass(project, counting, &sandbox.environment, &standins)?;
    target.fill(KEYS / 10)?;
    let identities = logins::Identities::make(project, log, 10)?;
    target.trust(&identities.key)?;
    let mut loads = load::all(KEYS / 10);
    loads.push(identities.load());
    for workload in &loads {
        load::run(log, &target, workload, TRAINING, 1)?;
    }
    target.audit_to_file()?;
    for workload in loads.iter().filter(|workload| workload.mints || workload.name == Workload::look_up().name) {
        load::run(log, &target, workload, TRAINING, 1)?;
    }
    // The token of the load is one of them.
    target.revoke_all_tokens()?;
    while target.revoking()?.is_some() {
        std::thread::sleep(Duration::from_millis(50));
    }
    target.end()
}

fn median(times: usize, mut measure: impl FnMut() -> Result<f64, String>) -> Result<f64, String> {
    let mut all = (0..times).map(|_| measure()).collect::<Result<Vec<_>, _>>()?;
    all.sort_by(f64::total_cmp);
    all.get(times / 2).copied().ok_or_else(|| "nothing measured".to_owned())
}

#[expect(clippy::cast_precision_loss, reason = "sizes of files")]
fn megabytes(path: &Path) -> Result<f64, String> {
    std::fs::metadata(path).map(|m| (m.len() as f64 / 100_000.0).round() / 10.0).map_err(|e| format!("{}: {e}", path.display()))
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
