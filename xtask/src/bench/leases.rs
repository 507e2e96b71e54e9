//! What a long history costs: a server with many live tokens, each of which is a lease, is filled, killed, started again and emptied.

use super::load::{self, Workload};
use super::peer::Target;
use crate::process::{Log, describe};
use crate::project::Project;
use crate::soak::{self, Found};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// At these sizes the cost of an operation is taken.
const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];
/// Up to this size the store is filled by one connection.
const SMALL: u64 = 10_000;
/// How much dearer an operation may be at the largest size than at the smallest.
const DEARER_MAX: f64 = 1.3;
/// The figures of the last run, from which a plot is drawn.
const FILE: &str = "bench/leases.json";
/// How much more memory a snapshot may take, in MB: pages of the store that pass by, whatever its size.
const SNAPSHOT_MAX: f64 = 64.0;
/// From kill -9 to the first answer to a token.
const START_MAX: Duration = Duration::from_millis(100);

/// Fills up to a million, or up to `DAYPASS_LEASES`.
pub(crate) fn run(project: &Project, log: &mut Log, binary: &Path) -> Result<Found, String> {
    super::tools(log)?;
    let most = soak::number("DAYPASS_LEASES", 1_000_000);
    let mut sizes: Vec<u64> = SIZES.into_iter().filter(|size| *size < most).collect();
    sizes.push(most);
    let mut target = Target::with_root(project, "leases", binary)?;
    let (create, look_up) = (Workload::token_create(), Workload::look_up());
    let (mut stored, mut figures, mut costs, mut checks, mut drawn) = (0, Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for size in sizes {
        while stored < size {
            // Few connections where many would fill the store far beyond a small size.
            let (connections, seconds) = if size > SMALL { (64, 5.min(1 + (size - stored) / 30_000)) } else { (1, 1) };
            let made = load::run(log, &target, &create, connections, seconds)?;
            stored += made.total;
            println!("        {stored} of {size} tokens, {:.0} a second", made.rate);
        }
        let looked = load::run(log, &target, &look_up, 64, 3)?;
        let disk = target.store_bytes()?;
        let start = target.kill_and_start()?;
        let memory = target.memory()?;
        let made = load::run(log, &target, &create, 64, 2)?;
        let line = format!(
            "{stored} tokens: create {:.0} µs CPU, lookup-self {:.0} µs, {} bytes of disk each, kill -9 to first answer {} ms, RSS then {memory} MB",
            made.cpu,
            looked.cpu,
            disk / stored.max(1),
            start.as_millis(),
        );
        println!("        {line}");
        figures.push(line);
        drawn.push(json!({
            "tokens": stored, "create": made.cpu.round(), "lookup": looked.cpu.round(), "disk": disk / stored.max(1),
            "start_ms": start.as_millis(), "rss_mb": memory,
        }));
        stored += made.total;
        costs.push((made.cpu, looked.cpu));
        checks.push(start <= START_MAX);
    }
    if let (Some(first), Some(last)) = (costs.first(), costs.last()) {
        checks.extend([last.0 <= first.0 * DEARER_MAX, last.1 <= first.1 * DEARER_MAX]);
    }
    let (line, light) = snapshots(project, log, &target, binary)?;
    println!("        {line}");
    figures.push(line);
    checks.push(light);
    let (refused, gone) = empty(&target)?;
    figures.push(format!(
        "revoke-prefix of all: answered and refused after {} ms, gone after {:.1} s",
        refused.as_millis(),
        gone.as_secs_f64()
    ));
    let after = target.memory()?;
    figures.push(format!("RSS after that {after} MB, file {} MB", target.store_bytes()? / 1_000_000));
    let text = serde_json::to_string_pretty(&json!({"sizes": drawn, "revoked_in_s": gone.as_secs_f64()})).map_err(|e| e.to_string())?;
    std::fs::write(project.root.join(FILE), text + "\n").map_err(|e| format!("{FILE}: {e}"))?;
    super::plot(project, log)?;
    Ok(Found::judged(&checks, figures))
}

/// A snapshot of all that into a file and back into the server. What it took, and whether memory stayed as it was.
fn snapshots(project: &Project, log: &mut Log, target: &Target, binary: &Path) -> Result<(String, bool), String> {
    let file = project.work.join("bench-leases.snap");
    let path = file.to_string_lossy();
    let before = target.memory()?;
    let mut operator = |words: &[&str]| watched(log, target, Command::new(binary).arg("operator").args(words));
    let (saved, saving) = operator(&["snapshot", "save", &path])?;
    let bytes = std::fs::metadata(&file).map_err(|e| format!("{path}: {e}"))?.len();
    let (restored, restoring) = operator(&["snapshot", "restore", &path])?;
    operator(&["revocation", "resume"])?;
    std::fs::remove_file(&file).map_err(|e| format!("{path}: {e}"))?;
    let line = format!(
        "snapshot of {} MB saved and verified in {:.1} s, RSS at most {saving} MB; verified and restored in {:.1} s, RSS at most {restoring} MB",
        bytes / 1_000_000,
        saved.as_secs_f64(),
        restored.as_secs_f64()
    );
    Ok((line, saving.max(restoring) <= before + SNAPSHOT_MAX))
}

/// Runs a command of ours against the server. How long it took, and the most memory that the server had meanwhile.
fn watched(log: &mut Log, target: &Target, command: &mut Command) -> Result<(Duration, f64), String> {
    let (began, mut most) = (Instant::now(), target.memory()?);
    command.env("VAULT_ADDR", format!("http://{}", target.address)).env("VAULT_TOKEN", &target.token);
    let mut child = log.spawn(command)?;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            break status;
        }
        most = most.max(target.memory()?);
        std::thread::sleep(Duration::from_millis(20));
    };
    if status.success() { Ok((began.elapsed(), most)) } else { Err(format!("{}; see {}", describe(command), log.path().display())) }
}

/// Revokes all of them. How long until the answer, and until the last is gone.
fn empty(target: &Target) -> Result<(Duration, Duration), String> {
    let began = Instant::now();
    let victim = target.new_token()?;
    let asked = Instant::now();
    target.revoke_all_tokens()?;
    let answered = asked.elapsed();
    if target.is_good(&victim) {
        return Err("a token below the prefix is still good after the answer".to_owned());
    }
    let mut said = Instant::now();
    while let Some(done) = target.revoking()? {
        if said.elapsed() > Duration::from_secs(5) {
            println!("        {done} revoked");
            said = Instant::now();
        }
        if began.elapsed() > Duration::from_hours(2) {
            return Err(format!("after two hours {done} are revoked"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok((answered, asked.elapsed()))
}
