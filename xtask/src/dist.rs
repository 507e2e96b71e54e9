//! `cargo xtask dist`: the binary as it is shipped.
//!
//! It is built twice. First with counters: that binary serves every load of the bench for a moment. Then again, laid out by what was counted
//! (LLVM's profile-guided optimisation): what runs often is made fast and lies together, the rest is made small. `cargo build --profile dist`
//! builds the same program without that.

use crate::bench;
use crate::install::rust;
use crate::process::Log;
use crate::project::{Project, cargo};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Parts of a function that were not run lie apart from those that were, and functions that were not run apart from the others: fewer pages
/// are touched.
const LAYOUT: &str = "-Cllvm-args=-enable-split-machine-functions -Clink-arg=-Wl,-z,keep-text-section-prefix";

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
    let (counts, profile) = (folder.join("counts"), folder.join("daypass.profdata"));
    log.step("building a binary that counts what it runs (some minutes)");
    let counting = compile(project, log, &folder.join("build"), &format!("-Cprofile-generate={}", counts.display()))?;
    if changed(&profile) <= changed(&counting) {
        if counts.exists() {
            std::fs::remove_dir_all(&counts).map_err(|e| format!("{}: {e}", counts.display()))?;
        }
        log.step("serving every load of the bench with it for a moment");
        bench::train(project, log, &counting)?;
        log.run(Command::new(profdata).arg("merge").arg("-o").arg(&profile).arg(&counts))?;
    }
    log.step("building the binary as it is shipped, laid out by what was counted (some minutes)");
    compile(project, log, &project.target, &format!("-Cprofile-use={} {LAYOUT}", profile.display()))
}

/// With these flags for the compiler. A target is named so that build scripts are spared it.
fn compile(project: &Project, log: &mut Log, folder: &Path, flags: &str) -> Result<PathBuf, String> {
    let host = rust::host(project)?;
    let mut build = cargo();
    build.current_dir(&project.root).args(["build", "--profile=dist", "--package=daypass", "--locked", "--target", &host, "--target-dir"]);
    log.run(build.arg(folder).env("RUSTFLAGS", flags))?;
    Ok(folder.join(host).join("dist/daypass"))
}

/// When it was written; long ago, when it is not there.
fn changed(path: &Path) -> SystemTime {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}
