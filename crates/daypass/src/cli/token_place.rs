//! Where the token of the last login is kept: `~/.vault-token`, or whatever the program keeps it in that `~/.vault` names.
//!
//! Vault's command line runs such a program with one word: `store` (the token on stdin), `get` (on stdout) or `erase`, which nothing here asks for.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use daypass_base::{Secret, hcl};
use zeroize::Zeroizing;

use super::token_file::TokenFile;

/// A place for a token.
#[derive(Debug, Clone)]
pub(crate) enum TokenPlace {
    /// The file that every Vault client of this user knows.
    File(TokenFile),
    /// A program of the user's.
    Program(PathBuf),
}

impl TokenPlace {
    /// What `~/.vault` in this home says, or the file where it says nothing. Errors: it cannot be read, or names no program by its whole path; a token is
    /// not to lie in the clear then, where nobody looks for it.
    pub(crate) fn of_home(home: &str) -> io::Result<Self> {
        let config = Path::new(home).join(".vault");
        let named = match std::fs::metadata(&config) {
            // Other programs keep directories of that name.
            Ok(found) if !found.is_file() => None,
            Ok(_) => helper_in(&std::fs::read_to_string(&config)?)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(named.map_or_else(|| Self::File(TokenFile::in_home(home)), Self::Program))
    }

    /// What to call it in an error.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(_) => "~/.vault-token".to_owned(),
            Self::Program(path) => format!("the token helper {} (~/.vault)", path.display()),
        }
    }

    /// The token, if there is one.
    pub(crate) fn read(&self) -> io::Result<Option<Secret<String>>> {
        match self {
            Self::File(file) => file.read(),
            Self::Program(path) => {
                let mut child = started(path, "get", Stdio::null(), Stdio::piped())?;
                let mut text = Zeroizing::new(String::new());
                if let Some(out) = child.stdout.take() {
                    out.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
                }
                ended(child, "get")?;
                Ok(Some(Secret::new(text.trim().to_owned())).filter(|token| !token.is_empty()))
            }
        }
    }

    /// Keeps `token` in place of what was kept.
    pub(crate) fn store(&self, token: &Secret<String>) -> io::Result<()> {
        match self {
            Self::File(file) => file.store(token),
            Self::Program(path) => {
                let mut child = started(path, "store", Stdio::piped(), Stdio::null())?;
                // To the program that is its place.
                let given = child.stdin.take().map_or(Ok(()), |mut to| to.write_all(token.expose().as_bytes()));
                // What it says of itself counts for more than that it did not listen.
                ended(child, "store").and(given)
            }
        }
    }
}

/// With the user's own stderr, so that it can say what it wants.
fn started(path: &Path, word: &str, stdin: Stdio, stdout: Stdio) -> io::Result<Child> {
    Command::new(path).arg(word).stdin(stdin).stdout(stdout).spawn()
}

fn ended(mut child: Child, word: &str) -> io::Result<()> {
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{word:?} ended with {status}"))) }
}

/// The program that a configuration of Vault's command line names. What else stands there is not for us.
fn helper_in(text: &str) -> io::Result<Option<PathBuf>> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let (document, errors) = hcl::parse(text);
    if let Some(error) = errors.first() {
        return Err(wrong(format!("~/.vault, line {}: {}", error.at.line, error.message)));
    }
    let Some(item) = document.named("token_helper").last() else { return Ok(None) };
    match item.value.as_str() {
        Some("") => Ok(None),
        Some(path) if Path::new(path).is_absolute() => Ok(Some(PathBuf::from(path))),
        _ => Err(wrong(format!(
            "~/.vault, line {}: token_helper must be the whole path of a program, as \"/usr/local/bin/helper\"",
            item.line()
        ))),
    }
}

/// More than any token has.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn home_with(config: &str) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(".vault"), config.replace("{home}", home.path().to_str().unwrap())).unwrap();
        home
    }

    fn of(home: &tempfile::TempDir) -> io::Result<TokenPlace> {
        TokenPlace::of_home(home.path().to_str().unwrap())
    }

    /// Story: `~/.vault` named a program that keeps tokens encrypted; a login passed it by and left the token in `~/.vault-token`, in the clear.
    #[test]
    fn a_program_that_is_named_keeps_the_token_and_no_file_does() {
        let home = home_with("token_helper = \"{home}/helper\"\n");
        let program = home.path().join("helper");
        let script = "#!/bin/sh\ncase $1 in\n  store) tr a-z A-Z > \"$(dirname \"$0\")/kept\";;\n  get) cat \"$(dirname \"$0\")/kept\" 2> /dev/null || true;;\nesac\n";
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let helper = of(&home).unwrap();
        assert!(helper.read().unwrap().is_none());
        helper.store(&Secret::from("hvs.abc")).unwrap();
        assert_eq!(helper.read().unwrap().unwrap().expose(), "HVS.ABC");
        assert!(!home.path().join(".vault-token").exists());

        std::fs::write(&program, "#!/bin/sh\ncat > /dev/null\nexit 3\n").unwrap();
        assert!(helper.store(&Secret::from("hvs.abc")).unwrap_err().to_string().contains("\"store\" ended with exit status: 3"));
        assert!(helper.read().is_err());
    }

    #[test]
    fn a_helper_that_cannot_be_meant_is_an_error_and_other_settings_are_not() {
        for (config, why) in
            [("token_helper = \"helper\"", "line 1: token_helper must be the whole path"), ("token_helper = [", "~/.vault, line")]
        {
            let error = of(&home_with(config)).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        for config in ["", "token_helper = \"\"", "other = 1"] {
            assert!(matches!(of(&home_with(config)).unwrap(), TokenPlace::File(_)), "{config}");
        }
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".vault")).unwrap();
        assert!(matches!(of(&home).unwrap(), TokenPlace::File(_)));
    }
}
