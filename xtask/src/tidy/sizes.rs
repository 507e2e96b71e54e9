//! Files and functions that a person can hold in the head. Exceptions stand in xtask/exceptions.txt, which may only shrink.

use super::{Findings, Source};
use crate::project::Project;
use std::collections::BTreeMap;

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

pub(crate) fn check(project: &Project, sources: &[Source]) -> Result<Findings, String> {
    let mut findings = Vec::new();
    let mut allowed = exceptions(&project.read("xtask/exceptions.txt")?, &mut findings);
    for source in sources {
        let lines = source.text.lines().count();
        judge(&source.path, "file", lines, FILE_LINES_MAX, &mut allowed, &mut findings);
        // A test may be as long as its story.
        if !source.is_test() {
            for (name, lines) in functions(&source.text) {
                judge(&format!("{}::{name}", source.path), "function", lines, FUNCTION_LINES_MAX, &mut allowed, &mut findings);
            }
        }
    }
    findings.extend(allowed.keys().map(|name| format!("xtask/exceptions.txt: `{name}` needs no exception any more: remove the line")));
    Ok(findings)
}

/// Finds what is over the limit and over its exception, and an exception that is larger than needed.
fn judge(name: &str, what: &str, lines: usize, most: usize, allowed: &mut BTreeMap<String, usize>, findings: &mut Findings) {
    if lines <= most {
        return;
    }
    match allowed.remove(name) {
        Some(exception) if lines < exception => {
            findings.push(format!("xtask/exceptions.txt: `{name}` has {lines} lines now: write {lines} instead of {exception}"));
        }
        Some(exception) if lines == exception => {}
        _ => findings.push(format!("{name}: this {what} has {lines} lines, over {most}: split it by noun")),
    }
}

/// Lines of `path lines` or `path::function lines`; `#` begins a comment.
fn exceptions(text: &str, findings: &mut Findings) -> BTreeMap<String, usize> {
    let mut allowed = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        match line.split_once(' ').map(|(name, lines)| (name, lines.trim().parse())) {
            Some((name, Ok(lines))) => drop(allowed.insert(name.to_owned(), lines)),
            _ => findings.push(format!("xtask/exceptions.txt: `{line}` is no exception: write `path lines` or `path::function lines`")),
        }
    }
    allowed
}

/// The functions of a file and their lengths, tests at its foot left out. It trusts rustfmt: a function ends at the first
/// closing brace that stands as far in as its `fn`.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().take_while(|l| !l.trim_start().starts_with("#[cfg(test)]")).collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        if line.trim_end().ends_with([';', '}']) {
            continue;
        }
        let at_indent =
            |l: &&str| !l.trim().is_empty() && l.len() - l.trim_start().len() == indent && l.trim_start().starts_with(['}', ')']);
        // A parenthesis that far out closes the parameters; with a semicolon behind, there is no body at all.
        for (length, line) in lines.iter().skip(start + 1).enumerate().filter(|(_, l)| at_indent(l)) {
            if line.trim_start().starts_with('}') {
                found.push((name.to_owned(), length + 2));
            }
            if line.trim_start().starts_with('}') || line.trim_end().ends_with(';') {
                break;
            }
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    loop {
        let (word, tail) = rest.split_once(' ')?;
        match word {
            "fn" => return tail.split(['(', '<']).next(),
            "pub" | "const" | "async" | "extern" => rest = tail,
            _ if word.starts_with("pub(") => rest = tail,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_to_their_own_brace() {
        let text = "impl A {\n    pub(crate) async fn a<T>(x: T) {\n        if x {\n        }\n    }\n}\nfn b() {\n}\n";
        assert_eq!(functions(text), [("a".to_owned(), 4), ("b".to_owned(), 2)]);
    }

    #[test]
    fn tests_at_the_foot_do_not_count() {
        assert!(functions("#[cfg(test)]\nmod tests {\n    fn a() {\n    }\n}\n").is_empty());
    }

    #[test]
    fn an_exception_must_be_exact() {
        let mut findings = Vec::new();
        let mut allowed = BTreeMap::from([("a".to_owned(), 900), ("b".to_owned(), 900)]);
        judge("a", "file", 850, 800, &mut allowed, &mut findings);
        judge("b", "file", 900, 800, &mut allowed, &mut findings);
        judge("c", "file", 801, 800, &mut allowed, &mut findings);
        assert_eq!(findings.len(), 2);
        assert!(allowed.is_empty());
    }
}
