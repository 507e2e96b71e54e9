//! Installing what the stages need, once, and saying so. Everything lands below `target/xtask`, except Debian packages.

pub(crate) mod debian;
pub(crate) mod go;
pub(crate) mod java;
pub(crate) mod node;
pub(crate) mod python;
pub(crate) mod rust;

use std::path::Path;

/// True when `stamp` says that exactly this was installed before.
fn is_stamped(stamp: &Path, content: &str) -> bool {
    std::fs::read_to_string(stamp).is_ok_and(|text| text == content)
}

/// Remembers what was installed, so that the next run needs no network.
fn put_stamp(stamp: &Path, content: &str) -> Result<(), String> {
    std::fs::write(stamp, content).map_err(|e| format!("{}: {e}", stamp.display()))
}

/// Adds to an installer's failure what a person can do about it.
fn unreachable(what: &str, from: &str, error: &str) -> String {
    let advice = if error.contains("No space left on device") {
        "The disk is full: make room below cargo's target directory and in /tmp, then try again."
    } else {
        "Is it reachable from here, or must a proxy or mirror be set for its client?"
    };
    format!("{what} could not be installed from {from}. {advice}\n{error}")
}
