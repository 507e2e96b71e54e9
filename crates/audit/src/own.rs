//! The files of the server itself, which no log may be written to: a line of JSON behind a key or in a store is the end of it.
//!
//! Files are compared by device and inode where they are there, which no link or second spelling gets past; where one is not there yet, by the path without links.
//! Nothing is opened to find out: closing any descriptor of a store takes `SQLite`'s locks along.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// The server's own files, each with what it is to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnFiles {
    files: Vec<OwnFile>,
    folders: Vec<OwnFolder>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFile {
    /// Where it is, or will be.
    pub path: PathBuf,
    /// What it is, as a message says it: `key file`.
    pub what: &'static str,
    /// What a line of another in it does.
    pub harm: Harm,
}

/// A folder that the server reads files from by their names: one that is new there is the server's own too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFolder {
    /// The folder, and what its files are.
    pub own: OwnFile,
    /// How the names of these files end, without the dot. Only what is directly in the folder counts.
    pub endings: &'static [&'static str],
}

/// What happens to a file of the server when something else is written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// The server cannot start any more, or loses what it stored.
    Fatal,
    /// Two things are mixed in one file, or one cuts off the other.
    Mixed,
}

impl OwnFiles {
    /// All of them.
    #[must_use]
    pub fn new(files: Vec<OwnFile>) -> Self {
        Self { files, folders: Vec::new() }
    }

    /// With folders beside them.
    #[must_use]
    pub fn with_folders(self, folders: Vec<OwnFolder>) -> Self {
        Self { folders, ..self }
    }

    /// The one that this path leads to; for a file that would be new in a folder, the folder.
    #[must_use]
    pub fn at(&self, path: &Path) -> Option<&OwnFile> {
        self.files.iter().find(|own| same(&own.path, path)).or_else(|| self.folder_of(path).map(|folder| &folder.own))
    }

    /// The folder that would read this path as one of its files.
    #[must_use]
    pub fn folder_of(&self, path: &Path) -> Option<&OwnFolder> {
        self.folders.iter().find(|folder| folder.reads(path))
    }

    /// The first two that are the same file, where one harms the other.
    #[must_use]
    pub fn clash(&self) -> Option<(&OwnFile, &OwnFile)> {
        let mut later = self.files.as_slice();
        while let Some((first, rest)) = later.split_first() {
            let other = rest.iter().find(|other| (first.harm, other.harm) != (Harm::Fatal, Harm::Fatal) && same(&first.path, &other.path));
            if let Some(other) = other {
                return Some((first, other));
            }
            later = rest;
        }
        None
    }
}

impl OwnFolder {
    /// By its own name, and by the one that a link leads to.
    fn reads(&self, path: &Path) -> bool {
        let folder = canonical(&absolute(&self.own.path));
        [absolute(path), without_links(path)].iter().any(|file| {
            let ending = file.extension().and_then(|ending| ending.to_str());
            ending.is_some_and(|ending| self.endings.contains(&ending)) && file.parent().map(canonical).as_ref() == Some(&folder)
        })
    }
}

/// Whether two paths lead to one file, which need not be there yet.
fn same(left: &Path, right: &Path) -> bool {
    match (identity(left), identity(right)) {
        // A device or a pipe takes what is written to it, and has nothing of its own to lose.
        (Ok(Some(left)), Ok(Some(right))) => left == right,
        (Ok(_), Ok(_)) => false,
        _ => without_links(left) == without_links(right),
    }
}

/// Device and inode; `None` for what is no regular file.
fn identity(path: &Path) -> io::Result<Option<(u64, u64)>> {
    std::fs::metadata(path).map(|found| found.is_file().then(|| (found.dev(), found.ino())))
}

/// Where a file would be made: links are followed as far as they lead to something, also one that leads to a file that is not there.
fn without_links(path: &Path) -> PathBuf {
    let mut path = absolute(path);
    for _ in 0..LINKS_MAX {
        let name = path.file_name().map(PathBuf::from).unwrap_or_default();
        let folder = path.parent().map(canonical);
        let whole = folder.map_or_else(|| path.clone(), |folder| folder.join(&name));
        match std::fs::read_link(&whole) {
            Ok(target) => path = absolute(&whole.parent().unwrap_or(Path::new("/")).join(target)),
            Err(_no_link) => return whole,
        }
    }
    path
}

fn canonical(folder: &Path) -> PathBuf {
    std::fs::canonicalize(folder).unwrap_or_else(|_not_there| folder.to_owned())
}

/// A path in its one spelling, without a look at the file system.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_no_working_directory| path.to_owned());
    whole.components().fold(PathBuf::new(), |mut clean, part| {
        if part == Component::ParentDir {
            clean.pop();
        } else {
            clean.push(part);
        }
        clean
    })
}

/// As many links in a row as the kernel follows.
const LINKS_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn own(path: PathBuf, what: &'static str, harm: Harm) -> OwnFile {
        OwnFile { path, what, harm }
    }

    /// Story: an audit device took the server's own key file for its log. Lines of JSON stood behind the key, and the server did not start any more.
    #[test]
    fn a_file_of_the_server_is_known_by_every_way_to_it() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        std::fs::write(at("key"), "k").unwrap();
        std::fs::hard_link(at("key"), at("second")).unwrap();
        symlink("key", at("link")).unwrap();
        symlink("db-wal", at("early")).unwrap();
        symlink(home.path(), at("folder")).unwrap();
        let files = OwnFiles::new(vec![own(at("key"), "key file", Harm::Fatal), own(at("db-wal"), "store", Harm::Fatal)]);
        for way in ["key", "second", "link", "./key", "x/../key", "folder/key"] {
            assert_eq!(files.at(&at(way)).map(|own| own.what), Some("key file"), "{way}");
        }
        for way in ["db-wal", "early", "folder/db-wal", "folder/early"] {
            assert_eq!(files.at(&at(way)).map(|own| own.what), Some("store"), "{way} of a file that is not there yet");
        }
        assert_eq!((files.at(&at("audit.log")), files.at(Path::new("/dev/null"))), (None, None));
    }

    /// Story: of a directory of configuration only the directory itself was the server's own. An audit device was enabled on a file in it, and the server
    /// did not start any more.
    #[test]
    fn a_file_is_the_servers_own_where_it_would_be_read_from_a_folder() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        std::fs::create_dir_all(at("conf/below")).unwrap();
        symlink("conf", at("link")).unwrap();
        symlink("conf/new.hcl", at("early")).unwrap();
        symlink("../log", at("conf/out.json")).unwrap();
        let folder = OwnFolder { own: own(at("conf"), "configuration", Harm::Fatal), endings: &["hcl", "json"] };
        let files = OwnFiles::default().with_folders(vec![folder]);
        for way in ["conf/new.hcl", "link/new.json", "early", "conf/out.json", "conf/below/../x.hcl"] {
            assert_eq!(files.at(&at(way)).map(|own| own.what), Some("configuration"), "{way}");
        }
        for way in ["conf/audit.log", "conf/below/x.hcl", "x.hcl", "log", "conf/hcl"] {
            assert_eq!(files.at(&at(way)), None, "{way}");
        }
    }

    #[test]
    fn a_file_may_hold_a_key_and_its_certificate_but_no_log() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let (key, certificate) = (own(at("pem"), "TLS key", Harm::Fatal), own(at("pem"), "certificate", Harm::Fatal));
        assert_eq!(OwnFiles::new(vec![key.clone(), certificate]).clash(), None);
        let files = OwnFiles::new(vec![key, own(at("pid"), "pid file", Harm::Mixed), own(at("./pem"), "log file", Harm::Mixed)]);
        assert_eq!(files.clash().map(|(left, right)| (left.what, right.what)), Some(("TLS key", "log file")));
        let device =
            OwnFiles::new(vec![own("/dev/null".into(), "pid file", Harm::Mixed), own("/dev/null".into(), "log file", Harm::Mixed)]);
        assert_eq!(device.clash(), None, "a device keeps nothing that could be harmed");
    }
}
