//! Configuration and policies come from strangers' files: any text gives a document or mistakes, never a crash.
#![no_main]

use daypass_base::hcl;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (document, mistakes) = hcl::parse(text);
    let lines = text.lines().count().max(1) + 1;
    for mistake in &mistakes {
        assert!(mistake.at.line as usize <= lines, "a mistake in line {} of {lines}", mistake.at.line);
        assert!(!mistake.to_string().is_empty());
    }
    for name in ["path", "listener", "storage", "a"] {
        for block in document.blocks(name) {
            let _ = block.get("address").map(|item| item.value.to_json());
        }
        for item in document.named(name) {
            let _ = (item.value.to_json(), item.value.as_text(), item.value.kind_name());
        }
    }
    let _ = document.duplicates();
});
