//! The stages about the code itself: formatting, lints, our rules, tests, documentation.

use super::{Tally, Verdict};
use crate::install::go;
use crate::process::Log;
use crate::project::{Project, cargo};

const ONE: Verdict = Verdict::Ran(Tally { passed: 1, failed: 0 });

pub(super) fn fmt(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let hint = |e| format!("{e}\n        hint: cargo fmt --all");
    log.run(cargo().current_dir(&project.root).args(["fmt", "--all", "--", "--check", "--color=never"])).map_err(hint)?;
    Ok(ONE)
}

pub(super) fn tidy(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let findings = crate::tidy::check(project)?;
    for finding in &findings {
        println!("        {finding}");
        log.note(finding);
    }
    Ok(Verdict::Ran(Tally { passed: usize::from(findings.is_empty()), failed: findings.len() }))
}

pub(super) fn clippy(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    log.run(cargo().current_dir(&project.root).args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    Ok(ONE)
}

/// All tests of the workspace. Go programs stand beside them as oracles: they hold the code that ours must agree with.
pub(super) fn units(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let folder = project.root.join("tests/oracle");
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        if entry.path().join("go.mod").is_file() {
            let name = format!("{}-oracle", entry.file_name().to_string_lossy());
            log.step(&format!("building {name}"));
            go::build(project, log, &entry.path(), "oracles", &name)?;
        }
    }
    log.step("building and running the tests");
    let mut tests = cargo();
    tests.current_dir(&project.root).args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    tests.env("DAYPASS_ORACLES", project.work.join("oracles"));
    let (status, text) = log.finish(&mut tests)?;
    let mut tally = Tally::read(&text);
    for line in text.lines().filter(|l| l.starts_with("test ") && l.ends_with("... FAILED") || l.starts_with("error")) {
        println!("        {line}");
    }
    if !status.success() && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(Verdict::Ran(tally))
}

pub(super) fn doc(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let mut doc = cargo();
    doc.current_dir(&project.root)
        .args(["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"])
        .env("RUSTDOCFLAGS", "-D warnings");
    log.run(&mut doc)?;
    Ok(ONE)
}
