//! Documents: every module says what it is for, and ARCHITECTURE.md knows every crate.

use super::{Findings, Source};
use crate::project::Project;

pub(crate) fn check(project: &Project, sources: &[Source]) -> Result<Findings, String> {
    let silent = sources.iter().filter(|s| !s.is_test() && !s.text.trim_start().starts_with("//!"));
    let mut findings: Findings =
        silent.map(|s| format!("{}: must open with //! and say what the module owns and must never do", s.path)).collect();
    let Ok(map) = project.read("ARCHITECTURE.md") else {
        findings.push("ARCHITECTURE.md is missing: it holds the map of the crates and their invariants".to_owned());
        return Ok(findings);
    };
    let folder = project.root.join("crates");
    for entry in std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        let name = entry.map_err(|e| e.to_string())?.file_name().to_string_lossy().into_owned();
        if !map.contains(&format!("crates/{name}")) && !map.contains(&format!("`{name}`")) {
            findings.push(format!("ARCHITECTURE.md does not name the crate `{name}`"));
        }
    }
    Ok(findings)
}
