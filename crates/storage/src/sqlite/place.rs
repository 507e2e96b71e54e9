//! Whether a path may hold a store: its directory, its permissions, its file system, and that no other process has it.
//!
//! **Two locks.** The one on a side file is named after the path, like SQLite's own files beside the store, and says who holds it. A second name of the file
//! (a hard link, a mount of the file alone) has other files beside it, so the store's file itself is locked too, by flock(2). SQLite's locks on that file
//! are of another kind, fcntl(2), and the two do not see each other on a local file system of Linux. But *any* descriptor of a file that a process closes takes
//! all its fcntl locks on that file with it: so the descriptor that holds the lock is opened before SQLite opens the file, and closed when SQLite has closed it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, StatxFlags, Uid};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, Pid};

use super::snapshot::{self, beside};
use super::{LOCK, OpenError};

/// A file that belongs to this process until this value is dropped, which must be after SQLite has closed it. The locks end with the process.
pub(super) struct Place {
    /// The file, without links in its path.
    pub(super) path: PathBuf,
    /// The file itself, locked.
    file: File,
    /// The side file, locked.
    side: File,
}

impl Place {
    /// Bytes that the file system has left for this process; `None` when it does not say.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        let state = rustix::fs::fstatvfs(&self.side).ok()?;
        Some(state.f_bavail.saturating_mul(state.f_frsize))
    }

    /// Another process that has the file open through SQLite, which locks it for reading as long as that lasts: ` (process 123, sqlite3)`, or what else is known.
    pub(super) fn other_user(&self) -> String {
        let shared = Flock { start: SHARED_FIRST, length: SHARED_BYTES, ..Flock::from(FlockType::WriteLock) };
        let found = rustix::process::fcntl_getlk(&self.file, &shared).ok().flatten();
        let Some(process) = found.and_then(|lock| lock.pid).map(Pid::as_raw_nonzero) else { return String::new() };
        let name = fs::read_to_string(format!("/proc/{process}/comm")).map(|name| format!(", {}", name.trim_end())).unwrap_or_default();
        format!(" (process {process}{name})")
    }

    /// Puts another file in this one's place, while SQLite has neither open. It is locked before it has the name.
    pub(super) fn replace_by(&mut self, staged: &Path) -> io::Result<()> {
        let file = File::open(staged)?;
        file.try_lock()?;
        let renamed = snapshot::rename(staged, &self.path);
        if !staged.exists() {
            self.file = file;
        }
        renamed
    }
}

/// Bytes that the file system of a path has left, of its directory where there is no such file; `None` when it does not say.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let state = path.ancestors().map(or_here).find_map(|path| rustix::fs::statvfs(path).ok())?;
    Some(state.f_bavail.saturating_mul(state.f_frsize))
}

/// Makes the directory and the file if they are missing, and locks them.
pub(super) fn take(path: &Path) -> Result<Place, OpenError> {
    let io = |action| move |source| OpenError::Io { action, path: path.to_owned(), source };
    if path.is_dir() {
        return Err(io("open")(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory; give the path of a file in it")));
    }
    make(path)?;
    // Any link is followed now, so that two names for one file share one lock.
    let path = fs::canonicalize(path).map_err(io("find"))?;
    let magic = rustix::fs::statfs(&path).map_err(|error| io("find the file system of")(error.into()))?.f_type;
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
    let side = lock_side(&path)?;
    let file = lock_itself(&path)?;
    Ok(Place { path, file, side })
}

/// Makes the file and its directories where they are missing, for the owner alone, and records each in its directory before anything is promised.
/// A file that is there is not opened: see the head of this module. What root makes below a directory of somebody else is that one's, as the server would
/// have made it: root restores a store for a server that does not run as root.
fn make(path: &Path) -> Result<(), OpenError> {
    if path.exists() {
        return Ok(());
    }
    let io = |action| move |source| OpenError::Io { action, path: path.to_owned(), source };
    let directories = with_new_entries(path);
    if let Some(own) = directories.first() {
        DirBuilder::new().recursive(true).mode(0o700).create(own).map_err(io("make the directory of"))?;
    }
    let (file, origin) = create(OpenOptions::new().append(true).mode(0o600), path).map_err(io("open"))?;
    if let Some(existing) = directories.last()
        && let Some(owner) = heir(existing).map_err(io("look at the directory of"))?
    {
        let made = directories.iter().rev().skip(1).map(|directory| directory.file_name());
        give_directories(existing, made, owner).map_err(io("give away the directory of"))?;
        if origin == Origin::Made {
            give(&file, owner).map_err(io("give away"))?;
        }
    }
    directories.into_iter().try_for_each(sync).map_err(io("record the directory of"))
}

/// Whether an open file was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Made,
    There,
}

/// Opens a file, and makes it where it is not there. What a link leads to counts as there, whoever made the link.
fn create(options: &mut OpenOptions, path: &Path) -> io::Result<(File, Origin)> {
    match options.create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            options.create_new(false).create(true).open(path).map(|file| (file, Origin::There))
        }
        made => made.map(|file| (file, Origin::Made)),
    }
}

/// User and group.
type Owner = (u32, u32);

/// Whose something becomes that this process makes below or beside a path, where that is not its maker.
fn heir(path: &Path) -> io::Result<Option<Owner>> {
    let found = fs::metadata(path)?;
    Ok(heir_of(rustix::process::geteuid().as_raw(), (found.uid(), found.gid())))
}

/// What root makes belongs to whoever has what is there. Everybody else keeps what he makes: he could not give it away.
fn heir_of(maker: u32, there: Owner) -> Option<Owner> {
    (maker == ROOT && there.0 != ROOT).then_some(there)
}

const ROOT: u32 = 0;

/// Gives away directories, each below the one before it and the first below `existing`. By descriptors that follow no link: whoever has a directory can put
/// another thing in the place of what is in it, and root would give that away.
fn give_directories<'p>(existing: &Path, names: impl Iterator<Item = Option<&'p std::ffi::OsStr>>, owner: Owner) -> io::Result<()> {
    let mut directory: std::os::fd::OwnedFd = File::open(existing)?.into();
    for name in names {
        // A name such as `..`.
        let Some(name) = name else { return Ok(()) };
        directory = rustix::fs::openat(&directory, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        give(&directory, owner)?;
    }
    Ok(())
}

/// Where there is no right to it, or no such user in this namespace, it stays its maker's.
fn give(made: impl std::os::fd::AsFd, (user, group): Owner) -> io::Result<()> {
    match rustix::fs::fchown(made, Some(Uid::from_raw(user)), Some(Gid::from_raw(group))) {
        Err(rustix::io::Errno::PERM | rustix::io::Errno::INVAL) => Ok(()),
        given => Ok(given?),
    }
}

/// The directories that have a new entry once a file is made: its own and those above it, up to the first that is there already.
fn with_new_entries(path: &Path) -> Vec<&Path> {
    let mut directories = Vec::new();
    for directory in path.ancestors().skip(1).map(or_here) {
        directories.push(directory);
        if directory.is_dir() {
            break;
        }
    }
    directories
}

/// The directory that an empty path means.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Makes the name of a file last, as `fsync` of the file itself makes its bytes last: the directory that has the name is synced.
pub fn sync_name(file: &Path) -> io::Result<()> {
    sync(file.parent().map_or(Path::new("."), or_here))
}

/// Gives a file that was just made the owner and group of `model`, which it takes the place of or stands beside: what root makes for a server of another user
/// would lock that one out. Without the right to it the file stays its maker's. Errors: of the file system.
pub fn give_to_owner_of(model: &Path, made: &Path) -> io::Result<()> {
    let wanted = fs::metadata(model)?;
    if fs::metadata(made)?.uid() == wanted.uid() {
        return Ok(());
    }
    match std::os::unix::fs::chown(made, Some(wanted.uid()), Some(wanted.gid())) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        given => given,
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all().or_else(|error| if has_nothing_to_sync(&error) { Ok(()) } else { Err(error) })
}

/// What file systems answer where a directory cannot be synced: the kernel `EINVAL`, some in user space and of a network `EBADF` or `ENOTSUP`. The directory
/// is open, so that `EBADF` says nothing else.
fn has_nothing_to_sync(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(Errno::BADF.raw_os_error())
}

/// Locks the side file. A new one is the store's owner's: a server of another user could not open root's.
fn lock_side(path: &Path) -> Result<File, OpenError> {
    let side = beside(path, LOCK);
    let io = |action| {
        let side = side.clone();
        move |source| OpenError::Io { action, path: side, source }
    };
    let mut options = OpenOptions::new();
    let (mut file, origin) = create(options.read(true).write(true).truncate(false).mode(0o600), &side).map_err(io("open"))?;
    if origin == Origin::Made
        && let Some(owner) = heir(path).map_err(io("look at the file beside"))?
    {
        give(&file, owner).map_err(io("give away"))?;
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: path.to_owned(), holder: holder(&mut file) }),
        Err(TryLockError::Error(source)) => return Err(io("lock")(source)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(io("write"))?;
    Ok(file)
}

/// Locks the file itself, once it is clear that there is one way to it. That is looked at before it is opened: where this very process has it open
/// by another name, closing it again would take SQLite's locks with it.
fn lock_itself(path: &Path) -> Result<File, OpenError> {
    let io = |action| move |source| OpenError::Io { action, path: path.to_owned(), source };
    let found = fs::metadata(path).map_err(io("look at"))?;
    if found.nlink() > 1 {
        return Err(OpenError::Linked { path: path.to_owned(), names: found.nlink() });
    }
    let directory = path.parent().map_or(path, or_here);
    let around = fs::metadata(directory).map_err(io("look at the directory of"))?;
    let (own, of_directory) = (Mount::of(path, &found), Mount::of(directory, &around));
    if own.is_apart_from(&of_directory) {
        return Err(OpenError::MountedAlone { path: path.to_owned(), directory: directory.to_owned() });
    }
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(io("open"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(OpenError::InUse { path: path.to_owned(), holder: ", which knows the file by another name".to_owned() })
        }
        Err(TryLockError::Error(source)) => Err(io("lock")(source)),
    }
}

/// Where a file or a directory is mounted, as far as the kernel tells.
#[derive(Debug, Clone, Copy)]
struct Mount {
    /// Tells two mounts of one file system apart; known since Linux 5.8.
    id: Option<u64>,
    device: u64,
    overlay: bool,
}

impl Mount {
    fn of(path: &Path, found: &fs::Metadata) -> Self {
        let id = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok();
        let id = id.filter(|found| StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID)).map(|found| found.stx_mnt_id);
        let overlay = rustix::fs::statfs(path).is_ok_and(|state| i128::from(state.f_type) & 0xffff_ffff == OVERLAY);
        Self { id, device: found.dev(), overlay }
    }

    /// Whether a file lies elsewhere than its directory.
    fn is_apart_from(&self, directory: &Self) -> bool {
        match (self.id, directory.id) {
            (Some(own), Some(of_directory)) => own != of_directory,
            // The layers of an overlay are of several devices, and files keep theirs.
            _ => self.device != directory.device && !self.overlay,
        }
    }
}

/// `OVERLAYFS_SUPER_MAGIC`.
const OVERLAY: i128 = 0x794c_7630;

/// Who holds the lock, as far as the side file tells.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(32).read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(process)) => format!(" (process {process})"),
        _ => String::new(),
    }
}

/// The bytes of a store's file that SQLite locks while it has it open: "Locking" in its os.h.
const SHARED_FIRST: u64 = 0x4000_0002;
const SHARED_BYTES: u64 = 510;

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

    /// Story: below a file system in user space that answers `EBADF` the store took that for a broken disk, and no writes.
    #[test]
    fn a_directory_that_cannot_be_synced_is_told_from_a_broken_disk() {
        for (errno, nothing) in [
            (Errno::INVAL, true),
            (Errno::BADF, true),
            (Errno::NOTSUP, true),
            (Errno::IO, false),
            (Errno::NOSPC, false),
            (Errno::DQUOT, false),
        ] {
            assert_eq!(has_nothing_to_sync(&io::Error::from(errno)), nothing, "{errno}");
        }
    }

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
    fn the_name_of_a_file_is_synced_in_its_directory_which_may_be_this_one() {
        let root = tempfile::tempdir().unwrap();
        sync_name(&root.path().join("file")).unwrap();
        sync_name(Path::new("file")).unwrap();
        assert_eq!(sync_name(&root.path().join("none/file")).unwrap_err().kind(), io::ErrorKind::NotFound);
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

    /// Story: the lock was on a file named after the path. A hard link of the store had another lock, another WAL and another index of the WAL, and two
    /// servers on one file wrote over each other until nothing was left.
    #[test]
    fn a_hard_link_is_refused_and_the_first_process_keeps_its_store() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("store.db");
        let place = take(&path).unwrap();
        fs::create_dir(root.path().join("other")).unwrap();
        let link = root.path().join("other/link.db");
        fs::hard_link(&path, &link).unwrap();
        let refused = take(&link).err().unwrap();
        assert!(matches!(refused, OpenError::Linked { names: 2, .. }), "{refused}");
        let text = refused.to_string();
        assert!(text.contains("2 names") && text.contains("-samefile") && text.contains("link.db"), "{text}");
        // Also where it is not open: the last commits may lie beside the other name.
        drop(place);
        assert!(matches!(take(&path), Err(OpenError::Linked { .. })));
        fs::remove_file(&link).unwrap();
        assert!(take(&path).is_ok());
    }

    /// What a second mount of the file meets, where the kernel does not tell mounts apart: the file itself is locked.
    #[test]
    fn the_file_itself_is_locked_whatever_its_name() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("store.db");
        let place = take(&path).unwrap();
        let refused = lock_itself(&path).err().unwrap().to_string();
        assert!(refused.contains("in use by another process, which knows the file by another name: stop"), "{refused}");
        drop(place);
        assert!(lock_itself(&path).is_ok());
    }

    #[test]
    fn a_file_that_is_mounted_by_itself_is_told_by_its_mount_or_else_by_its_device() {
        let mount = |id, device, overlay| Mount { id, device, overlay };
        let directory = mount(Some(1), 7, false);
        assert!(mount(Some(2), 7, false).is_apart_from(&directory), "a bind mount of the same file system");
        assert!(!mount(Some(1), 8, true).is_apart_from(&directory), "another layer of an overlay");
        assert!(mount(None, 8, false).is_apart_from(&mount(None, 7, true)));
        assert!(!mount(None, 7, false).is_apart_from(&mount(None, 7, false)));
        assert!(!mount(None, 8, true).is_apart_from(&mount(None, 7, true)));
        let text = OpenError::MountedAlone { path: "/data/daypass.db".into(), directory: "/data".into() }.to_string();
        assert!(text.contains("mount the directory that the file comes from at /data instead"), "{text}");
        // An ordinary file is where its directory is.
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("f");
        fs::write(&file, "").unwrap();
        let of = |path: &Path| Mount::of(path, &fs::metadata(path).unwrap());
        assert!(!of(&file).is_apart_from(&of(root.path())));
    }

    /// Story: with `/var/lib/x/y/daypass.db` and both directories new, the entry of `y` in `x` was synced and the one of `x` was not, so a power cut took the
    /// whole store; with a path relative to the working directory nothing was synced.
    #[test]
    fn every_directory_that_gets_a_new_entry_is_recorded() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir(at("x")).unwrap();
        assert_eq!(with_new_entries(&at("x/y/z/d.db")), [at("x/y/z"), at("x/y"), at("x")]);
        assert_eq!(with_new_entries(&at("x/d.db")), [at("x")]);
        assert_eq!(with_new_entries(Path::new("no-such-directory/d.db")), [Path::new("no-such-directory"), Path::new(".")]);
        assert_eq!(with_new_entries(Path::new("d.db")), [Path::new(".")]);
        make(&at("x/y/z/d.db")).unwrap();
        assert!(at("x/y/z/d.db").is_file());
    }

    #[test]
    fn a_file_that_takes_the_stores_place_is_locked_before_it_has_the_name() {
        let root = tempfile::tempdir().unwrap();
        let (path, staged) = (root.path().join("store.db"), root.path().join("store.db.restore"));
        let mut place = take(&path).unwrap();
        fs::write(&staged, "new").unwrap();
        let held = File::open(&staged).unwrap();
        held.lock().unwrap();
        place.replace_by(&staged).unwrap_err();
        assert!(lock_itself(&path).is_err(), "the old file is there and locked as before");
        drop(held);
        place.replace_by(&staged).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert!(matches!(lock_itself(&path), Err(OpenError::InUse { .. })));
    }

    /// Story: root exchanged a key file, and restored a store, for a server of another user, which then could not open either.
    #[test]
    fn what_root_makes_belongs_to_whose_file_it_is_made_for() {
        let root = tempfile::tempdir().unwrap();
        let (model, made) = (root.path().join("model"), root.path().join("made"));
        fs::write(&model, "").unwrap();
        fs::write(&made, "").unwrap();
        let given = std::os::unix::fs::chown(&model, Some(65_534), Some(65_534));
        give_to_owner_of(&model, &made).unwrap();
        let owner = |path: &Path| fs::metadata(path).unwrap().uid();
        // Who is not root cannot give the model away, and has nothing to give.
        assert_eq!(owner(&made) == 65_534, given.is_ok());
        assert_eq!(give_to_owner_of(&root.path().join("none"), &made).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// Story: for a rollback the store is moved away and root restores a snapshot in its place. Store and lock were root's, and the server could open neither.
    #[test]
    fn what_root_makes_in_somebodys_directory_is_his() {
        let (root, server) = ((0, 0), (998, 997));
        assert_eq!(heir_of(0, server), Some(server));
        assert_eq!((heir_of(0, root), heir_of(998, server), heir_of(998, root), heir_of(5, server)), (None, None, None, None));

        let home = tempfile::tempdir().unwrap();
        let var = home.path().join("var");
        fs::create_dir(&var).unwrap();
        let given = std::os::unix::fs::chown(&var, Some(65_534), Some(65_533)).is_ok();
        let path = var.join("new/daypass/store.db");
        let place = take(&path).unwrap();
        drop(take(&home.path().join("own.db")).unwrap());
        let owner = |path: &Path| fs::metadata(path).map(|found| (found.uid(), found.gid())).unwrap();
        let ours = owner(home.path());
        // Who is not root gives nothing away, and makes what is his.
        let heir = if given { (65_534, 65_533) } else { ours };
        for made in ["new", "new/daypass", "new/daypass/store.db", "new/daypass/store.db.lock"] {
            assert_eq!(owner(&var.join(made)), heir, "{made}");
        }
        drop(place);
        assert_eq!((owner(&home.path().join("own.db")), owner(&home.path().join("own.db.lock"))), (ours, ours));
        // What was there is not given away: neither what a link leads to, nor a directory that a link has taken the place of.
        let other = home.path().join("other");
        fs::create_dir(&other).unwrap();
        std::os::unix::fs::symlink(&other, var.join("link")).unwrap();
        assert!(give_directories(&var, std::iter::once(Some("link".as_ref())), heir).is_err());
        std::os::unix::fs::symlink(other.join("store.db"), var.join("link.db")).unwrap();
        drop(take(&var.join("link.db")).unwrap());
        assert_eq!((owner(&other), owner(&other.join("store.db"))), (ours, ours));
    }
}
