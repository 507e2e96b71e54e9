//! Whether a path may hold a store: its directory, its permissions, its file system, and that no other process has it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::OpenError;

/// A file that belongs to this process until this value is dropped.
pub(super) struct Place {
    /// The file, without links in its path.
    pub(super) path: PathBuf,
    /// Its lock ends when the file closes, also when the process is killed.
    lock: File,
}

impl Place {
    /// Bytes that the file system has left for this process; `None` when it does not say.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        let state = rustix::fs::fstatvfs(&self.lock).ok()?;
        Some(state.f_bavail.saturating_mul(state.f_frsize))
    }
}

/// Makes the directory and the file if they are missing, and locks them.
pub(super) fn take(path: &Path) -> Result<Place, OpenError> {
    let io = |action| move |source| OpenError::Io { action, path: path.to_owned(), source };
    if path.is_dir() {
        return Err(io("open")(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory; give the path of a file in it")));
    }
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        make_directory(directory).map_err(io("make the directory of"))?;
    }
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(io("open"))?;
    // Any link is followed now, so that two names for one file share one lock.
    let path = fs::canonicalize(path).map_err(io("find"))?;
    let magic = rustix::fs::fstatfs(&file).map_err(|error| io("find the file system of")(error.into()))?.f_type;
    match filesystem(i128::from(magic)) {
        Filesystem::Local => {}
        Filesystem::Network(filesystem) => return Err(OpenError::NetworkFilesystem { path, filesystem }),
        Filesystem::Unclear(filesystem) => {
            tracing::warn!(path = %path.display(), filesystem, "the store lies on a file system that may be remote; make sure that it is a local disk");
        }
    }
    if fs::metadata(&path).is_ok_and(|metadata| metadata.mode() & 0o077 != 0) {
        tracing::warn!(path = %path.display(), "the store's file can be read by other users; set its mode to 0600");
    }
    let lock = lock(&path)?;
    Ok(Place { path, lock })
}

/// Missing directories are made for the owner alone, and recorded in their parents before anything is promised.
fn make_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    match directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Locks a side file: SQLite takes and drops its own locks on the store's file, and a lock there would go with them.
fn lock(path: &Path) -> Result<File, OpenError> {
    let mut side = path.as_os_str().to_owned();
    side.push(".lock");
    let side = PathBuf::from(side);
    let io = |action| {
        let side = side.clone();
        move |source| OpenError::Io { action, path: side, source }
    };
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&side).map_err(io("open"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: path.to_owned(), holder: holder(&mut file) }),
        Err(TryLockError::Error(source)) => return Err(io("lock")(source)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(io("write"))?;
    Ok(file)
}

/// Who holds the lock, as far as the side file tells.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(32).read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(process)) => format!(" (process {process})"),
        _ => String::new(),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Filesystem {
    Local,
    /// Known not to keep SQLite's promises.
    Network(&'static str),
    /// Local in one setting and remote in another: FUSE also carries container file systems, 9P also sandboxes.
    Unclear(&'static str),
}

/// The kind of file system by the magic number of statfs(2). The type of that number differs between platforms.
fn filesystem(magic: i128) -> Filesystem {
    match u32::try_from(magic & 0xffff_ffff).unwrap_or(0) {
        0x6969 => Filesystem::Network("NFS"),
        0x517b => Filesystem::Network("SMB"),
        0xff53_4d42 => Filesystem::Network("CIFS"),
        0xfe53_4d42 => Filesystem::Network("SMB2"),
        0x5346_414f | 0x6b41_4653 => Filesystem::Network("AFS"),
        0x7375_7245 => Filesystem::Network("Coda"),
        0x00c3_6400 => Filesystem::Network("Ceph"),
        0x0bd0_0bd0 => Filesystem::Network("Lustre"),
        0x6573_5546 => Filesystem::Unclear("FUSE"),
        0x0102_1997 => Filesystem::Unclear("9P"),
        _ => Filesystem::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_refused() {
        assert_eq!(filesystem(0x6969), Filesystem::Network("NFS"));
        // CIFS has its highest bit set: negative where the number is a signed 32-bit one.
        assert_eq!(filesystem(i128::from(0xff53_4d42_u32.cast_signed())), Filesystem::Network("CIFS"));
        assert_eq!(filesystem(0xef53), Filesystem::Local);
        let text = OpenError::NetworkFilesystem { path: "/efs/daypass.db".into(), filesystem: "NFS" }.to_string();
        assert!(text.contains("/efs/daypass.db") && text.contains("NFS") && text.contains("local disk"), "{text}");
    }

    #[test]
    fn directories_and_files_are_for_the_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/store.db");
        let place = take(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&root.path().join("a")), 0o700);
        assert_eq!(mode(&root.path().join("a/b")), 0o700);
        assert_eq!(mode(&place.path), 0o600);
        assert_eq!(mode(&root.path().join("a/b/store.db.lock")), 0o600);
    }

    #[test]
    fn a_second_name_of_the_same_file_meets_the_same_lock() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("store.db");
        let _place = take(&path).unwrap();
        let link = root.path().join("link.db");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let refused = take(&link).err().unwrap().to_string();
        assert!(refused.contains(&format!("(process {})", std::process::id())), "{refused}");
    }
}
