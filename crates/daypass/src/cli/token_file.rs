//! `~/.vault-token`: the token of the last login, readable by its owner alone. Shared with every other Vault client of this user.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use daypass_base::Secret;

use crate::staged::Staged;

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
        let staged = Staged::beside(&self.0)?;
        // To the file that is its place.
        staged.file().write_all(token.expose().as_bytes())?;
        staged.keep()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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
