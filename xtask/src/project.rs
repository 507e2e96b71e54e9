//! Where things are: the repository, cargo's target directory, and our own folder below it.

use crate::process::Log;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The repository that this tool was built from.
pub(crate) struct Project {
    /// The folder of the root manifest.
    pub(crate) root: PathBuf,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
    /// Ours below it: logs, the Python environment, clients.
    pub(crate) work: PathBuf,
    /// What `cargo metadata` said.
    pub(crate) metadata: serde_json::Value,
    binary: OnceLock<PathBuf>,
}

impl Project {
    pub(crate) fn open() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask lies in no folder")?.to_path_buf();
        let output = cargo()
            .current_dir(&root)
            .args(["metadata", "--format-version=1", "--no-deps"])
            .output()
            .map_err(|e| format!("cargo metadata did not start: {e}"))?;
        if !output.status.success() {
            return Err(format!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr)));
        }
        let metadata: serde_json::Value =
            serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata printed no JSON: {e}"))?;
        let target = metadata
            .get("target_directory")
            .and_then(|t| t.as_str())
            .map(PathBuf::from)
            .ok_or("cargo metadata names no target directory")?;
        let work = target.join("xtask");
        std::fs::create_dir_all(work.join("logs")).map_err(|e| format!("cannot make {}: {e}", work.display()))?;
        Ok(Self { root, target, work, metadata, binary: OnceLock::new() })
    }

    /// A log of that name below `target/xtask/logs`.
    pub(crate) fn log(&self, name: &str) -> Result<Log, String> {
        Log::create(&self.work.join("logs").join(format!("{}.log", name.replace('/', "-"))), name)
    }

    /// The daypass binary: the one that `DAYPASS_BIN` names, else a debug build of this tree, built once.
    pub(crate) fn daypass(&self, log: &mut Log) -> Result<PathBuf, String> {
        if let Some(path) = self.binary.get() {
            return Ok(path.clone());
        }
        let path = if let Some(path) = std::env::var_os("DAYPASS_BIN") {
            let path = PathBuf::from(path);
            path.canonicalize().map_err(|e| format!("DAYPASS_BIN names {}: {e}", path.display()))?
        } else {
            log.step("building the daypass binary");
            log.run(cargo().current_dir(&self.root).args(["build", "--package=daypass"]))?;
            self.target.join("debug/daypass")
        };
        Ok(self.binary.get_or_init(|| path).clone())
    }

    /// A folder that lies outside the repository: named by a variable, else beside the checkout.
    pub(crate) fn beside(&self, variable: &str, name: &str) -> Option<PathBuf> {
        let path = std::env::var_os(variable).map_or_else(|| self.root.join("../shared").join(name), PathBuf::from);
        path.canonicalize().ok()
    }

    pub(crate) fn read(&self, path: &str) -> Result<String, String> {
        std::fs::read_to_string(self.root.join(path)).map_err(|e| format!("{path}: {e}"))
    }
}

/// The cargo that runs us, so that a pinned toolchain stays pinned.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
