//! Rust programs that stand outside our workspace, so that their dependencies never mix with ours.

use super::unreachable;
use crate::process::Log;
use crate::project::{Project, cargo};
use std::path::{Path, PathBuf};

/// Builds the package in `source` as its lock file says, below `target/xtask/<name>`.
pub(crate) fn build(project: &Project, log: &mut Log, source: &Path, name: &str) -> Result<PathBuf, String> {
    let folder = project.work.join(name);
    if !folder.join("debug").join(name).is_file() {
        log.step(&format!("building {name} with its own dependencies (some minutes the first time)"));
    }
    let mut build = cargo();
    build.args(["build", "--locked", "--target-dir"]).arg(&folder).arg("--manifest-path").arg(source.join("Cargo.toml"));
    build.current_dir(source);
    log.run(&mut build).map_err(|e| unreachable(name, "crates.io", &e))?;
    Ok(folder.join("debug").join(name))
}
