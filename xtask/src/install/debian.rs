//! Programs from Debian's packages, by `apt-get`, as root.

use crate::process::{Log, on_path};
use std::process::Command;

/// A program and the package that brings it.
pub(crate) type Wanted = (&'static str, &'static str);

/// Installs the packages of those programs that are not there yet.
pub(crate) fn ensure(log: &mut Log, wanted: &[Wanted]) -> Result<(), String> {
    let missing: Vec<&str> = wanted.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { install(log, &missing) }
}

/// Installs packages, there or not.
pub(crate) fn install(log: &mut Log, packages: &[&str]) -> Result<(), String> {
    let list = packages.join(" ");
    if !on_path("apt-get") {
        return Err(format!("these programs are missing, and there is no apt-get to bring them: {list}. Install them by hand"));
    }
    log.step(&format!("installing Debian packages: {list}"));
    // No service may start: RUNLEVEL=1 keeps the packages from starting theirs.
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-y", "-q", "-o", "DPkg::Lock::Timeout=120"]).args(arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
        command
    };
    let hint = |e: String| {
        let error = super::unreachable(&list, "Debian's packages", &e);
        format!("{error}\n        By hand, as root: apt-get update && apt-get install --no-install-recommends {list}")
    };
    log.run(&mut apt(&["update"])).map_err(hint)?;
    log.run(apt(&["install", "--no-install-recommends"]).args(packages)).map_err(hint)?;
    Ok(())
}
