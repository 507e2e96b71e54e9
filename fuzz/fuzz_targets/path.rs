//! Paths are what a stranger writes: patterns match or do not, a capture is always a part of the path, and the pattern with its captures
//! written in is the path again.
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
        // Empty segments hold nothing and stand in no pattern, but a greedy capture takes them along: they count on neither side.
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        assert_eq!(written(pattern.text(), &captures), segments.join("/"), "{} with {captures:?}", pattern.text());
    }
});

/// The pattern with its captures written in, segment by segment; a capture of nothing leaves no segment.
fn written(text: &str, captures: &[(&str, String)]) -> String {
    let mut segments = Vec::new();
    for segment in text.trim_end_matches("/?").split('/') {
        match segment.strip_prefix('{') {
            None => segments.push(segment),
            Some(inner) => {
                let name = inner.trim_end_matches(['}', '@', '.', '?']).trim_end_matches(":any");
                let values = captures.iter().filter(|(known, _)| *known == name).flat_map(|(_, value)| value.split('/'));
                segments.extend(values);
            }
        }
    }
    segments.retain(|segment| !segment.is_empty());
    segments.join("/")
}
