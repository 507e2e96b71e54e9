//! Go programs of this repository, built with modules from the Go module proxy.

use super::{debian, unreachable};
use crate::process::Log;
use crate::project::Project;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the module in `source` (relative to the root) as `target/xtask/<folder>/<name>`.
pub(crate) fn build(project: &Project, log: &mut Log, source: &Path, folder: &str, name: &str) -> Result<PathBuf, String> {
    debian::ensure(log, &[("go", "golang-go")])?;
    let output = project.work.join(folder).join(name);
    let mut go = Command::new("go");
    // The go.sum beside the source decides; nothing may be changed on the way. No newer toolchain is fetched either.
    go.current_dir(source)
        .args(["build", "-mod=readonly", "-trimpath", "-o"])
        .arg(&output)
        .arg(".")
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "");
    log.run(&mut go).map_err(|e| unreachable(&format!("the Go modules of {name}"), "the Go module proxy", &e))?;
    Ok(output)
}

/// Installs a program of somebody else into `target/xtask/<folder>`.
pub(crate) fn install(project: &Project, log: &mut Log, module: &str, folder: &str) -> Result<(), String> {
    debian::ensure(log, &[("go", "golang-go")])?;
    let folder = project.work.join(folder);
    if folder.is_dir() {
        return Ok(());
    }
    let mut go = Command::new("go");
    go.args(["install", module]).env("GOBIN", &folder).env("GOTOOLCHAIN", "local").env("GOFLAGS", "");
    log.run(&mut go).map_err(|e| unreachable(module, "the Go module proxy", &e))?;
    Ok(())
}
