//! Packages from the npm registry, exactly as a committed lock file names them.

use super::{debian, is_stamped, put_stamp, unreachable};
use crate::process::Log;
use crate::project::Project;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder below `target/xtask` that holds `node_modules` for the package.json in `source`.
pub(crate) fn ensure(project: &Project, log: &mut Log, source: &Path, name: &str) -> Result<PathBuf, String> {
    let folder = project.work.join(name);
    let read = |file: &str| std::fs::read_to_string(source.join(file)).map_err(|e| format!("{}: {e}", source.join(file).display()));
    let (package, lock) = (read("package.json")?, read("package-lock.json")?);
    let stamp = folder.join("installed.json");
    if is_stamped(&stamp, &lock) {
        return Ok(folder);
    }
    debian::ensure(log, &[("node", "nodejs"), ("npm", "npm")])?;
    log.step(&format!("installing {name} from the npm registry"));
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    put_stamp(&folder.join("package.json"), &package)?;
    put_stamp(&folder.join("package-lock.json"), &lock)?;
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&folder);
    log.run(&mut npm).map_err(|e| unreachable(name, "the npm registry", &e))?;
    put_stamp(&stamp, &lock)?;
    Ok(folder)
}
