//! `cargo xtask dist`: the binary as it is shipped.
//!
//! It is built twice. First with counters: that binary serves every load of the bench for a moment. Then again, laid out by what was counted
//! (LLVM's profile-guided optimisation): what runs often is made fast, the rest is made small, and what was run at all lies together.
//! `cargo build --profile dist` builds the same program without that.

use crate::bench;
use crate::install::rust;
use crate::process::Log;
use crate::project::{Project, cargo};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Parts of a function that were never run lie apart from those that were, so that fewer pages are touched.
const SPLIT: [&str; 2] = ["-Cllvm-args=-enable-split-machine-functions", "-Cllvm-args=-mfs-psi-cutoff=0"];
/// What every count is multiplied by. The compiler reckons with parts of a count, and part of the one time that a start runs something would be
/// no time at all.
const WEIGHT: u32 = 1000;
/// Where the toolchain links with its own LLD, which takes an order.
const ORDERED: &str = "x86_64-unknown-linux-gnu";

pub(crate) fn main() -> Result<(), String> {
    let project = Project::open()?;
    let mut log = project.log("dist")?;
    let binary = build(&project, &mut log)?;
    println!("{}", binary.display());
    Ok(())
}

/// Builds it, and says where it is. What was counted is kept until the binary that counts changes.
pub(crate) fn build(project: &Project, log: &mut Log) -> Result<PathBuf, String> {
    log.limit(Duration::from_hours(1));
    let profdata = rust::tool(project, log, "llvm-tools", "llvm-profdata")?;
    let folder = project.work.join("profile");
    let (counts, profile, order) = (folder.join("counts"), folder.join("daypass.profdata"), folder.join("order.txt"));
    log.step("building a binary that counts what it runs (some minutes)");
    let counting = compile(project, log, &folder.join("build"), &[format!("-Cprofile-generate={}", counts.display())])?;
    if changed(&order) <= changed(&counting) {
        if counts.exists() {
            std::fs::remove_dir_all(&counts).map_err(|e| format!("{}: {e}", counts.display()))?;
        }
        log.step("serving every load of the bench with it for a moment");
        bench::train(project, log, &counting)?;
        let weighted = format!("-weighted-input={WEIGHT},{}", counts.display());
        log.run(Command::new(&profdata).args(["merge", &weighted, "-o"]).arg(&profile))?;
        std::fs::write(&order, counted(&profdata, &profile)?).map_err(|e| format!("{}: {e}", order.display()))?;
    }
    log.step("building the binary as it is shipped, laid out by what was counted (some minutes)");
    let mut flags = vec![format!("-Cprofile-use={}", profile.display())];
    flags.extend(SPLIT.map(str::to_owned));
    if rust::host(project)? == ORDERED {
        let arguments = ["--no-warn-symbol-ordering".to_owned(), format!("--symbol-ordering-file={}", order.display())];
        flags.extend(arguments.into_iter().flat_map(|argument| ["-Clink-arg=-Xlinker".to_owned(), format!("-Clink-arg={argument}")]));
    }
    compile(project, log, &project.target, &flags)
}

/// With these flags for the compiler. A target is named so that build scripts are spared it.
fn compile(project: &Project, log: &mut Log, folder: &Path, flags: &[String]) -> Result<PathBuf, String> {
    let host = rust::host(project)?;
    let mut build = cargo();
    build.current_dir(&project.root).args(["build", "--profile=dist", "--package=daypass", "--locked", "--target", &host, "--target-dir"]);
    log.run(build.arg(folder).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}")))?;
    Ok(folder.join(host).join("dist/daypass"))
}

/// The functions that were run, as the linker is told them.
fn counted(profdata: &Path, profile: &Path) -> Result<String, String> {
    let shown = Command::new(profdata).args(["show", "--all-functions", "--counts"]).arg(profile).output();
    let shown = shown.map_err(|e| format!("{} did not start: {e}", profdata.display()))?;
    let order = run_most_first(&String::from_utf8_lossy(&shown.stdout));
    if order.is_empty() {
        return Err(format!("{} names no function that was run: {}", profile.display(), String::from_utf8_lossy(&shown.stderr)));
    }
    Ok(order)
}

/// Symbols of the functions that were run, one in a line, those first of which a part was run most often. What runs once at the start lies together
/// at the end.
fn run_most_first(shown: &str) -> String {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    let mut name = "";
    for line in shown.lines() {
        let inner = line.trim_start();
        match line.len() - inner.len() {
            // A name that is known in one file of code only follows the name of that file.
            2 => name = inner.strip_suffix(':').unwrap_or(inner).rsplit(';').next().unwrap_or_default(),
            4 if inner.starts_with("Block counts") || inner.starts_with("Function count") => {
                let most = inner.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).max().unwrap_or(0);
                let known = counts.entry(name).or_default();
                *known = most.max(*known);
            }
            _ => {}
        }
    }
    let mut run: Vec<(&str, u64)> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
    run.sort_by(|(one, much), (other, more)| more.cmp(much).then(one.cmp(other)));
    run.into_iter().map(|(name, _)| format!("{name}\n")).collect()
}

/// When it was written; long ago, when it is not there.
fn changed(path: &Path) -> SystemTime {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_were_run_are_ordered_by_how_often() {
        let shown = "Counters:\n  a.rs;_once:\n    Hash: 0x1\n    Counters: 2\n    Block counts: [1, 0]\n  _never:\n    Hash: 0x2\n    Counters: 1\n    \
                     Block counts: [0]\n  _often:\n    Hash: 0x3\n    Counters: 2\n    Block counts: [3, 5000]\n  b.rs;_once:\n    Counters: 1\n    \
                     Function count: 2\nInstrumentation level: IR  entry_first = 0\n";
        assert_eq!(run_most_first(shown), "_often\n_once\n");
    }
}
