//! Rust programs that stand outside our workspace, so that their dependencies never mix with ours, and programs of the toolchain.

use super::unreachable;
use crate::process::Log;
use crate::project::{Project, cargo};
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// A program of a component of the pinned toolchain, which rustup adds where it is missing.
pub(crate) fn tool(project: &Project, log: &mut Log, component: &str, program: &str) -> Result<PathBuf, String> {
    let sysroot = rustc(project, &["--print=sysroot"])?;
    let path = Path::new(sysroot.trim()).join("lib/rustlib").join(host(project)?).join("bin").join(program);
    if !path.is_file() {
        log.step(&format!("adding {component} to the toolchain"));
        let add = log.run(Command::new("rustup").current_dir(&project.root).args(["component", "add", component]));
        add.map_err(|e| unreachable(component, "Rust's distribution server", &e))?;
    }
    if path.is_file() { Ok(path) } else { Err(format!("{component} has no {program}; it was expected at {}", path.display())) }
}

/// What the compiler builds for when nothing else is said.
pub(crate) fn host(project: &Project) -> Result<String, String> {
    rustc(project, &["-vV"])?
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(|host| host.trim().to_owned())
        .ok_or_else(|| "rustc -vV names no host".to_owned())
}

fn rustc(project: &Project, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("rustc").current_dir(&project.root).args(arguments).output();
    let output = output.map_err(|e| format!("rustc did not start: {e}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
