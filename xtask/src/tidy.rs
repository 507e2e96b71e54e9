//! `cargo xtask tidy`: the rules of this project that no compiler checks. Each finding names the file, the rule and the way out.

mod changelog;
mod docs;
mod imports;
mod manifests;
mod sizes;
mod words;

use crate::project::Project;
use std::path::{Path, PathBuf};

/// Everything that is not as it should be. Empty is tidy.
pub(crate) type Findings = Vec<String>;

pub(crate) fn main() -> Result<(), String> {
    let project = Project::open()?;
    let findings = check(&project)?;
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy");
        Ok(())
    } else {
        Err(format!("{} findings", findings.len()))
    }
}

/// All rules, in the order in which a reader would want to hear of them.
pub(crate) fn check(project: &Project) -> Result<Findings, String> {
    let sources = sources(project)?;
    let mut findings = imports::check(&project.metadata);
    findings.extend(manifests::check(project)?);
    findings.extend(docs::check(project, &sources)?);
    findings.extend(sizes::check(project, &sources)?);
    findings.extend(words::check(&sources));
    findings.extend(changelog::check(project)?);
    Ok(findings)
}

/// One Rust file of ours, its path relative to the root.
pub(crate) struct Source {
    path: String,
    text: String,
}

impl Source {
    /// True for a file that holds nothing but tests.
    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
            || self.path.contains("/testkit/")
            || self.path.contains("/benches/")
    }
}

fn sources(project: &Project) -> Result<Vec<Source>, String> {
    let mut files = Vec::new();
    for folder in ["crates", "xtask", "fuzz", "bench", "tests"] {
        walk(&project.root.join(folder), &mut files)?;
    }
    files.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let path = path.strip_prefix(&project.root).unwrap_or(path).to_string_lossy().into_owned();
        Ok(Source { path, text })
    };
    files.iter().map(read).collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(|e| format!("{}: {e}", folder.display()))?.path();
        if path.is_dir() {
            if !path.ends_with("target") && !path.ends_with("node_modules") {
                walk(&path, files)?;
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
