//! Public PGP keys from files, for those who will hold shares or a root token.

use std::io::Read;

use daypass_barrier::pgp::base64_of_file;

use super::super::Failure;

/// One key from a file, as base64 of its binary form. Errors: usage, with the name of the file.
pub(super) fn key(name: &str) -> Result<String, Failure> {
    if name.starts_with("keybase:") {
        return Err(Failure::usage(format!("{name}: keys are not fetched from Keybase; export the public key into a file and name that"))
            .hint("gpg --armor --export HOLDER > holder.asc"));
    }
    // As in Vault's command line, an @ before the name changes nothing.
    let path = name.strip_prefix('@').unwrap_or(name);
    let cannot = |error: &dyn std::fmt::Display| Failure::usage(format!("Error reading PGP key {path}: {error}"));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| cannot(&error))?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| cannot(&error))?;
    base64_of_file(&bytes).map_err(|error| cannot(&error))
}

/// Keys from the files of a list, in its order: one for each of so many shares.
pub(super) fn keys(names: &[String], flag: &str, shares: i64) -> Result<Vec<String>, Failure> {
    if i64::try_from(names.len()) != Ok(shares) {
        let count = names.len();
        return Err(Failure::usage(format!("{flag} names {count} keys for {shares} shares: give one key for each share, in their order")));
    }
    names.iter().map(|name| key(name)).collect()
}

/// More than any file that is taken; its true limit is told by whoever reads it.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named() {
        assert!(key("keybase:ada").unwrap_err().text().contains("not fetched from Keybase"));
        assert!(key("@/nothing/here.asc").unwrap_err().text().contains("Error reading PGP key /nothing/here.asc: "));
        let names = ["a".to_owned(), "b".to_owned()];
        assert!(keys(&names, "-pgp-keys", 3).unwrap_err().text().contains("-pgp-keys names 2 keys for 3 shares"));
    }
}
