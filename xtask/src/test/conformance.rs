//! The recorded answers of the reference server, replayed against ours. What differs on purpose stands with its reason in
//! `tests/conformance/differences.txt`, exactly: a difference that is gone must leave the list.

use super::{Tally, Verdict};
use crate::http;
use crate::install::python;
use crate::process::{Log, end_tree};
use crate::project::Project;
use crate::server::{ROOT_TOKEN, Server};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const LIST: &str = "tests/conformance/differences.txt";

pub(super) fn run(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let Some(kit) = project.beside("DAYPASS_CONFORMANCE", "conformance") else {
        return Ok(Verdict::Skipped(
            "the recorded answers lie outside this repository; DAYPASS_CONFORMANCE may name their folder".to_owned(),
        ));
    };
    let known = Differences::parse(&project.read(LIST)?)?;
    let bin = python::ensure(project, log)?;
    let binary = project.daypass(log)?;
    let aws = Moto::start(project, &bin, "conformance/moto")?;
    let server = Server::dev(project, &binary, "conformance/server")?;
    let fresh = Server::configured(
        project,
        &binary,
        "conformance/fresh",
        "storage \"inmem\" {}\ndisable_mlock = true\nlistener \"tcp\" {\n  address = \"{address}\"\n  tls_disable = true\n}\n",
    )?;
    let scenarios = list(log, &bin, &kit, &known)?;
    let results = project.work.join("logs/conformance.json");
    log.step(&format!("replaying {} scenarios", scenarios.len()));
    let mut runner = Command::new(bin.join("python"));
    runner.arg("-B").arg(kit.join("run.py")).args(["--quiet", "--token", ROOT_TOKEN]);
    runner.arg("--addr").arg(format!("http://{}", server.address));
    runner.arg("--fresh-addr").arg(format!("http://{}", fresh.address));
    runner.arg("--aws-endpoint").arg(format!("http://{}", aws.address));
    runner.arg("--json").arg(&results);
    for scenario in &scenarios {
        runner.args(["--only", scenario]);
    }
    drop(log.finish(&mut runner)?);
    let text = std::fs::read_to_string(&results).map_err(|e| format!("the runner left no results at {}: {e}", results.display()))?;
    let cases: Value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", results.display()))?;
    Ok(Verdict::Ran(judge(&cases, &known, &scenarios, log)))
}

/// What differs on purpose, or is not there yet.
struct Differences {
    /// Steps, `scenario/NN`, and the reason.
    steps: BTreeMap<String, String>,
    /// Whole scenarios that are not run, and the reason.
    scenarios: BTreeMap<String, String>,
}

impl Differences {
    /// Lines of `step SCENARIO/NN reason` and `scenario NAME reason`; `#` begins a comment.
    fn parse(text: &str) -> Result<Self, String> {
        let mut known = Self { steps: BTreeMap::new(), scenarios: BTreeMap::new() };
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let mut words = line.splitn(3, ' ');
            let (list, name, reason) = match (words.next(), words.next(), words.next()) {
                (Some("step"), Some(step), Some(reason)) if step.contains('/') => (&mut known.steps, step, reason),
                (Some("scenario"), Some(name), Some(reason)) => (&mut known.scenarios, name, reason),
                _ => return Err(format!("{LIST}: `{line}`: write `step SCENARIO/NN reason` or `scenario NAME reason`")),
            };
            list.insert(name.to_owned(), reason.to_owned());
        }
        Ok(known)
    }
}

fn list(log: &mut Log, bin: &Path, kit: &Path, known: &Differences) -> Result<Vec<String>, String> {
    let text = log.run(Command::new(bin.join("python")).arg("-B").arg(kit.join("run.py")).arg("--list"))?;
    let steps = text.lines().filter(|l| l.contains(" steps  ")).filter_map(|l| l.split_whitespace().nth(1));
    let all: BTreeSet<String> = steps.map(str::to_owned).collect();
    if let Some(gone) = known.scenarios.keys().find(|name| !all.contains(*name)) {
        return Err(format!("{LIST}: there is no scenario {gone}: remove the line"));
    }
    Ok(all.into_iter().filter(|name| !known.scenarios.contains_key(name)).collect())
}

/// Each step counts once. A known difference passes; an unknown one fails, and so does a known one that is gone.
fn judge(results: &Value, known: &Differences, scenarios: &[String], log: &mut Log) -> Tally {
    let mut tally = Tally::default();
    let mut unseen: BTreeSet<&String> = known.steps.keys().collect();
    for case in results.get("cases").and_then(Value::as_array).into_iter().flatten() {
        let field = |name: &str| case.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = case.get("step").and_then(Value::as_u64).unwrap_or_default();
        let name = format!("{}/{number:02}", field("scenario"));
        let same = case.get("ok").and_then(Value::as_bool).unwrap_or_default();
        let listed = known.steps.contains_key(&name);
        unseen.remove(&name);
        let complaint = match (same, listed) {
            (true, false) | (false, true) => None,
            (true, true) => Some(format!("{name} differs no more: remove it from {LIST}")),
            (false, false) => Some(format!("{name} {}: differs from the recorded answer", field("title"))),
        };
        if let Some(complaint) = complaint {
            println!("        {complaint}");
            log.note(&complaint);
            tally.failed += 1;
        } else {
            tally.passed += 1;
        }
    }
    for name in unseen.into_iter().filter(|n| scenarios.iter().any(|s| n.rsplit_once('/').is_some_and(|(of, _)| of == s))) {
        println!("        {LIST}: {name} is not a step that was run: remove the line");
        tally.failed += 1;
    }
    tally
}

/// The fake AWS that the answers were recorded with. It checks no signatures, so that nothing but shapes is compared here.
pub(super) struct Moto {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Moto {
    /// Its log goes by `name`.
    pub(super) fn start(project: &Project, bin: &Path, name: &str) -> Result<Self, String> {
        let address = SocketAddr::from(([127, 0, 0, 1], http::free_port()?));
        let mut log = project.log(name)?;
        let mut command = Command::new(bin.join("moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &address.port().to_string()]);
        let moto = Self { child: log.spawn(&mut command)?, address };
        let began = Instant::now();
        while http::request(address, "GET", "/moto-api/", &[], "").is_err() {
            if began.elapsed() > Duration::from_mins(1) {
                return Err(format!("moto did not answer within 60 s; see {}", log.path().display()));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(moto)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        end_tree(&mut self.child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_has_a_reason() {
        let known = Differences::parse("# why\nstep kv1/03 on purpose\nscenario transit-basics not there yet\n").unwrap();
        assert_eq!((known.steps.len(), known.scenarios.len()), (1, 1));
        assert!(Differences::parse("step kv1/03\n").is_err());
        assert!(Differences::parse("scenario transit-basics\n").is_err());
    }
}
