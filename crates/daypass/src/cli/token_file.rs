//! `~/.vault-token`: the token of the last login, readable by its owner alone. Shared with every other Vault client of this user.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;

use daypass_base::Secret;

/// Where the token lies.
#[derive(Debug, Clone)]
pub(crate) struct TokenFile(PathBuf);

impl TokenFile {
    /// The file in this home directory.
    pub(crate) fn in_home(home: &str) -> Self {
        Self(PathBuf::from(home).join(".vault-token"))
    }

    /// The token, if there is one.
    pub(crate) fn read(&self) -> io::Result<Option<Secret<String>>> {
        match fs::read_to_string(&self.0) {
            Ok(text) => {
                let text = Secret::new(text);
                // Still wrapped; the file may end in a newline that an editor added.
                let token = Secret::new(text.expose().trim().to_owned());
                Ok(Some(token).filter(|token| !token.is_empty()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts `token` in place of what was there, all of it or none.
    pub(crate) fn store(&self, token: &Secret<String>) -> io::Result<()> {
        let mut name = self.0.clone().into_os_string();
        name.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(name);
        let written = (|| {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            // To the file that is its place.
            file.write_all(token.expose().as_bytes())?;
            file.sync_all()?;
            // A link is followed, so that a token kept elsewhere stays there.
            fs::rename(&beside, fs::canonicalize(&self.0).unwrap_or_else(|_new_file| self.0.clone()))
        })();
        if written.is_err() {
            // What could not be written whole must not stay behind.
            let _gone = fs::remove_file(&beside);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_token_is_private_and_comes_back_trimmed() {
        let home = tempfile::tempdir().unwrap();
        let file = TokenFile::in_home(home.path().to_str().unwrap());
        assert!(file.read().unwrap().is_none());
        fs::write(&file.0, "old\n").unwrap();
        fs::set_permissions(&file.0, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(file.read().unwrap().unwrap().expose(), "old");
        file.store(&Secret::from("new")).unwrap();
        assert_eq!(file.read().unwrap().unwrap().expose(), "new");
        assert_eq!(fs::metadata(&file.0).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }
}
