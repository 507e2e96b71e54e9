//! A file that takes its place only once it is whole: until then it lies beside it, for its owner alone, under a name that nobody can guess.
//!
//! What takes its place is a file and nothing else. A device, a pipe or a directory is never replaced: the rename would destroy it, and whoever
//! reads from it would get nothing.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use daypass_base::{Entropy, SystemEntropy};
use daypass_storage::sqlite::sync_name;

/// A file on its way to its place; removed when it does not get there.
pub(crate) struct Staged {
    file: File,
    path: PathBuf,
    place: PathBuf,
}

impl Staged {
    /// Makes the file beside its place. A link is followed first, so that what is kept elsewhere stays there: on the same file system as its
    /// place, and the link stays a link. Errors: there is something that is no file, or no file can be made there.
    pub(crate) fn beside(target: &Path) -> io::Result<Self> {
        let place = place(target)?;
        let mut name = place.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?.to_owned();
        let entropy: &dyn Entropy = &SystemEntropy;
        name.push(format!(".{}.partial", entropy.base62(NAME_CHARACTERS)));
        let path = place.with_file_name(name);
        let file = private(&path, OpenOptions::new().write(true))?;
        let staged = Self { file, path, place };
        // Whatever the process takes away from new files.
        staged.file.set_permissions(Permissions::from_mode(PRIVATE))?;
        Ok(staged)
    }

    /// The file, to write to.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Puts it into its place, all of it or nothing. When this returns, a power cut takes neither the file nor its name.
    pub(crate) fn keep(self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, &self.place)?;
        sync_name(&self.place)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Not there any more once it is in its place.
        let _gone = fs::remove_file(&self.path);
    }
}

/// A file for nobody but its owner, under this name that nothing may have yet: neither a file nor a link to one of others.
pub(crate) fn private(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.create_new(true).mode(PRIVATE).open(path)
}

/// Where a write to this path ends up. Links are followed, also one to a file that is not there yet.
fn place(target: &Path) -> io::Result<PathBuf> {
    match fs::metadata(target) {
        Ok(found) if found.is_file() => return fs::canonicalize(target),
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something that is no regular file")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    let mut place = target.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(next) = fs::read_link(&place) else { return Ok(place) };
        place = place.parent().unwrap_or(Path::new("")).join(next);
    }
    Err(io::Error::other(format!("more than {LINKS_MAX} links lead from one to the next")))
}

/// Mode of a file for its owner alone.
const PRIVATE: u32 = 0o600;
/// Random characters of a name: 59 bits.
const NAME_CHARACTERS: usize = 10;
/// Most links that are followed, as the kernel does.
const LINKS_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    use super::*;

    fn kept(target: &Path, text: &str) -> io::Result<()> {
        let staged = Staged::beside(target)?;
        staged.file().write_all(text.as_bytes())?;
        staged.keep()
    }

    /// Story: a link was replaced by the file, or the file was renamed from the link's file system to another one, which no kernel does.
    #[test]
    fn a_link_stays_a_link_and_the_file_lies_where_it_leads() {
        let root = tempfile::tempdir().unwrap();
        let [home, other] = ["home", "other"].map(|name| root.path().join(name));
        for folder in [&home, &other] {
            fs::create_dir(folder).unwrap();
        }
        let link = home.join("link");
        symlink("../other/file", &link).unwrap();
        for text in ["new", "newer"] {
            kept(&link, text).unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read_to_string(other.join("file")).unwrap(), text);
        }
        let staged = Staged::beside(&link).unwrap();
        assert_eq!(staged.path.parent().unwrap().canonicalize().unwrap(), other.canonicalize().unwrap());
        drop(staged);
        assert_eq!((fs::read_dir(&home).unwrap().count(), fs::read_dir(&other).unwrap().count()), (1, 1));
    }

    #[test]
    fn what_is_no_file_is_never_replaced() {
        let root = tempfile::tempdir().unwrap();
        let socket = root.path().join("socket");
        let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        symlink("circle", root.path().join("circle")).unwrap();
        for name in ["socket", "circle", ".", ".."] {
            assert!(Staged::beside(&root.path().join(name)).is_err(), "{name}");
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_is_private_whatever_was_there() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        kept(&file, "new").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, PRIVATE);
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    }
}
