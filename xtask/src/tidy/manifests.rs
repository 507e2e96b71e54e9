//! Manifests: lints inherited, no unsafe code, every dependency named once in the root with its reason.

use super::Findings;
use crate::project::Project;
use serde_json::Value;

pub(crate) fn check(project: &Project) -> Result<Findings, String> {
    let root = project.read("Cargo.toml")?;
    let mut findings = reasons(&root);
    if !root.contains("unsafe_code = \"forbid\"") {
        findings.push("Cargo.toml: [workspace.lints.rust] must say unsafe_code = \"forbid\"".to_owned());
    }
    for package in project.metadata.get("packages").and_then(Value::as_array).into_iter().flatten() {
        let path = package.get("manifest_path").and_then(Value::as_str).unwrap_or_default();
        let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
        let path = path.strip_prefix(&*project.root.to_string_lossy()).unwrap_or(path).trim_start_matches('/');
        findings.extend(member(path, &text));
    }
    Ok(findings)
}

/// Each foreign dependency of the root manifest ends with a comment that says why it is there.
fn reasons(root: &str) -> Findings {
    section(root, "[workspace.dependencies]")
        .filter(|line| !line.is_empty() && !line.starts_with('#') && !line.contains("path = "))
        .filter(|line| line.rsplit_once(" # ").is_none_or(|(_, why)| why.trim().len() < 3))
        .map(|line| format!("Cargo.toml: no reason given for `{line}`: end the line with # and why we need it"))
        .collect()
}

fn member(path: &str, text: &str) -> Findings {
    let mut findings = Vec::new();
    if !section(text, "[lints]").any(|line| line == "workspace = true") {
        findings.push(format!("{path}: must inherit the lints: [lints] workspace = true"));
    }
    for table in ["[dependencies]", "[dev-dependencies]", "[build-dependencies]"] {
        for line in section(text, table).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            if !line.contains("workspace = true") {
                findings.push(format!("{path}: `{line}` must come from the root manifest: name.workspace = true"));
            }
        }
    }
    findings
}

/// The trimmed lines of one table.
fn section<'a>(text: &'a str, header: &str) -> impl Iterator<Item = &'a str> {
    let lines = text.lines().map(str::trim).skip_while(move |line| *line != header).skip(1);
    lines.take_while(|line| !line.starts_with('['))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let text = "[workspace.dependencies]\na = \"1\" # because\nb = \"1\"\nc = { path = \"c\" }\n[profile.dev]\nd = 1\n";
        assert_eq!(reasons(text), ["Cargo.toml: no reason given for `b = \"1\"`: end the line with # and why we need it"]);
    }

    #[test]
    fn a_member_must_inherit() {
        assert!(member("x", "[lints]\nworkspace = true\n[dependencies]\na.workspace = true\n").is_empty());
        assert_eq!(member("x", "[dependencies]\na = \"1\"\n").len(), 2);
    }
}
