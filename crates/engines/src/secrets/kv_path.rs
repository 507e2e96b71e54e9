//! Paths of secrets, as both versions of KV take them.

use daypass_sdk::{Error, Result};

/// Refuses a path that cannot be stored. Errors: `BadRequest`.
pub(super) fn check(path: &str) -> Result<()> {
    if path.ends_with('/') {
        return Err(Error::bad_request("cannot write to a path ending in '/'"));
    }
    // Parent references never reach a file here, yet every Vault refuses them, and so must a server that takes over its data.
    if path.contains("..") {
        return Err(Error::bad_request("the path of a secret may not contain '..'"));
    }
    if path.len() > PATH_BYTES_MAX {
        let length = path.len();
        return Err(Error::bad_request(format!("the path of the secret is {length} bytes long; at most {PATH_BYTES_MAX} are allowed")));
    }
    Ok(())
}

/// The path of a list request with its slash at the end; empty for the root.
pub(super) fn folder(path: &str) -> String {
    if path.is_empty() || path.ends_with('/') { path.to_owned() } else { format!("{path}/") }
}

/// The longest path of a secret: bytes. The store's keys hold 4096 with the mount's own part in front.
const PATH_BYTES_MAX: usize = 3500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_cannot_be_stored_are_refused_with_the_limit() {
        for good in ["a", "a/b c", "é/✓", "a.b"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["a/", "../a", "a/..", "a..b"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check(&"x".repeat(3500)).is_ok());
        assert!(check(&"x".repeat(3501)).unwrap_err().message.contains("3501 bytes long; at most 3500"));
    }
}
