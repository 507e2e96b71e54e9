//! Changelog fragments: one file per change that a user notices, so that two changes never meet in one file.

use super::Findings;
use crate::project::Project;

/// What a fragment may begin with.
const KINDS: [&str; 5] = ["added", "changed", "fixed", "removed", "security"];

pub(crate) fn check(project: &Project) -> Result<Findings, String> {
    let folder = project.root.join("changelog");
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(Vec::new()) };
    let mut findings = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| e.to_string())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == "README.md" || path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        findings.extend(judge(&name, &text).map(|why| format!("changelog/{name}: {why}")));
    }
    Ok(findings)
}

fn judge(name: &str, text: &str) -> Option<String> {
    let stem = name.strip_suffix(".md").unwrap_or_default();
    if stem.is_empty() || !stem.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        return Some("the name must be lower-case words joined by -, ending in .md".to_owned());
    }
    let (kind, sentence) = text.split_once(": ").unwrap_or_default();
    if !KINDS.contains(&kind) {
        return Some(format!("must begin with one of {} and a colon", KINDS.join(", ")));
    }
    sentence.trim().is_empty().then(|| "says nothing after the colon".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_has_a_kind_and_a_sentence() {
        assert_eq!(judge("kv-patch.md", "added: `kv patch` merges fields.\n"), None);
        assert!(judge("kv-patch.md", "new: something").is_some());
        assert!(judge("kv-patch.md", "fixed: ").is_some());
        assert!(judge("KV patch.txt", "fixed: it").is_some());
    }
}
