//! Who may import whom. The order is the design: ARCHITECTURE.md draws it, this file enforces it.

use super::Findings;
use serde_json::Value;

/// Our crates and their floor. One may import what stands on a lower floor, never its neighbours: that keeps engines and
/// core apart, and the sandbox out of everything but the binary.
const FLOORS: [(&str, u8); 15] = [
    ("daypass-base", 0),
    ("daypass-audit", 1),
    ("daypass-barrier", 1),
    ("daypass-dial", 1),
    ("daypass-policy", 1),
    ("daypass-sandbox", 1),
    ("daypass-sdk", 1),
    ("daypass-storage", 1),
    ("daypass-aws", 2),
    ("daypass-idp", 2),
    ("daypass-otlp", 2),
    ("daypass-core", 3),
    ("daypass-engines", 3),
    ("daypass-server", 4),
    ("daypass", 5),
];

/// The fake AWS: whoever calls AWS tests against it.
const SANDBOX: &str = "daypass-sandbox";
/// For tests alone: may import all, and be imported as a dev-dependency only.
const TESTKIT: &str = "daypass-testkit";

pub(crate) fn check(metadata: &Value) -> Findings {
    let mut findings = Vec::new();
    for package in list(metadata, "packages") {
        let name = text(package, "name");
        let dependencies = list(package, "dependencies").filter(|d| !d.get("path").is_none_or(Value::is_null));
        for dependency in dependencies {
            let wanted = text(dependency, "name");
            let for_tests = text(dependency, "kind") == "dev";
            if let Some(why) = refuse(name, wanted, for_tests) {
                findings.push(format!("{name} may not import {wanted}: {why} (xtask/src/tidy/imports.rs)"));
            }
        }
        if floor(name).is_none() && name != TESTKIT && name != "xtask" {
            findings.push(format!("{name} has no floor: say in xtask/src/tidy/imports.rs who may import it"));
        }
    }
    findings
}

/// Why this import is wrong, if it is.
fn refuse(name: &str, wanted: &str, for_tests: bool) -> Option<&'static str> {
    if name == "xtask" {
        return Some("xtask must build when nothing else does");
    }
    if name == TESTKIT {
        return None;
    }
    if wanted == TESTKIT {
        return if for_tests { None } else { Some("the testkit is for tests: make it a dev-dependency") };
    }
    if wanted == SANDBOX && for_tests {
        return None;
    }
    match (floor(name), floor(wanted)) {
        (Some(own), Some(other)) if other < own => None,
        (Some(own), Some(other)) if other == own => Some("neighbours on one floor do not know each other"),
        (Some(_), Some(_)) => Some("imports go downwards only"),
        _ => Some("one of them has no floor"),
    }
}

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor)
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_go_downwards() {
        assert_eq!(refuse("daypass-core", "daypass-sdk", false), None);
        assert!(refuse("daypass-sdk", "daypass-core", false).is_some());
        assert!(refuse("daypass-base", "daypass", true).is_some());
    }

    #[test]
    fn engines_and_core_never_meet() {
        assert!(refuse("daypass-core", "daypass-engines", false).is_some());
        assert!(refuse("daypass-engines", "daypass-core", true).is_some());
    }

    #[test]
    fn the_sandbox_knows_base_alone() {
        assert_eq!(refuse("daypass-sandbox", "daypass-base", false), None);
        assert!(refuse("daypass-sandbox", "daypass-aws", false).is_some());
    }

    #[test]
    fn the_testkit_is_for_tests() {
        assert_eq!(refuse("daypass-base", TESTKIT, true), None);
        assert!(refuse("daypass-engines", TESTKIT, false).is_some());
    }
}
