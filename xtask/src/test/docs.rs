//! Every command of the pages is run, and the recipes for build servers as those would run them: see tests/docs/run.py and tests/docs/ci.py.

use super::{Tally, Verdict};
use crate::install::python;
use crate::process::Log;
use crate::project::Project;
use std::process::Command;
use std::time::Duration;

pub(super) fn run(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let bin = python::ensure(project, log)?;
    let binary = project.daypass(log)?;
    log.step("the commands of docs/aws.md, docs/pipelines.md, README.md and docs/operations.md, each page on a server of its own");
    log.limit(Duration::from_mins(5));
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(bin.clone()).chain(std::env::split_paths(&inherited));
    let path = std::env::join_paths(path).map_err(|e| format!("PATH: {e}"))?;
    let mut runner = Command::new(bin.join("python"));
    runner.current_dir(&project.root).args([
        "-B",
        "tests/docs/run.py",
        "docs/aws.md",
        "docs/pipelines.md",
        "--part",
        "Try it by hand",
        "README.md",
        "docs/operations.md",
    ]);
    let (status, text) = log.finish(runner.env("DAYPASS_BIN", binary).env("PATH", path))?;
    let mut tally = Tally::read(&text);
    for line in text.lines().filter(|line| line.starts_with("FAIL")) {
        println!("        {line}");
    }
    if !status.success() && tally.failed == 0 {
        tally.failed = 1;
        println!("{}", crate::process::last_lines(&text, 25));
    }
    Ok(Verdict::Ran(tally))
}
