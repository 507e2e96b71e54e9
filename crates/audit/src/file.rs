//! Log files and standard output as [`Writer`]s.
//!
//! A file is opened for appending, made with mode 0600 if it is not there, and opened anew within a second when another file has taken
//! its place or it is gone, so that `logrotate` needs no signal; `SIGHUP` does it at once ([`crate::Broker::reopen`]). The directory is
//! never made: a missing one is most often a volume that is not mounted. A line that does not fit on the disk is cut off again.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::sink::{Fault, Space, Unwritten, Writer};

/// Permission bits of a log file that is made.
pub const MODE_DEFAULT: u32 = 0o600;

/// Which permission bits the file gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileMode {
    /// Those that it has; it must exist.
    Keep,
    /// These, even if it exists with others.
    Set(u32),
}

/// When a file is forced to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Before each batch of lines is acknowledged: survives a power failure, costs a disk write for each request that is alone.
    Batch,
    /// When the operating system likes, as Vault does: survives a crash of the server, not one of the machine.
    #[default]
    Never,
}

/// A log file.
#[derive(Debug)]
pub struct FileWriter {
    path: PathBuf,
    /// Kept are those that it has when it is opened first.
    mode: FileMode,
    durability: Durability,
    open: Option<Open>,
    /// Whether the file may end in a cut line, which the next line must not continue.
    torn: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode; `None` for what is no regular file, which is not watched.
    identity: Option<(u64, u64)>,
}

impl FileWriter {
    /// Opens `path`. The error is a reason for the operator.
    pub fn open(path: &Path, mode: FileMode, durability: Durability) -> Result<Self, String> {
        let mut writer = Self::unopened(path, mode, durability);
        writer.bits().map_err(|error| format!("unable to determine existing file mode: {error}"))?;
        match writer.reopen() {
            Ok(()) => Ok(writer),
            Err(error) => Err(format!("sanity check failed; unable to open {:?} for writing: {error}", path.display().to_string())),
        }
    }

    /// One that is opened by its first line, or by [`Writer::reopen`]: for a file that cannot be opened yet.
    pub fn unopened(path: &Path, mode: FileMode, durability: Durability) -> Self {
        Self { path: path.to_owned(), mode, durability, open: None, torn: false }
    }

    /// Its permission bits, from now on also where another file takes its place.
    fn bits(&mut self) -> std::io::Result<u32> {
        let bits = match self.mode {
            FileMode::Set(bits) => bits,
            FileMode::Keep => std::fs::metadata(&self.path)?.mode() & 0o7777,
        };
        self.mode = FileMode::Set(bits);
        Ok(bits)
    }

    /// Opens the file anew if another one is at the path by now, or none.
    fn follow(&mut self) {
        let Some(Open { file, identity: Some(identity) }) = &self.open else { return };
        let stale = match std::fs::metadata(&self.path) {
            Ok(found) => (found.dev(), found.ino()) != *identity,
            Err(error) if error.kind() == ErrorKind::NotFound => true,
            // The path cannot be looked at just now; what is open is still good.
            Err(_other) => false,
        };
        if !stale {
            return;
        }
        let deleted = file.metadata().is_ok_and(|found| found.nlink() == 0);
        if self.reopen().is_err() && deleted {
            // Nobody can read what is written there: better to fail, with the reason why the file cannot be made.
            self.open = None;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Unwritten> {
        let nothing = |source| Unwritten { written: 0, source, fault: Fault::Place };
        if self.open.is_none() {
            self.reopen().map_err(nothing)?;
        }
        let (torn, durability) = (self.torn, self.durability);
        let Some(Open { file, .. }) = &mut self.open else { return Err(nothing(ErrorKind::NotFound.into())) };
        if torn {
            file.write_all(b"\n").map_err(nothing)?;
            self.torn = false;
        }
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let source = match file.write(rest) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(count) => {
                    written += count;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(source) => source,
            };
            return Err(Unwritten { written, source, fault: Fault::Place });
        }
        match durability {
            // Unknown how much of it is on the disk: then none of it counts.
            Durability::Batch => file.sync_data().map_err(nothing),
            Durability::Never => Ok(()),
        }
    }

    /// Takes the last `length` bytes off the file: the beginning of a line that did not fit.
    fn cut(&mut self, length: usize) -> std::io::Result<()> {
        let Some(Open { file, identity: Some(_) }) = &self.open else { return Err(ErrorKind::Unsupported.into()) };
        let whole = file.metadata()?.len().checked_sub(length as u64).ok_or(ErrorKind::InvalidData)?;
        file.set_len(whole)
    }
}

impl Writer for FileWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Unwritten> {
        self.write(bytes).map_err(|mut unwritten| {
            let begun = bytes.get(..unwritten.written).unwrap_or_default();
            let whole = begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            let cut = begun.len() - whole;
            if cut > 0 {
                // What cannot be cut off, as in a pipe, is ended before the next line.
                self.torn = self.cut(cut).is_err();
                unwritten.written = whole;
            }
            unwritten
        })
    }

    fn tend(&mut self) -> Option<Space> {
        self.follow();
        let Open { file, identity: Some(_) } = self.open.as_ref()? else { return None };
        let found = rustix::fs::fstatvfs(file).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Some(Space { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
    }

    fn reopen(&mut self) -> std::io::Result<()> {
        let bits = self.bits()?;
        let file = OpenOptions::new().append(true).create(true).mode(bits).open(&self.path)?;
        let found = file.metadata()?;
        let identity = found.is_file().then(|| (found.dev(), found.ino()));
        // Devices and pipes keep their mode: /dev/null with 0600 breaks a machine.
        if identity.is_some() && found.mode() & 0o7777 != bits {
            file.set_permissions(Permissions::from_mode(bits))?;
        }
        self.torn = identity.is_some() && found.len() > 0 && !ends_a_line(&self.path, found.len());
        self.open = Some(Open { file, identity });
        Ok(())
    }
}

/// Whether the last byte is a line feed. True as well where that cannot be read, as in a file that is writable alone.
fn ends_a_line(path: &Path, length: u64) -> bool {
    let mut last = [b'\n'];
    let _unreadable = File::open(path).and_then(|file| file.read_exact_at(&mut last, length.saturating_sub(1)));
    last == [b'\n']
}

/// Standard output, for containers whose logs are collected.
#[derive(Debug, Default)]
pub struct StdoutWriter;

impl Writer for StdoutWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Unwritten> {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|source| Unwritten { written: 0, source, fault: Fault::Place })
    }

    fn reopen(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_new_file_is_private_and_lines_are_appended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        for line in [b"one\n", b"two\n"] {
            FileWriter::open(&path, FileMode::Set(MODE_DEFAULT), Durability::Batch).unwrap().append(line).unwrap();
        }
        assert_eq!((std::fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"one\ntwo\n"[..], 0o600));
    }

    #[test]
    fn an_existing_file_gets_the_mode_asked_for_or_keeps_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        assert!(
            FileWriter::open(&path, FileMode::Keep, Durability::Never).unwrap_err().starts_with("unable to determine existing file mode")
        );
        std::fs::write(&path, b"").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        FileWriter::open(&path, FileMode::Keep, Durability::Never).unwrap();
        assert_eq!(mode(&path), 0o644);
        FileWriter::open(&path, FileMode::Set(0o640), Durability::Never).unwrap();
        assert_eq!(mode(&path), 0o640);
    }

    #[test]
    fn a_device_keeps_its_mode() {
        let before = mode(Path::new("/dev/null"));
        FileWriter::open(Path::new("/dev/null"), FileMode::Set(0o600), Durability::Never).unwrap().append(b"x\n").unwrap();
        assert_eq!(mode(Path::new("/dev/null")), before);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = FileWriter::open(Path::new("/nowhere/at/all/audit.log"), FileMode::Set(0o600), Durability::Never).unwrap_err();
        assert!(error.contains("\"/nowhere/at/all/audit.log\"") && error.contains("No such file or directory"), "{error}");
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
        let mut writer = FileWriter::open(&path, FileMode::Set(0o600), Durability::Never).unwrap();
        writer.append(b"one\n").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        writer.tend().unwrap();
        writer.append(b"two\n").unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"").unwrap();
        writer.tend().unwrap();
        writer.append(b"three\n").unwrap();
        assert_eq!((std::fs::read(&moved).unwrap().as_slice(), std::fs::read(&path).unwrap().as_slice()), (&b"one\n"[..], &b"three\n"[..]));
    }

    #[test]
    fn a_deleted_file_whose_place_is_gone_takes_no_lines() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("logs");
        std::fs::create_dir(&inner).unwrap();
        let path = inner.join("audit.log");
        let mut writer = FileWriter::open(&path, FileMode::Set(0o600), Durability::Never).unwrap();
        std::fs::remove_dir_all(&inner).unwrap();
        assert_eq!(writer.tend(), None);
        assert_eq!(writer.append(b"lost\n").unwrap_err().source.kind(), ErrorKind::NotFound);
        std::fs::create_dir(&inner).unwrap();
        writer.append(b"found\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"found\n");
    }

    #[test]
    fn the_beginning_of_a_line_is_cut_off_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let mut writer = FileWriter::open(&path, FileMode::Set(0o600), Durability::Never).unwrap();
        writer.append(b"whole\nbegun").unwrap();
        writer.cut(5).unwrap();
        writer.append(b"next\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole\nnext\n");
        assert!(writer.cut(100).is_err(), "never more than there is");
        assert!(FileWriter::open(Path::new("/dev/null"), FileMode::Set(0o600), Durability::Never).unwrap().cut(1).is_err());
    }

    #[test]
    fn a_full_disk_is_told_and_a_cut_line_is_ended() {
        let mut full = FileWriter::open(Path::new("/dev/full"), FileMode::Set(0o600), Durability::Never).unwrap();
        let unwritten = full.append(b"x\n").unwrap_err();
        assert_eq!((unwritten.written, unwritten.source.kind()), (0, ErrorKind::StorageFull));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        std::fs::write(&path, b"{\"cut\":").unwrap();
        let mut writer = FileWriter::open(&path, FileMode::Set(0o600), Durability::Never).unwrap();
        writer.append(b"whole\n").unwrap();
        writer.append(b"next\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"cut\":\nwhole\nnext\n");
    }
}
