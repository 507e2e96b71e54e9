//! Words that do not belong here, each with the reason and the better word.

use super::{Findings, Source};

/// What stands in a line, and what to do instead.
const LINES: [(&str, &str); 7] = [
    ("TODO", "an issue holds what is still to do, not a comment"),
    ("FIXME", "mend it, or assert the wrong behaviour in a test that says so"),
    ("XXX", "say in a sentence what is meant"),
    ("HACK", "say in a sentence why it must be so"),
    ("#[ignore", "a test that does not run proves nothing"),
    ("unimplemented!", "answer with an error of kind NotYet or the like"),
    ("whitelist", "say allowed list"),
];

/// Names of types that say nothing.
const TYPE_ENDINGS: [&str; 3] = ["Manager", "Helper", "Utils"];

/// Names of files that collect what belongs nowhere.
const FILES: [&str; 6] = ["util.rs", "utils.rs", "helper.rs", "helpers.rs", "common.rs", "misc.rs"];

pub(crate) fn check(sources: &[Source]) -> Findings {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|s| !s.path.ends_with("tidy/words.rs")) {
        if FILES.iter().any(|name| source.path.rsplit('/').next() == Some(name)) {
            findings.push(format!("{}: a file is named after what it holds", source.path));
        }
        for (number, line) in source.text.lines().enumerate() {
            findings.extend(judge(line).map(|why| format!("{}:{}: {why}", source.path, number + 1)));
        }
    }
    findings
}

fn judge(line: &str) -> Option<String> {
    // The word in the name of a path of Vault's is Vault's.
    let line = &line.replace("identity-whitelist", "");
    if let Some((word, why)) = LINES.iter().find(|(word, _)| line.contains(word)) {
        return Some(format!("`{word}`: {why}"));
    }
    let code = line.trim_start();
    if (code.starts_with("#[allow(") || code.starts_with("#![allow(")) && code.ends_with(")]") && !code.contains("reason") {
        return Some("`allow` without a reason: use #[expect(lint, reason = \"...\")]".to_owned());
    }
    // A getter, that is; `get_many(keys)` is a verb, and AWS names its actions as it likes.
    if let Some((name, _)) = code.split_once("fn get_").and_then(|(_, rest)| rest.split_once("(&self)")) {
        return Some(format!("`get_{name}`: the noun alone says it"));
    }
    let name = ["struct ", "enum ", "trait "].iter().find_map(|kind| code.split_once(kind)).map(|(_, rest)| rest)?;
    let name = name.split(|c: char| !c.is_alphanumeric()).next()?;
    TYPE_ENDINGS.iter().find(|ending| name.ends_with(**ending)).map(|ending| format!("`{name}`: {ending} says nothing about what it does"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_words_are_found_with_the_better_one() {
        assert!(judge("// TODO later").is_some());
        assert!(judge("pub struct LeaseManager {").is_some());
        assert!(judge("    pub fn get_lease(&self) {").is_some());
        assert!(judge("a whitelist").is_some() && judge("tidy/identity-whitelist").is_none());
        assert!(judge("#[allow(dead_code)]").is_some());
    }

    #[test]
    fn good_lines_pass() {
        assert!(judge("pub struct Manage {").is_none());
        assert!(judge("fn target(&self) {").is_none());
        assert!(judge("fn get_many(&self, keys: &[Key]) {").is_none());
        assert!(judge("#![allow(clippy::unwrap_used, reason = \"tests\")]").is_none());
    }
}
