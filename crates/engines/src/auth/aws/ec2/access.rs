//! Whether an instance may log in again: what is remembered of it, and the decision. Pure.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use daypass_sdk::Timestamp;
use serde::{Deserialize, Serialize};

/// What is remembered of an instance that logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The role of its first login.
    pub(super) role: String,
    /// SHA-256 of its nonce; none where it may not log in again.
    pub(super) nonce_digest: Option<String>,
    pub(super) creation_time: Timestamp,
    pub(super) last_updated_time: Timestamp,
    /// From here on no token of its logins is alive.
    pub(super) expiration_time: Timestamp,
    /// When the instance had been started, by the document of its last login.
    pub(super) pending_time: Timestamp,
    pub(super) disallow_reauthentication: bool,
}

/// A login that proved everything else.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    /// As it was sent; an empty one asks that nobody may log in again.
    pub(super) nonce: Option<&'a str>,
    pub(super) pending: Timestamp,
    pub(super) allow_migration: bool,
    /// Role or tag let each instance log in once.
    pub(super) once: bool,
}

/// How a login goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Admitted {
    /// Digest of the nonce from now on.
    pub(super) nonce_digest: Option<String>,
    /// The nonce that was made, for the instance to keep.
    pub(super) echo: Option<String>,
    pub(super) disallow_reauthentication: bool,
}

/// Decides. `fresh` makes a nonce. Errors: Vault's texts.
pub(super) fn admit(stored: Option<&Entry>, attempt: Attempt<'_>, fresh: impl FnOnce() -> String) -> Result<Admitted, String> {
    let known = match stored {
        Some(entry) => is_known(entry, attempt)?,
        None => Known::No,
    };
    let once = attempt.once || attempt.nonce == Some("") || stored.is_some_and(|entry| entry.disallow_reauthentication);
    if once {
        return Ok(Admitted { nonce_digest: None, echo: None, disallow_reauthentication: true });
    }
    if attempt.nonce.is_some_and(|nonce| nonce.len() > NONCE_BYTES_MAX) {
        return Err(format!("client nonce exceeding the limit of {NONCE_BYTES_MAX} characters"));
    }
    let (nonce_digest, echo) = match (known, attempt.nonce) {
        (Known::ByNonce, _) => (stored.and_then(|entry| entry.nonce_digest.clone()), None),
        (Known::No, Some(nonce)) => (Some(digest_of(nonce)), None),
        (Known::No, None) => {
            let nonce = fresh();
            (Some(digest_of(&nonce)), Some(nonce))
        }
    };
    Ok(Admitted { nonce_digest, echo, disallow_reauthentication: false })
}

/// Whether the instance is the one that logged in before.
enum Known {
    ByNonce,
    /// It is new here, or was moved: then the nonce of this login counts from now on.
    No,
}

fn is_known(entry: &Entry, attempt: Attempt<'_>) -> Result<Known, String> {
    let refuse = |text: &str| Err(text.to_owned());
    if entry.disallow_reauthentication || attempt.nonce == Some("") {
        return refuse("reauthentication is disabled");
    }
    let Some(stored) = &entry.nonce_digest else { return refuse("client nonce missing in stored identity") };
    let given = digest_of(attempt.nonce.unwrap_or_default());
    let fits = verify_slices_are_equal(stored.as_bytes(), given.as_bytes()).is_ok();
    if !fits && !attempt.allow_migration {
        return refuse("client nonce mismatch");
    }
    if !fits && attempt.pending <= entry.pending_time {
        return refuse("client nonce mismatch and instance meta-data incorrect");
    }
    if attempt.pending < entry.pending_time {
        return refuse("instance meta-data is older than the one used for previous login");
    }
    Ok(if fits { Known::ByNonce } else { Known::No })
}

fn digest_of(nonce: &str) -> String {
    HEXLOWER.encode(digest(&SHA256, nonce.as_bytes()).as_ref())
}

const NONCE_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_seconds(second)
    }

    fn entry(nonce: &str) -> Entry {
        Entry {
            role: "ci".to_owned(),
            nonce_digest: Some(digest_of(nonce)),
            creation_time: at(1),
            last_updated_time: at(1),
            expiration_time: at(9),
            pending_time: at(5),
            disallow_reauthentication: false,
        }
    }

    fn attempt(nonce: Option<&str>, pending: i64) -> Attempt<'_> {
        Attempt { nonce, pending: at(pending), allow_migration: false, once: false }
    }

    fn decide(stored: Option<&Entry>, attempt: Attempt<'_>) -> Result<Admitted, String> {
        admit(stored, attempt, || "made".to_owned())
    }

    #[test]
    fn the_first_login_gets_a_nonce_and_later_ones_need_it() {
        let first = decide(None, attempt(None, 5)).unwrap();
        assert_eq!((first.echo.as_deref(), first.nonce_digest), (Some("made"), Some(digest_of("made"))));
        let again = decide(Some(&entry("made")), attempt(Some("made"), 5)).unwrap();
        assert_eq!((again.echo, again.nonce_digest), (None, Some(digest_of("made"))));
        for nonce in [None, Some("other"), Some("mad")] {
            assert_eq!(decide(Some(&entry("made")), attempt(nonce, 6)).unwrap_err(), "client nonce mismatch");
        }
        let own = decide(None, attempt(Some("own"), 5)).unwrap();
        assert_eq!((own.echo, own.nonce_digest), (None, Some(digest_of("own"))));
    }

    #[test]
    fn time_does_not_go_back() {
        let error = decide(Some(&entry("n")), attempt(Some("n"), 4)).unwrap_err();
        assert_eq!(error, "instance meta-data is older than the one used for previous login");
        assert!(decide(Some(&entry("n")), attempt(Some("n"), 6)).is_ok());
    }

    #[test]
    fn a_moved_instance_gets_a_new_nonce_where_the_role_says_so() {
        let moved = |pending| Attempt { allow_migration: true, ..attempt(None, pending) };
        assert_eq!(decide(Some(&entry("n")), moved(6)).unwrap().echo.as_deref(), Some("made"));
        for pending in [4, 5] {
            let error = decide(Some(&entry("n")), moved(pending)).unwrap_err();
            assert_eq!(error, "client nonce mismatch and instance meta-data incorrect");
        }
    }

    #[test]
    fn who_may_log_in_once_may_not_do_so_again_whatever_the_role_says_later() {
        let once = decide(None, Attempt { once: true, ..attempt(None, 5) }).unwrap();
        assert_eq!(once, Admitted { nonce_digest: None, echo: None, disallow_reauthentication: true });
        assert_eq!(decide(None, attempt(Some(""), 5)).unwrap(), once);
        let closed = Entry { nonce_digest: None, disallow_reauthentication: true, ..entry("n") };
        for nonce in [None, Some(""), Some("n")] {
            let again = Attempt { allow_migration: true, ..attempt(nonce, 9) };
            assert_eq!(decide(Some(&closed), again).unwrap_err(), "reauthentication is disabled");
        }
    }

    #[test]
    fn a_nonce_has_a_length() {
        let (most, more) = ("n".repeat(128), "n".repeat(129));
        assert!(decide(None, attempt(Some(&most), 5)).is_ok());
        assert_eq!(decide(None, attempt(Some(&more), 5)).unwrap_err(), "client nonce exceeding the limit of 128 characters");
    }
}
