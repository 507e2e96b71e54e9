//! Paths are what a stranger writes: patterns match or do not, and a capture is always a part of the path.
#![no_main]

use daypass_sdk::Pattern;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static PATTERNS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    let texts = [
        "",
        "roles",
        "roles/?",
        "roles/{name}",
        "roles/{name@}",
        "{id:any}",
        "{path..}",
        "{path..?}",
        "auth/{path..}/tune",
        "auth/{path..}/tune/?",
        "{a..}/x/{b..}",
        "{mount..}/roles/{name}",
        "a/{b..?}/c/{d}",
    ];
    texts.into_iter().map(Pattern::new).collect()
});

fuzz_target!(|path: &str| {
    for pattern in PATTERNS.iter() {
        let Some(captures) = pattern.matches(path) else { continue };
        let names: Vec<_> = pattern.names().collect();
        for (name, value) in &captures {
            assert!(names.contains(name), "{name} is no capture of {}", pattern.text());
            assert!(path.contains(value.as_str()), "{} captured {value:?} from {path:?}", pattern.text());
        }
    }
});
